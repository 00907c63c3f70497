"""What a training command left in `TENURE_OUTPUT`, checked before anything is registered."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from tenure.errors import ModelError

METRICS, SCORES, FILES, BUNDLE, BUNDLES = "metrics.json", "pilot_scores.json", "files", "bundle", "bundles"
MAX_JSON = 16 * 2**20


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A command's output: new weights in `files`, or a whole `bundle`; one of both."""

    metrics: dict[str, Any]
    files: Path | None = None
    bundle: Path | None = None
    pilot_scores: dict[str, list[float]] | None = None


def read_output(folder: Path) -> Left:
    """Read what a command left.

    Raises:
        ModelError: saying which file is missing or wrong, and what was expected.
    """
    files = folder / FILES if (folder / FILES).is_dir() else None
    bundle = _bundle(folder)
    if files is not None and bundle is not None:
        raise _wrong(f"both {FILES}/ and a bundle are there; leave one of them", FILES)
    if files is None and bundle is None:
        raise _wrong(f"expected {FILES}/ with new weights or a folder {BUNDLE}/; {_listing(folder)}", FILES)
    if files is not None and not any(p.is_file() for p in files.rglob("*")):
        raise _wrong(f"{FILES}/ is empty", FILES)
    scores = _scores(folder / SCORES)
    if scores is not None and bundle is not None:
        raise _wrong(f"{SCORES} belongs into the bundle: pass pilot_scores to bundle.build", SCORES)
    return Left(metrics=_metrics(folder / METRICS), files=files, bundle=bundle, pilot_scores=scores)


def _bundle(folder: Path) -> Path | None:
    """Return `bundle/`, or the one folder in `bundles/`, which is where `bundle.build` puts it."""
    if (folder / BUNDLE).is_dir():
        return folder / BUNDLE
    made = sorted(p for p in (folder / BUNDLES).glob("*") if p.is_dir() and not p.name.startswith("."))
    if len(made) > 1:
        raise _wrong(f"{BUNDLES}/ holds {len(made)} bundles; leave one", BUNDLES)
    return made[0] if made else None


def _metrics(path: Path) -> dict[str, Any]:
    found = _json(path, f'a JSON object such as {{"error": 0.031}} in {METRICS}')
    if not isinstance(found, dict):
        raise _wrong(f"{METRICS}: expected a JSON object, got a {type(found).__name__}", METRICS)
    return found


def _scores(path: Path) -> dict[str, list[float]] | None:
    if not path.exists():
        return None
    expected = f'label -> list of confidences in {SCORES}, such as {{"good": [0.93, 0.71]}}'
    try:
        found = msgspec.convert(_json(path, expected), dict[str, list[float]])
    except msgspec.ValidationError as error:
        raise _wrong(f"{SCORES}: {error}; expected {expected}", SCORES) from error
    for label, scores in found.items():
        bad = [s for s in scores if not (math.isfinite(s) and 0.0 <= s <= 1.0)]
        if bad:
            raise _wrong(f"{SCORES}: {label} has {bad[0]!r}; a confidence is in [0, 1]", SCORES)
    return found


def _json(path: Path, expected: str) -> Any:
    if path.is_symlink() or not path.is_file():
        raise _wrong(f"expected {expected}; there is no such file", path.name)
    if path.stat().st_size > MAX_JSON:
        raise _wrong(f"{path.name} is larger than {MAX_JSON // 2**20} MiB", path.name)
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"{path.name} is not valid JSON: {error}", path.name) from error


def _listing(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    return f"there is only: {', '.join(names[:8])}" if names else "the folder is empty"


def _wrong(message: str, at: str) -> ModelError:
    return ModelError(f"the training command's output: {message}", at=at, code="bad_output")
