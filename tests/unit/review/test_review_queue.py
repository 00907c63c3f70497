from __future__ import annotations

import pytest
import sqlalchemy as sa
from review_world import endpoint, item, judge, put, queue, read_one, said

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.review.items import Leased, NewItem, Receipt, Submission
from tenure.errors import CaseError, ConflictError, MissingError
from tenure.types import Box


def row(state: State, id_: str) -> sa.RowMapping:
    with state.read() as conn:
        return conn.execute(sa.select(t.review_items).where(t.review_items.c.id == id_)).mappings().one()


def decisions(state: State) -> list[sa.RowMapping]:
    with state.read() as conn:
        return list(conn.execute(sa.select(t.decisions)).mappings())


def judgements(state: State) -> list[sa.RowMapping]:
    with state.read() as conn:
        return list(conn.execute(sa.select(t.judgements).order_by(t.judgements.c.id)).mappings())


def test_items_are_added_once_and_numbered_in_order(any_state: State) -> None:
    q = queue(any_state)
    batch = [item(f"i{n}", any_state) for n in range(150)]
    assert put(any_state, q, *batch) == 150
    assert put(any_state, q, *batch, item("last", any_state), item("last", any_state)) == 1
    assert [row(any_state, i)["number"] for i in ("i0", "i149", "last")] == [1, 150, 151]


def test_a_judgement_resolves_an_item_and_gives_it_a_place_in_the_order(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), item("b", any_state), preds=(said("a", "good"), said("b", "defect")))
    first, second = q.lease("ann", n=2)
    judge(q, second, "ann", "defect")
    judge(q, first, "ann", "good")
    assert [(x.item, x.truth, x.source) for x in q.resolved(0)] == [
        ("b", "defect", "single"),
        ("a", "good", "single"),
    ]
    assert [x.resolution for x in q.resolved(1)] == [2]


def test_the_kind_and_the_deadline_are_never_shown() -> None:
    shown = set(Leased.__struct_fields__)
    assert shown == {
        "item", "endpoint", "token", "expires_us", "blind", "adjudicate", "media_type", "record", "suggestion"
    }  # fmt: skip


def test_a_reviewer_sees_the_model_only_where_the_reading_is_not_blind(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, blind=False, version="m@1"), preds=(said("a", "defect"),))
    (lease,) = q.lease("ann")
    assert lease.suggestion is not None
    assert lease.suggestion.value == "defect"
    judge(q, lease, "ann", "good")
    (second,) = q.lease("bob")
    assert (second.blind, second.suggestion) == (True, None)


def test_two_readers_at_once_are_not_both_shown_the_model(any_state: State) -> None:
    q = queue(any_state, endpoint(readers=2))
    put(any_state, q, item("a", any_state, blind=False, version="m@1"), preds=(said("a", "defect"),))
    (one,), (two,) = q.lease("ann"), q.lease("bob")
    assert (one.blind, two.blind) == (False, True)
    assert all(lease.item != "a" for lease in q.lease("cat"))


def test_a_disagreement_is_read_again_and_adjudicated_by_a_third(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), preds=(said("a", "defect"),))
    read_one(q, "ann", "good")
    assert row(any_state, "a")["state"] == "judged"
    assert q.lease("ann") == []  # V2
    read_one(q, "bob", "defect")
    assert row(any_state, "a")["state"] == "conflict"
    assert q.lease("ann") == q.lease("bob") == []  # V2: nobody adjudicates an own judgement
    (lease,) = q.lease("cat")
    assert lease.adjudicate
    judge(q, lease, "cat", "defect")
    assert row(any_state, "a")["source"] == "adjudicated"
    assert [j["role"] for j in judgements(any_state)] == ["reader", "reader", "adjudicator"]


def test_a_shadow_answer_after_the_judgement_reopens_the_item(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), preds=(said("a", "good"),))
    read_one(q, "ann", "good")
    assert row(any_state, "a")["state"] == "resolved"
    with any_state.begin() as conn:
        q.add_predictions(conn, [said("a", "defect", version="m@2", role="shadow"), said("nobody", "good")])
    again = row(any_state, "a")
    assert (again["state"], again["truth"], again["resolution"]) == ("judged", None, None)
    read_one(q, "bob", "good")
    assert [(x.source, x.resolution) for x in q.resolved(0)] == [("agreed", 2)]


def test_a_versions_first_answer_stands(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), preds=(said("a", "good"), said("a", "defect")))
    put(any_state, q, preds=(said("a", "defect"),))
    with any_state.read() as conn:
        assert conn.execute(sa.select(t.item_predictions.c.value)).scalars().all() == ['"good"']


def test_the_nearest_deadline_comes_first_then_priority_then_age(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenure.deploy.review.leases.OLDEST", 0.0)
    q = queue(state)
    now = state.now_us()
    put(
        state, q,
        item("old", state), item("dear", state, priority=2.0), item("plain", state),
        item("calm", state, pending=True),
        item("later", state, pending=True, deadline_us=now + 60_000_000),
        item("soon", state, pending=True, deadline_us=now + 9_000_000),
        item("gone", state, pending=True, deadline_us=now + 200_000),
    )  # fmt: skip
    assert [x.item for x in q.lease("ann", n=9)] == ["soon", "later", "calm", "dear", "old", "plain"]


def test_nothing_starves_behind_priorities(state: State) -> None:
    q = queue(state)
    put(state, q, item("old", state), *(item(f"p{n}", state, priority=1.0) for n in range(400)))
    seen = [q.lease(f"r{n}")[0].item for n in range(150)]
    assert "old" in seen  # missed with chance 0.9 ** 150 < 2e-7
    assert sum(i != "old" for i in seen) > 100


def test_held_items_come_again_when_nothing_else_is_free(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    assert q.lease("ann") == q.lease("ann")
    assert q.lease("bob") == []


def test_a_late_judgement_is_refused_and_kept(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), preds=(said("a", "good"),))
    (slow,) = q.lease("ann")
    clock.advance(121)
    (fast,) = q.lease("bob")
    for _ in range(2):  # a retry with the same key is told the same
        with pytest.raises(ConflictError, match="kept as training data") as caught:
            judge(q, slow, "ann", "good")
        assert caught.value.status == 409
    judge(q, fast, "bob", "good")
    assert [(j["reader"], j["late"]) for j in judgements(any_state)] == [("ann", 1), ("bob", 0)]
    assert row(any_state, "a")["source"] == "agreed"


def test_a_made_up_or_foreign_token_stores_nothing(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    (lease,) = q.lease("ann")
    for reader, token in (("ann", "l_x"), ("eve", lease.token)):
        with pytest.raises(ConflictError, match="no lease"):
            q.submit("a", reader=reader, token=token, value="good", key=f"k{reader}")
    with pytest.raises(MissingError):
        q.submit("zzz", reader="ann", token=lease.token, value="good", key="k")
    assert judgements(any_state) == []


def test_a_retry_gives_the_same_receipt_and_another_answer_under_its_key_is_refused(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    (lease,) = q.lease("ann")
    assert judge(q, lease, "ann", "good") == judge(q, lease, "ann", "good")
    with pytest.raises(ConflictError, match="another judgement"):
        judge(q, lease, "ann", "defect")
    with pytest.raises(ConflictError, match="already"):
        q.submit("a", reader="ann", token=lease.token, value="good", key="other")
    assert len(judgements(any_state)) == 1


def test_an_answer_outside_the_labels_names_them(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    (lease,) = q.lease("ann")
    send = {"reader": "ann", "token": lease.token, "key": "k"}
    with pytest.raises(CaseError, match="good, defect") as caught:
        q.submit("a", value="bad", **send)
    assert caught.value.status == 422
    with pytest.raises(CaseError, match="x1 < x2"):
        q.submit("a", value="good", regions=[Box(5, 0, 1, 9, "scratch")], **send)
    with pytest.raises(CaseError, match="seconds"):
        q.submit("a", value="good", seconds=float("nan"), **send)
    assert isinstance(q.submit("a", value="good", regions=[Box(1, 0, 5, 9, "scratch")], **send), Receipt)


def test_many_judgements_share_a_transaction_and_fail_one_by_one(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, *(item(f"i{n}", any_state) for n in range(20)))
    entries = [
        Submission(item=x.item, reader="ann", token=x.token, value="good", key=x.item)
        for x in q.lease("ann", n=20)
    ]
    entries[3] = Submission(item="nope", reader="ann", token="t", value="good", key="nope")
    answers = q.submit_many(entries)
    assert isinstance(answers[3], MissingError)
    assert sum(isinstance(a, Receipt) for a in answers) == 19
    assert len(q.resolved(0)) == 19


def test_the_first_judgement_in_time_is_the_decision(any_state: State) -> None:
    called: list[int] = []
    q = queue(any_state, on_decision=lambda: called.append(1))
    deadline = any_state.now_us() + 30_000_000
    pending = item("a", any_state, pending=True, deadline_us=deadline, policy=7)
    put(any_state, q, pending, preds=(said("a", "defect"),))
    read_one(q, "ann", "good")
    read_one(q, "bob", "defect")
    read_one(q, "cat", "defect")
    (made,) = decisions(any_state)
    assert (made["value"], made["by"], made["reader"], made["policy"]) == ('"good"', "person", "ann", 7)
    assert q.resolved(0)[0].truth == "defect"  # later readings change the truth, not the decision (V6)
    assert called == [1]


def test_with_two_readers_wanted_the_resolution_is_the_decision(any_state: State) -> None:
    q = queue(any_state, endpoint(readers=2))
    put(any_state, q, item("a", any_state, pending=True))
    read_one(q, "ann", "good")
    assert decisions(any_state) == []
    read_one(q, "bob", "good")
    assert [d["value"] for d in decisions(any_state)] == ['"good"']


def test_a_judgement_near_the_deadline_is_training_only(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True, deadline_us=any_state.now_us() + 10_000_000))
    (lease,) = q.lease("ann")
    clock.advance(9.75)
    receipt = judge(q, lease, "ann", "good")
    assert receipt.late  # type: ignore[attr-defined]
    assert decisions(any_state) == []
    clock.advance(0.25)
    with any_state.begin() as conn:
        assert q.expire(conn, any_state.now_us()) == 1
    assert [(d["by"], d["value"], d["logged"]) for d in decisions(any_state)] == [("fallback", '"defect"', 0)]
    assert [x.truth for x in q.resolved(0)] == ["good"]


def test_a_judgement_after_its_lease_does_not_take_a_waiting_client_out_of_the_queue(
    any_state: State, clock: ManualClock
) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True))
    (slow,) = q.lease("ann")
    clock.advance(121)
    (fast,) = q.lease("bob")
    with pytest.raises(ConflictError):
        judge(q, slow, "ann", "good")
    judge(q, fast, "bob", "defect")
    assert [d["value"] for d in decisions(any_state)] == ['"defect"']
    assert row(any_state, "a")["state"] == "conflict"


def test_decisions_are_handed_to_the_log_once(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True, deadline_us=any_state.now_us() + 10_000_000))
    read_one(q, "ann", "good")
    with any_state.begin() as conn:
        (due,) = q.undelivered(conn, any_state.now_us())
        assert (due.id, due.value, due.by, due.reader) == ("a", "good", "person", "ann")
        q.mark_logged(conn, ["a"])
        assert q.undelivered(conn, any_state.now_us()) == []


def test_a_decision_that_a_dead_controller_left_too_late_becomes_the_fallback(
    any_state: State, clock: ManualClock
) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True, deadline_us=any_state.now_us() + 10_000_000))
    read_one(q, "ann", "good")
    clock.advance(9.96)  # the controller was dead meanwhile; a worker may be falling back now
    with any_state.begin() as conn:
        assert q.undelivered(conn, any_state.now_us()) == []
    (made,) = decisions(any_state)
    assert (made["by"], made["value"], made["reader"], made["logged"]) == ("fallback", '"defect"', "", 0)
    assert q.resolved(0)[0].truth == "good"


def test_a_fallback_is_looked_after_once_when_it_is_known_who_lived(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True, deadline_us=any_state.now_us() + 10_000_000))
    clock.advance(11)
    with any_state.begin() as conn:
        q.expire(conn, any_state.now_us())
        assert q.undelivered(conn, any_state.now_us()) == []
        assert q.fallen_back(conn, any_state.now_us()) == []
    clock.advance(3600)  # nobody is forgotten, however long the controller was away
    with any_state.begin() as conn:
        (due,) = q.fallen_back(conn, any_state.now_us())
        assert (due.id, due.by, due.value) == ("a", "fallback", "defect")
        q.mark_logged(conn, [due.id])
        assert q.fallen_back(conn, any_state.now_us()) == []


def test_undo_supersedes_and_gives_the_item_back(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), preds=(said("a", "defect"),))
    read_one(q, "ann", "defect")
    assert len(q.resolved(0)) == 1
    again = q.undo("ann")
    assert (row(any_state, "a")["state"], again.item) == ("open", "a")
    judge(q, again, "ann", "good")
    rows = judgements(any_state)
    assert [(j["value"], j["skip"], j["supersedes"]) for j in rows] == [
        ('"defect"', None, None),
        ("null", "undo", rows[0]["id"]),
        ('"good"', None, rows[0]["id"]),
    ]
    assert row(any_state, "a")["state"] == "judged"
    clock.advance(301)
    with pytest.raises(ConflictError, match="5 minutes"):
        q.undo("ann")


def test_undo_is_refused_after_somebody_elses_judgement(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), preds=(said("a", "defect"),))
    read_one(q, "ann", "good")
    read_one(q, "bob", "good")
    with pytest.raises(ConflictError, match="since"):
        q.undo("ann")


def test_undo_leaves_a_decision_as_it_was(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, pending=True))
    read_one(q, "ann", "defect")
    judge(q, q.undo("ann"), "ann", "good")
    assert [d["value"] for d in decisions(any_state)] == ['"defect"']
    assert q.resolved(0)[0].truth == "good"


def test_a_reader_who_saw_the_model_is_not_blind_after_undo(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state, blind=False, version="m@1"), preds=(said("a", "defect"),))
    read_one(q, "ann", "defect")
    again = q.undo("ann")
    q.release("a", reader="ann", token=again.token)
    read_one(q, "bob", "good")
    judge(q, q.lease("ann")[0], "ann", "defect")
    assert [j["blind"] for j in judgements(any_state)] == [0, 0, 0, 0]
    assert row(any_state, "a")["state"] == "judged"  # bob still needs a blind second reader


def test_a_skipped_item_goes_to_others_and_is_given_up_after_three(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    for reader in ("ann", "bob", "cat"):
        (lease,) = q.lease(reader)
        q.skip("a", reader=reader, token=lease.token, reason="blurred")
        q.skip("a", reader=reader, token=lease.token, reason="blurred")  # a retry
    assert q.lease("dan") == []
    assert row(any_state, "a")["state"] == "expired"
    assert len(judgements(any_state)) == 3


def test_renewing_keeps_a_lease_and_releasing_ends_it(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state))
    (lease,) = q.lease("ann")
    clock.advance(100)
    q.renew("a", reader="ann", token=lease.token)
    clock.advance(100)
    assert q.lease("bob") == []
    q.release("a", reader="ann", token=lease.token)
    assert [x.item for x in q.lease("bob")] == ["a"]
    with pytest.raises(ConflictError):
        q.renew("a", reader="ann", token=lease.token)


def test_an_outcome_resolves_an_open_item_and_outranks_later_readers(any_state: State) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), item("b", any_state, pending=True))
    with any_state.begin() as conn:
        assert q.resolve_by_outcome(conn, "a", "defect")
        assert not q.resolve_by_outcome(conn, "a", "good")
        assert not q.resolve_by_outcome(conn, "b", "good")  # a client still waits
        assert not q.resolve_by_outcome(conn, "nobody", "good")
    put(any_state, q, preds=(said("a", "good"),))
    assert [(x.item, x.truth, x.source) for x in q.resolved(0)] == [("a", "defect", "outcome")]


def test_counts_and_readers(any_state: State, clock: ManualClock) -> None:
    q = queue(any_state)
    put(any_state, q, item("a", any_state), preds=(said("a", "defect"),))
    clock.advance(5)
    read_one(q, "ann", "good")
    read_one(q, "bob", "defect")
    put(any_state, q, item("b", any_state, pending=True))
    q.lease("ann")
    found = q.counts("phones")
    assert (found.open, found.pending, found.conflicts, found.leased, found.oldest_s) == (2, 1, 1, 1, 5.0)
    (lease,) = q.lease("cat")
    judge(q, lease, "cat", "defect")
    stats = {s.reader: s for s in q.counts("phones").readers}
    assert (stats["ann"].agreement, stats["bob"].agreement, stats["cat"].agreement) == (0.0, 1.0, None)


def test_an_unknown_endpoint_is_named(state: State) -> None:
    with pytest.raises(CaseError, match="phones"):
        queue(state).lease("ann", endpoint="cars")


def test_records_and_texts_are_shown_as_they_came(any_state: State) -> None:
    q = queue(any_state)
    text = NewItem(
        id="t", endpoint="phones", kind="audit", media_type="text/plain", created_us=1, record="", blind=True
    )
    put(any_state, q, text)
    assert q.lease("ann")[0].record == ""
