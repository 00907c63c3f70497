"""The review queue: what people are to judge, who judges what, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import State, dumps
from tenure.deploy.review import answers, caps, counting, deciding, gold, imported, leases, store
from tenure.deploy.review.items import (
    Counts,
    DueDecision,
    ItemPrediction,
    Leased,
    NewItem,
    Receipt,
    Submission,
    Truth,
)
from tenure.deploy.review.judging import Judging, check_effort
from tenure.errors import CaseError, ConflictError, MissingError, TenureError
from tenure.scope.project import EndpointSpec, Output
from tenure.seeds import draw, fresh_token
from tenure.settings import Settings
from tenure.types import Box, Value

_I = t.review_items.c
_SALT = "review.salt"


class ReviewQueue:
    """The queue over the control state.

    Methods that take `conn` are steps of the controller's transaction; the others are commands with a transaction
    of their own. `endpoints` give readers, leases, second readings, labels and fallbacks; an endpoint without an
    `output` of its own answers `output`, which is the scope's y. `on_decision` is called after a transaction in
    which a person decided for a waiting client.
    """

    def __init__(
        self,
        state: State,
        endpoints: Mapping[str, EndpointSpec],
        *,
        output: Output | None = None,
        on_decision: Callable[[], None] | None = None,
        settings: Settings | None = None,
        tokens: Callable[[int], list[str]] = leases.new_tokens,
    ) -> None:
        self._state = state
        self._tokens = tokens
        self._endpoints = endpoints
        self._output = output or Output()
        self._on_decision = on_decision
        self._margin_us = int((settings or Settings()).judgement_margin_s * 1e6)
        self._reviews = {name: spec.review for name, spec in endpoints.items()}
        self._salt = _salt(state)

    # Steps of the controller's transaction

    def add(self, conn: Connection, items: Sequence[NewItem]) -> int:
        """Add items, numbered in the order given; returns how many were new (an id is added once)."""
        store.lock(conn)
        new = {item.id: item for item in reversed(items)}
        for part in store.chunks(new):
            for known in conn.execute(sa.select(_I.id).where(_I.id.in_(part))).scalars():
                del new[known]
        fresh = list(reversed(new.values()))
        if not fresh:
            return 0
        first = store.take_numbers(conn, "review.number", len(fresh))
        rows = [self._row(item, number) for number, item in enumerate(fresh, first)]
        conn.execute(t.review_items.insert(), rows)
        return len(rows)

    def add_predictions(self, conn: Connection, preds: Sequence[ItemPrediction]) -> None:
        """Add what versions said; a version's first answer stands, and answers to unknown items are ignored.

        An answer that comes after the first judgement can call for a second reader: the item, even if resolved on
        one reader's word, is then open again.
        """
        store.lock(conn)
        touched: set[str] = set()
        fresh = {(p.item, p.version): p for p in reversed(preds)}
        for part in store.chunks(p.item for p in preds):
            query = sa.select(_I.id, _I.state).where(_I.id.in_(part))
            known = {row.id: row.state for row in conn.execute(query)}
            rows = [_prediction(p) for p in fresh.values() if p.item in known]
            store.insert_missing(conn, t.item_predictions, rows)
            self._prioritise(conn, [p for p in fresh.values() if p.item in known and p.role == "primary"])
            touched |= {i for i, state in known.items() if state in ("judged", "resolved")}
        self._settle(conn, touched)

    def _prioritise(self, conn: Connection, preds: Sequence[ItemPrediction]) -> None:
        """Set the priority of fresh items to cost x uncertainty where their endpoint names costs."""
        for pred in preds:
            if pred.confidence is None:
                continue
            endpoint = conn.execute(sa.select(_I.endpoint).where(_I.id == pred.item)).scalar()
            review = self._reviews.get(endpoint or "")
            if review is not None and review.costs:
                cost = review.costs.get(str(pred.value), 1.0) * (1.0 - pred.confidence)
                fresh = (_I.id == pred.item, _I.priority == 0.0)
                conn.execute(t.review_items.update().where(*fresh).values(priority=cost))

    def resolve_by_outcome(self, conn: Connection, item: str, value: Value) -> bool:
        """Take a late truth from the world as the truth of an item that people have not resolved yet.

        Returns whether it was used: not for an unknown or closed item, nor while a client waits for a decision.
        """
        store.lock(conn)
        query = sa.select(_I.state, _I.pending).where(_I.id == item).with_for_update()
        row = conn.execute(query).first()
        if row is None or row.pending or row.state not in store.WAITING:
            return False
        store.write_outcome(conn, item, value, now_us=self._state.now_us())
        return True

    def expire(self, conn: Connection, now_us: int) -> int:
        """Let deadlines and leases pass: unanswered requests become training items and the fallback's decisions.

        Returns how many requests nobody answered in time.
        """
        store.lock(conn)
        rows = deciding.overdue(conn, now_us=now_us)
        for row in rows:
            deciding.record_fallback(conn, row, self._endpoints.get(row["endpoint"]))
        ids = [row["id"] for row in rows]
        if ids:
            conn.execute(t.review_items.update().where(_I.id.in_(ids)).values(pending=0))
            self._settle(conn, ids)
        self._overdue(conn, now_us)
        leases.forget(conn, before_us=now_us - leases.KEEP_US)
        return len(rows)

    def _overdue(self, conn: Connection, now_us: int) -> None:
        """Note items that nobody judged `within`: they go to an adjudicator, or are closed without a truth."""
        for name, review in self._reviews.items():
            if review.within is None:
                continue
            ids = deciding.unjudged(conn, name, before_us=now_us - int(review.within * 1e6))
            up = int(review.on_late == "escalate")
            for part in store.chunks(ids):
                values = {"missed_us": now_us, "escalated": up}
                conn.execute(t.review_items.update().where(_I.id.in_(part)).values(**values))
            self._settle(conn, ids)

    def undelivered(self, conn: Connection, now_us: int) -> list[DueDecision]:
        """Return people's decisions to write to the log now; see `deciding.undelivered` for late ones."""
        store.lock(conn)
        return deciding.undelivered(conn, self._endpoints, now_us=now_us)

    def mark_logged(self, conn: Connection, ids: Sequence[str]) -> None:
        """Note, in the transaction that stores the log's position, that these decisions are written."""
        deciding.mark_logged(conn, ids)

    def fallen_back(self, conn: Connection, now_us: int) -> list[DueDecision]:
        """Return the fallback's decisions to look after now; a worker that lived has logged its own."""
        return deciding.fallen_back(conn, now_us=now_us)

    # Commands of people

    def lease(
        self, reader: str, *, n: int = 1, endpoint: str | None = None, adjudicator: bool = False
    ) -> list[Leased]:
        """Lease up to `n` items that this reader has not judged; now and then one of them is gold.

        When too few are free, items that the reader holds already come again under the same token. Items
        that were escalated are only given to an `adjudicator`.

        Raises:
            CaseError: `n` is not positive, the endpoint is unknown, or the reader's cap is used up (429).
        """
        names = self._names(endpoint)
        if n < 1:
            raise CaseError(f"n must be at least 1, got {n}", code="invalid_query", at="n")
        tokens = self._tokens(n)
        with self._state.begin() as conn:
            desk = self._desk(conn, reader, adjudicator=adjudicator)
            room = self._room(conn, names, reader)
            rows = desk.choose([name for name in names if room.get(name) != 0], n, tokens=tokens)
            given = []
            for row, token in zip(_within(rows, room), tokens, strict=False):
                chosen = self._gold_instead(conn, row, reader=reader, token=token)
                given.append(desk.grant(chosen, token, seconds=self._reviews[row["endpoint"]].lease))
            held = desk.held(names, n - len(given), but=[one.item for one in given])
            if not given and not held and names and all(room.get(name) == 0 for name in names):
                raise caps.refuse(", ".join(names), reader, self._until(conn, names, reader))
            return given + held

    def submit(
        self,
        item: str,
        *,
        reader: str,
        token: str,
        value: Value,
        key: str,
        regions: Sequence[Box] = (),
        seconds: float = 0.0,
    ) -> Receipt:
        """Store one judgement; the same key again gives the same receipt.

        Raises:
            MissingError: no such item.
            CaseError: the value is none of the endpoint's labels, or boxes, key or seconds are unusable (422).
            ConflictError: no lease, or it ended (then the judgement is kept as training data), or judged already.
        """
        entry = Submission(
            item=item, reader=reader, token=token, value=value, key=key, regions=tuple(regions), seconds=seconds
        )
        (answer,) = self.submit_many([entry])
        if isinstance(answer, TenureError):
            raise answer
        return answer

    def submit_many(self, entries: Sequence[Submission]) -> list[Receipt | TenureError]:
        """Store judgements in one transaction; each entry gets its receipt or its own error, in order."""
        results: list[Receipt | TenureError] = []
        with self._judging() as (conn, judging):
            for entry in entries:
                try:
                    results.append(self._submit(conn, judging, entry))
                except TenureError as error:
                    results.append(error)
        return results

    def take_in(self, entries: Sequence[Submission], *, shown: Sequence[bool]) -> list[Receipt | TenureError]:
        """Store judgements that were made elsewhere, by the queue's rules; see `imported.take_in`.

        `shown` says of each whether its reader saw the model's answer. The tokens are of leases made here.
        """
        results: list[Receipt | TenureError] = []
        with self._judging() as (conn, judging):
            now = self._state.now_us()
            for entry, seen in zip(entries, shown, strict=True):
                try:
                    self._check(entry, store.item(conn, entry.item))
                    results.append(
                        imported.take_in(conn, judging, entry, shown=seen, now_us=now, margin_us=self._margin_us)
                    )
                except TenureError as error:
                    results.append(error)
        return results

    def skip(self, item: str, *, reader: str, token: str, reason: str = "") -> None:
        """Say that one cannot judge an item; it goes to others.

        Raises:
            MissingError: no such item.
            ConflictError: the lease is not this reader's or has ended.
        """
        with self._judging() as (_, judging):
            judging.skip(judging.row(item), reader=reader, token=token, reason=reason)

    def escalate(self, item: str, *, reader: str, token: str, reason: str) -> None:
        """Hand an item to an adjudicator, whose word is its truth; this reader does not get it again.

        Raises:
            MissingError: no such item.
            ConflictError: the lease is not this reader's or has ended.
        """
        with self._judging() as (_, judging):
            judging.skip(judging.row(item), reader=reader, token=token, reason=reason, up=True)

    def add_gold(self, item: str, *, by: str, truth: Value = None) -> None:
        """Measure readers with a resolved item from now on, or with any item whose truth is given.

        Raises:
            MissingError: no such item.
            CaseError: its truth is not known, or is no answer of the endpoint (422).
        """
        with self._state.begin() as conn:
            if truth is not None:
                spec = self._endpoints.get(store.item(conn, item)["endpoint"])
                answers.check(truth, (), (spec.output if spec else None) or self._output)
            gold.add(conn, item, by=by, now_us=self._state.now_us(), truth=truth)
            self._state.audit(conn, actor=by, action="gold_added", subject=item)

    def retire_gold(self, item: str, *, by: str) -> None:
        """Give an item out as gold no more.

        Raises:
            MissingError: it is no gold item in use.
        """
        with self._state.begin() as conn:
            if not gold.retire(conn, item, now_us=self._state.now_us()):
                raise MissingError(f"{item} is no gold item in use", at="item")
            self._state.audit(conn, actor=by, action="gold_retired", subject=item)

    def gold_ids(self, endpoint: str) -> list[str]:
        """Return the gold items in use."""
        with self._state.read() as conn:
            return gold.active(conn, endpoint)

    def source(self, id_: str) -> str:
        """Return the request whose input a reader sees under this id."""
        with self._state.read() as conn:
            return gold.source(conn, id_)

    def undo(self, reader: str) -> Leased:
        """Take one's last standing judgement back and lease the item again; within 5 minutes, up to 20 in turn.

        Raises:
            ConflictError: nothing to take back, judged by somebody else since, or somebody else holds it now.
        """
        with self._judging() as (conn, judging):
            row = judging.row(judging.undo(reader))
            desk = self._desk(conn, reader)
            if desk.taken(row):
                raise ConflictError("somebody else is reading this item now", code="leased", at="item")
            seconds = self._endpoints[row["endpoint"]].review.lease
            return desk.grant(row, self._tokens(1)[0], seconds=seconds)

    def release(self, item: str, *, reader: str, token: str) -> None:
        """Give an item back unjudged; without such a lease nothing happens."""
        with self._state.begin() as conn:
            conn.execute(t.leases.delete().where(*_lease(item, reader, token)))

    def renew(self, item: str, *, reader: str, token: str) -> int:
        """Start the lease's time anew; returns its end in microseconds.

        Raises:
            ConflictError: the lease is not this reader's or has ended.
        """
        with self._state.begin() as conn:
            now = self._state.now_us()
            live = (*_lease(item, reader, token), t.leases.c.expires_us > now)
            endpoint = conn.execute(sa.select(_I.endpoint).where(_I.id == gold.source(conn, item))).scalar()
            spec = self._endpoints.get(endpoint or "")
            until = now + int((spec.review.lease if spec else 0) * 1e6)
            if not conn.execute(t.leases.update().where(*live).values(expires_us=until)).rowcount:
                raise ConflictError("the lease of this item has ended", code="lease_expired", at="token")
        return until

    # Questions

    def resolved(self, after: int, limit: int = 1000) -> list[Truth]:
        """Return resolved items with a higher `resolution` than `after`, in that order."""
        query = sa.select(t.review_items).where(_I.resolution > after).order_by(_I.resolution).limit(limit)
        with self._state.read() as conn:
            return [_truth(row) for row in conn.execute(query).mappings()]

    def open_ids(self) -> list[str]:
        """Return the ids of the items that people have still to judge, and of gold."""
        query = sa.select(_I.id).where(_I.state.not_in(("resolved", "expired")))
        with self._state.read() as conn:
            return [*conn.execute(query).scalars(), *gold.active(conn)]

    def counts(self, endpoint: str) -> Counts:
        """Return how full the queue of an endpoint is and how its readers do."""
        with self._state.read() as conn:
            return counting.count(conn, endpoint, now_us=self._state.now_us())

    def _submit(self, conn: Connection, judging: Judging, entry: Submission) -> Receipt:
        row = judging.row(entry.item)
        self._check(entry, row)
        return judging.submit(entry, row)

    def _check(self, entry: Submission, row: RowMapping | Mapping[str, Any]) -> None:
        check_effort(entry)
        spec = self._endpoints.get(row["endpoint"])
        answers.check(entry.value, entry.regions, (spec.output if spec else None) or self._output)

    def _desk(self, conn: Connection, reader: str, *, adjudicator: bool = False) -> leases.Desk:
        strict = [name for name, review in self._reviews.items() if review.adjudication == "adjudicator"]
        return leases.Desk(
            conn,
            reader,
            now_us=self._state.now_us(),
            margin_us=self._margin_us,
            adjudicator=adjudicator,
            strict=strict,
        )

    def _room(self, conn: Connection, names: Sequence[str], reader: str) -> dict[str, int | None]:
        """Return how many items of each endpoint the reader's caps still allow."""
        now = self._state.now_us()
        return {
            name: caps.left(conn, self._reviews[name].cap, endpoint=name, reader=reader, now_us=now)[0]
            for name in names
        }

    def _until(self, conn: Connection, names: Sequence[str], reader: str) -> int:
        now = self._state.now_us()
        ends = (
            caps.left(conn, self._reviews[name].cap, endpoint=name, reader=reader, now_us=now)[1]
            for name in names
        )
        return min(ends)

    def _gold_instead(self, conn: Connection, row: RowMapping, *, reader: str, token: str) -> store.Row:
        """Return a gold item in place of the row if the draw says so and no client is kept waiting by it.

        The draw is keyed by a secret: the reader knows the token.
        """
        review, now = self._reviews[row["endpoint"]], self._state.now_us()
        soon = row["pending"] and row["deadline_us"] and row["deadline_us"] < now + 2e6 * review.lease
        point = draw(f"gold:{self._salt}", token)
        if point >= review.gold.share or soon or row["state"] == "conflict" or row["escalated"]:
            return row
        at = point / review.gold.share
        return gold.take(conn, row["endpoint"], reader, point=at, now_us=now) or row

    @contextmanager
    def _judging(self) -> Iterator[tuple[Connection, Judging]]:
        with self._state.begin() as conn:
            store.lock(conn)
            now = self._state.now_us()
            judging = Judging(conn, self._reviews, salt=self._salt, now_us=now, margin_us=self._margin_us)
            yield conn, judging
        if judging.decided and self._on_decision is not None:
            self._on_decision()

    def _settle(self, conn: Connection, ids: Iterable[str]) -> None:
        ids = sorted(ids)
        if not ids:
            return
        store.lock(conn)
        now = self._state.now_us()
        judging = Judging(conn, self._reviews, salt=self._salt, now_us=now, margin_us=self._margin_us)
        for id_ in ids:
            judging.settle(store.item(conn, id_))

    def _names(self, endpoint: str | None) -> list[str]:
        if endpoint is None:
            return list(self._endpoints)
        if endpoint not in self._endpoints:
            known = ", ".join(self._endpoints)
            raise CaseError(f"there is no endpoint {endpoint!r}; there are: {known}", at="endpoint", status=404)
        return [endpoint]

    def _row(self, item: NewItem, number: int) -> dict[str, object]:
        review = self._reviews.get(item.endpoint)
        required = item.required if item.required is not None else (review.readers if review else 1)
        row: dict[str, object] = {name: getattr(item, name) for name in NewItem.__struct_fields__}
        return row | {
            "number": number,
            "state": "open",
            "required": required,
            "blind": int(item.blind),
            "pending": int(item.pending),
            "lottery": int(item.lottery),
            "record": None if item.record is None else dumps(item.record),
        }


def _within(rows: Sequence[RowMapping], room: Mapping[str, int | None]) -> Iterator[RowMapping]:
    """Yield the rows up to what is left of each endpoint's cap."""
    left = dict(room)
    for row in rows:
        most = left.get(row["endpoint"])
        if most is not None:
            if most <= 0:
                continue
            left[row["endpoint"]] = most - 1
        yield row


def _salt(state: State) -> str:
    """Return this installation's salt of the second-reader draws, made once: reviewers cannot foresee them."""
    with state.begin() as conn:
        store.insert_missing(conn, t.meta, [{"key": _SALT, "value": fresh_token("s")}])
        return str(conn.execute(sa.select(t.meta.c.value).where(t.meta.c.key == _SALT)).scalar_one())


def _prediction(pred: ItemPrediction) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(pred, name) for name in ItemPrediction.__struct_fields__}
    regions = store.boxes_text(pred.regions)
    return row | {"value": dumps(pred.value), "regions": regions, "automated": int(pred.automated)}


def _lease(item: str, reader: str, token: str) -> tuple[sa.ColumnElement[bool], ...]:
    lease = t.leases.c
    return lease.item == item, lease.reader == reader, lease.token == token


def _truth(row: RowMapping) -> Truth:
    same = {n: row[n] for n in Truth.__struct_fields__ if n not in ("item", "truth", "regions")}
    return Truth(
        item=row["id"], truth=json.loads(row["truth"]), regions=store.boxes(row["truth_regions"]), **same
    )
