"""Immutable, content-addressed folders of model versions: build, open, load, test."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil

from tenure.clock import Clock, SystemClock
from tenure.data.decode import decode
from tenure.data.schema import InputSchema
from tenure.errors import MissingError, ModelError
from tenure.model import code as source
from tenure.model import contents, manifest, trust
from tenure.model.answer import close
from tenure.model.manifest import Manifest, Measured, SampleRef, StageRef
from tenure.model.pipeline import Pipeline
from tenure.model.stage import Stage, adapt
from tenure.model.trust import NOTHING
from tenure.scope.project import EndpointSpec, Output, Trust
from tenure.types import Failed, Input, Prediction

FOLDER = "bundles"
SHORT = 8
_REPEATS = 5
_EXTENSIONS = {"json": "json", "plain": "txt", "jpeg": "jpg", "png": "png", "wav": "wav", "flac": "flac"}


class Bundle(msgspec.Struct, frozen=True):
    """One version of a model on disk."""

    path: Path
    manifest: Manifest
    sha: str

    @property
    def id(self) -> str:
        """The version's id, such as `scratch@9f3c21aa`."""
        return f"{self.manifest.name}@{self.sha[:SHORT]}"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def code(self) -> Path:
        return self.path / "code"

    def sample(self) -> Input:
        """Decode the sample input."""
        ref = self.manifest.sample
        return decode(self.manifest.input, (self.path / ref.file).read_bytes(), ref.media_type)


class Sample(msgspec.Struct, frozen=True):
    """An input as a client sends it."""

    body: bytes
    media_type: str


class Code(msgspec.Struct, frozen=True):
    """Source files below `root`, whose folder structure they keep."""

    root: Path
    files: tuple[Path, ...]


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
    clock: Clock | None = None,
) -> Bundle:
    """Make a bundle in `<folder>/bundles/<sha>`: copy, hash, load, run the sample, and note what it answered.

    `folder` is the data folder. `code` are source files or folders: a file is importable by its name, those of a
    folder by their path in it. `files` is a folder (or one file) of weights, which stages get in `load`. The
    `input` and `fields` of `spec` become the version's input schema. `trusted` is the operator's word on files
    that may run code.

    Raises:
        ModelError: a file is refused, the code cannot be loaded, or the sample is not answered or not repeatably.
        CaseError: the sample is not a valid input of the endpoint.
    """
    manifest.check_name(name)
    with _workspace(folder) as work:
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
        bundle = _rehearse(Bundle(work, made, made.sha()), trusted)
        text = bundle.manifest.text()
        manifest.parse(text)  # what cannot be read back must not be written
        contents.write(work / manifest.FILE, text)
        return _settle(bundle, folder)


def open_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Open a bundle folder; with `verify`, every byte is compared with the manifest.

    Raises:
        ModelError: the folder holds other files than the manifest names, a link, or a changed file.
    """
    found, sha = manifest.read(path)
    bundle = Bundle(path, found, sha)
    if len(path.name) == 64 and path.name != bundle.sha:
        raise ModelError(f"{path.name[:12]}…: the manifest was changed", at=manifest.FILE)
    if verify:
        _verify(bundle)
    return bundle


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


def find_bundle(folder: Path, version: str) -> Path:
    """Return the folder of a version (`name@sha8`) in the data folder, without the state database.

    Raises:
        MissingError: there is none.
    """
    _, _, short = version.partition("@")
    good = len(short) == SHORT and all(c in "0123456789abcdef" for c in short)
    found = sorted((folder / FOLDER).glob(f"{short}*")) if good else []
    if not found:
        raise MissingError(f"no bundle of version {version!r} in {folder / FOLDER}", at=version)
    if len(found) > 1:
        raise ModelError(f"{len(found)} bundles begin with {short}; remove one", at=version)
    return found[0]


def load(bundle: Bundle, *, trusted: Trust = NOTHING, clock: Clock | None = None) -> Pipeline:
    """Load a bundle's stages from its own copy of the code.

    Files that run code when they are loaded are refused here, too, unless the operator pinned them: the bundle
    may have come into the folder by another way than registration, and what is trusted may have changed since.

    Raises:
        ModelError: a file is refused, or a stage cannot be imported, constructed or loaded.
    """
    trust.refuse(bundle.files, bundle.manifest.files, trusted)
    key = bundle.sha[:SHORT]
    stages = [(ref.name, _load_stage(ref, bundle, key)) for ref in bundle.manifest.stages]
    return Pipeline(stages, output=bundle.manifest.output, clock=clock)


def smoke_test(pipeline: Pipeline, bundle: Bundle, *, tolerance: float = 1e-3) -> None:
    """Replay the bundle's sample, alone and in a batch of two, and compare with the expected answer.

    Raises:
        ModelError: the sample failed, or another answer came.
    """
    item = bundle.sample()
    for batch in ([item], [item, item]):
        for result in pipeline.run(batch):
            _compare(result.prediction, bundle, tolerance)


# Building


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
        created="",
        tenure=installed("tenure"),
        python=platform.python_version(),
    )


def _rehearse(draft: Bundle, trusted: Trust) -> Bundle:
    """Load the draft, run its sample, and return it with the expected answer and what was measured."""
    item = draft.sample()
    process = psutil.Process()
    before = process.memory_info().rss
    try:
        pipeline = load(draft, trusted=trusted)
        answer = pipeline.run([item])[0].prediction
        if isinstance(answer, Failed):
            raise ModelError(f"the sample is not answered: {answer.reason}", at="sample")
        gained = max(0, process.memory_info().rss - before) / 2**20
        made = msgspec.structs.replace(
            draft.manifest,
            expected=answer,
            measured=Measured(round(_latency_ms(pipeline, item), 3), round(gained, 1), _hardware()),
        )
        rehearsed = Bundle(draft.path, made, made.sha())
        smoke_test(pipeline, rehearsed)
    finally:
        source.unload(draft.sha[:SHORT])
    return rehearsed


def _latency_ms(pipeline: Pipeline, item: Input) -> float:
    clock = SystemClock()
    times = []
    for _ in range(_REPEATS):
        start = clock.monotonic_ns()
        pipeline.run([item])
        times.append((clock.monotonic_ns() - start) / 1e6)
    return median(times)


def _hardware() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _settle(bundle: Bundle, folder: Path) -> Bundle:
    target = folder / FOLDER / bundle.sha
    bundle.path.chmod(0o755)
    contents.move(bundle.path, target)
    return open_bundle(target)


def _iso(clock: Clock) -> str:
    return datetime.fromtimestamp(clock.now_ns() // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")


# Opening and loading


def _verify(bundle: Bundle) -> None:
    wanted = {f"code/{n}": e for n, e in bundle.manifest.code.items()}
    wanted |= {f"files/{n}": e for n, e in bundle.manifest.files.items()}
    sample = bundle.manifest.sample
    wanted[sample.file] = contents.FileEntry(sample.sha256, sample.size)
    present = set(contents.walk(bundle.path)) - {manifest.FILE}
    if present != wanted.keys():
        odd = sorted(present ^ wanted.keys())[0]
        word = "is not in the manifest" if odd in present else "is missing"
        raise ModelError(f"{bundle.path.name[:12]}: {odd} {word}", at=odd)
    for name, entry in wanted.items():
        if contents.entry(bundle.path / name) != entry:
            raise ModelError(f"{bundle.path.name[:12]}: {name} is not what the manifest says", at=name)


def _load_stage(ref: StageRef, bundle: Bundle, key: str) -> Stage:
    thing = source.resolve(ref.uses, bundle.code, key)
    try:
        if ref.options:
            thing = thing(**ref.options)
        stage = adapt(thing)
        stage.load(bundle.files)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"stage {ref.name} cannot be loaded: {type(error).__name__}: {error}", at=ref.uses
        ) from error
    return stage


def _compare(answer: Prediction | Failed, bundle: Bundle, tolerance: float) -> None:
    if isinstance(answer, Failed):
        raise ModelError(f"the sample is not answered: {answer.reason}", at=bundle.id, code="smoke_test")
    if not close(answer, bundle.manifest.expected, tolerance):
        wanted, got = _short(bundle.manifest.expected), _short(answer)
        raise ModelError(
            f"the sample is answered differently: expected {wanted}, got {got}", at=bundle.id, code="smoke_test"
        )


def _short(prediction: Prediction) -> str:
    text = f"{prediction.value!r}"[:80]
    if prediction.confidence is not None:
        text += f" at {prediction.confidence:.4f}"
    return f"{text} with {len(prediction.regions)} regions" if prediction.regions else text
