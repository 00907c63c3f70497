"""Taking judgements: who may, what is stored, and when one is the decision of a request (V2, V3, V6)."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tenure.data import tables as t
from tenure.data.state import dumps
from tenure.deploy.review import gold, leases, store
from tenure.deploy.review.items import Receipt, Submission
from tenure.deploy.review.resolve import GIVE_UP, Case, Standing, becomes_decision, same
from tenure.deploy.review.terms import Terms
from tenure.errors import CaseError, ConflictError

UNDO_US = 300_000_000
"""How long one's own judgement can be taken back."""

UNDO_LAST = 20
"""How many judgements, from the last one back, can be taken back one after the other."""

ESCALATED = "escalated: "
"""A skip whose reason begins so handed the item to an adjudicator."""

_EXPIRED = (
    "the lease of this item ended before the judgement came, and another took its place; "
    "it is kept as training data only"
)


class Judging:
    """Judgements inside one transaction.

    Attributes:
        decided: ids whose decision was made here.
    """

    def __init__(self, conn: Connection, terms: Terms, *, now_us: int) -> None:
        self._conn = conn
        self._terms = terms
        self._now = now_us
        self.decided: list[str] = []

    def submit(self, sub: Submission, row: store.Row) -> Receipt:
        """Store one judgement, settle the item, and decide the request if it still waits.

        Raises:
            ConflictError: no lease, one that ended and whose place another took (the judgement is stored all the
                same), a second judgement by one reader, or a key that was used for another judgement. The
                transaction stays good.
        """
        known = self._by_key(sub.key)
        if known is not None:
            return self._repeated(sub, known)
        standing = store.standing_judgements(self._conn, sub.item)
        if any(j["reader"] == sub.reader for j in standing):
            raise ConflictError(f"{sub.reader} has judged {sub.item} already", code="judged_already", at="item")
        lease = self._lease(sub)
        live = self.holds(row, lease)
        late = not live or self.is_late(row)
        number = self._insert(sub, row, lease=lease, late=late)
        case = None if row["kind"] == gold.ROLE else self.settle(row)
        if not live:
            raise ConflictError(_EXPIRED, code="lease_expired", at="token")
        self._conn.execute(t.leases.delete().where(t.leases.c.token == sub.token))
        if case is not None and not late and self.decide(row, *case):
            self.settle(store.item(self._conn, sub.item))  # nobody waits now: what came late counts, too
        return Receipt(number, sub.item, late)

    def skip(self, row: store.Row, *, reader: str, token: str, reason: str, up: bool = False) -> None:
        """Store that this reader cannot say; the item goes to others, with `up` to an adjudicator.

        Raises:
            ConflictError: the lease is not this reader's, or it ended and another took its place.
        """
        key = f"skip:{token}"
        if self._by_key(key) is not None:
            return
        sub = Submission(item=row["id"], reader=reader, token=token, value=None, key=key)
        lease = self._lease(sub)
        if not self.holds(row, lease):
            raise ConflictError("the lease of this item has ended", code="lease_expired", at="token")
        text = f"{ESCALATED}{reason}" if up else reason or "skipped"
        self._insert(sub, row, lease=lease, late=False, skip=text)
        self._conn.execute(t.leases.delete().where(t.leases.c.token == token))
        if row["kind"] == gold.ROLE:
            return
        if up or self._skipped_enough(row):
            row = self.escalate(row)
        self.settle(row)

    def escalate(self, row: store.Row) -> RowMapping:
        """Leave an item to adjudicators; returns the row as it is then."""
        self._conn.execute(t.review_items.update().where(t.review_items.c.id == row["id"]).values(escalated=1))
        return store.item(self._conn, row["id"])

    def _skipped_enough(self, row: store.Row) -> bool:
        """Say whether so many could not judge an item that adjudicators must.

        An item that is not waited for is given up instead, unless the project says otherwise.
        """
        after = self._terms.review(row["endpoint"]).escalate_after or (GIVE_UP if row["pending"] else None)
        rows = store.standing_judgements(self._conn, row["id"])
        skips = sum(r["skip"] is not None for r in rows)
        return after is not None and not row["escalated"] and skips >= after and skips == len(rows)

    def row(self, id_: str) -> store.Row:
        """Return the item that an id given to readers stands for; raises MissingError."""
        return gold.behind(self._conn, id_) or store.item(self._conn, id_)

    def undo(self, reader: str) -> str:
        """Take the reader's last standing judgement or skip back by a row that supersedes it; returns its item.

        A decision that it made stands: a client has acted on it. The truth follows the correction.

        Raises:
            ConflictError: there is nothing to take back among the last 20, it is too old, or somebody judged the
                item since.
        """
        j = t.judgements.c
        last = self._last(reader)
        if last is None or last["at_us"] < self._now - UNDO_US:
            raise ConflictError(
                "there is no judgement of the last 5 minutes, among your last 20, to take back",
                code="nothing_to_undo",
            )
        row = self.row(last["item"])
        newer = sa.select(sa.func.count()).where(j.item == last["item"], j.id > last["id"])
        if self._conn.execute(newer).scalar_one():
            raise ConflictError("somebody has judged this item since", code="judged_since", at="item")
        kept = ("item", "reader", "role", "blind")
        values = {name: last[name] for name in kept}
        self._conn.execute(
            t.judgements.insert().values(
                **values, value="null", regions="[]", skip=store.UNDO, late=0, seconds=0.0,
                at_us=self._now, supersedes=last["id"], key=f"undo:{last['id']}",
            )
        )  # fmt: skip
        if row["kind"] != gold.ROLE:
            if (last["skip"] or "").startswith(ESCALATED) and not self._stays_escalated(row):
                lower = t.review_items.update().where(t.review_items.c.id == row["id"])
                self._conn.execute(lower.values(escalated=0))
                row = store.item(self._conn, row["id"])
            self.settle(row)
        return str(last["item"])

    def _stays_escalated(self, row: store.Row) -> bool:
        """Say whether an item is an adjudicator's for another reason than the one that was taken back."""
        others = store.standing_judgements(self._conn, row["id"])
        late = row["pending"] or self._terms.review(row["endpoint"]).on_late == "escalate"
        missed = row["missed_us"] is not None and late
        return bool(missed or any((j["skip"] or "").startswith(ESCALATED) for j in others))

    def _last(self, reader: str) -> RowMapping | None:
        """Return the newest act of the reader's last 20 that was not taken back."""
        j, newer = t.judgements.c, t.judgements.alias()
        acts = sa.select(t.judgements).where(j.reader == reader, sa.or_(j.skip.is_(None), j.skip != store.UNDO))
        twenty = acts.order_by(j.id.desc()).limit(UNDO_LAST).subquery()
        stands = ~sa.exists().where(newer.c.supersedes == twenty.c.id)
        query = sa.select(twenty).where(stands).order_by(twenty.c.id.desc()).limit(1)
        return self._conn.execute(query).mappings().first()

    def settle(self, row: store.Row) -> tuple[Case, Standing]:
        """Bring an item in line with its judgements."""
        review = self._terms.review(row["endpoint"])
        case = store.case_of(self._conn, row, review, salt=self._terms.salt)
        return case, store.settle(self._conn, row, case, now_us=self._now)

    def _by_key(self, key: str) -> RowMapping | None:
        found = self._conn.execute(sa.select(t.judgements).where(t.judgements.c.key == key))
        return found.mappings().first()

    def _repeated(self, sub: Submission, known: RowMapping) -> Receipt:
        if (known["item"], known["reader"]) != (sub.item, sub.reader) or not _same_answer(sub, known):
            raise ConflictError(
                "this Idempotency-Key was used for another judgement", code="key_reused", at="Idempotency-Key"
            )
        lease = leases.lease_of(self._conn, sub.item, sub.reader)
        if known["late"] and lease is not None and lease["token"] == sub.token:
            raise ConflictError(_EXPIRED, code="lease_expired", at="token")
        return Receipt(known["id"], sub.item, bool(known["late"]))

    def _lease(self, sub: Submission) -> RowMapping:
        lease = leases.lease_of(self._conn, sub.item, sub.reader)
        if lease is None or lease["token"] != sub.token:
            raise ConflictError(
                f"{sub.reader} holds no lease of {sub.item} with this token; lease it again",
                code="no_lease",
                at="token",
            )
        return lease

    def is_late(self, row: store.Row) -> bool:
        """Say whether a judgement that comes now is too late to be the decision."""
        return bool(row["deadline_us"] and self._now >= row["deadline_us"] - self._terms.margin_us)

    def _insert(
        self, sub: Submission, row: store.Row, *, lease: RowMapping, late: bool, skip: str | None = None
    ) -> int:
        before = self._undone(sub)
        values = {
            "item": sub.item,
            "reader": sub.reader,
            "role": self.role(row, lease, before=before),
            "value": dumps(sub.value),
            "regions": store.boxes_text(sub.regions),
            "skip": skip,
            "blind": int(lease["blind"] and (before is None or before["blind"])),
            "late": int(late),
            "seconds": min(sub.seconds, max(0, self._now - lease["leased_us"]) / 1e6),
            "at_us": self._now,
            "supersedes": None if before is None else before["supersedes"],
            "key": sub.key,
        }
        added = self._conn.execute(t.judgements.insert().values(**values))
        key = added.inserted_primary_key
        return int(key[0]) if key else 0

    def holds(self, row: store.Row, lease: RowMapping) -> bool:
        """Say whether a judgement under this lease counts: it is live, or it ended and its place is still free.

        So nobody's work is lost and no client waits longer because a lease was shorter than judging takes.
        """
        if lease["expires_us"] > self._now:
            return True
        if row["state"] not in store.WAITING or (_settles(row) and not self._may_settle(row, lease)):
            return False
        return not leases.Desk(self._conn, lease["reader"], now_us=self._now, margin_us=0).taken(row)

    def role(self, row: store.Row, lease: RowMapping, *, before: RowMapping | None = None) -> str:
        """Say as what a judgement counts.

        Who got an item before it was left to adjudicators reads it like any other; where anyone may settle a
        conflict, so may who got the item before there was one.
        """
        if row["kind"] == gold.ROLE:
            return gold.ROLE
        final = before is not None and before["role"] == "adjudicator"
        settles = _settles(row) and (final or self._may_settle(row, lease))
        return "adjudicator" if settles and self.holds(row, lease) else "reader"

    def _may_settle(self, row: store.Row, lease: RowMapping) -> bool:
        strict = row["escalated"] or self._terms.review(row["endpoint"]).adjudication == "adjudicator"
        return bool(lease["final"] or not strict)

    def _undone(self, sub: Submission) -> RowMapping | None:
        """Return the row by which this reader took an earlier judgement of the item back."""
        j = t.judgements.c
        query = sa.select(t.judgements).where(j.item == sub.item, j.reader == sub.reader, j.skip == store.UNDO)
        return self._conn.execute(query.order_by(j.id.desc()).limit(1)).mappings().first()

    def decide(self, row: store.Row, case: Case, standing: Standing) -> bool:
        """Make the judgement the decision of a request that waits: exactly one row per request (V6)."""
        if not row["pending"]:
            return False
        chosen = becomes_decision(standing, required=case.required, readings=case.readings)
        if chosen is None:
            return False
        decision = {
            "id": row["id"],
            "endpoint": row["endpoint"],
            "value": dumps(chosen.value),
            "regions": store.boxes_text(chosen.regions),
            "by": "person",
            "reader": chosen.reader,
            "policy": row["policy"],
            "at_us": self._now,
            "deadline_us": row["deadline_us"],
            "logged": 0,
        }
        if store.insert_missing(self._conn, t.decisions, [decision]):
            self.decided.append(row["id"])
        self._conn.execute(t.review_items.update().where(t.review_items.c.id == row["id"]).values(pending=0))
        return True


def check_effort(sub: Submission) -> None:
    """Refuse a judgement whose key or seconds make no sense.

    Raises:
        CaseError: an empty or reserved key, or seconds that are negative or not finite.
    """
    if not sub.key or sub.key.startswith(("skip:", "undo:", "late:")):
        raise CaseError(
            "the key must be a text that does not begin with skip:, undo: or late:", code="invalid_key", at="key"
        )
    if not 0.0 <= sub.seconds < float("inf"):
        raise CaseError(
            "seconds must be a finite number that is not negative", code="invalid_seconds", at="seconds"
        )


def _settles(row: store.Row) -> bool:
    """Say whether the next judgement of an item settles it alone."""
    return bool(row["escalated"] or row["state"] == "conflict")


def _same_answer(sub: Submission, known: RowMapping) -> bool:
    return same(json.loads(known["value"]), sub.value) and store.boxes(known["regions"]) == sub.regions
