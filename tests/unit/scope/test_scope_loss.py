"""Which losses a project may name for which output."""

from __future__ import annotations

import pytest

from tenure.scope.project import Automation, EndpointSpec, LossSpec, Output, Project, Side
from tenure.scope.rules import faults

LABELS = Output(labels=("good", "bad"))


def found(output: Output, loss: LossSpec, **more: object) -> list[str]:
    auto = Automation(errors=None if more else 0.05, loss=loss, **more)  # type: ignore[arg-type]
    spec = EndpointSpec(input="text", output=output, automation=auto)
    return [f.message for f in faults(Project(project="p", endpoints={"e": spec})) if "automation" in f.place]


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        (Output(kind="number"), LossSpec(tolerance=0.5)),
        (Output(regions="box"), LossSpec(iou=0.5)),
        (Output(kind="text"), LossSpec(word_error=0.1)),
        (Output(kind="text"), LossSpec()),
        (LABELS, LossSpec(costs={"bad": {"good": 10.0}})),
    ],
)
def test_a_loss_that_fits_its_output(output: Output, loss: LossSpec) -> None:
    assert found(output, loss) == []


@pytest.mark.parametrize(
    ("output", "loss", "told"),
    [
        (LABELS, LossSpec(tolerance=0.5), "needs an output with kind: number"),
        (LABELS, LossSpec(iou=0.5), "needs an output with regions: box"),
        (LABELS, LossSpec(costs={"bad": {"god": 1.0}}), "expected one of the labels good, bad, got god"),
        (Output(kind="number"), LossSpec(), "needs automation.loss.tolerance"),
        (Output(kind="number"), LossSpec(tolerance=-1.0), "expected at least 0"),
        (Output(kind="text", regions="box"), LossSpec(iou=0.5, word_error=0.1), "expected one way to be wrong"),
    ],
)
def test_a_loss_that_does_not_fit(output: Output, loss: LossSpec, told: str) -> None:
    assert any(told in message for message in found(output, loss))


def test_bounds_by_label_need_labels() -> None:
    messages = found(Output(kind="text"), LossSpec(), sides={"x": Side(errors=0.1)})
    assert any("has no labels" in m for m in messages)
