"""tritonclient.http's asynchronous calls over gevent, many at once, and new clients again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.http as http
from checks import HEADERS, URL, run, same

ROWS = np.array([[1.0, 2.0], [0.1, 0.2]], np.float32)


def rows() -> list[http.InferInput]:
    made = http.InferInput("input", list(ROWS.shape), "FP32")
    made.set_data_from_numpy(ROWS)
    return [made]


def many_at_once(client: Any) -> None:
    asked = [client.async_infer("simple", rows(), headers=dict(HEADERS)) for _ in range(100)]
    for each in asked:
        same(each.get_result().as_numpy("value").tolist(), [b"big", b"small"])


def a_new_client_for_each_call(_: Any) -> None:
    for _ in range(100):
        with http.InferenceServerClient(URL) as own:
            same(
                own.infer("simple", rows(), headers=dict(HEADERS)).as_numpy("value").tolist(), [b"big", b"small"]
            )


if __name__ == "__main__":
    with http.InferenceServerClient(URL, concurrency=8) as connected:
        run(connected, many_at_once, a_new_client_for_each_call)
