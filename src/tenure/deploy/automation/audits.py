"""Audits against a certificate: counted in draw order until they contradict its bound.

One process per certificate, never started anew. The null is "the mean loss of the automated answers is at most
the bound"; the largest evidence ever reached counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from tenure.deploy.automation.items import Label
from tenure.stats.certificate import mixed, revoke_log_es, revoking_steps


class Audits(msgspec.Struct, frozen=True):
    """Audited decisions of one certificate so far.

    Attributes:
        n: those with a truth.
        k: those with a loss.
        log_e: largest log e-value so far.
        losses: loss as text -> how many, where losses lie between 0 and 1.
        wrong: draw numbers of those with a loss.
        gaps: draw numbers of those that had no truth when their turn came: passed over.
    """

    n: int = 0
    k: int = 0
    log_e: float = 0.0
    losses: dict[str, int] = {}
    wrong: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()

    def revoked(self, delta: float) -> bool:
        """Say whether they contradict the bound."""
        return self.log_e >= -math.log(delta)


class Kept(msgspec.Struct, frozen=True):
    """The column `audit_losses`; older rows hold the losses alone and cannot be counted again."""

    losses: dict[str, int] = {}
    wrong: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()


NOTHING = msgspec.json.encode(Kept()).decode()


def count(old: Audits, labels: Sequence[Label], *, threshold: float, bound: float, graded: bool) -> Audits:
    """Return the audits with more, in draw order.

    Args:
        old: so far.
        labels: audited decisions; those below the threshold are of another certificate.
        threshold: of the certificate.
        bound: of the certificate.
        graded: losses between 0 and 1 occur.
    """
    own = [x for x in labels if x.score >= threshold]
    known = [x for x in own if x.loss is not None]
    gaps = (*old.gaps, *(x.number for x in own if x.loss is None))
    if not known:
        return msgspec.structs.replace(old, gaps=gaps)
    found = np.array([float(x.loss or 0.0) for x in known])
    held = dict(old.losses)
    if graded:
        log_e = _wealth(held, found, bound)
        for value in found.tolist():
            held[repr(value)] = held.get(repr(value), 0) + 1
    else:
        ns, ks = old.n + np.arange(1.0, len(known) + 1.0), old.k + np.cumsum(found)
        log_e = float(revoke_log_es(ns, ks, bound).max())
    wrong = tuple(x.number for x in known if x.wrong)
    return Audits(old.n + len(known), old.k + len(wrong), max(old.log_e, log_e), held, (*old.wrong, *wrong), gaps)


def of(row: sa.RowMapping) -> Audits:
    """Return the audits of a certificate's row."""
    counted = int(row["audit_n"]), int(row["audit_k"]), float(row["revoke_log_e"])
    kept = kept_of(row)
    if kept is None:
        return Audits(*counted, msgspec.json.decode(row["audit_losses"] or "{}", type=dict[str, int]))
    return Audits(*counted, kept.losses, kept.wrong, kept.gaps)


def kept_of(row: sa.RowMapping) -> Kept | None:
    """Return what is kept of each audit; None for a certificate older than that."""
    text = row["audit_losses"]
    return msgspec.json.decode(text, type=Kept) if text.startswith('{"losses"') else None


def stored(audits: Audits, row: sa.RowMapping) -> str:
    """Return the column `audit_losses`, in the form in which the row began."""
    if kept_of(row) is None:
        return msgspec.json.encode(audits.losses).decode() if audits.losses else ""
    return msgspec.json.encode(Kept(audits.losses, audits.wrong, audits.gaps)).decode()


def _wealth(seen: Mapping[str, int], losses: npt.NDArray[np.float64], bound: float) -> float:
    before = revoking_steps(np.array([float(v) for v in seen]), bound)
    start = np.array(list(seen.values()), float) @ before
    return float(mixed(start + revoking_steps(losses, bound).cumsum(axis=0)).max())
