"""The versions that the story needs: trained on the spot, registered as anybody would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tenure.clock import SystemClock
from tenure.data.state import State
from tenure.demo.inspection import detector, photos, train
from tenure.demo.inspection.photos import Photo
from tenure.demo.inspection.project import ENDPOINT, OPERATOR
from tenure.demo.inspection.train import Trained
from tenure.model.bundle import Sample
from tenure.model.manifest import StageRef
from tenure.model.registry import Registry
from tenure.scope.project import Project
from tenure.system import state_url

FIRST, MORE, PILOT, HELD_OUT = 800, 800, 300, 300
"""Photos for version 1, those that version 2 gets on top, unlabelled ones for the pilots, ones to measure on."""

_TRAINING, _TESTING, _PILOT = 1_000_003, 1_000_033, 1_000_037


def first_photos(seed: int) -> list[Photo]:
    """Return the photos that version 1 is trained on."""
    return list(photos.series(seed + _TRAINING, FIRST))


def more_photos(seed: int) -> list[Photo]:
    """Return the photos that version 2 is trained on, too."""
    return list(photos.series(seed + _TRAINING, MORE, start=FIRST))


def pilot_photos(seed: int) -> list[Photo]:
    """Return photos whose labels nobody looks at: their confidences fix the certificate's thresholds."""
    return list(photos.series(seed + _PILOT, PILOT))


def test_photos(seed: int) -> list[Photo]:
    """Return photos that no version is trained on."""
    return list(photos.series(seed + _TESTING, HELD_OUT))


def register(project: Project, trained: Trained, *, sample: Photo, pilot: Sequence[Photo]) -> str:
    """Register a version with its sample input and the confidences of the pilot; returns its id.

    The expected output is what it answers to the sample now; every process that loads it compares.
    """
    state = State.open(state_url(project), SystemClock())
    try:
        with TemporaryDirectory() as folder:
            return Registry(state, project.folder()).register(
                ENDPOINT,
                [StageRef("detector", "detector:Detector")],
                spec=project.endpoints[ENDPOINT],
                output=project.output(ENDPOINT),
                sample=Sample(sample.data, "image/jpeg"),
                files=trained.write(Path(folder) / "files"),
                code=[Path(detector.__file__)],
                name="detector",
                by=OPERATOR,
                pilot_scores=train.scores_by_answer(trained, pilot) if pilot else None,
            )
    finally:
        state.close()
