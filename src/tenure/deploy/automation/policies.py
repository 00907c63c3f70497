"""Rows of `policies`: immutable, numbered; a new one is written whenever anything changed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.deploy.router import Policy
from tenure.scope.project import Automation as Spec
from tenure.types import Level

Thresholds = dict[str, dict[str, float]]
"""version -> output label or `*` -> least confidence."""


def newest(conn: Connection, endpoint: str, segment: str = "") -> Policy | None:
    """Return the policy in force for a segment, or None before the first."""
    row = conn.execute(_NEWEST, {"endpoint": endpoint, "segment": segment}).first()
    if row is None:
        return None
    return msgspec.structs.replace(msgspec.json.decode(row.body, type=Policy), id=int(row.id))


_P = t.policies.c
_NEWEST = (  # asked several times a second for each segment: made once
    sa.select(_P.id, _P.body)
    .where(_P.endpoint == sa.bindparam("endpoint"), _P.segment == sa.bindparam("segment"))
    .order_by(_P.id.desc())
    .limit(1)
)


def write(conn: Connection, endpoint: str, policy: Policy, *, now_us: int, cause: str) -> Policy:
    """Append a policy and return it with its number, unless it equals the one in force for its segment."""
    old = newest(conn, endpoint, policy.segment)
    if old is not None and msgspec.structs.replace(policy, id=old.id) == old:
        return old
    row = {"endpoint": endpoint, "segment": policy.segment, "body": "", "created_us": now_us, "cause": cause}
    key = conn.execute(t.policies.insert().values(**row)).inserted_primary_key
    numbered = msgspec.structs.replace(policy, id=int(key[0] if key else 0))
    body = msgspec.json.encode(numbered, order="sorted").decode()
    conn.execute(t.policies.update().where(t.policies.c.id == numbered.id).values(body=body))
    return numbered


def compose(
    spec: Spec,
    level: Level,
    *,
    endpoint: str,
    thresholds: Thresholds,
    complete: Mapping[str, bool],
    expires_us: int,
    in_rollout: bool,
    segment: str = "",
) -> Policy:
    """Return the policy that level and certificates allow; its number is not yet known (0).

    Args:
        spec: the endpoint's promises.
        level: in force.
        endpoint: whose draws are salted by its name.
        thresholds: certified for the live versions.
        complete: live version -> whether its certificates cover every answer at every confidence.
        expires_us: when the first of the certificates lapses.
        in_rollout: audits are denser while a rollout runs.
        segment: which part of the cases it is for.
    """
    declared = spec.start == "full" and level == Level.FULL  # replaces nobody: there is nothing to earn
    automated = level >= Level.PARTIAL and bool(thresholds) and not declared
    if level == Level.FULL and not declared and not all(complete.values()):
        level = Level.PARTIAL  # `full` would automate a version that has not earned it
    return Policy(
        id=0,
        level=level,
        thresholds=thresholds if automated else {},
        audit=spec.audit.rollout if in_rollout else spec.audit.steady,
        blind=spec.blind,
        valid_until_ns=expires_us * 1000 if automated else 0,
        salt=endpoint,
        segment=segment,
    )


def segment_of(conn: Connection, policy: int) -> str:
    """Return the segment that a policy is for; empty for one that is not known."""
    p = t.policies.c
    return str(conn.execute(sa.select(p.segment).where(p.id == policy)).scalar() or "")


def lowered(policy: Policy, to: Level) -> Policy:
    """Return the policy at a lower level; without thresholds below `partial`."""
    if to >= Level.PARTIAL:
        return msgspec.structs.replace(policy, level=to)
    return msgspec.structs.replace(policy, level=to, thresholds={}, valid_until_ns=0)
