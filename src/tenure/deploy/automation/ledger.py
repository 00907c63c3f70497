"""The degree of automation of every endpoint: levels, policies, lineages and certificates moved by evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State, dumps
from tenure.deploy.automation import bias, certificates, informed, levels, lineages, policies, report
from tenure.deploy.automation.progress import Move, Progress
from tenure.deploy.automation.shadow_report import blind_table
from tenure.deploy.router import Policy
from tenure.errors import ConflictError, MissingError
from tenure.model.registry import refuses_partial
from tenure.scope.project import EndpointSpec
from tenure.stats.agreement import Table
from tenure.types import Level

SYSTEM = "tenure"
"""Author of moves that no person made."""


class Automation:
    """Owns the tables `levels`, `policies`, `lineages` and `certificates`.

    Methods that take `conn` run inside the caller's write transaction. `live` names the versions that answer or
    shadow, the stable one first.

    Args:
        state: the control state.
        endpoints: their promises.
        wait_s: how long an item without truth holds up the later ones, counted from the first later truth.
    """

    def __init__(self, state: State, endpoints: Mapping[str, EndpointSpec], *, wait_s: float = 30.0) -> None:
        self.state = state
        self.endpoints = endpoints
        self.progress = Progress(state, endpoints, wait_us=int(wait_s * 1e6))
        self._live: dict[str, tuple[str, ...]] = {}

    def level(self, endpoint: str) -> Level:
        """Return the level in force; opens its own read."""
        with self.state.read() as conn:
            return self.level_in(conn, endpoint)

    def level_in(self, conn: Connection, endpoint: str) -> Level:
        """Return the level in force, inside a transaction."""
        row = newest_move(conn, endpoint)
        return Level.of(row["to_level"] if row else self._spec(endpoint).automation.start)

    def ensure(self, conn: Connection, endpoint: str) -> None:
        """Write the first level and the first policy of an endpoint if it has none."""
        start = self.level_in(conn, endpoint)
        if newest_move(conn, endpoint) is None:
            self._set_level(conn, endpoint, start, author=SYSTEM, cause="start of the project")
        if policies.newest(conn, endpoint) is None:
            self._write_policy(conn, endpoint, (), in_rollout=False, cause="start of the project")

    def policy(self, conn: Connection, endpoint: str) -> Policy:
        """Return the newest policy; makes the first from `automation.start`."""
        policy = policies.newest(conn, endpoint)
        if policy is None:
            self.ensure(conn, endpoint)
            policy = policies.newest(conn, endpoint)
        assert policy is not None
        return policy

    def watch(self, conn: Connection, endpoint: str, version: str) -> list[Move]:
        """Open the lineages of a version that has none open; see `Progress.watch`."""
        self._spec(endpoint)
        return self.progress.watch(conn, endpoint, version)

    def seed_pilot(
        self, conn: Connection, endpoint: str, version: str, scores_by_label: Mapping[str, Sequence[float]]
    ) -> None:
        """Fix the grids of pilot lineages from confidences collected before; see `Progress.seed_pilot`."""
        self._spec(endpoint)
        self.progress.seed_pilot(conn, endpoint, version, scores_by_label)

    def reconcile(
        self, conn: Connection, endpoint: str, now_us: int, *, live: Sequence[str], in_rollout: bool,
        granted: bool = False,
    ) -> list[Move]:  # fmt: skip
        """Bring levels, certificates and the policy in line with the judgements so far.

        Args:
            conn: the transaction.
            endpoint: name.
            now_us: wall time, UTC microseconds.
            live: versions that answer or shadow, the stable one first.
            in_rollout: whether a rollout runs.
            granted: whether the rollout's plan lends the stable version's thresholds to the candidate.

        Returns:
            What was done, in order.
        """
        old = self.policy(conn, endpoint)
        self._live[endpoint] = tuple(live)
        moves = self.progress.expire(conn, endpoint, now_us)
        for version in live:
            moves += self.progress.watch(conn, endpoint, version)
            moves += self.progress.revoke(conn, endpoint, version, now_us)
            moves += self.progress.collect(conn, endpoint, version, now_us)
            self.progress.renew(conn, endpoint, version, now_us)
        stable = live[0] if live else None
        revoked = any(m.kind == "revoked" and m.version == stable for m in moves)
        moves += self._settle_level(conn, endpoint, stable, revoked=revoked)
        cause = "; ".join(m.sentence for m in moves) or "audits, versions or expiry changed"
        new = self._write_policy(conn, endpoint, live, in_rollout=in_rollout, granted=granted, cause=cause)
        if new.id != old.id:
            moves.append(Move(endpoint, "policy", "", "", f"policy {new.id}: {cause}"))
        return moves

    def request(self, endpoint: str, to: Level, by: str, approve: bool) -> levels.Verdict:
        """Move the level on an operator's word, in a transaction of its own.

        Down needs nothing and holds at once. Up needs evidence, one level at a time, and approval unless the
        project climbs by itself.

        Raises:
            ConflictError: the move is not allowed; the message says what is missing.
            MissingError: no such endpoint.
        """
        with self.state.begin() as conn:
            self.ensure(conn, endpoint)
            old = self.level_in(conn, endpoint)
            if to == old:
                raise ConflictError(f"{endpoint} is at {to.word} already", at=endpoint)
            verdict = levels.Verdict(True, f"lowered by {by}")
            if to > old:
                spec = self._spec(endpoint).automation
                verdict = levels.climb(
                    old,
                    to,
                    self.evidence(conn, endpoint, self._stable(conn, endpoint)),
                    cap=Level.of(spec.max),
                    approved=approve or spec.certificate.up == "automatic",
                )
            if not verdict.allowed:
                raise ConflictError(verdict.reason, at=endpoint)
            self._set_level(conn, endpoint, to, author=by, cause=verdict.reason, hold=to < old)
            detail = {"from": old.word, "to": to.word, "reason": verdict.reason}
            self.state.audit(conn, actor=by, action="automation.level", subject=endpoint, detail=detail)
        return verdict

    def drop(self, conn: Connection, endpoint: str, to: Level, cause: str, author: str) -> list[Move]:
        """Lower the level after an alarm: what was learned before no longer counts.

        Certificates lapse, lineages close and new ones count only items from now on. A level that is already as
        low stays, but its evidence starts anew all the same.
        """
        self.ensure(conn, endpoint)
        now_us, old = self.state.now_us(), self.level_in(conn, endpoint)
        for row in certificates.in_force(conn, endpoint):
            certificates.end(conn, row, "lapsed", now_us=now_us, cause=cause)
        for row in lineages.opened(conn, endpoint):
            lineages.close(conn, row, cause)
            if not lineages.counts_of(row).renewal:
                self.progress.open(conn, endpoint, row["version"], row["side"], bound=row["bound"])
        target = min(to, old, Level.ASSIST)
        if target == old:
            return []
        self._set_level(conn, endpoint, target, author=author, cause=cause)
        return [Move(endpoint, "level", "", "", f"{old.word} to {target.word}: {cause}")]

    def evidence(self, conn: Connection, endpoint: str, version: str | None) -> levels.Evidence:
        """Return what speaks for a version since its evidence began."""
        if version is None:
            return levels.Evidence()
        lines = [r for r in lineages.opened(conn, endpoint, version) if not lineages.counts_of(r).renewal]
        since = min((lineages.counts_of(r).since for r in lines), default=0)
        table = blind_table(conn, endpoint, version, after=since)
        return msgspec.structs.replace(
            self._certainty(conn, endpoint, version),
            labels=table.n,
            informative=self._informative(conn, endpoint, version, table, after=since),
            note=refuses_partial(conn, version) or "; ".join(r["note"] for r in lines if r["note"]),
        )

    def report(self, endpoint: str) -> dict[str, Any]:
        """Return level, what is missing for the next one, lineages and certificates, as JSON values."""
        spec = self._spec(endpoint).automation
        with self.state.read() as conn:
            level, stable = self.level_in(conn, endpoint), self._stable(conn, endpoint)
            evidence = self.evidence(conn, endpoint, stable)
            page = report.automation(conn, endpoint, spec=spec, level=level, evidence=evidence)
            return {**page, "bias": bias.as_json(bias.of(conn, endpoint, self._spec(endpoint)))}

    def _informative(self, conn: Connection, endpoint: str, version: str, table: Table, *, after: int) -> bool:
        """Say whether the answers tell anything: by class where there are classes, else against a constant."""
        output, by = self._spec(endpoint).output, self._spec(endpoint).automation.loss
        if by.iou is None and (output is None or output.kind == "label"):
            return levels.informative(table)
        return informed.better_than_constant(informed.read(conn, endpoint, version, after=after), by)

    # ---- parts of reconcile

    def _settle_level(self, conn: Connection, endpoint: str, stable: str | None, *, revoked: bool) -> list[Move]:
        level, cap = self.level_in(conn, endpoint), Level.of(self._spec(endpoint).automation.max)
        certainty = self._certainty(conn, endpoint, stable)
        if revoked and level >= Level.PARTIAL:
            to, why = Level.ASSIST, f"a certificate of {stable} is revoked"
        elif (fall := levels.forced(level, certainty, cap=cap)) is not None:
            to, why = fall
        elif (rise := self._rise(conn, endpoint, level, certainty)) is not None:
            to, why = rise
        else:
            return []
        self._set_level(conn, endpoint, to, author=SYSTEM, cause=why)
        return [Move(endpoint, "level", stable or "", "", f"{level.word} to {to.word}: {why}")]

    def _rise(
        self, conn: Connection, endpoint: str, level: Level, certainty: levels.Evidence
    ) -> tuple[Level, str] | None:
        """Return the next level where the project climbs by itself and the evidence allows it."""
        spec = self._spec(endpoint).automation
        if spec.certificate.up != "automatic" or level not in (Level.SHADOW, Level.ASSIST):
            return None
        if (level == Level.ASSIST and not certainty.certified) or _held_down(conn, endpoint):
            return None
        to, evidence = Level(level + 1), self.evidence(conn, endpoint, certainty.version)
        verdict = levels.climb(level, to, evidence, cap=Level.of(spec.max), approved=True)
        return (to, verdict.reason) if verdict.allowed else None

    def _certainty(self, conn: Connection, endpoint: str, version: str | None) -> levels.Evidence:
        """Return the part of the evidence that certificates give: cheap, for every tick."""
        spec = self._spec(endpoint).automation
        sides = self._certified(conn, endpoint).get(version or "", {})
        return levels.Evidence(
            version=version,
            certified=bool(sides),
            complete=self._complete(endpoint, sides),
            audit=min(spec.audit.steady, spec.audit.rollout),
            blind=spec.blind,
            declared=spec.start == "full",
        )

    # ---- small parts

    def _spec(self, endpoint: str) -> EndpointSpec:
        try:
            return self.endpoints[endpoint]
        except KeyError:
            raise MissingError(f"no endpoint {endpoint!r}", at=endpoint) from None

    def _certified(self, conn: Connection, endpoint: str) -> policies.Thresholds:
        """Return version -> side -> certified threshold."""
        found: policies.Thresholds = {}
        for row in certificates.in_force(conn, endpoint):
            found.setdefault(row["version"], {})[row["side"]] = row["threshold"]
        return found

    def _complete(self, endpoint: str, sides: Mapping[str, float]) -> bool:
        output = self._spec(endpoint).output
        everything = {side for side, threshold in sides.items() if threshold <= 0.0}
        labels = set(output.labels) if output else set()
        return "*" in everything or (bool(labels) and labels <= everything)

    def _stable(self, conn: Connection, endpoint: str) -> str | None:
        """Return the stable version as last reconciled, else the newest with evidence, else the newest at all."""
        if live := self._live.get(endpoint):
            return live[0]
        if lines := lineages.opened(conn, endpoint):
            return str(lines[-1]["version"])
        c = t.versions.c
        known = sa.select(c.id).where(c.endpoint == endpoint, c.state != "retired")
        found = conn.execute(known.order_by(c.created_us.desc(), c.id).limit(1)).scalar()
        return None if found is None else str(found)

    def _write_policy(
        self, conn: Connection, endpoint: str, live: Sequence[str], *, in_rollout: bool, cause: str,
        granted: bool = False,
    ) -> Policy:  # fmt: skip
        spec = self._spec(endpoint)
        certified = self._certified(conn, endpoint)
        thresholds = {v: certified[v] for v in live if v in certified}
        if granted and live and live[0] in thresholds:
            ended = _ended(conn, endpoint)
            thresholds |= {v: thresholds[live[0]] for v in live if v not in thresholds and v not in ended}
        expires = [r["expires_us"] for r in certificates.in_force(conn, endpoint) if r["version"] in live]
        policy = policies.compose(
            spec.automation,
            self.level_in(conn, endpoint),
            endpoint=endpoint,
            thresholds=thresholds,
            complete={v: self._complete(endpoint, certified.get(v, {})) for v in live},
            expires_us=min(expires, default=0),
            in_rollout=in_rollout,
        )
        return policies.write(conn, endpoint, policy, now_us=self.state.now_us(), cause=cause)

    def _set_level(
        self, conn: Connection, endpoint: str, to: Level, *, author: str, cause: str, hold: bool = False
    ) -> None:
        """Append the move; a move down reaches the policy in the same transaction."""
        old = self.level_in(conn, endpoint)
        row = {
            "endpoint": endpoint,
            "at_us": self.state.now_us(),
            "from_level": old.word,
            "to_level": to.word,
            "author": author,
            "cause": cause,
            "numbers": dumps({"hold": hold}),
        }
        conn.execute(t.levels.insert().values(**row))
        policy = policies.newest(conn, endpoint)
        if policy is not None and to < old:
            down = policies.lowered(policy, min(to, policy.level))
            policies.write(conn, endpoint, down, now_us=self.state.now_us(), cause=cause)


def newest_move(conn: Connection, endpoint: str) -> sa.RowMapping | None:
    """Return the newest row of `levels` of an endpoint."""
    c = t.levels.c
    query = sa.select(t.levels).where(c.endpoint == endpoint).order_by(c.id.desc()).limit(1)
    return conn.execute(query).mappings().first()


def _held_down(conn: Connection, endpoint: str) -> bool:
    """Say whether a person lowered the level last: then only a person raises it."""
    row = newest_move(conn, endpoint)
    return row is not None and bool(json.loads(row["numbers"]).get("hold"))


def _ended(conn: Connection, endpoint: str) -> set[str]:
    """Return the versions that once lost a certificate: nothing is granted to them."""
    c = t.certificates.c
    query = sa.select(c.version).where(c.endpoint == endpoint, c.state.in_(("lapsed", "revoked")))
    return set(conn.execute(query).scalars())
