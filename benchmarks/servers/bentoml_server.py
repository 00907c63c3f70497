"""BentoML with one worker, no batching (the faster setting for one request in flight), no access log."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml
import work
from bentoml.validators import ContentType

MODELS = "BENCH_MODELS"
QUIET: dict[str, Any] = {"workers": 1, "traffic": {"timeout": 60}, "logging": {"access": {"enabled": False}}}


@bentoml.service(**QUIET)
class Record:
    def __init__(self) -> None:
        self.risk = work.Risk(Path(os.environ[MODELS]))

    @bentoml.api(route="/v1/risk/predict")  # type: ignore[untyped-decorator]
    async def predict(self, record: dict[str, float], /) -> dict[str, Any]:
        return self.risk.answer(record)


@bentoml.service(**QUIET)
class Photo:
    def __init__(self) -> None:
        self.photo = work.Photo(Path(os.environ[MODELS]))

    @bentoml.api(route="/v1/photo/predict")  # type: ignore[untyped-decorator]
    async def predict(self, photo: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, Any]:
        return self.photo.answer(photo.read_bytes())

    @bentoml.api(route="/v1/photo/form")  # type: ignore[untyped-decorator]
    async def form(self, file: Annotated[Path, ContentType("image/jpeg")]) -> dict[str, Any]:
        return self.photo.answer(file.read_bytes())


def main() -> None:
    told = work.told(__doc__)
    name = "Record" if told.kind == "record" else "Photo"
    here = str(Path(__file__).parent)
    words = [
        "serve",
        f"bentoml_server:{name}",
        "--working-dir",
        here,
        "--host",
        "127.0.0.1",
        "--port",
        str(told.port),
    ]
    environment = os.environ | {MODELS: str(told.models), "BENTOML_HOME": str(told.folder), "PYTHONPATH": here}
    os.execve(sys.executable, [sys.executable, "-m", "bentoml", *words], environment)


if __name__ == "__main__":
    main()
