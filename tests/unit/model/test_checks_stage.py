"""`check_stage` passes a stage that keeps the contract and names each way in which one does not."""

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenure.checks import check_stage
from tenure.types import Failed, Image, Prediction

TEXTS = ["a", "bb", "ccc"]


def length(texts: list[str]) -> list[Prediction]:
    return [Prediction(len(t), 1 / len(t)) for t in texts]


def test_a_stage_that_keeps_the_contract_passes() -> None:
    check_stage(length, TEXTS)
    check_stage(lambda batch: [{"words": t.split()} for t in batch], TEXTS, final=False)


def test_photos_can_be_samples() -> None:
    photos = [Image(np.full((4, 4), shade, dtype=np.uint8)) for shade in (10, 200)]
    check_stage(
        lambda batch: [Prediction("light" if p.pixels.mean() > 99 else "dark", 0.7) for p in batch], photos
    )


class Remembers:
    def __init__(self) -> None:
        self.seen = 0

    def predict(self, batch: list[str]) -> list[int]:
        self.seen += len(batch)
        return [self.seen] * len(batch)


class OneThread:
    """Keeps what it loaded where only the loading thread finds it, as a database connection would be."""

    def load(self, files: Path) -> None:
        self.kept = threading.local()
        self.kept.scale = 2

    def predict(self, batch: list[str]) -> list[int]:
        return [len(t) * self.kept.scale for t in batch]


def changes(batch: list[dict[str, Any]]) -> list[int]:
    return [record.pop("a") for record in batch]


def paints(batch: list[Image]) -> list[int]:
    for photo in batch:
        photo.pixels[:] = 0
    return [1] * len(batch)


def sees_others(batch: list[str]) -> list[int]:
    return [len(batch)] * len(batch)


def sorts(batch: list[str]) -> list[str]:
    return sorted(batch, reverse=True)


def drops(batch: list[str]) -> list[str]:
    return batch[1:]


def swallows(batch: list[Any]) -> list[int]:
    try:
        return [len(t) for t in batch]
    except TypeError:
        return [-1] * len(batch)


def doubtful(batch: list[str]) -> list[Prediction]:
    return [Prediction("x", 1.5) for _ in batch]


def refuses_long(batch: list[str]) -> list[Any]:
    return [Failed("too long") if len(t) > 2 else t for t in batch]


@pytest.mark.parametrize(
    ("thing", "samples", "words"),
    [
        (Remembers, TEXTS, "the second time"),
        (lambda batch: [random.random() for _ in batch], TEXTS, "the second time"),
        (changes, [{"a": 1}, {"a": 2}], "changed its input"),
        (paints, [Image(np.ones((2, 2), np.uint8)), Image(np.ones((3, 2), np.uint8))], "changed its input"),
        (sees_others, TEXTS, "differs from the answer alone"),
        (sorts, TEXTS, "differs from the answer alone"),
        (drops, TEXTS, "expected 1, got 0"),
        (swallows, TEXTS, "another item of the batch cannot be answered"),
        (doubtful, TEXTS, "confidence must be in [0, 1]"),
        (refuses_long, TEXTS, "sample 2: too long"),
        (OneThread, TEXTS, "several threads"),
        ("not a stage", TEXTS, "does not load"),
    ],
)
def test_each_fault_is_named(thing: Any, samples: list[Any], words: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_stage(thing, samples)
    assert words in str(caught.value)


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(AssertionError) as caught:
        check_stage(Remembers, TEXTS)
    assert "in a batch" in str(caught.value)
    assert "the second time" in str(caught.value)


def test_one_sample_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two"):
        check_stage(length, ["a"])
