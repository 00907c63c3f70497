"""Read what people were asked about logged requests, and what they said, from the control state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.records import decode_id
from tenure.deploy import loss
from tenure.deploy.replay.traffic import NEVER, Arms, Labels, Traffic
from tenure.deploy.rollout.labels import Told, wrong
from tenure.deploy.rollout.plan import WRONG, Plan

Key = tuple[int, int]
"""(run, seq) of a request."""


class Answer(msgspec.Struct, frozen=True):
    """What one version said; `decided`: it was the decision."""

    said: loss.Stored
    decided: bool


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One request that people were asked about.

    Attributes:
        drawn: it was drawn before routing.
        blind: its reader did not see the answer.
        truth: what they said; None where they did not, or where it was erased.
        resolved_us: when; 0 = never.
        closed_us: when nobody had to judge it any more; 0 = it is open.
        answers: version -> what it said.
    """

    drawn: bool
    blind: bool
    truth: Told
    resolved_us: int
    closed_us: int
    answers: dict[str, Answer]


def items(conn: Connection, endpoint: str, *, secret: bytes, since_us: int, until_us: int) -> dict[Key, Item]:
    """Return the requests of an endpoint in [since, until) that people were asked about.

    Args:
        conn: of the control state.
        endpoint: name.
        secret: the project's, behind its ids.
        since_us: first time of a request.
        until_us: the time after the last.
    """
    i = t.review_items.c
    mine = (i.endpoint == endpoint, i.created_us >= since_us, i.created_us < until_us)
    said = _answers(conn, mine)
    told = (i.truth, i.truth_regions, i.resolved_us, i.deadline_us, i.created_us)
    query = sa.select(i.id, i.lottery, i.blind, i.state, *told).where(*mine)
    found = {}
    for row in conn.execute(query).mappings():
        key = decode_id(row["id"], secret)
        if key is not None:
            found[key] = _item(row, said.get(row["id"], {}))
    return found


def _answers(conn: Connection, mine: Sequence[sa.ColumnElement[bool]]) -> dict[str, dict[str, Answer]]:
    """Return item -> version -> what it said."""
    p = t.item_predictions.c
    query = sa.select(p.item, p.version, p.value, p.regions, p.automated)
    found: dict[str, dict[str, Answer]] = {}
    for row in conn.execute(query.join(t.review_items, t.review_items.c.id == p.item).where(*mine)):
        found.setdefault(row.item, {})[row.version] = Answer((row.value, row.regions), bool(row.automated))
    return found


def _item(row: sa.RowMapping, answers: dict[str, Answer]) -> Item:
    resolved_us = int(row["resolved_us"] or 0) if row["state"] == "resolved" else 0
    expired_us = max(row["deadline_us"], row["created_us"]) if row["state"] == "expired" else 0
    return Item(
        drawn=bool(row["lottery"]),
        blind=bool(row["blind"]),
        truth=(row["truth"], row["truth_regions"]),
        resolved_us=resolved_us,
        closed_us=resolved_us or expired_us,
        answers=answers,
    )


def with_labels(
    traffic: Traffic, found: Mapping[Key, Item], at: Mapping[Key, int], *, plan: Plan, versions: tuple[str, str]
) -> Traffic:
    """Return traffic with what people were asked, and which decisions were wrong by what they said.

    Of a request that one of the versions answered alone, its decision is judged, as in a rollout: where a person
    decided, it is not wrong. Where both answered, both answers are judged, as in shadow.

    Args:
        traffic: without labels.
        found: from `items`.
        at: (run, seq) -> row.
        plan: says what wrong means.
        versions: the candidate and the stable version.
    """
    n = len(traffic.t_ns)
    asked, drawn, blind, told = (np.zeros(n, bool) for _ in range(4))
    resolved, closed = np.full(n, NEVER), np.full(n, NEVER)
    one, two = np.zeros(n, bool), np.zeros(n, bool)
    answered = traffic.known[WRONG]
    known = Arms(answered.candidate.copy(), answered.stable.copy())
    for key, item in found.items():
        row = at.get(key)
        if row is None:
            continue
        asked[row], drawn[row], blind[row], told[row] = True, item.drawn, item.blind, item.truth[0] is not None
        resolved[row], closed[row] = _ns(item.resolved_us), _ns(item.closed_us)
        both = bool(answered.candidate[row] and answered.stable[row])
        for arm, bad, version in ((known.candidate, one, 0), (known.stable, two, 1)):
            answer = item.answers.get(versions[version])
            if both and answer is None:
                arm[row] = False  # this one was not kept, so that it cannot be judged
            elif arm[row]:
                bad[row] = _wrong(plan, item, answer, both=both)
    labels = Labels(asked, drawn, blind, told, resolved, closed)
    return replace(
        traffic, labels=labels, known=traffic.known | {WRONG: known}, bad=traffic.bad | {WRONG: Arms(one, two)}
    )


def _wrong(plan: Plan, item: Item, answer: Answer | None, *, both: bool) -> bool:
    decided: Told = (None, None) if answer is None or not (both or answer.decided) else answer.said
    return bool(wrong(plan.loss, item.truth, item.resolved_us > 0, decided))


def _ns(time_us: int) -> int:
    return time_us * 1000 if time_us else NEVER
