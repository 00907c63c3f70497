"""Audits after a certificate: false revocations, how soon a rise is noticed, renewal, and real shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from certificates_bench.draws import DELTA, NOTHING, Evidence, claims, draw, grid_of
from certificates_bench.populations import Bools, Floats, Shift
from tenure.stats import certificate

BOUNDS = (0.01, 0.02, 0.05)
RISES = (1.0, 2.0, 3.0, 5.0)
RATES = (0.0, 0.25, 0.5, 1.0)
AUDITS = 5000


@dataclass(frozen=True)
class Ends:
    """Audits and errors until the end, per run; -1 where it did not come."""

    audits: Floats
    errors: Floats

    @property
    def share(self) -> float:
        return float((self.audits > 0).mean())

    def median(self, what: Floats) -> float | None:
        """Return the median over all runs, or None where fewer than half ended."""
        if 2 * (self.audits > 0).sum() <= len(self.audits):
            return None
        return float(np.median(np.where(self.audits > 0, what, np.inf)))

    def row(self) -> dict[str, Any]:
        return {"share": self.share, "audits": self.median(self.audits), "errors": self.median(self.errors)}


def revoked(wrong: Bools, bound: float) -> Ends:
    """Return when the certificate's own test ends it; a look after every audit."""
    k = wrong.cumsum(axis=1)
    n = np.broadcast_to(np.arange(1, wrong.shape[1] + 1), k.shape)
    # Only an error can lift the evidence, so that it is enough to look there.
    hit = np.zeros(k.shape, bool)
    hit[wrong] = certificate.revoke_log_es(n[wrong].astype(float), k[wrong].astype(float), bound) >= -np.log(
        DELTA
    )
    return _ends(hit, k)


def renewed(wrong: Bools, evidence: Evidence) -> Ends:
    """Return when a renewal's lineage, one threshold with one start, certifies again."""
    k = wrong.cumsum(axis=1)
    n = np.broadcast_to(np.arange(1, wrong.shape[1] + 1), k.shape)
    return _ends(evidence(n, k) >= -np.log(DELTA), k)


def table(runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return rows of both tests, over errors drawn one by one at a multiple of the bound."""
    rows = []
    for bound in BOUNDS:
        evidence = Evidence(bound, AUDITS)
        for rise in RISES:
            wrong = rng.random((runs, AUDITS)) < rise * bound
            rows.append({"test": "revoke", "bound": bound, "rate": rise, **revoked(wrong, bound).row()})
        for rate in RATES:
            wrong = rng.random((runs, AUDITS)) < rate * bound
            rows.append({"test": "renew", "bound": bound, "rate": rate, **renewed(wrong, evidence).row()})
    return rows


def shifted(shift: Shift, runs: int) -> list[dict[str, Any]]:
    """Certify at home with each draw's labels, then audit what the threshold automates, at home and away."""
    bound = shift.away.bounds[0]
    evidence = Evidence(bound, shift.home.labels)
    paths: dict[str, list[Bools]] = {"home": [], "away": []}
    risks: dict[str, list[float]] = {"home": [], "away": []}
    issued = 0
    for seed in range(runs):
        found = draw(shift.home, seed, shift.home.labels)
        score, wrong = shift.home.score[found.rows], shift.home.wrong[found.rows]
        grid = grid_of(found, bound, shift.home.labels)
        threshold = claims(score, wrong, grid, evidence=evidence, batch=len(score) // 25).tenure[-1]
        if threshold == NOTHING:
            continue
        issued += 1
        rng = np.random.default_rng((11, seed))
        for name, source in (("home", shift.home), ("away", shift.away)):
            automated = source.wrong[source.score >= threshold]
            if len(automated):
                paths[name].append(automated[rng.integers(len(automated), size=AUDITS)])
                risks[name].append(source.risk(threshold))
    return [
        {
            "shift": shift.name, "source": name, "bound": bound, "issued": issued / runs,
            "risk": float(np.mean(risks[name])), **revoked(np.array(paths[name]), bound).row(),
        }
        for name in paths if paths[name]
    ]  # fmt: skip


def _ends(hit: Bools, k: Floats) -> Ends:
    first = np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
    errors = np.where(first >= 0, k[np.arange(len(k)), first], -1)
    return Ends(np.where(first >= 0, first + 1, -1).astype(float), errors.astype(float))
