"""The management API over the real services and a fresh state; one token per role."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx
import sqlalchemy as sa
from starlette.testclient import TestClient

from tenure.clock import ManualClock
from tenure.console.services import Services
from tenure.data import tables as t
from tenure.data.access import Access
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.rollout.ledger import Rollouts
from tenure.scope import project as p

ROLES = ("viewer", "reviewer", "operator", "client")


@dataclass
class Office:
    """A project with one image endpoint, and what its services did."""

    state: State
    services: Services
    client: TestClient
    media: dict[str, tuple[str, bytes]]
    tokens: dict[str, str]
    woken: list[str] = field(default_factory=list)

    def ask(self, role: str, method: str, path: str, **more: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[role]}", **more.pop("headers", {})}  # type: ignore[dict-item]
        return self.client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]

    def add(self, item: str, *, blind: bool = False) -> None:
        """Put one item with a suggestion into the queue."""
        now = self.state.now_us()
        new = NewItem(
            id=item, endpoint="phones", kind="audit", blind=blind, pending=False, priority=1.0, audit_prob=0.1,
            unit="", policy=1, level="assist", version="a@1", rollout=None, arm="stable", share=1.0,
            lottery=False,
            media_type="image/jpeg", created_us=now, deadline_us=0,
        )  # fmt: skip
        said = ItemPrediction(item=item, version="a@1", role="primary", value="defect", at_us=now, confidence=0.8)
        with self.state.begin() as conn:
            self.services.queue.add(conn, [new])
            self.services.queue.add_predictions(conn, [said])

    def audit_actions(self) -> list[str]:
        with self.state.read() as conn:
            return list(conn.execute(sa.select(t.audit.c.action).order_by(t.audit.c.id)).scalars())


def project() -> p.Project:
    spec = p.EndpointSpec(input="image", monitor=p.Monitor(pane=10), retrain=p.Retrain(command="true"))
    scope = p.Scope(y=p.Output(labels=("good", "defect"), regions="box"))
    return p.Project(project="screens", scope=scope, endpoints={"phones": spec})


def services_of(
    state: State, clock: ManualClock, media: dict[str, tuple[str, bytes]], woken: list[str]
) -> Services:
    made = project()
    return Services(
        project=made,
        state=state,
        queue=ReviewQueue(state, made.endpoints, output=made.scope.y),
        rollouts=Rollouts(state, made.endpoints, case=made.scope.case),
        automation=Automation(state, made.endpoints),
        access=Access(state),
        health=lambda: {"ok": True, "workers": 2},
        media=media.get,
        retrain=lambda endpoint, cause, by: "t-2",
        wake=lambda: woken.append("wake"),
        publish=lambda: woken.append("publish"),
    )
