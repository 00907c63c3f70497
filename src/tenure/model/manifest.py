"""What a bundle's `manifest.json` says; `docs/reference/bundle.md` is its prose form."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from tenure.data.schema import Contract, InputSchema
from tenure.errors import ModelError
from tenure.model.contents import FileEntry, safe_path
from tenure.scope.project import Output
from tenure.types import Prediction

FORMAT = 2
READS = (1, 2)
FILE = "manifest.json"
MAX_BYTES = 16 * 2**20

Confidence = Literal["probability", "margin", "interval", "stated", "none"]
"""What the confidence of a version's answers is worth.

`probability`: the chance of the answer by the model's own reckoning; `margin` and `interval`: a score that orders
answers and is no chance; `stated`: the user's code says it; `none`: there is none, so `partial` is out of reach.
"""

ABOUT = ("created", "tenure", "python", "measured", "provenance")
"""Keys that tell how a bundle came to be; they are not part of its content and so not of its hash."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.ASCII)


class StageRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage: `uses` is `module:Name`; a class is constructed with `options`, which are plain JSON."""

    name: str
    uses: str
    placement: Literal["inline", "thread", "process"] = "thread"
    options: dict[str, Any] = {}


class SampleRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input that is replayed before the version gets traffic."""

    media_type: str
    file: str
    sha256: str
    size: int


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds for one batch of copies of the sample, one after the other; `runs` is how many were timed.

    `p99_ms` is the slowest where there were fewer than 100 runs.
    """

    p50_ms: float
    p99_ms: float
    runs: int


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it was measured; `libraries` are those that the model had loaded, with their versions."""

    cpu: str
    cores: int
    system: str
    python: str = ""
    libraries: dict[str, str] = {}


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Measured in a process of its own when the bundle was made, with one thread.

    `latency` is by batch size. `memory_mb` is the resident memory that loading and answering added, libraries
    included; `process_mb` that of the whole process, None where it was not measured.
    """

    latency: dict[str, Latency]
    memory_mb: float
    process_mb: float | None
    hardware: Hardware


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about one version of a model. Paths are relative to `files/` and `code/`.

    `pilot_scores` (output label -> confidences on unlabelled inputs) may come with a model, so that the grid of
    thresholds is fixed before its first label.
    """

    format: int = FORMAT
    endpoint: str
    name: str
    stages: tuple[StageRef, ...]
    files: dict[str, FileEntry]
    code: dict[str, FileEntry]
    input: InputSchema
    output: Output
    sample: SampleRef
    expected: Prediction
    confidence: Confidence
    pilot_scores: dict[str, list[float]] = {}
    created: str
    tenure: str
    python: str
    measured: Measured | None = None
    provenance: dict[str, Any] = {}

    @property
    def size(self) -> int:
        """Bytes of code, weights and sample."""
        return sum(e.size for e in (*self.files.values(), *self.code.values())) + self.sample.size

    @property
    def contract(self) -> Contract:
        return Contract(self.input, self.output)

    def sha(self) -> str:
        """Return the hex SHA-256 of the content: equal content has equal hashes, whenever it was made."""
        return _sha(_plain(self))

    def text(self) -> bytes:
        """Return the bytes of the manifest file."""
        return json.dumps(_plain(self), sort_keys=True, indent=1, ensure_ascii=False).encode()


def _plain(manifest: Manifest) -> dict[str, Any]:
    """Return JSON values without the keys that came after format 2 where they say nothing.

    Content that was registered before those keys has the hash then that it had before.
    """
    plain: dict[str, Any] = msgspec.to_builtins(manifest)
    if not plain["output"]["unit"]:
        del plain["output"]["unit"]
    for field in (plain["input"].get("fields") or {}).values():
        if not field["masked"]:
            del field["masked"]
    return plain


def check_name(name: str) -> str:
    """Return a version's name; raises ModelError when it could not stand in a file name and an address."""
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"a version's name is lower case letters, digits, `_`, `.` and `-`, at most 63; got {name!r}",
            at="name",
        )
    return name


def read(folder: Path) -> tuple[Manifest, str]:
    """Read a bundle folder's manifest and its SHA-256; its paths are checked, its files are not.

    Raises:
        ModelError: there is none, it is not valid, or of a newer format.
    """
    path = folder / FILE
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{folder} is not a bundle: no {FILE} of at most {MAX_BYTES} bytes", at=FILE)
    manifest, sha = parse(path.read_bytes())
    for name in (*manifest.files, *manifest.code, manifest.sample.file):
        safe_path(name, at=f"{FILE}: {name[:80]}")
    return manifest, sha


def parse(text: bytes) -> tuple[Manifest, str]:
    """Parse a manifest; the SHA-256 is that of the JSON as it stands, so that later keys do not change it.

    Raises:
        ModelError: it is not valid, or of a format that this tenure does not know.
    """
    try:
        raw = msgspec.json.decode(text)
        known = raw.get("format", 1) if isinstance(raw, Mapping) else FORMAT
        if known not in READS:
            raise ModelError(f"the bundle has format {known!r}, this tenure reads {READS}", at=FILE)
        manifest = msgspec.convert(_from_1(raw) if known == 1 else raw, Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ModelError(f"{FILE}: {error}", at=FILE) from error
    check_name(manifest.name)
    if not manifest.stages:
        raise ModelError("a bundle needs at least one stage", at=f"{FILE}: stages")
    return manifest, _sha(raw)


def _from_1(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest of format 1 in the terms of format 2; its hash stays that of the text as it stands."""
    expected, old = raw.get("expected"), raw.get("measured")
    stated = isinstance(expected, Mapping) and expected.get("confidence") is not None
    made = {**raw, "format": FORMAT, "confidence": "stated" if stated else "none"}
    if isinstance(old, Mapping):
        took = old.get("latency_ms")
        made["measured"] = {
            "latency": {"1": {"p50_ms": took, "p99_ms": took, "runs": 1}},
            "memory_mb": old.get("rss_mb"),
            "process_mb": None,
            "hardware": {"cpu": "unknown", "cores": 0, "system": old.get("hardware")},
        }
    return made


def refuses_partial(manifest: Manifest) -> str | None:
    """Say why a version can never decide by itself at `partial`, None when it may earn it."""
    if manifest.confidence != "none":
        return None
    return (
        f"{manifest.name} gives no confidence, so nothing says which of its answers may stand without a person; "
        "partial is out of reach"
    )


def _sha(raw: Mapping[str, Any]) -> str:
    content = {key: value for key, value in raw.items() if key not in ABOUT}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
