"""What the tests of bundles share: a project folder with a model's source and weights, and its endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tenure.model.build import build
from tenure.model.bundle import Bundle, Sample
from tenure.model.manifest import StageRef
from tenure.scope.project import EndpointSpec, Field, Output

SPEC = EndpointSpec(input="record", fields={"a": Field(type="float")})
OUTPUT = Output(kind="number")
SAMPLE = Sample(b'{"a": 2}', "application/json")
STAGES = [StageRef("scale", "scaling:Scale")]

SCALING = """
from rates import RATE


class Scale:
    def load(self, files):
        self.weight = float((files / "weight.txt").read_text())

    def predict(self, records):
        from rates import RATE as again
        assert again == RATE
        return [record["a"] * self.weight * RATE for record in records]
"""


def source(folder: Path, *, rate: int = 10, weight: int = 3) -> tuple[Path, Path]:
    """Write (or rewrite) a model's code and weights; return their folders."""
    code, files = folder / "src", folder / "weights"
    code.mkdir(exist_ok=True)
    files.mkdir(exist_ok=True)
    (code / "scaling.py").write_text(SCALING)
    (code / "rates.py").write_text(f"RATE = {rate}\n")
    (files / "weight.txt").write_text(str(weight))
    return code, files


def scaling(folder: Path, *, rate: int = 10, weight: int = 3, **options: Any) -> Bundle:
    """Build the model into `<folder>/data`."""
    code, files = source(folder, rate=rate, weight=weight)
    settings: dict[str, Any] = {
        "endpoint": "prices",
        "name": "scale",
        "stages": STAGES,
        "sample": SAMPLE,
        "spec": SPEC,
        "output": OUTPUT,
        "code": [code],
        "files": files,
    }
    return build(folder / "data", **{**settings, **options})
