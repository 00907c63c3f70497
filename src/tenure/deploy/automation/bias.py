"""How often people follow a wrong suggestion: first readings that saw the answer beside those that did not.

Who sees the answer is drawn by keyed hash, so the two groups differ only in what they saw. What was right must
not come from the first reader alone: it is an outcome, or rests on a second, blind reading. Second readings are
drawn with a chance that depends on whether the first agreed with the model, so each item is weighted by one over
that chance, and the intervals take the effective number of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.scope.project import EndpointSpec, LossSpec, SecondReader
from tenure.stats import interval

LIMIT = 20_000
SEEN = 60
"""Wrong suggestions needed on each side before anything is said about the difference."""


class Reading(msgspec.Struct, frozen=True):
    """The first reading of one item.

    Attributes:
        blind: the reader did not see the model's answer.
        follows: the reader said what the model said.
        wrong: the model was wrong by an independent truth; None without one.
        weight: one over the chance that this reading got an independent truth.
    """

    blind: bool
    follows: bool
    wrong: bool | None
    weight: float = 1.0


class Rate(msgspec.Struct, frozen=True):
    """A share with its exact 95 % interval; `n` readings, worth `effective` equally weighted ones."""

    share: float | None
    low: float
    high: float
    n: int
    effective: float


class Bias(msgspec.Struct, frozen=True):
    """People with and without the suggestion.

    Attributes:
        shown: share of wrong suggestions that were followed by those who saw them.
        blind: share of the same answers that others gave by themselves.
        agree_shown: share of all readings that agree with the model, suggestion seen.
        agree_blind: the same, unseen; the difference needs no truth.
        shown_worse: the intervals of `shown` and `blind` do not overlap, and `shown` is the higher one.
        sentence: in words.
    """

    shown: Rate
    blind: Rate
    agree_shown: Rate
    agree_blind: Rate
    shown_worse: bool
    sentence: str


def measure(readings: Sequence[Reading]) -> Bias:
    """Return how far a shown suggestion moves people."""
    parts = {blind: [r for r in readings if r.blind == blind] for blind in (False, True)}
    wrong = {blind: [r for r in part if r.wrong] for blind, part in parts.items()}
    shown, alone = _rate(wrong[False]), _rate(wrong[True])
    agree = {
        blind: _rate([msgspec.structs.replace(r, weight=1.0) for r in part]) for blind, part in parts.items()
    }
    worse = shown.n > 0 and alone.n > 0 and shown.low > alone.high
    return Bias(shown, alone, agree[False], agree[True], worse, _sentence(shown, alone, worse=worse))


def of(conn: Connection, endpoint: str, spec: EndpointSpec, segment: str = "") -> Bias:
    """Measure the newest first readings of a segment's items on which people decide beside the model."""
    second, readers = spec.review.second_reader, spec.review.readers
    return measure(read(conn, endpoint, spec.automation.loss, second, readers, segment=segment))


def read(
    conn: Connection, endpoint: str, by: LossSpec, second: SecondReader, readers: int, *, segment: str = ""
) -> list[Reading]:
    """Return the first readings of items whose answer could have been shown, newest first."""
    i, j, p = t.review_items.c, t.judgements.c, t.item_predictions.c
    first = (
        sa.select(j.item, sa.func.min(j.id).label("id"))
        .where(j.role == "reader", j.skip.is_(None), j.supersedes.is_(None))
        .group_by(j.item)
        .subquery()
    )
    query = (
        sa.select(
            j.value.label("judged"), j.regions.label("judged_regions"), j.blind, p.value, p.regions,
            i.state, i.source, i.truth, i.truth_regions,
        )
        .join(first, first.c.id == j.id)
        .join(t.review_items, i.id == j.item)
        .join(t.item_predictions, (p.item == i.id) & (p.role == "primary"))
        .where(i.endpoint == endpoint, i.segment == segment, i.kind == "uncertain")
        .order_by(i.number.desc())
        .limit(LIMIT)
    )  # fmt: skip
    return [_reading(row, by, second, readers) for row in conn.execute(query).mappings()]


def as_json(found: Bias) -> dict[str, Any]:
    """Return plain values."""
    return dict(msgspec.to_builtins(found))


def _reading(m: sa.RowMapping, by: LossSpec, second: SecondReader, readers: int) -> Reading:
    said, judged = loss.stored(m["value"], m["regions"]), loss.stored(m["judged"], m["judged_regions"])
    follows = loss.of(by, said, judged) == 0.0
    known = m["state"] == "resolved" and m["truth"] is not None and m["source"] != "single"
    chance = second.agreements if follows else second.disagreements
    drawn = m["source"] != "outcome" and readers < 2
    if not known or (drawn and chance <= 0.0):
        return Reading(bool(m["blind"]), follows, None)
    wrong = loss.of(by, loss.stored(m["truth"], m["truth_regions"]), said) > 0.0
    return Reading(bool(m["blind"]), follows, wrong, 1.0 / chance if drawn else 1.0)


def _rate(readings: Sequence[Reading]) -> Rate:
    total = sum(r.weight for r in readings)
    if not readings:
        return Rate(None, 0.0, 1.0, 0, 0.0)
    share = sum(r.weight for r in readings if r.follows) / total
    effective = total**2 / sum(r.weight**2 for r in readings)
    low, high = interval.clopper_pearson(share * effective, effective)
    return Rate(share, low, high, len(readings), effective)


def _sentence(shown: Rate, alone: Rate, *, worse: bool) -> str:
    missing = max(SEEN - shown.n, 0), max(SEEN - alone.n, 0)
    if shown.share is None or alone.share is None or any(missing):
        return (
            f"needs {missing[0]} more wrong suggestions that were shown and {missing[1]} more read blind, "
            "each with a second reading or an outcome"
        )
    told = (
        f"of {shown.n} wrong suggestions that people saw they followed {shown.share:.0%} "
        f"({shown.low:.0%} to {shown.high:.0%}); blind, {alone.share:.0%} ({alone.low:.0%} to {alone.high:.0%}) "
        f"of {alone.n} made the same mistake"
    )
    return f"{told}: {'people lean on the model' if worse else 'no difference is shown'}"
