"""The automation-bias meter: on simulated readers whose leaning is known, and over real tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import bias
from tenure.deploy.automation.bias import Reading, measure
from tenure.scope.project import LossSpec, SecondReader


def readers(n: int, *, shown: float, alone: float, q: float, seed: int = 1) -> list[Reading]:
    """Readers of wrong suggestions who follow with these rates; a follower is read again with chance q."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(n):
        blind = bool(rng.random() < 0.5)
        follows = bool(rng.random() < (alone if blind else shown))
        again = rng.random() < (q if follows else 1.0)
        out.append(
            Reading(blind, follows, True if again else None, (1.0 / q if follows else 1.0) if again else 1.0)
        )
    return out


def test_leaning_is_measured_although_followers_are_rarely_read_again() -> None:
    found = measure(readers(6000, shown=0.5, alone=0.1, q=0.2))
    assert found.shown.share == pytest.approx(0.5, abs=0.06)
    assert found.blind.share == pytest.approx(0.1, abs=0.04)
    assert found.shown_worse
    assert "people lean on the model" in found.sentence
    naive = [r for r in readers(6000, shown=0.5, alone=0.1, q=0.2) if r.wrong and not r.blind]
    assert sum(r.follows for r in naive) / len(naive) < 0.25  # without weights half of the leaning is hidden


def test_no_leaning_is_rarely_claimed() -> None:
    claimed = sum(measure(readers(400, shown=0.2, alone=0.2, q=0.5, seed=s)).shown_worse for s in range(100))
    assert claimed <= 5


def test_without_readings_it_says_what_is_missing() -> None:
    found = measure([])
    assert found.shown.share is None
    assert found.sentence.startswith("needs 60 more wrong suggestions that were shown and 60 more read blind")
    assert not found.shown_worse


def test_first_readings_over_real_tables(state: State) -> None:
    rows = [  # judged, blind, truth, source, kind
        ("bad", 0, "good", "adjudicated", "uncertain"),
        ("good", 1, "good", "agreed", "uncertain"),
        ("bad", 0, "bad", "single", "uncertain"),
        ("bad", 0, "good", "outcome", "uncertain"),
        ("bad", 1, "good", "adjudicated", "audit"),
    ]
    with state.begin() as conn:
        for n, (judged, blind, truth, source, kind) in enumerate(rows, 1):
            name = f"i{n}"
            item = {
                "id": name, "number": n, "endpoint": "e", "kind": kind, "state": "resolved", "blind": blind,
                "required": 1, "pending": 0, "priority": 0.0, "audit_prob": 1.0, "unit": "", "policy": 1,
                "level": "assist", "version": "e@1", "arm": "stable", "share": 1.0, "lottery": 0,
                "media_type": "x/y", "created_us": n, "deadline_us": 0, "truth": json.dumps(truth),
                "source": source,
            }  # fmt: skip
            said = {
                "item": name, "version": "e@1", "role": "primary", "value": '"bad"', "confidence": 0.5,
                "regions": "[]", "automated": 0, "at_us": n,
            }  # fmt: skip
            told = {
                "item": name, "reader": "ann", "role": "reader", "value": json.dumps(judged), "regions": "[]",
                "blind": blind, "late": 0, "seconds": 1.0, "at_us": n, "key": f"k{n}",
            }  # fmt: skip
            conn.execute(t.review_items.insert().values(**item))
            conn.execute(t.item_predictions.insert().values(**said))
            conn.execute(t.judgements.insert().values(**told))
            later = {**told, "reader": "bob", "value": '"good"', "blind": 1, "key": f"l{n}"}
            conn.execute(t.judgements.insert().values(**later))
    with state.read() as conn:
        found = bias.read(conn, "e", LossSpec(), SecondReader(agreements=0.05), 1)
    assert found == [
        Reading(False, True, True, 1.0),
        Reading(False, True, None, 1.0),
        Reading(True, False, True, 1.0),
        Reading(False, True, True, 20.0),
    ]
