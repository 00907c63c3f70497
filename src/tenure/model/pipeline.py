"""The stages of one version, run one after the other on a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, overload

import msgspec

from tenure.clock import Clock, SystemClock
from tenure.data.schema import check_output
from tenure.errors import ModelError
from tenure.model import stage as stages_
from tenure.model.answer import Scores, as_prediction
from tenure.model.stage import Stage
from tenure.scope.project import Output
from tenure.types import Failed, Image, Input, Prediction


class Result(msgspec.Struct, frozen=True):
    """One item's answer; `stage_us` is its part of each stage's time, 0 for stages that it did not reach."""

    prediction: Prediction | Failed
    stage_us: tuple[int, ...]


class Results(Sequence[Result]):
    """The answers to a batch.

    Attributes:
        predictions: one per item, in order; `Scores` where a classifier answered all of them.
        stage_us: one tuple per item.
    """

    __slots__ = ("predictions", "stage_us")

    def __init__(self, predictions: Sequence[Prediction | Failed], stage_us: Sequence[tuple[int, ...]]) -> None:
        self.predictions, self.stage_us = predictions, stage_us

    def __len__(self) -> int:
        return len(self.predictions)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Result | Results:
        if isinstance(index, slice):
            return Results(self.predictions[index], self.stage_us[index])
        return Result(self.predictions[index], self.stage_us[index])


class Pipeline:
    """A version, loaded.

    Stages before the last may return any value, which is the next stage's input. An item that a stage fails is
    not handed on. Where `output` is given, an answer that is not in its terms fails.
    """

    def __init__(
        self,
        stages: Sequence[tuple[str, Stage]],
        *,
        output: Output | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not stages:
            raise ModelError("a pipeline needs at least one stage", at="pipeline")
        self.stages = tuple(stages)
        self.output = output
        self._clock = clock or SystemClock()
        self.budgets: Mapping[str, float] = {}
        """Stage -> seconds that a batch may spend in it; what is then left to do is given up as late."""
        self._known_terms: tuple[str, ...] | None = None  # labels that were compared with the output before

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.stages)

    def run(self, batch: Sequence[Input]) -> Results:
        """Answer each input, in order. Nothing that a stage does raises here: it fails its items."""
        values: Sequence[Any] = batch
        alive: Sequence[int] = range(len(batch))
        failed: dict[int, Failed] = {}
        spent: list[tuple[Sequence[int], int]] = []
        last = self.stages[-1][0]
        for name, stage in self.stages:
            if not alive:
                break
            start = self._clock.monotonic_ns()
            values = _run(name, stage, values)
            took_us = (self._clock.monotonic_ns() - start) // 1000
            spent.append((alive, took_us // len(alive)))
            if name != last and took_us > self.budgets.get(name, math.inf) * 1e6:
                told = f"stage {name} took {took_us / 1000:g} ms of its {self.budgets[name] * 1000:g} ms"
                late = Failed(told, late=True)
                values = [value if isinstance(value, Failed) else late for value in values]
            if not isinstance(values, Scores) and any(isinstance(value, Failed) for value in values):
                fell = [isinstance(value, Failed) for value in values]
                failed |= {i: value for i, value, f in zip(alive, values, fell, strict=True) if f}
                alive = [i for i, f in zip(alive, fell, strict=True) if not f]
                values = [value for value, f in zip(values, fell, strict=True) if not f]
        if not failed and isinstance(values, Scores) and self._has_terms(values.labels):
            return Results(values, [tuple([each for _, each in spent])] * len(batch))
        return Results(_as_sent(self._merged(values, alive, failed), batch), self._times(len(batch), spent))

    def _merged(
        self, values: Sequence[Any], alive: Sequence[int], failed: dict[int, Failed]
    ) -> Sequence[Prediction | Failed]:
        if isinstance(values, Scores) and self._has_terms(values.labels):
            finals: Sequence[Prediction | Failed] = values
        else:
            finals = [self._final(value) for value in values]
        if not failed:
            return finals
        whole: dict[int, Prediction | Failed] = dict(zip(alive, finals, strict=True))
        whole.update(failed)
        return [whole[i] for i in sorted(whole)]

    def _times(self, n: int, spent: list[tuple[Sequence[int], int]]) -> list[tuple[int, ...]]:
        reached = [each for _, each in spent] + [0] * (len(self.stages) - len(spent))
        if all(len(alive) == n for alive, _ in spent):
            return [tuple(reached)] * n
        times = [[0] * len(self.stages) for _ in range(n)]
        for number, (alive, each) in enumerate(spent):
            for i in alive:
                times[i][number] = each
        return [tuple(t) for t in times]

    def _has_terms(self, labels: tuple[str, ...]) -> bool:
        """Say whether every one of these labels is one that the endpoint may answer."""
        if labels == self._known_terms:
            return True
        if self._are_terms(labels):
            self._known_terms = labels
            return True
        return False

    def _are_terms(self, labels: tuple[str, ...]) -> bool:
        if self.output is None or not self.output.labels:
            return self.output is None or self.output.kind in ("label", "text")
        return set(labels) <= set(self.output.labels)

    def _final(self, value: Any) -> Prediction | Failed:
        prediction = as_prediction(value)
        if self.output is None or isinstance(prediction, Failed):
            return prediction
        return check_output(prediction, self.output)


def _as_sent(
    answers: Sequence[Prediction | Failed], batch: Sequence[Input]
) -> Sequence[Prediction | Failed]:  # fmt: skip
    """Return answers whose regions are in pixels of the pictures as they were sent."""
    if isinstance(answers, Scores) or not any(isinstance(item, Image) and item.reduced > 1 for item in batch):
        return answers
    return [
        msgspec.structs.replace(answer, regions=tuple(map(item.as_sent, answer.regions)))
        if isinstance(answer, Prediction) and answer.regions and isinstance(item, Image)
        else answer
        for answer, item in zip(answers, batch, strict=True)
    ]


def _run(name: str, stage: Stage, batch: Sequence[Any]) -> Sequence[Any]:
    try:
        answers = stages_.call(stage, batch)
    except ModelError as error:
        return [Failed(f"stage {name}: {error.message}")] * len(batch)
    if isinstance(answers, Scores):
        return answers
    return [Failed(f"stage {name}: {a.reason}", a.late) if isinstance(a, Failed) else a for a in answers]
