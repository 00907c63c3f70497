"""The degree of automation as a pure state machine: up one level at a time on evidence, down at once.

Invariants (each is checked by a property test):

- A1 at `partial` and above there is a valid certificate, and a share of automated decisions is audited
- A2 a threshold in force is a certified one
- A3 a demotion holds for every request from then on
- A4 at `human_only` and `shadow` nothing is automated
- A5 at `assist` a person decides and some items are blind
- A6 a new version inherits nothing
- A7 only blind judgements of randomly drawn items are evidence
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tenure.deploy.router import Policy
from tenure.stats import interval
from tenure.stats.agreement import Table
from tenure.types import Level

ASSIST_LABELS = 100
"""Blind judgements beside the model before people may see its answers."""


class Evidence(msgspec.Struct, frozen=True):
    """What speaks for the stable version.

    Attributes:
        version: the stable version, or None.
        labels: blind judgements of randomly drawn items since its evidence began.
        informative: its answers say more about the truth than the base rates do.
        certified: the version holds a valid certificate for at least one answer.
        complete: its certificates cover every answer at every confidence.
        audit: least share of automated decisions that will be audited.
        blind: share of reviewed items shown without the model's answer.
        note: what is missing for a certificate, in words.
        declared: the project starts at `full`: a new capability replaces nobody, so nothing is to be earned.
    """

    version: str | None = None
    labels: int = 0
    informative: bool = False
    certified: bool = False
    complete: bool = False
    audit: float = 0.0
    blind: float = 0.0
    note: str = ""
    declared: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """Whether a move is allowed, and why or why not."""

    allowed: bool
    reason: str


def lacking(to: Level, evidence: Evidence) -> str | None:
    """Return what is missing for level `to`, in words, or None when the evidence suffices."""
    if to == Level.HUMAN_ONLY:
        return None
    if evidence.version is None:
        return "no version is live"
    if evidence.declared and to == Level.FULL:
        return None
    if to >= Level.ASSIST and (why := _assist(evidence)):
        return why
    if to >= Level.PARTIAL and (why := _partial(evidence)):
        return why
    if to == Level.FULL and not evidence.complete:
        return "the certificates do not cover every answer at every confidence"
    return None


def climb(level: Level, to: Level, evidence: Evidence, *, cap: Level, approved: bool) -> Verdict:
    """Rule on a move up.

    Args:
        level: in force now.
        to: wanted.
        evidence: about the stable version.
        cap: the project's highest level.
        approved: an operator approved, or the project climbs by itself.
    """
    if to <= level:
        return Verdict(False, f"{to.word} is not above {level.word}")
    if to > cap:
        return Verdict(False, f"the project allows at most {cap.word}")
    if to > level + 1 and not (evidence.declared and to == Level.FULL):
        return Verdict(False, f"one level at a time: {Level(level + 1).word} comes before {to.word}")
    if (why := lacking(to, evidence)) is not None:
        return Verdict(False, why)
    if not approved:
        return Verdict(False, f"the evidence suffices for {to.word}; an operator has to approve")
    return Verdict(True, f"the evidence suffices for {to.word}")


def forced(level: Level, evidence: Evidence, *, cap: Level) -> tuple[Level, str] | None:
    """Return the level that must hold instead and why, or None when `level` may stay."""
    if level > cap:
        return cap, f"the project allows at most {cap.word}"
    if level == Level.FULL and evidence.declared:
        return None
    if level >= Level.PARTIAL and not evidence.certified:
        return Level.ASSIST, f"{evidence.version or 'no version'} holds no valid certificate"
    if level == Level.FULL and not evidence.complete:
        return Level.PARTIAL, "the certificates no longer cover every answer"
    return None


def broken(policy: Policy, certified: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return which invariants a policy breaks, given version -> side -> certified threshold."""
    faults = []
    if policy.level < Level.PARTIAL:
        if policy.thresholds:
            faults.append(f"A4: thresholds are set at {policy.level.word}")
    else:
        if policy.audit <= 0.0 or not policy.valid_until_ns or not policy.thresholds:
            faults.append("A1: automation without certificate, end or audits")
        for version, sides in policy.thresholds.items():
            for side, bound in sides.items():
                if certified.get(version, {}).get(side) != bound:
                    faults.append(f"A2: {version} decides {side!r} from {bound}, which is not certified")
    if policy.level >= Level.ASSIST and policy.blind <= 0.0:
        faults.append("A5: no item is blind")
    return faults


def informative(table: Table) -> bool:
    """Say whether some answer raises the chance of that truth above its base rate (95 %, exact, over labels)."""
    confidence = 1.0 - 0.05 / max(len(table.labels), 1)
    for i, label in enumerate(table.labels):
        said, common = table.first(label), table.counts[i][i]
        if said and table.n and interval.lower(common, said, confidence) > table.second(label) / table.n:
            return True
    return False


def _assist(evidence: Evidence) -> str | None:
    if evidence.blind <= 0.0:
        return "automation.blind is 0: no judgement would be independent of the model"
    if evidence.labels < ASSIST_LABELS:
        return f"needs {ASSIST_LABELS - evidence.labels} more blind judgements beside {evidence.version}"
    if not evidence.informative:
        return f"the answers of {evidence.version} say no more about the truth than the base rates do"
    return None


def _partial(evidence: Evidence) -> str | None:
    if evidence.audit <= 0.0:
        return "automation.audit is 0: a certificate could never be revoked"
    if not evidence.certified:
        return evidence.note or f"{evidence.version} holds no valid certificate"
    return None
