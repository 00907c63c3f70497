"""The fields of a record under review: where each value lies in the reference, and which are masked.

A masked field never leaves the server with the item. A reviewer who needs it asks for it alone, and the audit
trail keeps who saw which field of which item.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.console.route import JUDGE, Ask, Route
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.data.extract import FIELD
from tenure.data.masking import fields_of
from tenure.deploy.review.items import Leased
from tenure.errors import ConflictError, MissingError
from tenure.monitor import profile
from tenure.monitor.detector import Watch
from tenure.scope.project import EndpointSpec


class Reveal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for one masked field of an item that one holds."""

    token: str
    field: str


def context(services: Services, leased: Leased) -> dict[str, Any]:
    """Return what the page needs to show a record or ask for a number, with masked values taken out.

    `fields` holds name, type, whether it is masked and the reference's range of each declared field; `range` and
    `unit` are those of a number that is to be answered. A range is None until the monitor has learnt a reference.
    """
    spec, output = services.project.endpoints[leased.endpoint], services.project.output(leased.endpoint)
    with services.state.read() as conn:
        known = _ranges(conn, leased.endpoint)
    fields = [
        {
            "name": name,
            "type": field.type,
            "masked": field.masked,
            "values": list(field.values),
            "range": known.get(FIELD + name) if field.type in ("int", "float") else None,
        }
        for name, field in spec.fields.items()
    ]
    answered = known.get("number") if output.kind == "number" else None
    return {
        "fields": fields,
        "record": masked(leased.record, spec),
        "range": answered,
        "unit": output.unit,
        "suggestion": _suggestion(leased, spec),
    }


def _suggestion(leased: Leased, spec: EndpointSpec) -> Any:
    """Return the model's answer without what masked fields contributed, which would tell their values."""
    told = leased.suggestion
    if told is None or told.contributions is None:
        return msgspec.to_builtins(told)
    return msgspec.to_builtins(msgspec.structs.replace(told, contributions=masked(told.contributions, spec)))


def masked(record: Any, spec: EndpointSpec) -> Any:
    """Return the record without the values of masked fields."""
    return fields_of(spec).record(record)


def hides(services: Services, item: str) -> bool:
    """Say whether the item's endpoint masks fields, so that its input may not be handed out whole."""
    i = t.review_items.c
    with services.state.read() as conn:
        endpoint = conn.execute(sa.select(i.endpoint).where(i.id == services.queue.source(item))).scalar()
    spec = services.project.endpoints.get(endpoint or "")
    return spec is not None and any(field.masked for field in spec.fields.values())


def reveal(services: Services, ask: Ask) -> dict[str, Any]:
    """Return one masked field of an item that the reader holds, and write into the audit trail who saw it.

    Raises:
        ConflictError: 409 `no_lease`: the reader does not hold the item.
        MissingError: 404: the item has no such masked field.
    """
    item, name = ask.path["item"], ask.body.field
    with services.state.begin() as conn:
        endpoint, record = _held(conn, services.queue.source(item), ask)
        spec = services.project.endpoints[endpoint]
        if name not in spec.fields or not spec.fields[name].masked or not isinstance(record, dict):
            raise MissingError(f"item {item!r} has no masked field {name!r}", at="field")
        services.state.audit(
            conn,
            actor=ask.who.name,
            action="review.reveal",
            subject=endpoint,
            detail={"item": item, "field": name},
        )
    return {"field": name, "value": record.get(name)}


def _held(conn: Connection, source: str, ask: Ask) -> tuple[str, Any]:
    """Return endpoint and record of an item under the reader's lease; `source` is where its input lies."""
    i, lease = t.review_items.c, t.leases.c
    item = ask.path["item"]
    held = sa.exists().where(lease.item == item, lease.reader == ask.who.name, lease.token == ask.body.token)
    row = conn.execute(sa.select(i.endpoint, i.record).where(i.id == source, held)).one_or_none()
    if row is None:
        raise ConflictError(f"you hold no lease of item {item!r}; lease it again", code="no_lease", at="token")
    return str(row.endpoint), msgspec.json.decode(row.record) if row.record else None


def _ranges(conn: Connection, endpoint: str) -> dict[str, dict[str, Any]]:
    """Return low, high, mean and inner tenths of each watched metric of the input and the answer."""
    r = t.references.c
    query = sa.select(r.body).where(r.endpoint == endpoint, r.stage.in_(("input", "output")))
    watches = (msgspec.json.decode(body, type=Watch) for body in conn.execute(query).scalars())
    return {
        w.metric: {
            "low": w.low,
            "high": w.high,
            "mean": w.mean,
            "quantiles": [profile.value(edge) for edge in w.edges[1:-1]],
        }
        for w in watches
    }


ROUTES = (
    Route(
        "POST", "/api/reviews/{item}/reveal", JUDGE, reveal, "Show one masked field; the audit keeps who", Reveal
    ),
)
