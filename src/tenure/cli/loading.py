"""Find what `tenure register` is to register: a model's file, an address, `module:Name`, or the pipeline."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from tenure.api import adhoc
from tenure.errors import ModelError, ProjectError
from tenure.model import author
from tenure.model.formats import known
from tenure.scope.project import Project, StageSpec


def project_of(place: Path | None) -> Project | None:
    """Return the project at a place, None where there is none yet; raises ProjectError for a faulty file."""
    try:
        return adhoc.find(place)
    except ProjectError:
        named = place is not None and place.suffix in (".yaml", ".yml")
        if named or Path(adhoc.YAML).is_file():
            raise
        return None


def stages(named: str | None, project: Project | None, endpoint: str, options: dict[str, Any]) -> Any:
    """Return what to register: the named thing, else the stages of the endpoint's pipeline.

    `options` are those of the stage: of a model's file, a remote model or a class.

    Raises:
        ModelError: it cannot be found or imported, or is no model; the text says what is accepted.
        MissingError: the project has no such endpoint.
    """
    if named is not None:
        return _named(named, options)
    pipeline = adhoc.endpoint_of(project, endpoint).pipeline if project else ()
    if not pipeline:
        raise ModelError(f"what is to be registered? Accepted are: {known.ACCEPTED}", at="MODEL")
    if options:
        raise ModelError("options are for one model; say which", at="--set")
    return [(stage.stage, _stage(stage)) for stage in pipeline]


def _stage(stage: StageSpec) -> Any:
    if stage.uses is None:
        return author.rule_of(stage)
    return stage.uses if known.is_address(stage.uses) else _import(stage.uses)


def _named(named: str, options: dict[str, Any]) -> Any:
    if _USES.fullmatch(named) and not Path(named).exists():
        found = _import(named)
        return found(**options) if options else found
    known.recognise(named)  # so that what is no model is said first of all
    return author.ModelAt(named, options)


_USES = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _import(uses: str) -> Any:
    module, _, name = uses.partition(":")
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
