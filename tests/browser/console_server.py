"""A console server's parts for the browser tests: real services over a seeded state."""

from __future__ import annotations

from dataclasses import dataclass

from seed import Seed, project

from tenure.console.services import Services
from tenure.data.access import Access
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.rollout.ledger import Rollouts


@dataclass
class Console:
    """A running console: its address, its state, and what the pages printed or asked elsewhere."""

    url: str
    state: State
    seed: Seed
    services: Services
    complaints: list[str]


def services_of(state: State, seed: Seed) -> Services:
    made = project()
    return Services(
        project=made,
        state=state,
        queue=ReviewQueue(state, made.endpoints, output=made.scope.y),
        rollouts=Rollouts(state, made.endpoints, case=made.scope.case),
        automation=Automation(state, made.endpoints),
        access=Access(state),
        health=lambda: {"ok": True, "workers": 2},
        media=seed.media.get,
        retrain=lambda endpoint, cause, by: "t-2",
        wake=lambda: None,
        publish=lambda: None,
    )
