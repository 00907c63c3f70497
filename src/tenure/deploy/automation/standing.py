"""What speaks for a version on a segment: its certificates, its blind labels, and whether it tells anything."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy.engine import Connection

from tenure.deploy.automation import certificates, informed, levels, lineages, policies
from tenure.deploy.automation.shadow_report import blind_table
from tenure.model.registry import refuses_partial
from tenure.scope.project import EndpointSpec
from tenure.stats.agreement import Table


def evidence(
    conn: Connection, endpoint: str, spec: EndpointSpec, version: str | None, segment: str
) -> levels.Evidence:
    """Return what speaks for a version on a segment since its evidence began."""
    if version is None:
        return levels.Evidence()
    opened = lineages.opened(conn, endpoint, version, segment=segment)
    lines = [row for row in opened if not lineages.counts_of(row).renewal]
    since = min((lineages.counts_of(row).since for row in lines), default=0)
    table = blind_table(conn, endpoint, version, after=since, segment=segment)
    return msgspec.structs.replace(
        certainty(conn, endpoint, spec, version, segment),
        labels=table.n,
        informative=_informative(conn, endpoint, spec, version, table, after=since, segment=segment),
        note=refuses_partial(conn, version) or "; ".join(row["note"] for row in lines if row["note"]),
    )


def certainty(
    conn: Connection, endpoint: str, spec: EndpointSpec, version: str | None, segment: str
) -> levels.Evidence:
    """Return the part of the evidence that certificates give: cheap, for every tick."""
    auto, sides = spec.automation, certified(conn, endpoint, segment).get(version or "", {})
    return levels.Evidence(
        version=version,
        certified=bool(sides),
        complete=complete(spec, sides),
        audit=min(auto.audit.steady, auto.audit.rollout),
        blind=auto.blind,
        declared=auto.start == "full",
    )


def certified(conn: Connection, endpoint: str, segment: str = "") -> policies.Thresholds:
    """Return version -> side -> certified threshold of a segment."""
    found: policies.Thresholds = {}
    for row in certificates.in_force(conn, endpoint, segment):
        found.setdefault(row["version"], {})[row["side"]] = row["threshold"]
    return found


def complete(spec: EndpointSpec, sides: Mapping[str, float]) -> bool:
    """Say whether certified thresholds cover every answer at every confidence."""
    everything = {side for side, threshold in sides.items() if threshold <= 0.0}
    labels = set(spec.output.labels) if spec.output else set()
    return "*" in everything or (bool(labels) and labels <= everything)


def _informative(
    conn: Connection, endpoint: str, spec: EndpointSpec, version: str, table: Table, *, after: int, segment: str
) -> bool:
    """Say whether the answers tell anything: by class where there are classes, else against a constant."""
    output, by = spec.output, spec.automation.loss
    if by.iou is None and (output is None or output.kind == "label"):
        return levels.informative(table)
    pairs = informed.read(conn, endpoint, version, after=after, segment=segment)
    return informed.better_than_constant(pairs, by)
