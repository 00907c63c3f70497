"""From what a user holds in hand (an object, an ONNX file, a photo) to what a bundle is built from."""

from __future__ import annotations

import dataclasses
import inspect
import json
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tenure.data.schema import infer
from tenure.errors import ModelError
from tenure.model import code as source
from tenure.model import contents, trust
from tenure.model.bundle import Code, Sample
from tenure.model.formats import known
from tenure.model.formats.rule import Rule
from tenure.model.manifest import StageRef
from tenure.model.pipeline import Pipeline
from tenure.model.stage import Stage, adapt
from tenure.scope.project import EndpointSpec, InputKind, Output, StageSpec, Trust

Stages = Any
"""A class, an instance, a function, the path of a model, an address, or a sequence of (name, one of these)."""


class ModelAt(msgspec.Struct, frozen=True):
    """The path of a model's file or folder, or an address, with options of the stage that runs it."""

    place: str
    options: dict[str, Any] = {}


_BY_ORDER = (known.ONNX, known.TORCH, known.MLFLOW, known.REMOTE)
"""Formats that do not name their columns, or may not; the endpoint's fields do."""

_PLAIN = (str, int, float, bool, type(None), list, tuple, dict, set, np.ndarray)


def describe(stages: Stages, *, spec: EndpointSpec, output: Output) -> tuple[list[StageRef], list[Code]]:
    """Return the stages as references and the source files that they need.

    A dataclass or msgspec.Struct instance keeps its fields as options. Any other instance must be what its class
    gives without arguments: what it learned belongs into `files`, read in `load`.

    Raises:
        ModelError: a stage has no source, or holds data that a new process would not have.
    """
    named = stages if _is_list(stages) else [(None, stages)]
    placed = {s.stage: s.placement for s in spec.pipeline}
    refs, code = [], []
    for name, thing in named:
        uses, options, part = _describe(thing, spec, output)
        final = name or (spec.pipeline[0].stage if len(spec.pipeline) == 1 else _short(uses))
        refs.append(StageRef(final, uses, placed.get(final, "thread"), options))
        code += part
    return refs, code


def files_of(stages: Stages, files: str | Path | None) -> Path | None:
    """Return the folder or file of weights: the given one, else the file or folder that is the model itself."""
    if files is not None:
        return Path(files)
    one = _model_at(stages[0][1] if _is_list(stages) and len(stages) == 1 else stages)
    return Path(one.place) if one is not None and not known.is_address(one.place) else None


def as_sample(kind: InputKind, sample: Sample | Path | str | bytes | Mapping[str, Any]) -> Sample:
    """Return a sample as a client would send it: a path is read, a mapping is JSON, a text is itself.

    Raises:
        ModelError: the file cannot be read, or the kind cannot be sent that way.
    """
    if isinstance(sample, Sample):
        return sample
    if isinstance(sample, bytes):
        return Sample(sample, _default_type(kind))
    if isinstance(sample, Mapping):
        return Sample(json.dumps(sample, sort_keys=True).encode(), "application/json")
    if isinstance(sample, str) and kind == "text":
        return Sample(sample.encode(), "text/plain")
    path = Path(sample)
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the sample {path}: {error.strerror}", at="sample") from error
    return Sample(body, mimetypes.guess_type(path.name)[0] or _default_type(kind))


def with_fields(
    spec: EndpointSpec, sample: Sample, rows: Sequence[Mapping[str, Any]] = ()
) -> tuple[EndpointSpec, tuple[str, ...]]:
    """Return the spec, with fields inferred where a record endpoint declares none, and notes in words.

    `rows` are further records of the kind of the sample; with them less is a guess.
    """
    if spec.input != "record" or spec.fields:
        return spec, ()
    row = msgspec.json.decode(sample.body)
    inferred = infer(rows or ([row] if isinstance(row, dict) else []))
    return msgspec.structs.replace(spec, fields=inferred.fields), inferred.notes


def _model_at(thing: Any) -> ModelAt | None:
    return ModelAt(str(thing)) if isinstance(thing, str | Path) else thing if isinstance(thing, ModelAt) else None


def _is_list(stages: Stages) -> bool:
    return isinstance(stages, Sequence) and not isinstance(stages, str | bytes)


def _short(uses: str) -> str:
    return uses.rpartition(":")[2].rpartition(".")[2].lower()


def _default_type(kind: InputKind) -> str:
    return {"record": "application/json", "text": "text/plain"}.get(kind, "application/octet-stream")


def _describe(thing: Any, spec: EndpointSpec, output: Output) -> tuple[str, dict[str, Any], list[Code]]:
    if (model := _model_at(thing)) is not None:
        thing = model_stage(model.place, spec, output, **model.options)
    target = thing if inspect.isclass(thing) or inspect.isfunction(thing) else type(thing)
    options = {} if target is thing else _options(thing)
    if target.__module__.startswith(source.OWN):
        return f"{target.__module__}:{target.__qualname__}", options, []
    uses, file, root = source.origin(target)
    return uses, options, [Code(root, tuple(source.collect(file, root)))]


def rule_of(spec: StageSpec) -> Rule:
    """Return the rule, or the constant, that a stage of the project file states."""
    cases = [{"when": c.when, "answer": c.answer, "confidence": c.confidence} for c in spec.rule]
    return Rule(otherwise=spec.otherwise, cases=cases)


def trial(stages: Stages, spec: EndpointSpec, *, files: str | Path | None, trusted: Trust) -> Pipeline:
    """Load the stages where they are, to see what they answer before the terms of an endpoint are known.

    Raises:
        ModelError: a file is refused or a stage cannot be loaded.
    """
    named = stages if _is_list(stages) else [("model", stages)]
    place = files_of(stages, files)
    folder = Path(".") if place is None else place if place.is_dir() else place.parent
    if place is not None:
        held = contents.listing(folder) if place.is_dir() else {place.name: contents.entry(place)}
        trust.refuse(folder, held, trusted)
    return Pipeline([(name, _loaded(thing, spec, folder, trusted)) for name, thing in named])


def _loaded(thing: Any, spec: EndpointSpec, folder: Path, trusted: Trust) -> Stage:
    if (model := _model_at(thing)) is not None:
        thing = model_stage(model.place, spec, Output(kind="text"), **model.options)
    if type(thing).__module__.startswith(source.OWN) and hasattr(thing, "allow"):
        thing.allow(trusted)
    stage = adapt(thing)
    stage.load(folder)
    return stage


def model_stage(place: str | Path, spec: EndpointSpec, output: Output, **options: Any) -> Any:
    """Return the stage that runs a model's file, folder or address for an endpoint.

    Labels and fields are the endpoint's; `options` of the stage win over both.

    Raises:
        ModelError: as `known.stage_of`.
    """
    found = known.recognise(place)
    given: dict[str, Any] = {"labels": list(output.labels)}
    given["file"] = str(place) if found is known.REMOTE else "." if found is known.MLFLOW else Path(place).name
    if found.either and output.kind != "text":
        given["answer"] = output.kind
    if found in _BY_ORDER:
        given["features"] = list(spec.fields)
    return known.stage_of(place, **{**given, **options})


def _options(thing: Any) -> dict[str, Any]:
    """Return the constructor's arguments of a value class; refuse another instance that holds data of its own."""
    if isinstance(thing, msgspec.Struct):
        return _json({f: getattr(thing, f) for f in thing.__struct_fields__}, thing)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return _json({f.name: getattr(thing, f.name) for f in dataclasses.fields(thing) if f.init}, thing)
    try:
        fresh = vars(type(thing)())
    except TypeError as error:
        raise ModelError(
            f"{type(thing).__name__} needs arguments: make it a dataclass, or read them in `load`", at="stages"
        ) from error
    lost = sorted(_lost(vars(thing), fresh))
    if lost:
        raise ModelError(
            f"{type(thing).__name__}.{lost[0]} would be lost in another process; "
            "save it to `files` and read it in `load`, or make the class a dataclass",
            at=lost[0],
        )
    return {}


def _json(options: dict[str, Any], thing: Any) -> dict[str, Any]:
    try:
        return dict(msgspec.json.decode(msgspec.json.encode(options)))
    except TypeError as error:
        raise ModelError(
            f"the fields of {type(thing).__name__} must be plain data: {error}", at="stages"
        ) from error


def _lost(held: Mapping[str, Any], fresh: Mapping[str, Any]) -> Iterable[str]:
    for name, value in held.items():
        if isinstance(value, _PLAIN) and not _equal(value, fresh.get(name, _PLAIN)):
            yield name


def _equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and bool(np.array_equal(a, b))
    try:
        return bool(a == b)
    except ValueError:  # a list of arrays
        return False
