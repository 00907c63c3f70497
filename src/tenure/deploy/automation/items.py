"""Judged items in draw order, as one version answered them; which of them are a fair sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy import loss
from tenure.deploy.automation import chances, rereads
from tenure.deploy.automation.rereads import Reread
from tenure.scope.project import LossSpec
from tenure.types import Level

CHUNK = 250
LOOK_AHEAD = 5000

UNIFORM = tuple(level.word for level in Level if level < Level.PARTIAL)
"""Levels at which every item is judged, so that blindness by hash is the only draw."""

Sample = Literal["fair", "audited", "weighted"]
"""`fair`: the draw did not depend on a score; `audited`: an automated decision drawn to be checked; `weighted`:
every blind item whose chance of being blind and judged is known."""


class Item(msgspec.Struct, frozen=True):
    """One review item with the answer of one version.

    Attributes:
        number: draw order.
        said: the version's answer as text, as the policy's thresholds spell it.
        score: its confidence in [0, 1].
        loss: of the answer, in [0, 1]; None without a truth or where the reader saw the answer.
        closed: the truth has come, or none will come any more.
        single: the truth is one reader's word.
        read: somebody has read it, and another person is wanted.
        reread: set where the first reader agreed and the item was drawn to be read again; None unless asked for.
        ratio: how many times the least chance of a blind label it had, see `chances.ratio`; 1 unless asked for.
    """

    number: int
    said: str
    score: float
    loss: float | None
    closed: bool
    single: bool
    ratio: float = 1.0
    read: bool = False
    reread: Reread | None = None


class Label(msgspec.Struct, frozen=True):
    """One item whose turn came: its loss in [0, 1], or None without a usable truth; else as `Item`."""

    number: int
    score: float
    loss: float | None
    single: bool
    ratio: float = 1.0
    reread: Reread | None = None

    @property
    def wrong(self) -> bool | None:
        """Whether the answer was wrong at all."""
        return None if self.loss is None else self.loss > 0.0


def read(
    conn: Connection, endpoint: str, version: str, *, side: str, sample: Sample, after: int, limit: int = CHUNK,
    by: LossSpec = loss.EQUAL, segment: str = "", reread: float = 0.0,
) -> list[Item]:  # fmt: skip
    """Return the items above `after` of one segment that `version` answered with `side`, in draw order.

    An answer without a confidence is none of them. `reread` is the share of agreements that is read again.
    """
    i, p = t.review_items.c, t.item_predictions.c
    query = (
        sa.select(
            i.id, i.number, i.state, i.blind, i.truth, i.truth_regions, i.source, i.kind, i.level, p.value,
            p.confidence, p.regions,
        )
        .join(t.item_predictions, (p.item == i.id) & (p.version == version))
        .where(i.endpoint == endpoint, i.segment == segment, i.number > after, p.confidence.is_not(None))
        .where(_drawn(sample))
        .order_by(i.number)
        .limit(limit)
    )  # fmt: skip
    if side != "*":
        query = query.where(p.value.in_(_spellings(side)))
    if sample == "weighted":  # an item without its policy never came through the draws: it is no traffic
        query = query.add_columns(t.policies.c.body.label("policy")).join(t.policies, t.policies.c.id == i.policy)
    rows = list(conn.execute(query).mappings())
    found = [_item(row, by, weighted=sample == "weighted") for row in rows]
    return _reread(conn, rows, found, by, reread) if reread else found


def _reread(
    conn: Connection, rows: Sequence[sa.RowMapping], found: Sequence[Item], by: LossSpec, share: float
) -> list[Item]:
    """Mark the agreements that were drawn to be read again."""
    ids = rereads.drawn(conn, [row["id"] for row in rows], share)
    first = rereads.first_readings(conn, sorted(ids))
    marked = []
    for row, item in zip(rows, found, strict=True):
        one = first.get(row["id"])
        if one is not None and one["blind"] and _agrees(one, row, by):
            again = row["state"] == "resolved" and row["source"] != "single"
            wrong = None if item.loss is None or not again else item.loss > 0.0
            item = msgspec.structs.replace(item, reread=Reread(wrong))
        marked.append(item)
    return marked


def _agrees(first: sa.RowMapping, m: sa.RowMapping, by: LossSpec) -> bool:
    said = loss.stored(m["value"], m["regions"])
    return loss.of(by, loss.stored(first["value"], first["regions"]), said) == 0.0


def _drawn(sample: Sample) -> sa.ColumnElement[bool]:
    i = t.review_items.c
    if sample == "fair":
        return fair()
    if sample == "audited":
        return (t.item_predictions.c.automated == 1) & i.level.not_in(UNIFORM)
    return sa.or_(i.blind == 1, i.lottery == 1)


def fair() -> sa.ColumnElement[bool]:
    """Return the condition that the draw of an item did not depend on a score.

    Below `partial` every item is judged and blindness is drawn by hash. From `partial` on, people see the unsure
    and the audited ones, so only lottery items are a fair sample.
    """
    i = t.review_items.c
    low = i.level.in_(UNIFORM)
    return sa.or_(sa.and_(low, i.blind == 1), sa.and_(sa.not_(low), i.lottery == 1))


def newest(conn: Connection, endpoint: str) -> int:
    """Return the highest draw number of the endpoint, 0 without items."""
    i = t.review_items.c
    query = sa.select(i.number).where(i.endpoint == endpoint).order_by(i.number.desc()).limit(1)
    return int(conn.execute(query).scalar() or 0)


def settled(conn: Connection, endpoint: str, *, after: int, before_us: int) -> int:
    """Return the highest number above `after` of items older than `before_us`; `after` without any.

    Their shadow answers have arrived by then, so that a reader may pass over them for good.
    """
    i = t.review_items.c
    query = sa.select(sa.func.max(i.number)).where(
        i.endpoint == endpoint, i.number > after, i.created_us < before_us
    )
    return int(conn.execute(query).scalar() or after)


def take(
    conn: Connection,
    endpoint: str,
    version: str,
    *,
    side: str,
    sample: Sample,
    after: int,
    now_us: int,
    wait_us: int,
    by: LossSpec = loss.EQUAL,
    limit: int = 8 * CHUNK,
    segment: str = "",
    reread: float = 0.0,
) -> tuple[list[Label], int]:
    """Return the labels whose turn came, strictly in draw order, and the number up to which all is counted.

    An open item holds up the later ones of its segment until `wait_us` after one of them got its truth, one that
    waits for a second reader a day longer; then it is missing.
    """
    labels: list[Label] = []
    last = after
    while len(labels) < limit:
        chunk = read(
            conn, endpoint, version, side=side, sample=sample, after=last, by=by, segment=segment, reread=reread
        )
        ready = list(_in_turn(conn, endpoint, chunk, overdue_us=now_us - wait_us, segment=segment))
        labels += ready
        last = ready[-1].number if ready else last
        if len(ready) < CHUNK:
            if len(ready) == len(chunk):  # nothing holds up: pass over what is not counted here
                last = settled(conn, endpoint, after=last, before_us=now_us - SETTLE_US)
            break
    return labels, last


SECOND_US = 86_400_000_000
"""So much longer an item is waited for that a second person has to read."""

SETTLE_US = 30_000_000
"""Items this old have all their shadow answers."""


def _in_turn(
    conn: Connection, endpoint: str, chunk: Sequence[Item], *, overdue_us: int, segment: str
) -> Iterator[Label]:  # fmt: skip
    for item in chunk:
        since = overdue_us - (SECOND_US if item.read else 0)
        if not item.closed and not _overtaken(conn, endpoint, item.number, since, segment=segment):
            return
        told = item.loss if item.closed else None
        yield Label(item.number, item.score, told, item.single, item.ratio, item.reread)


def _overtaken(conn: Connection, endpoint: str, number: int, overdue_us: int, *, segment: str) -> bool:
    """Say whether a later item of the segment got its truth as early as `overdue_us`: people read on."""
    i = t.review_items.c
    later = (i.endpoint == endpoint) & (i.number > number) & (i.number <= number + LOOK_AHEAD)
    later &= i.segment == segment
    query = sa.select(i.number).where(later, i.state == "resolved", i.resolved_us <= overdue_us).limit(1)
    return conn.execute(query).first() is not None


def _item(m: sa.RowMapping, by: LossSpec, *, weighted: bool) -> Item:
    said, truth = loss.stored(m["value"], m["regions"]), m["truth"]
    resolved, score = m["state"] == "resolved", float(m["confidence"])
    usable = resolved and truth is not None and m["blind"]
    return Item(
        number=int(m["number"]),
        said=str(said.value),
        score=0.0 if math.isnan(score) else score,
        loss=loss.of(by, loss.stored(truth, m["truth_regions"]), said) if usable else None,
        closed=resolved or m["state"] == "expired",
        single=m["source"] not in ("agreed", "adjudicated"),
        ratio=_ratio(m) if weighted else 1.0,
        read=m["state"] in ("judged", "conflict"),
    )


def _ratio(m: sa.RowMapping) -> float:
    return chances.ratio(chances.policy_of(m["policy"]), Level.of(m["level"]), automated=m["kind"] == "audit")


def _spellings(side: str) -> list[str]:
    """Return the JSON texts whose value reads `side` as text."""
    words = {"True": "true", "False": "false", "None": "null"}
    return [json.dumps(side), json.dumps(side, ensure_ascii=False), words.get(side, side)]
