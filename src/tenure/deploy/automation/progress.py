"""How evidence moves on: lineages opened, counted and closed; certificates issued, renewed, lapsed, revoked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.automation import certificates, items, lineage, lineages, rereads
from tenure.deploy.automation.rereads import Rereads
from tenure.scope.project import EndpointSpec

Kind = Literal["opened", "grid", "certified", "renewed", "lapsed", "revoked", "level", "policy"]


class Move(msgspec.Struct, frozen=True):
    """One thing that `reconcile` did, in words."""

    endpoint: str
    kind: Kind
    version: str
    side: str
    sentence: str
    segment: str = ""


class Progress:
    """Moves the rows of `lineages` and `certificates`, inside the caller's transaction.

    Args:
        state: the control state.
        specs: the endpoints' promises.
        wait_us: how long an item without truth holds up the later ones.
    """

    def __init__(self, state: State, specs: Mapping[str, EndpointSpec], *, wait_us: int) -> None:
        self.state = state
        self.specs = specs
        self.wait_us = wait_us

    def watch(self, conn: Connection, endpoint: str, version: str, *, segment: str = "") -> list[Move]:
        """Open the lineages of a version that has none open: one per side, each with its part of the risk.

        Pilot scores in the version's manifest (`pilot_scores`: label -> confidences) fix the grids at once, for
        the first lineage only.
        """
        self._end_changed(conn, endpoint, version, segment)
        busy = {row["side"] for row in lineages.opened(conn, endpoint, version, segment=segment)}
        wanted = {side: bound for side, bound in self.bounds(endpoint, segment).items() if side not in busy}
        for side, bound in wanted.items():
            self.open(conn, endpoint, version, side, bound=bound, segment=segment)
        first = all(r["attempt"] == 1 for r in lineages.opened(conn, endpoint, version, segment=segment))
        if wanted and first and (scores := _manifest_scores(conn, version)):
            self.seed_pilot(conn, endpoint, version, scores, segment=segment)
        cases = f" for {segment}" if segment else ""
        return [
            Move(endpoint, "opened", version, s, f"evidence for {version} {s!r}{cases} is collected", segment)
            for s in wanted
        ]

    def _end_changed(self, conn: Connection, endpoint: str, version: str, segment: str) -> None:
        """Close what was collected for another loss, bound or kind of cases than the project now names."""
        spec, bounds = self.specs[endpoint].automation, self.bounds(endpoint, segment)
        population, why = spec.population(segment), "the project names another loss or bound, or other segments"
        for row in lineages.opened(conn, endpoint, version, segment=segment):
            counts = lineages.counts_of(row)
            named = counts.loss == spec.loss and counts.population == population
            named = named and _same_rereads(counts.rereads, self._rereads(endpoint))
            if not named or bounds.get(row["side"]) != row["bound"]:
                lineages.close(conn, row, why)
        for row in certificates.in_force(conn, endpoint, segment):
            named = certificates.loss_of(row) == spec.loss and certificates.population_of(row) == population
            named = named and not (self._rereads(endpoint) and certificates.rereads_of(row) is None)
            changed = not named or bounds.get(row["side"]) != row["bound"]
            if row["version"] == version and changed:
                certificates.end(conn, row, "lapsed", now_us=self.state.now_us(), cause=why)

    def seed_pilot(
        self, conn: Connection, endpoint: str, version: str, scores_by_label: Mapping[str, Sequence[float]], *,
        segment: str = "",
    ) -> None:  # fmt: skip
        """Fix the grids of pilot lineages from unlabelled confidences that were collected before.

        Args:
            conn: the transaction.
            endpoint: name.
            version: whose confidences these are.
            scores_by_label: confidences in [0, 1] by the label that the version gave.
            segment: whose grids are fixed; thresholds only have to be fixed early, not to fit the segment.
        """
        spec = self.specs[endpoint].automation.certificate
        for row in lineages.opened(conn, endpoint, version, segment=segment):
            if row["state"] != "pilot":
                continue
            every = [s for scores in scores_by_label.values() for s in scores]
            own = every if row["side"] == "*" else list(scores_by_label.get(row["side"], ()))
            counts = lineage.pilot(lineage.Counts(), own, len(every))
            grid = lineage.grid_of(
                counts, bound=row["bound"], delta=row["delta"], wanted=lineage.MIN_SIDE, planned=spec.plan
            )
            if grid is not None:
                lineages.fix_grid(conn, row, grid, after_item=items.newest(conn, endpoint))

    def retire(self, conn: Connection, endpoint: str) -> None:
        """End what was earned for segments that the project names no more: nobody audits it from now on."""
        names, why = self.specs[endpoint].automation.names(), "the project has no such segment any more"
        for table, state in ((t.certificates, "valid"), (t.lineages, "open"), (t.lineages, "pilot")):
            c = table.c
            query = sa.select(table).where(c.endpoint == endpoint, c.state == state, c.segment.not_in(names))
            for row in list(conn.execute(query).mappings()):
                if table is t.certificates:
                    certificates.end(conn, row, "lapsed", now_us=self.state.now_us(), cause=why)
                else:
                    lineages.close(conn, row, why)

    def expire(self, conn: Connection, endpoint: str, now_us: int, *, segment: str = "") -> list[Move]:
        moves = []
        for row in certificates.in_force(conn, endpoint, segment):
            used = row["decisions"] is not None and row["decided"] >= row["decisions"]
            if row["expires_us"] > now_us and not used:
                continue
            cause = f"its {row['decisions']} decisions are made" if used else "its time is over"
            certificates.end(conn, row, "lapsed", now_us=now_us, cause=cause)
            self.restart(conn, row, "its certificate lapsed", keep_grid=True)
            moves.append(_move(row, "lapsed", f"the certificate of {row['version']} {row['side']!r} lapsed"))
        return moves

    def revoke(
        self, conn: Connection, endpoint: str, version: str, now_us: int, *, segment: str = ""
    ) -> list[Move]:
        moves = []
        for row in certificates.in_force(conn, endpoint, segment):
            if row["version"] != version:
                continue
            side = row["side"]
            labels, last = items.take(
                conn,
                endpoint,
                version,
                side=side,
                sample="audited",
                after=row["last_item"],
                now_us=now_us,
                wait_us=self.wait_us,
                by=certificates.loss_of(row),
                segment=segment,
            )
            if certificates.audit(conn, row, labels, last_item=last):
                cause = f"audits contradict the bound of {100 * row['bound']:g} %"
                certificates.end(conn, row, "revoked", now_us=now_us, cause=cause)
                self.restart(conn, row, cause, keep_grid=False)
                moves.append(_move(row, "revoked", f"the certificate of {version} {side!r} is revoked: {cause}"))
        return moves

    def collect(
        self, conn: Connection, endpoint: str, version: str, now_us: int, *, segment: str = ""
    ) -> list[Move]:
        spec = self.specs[endpoint].automation.certificate
        moves = []
        for row in lineages.opened(conn, endpoint, version, segment=segment):
            if row["state"] == "pilot":
                if lineages.run_pilot(conn, row, spec, now_us=now_us):
                    moves.append(_move(row, "grid", f"the thresholds of {version} {row['side']!r} are fixed"))
                continue
            counts, last = lineages.count(conn, row, spec, now_us=now_us, wait_us=self.wait_us)
            moves += self._certify(conn, row, counts, last, now_us)
        return moves

    def _certify(
        self, conn: Connection, line: sa.RowMapping, counts: lineage.Counts, last: int, now_us: int
    ) -> list[Move]:
        valid, grid = lineage.valid(counts, line["delta"]), lineages.grid_of(line)
        held = _held(conn, line)
        if not valid or (held is not None and not counts.renewal and grid[valid[-1]] >= held["threshold"]):
            return []
        if counts.renewal and held is None:
            return []
        spec = self.specs[line["endpoint"]].automation.certificate
        share = held["coverage"] if counts.renewal and held else lineage.share(counts, valid[-1])
        new = certificates.issue(
            conn,
            line,
            counts,
            grid,
            valid[-1],
            coverage=share,
            last_item=last,
            now_us=now_us,
            life_us=int(spec.expires * 1e6),
            decisions=spec.decisions,
        )
        if held is not None:
            certificates.end(conn, held, "superseded", now_us=now_us, cause=f"by certificate {new['id']}")
            self._after_superseding(conn, line, renewed=counts.renewal)
        return [_move(line, "renewed" if counts.renewal else "certified", new["claim"])]

    def _after_superseding(self, conn: Connection, line: sa.RowMapping, *, renewed: bool) -> None:
        """End renewals of the old threshold; after a renewal the search for a bolder one starts afresh."""
        for row in lineages.opened(conn, line["endpoint"], line["version"], segment=line["segment"]):
            if row["side"] != line["side"]:
                continue
            if lineages.counts_of(row).renewal:
                lineages.close(conn, row, "its threshold was replaced or renewed")
            elif renewed:
                lineages.close(conn, row, "renewed; the search goes on with newer labels")
                grid = lineages.fixed_of(row)
                names = row["endpoint"], row["version"], row["side"]
                self.open(conn, *names, bound=row["bound"], grid=grid, segment=row["segment"])

    def renew(self, conn: Connection, endpoint: str, version: str, now_us: int, *, segment: str = "") -> None:
        """Open a renewal for every certificate that is past half of its life, by time or decisions."""
        lines = lineages.opened(conn, endpoint, version, segment=segment)
        busy = {r["side"] for r in lines if lineages.counts_of(r).renewal}
        for row in certificates.in_force(conn, endpoint, segment):
            due = (row["issued_us"] + row["expires_us"]) // 2 <= now_us
            due = due or 2 * row["decided"] >= (row["decisions"] or math.inf)
            if row["version"] == version and due and row["side"] not in busy:
                self.open(
                    conn,
                    endpoint,
                    version,
                    row["side"],
                    bound=row["bound"],
                    grid=lineage.Grid((row["threshold"],), (0,)),
                    renewal=True,
                    segment=segment,
                )

    def restart(self, conn: Connection, certificate: sa.RowMapping, why: str, *, keep_grid: bool) -> None:
        """Close the lineages behind a certificate and open one that counts only items from now on."""
        endpoint, version, side, segment = (certificate[k] for k in ("endpoint", "version", "side", "segment"))
        grid: lineage.Grid | None = None
        for row in lineages.opened(conn, endpoint, version, segment=segment):
            if row["side"] == side:
                lineages.close(conn, row, why)
                if not lineages.counts_of(row).renewal:
                    grid = lineages.fixed_of(row)
        kept = grid if keep_grid else None
        self.open(conn, endpoint, version, side, bound=certificate["bound"], grid=kept, segment=segment)

    def open(
        self,
        conn: Connection,
        endpoint: str,
        version: str,
        side: str,
        *,
        bound: float,
        grid: lineage.Grid | None = None,
        renewal: bool = False,
        segment: str = "",
    ) -> None:
        spec = self.specs[endpoint].automation
        lineages.open_one(
            conn,
            endpoint,
            version,
            side,
            bound=bound,
            delta=(1.0 - spec.certificate.confidence) / max(len(self.bounds(endpoint, segment)), 1),
            now_us=self.state.now_us(),
            grid=grid,
            renewal=renewal,
            by=spec.loss,
            segment=segment,
            population=spec.population(segment),
            weighted=spec.certificate.labels == "weighted" and not renewal,
            again=self._rereads(endpoint),
        )

    def _rereads(self, endpoint: str) -> Rereads | None:
        """Return bound and share of the agreements that are read again, where the project bounds them."""
        spec = self.specs[endpoint]
        bound = spec.automation.certificate.agreements
        return None if bound is None else Rereads(bound, rereads.share_of(spec.review))

    def bounds(self, endpoint: str, segment: str = "") -> dict[str, float]:
        """Return side -> bound of a segment; none where it may never be automated on evidence."""
        spec = self.specs[endpoint].automation.of(segment)
        if spec.sides:
            return {label: side.errors for label, side in spec.sides.items()}
        return {"*": spec.errors} if spec.errors is not None else {}


def _same_rereads(old: Rereads | None, new: Rereads | None) -> bool:
    if old is None or new is None:
        return old is new
    return (old.bound, old.share) == (new.bound, new.share)


def _held(conn: Connection, line: sa.RowMapping) -> sa.RowMapping | None:
    key = (line["version"], line["side"])
    valid = certificates.in_force(conn, line["endpoint"], line["segment"])
    held = [r for r in valid if (r["version"], r["side"]) == key]
    return held[-1] if held else None


def _manifest_scores(conn: Connection, version: str) -> dict[str, list[float]]:
    text = conn.execute(sa.select(t.versions.c.manifest).where(t.versions.c.id == version)).scalar()
    return dict(json.loads(text or "{}").get("pilot_scores") or {})


def _move(row: sa.RowMapping, kind: Kind, sentence: str) -> Move:
    return Move(row["endpoint"], kind, row["version"], row["side"], sentence, row["segment"])
