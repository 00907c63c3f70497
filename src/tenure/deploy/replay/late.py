"""What a replay learns after a request: reactions of clients and labels, by the rules of a rollout. Pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from tenure.deploy.replay.traffic import NEVER, Arms, Ints, Traffic
from tenure.deploy.rollout import labels, reactions
from tenure.deploy.rollout.advance import Rollout
from tenure.deploy.rollout.plan import WRONG, Plan, reaction_of


class Labelled(msgspec.Struct, frozen=True):
    """The requests whose labels count by some time.

    Attributes:
        mature: rows that are old enough.
        known: of these, those with a label; the label of the others is missing.
        judged: rows that were judged and count for a step's `min_labels`.
        behind: judged ones that wait for an older one.
    """

    mature: Ints
    known: Ints
    judged: Ints
    behind: Ints


def with_reactions(traffic: Traffic, plan: Plan) -> Traffic:
    """Return traffic with what the plan's gates on reactions count and average, of the version that answered."""
    answered = traffic.known["over_latency"]
    known, bad, values = dict(traffic.known), dict(traffic.bad), dict(traffic.values)
    for spec in (gate for gate in plan.gates if reaction_of(gate) is not None):
        said = np.zeros(len(traffic.t_ns))
        there = np.zeros(len(traffic.t_ns), bool)
        for row, heard in traffic.heard.items():
            value = reactions.value_of(spec, int(traffic.t_ns[row]) // 1000, heard)
            said[row], there[row] = value or 0.0, value is not None
        if spec.mean:  # nobody reacted: 0, as in a rollout
            one, two = (np.where(arm, said, np.nan) for arm in (answered.candidate, answered.stable))
            values[spec.mean] = (one, two)
        else:
            known[spec.bad] = answered
            bad[spec.bad] = Arms(there & answered.candidate, there & answered.stable)
    return replace(traffic, known=known, bad=bad, values=values)


def labelled(traffic: Traffic, rollout: Rollout, *, stop: int, now_ns: int) -> Labelled:
    """Return what the labels of the first `stop` requests say at a time.

    Where both versions' answers are known only blind labels count: the reader of another saw one of the two.
    """
    told, known = traffic.labels, traffic.known[WRONG]
    rows = np.flatnonzero(told.asked[:stop])
    created_us, now_us = traffic.t_ns[rows] // 1000, now_ns // 1000
    resolved, open_ = told.resolved_ns[rows] <= now_ns, told.closed_ns[rows] > now_ns
    holding = open_ & told.drawn[rows] & (created_us >= now_us - labels.patience_us(rollout))
    front_us = int(created_us[holding].min()) if holding.any() else now_us + 1
    fair = told.drawn[rows] & (told.blind[rows] | ~(known.candidate[rows] & known.stable[rows]))
    mature = fair & (created_us <= labels.old_enough_us(rollout, now_us, front_us))
    early = created_us < front_us
    return Labelled(
        mature=rows[mature],
        known=rows[mature & resolved & told.told[rows]],
        judged=rows[resolved & early],
        behind=rows[resolved & ~early],
    )


def end_ns(traffic: Traffic, plan: Plan) -> int:
    """Return when the last request, label or reaction that the plan asks for is known."""
    closed, last = traffic.labels.closed_ns, int(traffic.t_ns[-1])
    waits = [int(g.maturity * 1e9) for g in plan.gates]
    if any(gate.bad == WRONG for gate in plan.gates) and (traffic.labels.drawn & (closed == NEVER)).any():
        waits.append(labels.PATIENCE_US * 1000)
    waits += [reactions.SLACK_US * 1000 + int(s * 1e9) for s in reactions.maturities(plan).values()]
    return max(last + max(waits, default=0), int(closed[closed < NEVER].max(initial=0)))
