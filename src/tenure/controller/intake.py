"""From log frames to what the services want: review items, predictions about them, outcomes, counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy.engine import Connection

from tenure.data import columnar
from tenure.data.frames import Frame
from tenure.data.records import Flag, Kind, Status, encode_id
from tenure.deploy.automation.certificates import count_decisions
from tenure.deploy.automation.policies import segment_of
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.rollout.reactions import maturities
from tenure.monitor.board import Monitor
from tenure.monitor.measure import Rows, rows_of
from tenure.scope.project import EndpointSpec
from tenure.types import Box, Level, Route

Columns = Mapping[str, npt.NDArray[Any]]
BATCH_PRIORITY = -1.0
"""Rows scored offline are reviewed after requests that came by themselves."""

_MEDIA = {"image": "image/*", "audio": "audio/*", "text": "text/plain", "record": "application/json"}


class Intake:
    """Hands each frame to whoever needs it, inside the controller's transaction.

    Args:
        rollout_at: (routing version, endpoint) -> id of the rollout that the table belonged to, or None.
    """

    def __init__(
        self, endpoints: Mapping[str, EndpointSpec], *, secret: bytes, queue: ReviewQueue, monitor: Monitor,
        rollouts: Rollouts, rollout_at: Callable[[int, str], str | None],
    ) -> None:  # fmt: skip
        self._endpoints = endpoints
        self._secret = secret
        self._queue, self._monitor, self._rollouts = queue, monitor, rollouts
        self._rollout_at = rollout_at
        self._segments: dict[int, str] = {}  # policy -> the segment that it rules on

    def take(self, conn: Connection, frames: Sequence[Frame]) -> None:
        """Deal with frames in the order in which they were read."""
        known = [f for f in frames if f.kind in _TAKEN and f.schema.endpoint in self._endpoints]
        predictions = [f for f in known if f.kind == Kind.PREDICTION]
        groups = [(group, rows_of(group)) for group in _by_schema(predictions)]
        items, answers = self._items(conn, _asked(predictions, groups))
        answers += self._shadows([f for f in known if f.kind == Kind.SHADOW])
        if items:
            self._queue.add(conn, items)
        if answers:
            self._queue.add_predictions(conn, answers)
        for group, rows in groups:
            self._monitor.observe(conn, rows)
            self._count(conn, group, rows)
            self._use(conn, rows)
        self._remember(conn, predictions)
        self._outcomes(conn, [f for f in known if f.kind == Kind.OUTCOME])

    def _count(self, conn: Connection, frames: Sequence[Frame], rows: Rows) -> None:
        rollout = self._rollouts.active(conn, rows.endpoint)
        if rollout is not None and rollout.state in ("running", "paused"):
            parts = self._rollouts.parts(conn, rollout, frames)
            seen = self._rollouts.observed(rows.endpoint, rollout, rows.columns, rows.versions, parts)
            self._rollouts.observe(conn, seen)

    def _remember(self, conn: Connection, frames: Sequence[Frame]) -> None:
        """Keep what reactions of clients will be counted against, where a plan counts them."""
        for endpoint in {f.schema.endpoint for f in frames}:
            rollout = self._rollouts.active(conn, endpoint)
            if rollout is None or not maturities(rollout.plan):
                continue
            for frame in frames:
                if frame.schema.endpoint == endpoint:
                    parts = self._rollouts.parts(conn, rollout, [frame])
                    self._rollouts.saw(rollout, frame.run, frame.columns(), frame.schema.versions, parts)

    def _use(self, conn: Connection, rows: Rows) -> None:
        """Count automated decisions where certificates end by them."""
        if self._endpoints[rows.endpoint].automation.certificate.decisions is None:
            return
        decided = rows.columns["route"] == Route.AUTO
        pairs = np.stack([rows.columns[name][decided].astype(np.int64) for name in ("version", "policy")])
        for (number, policy), automated in zip(*_counted(pairs), strict=True):
            if number < len(rows.versions):
                version, segment = rows.versions[number], self._segment(conn, policy)
                count_decisions(conn, rows.endpoint, version, automated, segment=segment)

    def _segment(self, conn: Connection, policy: int) -> str:
        """Return the segment that a policy ruled on: the log names the policy, and so the segment, too."""
        if policy not in self._segments:
            self._segments[policy] = segment_of(conn, policy)
        return self._segments[policy]

    def _items(self, conn: Connection, asked: Sequence[_Asked]) -> tuple[list[NewItem], list[ItemPrediction]]:
        items: list[NewItem] = []
        answers: list[ItemPrediction] = []
        for row in asked:
            c, i, var = row.columns, row.at, row.var
            item = self._item(conn, row)
            items.append(item)
            if c["status"][i] == Status.OK and item.version is not None:
                automated = int(c["route"][i]) == Route.AUTO
                answers.append(
                    _said(c, i, var, item=item.id, version=item.version, role="primary", automated=automated)
                )
        return items, answers

    def _item(self, conn: Connection, row: _Asked) -> NewItem:
        frame, c, i, var = row.frame, row.columns, row.at, row.var
        endpoint = frame.schema.endpoint
        flags, level = int(c["flags"][i]), Level(int(c["level"][i]))
        pending = int(c["route"][i]) == Route.PENDING
        batch = bool(flags & Flag.BATCH)  # its label says nothing about a rollout, and nobody waits for it
        candidate = int(c["role"][i]) == 1 and not batch
        return NewItem(
            id=encode_id(frame.run, int(c["seq"][i]), self._secret),
            endpoint=endpoint,
            kind="audit" if not pending else "shadow" if level <= Level.SHADOW else "uncertain",
            media_type=_MEDIA[self._endpoints[endpoint].input],
            created_us=int(c["t_ns"][i]) // 1000,
            blind=bool(flags & Flag.BLIND),
            pending=pending,
            priority=BATCH_PRIORITY if batch else 0.0,
            audit_prob=1.0 if pending else float(c["audit_prob"][i]),
            unit=str(var.get("unit") or ""),
            policy=int(c["policy"][i]),
            level=level.word,
            version=_version(frame, c, i),
            rollout=None if batch else self._rollout_at(int(c["routing"][i]), endpoint),
            arm="candidate" if candidate else "stable",
            share=float(c["share"][i]),
            lottery=bool(flags & Flag.LOTTERY),
            segment=self._segment(conn, int(c["policy"][i])),
            record=var.get("record", var.get("text")),
            deadline_us=int(c["deadline_ns"][i]) // 1000,
        )

    def _shadows(self, frames: Sequence[Frame]) -> list[ItemPrediction]:
        out: list[ItemPrediction] = []
        for frame in frames:
            c = frame.columns()
            for i in np.flatnonzero((c["status"] == Status.OK) & (c["spare"] == 0)).tolist():
                version = _version(frame, c, i)
                if version is None:
                    continue
                item = encode_id(int(c["run"][i]), int(c["seq"][i]), self._secret)
                out.append(_said(c, i, frame.var(i), item=item, version=version, role="shadow", automated=False))
        return out

    def _outcomes(self, conn: Connection, frames: Sequence[Frame]) -> None:
        for frame in frames:
            c = frame.columns()
            for i in range(frame.rows):
                var = frame.var(i)
                if var.get("kind") == "truth":
                    item = encode_id(int(c["run"][i]), int(c["seq"][i]), self._secret)
                    self._queue.resolve_by_outcome(conn, item, var.get("value"))
                else:
                    key, t_us = (int(c["run"][i]), int(c["seq"][i])), int(c["t_ns"][i]) // 1000
                    said = (str(var.get("kind")), var.get("value"), t_us)
                    self._rollouts.heard(frame.schema.endpoint, key, *said)


def _counted(pairs: npt.NDArray[np.int64]) -> tuple[list[list[int]], list[int]]:
    """Return the different columns of a matrix of two rows and how often each occurs."""
    found, counts = np.unique(pairs, axis=1, return_counts=True)
    return found.T.tolist(), counts.tolist()


def _asks(c: Columns) -> npt.NDArray[np.bool_]:
    """Say of each row whether a person gets it to judge."""
    wanted = (c["route"] == Route.PENDING) | ((c["flags"] & Flag.AUDITED) != 0)
    return np.asarray(wanted & (c["status"] != Status.REFUSED))


class _Asked(NamedTuple):
    """A row that a person gets: row `i` of its frame, and row `at` of the columns of such rows.

    `var` is what `Frame.var` would return.
    """

    frame: Frame
    i: int
    columns: Columns
    at: int
    var: dict[str, Any]


def _asked(frames: Sequence[Frame], groups: Sequence[tuple[list[Frame], Rows]]) -> list[_Asked]:
    """Return the rows for people, in the order of the frames."""
    place = {id(frame): n for n, frame in enumerate(frames)}
    found: list[_Asked] = []
    for group, rows in groups:
        asks = np.flatnonzero(_asks(rows.columns))
        if not len(asks):
            continue
        starts = np.cumsum([0, *(frame.rows for frame in group)])
        numbers = np.searchsorted(starts, asks, side="right") - 1
        columns = {name: column[asks] for name, column in rows.columns.items()}
        said = columnar.said_many(group[0].schema, columns)
        for at, (number, i) in enumerate(zip(numbers.tolist(), (asks - starts[numbers]).tolist(), strict=True)):
            frame = group[number]
            found.append(_Asked(frame, i, columns, at, said[at] | frame.apart(i)))
    return sorted(found, key=lambda row: (place[id(row.frame)], row.i))


_TAKEN = frozenset({Kind.PREDICTION, Kind.SHADOW, Kind.OUTCOME})


def _said(
    c: Columns, i: int, var: Mapping[str, Any], *, item: str, version: str, role: str, automated: bool
) -> ItemPrediction:  # fmt: skip
    confidence = float(c["confidence"][i])
    return ItemPrediction(
        item=item,
        version=version,
        role=role,
        value=var.get("value"),
        at_us=int(c["t_ns"][i]) // 1000,
        confidence=None if np.isnan(confidence) else confidence,
        regions=tuple(Box(**box) for box in var.get("regions") or ()),
        automated=automated,
        contributions=var.get("contributions"),
    )


def _version(frame: Frame, c: Columns, i: int) -> str | None:
    number = int(c["version"][i])
    names = frame.schema.versions
    return names[number] if number < len(names) else None


def _by_schema(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[int, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[frame.schema_id].append(frame)
    return list(groups.values())
