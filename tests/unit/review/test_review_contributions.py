"""What moved an answer travels with the answer to reviewers, and to nobody who may not see the answer."""

from __future__ import annotations

import msgspec
from review_world import item, put, queue, said

from tenure.data.state import State

WHY = {"age": 0.7, "chol": -0.2}


def test_contributions_are_shown_with_the_answer_and_never_to_a_blind_reader(any_state: State) -> None:
    q = queue(any_state)
    preds = tuple(msgspec.structs.replace(said(i, "good"), contributions=WHY) for i in ("seen", "blind"))
    seen = item("seen", any_state, blind=False, version="m@1")
    put(any_state, q, seen, item("blind", any_state, version="m@1"), preds=preds)
    put(any_state, q, item("bare", any_state, blind=False, version="m@1"), preds=(said("bare", "good"),))
    given = {x.item: x.suggestion for x in q.lease("ann", n=3)}
    assert given["blind"] is None
    assert given["seen"] is not None
    assert given["seen"].contributions == WHY
    assert given["bare"] is not None
    assert given["bare"].contributions is None
