"""Run a rollout's decisions again on logged requests with another plan. Pure.

The replay draws each request anew with the plan's shares. It keeps a request whose drawn version's answer is in
the log: because that version answered it, or in shadow. Where only one version answered, the log kept the
candidate's answer with its own share rho and the other's with 1 - rho. So under the plan's share s a kept bad
outcome is the candidate's with chance s rho / (s rho + (1 - s)(1 - rho)), which is what the gate is told.
Evidence therefore stays valid; but it grows no faster than under the real plan, so that moves come no earlier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.deploy.replay.means import Means
from tenure.deploy.rollout import slices
from tenure.deploy.rollout.advance import Move, Progress, Rollout, Verdict, advance, waits
from tenure.deploy.rollout.counts import PAIRED, REQUESTS, Count, sliced
from tenure.deploy.rollout.judge import judge
from tenure.deploy.rollout.looks import reached
from tenure.deploy.rollout.plan import WRONG, Plan
from tenure.seeds import draw, request_draw

LOOKS = 1000
"""Most looks of a replay; a controller looks more often, so that moves come up to one interval later."""

SALT = "replay"
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arms:
    """One boolean per request for each version."""

    candidate: Mask
    stable: Mask


@dataclass(frozen=True)
class Traffic:
    """Requests in order of time, (n,) arrays.

    Attributes:
        run, seq: which request.
        t_ns: when; UTC.
        unit: keyed hash of its unit; 0 = none.
        chance: with which the log's own routing gave it to the candidate.
        known: gate -> whether the log shows this outcome of each version.
        bad: gate -> whether the outcome was bad, where it is known.
        label_ns: when its truth came; 0 = never.
        values: `number`, `confidence`, `latency_ms` -> of the candidate's and of the stable version's answer, NaN
            where the log does not have it.
        texts: field of a slice -> its value in each request.
    """

    run: npt.NDArray[np.uint64]
    seq: npt.NDArray[np.uint64]
    t_ns: Ints
    unit: npt.NDArray[np.uint64]
    chance: Floats
    known: dict[str, Arms]
    bad: dict[str, Arms]
    label_ns: Ints
    values: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    texts: dict[str, Sequence[str | None]] = field(default_factory=dict)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one step.

    Attributes:
        requests: that came while the step lasted.
        drawn: of them, those that the plan would have given to the candidate.
        shown: of these, those whose answer by the candidate is in the log.
        bad: gate -> estimated bad answers of the candidate among `drawn` (those in the log, each divided by its
            chance to be there); `wrong_decision` only among those with a truth.
        outcome: `advanced`, `completed`, `rolled_back`, `paused` or `still here`.
        reason: the sentence of the move, or what the step still waited for.
        verdicts: gate -> outcome, sentence and numbers at the last look.
    """

    step: int
    share: float | None
    began_us: int
    ended_us: int
    requests: int
    drawn: int
    shown: int
    bad: dict[str, float]
    outcome: str
    reason: str
    approval: bool
    verdicts: dict[str, dict[str, Any]]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan would have done.

    Attributes:
        state: `completed`, `rolled_back`, `paused`, or `running` when the log ended first.
        at_us: when it got there.
        look_s: seconds between two looks.
        log: share of requests of which the log shows both versions' answers, only one's, or neither's.
    """

    candidate: str
    stable: str
    state: str
    at_us: int
    requests: int
    look_s: float
    log: dict[str, float]
    bad: dict[str, float]
    stages: tuple[Stage, ...]
    format: int = 1


def replay(traffic: Traffic, plan: Plan, *, candidate: str, stable: str, least_look_s: float = 1.0) -> Replayed:
    """Return what a rollout with `plan`, begun at the first request, would have decided.

    Approvals count as given at once. Raises ValueError without requests.
    """
    n = len(traffic.t_ns)
    if n == 0:
        raise ValueError("there is no request to replay")
    first, last = int(traffic.t_ns[0]), max(int(traffic.t_ns[-1]), int(traffic.label_ns.max()))
    width = max(int(least_look_s * 1e9), -(-(last - first + 1) // LOOKS))
    run = _Run(traffic, plan, candidate, stable)
    for end in range(first + width, last + 1 + width, width):
        stop = int(np.searchsorted(traffic.t_ns, end, "left"))
        if run.look(stop, end):
            break
    return run.told(width / 1e9)


class _Run:
    """The replay's state between looks."""

    def __init__(self, traffic: Traffic, plan: Plan, candidate: str, stable: str) -> None:
        self.traffic, self.plan = traffic, plan
        start = int(traffic.t_ns[0]) // 1000
        self.rollout = Rollout(
            id="replay", endpoint="", candidate=candidate, stable=stable, plan=plan, evidence_key="",
            state="running", step=0, step_started_us=start, salt=SALT, attempt=1, reason="", created_us=start,
            updated_us=start, created_by="",
        )  # fmt: skip
        self.draws = draws(traffic, plan)
        self.sums: dict[tuple[int, str, float], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self.top: dict[str, float] = {}
        self.done_units: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self.means = Means()
        self.parts: dict[str, Mask] = {}
        self.bads = [gate.bad for gate in plan.gates if gate.bad]
        self.step_of = np.full(len(traffic.t_ns), -1, np.int16)
        maturity = max((int(g.maturity * 1e9) for g in plan.gates if g.bad == WRONG), default=0)
        ripe = np.maximum(traffic.label_ns, traffic.t_ns + maturity)
        self.ripe = np.where(traffic.label_ns > 0, ripe, np.iinfo(np.int64).max)
        self.by_ripe = np.argsort(self.ripe, kind="stable")
        self.at = self.labelled = self.began = self.labels = 0
        self.verdicts: list[Verdict] = []
        self.stages: list[Stage] = []
        self.now_us = start

    def look(self, stop: int, now_ns: int) -> bool:
        """Count the requests up to `stop` and decide; say whether the rollout has ended."""
        rows = np.arange(self.at, stop)
        self.step_of[rows] = self.rollout.step
        self.at, self.now_us = stop, now_ns // 1000
        self._place(rows)
        if not self.plan.is_shadow(self.rollout.step):
            for part, inside in self._within(rows):
                for gate in self.bads:
                    if gate != WRONG:
                        self._count(gate, inside, part)
                self._average(inside, part)
        self._count_labels(now_ns)
        found = self.means.moments()
        self.verdicts = judge(self.rollout, self._counts(), self.top, moments=found, explain=False)
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
        return Progress(requests=self.at - self.began, labels=self.labels, approved=True)

    def _move(self, move: Move) -> bool:
        step = self.rollout.step
        outcome = "advanced" if move.state == "running" else move.state
        self.stages.append(self._stage(outcome, move.reason))
        self.rollout = msgspec.structs.replace(
            self.rollout, state=move.state, step=move.step, reason=move.reason, updated_us=self.now_us,
            step_started_us=self.now_us if move.step != step else self.rollout.step_started_us,
        )  # fmt: skip
        self.began, self.labels = self.at, 0
        return move.state != "running"

    def _stage(self, outcome: str, reason: str) -> Stage:
        rows, step = np.arange(self.began, self.at), self.rollout.step
        mine = rows[self.draws[rows] < self.plan.share(step)]
        answered = self.traffic.known["failed"].candidate
        return Stage(
            step=step + 1, share=self.plan.steps[step].share, began_us=self.rollout.step_started_us,
            ended_us=self.now_us, requests=len(rows), drawn=len(mine), shown=int(answered[mine].sum()),
            bad={gate: self._served(gate, mine) for gate in self.bads}, outcome=outcome, reason=reason,
            approval=self.plan.steps[step].approve,
            verdicts={
                v.gate: {"outcome": v.outcome.value, "sentence": v.sentence, **v.numbers} for v in self.verdicts
            },
        )  # fmt: skip

    def _served(self, gate: str, mine: Ints) -> float:
        """Estimate the candidate's bad answers among requests that it would have got (Horvitz-Thompson)."""
        known, bad = self.traffic.known[gate], self.traffic.bad[gate]
        hit = mine[known.candidate[mine] & bad.candidate[mine]]
        return float((1.0 / kept(self.traffic, gate, hit)[0]).sum())

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

    def _average(self, rows: Ints, part: str) -> None:
        """Add the values of drawn answers that are in the log to the sums of the mean gates."""
        step, share = self.rollout.step, self.plan.share(self.rollout.step)
        if not 0.0 < share < 1.0 or not len(rows):
            return
        hit, answered = self.draws[rows] < share, self.traffic.known["failed"]
        for spec in (gate for gate in self.plan.gates if gate.mean):
            one, two = self.traffic.values[spec.mean]
            values = np.where(hit, one[rows], two[rows])
            seen = np.where(hit, answered.candidate[rows], answered.stable[rows])
            if spec.mean == "latency_ms":  # a shadow's time says nothing
                seen &= ~np.isnan(values)
            new, old = kept(self.traffic, "over_latency" if spec.mean == "latency_ms" else "failed", rows[seen])
            self.means.add(
                spec, sliced(spec.name, part), step, values=values[seen], hit=hit[seen],
                chance=np.where(hit[seen], new, old), units=self._units(rows[seen]),
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
            if not 0.0 < share < 1.0:
                continue
            hit = self.draws[here] < share
            known, bad = self.traffic.known[gate], self.traffic.bad[gate]
            seen = np.where(hit, known.candidate[here], known.stable[here])
            here, hit = here[seen], hit[seen]
            wrong = np.where(hit, bad.candidate[here], bad.stable[here])
            new, old = kept(self.traffic, gate, here)
            rho = np.round(share * new / (share * new + (1.0 - share) * old), 6)
            wrong &= self._first(sliced(gate, part), here, wrong)
            for value in np.unique(rho).tolist():
                of = rho == value
                masks = (wrong & hit & of, wrong & ~hit & of, hit & of, ~hit & of)
                for i, mask in enumerate(masks):
                    self.sums[at, sliced(gate, part), value][i] += int(mask.sum())

    def _first(self, gate: str, rows: Ints, wrong: Mask) -> Mask:
        """Say which bad outcomes count: of a unit only its first, so that clusters are no evidence."""
        count = np.ones(len(rows), bool)
        if self.plan.assign == "request":
            return count
        for i in np.flatnonzero(wrong & (self.traffic.unit[rows] != 0)).tolist():
            key = (int(self.traffic.unit[rows[i]]), epoch_of(self.plan, int(self.traffic.t_ns[rows[i]])))
            count[i] = key not in self.done_units[gate]
            self.done_units[gate].add(key)
        return count

    def _count_labels(self, now_ns: int) -> None:
        """Count the truths that are there and old enough by now, in the step of their request."""
        stop = int(np.searchsorted(self.ripe[self.by_ripe], now_ns, "left"))
        rows = np.sort(self.by_ripe[self.labelled : stop])
        self.labelled = stop
        self.labels += int((self.step_of[rows] == self.rollout.step).sum())
        if not any(g.bad == WRONG for g in self.plan.gates) or not len(rows):
            return
        for part, inside in self._within(rows):
            self._count(WRONG, inside, part)
        known, bad = self.traffic.known[WRONG], self.traffic.bad[WRONG]
        pairs = rows[(self.step_of[rows] == 0) & known.candidate[rows] & known.stable[rows]]
        if self.plan.is_shadow(0) and len(pairs):
            one, two = bad.candidate[pairs], bad.stable[pairs]
            n = len(pairs)
            for i, v in enumerate((int((one & ~two).sum()), int((two & ~one).sum()), n, n)):
                self.sums[0, WRONG, PAIRED][i] += v

    def _counts(self) -> list[Count]:
        return [
            Count(step=step, gate=gate, rho=rho, x1=c[0], x0=c[1], n1=c[2], n0=c[3])
            for (step, gate, rho), c in sorted(self.sums.items())
        ]


def kept(traffic: Traffic, gate: str, rows: Ints) -> tuple[Floats, Floats]:
    """Return the chances that the log shows the candidate's and the stable version's outcome of each request."""
    both = traffic.known[gate].candidate[rows] & traffic.known[gate].stable[rows]
    new = np.where(both, 1.0, traffic.chance[rows])
    return new, np.where(both, 1.0, 1.0 - traffic.chance[rows])


def draws(traffic: Traffic, plan: Plan) -> Floats:
    """Return the plan's own draw of each request, in [0, 1): by request, unit, or unit and epoch."""
    rows = zip(traffic.run.tolist(), traffic.seq.tolist(), strict=True)
    if plan.assign == "request":
        return np.array([request_draw(SALT, run, seq) for run, seq in rows])
    units, times = traffic.unit.tolist(), traffic.t_ns.tolist()
    found = []
    for (run, seq), unit, t_ns in zip(rows, units, times, strict=True):
        key = f"{unit}:{epoch_of(plan, t_ns)}"
        found.append(draw(SALT, key) if unit else request_draw(SALT, run, seq))
    return np.array(found)


def epoch_of(plan: Plan, t_ns: int) -> int:
    """Return the epoch of a time; 0 where a unit is drawn once."""
    return t_ns // int(plan.epoch * 1e9) if plan.assign == "unit_epoch" else 0


def coverage(traffic: Traffic) -> dict[str, float]:
    """Return the shares of requests of which the log shows both answers, only one, or neither."""
    new, old = traffic.known["failed"].candidate, traffic.known["failed"].stable
    masks = {"both": new & old, "candidate": new & ~old, "stable": old & ~new, "neither": ~new & ~old}
    return {name: float(mask.mean()) for name, mask in masks.items()}
