"""Which lane a request takes: version, level and policy, the same for all that one tick sends the same way."""

from __future__ import annotations

import msgspec

from tenure.clock import Clock
from tenure.deploy.decide import level_in_force
from tenure.deploy.router import Assignment, Endpoint, assign
from tenure.deploy.serving.control_page import ControlPage
from tenure.deploy.serving.predict.desk import Desk
from tenure.deploy.serving.predict.live import Live
from tenure.deploy.serving.predict.work import Block, Lane, Work
from tenure.errors import BusyError
from tenure.seeds import request_draw
from tenure.types import Level

_SKEW_NS = 5_000_000_000


class Lanes:
    """The lanes of one tick: what holds for all requests that arrived in it. Made again only when it changes."""

    def __init__(self, live: Live, *, page: ControlPage, clock: Clock, run: int) -> None:
        self._live, self._page, self._clock, self._run = live, page, clock, run
        self._fresh: set[str] = set()
        self._of: dict[str, tuple[Endpoint, Level, bool, dict[tuple[str | None, str, float], Lane]]] = {}
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
        name = work.desk.name
        if name not in self._fresh:
            self._refresh(work.desk)
        route = self._of[name][0]
        key = (self._run, work.seq)
        chosen = assign(route, request=key, unit=work.unit, now_ns=work.t_ns)
        work.audited = draws_audit(route, key)
        return self._lane(work.desk.name, chosen)

    def of_block(self, block: Block) -> Lane | None:
        """Return the lane of a block; None where its rows go separate ways, or where there is no table yet."""
        try:
            if block.desk.name not in self._fresh:
                self._refresh(block.desk)
        except BusyError:
            return None
        route, level, _, _ = self._of[block.desk.name]
        splits = route.candidate is not None and 0.0 < route.share < 1.0
        if level < Level.PARTIAL or (splits and (route.assign == "request" or not block.unit)):
            return None
        chosen = assign(route, request=(self._run, block.first), unit=block.unit, now_ns=block.t_ns)
        return self._lane(block.desk.name, chosen)

    def _refresh(self, desk: Desk) -> None:
        route, now_ns = self._live.endpoint(desk.name), self._clock.now_ns()
        watched = self.is_watched(desk, now_ns)
        level = level_in_force(route.policy, now_ns=now_ns, watched=watched)
        known = self._of.get(desk.name)
        same = known is not None and known[0] is route and known[1:3] == (level, watched)
        if not same or self._version != self._live.version:
            if self._version != self._live.version:
                self._of.clear()
                self._version = self._live.version
            self._of[desk.name] = (route, level, watched, {})
        self._fresh.add(desk.name)

    def _lane(self, name: str, chosen: Assignment) -> Lane:
        route, level, watched, lanes = self._of[name]
        found = lanes.get((chosen.version, chosen.role, chosen.share))
        if found is None:
            found = Lane(
                level=level, policy=route.policy, routing=self._live.version, watched=watched, route=route
            )
            if level >= Level.ASSIST and chosen.version is not None:
                role = int(chosen.role == "candidate")
                found = msgspec.structs.replace(found, version=chosen.version, role=role, share=chosen.share)
            lanes[chosen.version, chosen.role, chosen.share] = found
        return found


def draws_audit(route: Endpoint, request: tuple[int, int]) -> bool:
    """Draw whether a person checks a request, whatever decides it."""
    audit = route.policy.audit
    return audit > 0 and request_draw(f"audit:{route.policy.salt}", *request) < audit
