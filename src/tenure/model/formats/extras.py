"""Libraries that one format needs: imported when such a model is loaded, and named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from tenure.errors import ModelError

NEEDS = {
    "skops": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "torch": "torch",
    "mlflow": "mlflow",
}
"""Library -> extra of tenure that installs it."""


def load(module: str, *, format: str) -> Any:
    """Import a library.

    Raises:
        ModelError: it is not installed; the text names the extra.
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(
            f"{format} models need the package {top}, which cannot be imported ({error}): "
            f"pip install 'tenure[{NEEDS[top]}]'",
            at=top,
            code="missing_library",
        ) from error
