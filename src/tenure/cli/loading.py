"""Find what `tenure register` is to register: by `module:Name`, by file, or by the project file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from tenure.api import adhoc
from tenure.errors import ModelError, ProjectError
from tenure.scope.project import Project


def project_of(place: Path | None) -> Project | None:
    """Return the project at a place, None where there is none yet; raises ProjectError for a faulty file."""
    try:
        return adhoc.find(place)
    except ProjectError:
        named = place is not None and place.suffix in (".yaml", ".yml")
        if named or Path(adhoc.YAML).is_file():
            raise
        return None


def stages(uses: str | None, project: Project | None, endpoint: str) -> Any:
    """Return what to register: the named thing, else the stages of the endpoint's pipeline.

    Raises:
        ModelError: it cannot be found or imported.
        MissingError: the project has no such endpoint.
    """
    if uses is not None:
        return Path(uses) if uses.endswith(".onnx") else _import(uses)
    pipeline = adhoc.endpoint_of(project, endpoint).pipeline if project else ()
    if not pipeline:
        raise ModelError("what is to be registered? Say --uses module:Name or --uses model.onnx", at="--uses")
    return [(stage.stage, _import(stage.uses)) for stage in pipeline]


def _import(uses: str) -> Any:
    module, _, name = uses.partition(":")
    if not module or not name:
        raise ModelError(f"expected module:Name or an .onnx file, got {uses!r}", at="--uses")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise ModelError(f"{module} needs {error.name}, which is not installed", at=uses) from error
        raise ModelError(f"no {module}.py beside the project file or in this folder", at=uses) from error
    except Exception as error:
        raise ModelError(f"{module} cannot be imported: {type(error).__name__}: {error}", at=uses) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{module} has no {part!r}", at=uses)
        found = getattr(found, part)
    return found
