"""MLServer, in process (its own workers are slower here), adaptive batching of up to 32 within a millisecond.

Its REST door has no binary tensors, so it is asked in the protocol's JSON form throughout.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import numpy as np
import work
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Risk(MLModel):
    async def load(self) -> bool:
        self._risk = work.Risk(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = np.ascontiguousarray(NumpyCodec.decode_input(payload.inputs[0]), dtype=np.float32)
        found = NumpyCodec.encode_output("probabilities", self._risk.probabilities(rows))
        return InferenceResponse(model_name=self.name, outputs=[found])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def main() -> None:
    told = work.told(__doc__)
    model: dict[str, Any] = {
        "name": "risk", "implementation": Risk, "parameters": {"uri": str(told.models)},
        "max_batch_size": 32, "max_batch_time": 0.001,
    }  # fmt: skip
    server = MLServer(
        Settings(
            host="127.0.0.1", http_port=told.port, grpc_port=free_port(), metrics_endpoint=None,
            parallel_workers=0, debug=False, logging_settings={"version": 1},
        )
    )  # fmt: skip
    await server.start([ModelSettings(**model)])


if __name__ == "__main__":
    asyncio.run(main())
