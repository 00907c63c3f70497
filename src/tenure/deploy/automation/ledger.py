"""The degree of automation of every endpoint: levels, policies, lineages and certificates moved by evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import bias, certificates, levels, lineages, moves, policies, report, standing
from tenure.deploy.automation.progress import Move, Progress
from tenure.deploy.router import Policy
from tenure.errors import ConflictError, MissingError
from tenure.scope.project import Automation as Promise
from tenure.scope.project import EndpointSpec
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

    def segments(self, endpoint: str) -> tuple[str, ...]:
        """Return the names of an endpoint's segments, itself first, as the empty text."""
        return self._spec(endpoint).automation.names()

    def level(self, endpoint: str, segment: str = "") -> Level:
        """Return the level in force; opens its own read."""
        with self.state.read() as conn:
            return self.level_in(conn, endpoint, segment)

    def level_in(self, conn: Connection, endpoint: str, segment: str = "") -> Level:
        """Return the level in force, inside a transaction."""
        row = moves.newest(conn, endpoint, segment)
        return Level.of(row["to_level"]) if row else self._first_level(conn, endpoint, segment)

    def _first_level(self, conn: Connection, endpoint: str, segment: str) -> Level:
        """Return where a segment starts: as its endpoint stands, but what that has earned lifts nothing else."""
        promise = self.promise(endpoint, segment)
        if not segment:
            return Level.of(promise.start)
        declared = promise.start == "full"
        return min(self.level_in(conn, endpoint), Level.FULL if declared else Level.ASSIST, Level.of(promise.max))

    def ensure(self, conn: Connection, endpoint: str) -> None:
        """Write the first levels and the first policies of an endpoint and its segments, where there are none."""
        for segment in self.segments(endpoint):
            start = self.level_in(conn, endpoint, segment)
            if moves.newest(conn, endpoint, segment) is None:
                self._set_level(
                    conn, endpoint, start, author=SYSTEM, cause="start of the project", segment=segment
                )
            if policies.newest(conn, endpoint, segment) is None:
                self._write_policy(
                    conn, endpoint, (), in_rollout=False, cause="start of the project", segment=segment
                )

    def policy(self, conn: Connection, endpoint: str, segment: str = "") -> Policy:
        """Return the newest policy; makes the first from `automation.start`."""
        policy = policies.newest(conn, endpoint, segment)
        if policy is None:
            self.promise(endpoint, segment)
            self.ensure(conn, endpoint)
            policy = policies.newest(conn, endpoint, segment)
        assert policy is not None
        return policy

    def watch(self, conn: Connection, endpoint: str, version: str) -> list[Move]:
        """Open the lineages of a version that has none open; see `Progress.watch`."""
        segments = self.segments(endpoint)
        return [move for s in segments for move in self.progress.watch(conn, endpoint, version, segment=s)]

    def seed_pilot(
        self, conn: Connection, endpoint: str, version: str, scores_by_label: Mapping[str, Sequence[float]]
    ) -> None:
        """Fix the grids of pilot lineages from confidences collected before; see `Progress.seed_pilot`."""
        for segment in self.segments(endpoint):
            self.progress.seed_pilot(conn, endpoint, version, scores_by_label, segment=segment)

    def reconcile(
        self, conn: Connection, endpoint: str, now_us: int, *, live: Sequence[str], in_rollout: bool,
        granted: bool = False,
    ) -> list[Move]:  # fmt: skip
        """Bring levels, certificates and policies in line with the judgements so far, each segment for itself.

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
        self._live[endpoint] = tuple(live)
        self.progress.retire(conn, endpoint)
        done: list[Move] = []
        for segment in self.segments(endpoint):
            done += self._reconcile_one(
                conn, endpoint, segment, now_us, live=live, in_rollout=in_rollout, granted=granted
            )
        return done

    def _reconcile_one(
        self, conn: Connection, endpoint: str, segment: str, now_us: int, *, live: Sequence[str],
        in_rollout: bool, granted: bool,
    ) -> list[Move]:  # fmt: skip
        old, progress = self.policy(conn, endpoint, segment), self.progress
        done = progress.expire(conn, endpoint, now_us, segment=segment)
        for version in live:
            done += progress.watch(conn, endpoint, version, segment=segment)
            done += progress.revoke(conn, endpoint, version, now_us, segment=segment)
            done += progress.collect(conn, endpoint, version, now_us, segment=segment)
            progress.renew(conn, endpoint, version, now_us, segment=segment)
        stable = live[0] if live else None
        revoked = any(m.kind == "revoked" and m.version == stable for m in done)
        done += self._settle_level(conn, endpoint, segment, stable, revoked=revoked)
        cause = "; ".join(m.sentence for m in done) or "audits, versions or expiry changed"
        new = self._write_policy(
            conn, endpoint, live, in_rollout=in_rollout, granted=granted, cause=cause, segment=segment
        )
        if new.id != old.id:
            done.append(Move(endpoint, "policy", "", "", f"policy {new.id}: {cause}", segment))
        return done

    def request(self, endpoint: str, to: Level, by: str, approve: bool, segment: str = "") -> levels.Verdict:
        """Move the level of an endpoint or of one segment on an operator's word, in a transaction of its own.

        Down needs nothing and holds at once. Up needs evidence, one level at a time, and approval unless the
        project climbs by itself.

        Raises:
            ConflictError: the move is not allowed; the message says what is missing.
            MissingError: no such endpoint or segment.
        """
        promise, place = self.promise(endpoint, segment), _place(endpoint, segment)
        with self.state.begin() as conn:
            self.ensure(conn, endpoint)
            old = self.level_in(conn, endpoint, segment)
            if to == old:
                raise ConflictError(f"{place} is at {to.word} already", at=place)
            evidence = self.evidence(conn, endpoint, self._stable(conn, endpoint), segment)
            verdict = levels.Verdict(True, f"lowered by {by}")
            if to > old:
                approved = approve or promise.certificate.up == "automatic"
                verdict = levels.climb(old, to, evidence, cap=Level.of(promise.max), approved=approved)
            if not verdict.allowed:
                raise ConflictError(verdict.reason, at=place)
            self._set_level(
                conn, endpoint, to, author=by, cause=verdict.reason, hold=to < old, segment=segment,
                evidence=evidence,
            )  # fmt: skip
            detail = {"from": old.word, "to": to.word, "reason": verdict.reason}
            self.state.audit(conn, actor=by, action="automation.level", subject=place, detail=detail)
        return verdict

    def drop(
        self, conn: Connection, endpoint: str, to: Level, cause: str, author: str, segment: str | None = None
    ) -> list[Move]:
        """Lower the level after an alarm: what was learned before no longer counts.

        Certificates lapse, lineages close and new ones count only items from now on. A level that is already as
        low stays, but its evidence starts anew all the same. Without a `segment` the alarm is about the endpoint
        as a whole, and so about each of its segments.
        """
        self.ensure(conn, endpoint)
        names = self.segments(endpoint) if segment is None else (segment,)
        return [move for name in names for move in self._drop_one(conn, endpoint, name, to, cause, author)]

    def _drop_one(
        self, conn: Connection, endpoint: str, segment: str, to: Level, cause: str, author: str
    ) -> list[Move]:
        now_us, old = self.state.now_us(), self.level_in(conn, endpoint, segment)
        evidence = standing.certainty(conn, endpoint, self._spec(endpoint), self._stable(conn, endpoint), segment)
        for row in certificates.in_force(conn, endpoint, segment):
            certificates.end(conn, row, "lapsed", now_us=now_us, cause=cause)
        for row in lineages.opened(conn, endpoint, segment=segment):
            lineages.close(conn, row, cause)
            if not lineages.counts_of(row).renewal:
                self.progress.open(
                    conn, endpoint, row["version"], row["side"], bound=row["bound"], segment=segment
                )
        target = min(to, old, Level.ASSIST)
        if target == old:
            return []
        self._set_level(conn, endpoint, target, author=author, cause=cause, segment=segment, evidence=evidence)
        return [Move(endpoint, "level", "", "", f"{old.word} to {target.word}: {cause}", segment)]

    def evidence(
        self, conn: Connection, endpoint: str, version: str | None, segment: str = ""
    ) -> levels.Evidence:
        """Return what speaks for a version on a segment since its evidence began."""
        return standing.evidence(conn, endpoint, self._spec(endpoint), version, segment)

    def ready(self, conn: Connection, endpoint: str) -> dict[str, int]:
        """Return the segments whose certificate only waits for an operator, each with the time of its issue."""
        found, stable = {}, self._stable(conn, endpoint)
        for segment in self.segments(endpoint):
            promise = self.promise(endpoint, segment)
            at_assist = self.level_in(conn, endpoint, segment) == Level.ASSIST
            if not at_assist or promise.certificate.up != "approve" or moves.held_down(conn, endpoint, segment):
                continue
            issued = [
                int(row["issued_us"])
                for row in certificates.in_force(conn, endpoint, segment)
                if row["version"] == stable
            ]
            if not issued:
                continue
            evidence, cap = self.evidence(conn, endpoint, stable, segment), Level.of(promise.max)
            if levels.climb(Level.ASSIST, Level.PARTIAL, evidence, cap=cap, approved=True).allowed:
                found[segment] = min(issued)
        return found

    def report(self, endpoint: str, segment: str = "") -> dict[str, Any]:
        """Return the page of an endpoint or of one segment, as JSON values.

        Level, what is missing for the next one, lineages and certificates; and a row for each segment, where
        there are any.

        Raises:
            MissingError: no such endpoint or segment.
        """
        spec, promise = self._spec(endpoint), self.promise(endpoint, segment)
        names = self.segments(endpoint) if spec.automation.segments else ()
        with self.state.read() as conn:
            stable = self._stable(conn, endpoint)
            level = self.level_in(conn, endpoint, segment)
            evidence = self.evidence(conn, endpoint, stable, segment)
            page = report.automation(conn, endpoint, segment, spec=promise, level=level, evidence=evidence)
            rows = [self._row(conn, endpoint, name, stable) for name in names]
            told = bias.as_json(bias.of(conn, endpoint, spec, segment))
        by = spec.automation.segments.by if spec.automation.segments else None
        return {**page, "bias": told, "by": by, "segments": rows, "promise": report.promise(spec.automation)}

    def _row(self, conn: Connection, endpoint: str, segment: str, stable: str | None) -> dict[str, Any]:
        evidence, level = self.evidence(conn, endpoint, stable, segment), self.level_in(conn, endpoint, segment)
        promise = self.promise(endpoint, segment)
        return report.row(conn, endpoint, segment, spec=promise, level=level, evidence=evidence)

    # ---- parts of reconcile

    def _settle_level(
        self, conn: Connection, endpoint: str, segment: str, stable: str | None, *, revoked: bool
    ) -> list[Move]:
        level, cap = self.level_in(conn, endpoint, segment), Level.of(self.promise(endpoint, segment).max)
        certainty = standing.certainty(conn, endpoint, self._spec(endpoint), stable, segment)
        if revoked and level >= Level.PARTIAL:
            to, why = Level.ASSIST, f"a certificate of {stable} is revoked"
        elif (fall := levels.forced(level, certainty, cap=cap)) is not None:
            to, why = fall
        elif (rise := self._rise(conn, endpoint, segment, level, certainty)) is not None:
            to, why = rise
        else:
            return []
        self._set_level(conn, endpoint, to, author=SYSTEM, cause=why, segment=segment, evidence=certainty)
        return [Move(endpoint, "level", stable or "", "", f"{level.word} to {to.word}: {why}", segment)]

    def _rise(
        self, conn: Connection, endpoint: str, segment: str, level: Level, certainty: levels.Evidence
    ) -> tuple[Level, str] | None:
        """Return the next level where the project climbs by itself and the evidence allows it."""
        spec = self.promise(endpoint, segment)
        if spec.certificate.up != "automatic" or level not in (Level.SHADOW, Level.ASSIST):
            return None
        if (level == Level.ASSIST and not certainty.certified) or moves.held_down(conn, endpoint, segment):
            return None
        to, evidence = Level(level + 1), self.evidence(conn, endpoint, certainty.version, segment)
        verdict = levels.climb(level, to, evidence, cap=Level.of(spec.max), approved=True)
        return (to, verdict.reason) if verdict.allowed else None

    # ---- small parts

    def _spec(self, endpoint: str) -> EndpointSpec:
        try:
            return self.endpoints[endpoint]
        except KeyError:
            raise MissingError(f"no endpoint {endpoint!r}", at=endpoint) from None

    def promise(self, endpoint: str, segment: str) -> Promise:
        """Return what is promised for a segment; raises MissingError where there is none of that name."""
        automation = self._spec(endpoint).automation
        names = automation.names()
        if segment not in names:
            known = f"there are {', '.join(names[1:])}" if names[1:] else "the endpoint has none"
            raise MissingError(f"no segment {segment!r} of {endpoint}; {known}", at=_place(endpoint, segment))
        return automation.of(segment)

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
        granted: bool = False, segment: str = "",
    ) -> Policy:  # fmt: skip
        spec, certified = self._spec(endpoint), standing.certified(conn, endpoint, segment)
        thresholds = {v: certified[v] for v in live if v in certified}
        if granted and live and live[0] in thresholds:
            ended = _ended(conn, endpoint, segment)
            thresholds |= {v: thresholds[live[0]] for v in live if v not in thresholds and v not in ended}
        valid = certificates.in_force(conn, endpoint, segment)
        expires = [r["expires_us"] for r in valid if r["version"] in live]
        policy = policies.compose(
            self.promise(endpoint, segment),
            self.level_in(conn, endpoint, segment),
            endpoint=endpoint,
            thresholds=thresholds,
            complete={v: standing.complete(spec, certified.get(v, {})) for v in live},
            expires_us=min(expires, default=0),
            in_rollout=in_rollout,
            segment=segment,
        )
        return policies.write(conn, endpoint, policy, now_us=self.state.now_us(), cause=cause)

    def _set_level(
        self, conn: Connection, endpoint: str, to: Level, *, author: str, cause: str, hold: bool = False,
        segment: str = "", evidence: levels.Evidence | None = None,
    ) -> None:  # fmt: skip
        """Append the move with its evidence; a move down reaches the policy in the same transaction."""
        old = self.level_in(conn, endpoint, segment)
        moves.append(
            conn, endpoint, old, to, now_us=self.state.now_us(), author=author, cause=cause, hold=hold,
            segment=segment, evidence=evidence,
        )  # fmt: skip
        policy = policies.newest(conn, endpoint, segment)
        if policy is not None and to < old:
            down = policies.lowered(policy, min(to, policy.level))
            policies.write(conn, endpoint, down, now_us=self.state.now_us(), cause=cause)


def _place(endpoint: str, segment: str) -> str:
    return f"{endpoint}/{segment}" if segment else endpoint


def _ended(conn: Connection, endpoint: str, segment: str) -> set[str]:
    """Return the versions that once lost a certificate for a segment: nothing is granted to them there."""
    c = t.certificates.c
    query = sa.select(c.version).where(c.endpoint == endpoint, c.segment == segment)
    return set(conn.execute(query.where(c.state.in_(("lapsed", "revoked")))).scalars())
