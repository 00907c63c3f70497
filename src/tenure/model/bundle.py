"""Immutable, content-addressed folders of model versions: open, load, test. `build.py` makes them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tenure.clock import Clock, SystemClock
from tenure.data.decode import decode
from tenure.errors import MissingError, ModelError
from tenure.model import code as source
from tenure.model import contents, manifest, trust
from tenure.model.answer import close
from tenure.model.apart import Apart, Own, Task
from tenure.model.manifest import Manifest, StageRef
from tenure.model.pipeline import Pipeline
from tenure.model.pool import Pool
from tenure.model.stage import Stage, adapt
from tenure.model.trust import NOTHING
from tenure.scope.project import Trust
from tenure.types import Failed, Input, Prediction

FOLDER = "bundles"
SHORT = 8


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


def load(
    bundle: Bundle,
    *,
    trusted: Trust = NOTHING,
    clock: Clock | None = None,
    apart: Mapping[str, Own] | None = None,
) -> Pipeline:
    """Load a bundle's stages from its own copy of the code.

    Files that run code when they are loaded are refused here, too, unless the operator pinned them: the bundle
    may have come into the folder by another way than registration, and what is trusted may have changed since.
    When the pipeline is dropped, its modules are forgotten and its processes end.

    Args:
        bundle: what to load.
        trusted: the operator's word on files that may run code.
        clock: for the times of stages.
        apart: stages that get processes of their own.

    Raises:
        ModelError: a file is refused, or a stage cannot be imported, constructed or loaded.
    """
    key = bundle.sha[:SHORT]
    with source.kept(key) as keep:
        trust.refuse(bundle.files, bundle.manifest.files, trusted)
        loaded = [
            _load_apart(ref, bundle, trusted, own=apart[ref.name], clock=clock or SystemClock())
            if apart and ref.name in apart
            else load_stage(ref, bundle, trusted)
            for ref in bundle.manifest.stages
        ]
        pipeline = pipeline_of(bundle, loaded, clock)
        keep(pipeline)
    return pipeline


class Loaded(NamedTuple):
    """A stage as the pipeline runs it, and the object behind it."""

    stage: Stage
    thing: Any


def load_stages(bundle: Bundle, trusted: Trust) -> list[Loaded]:
    """Load the stages alone; raises ModelError as `load`."""
    trust.refuse(bundle.files, bundle.manifest.files, trusted)
    return [load_stage(ref, bundle, trusted) for ref in bundle.manifest.stages]


def pipeline_of(bundle: Bundle, loaded: Sequence[Loaded], clock: Clock | None = None) -> Pipeline:
    """Return the loaded stages as the bundle's pipeline."""
    named = [(ref.name, each.stage) for ref, each in zip(bundle.manifest.stages, loaded, strict=True)]
    return Pipeline(named, output=bundle.manifest.output, clock=clock)


def smoke_test(pipeline: Pipeline, bundle: Bundle, *, tolerance: float = 1e-3) -> None:
    """Replay the bundle's sample, alone and in a batch of two, and compare with the expected answer.

    Raises:
        ModelError: the sample failed, or another answer came.
    """
    item = bundle.sample()
    for batch in ([item], [item, item]):
        for result in pipeline.run(batch):
            _compare(result.prediction, bundle, tolerance)


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


def _load_apart(ref: StageRef, bundle: Bundle, trusted: Trust, *, own: Own, clock: Clock) -> Loaded:
    task = Task(str(bundle.path), ref.name, trusted, tuple(sys.path))
    members = [Apart(task, limit_s=own.limit_s, clock=clock) for _ in range(own.processes)]
    stage = members[0] if len(members) == 1 else Pool(members)
    stage.load(bundle.files)
    return Loaded(stage, stage)


def load_stage(ref: StageRef, bundle: Bundle, trusted: Trust) -> Loaded:
    """Load one stage into this process.

    Raises:
        ModelError: it cannot be imported, constructed or loaded.
    """
    thing = source.resolve(ref.uses, bundle.code, bundle.sha[:SHORT])
    own = ref.uses.startswith(source.OWN)
    try:
        if ref.options or own:
            thing = thing(**ref.options)
        if own and hasattr(thing, "allow"):
            thing.allow(trusted)
        stage = adapt(thing)
        stage.load(bundle.files)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"stage {ref.name} cannot be loaded: {type(error).__name__}: {error}", at=ref.uses
        ) from error
    return Loaded(stage, thing)


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
