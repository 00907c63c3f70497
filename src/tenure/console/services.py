"""What the console needs from the rest of tenure, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenure.data.access import Access
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.review.queue import ReviewQueue
from tenure.monitor.board import Monitor
from tenure.scope.project import Project

Media = tuple[str, bytes]
"""(media type, bytes) of an input as it came."""


@dataclass(frozen=True)
class Services:
    """The services behind the management API.

    Attributes:
        project: what was promised; its endpoints are the console's endpoints.
        state: the control state; read pages query it directly, commands go through the services.
        queue: the review queue.
        rollouts: rollout commands.
        automation: levels and certificates.
        monitor: series, heatmaps and alarms.
        registry: versions.
        retrainer: retraining runs.
        access: tokens and roles.
        log: the prediction log.
        health: says how the controller and the workers are.
        media: returns the input of a review item, or None where it was not kept.
        wake: asks the controller to look now instead of at its next tick.
    """

    project: Project
    state: State
    queue: ReviewQueue
    rollouts: Any
    automation: Automation
    monitor: Monitor
    registry: Any
    retrainer: Any
    access: Access
    log: Any
    health: Callable[[], dict[str, Any]]
    media: Callable[[str], Media | None]
    wake: Callable[[], None]
