"""Label Studio per endpoint, at `/label-studio/ENDPOINT/`: a machine-learning backend, and a webhook in.

Label Studio asks for predictions of tasks (its documentation, "Write your own ML backend"; its `MLApi`). The
answers are the stable version's, made by a worker on the path of every other prediction. They are no requests:
nothing is decided, logged or counted (`deploy/serving/predict/preview.py`).

A task with an id of ours is answered from the input in our own log, and only where a reader at the console would
see the model's answer, too: a reading that counts as blind stays blind.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa

from tenure.console.route import EXCHANGE, Ask, Route, endpoint_of
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.deploy.serving.predict.preview import Preview
from tenure.errors import BusyError, CaseError, ConflictError, MissingError, TenureError
from tenure.maintain.exchange import events, fetching, gather, interface, label_studio, taking, waiting
from tenure.maintain.exchange.entry import Taken
from tenure.maintain.exchange.interface import Interface
from tenure.scope.hosts import allowed
from tenure.settings import Settings

_log = logging.getLogger("tenure.label_studio")
MAX_BODY = 64 << 20
ENOUGH_S = 90.0
"""Label Studio waits 100 s for an answer; what is not done by then is left out and said."""

Tasks = Annotated[tuple[dict[str, Any], ...], msgspec.Meta(max_length=2000)]


class Setup(msgspec.Struct, frozen=True):
    """What Label Studio tells of a project; its `access_token` is neither read nor kept."""

    schema: str | None = None


class Delivery(msgspec.Struct, frozen=True):
    """What a webhook of Label Studio sends."""

    action: str
    annotation: Any = None
    annotations: Any = None
    task: Any = None


class Predict(msgspec.Struct, frozen=True):
    """Tasks to answer; `params.context` says that a person waits for it in the editor."""

    tasks: Tasks
    label_config: str | None = None
    params: dict[str, Any] | None = None


def health(services: Services, ask: Ask) -> dict[str, Any]:
    """Say that the backend is up."""
    name = endpoint_of(services, ask.path["endpoint"])
    return {"status": "UP", "model_class": f"tenure.{name}", "v2": True}


def versions(services: Services, ask: Ask) -> dict[str, Any]:
    """Name the version that answers."""
    return {"versions": [_stable(services, endpoint_of(services, ask.path["endpoint"]))]}


def setup(services: Services, ask: Ask) -> dict[str, Any]:
    """Check that a project's labelling configuration fits the endpoint, and name the version that answers."""
    name = endpoint_of(services, ask.path["endpoint"])
    _names(services, name, ask.body.schema)
    return {"model_version": _stable(services, name)}


def predict(services: Services, ask: Ask) -> dict[str, Any]:
    """Return a prediction for each task, in order; an empty list for one that has none.

    What went wrong with single tasks stands in `errors`. When all fail, the first one's error is the answer.
    """
    name, body = endpoint_of(services, ask.path["endpoint"]), ask.body
    names = _names(services, name, body.label_config)
    clock = services.state.clock
    end_ns = clock.monotonic_ns() + int(ENOUGH_S * 1e9)
    results: list[Any] = []
    faults: list[tuple[int, TenureError]] = []
    for number, task in enumerate(body.tasks):
        try:
            if clock.monotonic_ns() > end_ns:
                raise BusyError(f"not answered within {ENOUGH_S:g} s", code="too_slow")
            results.append(_one(services, name, task, names))
        except TenureError as error:
            faults.append((number, error))
            results.append(None)
    if faults and len(faults) == len(body.tasks):
        raise faults[0][1]
    for number, fault in faults:
        _log.warning("%s: tasks[%d] has no prediction: %s (%s)", name, number, fault.message, fault.code)
    single = (body.params or {}).get("context") is not None  # a person at the editor: always one prediction
    none: Any = {"result": [], "score": None} if single else []
    return {
        "results": [none if found is None else found for found in results],
        "model_version": _stable(services, name),
        "errors": [
            fault.body() | {"at": f"tasks[{number}].{fault.at}", "task": body.tasks[number].get("id")}
            for number, fault in faults
        ],
    }


def webhook(services: Services, ask: Ask) -> dict[str, Any]:
    """Store what a delivery tells: judgements made, changed or deleted; again it changes nothing.

    A judgement whose item somebody reads at the console now is kept, and stored when it is free.

    Raises:
        CaseError: it cannot be read, or nothing of it may be stored; the text says why.
    """
    name = endpoint_of(services, ask.path["endpoint"])
    told = msgspec.to_builtins(ask.body)
    event = events.read({k: v for k, v in told.items() if v is not None}, services.project.output(name))
    if not event.is_ours:
        return {"action": event.action, "ignored": True}
    held: list[Taken] = []
    report = taking.take(services.state, services.queue, name, event.taken, held=held)
    waiting.keep(services.state, name, held)
    dropped = waiting.drop(services.state, name, [*event.gone, *event.skipped])
    gone = taking.take_back(services.state, services.queue, name, [n for n in event.gone if n not in dropped])
    gone.stored += len(dropped)
    unsaid = taking.take_back(services.state, services.queue, name, event.skipped)  # most were never judged
    gone.stored += unsaid.stored
    said = {
        "action": event.action, "skipped": len(event.skipped), "judgements": msgspec.to_builtins(report),
        "deleted": msgspec.to_builtins(gone), "unreadable": [fault.body() for fault in event.faults],
    }  # fmt: skip
    _note(services, name, ask, said)
    services.wake()
    _raise_if_all_failed(event, report, gone)
    return said


def _note(services: Services, name: str, ask: Ask, said: dict[str, Any]) -> None:
    """Write a delivery that did something, or was refused, into the audit trail."""
    told = {
        what: {k: v for k, v in said[what].items() if k in ("stored", "corrected", "refused") and v}
        for what in ("judgements", "deleted")
    }
    if not any(told.values()) and not said["unreadable"]:
        return
    detail = {"action": said["action"], "unreadable": len(said["unreadable"]), **told}
    if said["unreadable"] or any("refused" in found for found in told.values()):
        _log.warning("%s: a delivery of Label Studio was refused in part: %s", name, detail)
    with services.state.begin() as conn:
        services.state.audit(conn, actor=ask.who.name, action="judgements.webhook", subject=name, detail=detail)


def _raise_if_all_failed(event: events.Event, report: taking.Report, gone: taking.Report) -> None:
    """Tell a sender that looks at the status alone that nothing was stored."""
    if event.skipped or report.stored + report.known + report.waiting + gone.stored + gone.known:
        return
    if event.faults:
        raise event.faults[0]
    refused = report.refused | gone.refused
    why = "; ".join([*report.faults, *gone.faults]) or ", ".join(refused)
    if refused:
        status = 404 if "not_found" in refused else 409
        raise CaseError(why, code=next(iter(refused)), at="annotation", status=status)


def _one(services: Services, name: str, task: Mapping[str, Any], names: Interface) -> dict[str, Any] | None:
    """Return the prediction of a task, None where its reader must not see one."""
    item = label_studio.item_of(task)
    if item is None:
        said = _preview(services, name, *_theirs(services, name, task, names))
    else:
        found = _ours(services, name, item)
        if found is None or not label_studio.shows(task):
            return None
        said = _preview(services, name, *found)
    output, prediction = services.project.output(name), said.prediction
    result = label_studio.results(prediction.value, prediction.regions, output, said.size, names)
    return {"result": result, "score": prediction.confidence, "model_version": said.version}


def _preview(services: Services, name: str, body: bytes, media_type: str) -> Preview:
    if services.preview is None:
        raise BusyError("this process has no workers", code="not_ready", at=name)
    return services.preview(name, body, media_type)


def _ours(services: Services, name: str, item: str) -> tuple[bytes, str] | None:
    """Return the input of a request of ours, None where its reader must not see the model's answer.

    Raises:
        MissingError: `unknown_item`, or `no_media` where its input is not kept any more.
    """
    with services.state.read() as conn:
        row = conn.execute(sa.select(t.review_items).where(t.review_items.c.id == item)).mappings().first()
    if row is None or row["endpoint"] != name:
        raise MissingError(f"{name} has no item {item[:80]!r}", code="unknown_item", at="data.tenure_item")
    if row["version"] is None or not gather.may_show(row):
        return None
    if row["record"] is not None:
        return _body(json.loads(row["record"]))
    kept = services.media(item)
    if kept is None:
        raise MissingError(f"the input of {item!r} is not kept", code="no_media", at="data.tenure_item")
    return kept[1], kept[0]


def _theirs(services: Services, name: str, task: Mapping[str, Any], names: Interface) -> tuple[bytes, str]:
    """Return the input of a task that is not ours: text, a record, a data URI, or a file of a listed host.

    Raises:
        CaseError: there is none, or it may not be had.
    """
    spec, data = services.project.endpoints[name], task.get("data")
    value = data.get(names.data) if isinstance(data, Mapping) else None
    place = f"data.{names.data}"
    if value is None or value == "":
        raise CaseError(f"the task has no {place}", code="invalid_task", at=place)
    if spec.input == "record" and isinstance(value, Mapping | str):
        return _body(value) if isinstance(value, Mapping) else (value.encode(), "application/json")
    if not isinstance(value, str):
        raise CaseError(f"{place} must be a text, got {type(value).__name__}", code="invalid_task", at=place)
    if spec.input == "text":
        return _body(value)
    limit = spec.serve.max_body
    if value.startswith("data:"):
        return fetching.data_uri(value, limit=limit)
    hosts = allowed(services.project.exchange.hosts)
    return fetching.fetch(value, hosts, limit=limit, seconds=Settings().fetch_s)


def _body(value: Any) -> tuple[bytes, str]:
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    return msgspec.json.encode(value), "application/json"


def _names(services: Services, name: str, config: str | None) -> Interface:
    kind, output = services.project.endpoints[name].input, services.project.output(name)
    return interface.read(config, kind, output) if config and config.strip() else Interface(data=kind)


def _stable(services: Services, name: str) -> str:
    with services.state.read() as conn:
        found = services.rollouts.stable(conn, name)
    if found is None:
        raise ConflictError(f"no version is in force on {name}", code="no_version", at=name)
    return found


_AT = "/label-studio/{endpoint}"
_OUTSIDE: dict[str, Any] = {"outside": True, "slow": True}

ROUTES = (
    Route("GET", f"{_AT}/", EXCHANGE, health, "Label Studio: whether the backend is up", outside=True),
    Route("GET", f"{_AT}/health", EXCHANGE, health, "Label Studio: whether the backend is up", outside=True),
    Route("GET", f"{_AT}/versions", EXCHANGE, versions, "Label Studio: the version that answers", outside=True),
    Route("POST", f"{_AT}/setup", EXCHANGE, setup, "Label Studio: a project is connected", Setup, **_OUTSIDE),
    Route(
        "POST", f"{_AT}/predict", EXCHANGE, predict, "Label Studio: predictions of tasks", Predict,
        max_body=MAX_BODY, **_OUTSIDE,
    ),
    Route(
        "POST", f"{_AT}/webhook", EXCHANGE, webhook, "Label Studio: what its people say", Delivery,
        max_body=8 << 20, outside=True,
    ),
)  # fmt: skip
