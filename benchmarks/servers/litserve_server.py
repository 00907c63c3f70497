"""LitServe without batching, its faster setting for a model this small. It reads forms, no raw bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litserve
import work


class Risk(litserve.LitAPI):
    models: Path

    def setup(self, device: str) -> None:
        self.model = work.Risk(self.models)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # litserve reads an annotation as a query
        return request

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        return self.model.answer(x)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


class Photo(Risk):
    def setup(self, device: str) -> None:
        self.photo = work.Photo(self.models)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["file"].file.read()

    def predict(self, x: bytes) -> dict[str, Any]:  # type: ignore[override]
        return self.photo.answer(x)


def main() -> None:
    told = work.told(__doc__)
    record = told.kind == "record"
    api = Risk(api_path="/v1/risk/predict") if record else Photo(api_path="/v1/photo/form")
    api.models = told.models
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=told.workers, timeout=60)
    server.run(host="127.0.0.1", port=told.port, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main()
