"""What a load test sends: the inputs of registered versions, or the user's own files."""

from __future__ import annotations

import math
import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from tenure.data.decode import decode
from tenure.data.schema import InputSchema
from tenure.errors import CaseError, MissingError
from tenure.model.bundle import Bundle, Sample
from tenure.scope.project import Field
from tenure.seeds import generator

UNIT = "load-test"
"""The `Tenure-Unit` of every request of a load test, so that it can be told from real ones in the log."""
MOST = 10_000
_LINES = {".jsonl": "application/json", ".ndjson": "application/json", ".txt": "text/plain; charset=utf-8"}


def of_bundles(bundles: Iterable[Bundle]) -> list[Sample]:
    """Return the sample inputs that versions were registered with, each once."""
    found: dict[str, tuple[Path, str]] = {}
    for bundle in bundles:
        ref = bundle.manifest.sample
        found.setdefault(ref.sha256, (bundle.path / ref.file, ref.media_type))
    return [Sample(path.read_bytes(), media_type) for path, media_type in found.values()]


def of_path(path: Path) -> list[Sample]:
    """Return the inputs of a file or a folder, at most `MOST`.

    `.jsonl`, `.ndjson` and `.txt` hold one input a line; of a folder every file is one; any other file is one.

    Raises:
        MissingError: there is nothing.
        CaseError: it cannot be read.
    """
    try:
        if path.is_dir():
            found = [_whole(p) for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
        elif path.suffix in _LINES:
            lines = path.read_bytes().splitlines()
            found = [Sample(line, _LINES[path.suffix]) for line in lines if line.strip()]
        else:
            found = [_whole(path)]
    except OSError as error:
        raise CaseError(
            f"cannot read {path}: {error.strerror}", code="unreadable_file", at="--samples"
        ) from error
    if not found:
        raise MissingError(f"{path} holds no input", at="--samples")
    return found[:MOST]


def check(samples: Sequence[Sample], schema: InputSchema) -> None:
    """Make sure that the endpoint can read every sample, so that errors under load are the server's.

    Raises:
        CaseError: one is not valid; it says which.
    """
    for number, sample in enumerate(samples, 1):
        try:
            decode(schema, sample.body, sample.media_type)
        except CaseError as error:
            raise CaseError(
                f"sample {number}: {error.message}", code=error.code, at=error.at, status=error.status
            ) from error


def varied(samples: Sequence[Sample], schema: InputSchema, *, count: int = 256, seed: int = 0) -> list[Sample]:
    """Return so many inputs whose numbers differ a little, so that a log of them compresses as life's would.

    Numbers of type `float` move by about a tenth, within their range; other inputs stay as they are.
    """
    if schema.kind != "record":
        return list(samples)
    rng, out = generator(seed), []
    for number in range(count):
        sample = samples[number % len(samples)]
        record = schema.check_record(msgspec.json.decode(sample.body))
        for name, field in schema.fields.items():
            value = record.get(name)
            if field.type == "float" and isinstance(value, int | float):
                record[name] = _moved(float(value), field, float(rng.normal()))
        out.append(Sample(msgspec.json.encode(record), sample.media_type))
    return out


def _moved(value: float, field: Field, draw: float) -> float:
    low = -math.inf if field.min is None else field.min
    high = math.inf if field.max is None else field.max
    return min(max(value * (1 + draw / 10), low), high)


def as_requests(
    samples: Sequence[Sample], *, endpoint: str, host: str, prefix: str = "", token: str = ""
) -> tuple[bytes, ...]:
    """Return the samples as whole HTTP/1.1 requests.

    Args:
        samples: inputs.
        endpoint: its name.
        host: of the Host header, with its port.
        prefix: path before `/v1`, where the app is mounted below one.
        token: of a client; empty = none.
    """
    path = f"{prefix}/v1/{quote(endpoint, safe='')}/predict"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nTenure-Unit: {UNIT}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return tuple(_request(head, sample) for sample in samples)


def _request(head: str, sample: Sample) -> bytes:
    own = f"Content-Type: {sample.media_type}\r\nContent-Length: {len(sample.body)}\r\n\r\n"
    return (head + own).encode("latin-1") + sample.body


def _whole(path: Path) -> Sample:
    return Sample(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")
