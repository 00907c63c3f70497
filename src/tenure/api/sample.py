"""What a sample says about an endpoint: the kind of its input, a record's fields, the terms of its answers."""

from __future__ import annotations

import json
import logging
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tenure.data.decode import decode
from tenure.data.schema import InputSchema, infer
from tenure.errors import CaseError, ModelError
from tenure.model import author
from tenure.model.bundle import Sample
from tenure.model.trust import NOTHING
from tenure.scope.project import Automation, EndpointSpec, InputKind, Output, Trust
from tenure.types import Failed, Prediction

_log = logging.getLogger("tenure")
Given = Sample | Path | str | bytes | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A file, a text, the bytes as a client sends them, a record, or records of which the first is the sample."""

SIGNS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"BM", 0, "image/bmp"),
    (b"II*\x00", 0, "image/tiff"),
    (b"MM\x00*", 0, "image/tiff"),
    (b"WEBP", 8, "image/webp"),
    (b"WAVE", 8, "audio/wav"),
    (b"fLaC", 0, "audio/flac"),
    (b"OggS", 0, "audio/ogg"),
)
"""How pictures and sound begin: bytes, position, media type."""


def media_type_of(body: bytes) -> str:
    """Return the media type that bytes begin like; `application/octet-stream` for others."""
    for sign, at, media_type in SIGNS:
        if body[at : at + len(sign)] == sign:
            return media_type
    return "application/octet-stream"


def kind_of(sample: Given) -> InputKind:
    """Return the kind of input that a sample is.

    Raises:
        ModelError: it cannot be told.
    """
    if isinstance(sample, Mapping | list | tuple):
        return "record"
    if isinstance(sample, str) and _is_text(sample):
        return "text"
    media_type = _media_type(sample)
    kinds: dict[str, InputKind] = {"image": "image", "audio": "audio", "text": "text"}
    if media_type == "application/json":
        return "record"
    kind = kinds.get(media_type.partition("/")[0])
    if kind is None:
        raise ModelError(
            f"cannot tell what kind of input the sample is ({media_type}); say input='image', 'audio', 'text' or "
            "'record'",
            at="sample",
        )
    return kind


def as_sample(kind: InputKind, sample: Given) -> Sample:
    """Return the sample as a client would send it; raises ModelError where it cannot be read."""
    if isinstance(sample, list | tuple):
        sample = sample[0]
    if isinstance(sample, str) and (kind != "text" or Path(sample[:1000]).is_file()):
        sample = Path(sample)
    return author.as_sample(kind, sample)  # type: ignore[arg-type]


def endpoint(
    stages: author.Stages,
    sample: Given,
    *,
    files: str | Path | None,
    labels: Sequence[str] | None,
    regions: bool,
    input: InputKind | None,
    trusted: Trust = NOTHING,
) -> EndpointSpec:
    """Return the endpoint that a first version and its sample describe; guesses are logged as warnings.

    Raises:
        ModelError: the sample is not answered, or cannot be read.
    """
    kind = input or kind_of(sample)
    ready = as_sample(kind, sample)
    fields = {}
    if kind == "record":
        inferred = infer(rows(sample, ready))
        fields = inferred.fields
        for note in inferred.notes:
            _log.warning("fields: %s", note)
    spec = EndpointSpec(input=kind, fields=fields, automation=Automation(start="shadow", max="assist"))
    boxes = "box" if kind == "image" and regions else None
    if labels is not None:
        output = Output(labels=tuple(labels), regions=boxes)  # type: ignore[arg-type]
    else:
        found = _answer(stages, ready, spec, files, trusted)
        output = msgspec.structs.replace(_terms(found), regions=boxes)
    return msgspec.structs.replace(spec, output=output)


def _terms(found: Prediction) -> Output:
    """Return the terms of an answer; raises ModelError where one answer does not show all labels."""
    if isinstance(found.value, int | float) and not isinstance(found.value, bool):
        return Output(kind="number")
    if found.probabilities:
        return Output(labels=tuple(found.probabilities))
    raise ModelError(
        f"one answer ({found.value!r}) does not show what else may be answered; say labels=[…]", at="labels"
    )


def _answer(
    stages: author.Stages, ready: Sample, spec: EndpointSpec, files: str | Path | None, trusted: Trust
) -> Prediction:
    pipeline = author.trial(stages, spec, files=files, trusted=trusted)
    item = decode(InputSchema.of(spec), ready.body, ready.media_type)
    found = pipeline.run([item])[0].prediction
    if isinstance(found, Failed):
        raise ModelError(f"the sample is not answered: {found.reason}", at="sample")
    return found


def rows(sample: Given, ready: Sample) -> list[Mapping[str, Any]]:
    """Return the records that a sample shows; raises CaseError where it is no JSON."""
    if isinstance(sample, list | tuple):
        return list(sample)
    try:
        row = json.loads(ready.body)
    except ValueError as error:
        raise CaseError(f"the sample is not valid JSON: {error}", code="invalid_json", at="sample") from error
    return [row] if isinstance(row, dict) else []


def _is_text(sample: str) -> bool:
    if "\n" in sample or len(sample) > 1000 or Path(sample).is_file():
        return "\n" in sample or len(sample) > 1000
    guess = mimetypes.guess_type(sample)[0] or ""
    return not guess.startswith(("image/", "audio/", "application/json"))


def _media_type(sample: Given) -> str:
    if isinstance(sample, Sample):
        return sample.media_type.partition(";")[0].strip()
    if isinstance(sample, bytes):
        return media_type_of(sample)
    return mimetypes.guess_type(str(sample))[0] or "application/octet-stream"
