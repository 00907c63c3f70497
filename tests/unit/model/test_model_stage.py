"""A user's code under the contract: every way to write a stage, and every way to break one."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tenure.errors import ModelError
from tenure.model.columns import Columns
from tenure.model.stage import adapt, call, run_stage
from tenure.types import Audio, Box, Failed, Image, Prediction


class Upper:
    def predict(self, texts: list[str]) -> list[Prediction]:
        return [Prediction(t.upper(), 0.9) for t in texts]


class AsyncUpper:
    async def predict(self, texts: list[str]) -> list[str]:
        await asyncio.sleep(0)
        return [t.upper() for t in texts]


class OneByOne:
    def predict_one(self, text: str) -> str:
        return text.upper()


class AsyncOne:
    async def predict_one(self, text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()


class Called:
    def __call__(self, texts: list[str]) -> list[str]:
        return [t.upper() for t in texts]


def batch_function(texts: list[str]) -> list[str]:
    return [t.upper() for t in texts]


def unannotated(texts):  # type: ignore[no-untyped-def]
    return [t.upper() for t in texts]


def item_function(text: str) -> str:
    return text.upper()


async def async_function(texts: list[str]) -> list[str]:
    return [t.upper() for t in texts]


def generator(texts: list[str]) -> Iterator[str]:
    yield from (t.upper() for t in texts)


WAYS = [
    Upper,
    Upper(),
    AsyncUpper,
    OneByOne,
    AsyncOne,
    Called(),
    batch_function,
    unannotated,
    item_function,
    async_function,
    generator,
    lambda texts: [t.upper() for t in texts],
]


@pytest.mark.parametrize("thing", WAYS)
def test_every_way_to_write_a_stage_gives_predictions(thing: Any) -> None:
    answers = run_stage(adapt(thing), ["a", "b"])
    assert [a.value for a in answers if isinstance(a, Prediction)] == ["A", "B"]


@pytest.mark.parametrize("thing", [5, object(), "my:Stage", None])
def test_what_is_no_stage_is_refused(thing: Any) -> None:
    with pytest.raises(ModelError, match="expected a class or object"):
        adapt(thing)


def test_a_class_that_needs_arguments_is_refused() -> None:
    class Needs:
        def __init__(self, size: int) -> None:
            self.size = size

    with pytest.raises(ModelError, match="without arguments"):
        adapt(Needs)


def test_load_gets_the_files_and_may_be_async_or_absent(tmp_path: Path) -> None:
    class Loads:
        async def load(self, files: Path) -> None:
            self.files = files

        def predict(self, batch: list[str]) -> list[str]:
            return [self.files.name] * len(batch)

    stage = adapt(Loads)
    stage.load(tmp_path)
    adapt(batch_function).load(tmp_path)
    assert run_stage(stage, ["x"]) == [Prediction(tmp_path.name)]


class Row(msgspec.Struct):
    a: float


@dataclasses.dataclass
class DataRow:
    a: float


def with_struct(rows: list[Row]) -> list[float]:
    return [row.a for row in rows]


def with_dataclass(rows: list[DataRow]) -> list[float]:
    return [row.a for row in rows]


def one_struct(row: Row) -> float:
    return row.a


def with_columns(rows: Columns) -> np.ndarray:
    return rows.matrix("a")[:, 0]


@pytest.mark.parametrize("function", [with_struct, with_dataclass, one_struct, with_columns])
def test_records_arrive_as_the_annotation_says(function: Callable[..., Any]) -> None:
    assert run_stage(adapt(function), [{"a": 1.0}, {"a": 2.0}]) == [Prediction(1.0), Prediction(2.0)]


def test_a_row_that_does_not_convert_fails_alone() -> None:
    good, bad = run_stage(adapt(with_struct), [{"a": 1.0}, {"a": "x"}])
    assert good == Prediction(1.0)
    assert isinstance(bad, Failed)


def test_arrays_arrive_as_pixels_or_samples() -> None:
    def sums(items: list[np.ndarray]) -> list[float]:
        return [float(item.sum()) for item in items]

    photo = Image(np.ones((2, 3), dtype=np.uint8))
    clip = Audio(np.ones(4, dtype=np.float32), 8000)
    assert run_stage(adapt(sums), [photo, clip]) == [Prediction(6.0), Prediction(4.0)]


def test_columns_show_numbers_with_nan_and_texts_as_objects() -> None:
    columns = Columns([{"a": 1, "b": "x", "c": True}, {"a": None, "b": None, "c": False}])
    assert (columns.rows, list(columns), len(columns)) == (2, ["a", "b", "c"], 3)
    np.testing.assert_array_equal(columns.matrix("c", "a", "missing"), [[1, 1, np.nan], [0, np.nan, np.nan]])
    assert not columns["a"].flags.writeable
    with pytest.raises(ValueError, match="'b' is not numeric"):
        columns.matrix()


def test_only_the_poisonous_items_fail() -> None:
    calls: list[int] = []

    def picky(texts: list[str]) -> list[str]:
        calls.append(len(texts))
        if any(t.startswith("bad") for t in texts):
            raise ValueError(f"cannot read {texts}")
        return [t.upper() for t in texts]

    batch = [f"ok{i}" for i in range(32)]
    batch[5] = batch[20] = "bad"
    answers = run_stage(adapt(picky), batch)
    assert [i for i, a in enumerate(answers) if isinstance(a, Failed)] == [5, 20]
    assert [a.value for a in answers if isinstance(a, Prediction)] == [t.upper() for t in batch if t != "bad"]
    assert len(calls) <= 1 + 2 * 2 * 5
    assert answers[5] == Failed("ValueError: cannot read ['bad']")


def test_a_generator_that_raises_half_way_is_halved_too() -> None:
    def half(texts: list[str]) -> Iterator[str]:
        for text in texts:
            if text == "bad":
                raise RuntimeError("no")
            yield text

    kinds = [type(a) for a in run_stage(adapt(half), ["a", "bad", "c"])]
    assert kinds == [Prediction, Failed, Prediction]


@pytest.mark.parametrize("answers", [[], ["a"], ["a"] * 3, "ab", None, {"a": 1, "b": 2}, 5, Prediction("a")])
def test_another_number_of_answers_breaks_the_contract(answers: Any) -> None:
    with pytest.raises(ModelError):
        run_stage(adapt(lambda _: answers), ["x", "y"])


def test_inputs_cannot_be_changed() -> None:
    photo = Image(np.zeros((2, 2), dtype=np.uint8))
    record = {"a": 1, "nested": {"b": [1]}}

    def paints(photos: list[Image]) -> list[int]:
        for p in photos:
            p.pixels[0, 0] = 9
        return [1] * len(photos)

    def scribbles(records: list[dict[str, Any]]) -> list[int]:
        for r in records:
            r["a"] = 2
            r["nested"]["b"].append(3)
        return [1] * len(records)

    assert isinstance(run_stage(adapt(paints), [photo])[0], Failed)
    assert photo.pixels.sum() == 0
    assert run_stage(adapt(scribbles), [record]) == [Prediction(1)]
    assert record == {"a": 1, "nested": {"b": [1]}}


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), -0.1, 1.1, "high", np.float32("nan")])
def test_a_confidence_that_is_no_chance_fails_its_item(confidence: Any) -> None:
    good, bad = run_stage(adapt(lambda _: [Prediction("a", 0.5), Prediction("a", confidence)]), ["x", "y"])
    assert good == Prediction("a", 0.5)
    assert isinstance(bad, Failed)


@pytest.mark.parametrize(
    "answer",
    [
        float("nan"),
        np.float64("inf"),
        2**70,
        object(),
        ["a"],
        Prediction(float("nan")),
        Prediction("a", regions=("box",)),  # type: ignore[arg-type]
        Prediction("a", regions=(Box(float("nan"), 0, 1, 1, "x"),)),
        Prediction("a", regions=(Box(0, 0, 1, 1, "x", 2.0),)),
        Prediction("a", probabilities={"a": 1.5}),
        Prediction("a", probabilities={"a": None}),  # type: ignore[dict-item]
        Prediction("a", probabilities=5),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_no_prediction_fails_its_item(answer: Any) -> None:
    assert isinstance(run_stage(adapt(lambda _: [answer]), ["x"])[0], Failed)


def test_numpy_values_and_rounding_become_plain() -> None:
    box = Box(np.float32(1), np.int64(2), 3, 4, "s", np.float32(0.5))  # type: ignore[arg-type]
    given = Prediction(np.str_("a"), np.float32(1.0000001), {"a": np.float32(1)}, [box])  # type: ignore[arg-type]
    (found,) = run_stage(adapt(lambda _: [given]), ["x"])
    assert found == Prediction("a", 1.0, {"a": 1.0}, (Box(1.0, 2.0, 3.0, 4.0, "s", 0.5),))
    assert msgspec.json.encode(found)
    values = [
        a.value for a in run_stage(adapt(lambda _: np.array([1, 2])), ["x", "y"]) if isinstance(a, Prediction)
    ]
    assert values == [1, 2]
    assert all(type(v) is int for v in values)


def test_stages_before_the_last_may_return_anything() -> None:
    assert call(adapt(lambda batch: [(x, len(x)) for x in batch]), ["a", "bc"]) == [("a", 1), ("bc", 2)]
    assert call(adapt(batch_function), []) == []


def test_an_async_stage_on_the_event_loops_own_thread_is_refused_with_the_remedy() -> None:
    async def inline() -> None:
        run_stage(adapt(AsyncUpper), ["a"])

    with pytest.raises(ModelError, match="placement: thread"):
        asyncio.run(inline())


def test_an_async_stage_runs_on_any_thread() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(run_stage(adapt(AsyncUpper), ["a"])))
    thread.start()
    thread.join()
    assert found == [Prediction("A")]
