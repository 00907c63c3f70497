"""What commands work with: a project and the services over its state database.

Commands write by the services' own short transactions, directly on the state database, whether a server runs or
not. A running controller sees the change at its next tick, within 0.2 s. So no command needs a token: whoever
may write the data folder is the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenure import system
from tenure.api import adhoc
from tenure.api.adhoc import user
from tenure.clock import SystemClock
from tenure.data.state import State
from tenure.errors import CaseError
from tenure.scope.project import EndpointSpec, Project

if TYPE_CHECKING:
    from tenure.data.access import Access
    from tenure.data.masking import Mask
    from tenure.deploy.automation.ledger import Automation
    from tenure.deploy.review.queue import ReviewQueue
    from tenure.deploy.rollout.ledger import Rollouts
    from tenure.model.registry import Registry


class Office:
    """A project's services; each is imported and made when it is first asked for, so that commands start fast."""

    def __init__(self, project: Project, state: State) -> None:
        self.project = project
        self.folder = project.folder()
        self.state = state
        self.by = user()

    @cached_property
    def access(self) -> Access:
        from tenure.data.access import Access

        return Access(self.state)

    @cached_property
    def registry(self) -> Registry:
        from tenure.data.schema import Contract, InputSchema
        from tenure.model.registry import Registry

        endpoints = self.project.endpoints.items()
        contracts = {n: Contract(InputSchema.of(spec), self.project.output(n)) for n, spec in endpoints}
        return Registry(self.state, self.folder, contracts=contracts, trusted=self.project.trust)

    @cached_property
    def rollouts(self) -> Rollouts:
        from tenure.deploy.rollout.ledger import Rollouts

        return Rollouts(self.state, self.project.endpoints, case=self.project.scope.case)

    @cached_property
    def automation(self) -> Automation:
        from tenure.deploy.automation.ledger import Automation

        return Automation(self.state, self.project.endpoints)

    @cached_property
    def queue(self) -> ReviewQueue:
        from tenure.deploy.review.queue import ReviewQueue

        return ReviewQueue(self.state, self.project.endpoints, output=self.project.scope.y)

    @cached_property
    def media(self) -> Callable[[str], tuple[str, bytes] | None]:
        """What returns (media type, bytes) of a request's input, None where it was not kept."""
        from tenure.data.records import decode_id
        from tenure.data.view import Log

        log, key = Log(self.folder), system.secret(self.folder)

        def payload(item: str) -> tuple[str, bytes] | None:
            found = decode_id(item, key)
            return None if found is None else log.payload(*found)

        return payload

    def mask(self, endpoint: str, reveal: str | None, *, action: str, detail: dict[str, Any]) -> Mask:
        """Return what must not leave with an endpoint's inputs: nothing for whoever gives a reason to reveal it.

        Who may use this office is the operator, who may reveal at the console, too. The audit trail has who asked
        for which fields and why, before anything is written.

        Raises:
            CaseError: `no_reason`, the reason is empty.
        """
        from tenure.data.masking import NOTHING, mask_of

        mask = mask_of(self.project, endpoint, system.secret(self.folder))
        if reveal is None or mask == NOTHING:
            return mask
        if not reveal.strip():
            raise CaseError("say why the masked fields are needed", code="no_reason", at="--reveal")
        told = {"fields": list(mask.names()), "reason": reveal.strip(), **detail}
        with self.state.begin() as conn:
            self.state.audit(conn, actor=self.by, action=action, subject=endpoint, detail=told)
        return NOTHING

    def endpoint(self, name: str | None) -> str:
        """Return the endpoint that a command means.

        Raises:
            CaseError: there are several and none is named.
            MissingError: there is no such endpoint.
        """
        names = list(self.project.endpoints)
        if name is None and len(names) == 1:
            return names[0]
        if name is None:
            raise CaseError(f"which endpoint? Say --endpoint with one of: {', '.join(names)}", at="--endpoint")
        adhoc.endpoint_of(self.project, name)
        return name

    def spec(self, name: str) -> EndpointSpec:
        """Return what an endpoint promises."""
        return adhoc.endpoint_of(self.project, name)


@contextmanager
def office(place: Path | None) -> Iterator[Office]:
    """Open the project at `place` with its state database.

    Raises:
        ProjectError: there is none, or it has faults.
        StoreError: the database cannot be opened.
    """
    project = adhoc.find(place)
    system.prepare(project.folder())
    state = State.open(system.state_url(project), SystemClock())
    try:
        yield Office(project, state)
    finally:
        state.close()
