"""KServe's Python server, REST alone. The model is loaded late, so that it could be sent to worker processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import work

told = work.told(__doc__)
del sys.argv[1:]  # kserve reads them when it is imported

import kserve  # noqa: E402
from kserve import InferOutput, InferRequest, InferResponse, model_server  # noqa: E402


class Loopback(model_server.RESTServer):  # type: ignore[misc]
    """Listens on loopback alone and writes no access log; kserve has no option for either."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.config.host, self.config.access_log = "127.0.0.1", False


class Risk(kserve.Model):
    def __init__(self, models: Path) -> None:
        super().__init__("risk")
        self.models = models
        self.ready = True
        self.risk: work.Risk | None = None

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": "X", "datatype": "FP32", "shape": [-1, len(work.FIELDS)]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(work.RISKS)]}]

    async def predict(
        self, payload: InferRequest, headers: Any = None, response_headers: Any = None
    ) -> InferResponse:
        if self.risk is None:
            self.risk = work.Risk(self.models)
        rows = np.ascontiguousarray(payload.inputs[0].as_numpy(), dtype=np.float32)
        found = self.risk.probabilities(rows)
        output = InferOutput("probabilities", list(found.shape), "FP32")
        output.set_data_from_numpy(found, binary_data=payload.use_binary_outputs)
        return InferResponse(
            payload.id or "1", self.name, [output],
            use_binary_outputs=payload.use_binary_outputs, requested_outputs=payload.request_outputs,
        )  # fmt: skip


if __name__ == "__main__":
    model_server.RESTServer = Loopback
    kserve.ModelServer(
        http_port=told.port, enable_grpc=False, workers=told.workers, enable_latency_logging=False,
        event_loop="uvloop",
    ).start([Risk(told.models)])  # fmt: skip
