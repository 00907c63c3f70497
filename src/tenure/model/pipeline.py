"""The stages of one version, run one after the other on a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tenure.clock import Clock, SystemClock
from tenure.data.schema import check_output
from tenure.errors import ModelError
from tenure.model import stage as stages_
from tenure.model.answer import as_prediction
from tenure.model.stage import Stage
from tenure.scope.project import Output
from tenure.types import Failed, Input, Prediction


class Result(msgspec.Struct, frozen=True):
    """One item's answer; `stage_us` is its part of each stage's time, 0 for stages that it did not reach."""

    prediction: Prediction | Failed
    stage_us: tuple[int, ...]


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

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.stages)

    def run(self, batch: Sequence[Input]) -> list[Result]:
        """Answer each input, in order. Nothing that a stage does raises here: it fails its items."""
        values: list[Any] = list(batch)
        times = [[0] * len(self.stages) for _ in batch]
        for number, (name, stage) in enumerate(self.stages):
            alive = [i for i, value in enumerate(values) if not isinstance(value, Failed)]
            if not alive:
                break
            start = self._clock.monotonic_ns()
            answers = _run(name, stage, [values[i] for i in alive])
            each = (self._clock.monotonic_ns() - start) // 1000 // len(alive)
            for i, answer in zip(alive, answers, strict=True):
                values[i] = answer
                times[i][number] = each
        return [Result(self._final(v), tuple(t)) for v, t in zip(values, times, strict=True)]

    def _final(self, value: Any) -> Prediction | Failed:
        prediction = as_prediction(value)
        if self.output is None or isinstance(prediction, Failed):
            return prediction
        return check_output(prediction, self.output)


def _run(name: str, stage: Stage, batch: list[Any]) -> list[Any]:
    try:
        answers = stages_.call(stage, batch)
    except ModelError as error:
        return [Failed(f"stage {name}: {error.message}")] * len(batch)
    return [Failed(f"stage {name}: {a.reason}") if isinstance(a, Failed) else a for a in answers]
