"""Review: leasing items, judging them, and what a reviewer may see of an item.

A reviewer never learns why an item is in the queue: an audit looks like any other item.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from tenure.console import overview, review_fields
from tenure.console.route import JUDGE, VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.deploy.review import conventions
from tenure.deploy.review import readers as measured
from tenure.deploy.review.caps import DAY_US
from tenure.deploy.review.items import Leased, Submission
from tenure.errors import CaseError, MissingError, TenureError
from tenure.types import Box, Value

FINAL = frozenset({"adjudicator", "operator"})
"""Whose word decides what was escalated."""

ALL_ROWS = frozenset({"viewer", "operator"})
"""Who sees how every reader does: auditors (viewers) and operators."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says about a leased item; `seconds` are active seconds."""

    token: str
    value: Value
    regions: tuple[Box, ...] = ()
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One judgement of a batch, with its item and its own idempotency key."""

    item: str
    token: str
    value: Value
    key: Text
    regions: tuple[Box, ...] = ()
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several judgements at once, as a program sends them."""

    judgements: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=1, max_length=500)]


class SkipItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give a leased item to somebody else, with the reason."""

    token: str
    reason: Text


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token of a lease."""

    token: str


def counts(services: Services, ask: Ask) -> dict[str, Any]:
    """Return how many items wait, by what they wait for."""
    name = endpoint_of(services, ask.query.get("endpoint"))
    with services.state.read() as conn:
        return overview.review(conn, name)


def lease(services: Services, ask: Ask) -> dict[str, Any]:
    """Lease up to `n` items; an item that the reader already holds may come again with the same token."""
    name = ask.query.get("endpoint")
    wanted = endpoint_of(services, name) if name else None
    n = ask.integer("n", 1, low=1, high=50)
    final = ask.who.role in FINAL
    leased = services.queue.lease(ask.who.name, n=n, endpoint=wanted, adjudicator=final)
    return {"items": [shown(services, one) for one in leased], "now_us": services.state.now_us()}


def submit(services: Services, ask: Ask) -> dict[str, Any]:
    """Store a judgement; the same Idempotency-Key again gives the same answer and no second judgement."""
    if not ask.key:
        raise CaseError(
            "send the header Idempotency-Key, so that a retry is safe", code="no_key", at="Idempotency-Key"
        )
    body: Judgement = ask.body
    answer = services.queue.submit(
        ask.path["item"],
        reader=ask.who.name,
        token=body.token,
        value=body.value,
        regions=body.regions,
        seconds=body.seconds,
        key=ask.key,
    )
    services.wake()
    return {"item": ask.path["item"], "result": msgspec.to_builtins(answer)}


def submit_many(services: Services, ask: Ask) -> dict[str, Any]:
    """Store several judgements; each gets its receipt or its own error, in order."""
    entries = [Submission(reader=ask.who.name, **msgspec.structs.asdict(entry)) for entry in ask.body.judgements]
    answers = services.queue.submit_many(entries)
    services.wake()
    return {"results": [a.body() if isinstance(a, TenureError) else msgspec.to_builtins(a) for a in answers]}


def skip(services: Services, ask: Ask) -> dict[str, Any]:
    """Give an item to somebody else, with the reason."""
    services.queue.skip(ask.path["item"], reader=ask.who.name, token=ask.body.token, reason=ask.body.reason)
    return {"item": ask.path["item"]}


def escalate(services: Services, ask: Ask) -> dict[str, Any]:
    """Hand an item to an adjudicator, with the reason."""
    body: SkipItem = ask.body
    services.queue.escalate(ask.path["item"], reader=ask.who.name, token=body.token, reason=body.reason)
    return {"item": ask.path["item"]}


def release(services: Services, ask: Ask) -> dict[str, Any]:
    """Give an item back unjudged."""
    services.queue.release(ask.path["item"], reader=ask.who.name, token=ask.body.token)
    return {"item": ask.path["item"]}


def renew(services: Services, ask: Ask) -> dict[str, Any]:
    """Keep a lease alive."""
    services.queue.renew(ask.path["item"], reader=ask.who.name, token=ask.body.token)
    return {"item": ask.path["item"]}


def media(services: Services, ask: Ask) -> Response:
    """Return the input of an item as it came; 404 where it was not kept."""
    item = ask.path["item"]
    if review_fields.hides(services, item):
        raise MissingError("fields of this input are masked; ask for one by reveal", code="no_media", at="item")
    found = services.media(services.queue.source(item))
    if found is None:
        raise MissingError(f"the input of {item!r} was not kept", code="no_media", at="item")
    kind, data = found
    if not kind.startswith(("image/", "audio/")) or kind == "image/svg+xml":
        kind = "application/octet-stream"  # nothing that a browser would run
    return Response(data, media_type=kind, headers={"cache-control": "private, no-store"})


def shown(services: Services, leased: Leased) -> dict[str, Any]:
    """Return what a reviewer sees: the lease as the queue gives it, and what may be answered."""
    output = services.project.output(leased.endpoint)
    answers = {"labels": list(output.labels), "regions": output.regions, "kind": output.kind}
    return dict(msgspec.to_builtins(leased)) | answers | review_fields.context(services, leased)


def undo(services: Services, ask: Ask) -> dict[str, Any]:
    """Take the reader's own last judgement back; the item comes up again under a new lease."""
    again = services.queue.undo(ask.who.name)
    services.wake()
    return {"item": shown(services, again)}


def readers(services: Services, ask: Ask) -> dict[str, Any]:
    """Return how each reader does; a reviewer gets their own row only, with agreement up to the last midnight.

    A reviewer who saw it rise after a judgement would know that the item was gold.
    """
    name = endpoint_of(services, ask.query.get("endpoint"))
    now = services.state.now_us()
    since = now - ask.integer("days", 30, low=1, high=3650) * DAY_US
    with services.state.read() as conn:
        found = measured.readings(conn, name, since_us=since)
    if ask.who.role not in ALL_ROWS:
        mine = [one for one in found if one.reader == ask.who.name]
        rows = measured.table(mine, checked_before_us=now - now % DAY_US)
        return {"endpoint": name, "readers": msgspec.to_builtins(rows), "conventions": None, "own": True}
    return {
        "endpoint": name,
        "readers": msgspec.to_builtins(measured.table(found)),
        "conventions": msgspec.to_builtins(conventions.compare(found)),
        "own": False,
    }


_KEY = "needs the header Idempotency-Key"

ROUTES = (
    Route("GET", "/api/reviews/counts", VIEW, counts, "How many items wait", query={"endpoint": "its name"}),
    Route(
        "GET",
        "/api/reviews/readers",
        VIEW,
        readers,
        "How each reader does; reviewers see their own row",
        query={"endpoint": "its name", "days": "1 to 3650, 30 by default"},
    ),
    Route(
        "POST",
        "/api/reviews/lease",
        JUDGE,
        lease,
        "Lease items to judge",
        query={"n": "1 to 50", "endpoint": "only of this one"},
    ),
    Route("POST", "/api/reviews/undo", JUDGE, undo, "Take one's last judgement back"),
    Route("POST", "/api/reviews/{item}/judgements", JUDGE, submit, f"Judge a leased item; {_KEY}", Judgement),
    Route("POST", "/api/reviews/judgements", JUDGE, submit_many, "Judge several leased items at once", Batch),
    Route("POST", "/api/reviews/{item}/skip", JUDGE, skip, "Give an item to somebody else", SkipItem),
    Route("POST", "/api/reviews/{item}/escalate", JUDGE, escalate, "Hand an item to an adjudicator", SkipItem),
    Route("POST", "/api/reviews/{item}/release", JUDGE, release, "Give an item back", Token),
    Route("POST", "/api/reviews/{item}/renew", JUDGE, renew, "Keep a lease alive", Token),
    Route(
        "GET",
        "/api/reviews/{item}/media",
        JUDGE,
        media,
        "The input as it came",
        answer="application/octet-stream",
    ),
)
