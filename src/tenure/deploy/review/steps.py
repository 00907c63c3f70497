"""The queue as the controller drives it: items and answers in, deadlines passed, decisions out to the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review import deciding, entering, lapsed, late, leases, store, terms
from tenure.deploy.review.items import DueDecision, ItemPrediction, NewItem
from tenure.deploy.review.judging import Judging
from tenure.scope.project import EndpointSpec, Output
from tenure.settings import Settings
from tenure.types import Value

_I = t.review_items.c


class Steps:
    """Steps of the controller's transaction (`State.begin`), whose connection is the first argument of each.

    Transactions write one at a time, so that `resolution` grows in the order of their commits.
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
        self._on_decision = on_decision
        margin_us = int((settings or Settings()).judgement_margin_s * 1e6)
        self._terms = terms.Terms(endpoints, output or Output(), terms.salt(state), margin_us)

    def add(self, conn: Connection, items: Sequence[NewItem]) -> int:
        """Add items, numbered in the order given; returns how many were new (an id is added once)."""
        return entering.add(conn, self._terms, items)

    def add_predictions(self, conn: Connection, preds: Sequence[ItemPrediction]) -> None:
        """Add what versions said; a version's first answer stands, and answers to unknown items are ignored.

        An answer that comes after the first judgement can call for a second reader: the item, even if resolved on
        one reader's word, is then open again.
        """
        self._settle(conn, entering.add_predictions(conn, self._terms, preds))

    def resolve_by_outcome(self, conn: Connection, item: str, value: Value) -> bool:
        """Take a late truth from the world as the truth of an item that people have not resolved yet.

        Returns whether it was used: not for an unknown or closed item, nor while a client waits for a decision.
        """
        query = sa.select(_I.state, _I.pending).where(_I.id == item).with_for_update()
        row = conn.execute(query).first()
        if row is None or row.pending or row.state not in store.WAITING:
            return False
        store.write_outcome(conn, item, value, now_us=self._state.now_us())
        return True

    def expire(self, conn: Connection, now_us: int) -> int:
        """Let deadlines and leases pass: unanswered requests are decided by the fallback and go behind live work.

        A judgement that came after its lease, and lost its place to one that came to nothing, counts after all.
        Returns how many requests nobody answered in time.
        """
        answered = late.answered(conn, self._terms, now_us=now_us)
        self._settle(conn, answered)
        self._settle(conn, late.missed(conn, self._terms, now_us=now_us))
        lapsed.count(conn, self._judging_now(conn), now_us=now_us, margin_us=self._terms.margin_us)
        leases.forget(conn, before_us=now_us - leases.KEEP_US)
        return len(answered)

    def undelivered(self, conn: Connection, now_us: int) -> list[DueDecision]:
        """Return people's decisions to write to the log now; see `deciding.undelivered` for late ones."""
        due, gone = deciding.undelivered(conn, self._terms.endpoints, now_us=now_us)
        self._settle(conn, gone)
        return due

    def mark_logged(self, conn: Connection, ids: Sequence[str]) -> None:
        """Note, in the transaction that stores the log's position, that these decisions are written."""
        deciding.mark_logged(conn, ids)

    def fallen_back(self, conn: Connection, now_us: int) -> list[DueDecision]:
        """Return the fallback's decisions to look after now; a worker that lived has logged its own."""
        return deciding.fallen_back(conn, now_us=now_us)

    def _settle(self, conn: Connection, ids: Iterable[str]) -> None:
        judging = self._judging_now(conn)
        for id_ in sorted(ids):
            judging.settle(store.item(conn, id_))

    def _judging_now(self, conn: Connection) -> Judging:
        return Judging(conn, self._terms, now_us=self._state.now_us())
