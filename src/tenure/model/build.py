"""Make a bundle: copy code and weights, hash and load them, answer the sample, measure, write the manifest."""

from __future__ import annotations

import platform
import shutil
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, cast

import msgspec

from tenure.clock import Clock, SystemClock
from tenure.data.schema import InputSchema
from tenure.errors import ModelError
from tenure.model import code as source
from tenure.model import contents, manifest
from tenure.model.bundle import (
    FOLDER,
    SHORT,
    Bundle,
    Code,
    Sample,
    load,
    load_stages,
    open_bundle,
    pipeline_of,
    smoke_test,
)
from tenure.model.manifest import Confidence, Manifest, SampleRef, StageRef
from tenure.model.measure import measure
from tenure.model.trust import NOTHING
from tenure.scope.project import EndpointSpec, Output, Trust
from tenure.types import Failed, Prediction

_EXTENSIONS = {"json": "json", "plain": "txt", "jpeg": "jpg", "png": "png", "wav": "wav", "flac": "flac"}
Progress = Callable[[str], None]


def silent(step: str) -> None:
    """Tell nobody."""


def build(
    folder: Path,
    *,
    endpoint: str,
    name: str,
    stages: Sequence[StageRef],
    sample: Sample,
    spec: EndpointSpec,
    output: Output,
    code: Sequence[Path | Code] = (),
    files: Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    pilot_scores: Mapping[str, Sequence[float]] | None = None,
    trusted: Trust = NOTHING,
    measured: bool = False,
    progress: Progress = silent,
    clock: Clock | None = None,
) -> Bundle:
    """Make a bundle in `<folder>/bundles/<sha>`: copy, hash, load, run the sample, and note what it answered.

    `folder` is the data folder. `code` are source files or folders: a file is importable by its name, those of a
    folder by their path in it. `files` is a folder (or one file) of weights, which stages get in `load`. The
    `input` and `fields` of `spec` become the version's input schema. `trusted` is the operator's word on files
    that may run code. With `measured`, a new process measures latency and memory, which takes a few seconds;
    `progress` is told each step.

    Raises:
        ModelError: a file is refused, the code cannot be loaded, or the sample is not answered or not repeatably.
        CaseError: the sample is not a valid input of the endpoint.
    """
    manifest.check_name(name)
    with _workspace(folder) as work:
        progress("copying")
        _fill(work, code, files)
        ref = _write_sample(work, sample)
        draft = _draft(work, endpoint=endpoint, name=name, stages=tuple(stages), sample=ref)
        made = msgspec.structs.replace(
            draft,
            input=InputSchema.of(spec),
            output=output,
            created=_iso(clock or SystemClock()),
            provenance=dict(provenance or {}),
            pilot_scores={side: list(scores) for side, scores in (pilot_scores or {}).items()},
        )
        progress(f"answering the sample ({_size(made)})")
        bundle = _rehearse(Bundle(work, made, made.sha()), trusted)
        if measured:
            progress("measuring latency and memory")
            bundle = _measured(bundle, trusted)
        text = bundle.manifest.text()
        manifest.parse(text)  # what cannot be read back must not be written
        contents.write(work / manifest.FILE, text)
        return _settle(bundle, folder)


def adopt(bundle: Bundle, folder: Path, *, trusted: Trust = NOTHING) -> Bundle:
    """Copy a bundle from elsewhere into `<folder>/bundles/<sha>` after checking every file and its answers.

    Raises:
        ModelError: a file is refused or changed, or the sample is not answered as its maker noted.
    """
    target = folder / FOLDER / bundle.sha
    if target.is_dir():
        return open_bundle(target)
    with _workspace(folder) as work:
        contents.copy_tree(bundle.path, work)
        copied = open_bundle(work)
        smoke_test(load(copied, trusted=trusted), copied)
        return _settle(copied, folder)


# Steps


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """Give a folder beside the finished ones; what is left of it goes away."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=folder / FOLDER))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fill(work: Path, code: Sequence[Path | Code], files: Path | None) -> None:
    (work / "code").mkdir()
    (work / "files").mkdir()
    for part in code:
        for path, relative in _sources(part):
            target = work / "code" / relative
            if not target.exists():
                contents.copy(path, target)
    if files is not None and files.is_dir():
        contents.copy_tree(files, work / "files")
    elif files is not None:
        contents.copy(files, work / "files" / files.name)


def _sources(part: Path | Code) -> Iterator[tuple[Path, Path]]:
    if isinstance(part, Code):
        yield from ((path, path.relative_to(part.root)) for path in part.files)
    elif part.is_dir():
        yield from ((part / n, Path(n)) for n in contents.walk(part) if n.endswith(".py"))
    else:
        yield part, Path(part.name)


def _write_sample(work: Path, sample: Sample) -> SampleRef:
    subtype = sample.media_type.partition(";")[0].rpartition("/")[2].strip().lower()
    name = f"sample.{_EXTENSIONS.get(subtype, 'bin')}"
    contents.write(work / name, sample.body)
    entry = contents.entry(work / name)
    return SampleRef(sample.media_type, name, entry.sha256, entry.size)


def _draft(work: Path, *, endpoint: str, name: str, stages: tuple[StageRef, ...], sample: SampleRef) -> Manifest:
    return Manifest(
        endpoint=endpoint,
        name=name,
        stages=stages,
        files=contents.listing(work / "files"),
        code=contents.listing(work / "code"),
        input=InputSchema("record"),
        output=Output(),
        sample=sample,
        expected=Prediction(None),
        confidence="none",
        created="",
        tenure=installed("tenure"),
        python=platform.python_version(),
    )


def _rehearse(draft: Bundle, trusted: Trust) -> Bundle:
    """Load the draft, run its sample, and return it with the expected answer and what its confidence is worth."""
    item = draft.sample()
    try:
        loaded = load_stages(draft, trusted)
        pipeline = pipeline_of(draft, loaded)
        answer = pipeline.run([item])[0].prediction
        if isinstance(answer, Failed):
            raise ModelError(f"the sample is not answered: {answer.reason}", at="sample")
        worth = _confidence(loaded[-1].thing, answer)
        expected = msgspec.structs.replace(answer, contributions=None)
        made = msgspec.structs.replace(draft.manifest, expected=expected, confidence=worth)
        rehearsed = Bundle(draft.path, made, made.sha())
        smoke_test(pipeline, rehearsed)
    finally:
        source.unload(draft.sha[:SHORT])
    return rehearsed


def _confidence(thing: Any, answer: Prediction) -> Confidence:
    """Return what the last stage says its confidence is worth; a user's code that does not say it is believed."""
    said = getattr(thing, "confidence", None)
    if isinstance(said, str) and said in typing.get_args(Confidence):
        return cast("Confidence", said)
    return "none" if answer.confidence is None else "stated"


def _measured(rehearsed: Bundle, trusted: Trust) -> Bundle:
    """Measure a copy of what is to be written; a version that a new process cannot load is refused."""
    path = rehearsed.path / manifest.FILE
    contents.write(path, rehearsed.manifest.text())
    try:
        measured = measure(rehearsed.path, trusted)
    finally:
        path.unlink()
    made = msgspec.structs.replace(rehearsed.manifest, measured=measured)
    return Bundle(rehearsed.path, made, made.sha())


def _settle(bundle: Bundle, folder: Path) -> Bundle:
    target = folder / FOLDER / bundle.sha
    bundle.path.chmod(0o755)
    contents.move(bundle.path, target)
    return open_bundle(target)


def _size(made: Manifest) -> str:
    count = len(made.files) + len(made.code)
    return f"{count} {'file' if count == 1 else 'files'}, {made.size / 2**20:.1f} MiB"


def _iso(clock: Clock) -> str:
    return datetime.fromtimestamp(clock.now_ns() // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")
