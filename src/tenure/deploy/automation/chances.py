"""How likely a case was to get a blind label, as it was known when the case was decided.

The log names the policy of every request, and policies are immutable. So the chance is a function of the policy
in force, the level in force, and who decided; never of what came later.
"""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec

from tenure.deploy.router import Policy
from tenure.types import Level


@lru_cache(maxsize=256)
def policy_of(body: str) -> Policy:
    """Return the policy of a row's text."""
    return msgspec.json.decode(body, type=Policy)


def of(policy: Policy, level: Level, *, automated: bool) -> float:
    """Return the chance that a person judges a case without seeing an answer; see `deploy.decide`.

    Below `assist` every case is judged blind; at `assist` blindness is drawn; above, automated cases are audited
    by a draw, and of the others those are blind that either draw hits.

    Example:
        >>> p = Policy(1, Level.PARTIAL, audit=0.05, blind=0.2)
        >>> of(p, Level.PARTIAL, automated=True), round(of(p, Level.PARTIAL, automated=False), 4)
        (0.05, 0.24)
    """
    if level <= Level.SHADOW:
        return 1.0
    if level == Level.ASSIST:
        return policy.blind
    if automated or level == Level.FULL:
        return policy.audit
    return 1.0 - (1.0 - policy.blind) * (1.0 - policy.audit)


def ratio(policy: Policy, level: Level, *, automated: bool) -> float:
    """Return how many times the least chance of its time a case had, at least 1; infinite where that was 0.

    A bet is sized by the least chance that any case has under the policy in force, which is known before the case
    comes. So only this ratio enters the evidence, and policies may change inside a lineage.
    """
    least = of(policy, level, automated=level >= Level.PARTIAL)
    return of(policy, level, automated=automated) / least if least > 0.0 else math.inf
