"""The contender that one writes by hand: FastAPI, uvicorn and ONNX Runtime, nothing else.

No log, no routing, no metrics, no ids. The model runs on the event loop, which is the fastest way for a model far
below a millisecond. `python serving_base.py MODEL PORT FIELDS`
"""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import create_model

path, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
NAMES = [f"f{i}" for i in range(count)]
LABELS = ("no", "yes")
Record = create_model("Record", **dict.fromkeys(NAMES, (float, ...)))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])
app = FastAPI()


@app.post("/v1/risk/predict")
async def predict(record: Record) -> dict:  # type: ignore[valid-type]
    row = np.array([[getattr(record, name) for name in NAMES]], dtype=np.float32)
    probabilities = session.run(None, {"X": row})[1][0]
    best = int(probabilities.argmax())
    return {"value": LABELS[best], "confidence": float(probabilities[best])}


uvicorn.run(
    app, host="127.0.0.1", port=port, http="httptools", loop="uvloop", access_log=False, log_level="error"
)
