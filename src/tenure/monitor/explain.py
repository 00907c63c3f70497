"""After a drift alarm: which metric moved, how far, how, since when, and what may be behind it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy.engine import Connection

from tenure.monitor import alarms, detector, events, message, metrics, panes
from tenure.monitor.alarms import Draft
from tenure.monitor.detector import Running, Watch
from tenure.monitor.profile import Profile
from tenure.scope.project import EndpointSpec
from tenure.stats import shape

HISTORY = 80
"""Panes that the shape is judged on; at least 40 of them lie before an alarm that comes in time."""


class Case(msgspec.Struct, frozen=True):
    """What an explanation needs: the board, its reference and the time up to which panes are closed."""

    endpoint: str
    spec: EndpointSpec
    board: metrics.Board
    running: Running
    watches: Sequence[Watch]
    until_us: int

    @property
    def pane_us(self) -> int:
        return round(self.spec.monitor.pane * 1e6)


def rank(conn: Connection, case: Case, suspects: Sequence[Watch]) -> list[Watch]:
    """Order suspects by how much of the traffic moved; of those that moved equally the plainest comes first."""

    def moved(watch: Watch) -> tuple[float, int]:
        profiles = list(_history(conn, case, watch).values())
        live = profiles[detector.first_evidence(watch, profiles) :]
        effect = detector.effect(watch, sum(live, Profile.empty()))
        return -round(effect.moved, 1), metrics.order(watch.metric)

    return sorted(suspects, key=moved)


def draft(conn: Connection, case: Case, suspects: Sequence[Watch]) -> Draft:
    """Return what the alarm says, from the panes that are closed now.

    Args:
        conn: the tick's transaction.
        case: the board and its time.
        suspects: metrics that moved, the first is the one that is named.
    """
    watch, *others = suspects
    history = _history(conn, case, watch)
    starts, profiles = list(history), list(history.values())
    first = detector.first_evidence(watch, profiles)
    found = _shape(watch, profiles, first)
    onset = first if found.onset is None else found.onset
    effect = detector.effect(watch, sum(profiles[onset:], Profile.empty()))
    also = [w.metric for w in others]
    return Draft(
        endpoint=case.endpoint,
        rule=f"drift:{case.board}",
        kind="data_drift" if case.board == "input" else "output",
        metric=watch.metric,
        stage=watch.stage,
        version=case.running.version,
        message=message.drift(
            watch, effect, also, message.when(found, starts), _causes(conn, case, found, starts)
        ),
        numbers=_numbers(case, effect, found, starts, also),
        do=actions(case.spec, case.board),
        shape=found.verdict,
        onset_us=starts[onset] if starts else None,
    )


def _shape(watch: Watch, profiles: Sequence[Profile], first: int) -> shape.Shape:
    """Judge the shape of the pane means; before there are enough panes after the change, say only when."""
    live = detector.effect(watch, sum(profiles[first:], Profile.empty()))
    if len(profiles) - first < shape.SIDE:
        return shape.Shape("too early to tell", None, None, None, live.mean_before, live.mean_now, 0.0)
    at = detector.bet_names(watch.edges).index(live.bet)
    return shape.judge([p.mean for p in profiles], deff=watch.deff[at])


def actions(spec: EndpointSpec, board: metrics.Board) -> tuple[str, ...]:
    """Return what the project wants done when a board alarms; a person is told if it says nothing."""
    if not spec.monitor.alarms:
        return ("notify",)
    kinds = ("any", "data") if board == "input" else ("any",)
    wanted = [action for rule in spec.monitor.alarms if rule.drift in kinds for action in rule.do]
    return tuple(dict.fromkeys(wanted))


def _history(conn: Connection, case: Case, watch: Watch) -> dict[int, Profile]:
    found = panes.read(
        conn,
        case.endpoint,
        stages=(watch.stage,),
        version=case.running.version,
        since_us=case.until_us - 5 * HISTORY * case.pane_us,
        until_us=case.until_us,
        metric=watch.metric,
    )
    with_data = [(us, p[watch.stage, watch.metric]) for us, p in found.items() if p[watch.stage, watch.metric].n]
    return dict(with_data[-HISTORY:])


def _causes(conn: Connection, case: Case, found: shape.Shape, starts: Sequence[int]) -> list[str]:
    causes = []
    if case.board == "output":
        causes.append(
            message.INPUT_CHANGED
            if alarms.open_alarm(conn, case.endpoint, "drift:input")
            else message.INPUT_QUIET
        )
    causes.append(message.CANNOT_KNOW)
    if found.earliest is not None and found.latest is not None:
        around = 10 * case.pane_us
        noted = events.listing(
            conn, case.endpoint, since_us=starts[found.earliest] - around,
            until_us=starts[min(found.latest, len(starts) - 1)] + around,
        )  # fmt: skip
        causes += [f"Noted about then: “{e['text']}” ({message.clock(e['at_us'])})." for e in noted]
    return causes


def _numbers(
    case: Case, effect: detector.Effect, found: shape.Shape, starts: Sequence[int], also: Sequence[str]
) -> dict[str, object]:
    def at(index: int | None) -> int | None:
        return None if index is None else starts[min(index, len(starts) - 1)]

    return {
        "effect": {**msgspec.structs.asdict(effect), "share_moved": effect.moved},
        "also": list(also),
        "shape": found.verdict,
        "onset_from_us": at(found.earliest),
        "onset_to_us": at(found.latest),
        "bic_gap": found.gap,
        "promise_panes": case.running.threshold,
        "tolerance": case.spec.monitor.tolerance,
    }
