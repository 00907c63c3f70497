"""Run a trained model in production and let it earn its place."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenure import checks
    from tenure.api.client import ask
    from tenure.api.mounted import asgi
    from tenure.api.register import register
    from tenure.api.serving import serve
    from tenure.model.formats.onnx import onnx
    from tenure.scope.reader import load_project
    from tenure.types import Answer, Audio, Box, Decision, Failed, Image, Level, Prediction

__version__ = "0.1.0"

_HOMES = {
    "register": "tenure.api.register",
    "serve": "tenure.api.serving",
    "ask": "tenure.api.client",
    "asgi": "tenure.api.mounted",
    "load_project": "tenure.scope.reader",
    "onnx": "tenure.model.formats.onnx",
    **dict.fromkeys(
        ("Answer", "Audio", "Box", "Decision", "Failed", "Image", "Level", "Prediction"), "tenure.types"
    ),
}
"""Name -> module; loaded at first use, so that `import tenure` costs next to nothing."""

__all__ = [
    "Answer",
    "Audio",
    "Box",
    "Decision",
    "Failed",
    "Image",
    "Level",
    "Prediction",
    "asgi",
    "ask",
    "checks",
    "load_project",
    "onnx",
    "register",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name == "checks":
        return import_module("tenure.checks")
    if name not in _HOMES:
        raise AttributeError(f"module 'tenure' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
