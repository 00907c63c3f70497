"""Which lane a request takes: version, level and policy, the same for all that one tick sends the same way."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tenure.clock import Clock
from tenure.deploy.decide import level_in_force
from tenure.deploy.router import Assignment, Endpoint, Policy, assign
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.predict.desk import Desk
from tenure.deploy.serving.predict.live import Live
from tenure.deploy.serving.predict.work import Block, Lane, Work
from tenure.errors import BusyError
from tenure.seeds import request_draw
from tenure.types import Level

_SKEW_NS = 5_000_000_000


class _Track(NamedTuple):
    """What holds for one segment of an endpoint, and the lanes made under it; `always`: where no draw decides."""

    route: Endpoint
    policy: Policy
    level: Level
    watched: bool
    always: Assignment | None
    lanes: dict[Assignment, Lane]


class Lanes:
    """The lanes of one tick: what holds for all requests that arrived in it. Made again only when it changes."""

    def __init__(self, live: Live, *, page: ControlPage, clock: Clock, run: int) -> None:
        self._live, self._page, self._clock, self._run = live, page, clock, run
        self._fresh: set[str] = set()
        self._of: dict[str, _Track] = {}  # of each endpoint
        self._segments: dict[str, dict[str, _Track]] = {}  # of its segments, where it has any
        self._version = 0

    def begin(self) -> None:
        """Begin a tick: levels and the controller's life are looked at again."""
        self._fresh.clear()

    def is_watched(self, desk: Desk, now_ns: int) -> bool:
        """Say whether the controller is alive, or was within the time that the project allows."""
        hold_ns = int(desk.spec.serve.on_controller_lost.hold * 1e9)
        # A clock that stepped back makes a dead controller look alive for as long as the step.
        return -_SKEW_NS <= now_ns - self._page.controller_ns <= hold_ns

    def of(self, work: Work) -> Lane:
        """Return the lane of a request and draw its audit; raises BusyError before the first routing table."""
        desk = work.desk
        if desk.name not in self._fresh:
            self._refresh(desk)
        track = self._of[desk.name]
        if desk.segments is not None:
            track = self._segments[desk.name].get(desk.segments.of(work.item, work.unit), track)
        key = (self._run, work.seq)
        chosen = track.always or assign(track.route, request=key, unit=work.unit, now_ns=work.t_ns)
        work.audited = draws_audit(track.policy, key)
        return self._lane(track, chosen)

    def of_block(self, block: Block) -> Lane | None:
        """Return the lane of a block; None where its rows go separate ways, or where there is no table yet."""
        desk = block.desk
        try:
            if desk.name not in self._fresh:
                self._refresh(desk)
        except BusyError:
            return None
        track = self._of[desk.name]
        if desk.segments is not None:
            segment = desk.segments.of_rows(block.item, block.unit)
            if segment is None:
                return None
            track = self._segments[desk.name].get(segment, track)
        route, chosen = track.route, track.always
        if track.level < Level.PARTIAL or (chosen is None and (route.assign == "request" or not block.unit)):
            return None
        chosen = chosen or assign(route, request=(self._run, block.first), unit=block.unit, now_ns=block.t_ns)
        return self._lane(track, chosen)

    def _refresh(self, desk: Desk) -> None:
        route, now_ns = self._live.endpoint(desk.name), self._clock.now_ns()
        watched = self.is_watched(desk, now_ns)
        if self._version != self._live.version:
            self._of.clear()
            self._segments.clear()
            self._version = self._live.version
        self._of[desk.name] = _track(self._of.get(desk.name), route, route.policy, now_ns=now_ns, watched=watched)
        if desk.segments is not None:
            known = self._segments.get(desk.name, {})
            self._segments[desk.name] = {
                name: _track(known.get(name), route, policy, now_ns=now_ns, watched=watched)
                for name, policy in route.segments.items()
            }
        self._fresh.add(desk.name)

    def _lane(self, track: _Track, chosen: Assignment) -> Lane:
        found = track.lanes.get(chosen)
        if found is None:
            found = Lane(
                level=track.level, policy=track.policy, routing=self._live.version, watched=track.watched,
                route=track.route,
            )  # fmt: skip
            if track.level >= Level.ASSIST and chosen.version is not None:
                role = int(chosen.role == "candidate")
                found = msgspec.structs.replace(found, version=chosen.version, role=role, share=chosen.share)
            track.lanes[chosen] = found
        return found


def _track(known: _Track | None, route: Endpoint, policy: Policy, *, now_ns: int, watched: bool) -> _Track:
    """Return the track that holds now: the known one, with its lanes, as long as nothing changed."""
    level = level_in_force(policy, now_ns=now_ns, watched=watched)
    if known is not None and known.route is route and (known.level, known.watched) == (level, watched):
        return known
    splits = route.candidate is not None and 0.0 < route.share < 1.0
    always = None if splits else assign(route, request=(0, 0), unit=None, now_ns=now_ns)
    return _Track(route, policy, level, watched, always, {})


def draws_audit(policy: Policy, request: tuple[int, int]) -> bool:
    """Draw whether a person checks a request, whatever decides it."""
    return policy.audit > 0 and request_draw(f"audit:{policy.salt}", *request) < policy.audit
