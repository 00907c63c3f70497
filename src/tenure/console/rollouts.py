"""Rollouts: the ladder, the evidence of each gate, the moves, and the commands."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import sqlalchemy as sa

from tenure.console.query import many
from tenure.console.route import OPERATE, VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.deploy.rollout.outline import in_words
from tenure.deploy.rollout.plan import problems
from tenure.errors import CaseError, MissingError
from tenure.scope.project import Strategy

COMMANDS = ("pause", "resume", "approve", "promote", "jump", "rollback", "cancel")


class NewRollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Start a rollout of a registered version, with the endpoint's plan or with a named strategy."""

    endpoint: str
    candidate: str
    strategy: Strategy | None = None


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; kept with the move and in the audit trail. A jump also says to which step, counted from 0."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    step: Annotated[int, msgspec.Meta(ge=0)] | None = None


def rollouts(services: Services, ask: Ask) -> dict[str, Any]:
    """Return rollouts in short, newest first."""
    table = t.rollouts
    where = []
    if ask.query.get("endpoint"):
        where.append(table.c.endpoint == endpoint_of(services, ask.query["endpoint"]))
    statement = sa.select(table).where(*where).order_by(table.c.created_us.desc())
    with services.state.read() as conn:
        found = many(conn, statement.limit(ask.integer("limit", 50, low=1, high=500)), decode=("plan",))
    return {"rollouts": found, "now_us": services.state.now_us()}


def rollout(services: Services, ask: Ask) -> dict[str, Any]:
    """Return one rollout with its ladder, the evidence of every gate, what it waits for and every move."""
    found = services.rollouts.describe(ask.path["id"])
    if ask.who.role in OPERATE:
        services.rollouts.looked(ask.path["id"])
    return found


def outline(services: Services, ask: Ask) -> dict[str, Any]:
    """Return the plan that would start, in words and as values; nothing starts."""
    name = endpoint_of(services, ask.query.get("endpoint", ""))
    plan = services.rollouts.plan(name, strategy=_strategy(ask.query.get("strategy", "")))
    return {"plan": msgspec.to_builtins(plan), "sentences": in_words(plan), "problems": problems(plan)}


def _strategy(name: str) -> Strategy | None:
    try:
        return msgspec.convert(name, Strategy) if name else None
    except msgspec.ValidationError:
        raise CaseError(
            f"{name!r} is no strategy; expected canary, blue_green or shadow", at="strategy"
        ) from None


def create(services: Services, ask: Ask) -> dict[str, Any]:
    """Start a rollout of a registered version."""
    body: NewRollout = ask.body
    name = endpoint_of(services, body.endpoint)
    plan = services.rollouts.plan(name, strategy=body.strategy)
    started = services.rollouts.start(name, body.candidate, by=ask.who.name, plan=plan)
    services.publish()
    return {"id": started}


def command(services: Services, ask: Ask) -> dict[str, Any]:
    """Run one command on a rollout and return what it is then."""
    verb = ask.path["command"]
    if verb not in COMMANDS:
        raise MissingError(f"there is no command {verb!r}; there are: {', '.join(COMMANDS)}", at="command")
    body: Reason = ask.body
    if verb == "jump":
        if body.step is None:
            raise CaseError("a jump needs the step to go to, counted from 0", at="step")
        services.rollouts.jump(ask.path["id"], body.step, by=ask.who.name, reason=body.reason)
    else:
        getattr(services.rollouts, verb)(ask.path["id"], by=ask.who.name, reason=body.reason)
    services.publish()
    return rollout(services, ask)


ROUTES = (
    Route(
        "GET",
        "/api/rollouts",
        VIEW,
        rollouts,
        "Rollouts, newest first",
        query={"endpoint": "only of this one", "limit": "1 to 500"},
    ),
    Route(
        "GET",
        "/api/plan",
        VIEW,
        outline,
        "The plan that a rollout would start with",
        query={"endpoint": "name", "strategy": "canary, blue_green or shadow; the endpoint's plan without it"},
    ),
    Route("POST", "/api/rollouts", OPERATE, create, "Start a rollout", NewRollout),
    Route("GET", "/api/rollouts/{id}", VIEW, rollout, "One rollout with its evidence and moves"),
    Route("POST", "/api/rollouts/{id}/{command}", OPERATE, command, f"One of {', '.join(COMMANDS)}", Reason),
)
