"""The review queue: what people are to judge, who judges what, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.deploy.review import (
    answers,
    correcting,
    counting,
    giving,
    gold,
    imported,
    store,
)
from tenure.deploy.review.items import (
    Counts,
    Leased,
    Receipt,
    Submission,
    Truth,
)
from tenure.deploy.review.judging import Judging, check_effort
from tenure.deploy.review.steps import Steps
from tenure.errors import CaseError, ConflictError, MissingError, TenureError
from tenure.types import Box, Value

_I = t.review_items.c


class ReviewQueue(Steps):
    """The queue over the control state.

    Methods that take `conn` are the controller's (see `Steps`); the others are commands with a transaction of
    their own. `endpoints` give readers, leases, second readings, labels and fallbacks; an endpoint without an
    `output` of its own answers `output`, which is the scope's y. `on_decision` is called after a transaction in
    which a person decided for a waiting client.
    """

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
        tokens, now = self._tokens(n), self._state.now_us()
        with self._state.begin() as conn:
            return giving.give(
                conn, self._terms, reader, names=names, tokens=tokens, now_us=now, adjudicator=adjudicator
            )

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

    def take_in(
        self, entries: Sequence[Submission], *, shown: Sequence[bool], stems: Sequence[str] = ()
    ) -> list[Receipt | TenureError]:
        """Store judgements that were made elsewhere, by the queue's rules; see `imported.take_in`.

        `shown` says of each whether its reader saw the model's answer, `stems` how the keys of its forms begin.
        The tokens are of leases made here.
        """
        results: list[Receipt | TenureError] = []
        with self._judging() as (conn, judging):
            now = self._state.now_us()
            for entry, seen, stem in zip(entries, shown, stems or ("",) * len(entries), strict=True):
                try:
                    self._check(entry, store.item(conn, entry.item))
                    results.append(
                        imported.take_in(
                            conn, judging, entry, shown=seen, stem=stem, now_us=now,
                            margin_us=self._terms.margin_us,
                        )
                    )  # fmt: skip
                except TenureError as error:
                    results.append(error)
        return results

    def take_back(self, item: str, stem: str) -> bool:
        """Take a judgement back that was deleted where it was made; returns whether one stood.

        Raises:
            MissingError: no such item.
        """
        with self._judging() as (conn, judging):
            before = correcting.earlier(conn, item, stem)
            return correcting.withdraw(conn, judging, item, before=before, now_us=self._state.now_us())

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
                answers.check(truth, (), self._terms.output(store.item(conn, item)["endpoint"]))
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
            desk = giving.desk(conn, self._terms, reader, now_us=self._state.now_us())
            if desk.taken(row):
                raise ConflictError("somebody else is reading this item now", code="leased", at="item")
            return desk.grant(row, self._tokens(1)[0], seconds=self._terms.review(row["endpoint"]).lease)

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
            until = now + int(self._terms.review(endpoint or "").lease * 1e6)
            if not conn.execute(t.leases.update().where(*live).values(expires_us=until)).rowcount:
                raise ConflictError("the lease of this item has ended", code="lease_expired", at="token")
        return until

    # Questions

    def resolved(self, after: int, limit: int = 1000) -> list[Truth]:
        """Return resolved items with a higher `resolution` than `after`, in that order."""
        with self._state.read() as conn:
            return store.truths(conn, after, limit)

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
        answers.check(entry.value, entry.regions, self._terms.output(row["endpoint"]))

    @contextmanager
    def _judging(self) -> Iterator[tuple[Connection, Judging]]:
        with self._state.begin() as conn:
            judging = Judging(conn, self._terms, now_us=self._state.now_us())
            yield conn, judging
        if judging.decided and self._on_decision is not None:
            self._on_decision()

    def _names(self, endpoint: str | None) -> list[str]:
        if endpoint is None:
            return list(self._terms.endpoints)
        if endpoint not in self._terms.endpoints:
            known = ", ".join(self._terms.endpoints)
            raise CaseError(f"there is no endpoint {endpoint!r}; there are: {known}", at="endpoint", status=404)
        return [endpoint]


def _lease(item: str, reader: str, token: str) -> tuple[sa.ColumnElement[bool], ...]:
    lease = t.leases.c
    return lease.item == item, lease.reader == reader, lease.token == token
