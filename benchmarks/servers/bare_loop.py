"""The ceiling of the binary load: ONNX Runtime alone, in a loop, on an array that is already there.

python bare_loop.py MODELS ROWS SECONDS      prints {"answers", "seconds", "cpu_us"}; an answer is one call
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import work


def main() -> None:
    models, rows, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    record = json.loads((models / "record.json").read_bytes())
    batch = np.tile(np.array(list(record.values()), dtype=np.float32), (rows, 1))
    risk, calls = work.Risk(models), 0
    for _ in range(200):
        risk.probabilities(batch)
    start, cpu = time.perf_counter(), time.process_time()
    while (took := time.perf_counter() - start) < seconds:
        risk.probabilities(batch)
        calls += 1
    used = time.process_time() - cpu
    print(json.dumps({"answers": calls, "all": calls, "seconds": took, "cpu_us": used / calls * 1e6}))


if __name__ == "__main__":
    main()
