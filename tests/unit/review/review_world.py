"""What the review tests share: an endpoint, items, predictions, and a queue in a given state."""

from __future__ import annotations

from collections.abc import Callable

from tenure.data.state import State
from tenure.deploy.review.items import ItemPrediction, Leased, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.scope.project import EndpointSpec, Fallback, Output, Review, SecondReader, Serve

LABELS = ("good", "defect")


def endpoint(
    *, readers: int = 1, disagreements: float = 1.0, agreements: float = 0.0, lease: float = 120.0
) -> EndpointSpec:
    return EndpointSpec(
        input="image",
        output=Output(labels=LABELS, regions="box"),
        serve=Serve(on_timeout=Fallback(decide="defect", after=30.0)),
        review=Review(
            readers=readers,
            second_reader=SecondReader(disagreements=disagreements, agreements=agreements),
            lease=lease,
        ),
    )


def queue(
    state: State, spec: EndpointSpec | None = None, on_decision: Callable[[], None] | None = None
) -> ReviewQueue:
    return ReviewQueue(state, {"phones": spec or endpoint()}, on_decision=on_decision)


def item(id_: str, state: State, **fields: object) -> NewItem:
    base = {"endpoint": "phones", "kind": "uncertain", "media_type": "image/jpeg", "created_us": state.now_us()}
    return NewItem(id=id_, **(base | fields))  # type: ignore[arg-type]


def said(id_: str, value: str, *, version: str = "m@1", role: str = "primary") -> ItemPrediction:
    return ItemPrediction(item=id_, version=version, role=role, value=value, confidence=0.7, at_us=1)


def put(state: State, q: ReviewQueue, *items: NewItem, preds: tuple[ItemPrediction, ...] = ()) -> int:
    with state.begin() as conn:
        n = q.add(conn, items)
        q.add_predictions(conn, preds)
    return n


def judge(q: ReviewQueue, lease: Leased, reader: str, value: str = "good") -> object:
    return q.submit(lease.item, reader=reader, token=lease.token, value=value, key=f"{reader}:{lease.token}")


def read_one(q: ReviewQueue, reader: str, value: str = "good") -> Leased:
    """Lease one item, judge it, and return the lease."""
    (lease,) = q.lease(reader)
    judge(q, lease, reader, value)
    return lease
