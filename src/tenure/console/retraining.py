"""Retraining: the runs, and starting one."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import sqlalchemy as sa

from tenure.console.query import many
from tenure.console.route import OPERATE, VIEW, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.errors import ConflictError


class NewRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Train a new version with the project's own command."""

    endpoint: str
    cause: Annotated[str, msgspec.Meta(max_length=500)] = ""


def runs(services: Services, ask: Ask) -> dict[str, Any]:
    """Return retraining runs, newest first, and the command that they run."""
    name = endpoint_of(services, ask.query.get("endpoint"))
    run, spec = t.retrain_runs, services.project.endpoints[name].retrain
    statement = sa.select(run).where(run.c.endpoint == name).order_by(run.c.started_us.desc())
    with services.state.read() as conn:
        found = many(conn, statement.limit(100), decode=("metrics",))
    return {
        "runs": found,
        "command": spec.command,
        "min_labels": spec.min_labels,
        "now_us": services.state.now_us(),
    }


def start(services: Services, ask: Ask) -> dict[str, Any]:
    """Start a retraining run; its progress is in the list of runs."""
    body: NewRun = ask.body
    name = endpoint_of(services, body.endpoint)
    if services.project.endpoints[name].retrain.command is None:
        raise ConflictError(
            "the project has no training command; set endpoints.….retrain.command",
            code="no_command",
            at="endpoint",
        )
    cause = body.cause or f"asked for by {ask.who.name}"
    return {"run": services.retrain(name, cause, ask.who.name)}


ROUTES = (
    Route("POST", "/api/retrain", OPERATE, start, "Start a retraining run", NewRun),
    Route("GET", "/api/retrain", VIEW, runs, "Retraining runs, newest first", query={"endpoint": "its name"}),
)
