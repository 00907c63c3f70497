"""How many people the reviews of an endpoint need: measured where there are judgements, else stated guesses."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.scope.project import Budget, EndpointSpec

SECONDS = 10.0
DISAGREE = 0.05
"""Guesses until there are judgements: seconds of one, and how often people differ from the model."""
_ENOUGH = 30


class Pace(msgspec.Struct, frozen=True):
    """Seconds of a judgement and judgements of an item; None where too few were made to say."""

    seconds: float | None
    readings: float | None


class Need(msgspec.Struct, frozen=True):
    """Judgements an hour that the endpoint asks for, and how many there can be; None = the file does not say."""

    per_hour: float
    people: float
    budget_per_hour: float | None

    @property
    def is_enough(self) -> bool | None:
        return None if self.budget_per_hour is None else self.per_hour <= self.budget_per_hour


def pace(conn: Connection, endpoint: str) -> Pace:
    """Return how long judgements take and how many an item takes, from those that were made."""
    j, i = t.judgements.c, t.review_items.c
    made = t.judgements.join(t.review_items, j.item == i.id)
    mine = (i.endpoint == endpoint, j.skip.is_(None))
    times = sa.select(sa.func.count(), sa.func.avg(j.seconds)).select_from(made).where(*mine, j.seconds > 0)
    count, seconds = conn.execute(times).one()
    done = sa.select(sa.func.count(), sa.func.count(sa.distinct(j.item))).select_from(made)
    readings, items = conn.execute(done.where(*mine, i.state == "resolved")).one()
    return Pace(
        float(seconds) if count >= _ENOUGH else None, float(readings) / items if items >= _ENOUGH else None
    )


def readings_of(spec: EndpointSpec) -> float:
    """Return the judgements of an item by the file, where people differ from the model now and then."""
    review = spec.review
    if review.readers > 1:
        return float(review.readers)
    second = review.second_reader
    return 1.0 + DISAGREE * second.disagreements + (1.0 - DISAGREE) * second.agreements


def reviewed_share(spec: EndpointSpec, automated: float) -> float:
    """Return the share of requests that people see: all that are not automated, and audits of those that are."""
    return 1.0 - automated + automated * spec.automation.audit.steady


def need(*, per_second: float, readings: float, seconds: float, budget: Budget) -> Need:
    """Return what so many reviewed requests a second ask of people.

    `scope.budget.reviews_per_hour` is what they can do together; without it `people` can do one judgement after
    the other.
    """
    per_hour = per_second * 3600.0 * readings
    able = budget.reviews_per_hour
    if able is None and budget.people is not None:
        able = budget.people * 3600.0 / seconds
    return Need(per_hour, per_hour * seconds / 3600.0, able)
