"""Rollouts: the ladder, the evidence of each gate, the moves, and the commands."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, get_args

import msgspec
import sqlalchemy as sa

from tenure.console.query import many
from tenure.console.route import OPERATE, VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.deploy.rollout.outline import in_words
from tenure.deploy.rollout.plan import Plan, problems
from tenure.errors import CaseError, ConflictError, MissingError, ProjectError
from tenure.scope.project import Case, Strategy
from tenure.scope.reader import read_rollout
from tenure.scope.rules import plan_faults

COMMANDS = ("pause", "resume", "approve", "promote", "jump", "rollback", "cancel")


class NewRollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Start a rollout of a registered version, with the endpoint's plan, that of a strategy or case, or `plan`.

    `plan` has the keys and spellings of a project file's `rollout` section, such as `{"share": "5%"}`.
    """

    endpoint: str
    candidate: str
    strategy: Strategy | None = None
    case: Case | None = None
    plan: dict[str, Any] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


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
    strategy, case = _one_of(Strategy, ask, "strategy"), _one_of(Case, ask, "case")
    plan = services.rollouts.plan(name, strategy=strategy, case=case)
    wrong = problems(plan, endpoint=services.rollouts.endpoints[name])
    return {"plan": msgspec.to_builtins(plan), "sentences": in_words(plan), "problems": wrong}


def preview(services: Services, ask: Ask) -> dict[str, Any]:
    """Return what `POST /api/rollouts` would start, against whom, and each refusal with its field."""
    body: NewRollout = ask.body
    name = endpoint_of(services, body.endpoint)
    with services.state.read() as conn:
        stable = services.rollouts.stable(conn, name)
    try:
        plan, placed = _plan(services, body)
    except ProjectError as error:
        wrong = [_placed(text) for text in error.faults]
        return {"plan": None, "stable": stable, "sentences": [], "faults": wrong}
    chosen, found = services.rollouts.preview(name, body.candidate, plan)
    known = {at for at, _ in placed}
    every = [*placed, *((at, text) for at, text in found if at not in known)]
    said = [] if any(at.startswith("steps") for at, _ in every) else in_words(chosen)
    wrong = [{"at": at, "text": text} for at, text in every]
    return {"plan": msgspec.to_builtins(chosen), "stable": stable, "sentences": said, "faults": wrong}


def create(services: Services, ask: Ask) -> dict[str, Any]:
    """Start a rollout of a registered version."""
    body: NewRollout = ask.body
    name = endpoint_of(services, body.endpoint)
    plan, wrong = _plan(services, body)
    if wrong:
        raise ConflictError("; ".join(text for _, text in wrong), code="plan_shows_nothing", at=wrong[0][0])
    started = services.rollouts.start(name, body.candidate, by=ask.who.name, plan=plan, reason=body.reason)
    services.publish()
    return {"id": started}


def _plan(services: Services, body: NewRollout) -> tuple[Plan, list[tuple[str, str]]]:
    """Return the plan that a body asks for, and what no project file could hold of it."""
    if body.plan is None:
        return services.rollouts.plan(body.endpoint, strategy=body.strategy, case=body.case), []
    spec = read_rollout(json.dumps(body.plan, indent=0), "plan")
    wrong = plan_faults(spec, services.project.data.unit, "plan")
    plan = services.rollouts.plan(body.endpoint, spec=spec)
    return plan, [(fault.place.removeprefix("plan."), fault.message) for fault in wrong]


_FAULT = re.compile(r"plan:\d+: (?:(\S+): )?(.*)", re.DOTALL)


def _placed(text: str) -> dict[str, str]:
    """Return a fault of the reader with its place apart: it names the line of a file that nobody wrote."""
    found = _FAULT.fullmatch(text)
    return {"at": (found[1] or "") if found else "", "text": found[2] if found else text}


def _one_of(kind: Any, ask: Ask, name: str) -> Any:
    """Return what the query says where it is one of the words of `kind`."""
    said = ask.query.get(name) or None
    if said is not None and said not in get_args(kind):
        *most, last = get_args(kind)
        raise CaseError(f"{said!r} is no {name}; expected {', '.join(most)} or {last}", at=name)
    return said


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
        query={
            "endpoint": "name",
            "strategy": "canary, blue_green or shadow; the endpoint's plan without it",
            "case": "new, assist or replace, instead of a strategy",
        },
    ),
    Route("POST", "/api/plan", VIEW, preview, "What a body would start, and what is refused where", NewRollout),
    Route("POST", "/api/rollouts", OPERATE, create, "Start a rollout", NewRollout),
    Route("GET", "/api/rollouts/{id}", VIEW, rollout, "One rollout with its evidence and moves"),
    Route("POST", "/api/rollouts/{id}/{command}", OPERATE, command, f"One of {', '.join(COMMANDS)}", Reason),
)
