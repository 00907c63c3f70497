"""The contender that one writes by hand: FastAPI, uvicorn and ONNX Runtime, nothing else.

No log, no routing, no metrics, no ids. The models run on the event loop, which is the fastest way for one
process: threads would cost a hand-over a request. `/v2/models/risk/infer` is the
Open Inference Protocol's JSON form.
"""

from __future__ import annotations

import numpy as np
import uvicorn
import work
from fastapi import FastAPI, Request, UploadFile
from pydantic import BaseModel, create_model

Record = create_model("Record", **dict.fromkeys(work.FIELDS, (float, ...)))  # type: ignore[call-overload]


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Infer(BaseModel):
    inputs: list[Tensor]


def record_app(risk: work.Risk) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/risk/predict")
    async def predict(record: Record) -> dict:  # type: ignore[valid-type,type-arg]
        row = np.array([[getattr(record, name) for name in work.FIELDS]], dtype=np.float32)
        return work.named(risk.probabilities(row)[0], work.RISKS)

    @app.post("/v2/models/risk/infer")
    async def infer(asked: Infer) -> dict:  # type: ignore[type-arg]
        sent = asked.inputs[0]
        found = risk.probabilities(np.array(sent.data, dtype=np.float32).reshape(sent.shape))
        output = {"name": "probabilities", "shape": list(found.shape), "datatype": "FP32"}
        return {"model_name": "risk", "outputs": [output | {"data": found.ravel().tolist()}]}

    return app


def photo_app(photo: work.Photo) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/photo/predict")
    async def predict(request: Request) -> dict:  # type: ignore[type-arg]
        return photo.answer(await request.body())

    @app.post("/v1/photo/form")
    async def form(file: UploadFile) -> dict:  # type: ignore[type-arg]
        return photo.answer(await file.read())

    return app


def main() -> None:
    told = work.told(__doc__)
    if told.kind == "record":
        app = record_app(work.Risk(told.models))
    else:
        app = photo_app(work.Photo(told.models))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=told.port,
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="error",
    )


if __name__ == "__main__":
    main()
