"""For authors of stages: one call that says whether a stage keeps the contract, and all the ways it does not."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tenure.errors import ModelError
from tenure.model.answer import as_prediction, close
from tenure.model.stage import Stage, adapt, call
from tenure.types import Audio, Failed, Image, Prediction

_TOLERANCE = 1e-3
_THREADS = 4
_ROUNDS = 3


def check_stage(thing: Any, samples: Sequence[Any], *, files: Path | None = None, final: bool = True) -> None:
    """Check a stage (anything that `tenure.register` takes) against the contract, with at least two samples.

    Checked: it loads; one answer for each item; the batch answers as its items do alone, in their order, in any
    batch; inputs are left alone; the same input gets the same answer again; confidences are in [0, 1]; one item
    that cannot be answered costs no other; several threads may call it at once.

    `files` is handed to `load`. With `final` false (a stage before the last) the answers need not be predictions.

    Raises:
        AssertionError: listing every fault that was found.
        ValueError: fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError("give at least two different samples: order cannot be seen on one")
    try:
        stage = adapt(thing)
        stage.load(files or Path("."))
    except Exception as error:  # whatever a user's code raises is the finding
        raise AssertionError(f"the stage does not load: {type(error).__name__}: {error}") from error
    faults = _Check(stage, list(samples), final=final).faults()
    if faults:
        raise AssertionError("the stage breaks the contract:\n" + "\n".join(f"- {f}" for f in faults))


class _Check:
    """One stage, its samples, and what it answers to each of them alone."""

    def __init__(self, stage: Stage, samples: list[Any], *, final: bool) -> None:
        self._stage = stage
        self._samples = samples
        self._final = final
        self._alone: list[Any] = []

    def faults(self) -> list[str]:
        found = _mutations(self._stage, self._samples)
        try:
            self._alone = [self._answers([s])[0] for s in self._samples]
        except ModelError as error:
            return [*found, error.message]
        checks: tuple[Callable[[], list[str]], ...] = (
            self._unanswered,
            self._batches,
            self._repeats,
            self._isolation,
            self._threads,
        )
        for check in checks:
            try:
                found += check()
            except ModelError as error:
                found.append(error.message)
        return list(dict.fromkeys(found))

    def _answers(self, batch: list[Any]) -> list[Any]:
        given = call(self._stage, [_copy(item) for item in batch])
        return [as_prediction(answer) for answer in given] if self._final else list(given)

    def _unanswered(self) -> list[str]:
        return [f"sample {i}: {a.reason}" for i, a in enumerate(self._alone) if isinstance(a, Failed)]

    def _batches(self) -> list[str]:
        forward = self._differences(self._answers(self._samples), self._alone)
        backward = self._differences(self._answers(self._samples[::-1])[::-1], self._alone)
        return [
            f"sample {i}: the answer in a batch differs from the answer alone (order, or items seeing others)"
            for i in sorted({*forward, *backward})
        ]

    def _repeats(self) -> list[str]:
        again = [self._answers([s])[0] for s in self._samples]
        return [
            f"sample {i}: the same input got another answer the second time"
            for i in self._differences(again, self._alone)
        ]

    def _isolation(self) -> list[str]:
        """Put something in the middle that no stage can answer."""
        half = len(self._samples) // 2
        mixed = [*self._samples[:half], _Poison(), *self._samples[half:]]
        answers = self._answers(mixed)
        del answers[half]
        return [
            f"sample {i}: its answer changed because another item of the batch cannot be answered"
            for i in self._differences(answers, self._alone)
        ]

    def _threads(self) -> list[str]:
        gate = threading.Barrier(_THREADS)

        def work(_: int) -> list[int]:
            gate.wait()
            return [
                i for _ in range(_ROUNDS) for i in self._differences(self._answers(self._samples), self._alone)
            ]

        with ThreadPoolExecutor(_THREADS) as pool:
            differing = {i for found in pool.map(work, range(_THREADS)) for i in found}
        return [f"sample {i}: the answer differs when several threads call the stage" for i in sorted(differing)]

    def _differences(self, answers: list[Any], expected: list[Any]) -> list[int]:
        pairs = enumerate(zip(answers, expected, strict=True))
        return [i for i, (answer, wanted) in pairs if not _equal(answer, wanted)]


class _Poison:
    """An item that is no input of any kind; whatever is done with it fails."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError("a poison item of tenure.checks")


def _mutations(stage: Stage, samples: list[Any]) -> list[str]:
    """Hand over copies without protection and see whether they come back as they were."""
    found = []
    for i, sample in enumerate(samples):
        ours = _copy(sample)
        try:
            list(stage.predict([ours]))
        except Exception:  # noqa: BLE001 - what it raises is found by the other checks
            continue
        if not _untouched(ours, sample):
            found.append(f"sample {i}: the stage changed its input")
    return found


def _copy(item: Any) -> Any:
    if isinstance(item, Image):
        return Image(item.pixels.copy(), item.data, item.media_type, size=item.size, reduced=item.reduced)
    if isinstance(item, Audio):
        return Audio(item.samples.copy(), item.rate, item.data, item.media_type)
    return item if isinstance(item, _Poison) else copy.deepcopy(item)


def _untouched(ours: Any, sample: Any) -> bool:
    if isinstance(sample, Image):
        return np.array_equal(ours.pixels, sample.pixels)
    if isinstance(sample, Audio):
        return np.array_equal(ours.samples, sample.samples)
    if isinstance(sample, np.ndarray):
        return np.array_equal(ours, sample)
    return bool(ours == sample)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Prediction) and isinstance(b, Prediction):
        return close(a, b, _TOLERANCE)
    if isinstance(a, Failed) or isinstance(b, Failed):
        return type(a) is type(b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, atol=_TOLERANCE))
    return bool(a == b)
