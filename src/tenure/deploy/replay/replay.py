"""Run a rollout's decisions again on logged requests with another plan. Pure.

The replay draws each request with the plan's shares, by the log's own draw where that is known. It keeps a
request whose drawn version's answer is in the log: because that version answered it, or in shadow. Where only one
version answered, the log shows the candidate's answer with chance p where the plan drew the candidate, and the
other's with chance q where it did not (`traffic.kept`). So under the plan's share s a kept bad outcome is the
candidate's with chance s p / (s p + (1 - s) q), which is what the gate is told. Evidence therefore stays valid;
but it grows no faster than under the real plan, so that moves come no earlier.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np

from tenure.deploy.replay import late
from tenure.deploy.replay.means import Means
from tenure.deploy.replay.stages import Replayed, Stage
from tenure.deploy.replay.traffic import (
    Arms,
    Floats,
    Ints,
    Mask,
    Traffic,
    coupled,
    coverage,
    draws,
    epoch_of,
    kept,
)
from tenure.deploy.rollout import reactions, slices
from tenure.deploy.rollout.advance import Move, Progress, Rollout, Verdict, advance, waits
from tenure.deploy.rollout.counts import MISSING, PAIRED, REQUESTS, Count, Moments, sliced, unsliced
from tenure.deploy.rollout.judge import judge
from tenure.deploy.rollout.looks import reached
from tenure.deploy.rollout.moments import LOOK_US
from tenure.deploy.rollout.observed import EVERY_REQUEST
from tenure.deploy.rollout.plan import WRONG, Plan, reaction_of
from tenure.scope.project import GateSpec

LOOKS = 1000
"""Most looks of a replay; a controller looks more often, so that moves come up to one interval later."""


def replay(
    traffic: Traffic,
    plan: Plan,
    *,
    candidate: str,
    stable: str,
    least_look_s: float = 1.0,
    until_ns: int | None = None,
) -> Replayed:
    """Return what a rollout with `plan`, begun at the first request, would have decided.

    Approvals count as given at once. Nothing is judged beyond `until_ns`: what is not known then may still come.
    Raises ValueError without requests.
    """
    if len(traffic.t_ns) == 0:
        raise ValueError("there is no request to replay")
    first, last = int(traffic.t_ns[0]), late.end_ns(traffic, plan)
    last = last if until_ns is None else max(first, min(last, until_ns))
    width = max(int(least_look_s * 1e9), -(-(last - first + 1) // LOOKS))
    run = _Run(late.with_reactions(traffic, plan), plan, candidate, stable)
    for end in range(first + width, last + 1 + width, width):
        now_ns = min(end, last)
        if run.look(int(np.searchsorted(traffic.t_ns, now_ns, "right")), now_ns):
            break
    return run.told(width / 1e9)


class _Run:
    """The replay's state between looks."""

    def __init__(self, traffic: Traffic, plan: Plan, candidate: str, stable: str) -> None:
        self.traffic, self.plan = traffic, plan
        start = int(traffic.t_ns[0]) // 1000
        self.rollout = Rollout(
            id="replay", endpoint="", candidate=candidate, stable=stable, plan=plan, evidence_key="",
            state="running", step=0, step_started_us=start, salt="", attempt=1, reason="", created_us=start,
            updated_us=start, created_by="",
        )  # fmt: skip
        self.draws = draws(traffic, plan)
        self.same = coupled(traffic, plan, self.draws)
        self.sums: dict[tuple[int, str, float], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self.top: dict[str, float] = {}
        self.done_units: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self.means, self.moments, self.turn = Means(), list[Moments](), -1
        self.parts: dict[str, Mask] = {}
        self.bads = [gate.bad for gate in plan.gates if gate.bad]
        self.step_of = np.full(len(traffic.t_ns), -1, np.int16)
        self.heard_to = dict.fromkeys(reactions.maturities(plan), 0)
        self.labels_key = (0, 0)
        self.at = self.began = 0
        self.labels = late.labelled(traffic, self.rollout, stop=0, now_ns=start * 1000)
        self.verdicts: list[Verdict] = []
        self.stages: list[Stage] = []
        self.now_us = start

    def look(self, stop: int, now_ns: int) -> bool:
        """Count the requests up to `stop` and decide; say whether the rollout has ended."""
        rows = np.arange(self.at, stop)
        self.step_of[rows] = self.rollout.step
        self.at, self.now_us = stop, now_ns // 1000
        self._place(rows)
        for spec in self.plan.gates:
            if reaction_of(spec) is not None:
                self._add(spec, self._ripe(spec))
            elif spec.mean or spec.bad in EVERY_REQUEST:
                self._add(spec, rows)
        self._count_labels(now_ns)
        if self.now_us // LOOK_US != self.turn:  # means are looked at at fixed times
            self.turn, self.moments = self.now_us // LOOK_US, self.means.moments()
        self.verdicts = judge(self.rollout, self._counts(), self.top, moments=self.moments, explain=False)
        for name, value in reached(self.verdicts).items():
            self.top[name] = max(value, self.top.get(name, 0.0))
        move = advance(self.rollout, self.verdicts, self._progress(), self.now_us)
        return move is not None and self._move(move)

    def told(self, look_s: float) -> Replayed:
        """Return what came of it; a step that lasts still is the last stage."""
        state = self.rollout.state
        if state == "running":
            left = waits(self.rollout, self.verdicts, self._progress(), self.now_us)
            self.stages.append(self._stage("still here", "; ".join(left)))
        total: dict[str, float] = defaultdict(float)
        for stage in self.stages:
            for gate, value in stage.bad.items():
                total[gate] += value
        return Replayed(
            candidate=self.rollout.candidate, stable=self.rollout.stable or "", state=state,
            at_us=self.stages[-1].ended_us, requests=self.at, look_s=look_s, log=coverage(self.traffic),
            bad=dict(total), stages=tuple(self.stages),
        )  # fmt: skip

    def _progress(self) -> Progress:
        step = self.plan.steps[self.rollout.step]
        found = (self.labels.judged, self.labels.behind) if step.min_labels else ()
        judged, behind = [self._here(rows) for rows in found] or (0, 0)
        return Progress(requests=self.at - self.began, labels=judged, behind=behind, approved=step.approve)

    def _here(self, rows: Ints) -> int:
        """Count the rows of the step at hand; in shadow those that the candidate answered too."""
        here = self.step_of[rows] == self.rollout.step
        if self.plan.is_shadow(self.rollout.step):
            here &= self.traffic.known[WRONG].candidate[rows]
        return int(here.sum())

    def _move(self, move: Move) -> bool:
        step = self.rollout.step
        outcome = "advanced" if move.state == "running" else move.state
        self.stages.append(self._stage(outcome, move.reason))
        self.rollout = msgspec.structs.replace(
            self.rollout, state=move.state, step=move.step, reason=move.reason, updated_us=self.now_us,
            step_started_us=self.now_us if move.step != step else self.rollout.step_started_us,
        )  # fmt: skip
        self.began = self.at
        return move.state != "running"

    def _stage(self, outcome: str, reason: str) -> Stage:
        rows, step = np.arange(self.began, self.at), self.rollout.step
        mine = rows[self.draws[rows] < self.plan.share(step)]
        answered = self.traffic.known["failed"].candidate
        return Stage(
            step=step + 1, share=self.plan.steps[step].share, began_us=self.rollout.step_started_us,
            ended_us=self.now_us, requests=len(rows), drawn=len(mine), shown=int(answered[mine].sum()),
            bad={gate: self._served(gate, mine, step) for gate in self.bads}, outcome=outcome, reason=reason,
            approval=self.plan.steps[step].approve,
            verdicts={
                v.gate: {"outcome": v.outcome.value, "sentence": v.sentence, **v.numbers} for v in self.verdicts
            },
        )  # fmt: skip

    def _served(self, gate: str, mine: Ints, step: int) -> float:
        """Estimate the candidate's bad answers among requests that it would have got (Horvitz-Thompson)."""
        known, bad = self.traffic.known[gate], self.traffic.bad[gate]
        hit = mine[known.candidate[mine] & bad.candidate[mine]]
        return float((1.0 / self._kept(gate, hit, step)[0]).sum())

    def _kept(self, gate: str, rows: Ints, step: int) -> tuple[Floats, Floats]:
        return kept(self.traffic, gate, rows, share=self.plan.share(step), same=self.same)

    def _place(self, rows: Ints) -> None:
        """Give new slices their place, and note which requests are in one."""
        if not self.plan.slices or not len(rows):
            return
        texts = {by: [column[i] for i in rows.tolist()] for by, column in self.traffic.texts.items()}
        for part, mask in slices.masks(self.plan, texts, list(self.parts)).items():
            whole = self.parts.setdefault(part, np.zeros(len(self.traffic.t_ns), bool))
            whole[rows] = mask
            self.sums[self.rollout.step, sliced(REQUESTS, part), 0.0][3] += int(mask.sum())

    def _within(self, rows: Ints) -> list[tuple[str, Ints]]:
        """Return the rows under the empty name, and those of each slice."""
        return [("", rows), *((part, rows[mask[rows]]) for part, mask in self.parts.items())]

    def _ripe(self, spec: GateSpec) -> Ints:
        """Return the requests that have become old enough for a gate on reactions since the last look."""
        young_ns = (reactions.old_us(self.now_us, spec.maturity) + 1) * 1000
        stop = min(self.at, int(np.searchsorted(self.traffic.t_ns, young_ns, "left")))
        start = self.heard_to[spec.name]
        self.heard_to[spec.name] = max(start, stop)
        return np.arange(start, stop)

    def _add(self, spec: GateSpec, rows: Ints) -> None:
        """Add requests to the evidence of a gate, over all and in each slice."""
        for part, inside in self._within(rows):
            if spec.mean:
                self._average(spec, inside, part)
            else:
                self._count(spec.bad, inside, part)

    def _average(self, spec: GateSpec, rows: Ints, part: str) -> None:
        """Add the values of drawn answers that are in the log to the sums of a mean gate."""
        gate = "failed" if spec.mean in ("number", "confidence") else "over_latency"
        answered = self.traffic.known[gate]  # a shadow's time says nothing, and nobody reacts to it
        one, two = self.traffic.values[spec.mean]
        for step in np.unique(self.step_of[rows]).tolist():
            here, share = rows[self.step_of[rows] == step], self.plan.share(step)
            if not 0.0 < share < 1.0:
                continue
            hit = self.draws[here] < share
            seen = np.where(hit, answered.candidate[here], answered.stable[here])
            here, hit = here[seen], hit[seen]
            new, old = self._kept(gate, here, step)
            self.means.add(
                spec, sliced(spec.name, part), step, values=np.where(hit, one[here], two[here]), hit=hit,
                chance=np.where(hit, new, old), units=self._units(here),
            )  # fmt: skip

    def _units(self, rows: Ints) -> list[tuple[int, int]]:
        if self.plan.assign == "request":
            return [(0, 0)] * len(rows)
        times = self.traffic.t_ns[rows].tolist()
        epochs = [epoch_of(self.plan, t_ns) for t_ns in times]
        return list(zip(self.traffic.unit[rows].tolist(), epochs, strict=True))

    def _count(self, gate: str, rows: Ints, part: str = "") -> None:
        """Add outcomes of requests, each with the chance that a kept one is the candidate's."""
        for at in np.unique(self.step_of[rows]).tolist():
            here, share = rows[self.step_of[rows] == at], self.plan.share(at)
            if share <= 0.0:
                continue
            hit = self.draws[here] < share
            known, bad = self.traffic.known[gate], self.traffic.bad[gate]
            seen = np.where(hit, known.candidate[here], known.stable[here])
            one, two = bad.candidate[here], bad.stable[here]
            wrong = np.where(
                seen, np.where(hit, one, two), one | two
            )  # an answer that the plan would not have given
            wrong &= self._first(sliced(gate, part), here, wrong)
            here, hit, wrong = here[seen], hit[seen], wrong[seen]
            new, old = self._kept(gate, here, at)
            rho = np.round(share * new / (share * new + (1.0 - share) * old), 6)
            for value in np.unique(rho).tolist():
                of = rho == value
                masks = (wrong & hit & of, wrong & ~hit & of, hit & of, ~hit & of)
                for i, mask in enumerate(masks):
                    self.sums[at, sliced(gate, part), value][i] += int(mask.sum())

    def _first(self, gate: str, rows: Ints, wrong: Mask) -> Mask:
        """Say which bad outcomes count: of a unit only its first, so that clusters are no evidence.

        It is the first in the log, whichever answers are kept: which these are tells of the draw.
        """
        count = np.ones(len(rows), bool)
        if self.plan.assign == "request":
            return count
        for i in np.flatnonzero(wrong & (self.traffic.unit[rows] != 0)).tolist():
            key = (int(self.traffic.unit[rows[i]]), epoch_of(self.plan, int(self.traffic.t_ns[rows[i]])))
            count[i] = key not in self.done_units[gate]
            self.done_units[gate].add(key)
        return count

    def _count_labels(self, now_ns: int) -> None:
        """Count wrong decisions and missing labels anew where labels came or requests became old enough."""
        self.labels = found = late.labelled(self.traffic, self.rollout, stop=self.at, now_ns=now_ns)
        key = (len(found.mature), len(found.known))
        if WRONG not in self.bads or key == self.labels_key:
            return
        self.labels_key = key
        self._forget_labels()
        gone = np.zeros(len(self.traffic.t_ns), bool)
        gone[np.setdiff1d(found.mature, found.known)] = True
        self.traffic.known[MISSING], self.traffic.bad[MISSING] = self.traffic.known[WRONG], Arms(gone, gone)
        for part, inside in self._within(found.known):
            self._count(WRONG, inside, part)
        for part, inside in self._within(found.mature):
            if gone[inside].any():
                self._count(MISSING, inside, part)
        self._pair(found.known)

    def _forget_labels(self) -> None:
        for key in [key for key in self.sums if unsliced(key[1])[0] in (WRONG, MISSING)]:
            del self.sums[key]
        for name in [gate for gate in self.done_units if unsliced(gate)[0] in (WRONG, MISSING)]:
            del self.done_units[name]

    def _pair(self, rows: Ints) -> None:
        """Count the judged requests of the shadow step in which one version alone was wrong."""
        known, bad = self.traffic.known[WRONG], self.traffic.bad[WRONG]
        pairs = rows[(self.step_of[rows] == 0) & known.candidate[rows] & known.stable[rows]]
        if self.plan.is_shadow(0) and len(pairs):
            one, two = bad.candidate[pairs], bad.stable[pairs]
            n = len(pairs)
            self.sums[0, WRONG, PAIRED] = [int((one & ~two).sum()), int((two & ~one).sum()), n, n]

    def _counts(self) -> list[Count]:
        return [
            Count(step=step, gate=gate, rho=rho, x1=c[0], x0=c[1], n1=c[2], n0=c[3])
            for (step, gate, rho), c in sorted(self.sums.items())
        ]
