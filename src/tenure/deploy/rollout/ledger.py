"""The rollouts of every endpoint: commands, evidence and the moves that evidence causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from tenure.data.frames import Frame
from tenure.data.state import State
from tenure.deploy.rollout import advance, evidence, observed, routing, slices, starting, store
from tenure.deploy.rollout import describe as description
from tenure.deploy.rollout.advance import Move, Progress, Rollout
from tenure.deploy.rollout.command import Command, Kind, allowed, commanded, jumped, kind_of
from tenure.deploy.rollout.looks import Looks
from tenure.deploy.rollout.observed import Columns, Observed
from tenure.deploy.rollout.plan import Fault, Plan, alone, faults, plan_from_spec, problems
from tenure.deploy.rollout.reactions import Reactions
from tenure.deploy.rollout.routing import RolloutRouting
from tenure.errors import ConflictError, MissingError
from tenure.scope.project import Case, EndpointSpec, RolloutSpec, Strategy

SYSTEM = "tenure"
"""Author of moves that no person made."""

_LOOK_US = 60_000_000


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A transition that was made: what the rest of tenure has to know of it."""

    rollout: str
    endpoint: str
    kind: Kind
    candidate: str
    stable: str | None
    from_step: int
    to_step: int
    reason: str


class Rollouts:
    """Owns `rollouts`, `rollout_moves`, `evidence`, `verdicts`, `rollout_units` and who is stable.

    Methods that take `conn` run inside the caller's write transaction; commands open their own.

    Args:
        state: the control state.
        endpoints: their promises.
        case: of the project; picks the plan where a project file names none.
    """

    def __init__(self, state: State, endpoints: Mapping[str, EndpointSpec], *, case: Case = "assist") -> None:
        self.state = state
        self.endpoints = endpoints
        self.case = case
        self._looks = Looks()
        self._reactions = {name: Reactions() for name in endpoints}

    # ---- commands

    def start(
        self,
        endpoint: str,
        candidate: str,
        *,
        by: str,
        stable: str | None = None,
        plan: Plan | None = None,
        units: int | None = None,
        reason: str = "",
    ) -> str:
        """Start a rollout and return its id; it runs at once.

        Args:
            endpoint: name.
            candidate: a registered version of it.
            by: who starts it.
            stable: whom it is to replace; the version in force by default.
            plan: the endpoint's own by default.
            units: how many units there are, where that is known.
            reason: for the record.

        Raises:
            ConflictError: one is active, the candidate is in force, or the plan can show nothing.
            MissingError: no such endpoint or version.
        """
        self._spec(endpoint)
        chosen = plan or self.plan(endpoint)
        with self.state.begin() as conn:
            store.lock(conn)
            old = store.stable(conn, endpoint)
            if stable is not None and stable != old:
                raise ConflictError(f"{stable} is not in force on {endpoint}; {old or 'nobody'} is", at="stable")
            now_us = self.state.now_us()
            wrong = problems(chosen, units=units, endpoint=self._spec(endpoint))
            rollout = starting.draft(conn, endpoint, candidate, plan=chosen, wrong=wrong, by=by, now_us=now_us)
            self._command(conn, rollout, "start", by=by, reason=reason or "started")
        return rollout.id

    def plan(
        self,
        endpoint: str,
        *,
        spec: RolloutSpec | None = None,
        strategy: Strategy | None = None,
        case: Case | None = None,
    ) -> Plan:
        """Return the plan of a file, of a named strategy or case, or else of the endpoint; nothing starts.

        A strategy or a case replaces the endpoint's steps and gates and keeps the rest of its plan.
        """
        chosen = spec or self._spec(endpoint).rollout
        if strategy is not None or case is not None:
            chosen = msgspec.structs.replace(chosen, strategy=strategy, steps=(), gates=())
        plan = plan_from_spec(chosen, case or self.case)
        return msgspec.structs.replace(plan, loss=self._spec(endpoint).automation.loss)

    def preview(self, endpoint: str, candidate: str, plan: Plan) -> tuple[Plan, list[Fault]]:
        """Return the plan that would start and all that `start` would refuse, with its place; nothing starts."""
        found = faults(plan, endpoint=self._spec(endpoint))
        with self.state.read() as conn:
            try:
                starting.check(conn, endpoint, candidate)
            except (ConflictError, MissingError) as error:
                found.insert(0, ("candidate", error.message))
            first = store.stable(conn, endpoint) is None
        return (alone(plan) if first else plan), found

    def pause(self, number: str, *, by: str, reason: str = "") -> None:
        """Hold the share where it is; a fail still rolls back. Raises ConflictError in another state."""
        self._run(number, "pause", by=by, reason=reason)

    def resume(self, number: str, *, by: str, reason: str = "") -> None:
        """Let a paused rollout go on."""
        self._run(number, "resume", by=by, reason=reason)

    def promote(self, number: str, *, by: str, reason: str = "") -> None:
        """Go one step on at an operator's word; this is also the approval that a step waits for."""
        self._run(number, "promote", by=by, reason=reason)

    def approve(self, number: str, *, by: str, reason: str = "") -> None:
        """Approve the step at hand: it goes on once all else is met. Any move makes the approval void (R7).

        Raises:
            ConflictError: it does not run, its step asks for no approval, or a second person has to.
        """
        with self.state.begin() as conn:
            store.lock(conn)
            rollout = store.load(conn, number)
            if rollout.state != "running":
                raise _refused(rollout, "approve")
            if not rollout.plan.steps[rollout.step].approve:
                raise ConflictError(f"step {rollout.step + 1} of {number} asks for no approval", at=number)
            _check_second(rollout, by)
            store.approve(conn, rollout, by)
            store.look(conn, rollout, self.state.now_us())
            detail = {"rollout": number, "step": rollout.step, "reason": reason}
            self.state.audit(conn, actor=by, action="rollout.approved", subject=rollout.endpoint, detail=detail)

    def jump(self, number: str, step: int, *, by: str, reason: str = "") -> None:
        """Go to another step, counted from 0; paused stays paused.

        Up keeps the draws and the evidence. Back draws anew: another salt, no evidence, another attempt.

        Raises:
            ConflictError: it has ended, there is no such other step, or a second person has to.
        """
        with self.state.begin() as conn:
            store.lock(conn)
            rollout = store.load(conn, number)
            try:
                move = jumped(rollout, step, reason or f"jump by {by}")
            except ValueError as error:
                raise ConflictError(str(error), at="step") from None
            if move is None:
                raise _refused(rollout, "jump")
            if step > rollout.step:
                _check_second(rollout, by)
            now_us = self.state.now_us()
            self._apply(conn, rollout, self._with_numbers(conn, rollout, move), author=by, now_us=now_us)

    def looked(self, number: str) -> None:
        """Note that an operator saw a rollout that counts operators' silence; at most once a minute."""
        with self.state.read() as conn:
            rollout = store.load(conn, number)
            stale = self.state.now_us() - store.looked_us(conn, rollout) > _LOOK_US
        if stale and rollout.plan.operator_silence and rollout.state in advance.ACTIVE:
            with self.state.begin() as conn:
                store.look(conn, rollout, self.state.now_us())

    def rollback(self, number: str, *, by: str, reason: str = "") -> None:
        """Give every request back to the stable version; again does nothing."""
        self._run(number, "rollback", by=by, reason=reason)

    def cancel(self, number: str, *, by: str, reason: str = "") -> None:
        """End a rollout without a judgement of the candidate; again does nothing."""
        self._run(number, "cancel", by=by, reason=reason)

    def hold(self, conn: Connection, endpoint: str, reason: str, author: str) -> Moved | None:
        """Pause the running rollout of an endpoint, for an alarm; None when none runs."""
        return self._force(conn, endpoint, "pause", reason=reason, author=author)

    def force_rollback(self, conn: Connection, endpoint: str, reason: str, author: str) -> Moved | None:
        """Roll back the active rollout of an endpoint, for an alarm; None when none is active."""
        return self._force(conn, endpoint, "rollback", reason=reason, author=author)

    # ---- queries

    def active(self, conn: Connection | None, endpoint: str) -> Rollout | None:
        """Return the endpoint's rollout that has not ended; without a connection it opens its own read."""
        if conn is not None:
            return store.active(conn, endpoint)
        with self.state.read() as own:
            return store.active(own, endpoint)

    def get(self, number: str) -> Rollout:
        """Return one rollout; raises MissingError."""
        with self.state.read() as conn:
            return store.load(conn, number)

    def history(self, endpoint: str) -> list[dict[str, Any]]:
        """Return all rollouts of an endpoint in short, newest first."""
        with self.state.read() as conn:
            return description.history(conn, endpoint)

    def describe(self, number: str) -> dict[str, Any]:
        """Return a rollout with its ladder, evidence and moves as JSON values; raises MissingError."""
        with self.state.read() as conn:
            rollout = store.load(conn, number)
            found = description.describe(conn, number, self.state.now_us())
        if rollout.state in advance.ACTIVE and rollout.endpoint in self._reactions:
            found["outstanding"] |= self._reactions[rollout.endpoint].outstanding(rollout)
        return found

    def stable(self, conn: Connection, endpoint: str) -> str | None:
        """Return the version in force, or None while only people decide."""
        return store.stable(conn, endpoint)

    def set_stable(self, conn: Connection, endpoint: str, version: str | None, by: str) -> None:
        """Put a version in force directly: the first one, or back to an older one.

        Raises:
            ConflictError: a rollout is active; end it first.
            MissingError: no such endpoint or version.
        """
        store.lock(conn)
        self._spec(endpoint)
        if version is not None:
            store.check_version(conn, endpoint, version)
        if (busy := store.active(conn, endpoint)) is not None:
            raise ConflictError(f"rollout {busy.id} of {endpoint} is {busy.state}; end it first", at=endpoint)
        detail = {"from": store.stable(conn, endpoint), "to": version}
        store.set_stable(conn, endpoint, version)
        self.state.audit(conn, actor=by, action="rollout.set_stable", subject=endpoint, detail=detail)

    def routing(self, conn: Connection, endpoint: str) -> RolloutRouting:
        """Return what the routing table has to say for an endpoint now."""
        return routing.routing(conn, endpoint, self.state.now_us())

    # ---- evidence

    def observed(
        self,
        endpoint: str,
        rollout: Rollout,
        columns: observed.Columns,
        versions: Sequence[str],
        parts: Mapping[str, slices.Mask] | None = None,
    ) -> Observed:
        """Count what a batch of prediction rows says; see `observed.observed`."""
        return observed.observed(endpoint, rollout, columns, versions, parts)

    def parts(self, conn: Connection, rollout: Rollout, frames: Sequence[Frame]) -> dict[str, slices.Mask]:
        """Return which rows of prediction frames are in each slice that the plan judges apart."""
        if not rollout.plan.slices:
            return {}
        return slices.masks(rollout.plan, slices.texts_of(rollout.plan, frames), slices.known(conn, rollout.id))

    def observe(self, conn: Connection, seen: Observed) -> None:
        """Add the counts of a batch to the evidence; a batch of an ended rollout or another step is left out."""
        rollout = store.load(conn, seen.rollout)
        if rollout.state in ("running", "paused"):
            evidence.add(conn, rollout, seen, self.state.now_us())

    def saw(
        self,
        rollout: Rollout,
        run: int,
        columns: Columns,
        versions: Sequence[str],
        parts: Mapping[str, slices.Mask] | None = None,
    ) -> None:
        """Remember the requests of one frame where the plan counts reactions to them."""
        self._reactions[rollout.endpoint].saw(rollout, run, columns, versions, parts)

    def heard(self, endpoint: str, key: tuple[int, int], kind: str, value: object, t_us: int) -> None:
        """Note what a client sent about the request (run, seq); the request's age says when it counts."""
        self._reactions[endpoint].heard(key, kind, value, t_us)

    def count_labels(self, conn: Connection, rollout: Rollout) -> None:
        """Count wrong decisions anew where labels came, were taken back or matured; `reconcile` does so too."""
        self._looks.count_labels(conn, rollout, self.state.now_us())

    def reconcile(self, conn: Connection, endpoint: str, now_us: int) -> list[Moved]:
        """Judge the evidence and make at most one move; it is stored with the numbers that caused it."""
        rollout = store.active(conn, endpoint)
        if rollout is None:
            return []
        self._reactions[endpoint].count(conn, rollout, now_us)
        verdicts = self._looks.verdicts(conn, rollout, now_us)
        move = advance.advance(rollout, verdicts, self.progress(conn, rollout), now_us)
        return [] if move is None else [self._apply(conn, rollout, move, author=SYSTEM, now_us=now_us)]

    def forget(self) -> None:
        """Drop what was remembered of earlier looks, after a transaction that was rolled back."""
        self._looks = Looks()
        for reactions in self._reactions.values():
            reactions.forget()

    def progress(self, conn: Connection, rollout: Rollout) -> Progress:
        """Return how far the step at hand is."""
        return description.progress(conn, rollout, self.state.now_us())

    # ---- parts

    def _run(self, number: str, name: Command, *, by: str, reason: str) -> None:
        with self.state.begin() as conn:
            store.lock(conn)
            rollout = store.load(conn, number)
            repeated = (name, rollout.state) in (("rollback", "rolled_back"), ("cancel", "cancelled"))
            if not repeated:
                self._command(conn, rollout, name, by=by, reason=reason)

    def _command(self, conn: Connection, rollout: Rollout, name: Command, *, by: str, reason: str) -> Moved:
        move = commanded(rollout, name, reason or f"{name} by {by}")
        if move is None:
            raise _refused(rollout, name)
        if name == "promote":
            _check_second(rollout, by)
            move = self._with_numbers(conn, rollout, move)
        return self._apply(conn, rollout, move, author=by, now_us=self.state.now_us())

    def _force(self, conn: Connection, endpoint: str, name: Command, *, reason: str, author: str) -> Moved | None:
        store.lock(conn)
        rollout = store.active(conn, endpoint)
        if rollout is None or commanded(rollout, name, reason) is None:
            return None
        return self._command(conn, rollout, name, by=author, reason=reason)

    def _with_numbers(self, conn: Connection, rollout: Rollout, move: Move) -> Move:
        """Add what was known when an operator decided."""
        verdicts = [v for (step, _), v in store.verdicts(conn, rollout.id).items() if step == rollout.step]
        progress = self.progress(conn, rollout)
        numbers = {
            "requests": progress.requests,
            "labels": progress.labels,
            "gates": {v.gate: {"outcome": v.outcome.value, **v.numbers} for v in verdicts},
        }
        return msgspec.structs.replace(move, numbers=numbers)

    def _apply(self, conn: Connection, rollout: Rollout, move: Move, *, author: str, now_us: int) -> Moved:
        """Write a move, its audit row and, at the end, who is stable."""
        kind = kind_of(rollout, move)
        after = store.apply(conn, rollout, move, author=author, now_us=now_us)
        if author != SYSTEM:
            store.look(conn, rollout, now_us)
        if after.state == "completed":
            store.set_stable(conn, rollout.endpoint, rollout.candidate)
        if after.state not in advance.ACTIVE:
            store.clear(conn, rollout)
        if after.salt != rollout.salt or after.state not in advance.ACTIVE:
            self._looks.forget(rollout.id)
        detail = {
            "rollout": rollout.id,
            "candidate": rollout.candidate,
            "step": after.step,
            "reason": move.reason,
        }
        self.state.audit(conn, actor=author, action=f"rollout.{kind}", subject=rollout.endpoint, detail=detail)
        return Moved(
            rollout=rollout.id,
            endpoint=rollout.endpoint,
            kind=kind,
            candidate=rollout.candidate,
            stable=rollout.stable,
            from_step=rollout.step,
            to_step=after.step,
            reason=move.reason,
        )

    def _spec(self, endpoint: str) -> EndpointSpec:
        if endpoint not in self.endpoints:
            raise MissingError(f"there is no endpoint {endpoint!r}", at="endpoint")
        return self.endpoints[endpoint]


def _refused(rollout: Rollout, name: Command) -> ConflictError:
    return ConflictError(
        f"rollout {rollout.id} is {rollout.state}; {name} works while it is {allowed(name)}", at=rollout.id
    )


def _check_second(rollout: Rollout, by: str) -> None:
    if rollout.plan.second_person and by == rollout.created_by:
        raise ConflictError(
            f"{by} started rollout {rollout.id} and its plan wants a second person: somebody else decides this",
            code="second_person",
            at=rollout.id,
        )
