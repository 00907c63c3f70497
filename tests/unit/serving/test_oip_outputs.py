"""From answers to tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tenure.deploy.serving.oip.outputs import Outputs, deciders, undecided
from tenure.errors import BusyError, CaseError
from tenure.scope.project import Output
from tenure.types import Answer, Box, Decision, Prediction

LABELS = Output(labels=("good", "bad"), regions="box")
BOX = Box(1.0, 2.0, 3.0, 4.0, "bad")
DECIDED = Answer(
    "i1", "decided", Decision("bad", "model", "m@1", 0.75, (BOX,)),
    Prediction("bad", 0.75, {"bad": 0.75, "good": 0.25}),
)  # fmt: skip
PENDING = Answer("i2", "pending", None, Prediction("good", 0.5, {"good": 0.5}))
UNSEEN = Answer("i3", "pending")
FAILED = BusyError("no room")
REPLIES = [DECIDED, PENDING, UNSEEN, FAILED]


def values(name: str, output: Output = LABELS) -> Any:
    return Outputs("m", output).tensor(name, REPLIES).data.tolist()


def test_each_row_has_its_value_status_and_id() -> None:
    assert values("value") == [b"bad", b"", b"", b""]
    assert values("status") == [b"decided", b"pending", b"pending", b"failed"]
    assert values("id") == [b"i1", b"i2", b"i3", b""]
    assert values("version") == [b"m@1", b"", b"", b""]
    assert values("error") == [b"", b"", b"", b"no room"]
    assert json.loads(values("regions")[0])[0]["label"] == "bad"


def test_what_nobody_may_see_is_nan() -> None:
    nan = np.nan
    np.testing.assert_array_equal(values("confidence"), [0.75, 0.5, nan, nan])
    np.testing.assert_array_equal(values("probabilities"), [[0.25, 0.75], [0.5, 0.0], [nan, nan], [nan, nan]])


def test_numbers_are_numbers() -> None:
    output = Output(kind="number")
    replies = [Answer("i", "decided", Decision(3, "model", "m@1")), PENDING]
    tensor = Outputs("m", output).tensor("value", replies)
    assert tensor.datatype == "FP64"
    np.testing.assert_array_equal(tensor.data, [3.0, np.nan])


def test_other_values_are_spelled_as_json() -> None:
    replies = [Answer("i", "decided", Decision(v, "model", "m@1")) for v in (True, 4, 0.5, None, "größer")]
    assert Outputs("m", Output()).tensor("value", replies).data.tolist() == [
        b"true", b"4", b"0.5", b"", "größer".encode(),
    ]  # fmt: skip


def test_the_metadata_name_every_output_and_the_usual_ones_are_fewer() -> None:
    outputs = Outputs("m", LABELS)
    told = {m.name: (m.datatype, m.shape) for m in outputs.metadata}
    assert told["probabilities"] == ("FP32", (-1, 2))
    assert outputs.usual == ("value", "confidence", "probabilities", "regions")
    for name, (datatype, shape) in told.items():
        tensor = outputs.tensor(name, REPLIES)
        assert (tensor.datatype, len(tensor.shape)) == (datatype, len(shape))
    assert Outputs("m", Output(kind="text")).usual == ("value", "confidence")


def test_the_highest_classes_come_first() -> None:
    tensor = Outputs("m", LABELS).classes("probabilities", [DECIDED], 5)
    assert tensor.data.tolist() == [[b"0.750000:1:bad", b"0.250000:0:good"]]
    with pytest.raises(CaseError, match="no classes"):
        Outputs("m", LABELS).classes("value", [DECIDED], 1)


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(CaseError, match="unexpected inference output 'x'") as refused:
        Outputs("m", Output()).expect(["value", "x"])
    assert refused.value.status == 400


def test_who_waits_and_who_decided() -> None:
    assert undecided(REPLIES) == ["i2", "i3"]
    assert deciders(REPLIES) == {"m@1"}
