"""Ask so many times that a leak would show, with binary tensors of some rows."""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.http as http
from checks import HEADERS, URL, same

if __name__ == "__main__":
    data = http.InferInput("input", [4, 2], "FP32")
    data.set_data_from_numpy(np.ones((4, 2), np.float32))
    with http.InferenceServerClient(URL) as client:
        for _ in range(int(sys.argv[3])):
            same(client.infer("simple", [data], headers=dict(HEADERS)).as_numpy("value").tolist(), [b"big"] * 4)
    print("asked")
