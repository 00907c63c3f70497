"""What the console needs from the rest of tenure, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenure.data.access import Access
from tenure.data.state import State
from tenure.deploy.automation.ledger import Automation
from tenure.deploy.review.queue import ReviewQueue
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.serving.predict.preview import Preview
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
        access: tokens and roles.
        health: says how the controller and the workers are.
        media: returns the input of a review item, or None where it was not kept.
        retrain: starts a run in the background (endpoint, cause, by) and returns its id.
        wake: asks the controller to look now instead of at its next tick.
        publish: puts what a command changed in force before it returns.
        preview: says what the stable version would say (endpoint, bytes, media type); None without workers.
    """

    project: Project
    state: State
    queue: ReviewQueue
    rollouts: Rollouts
    automation: Automation
    access: Access
    health: Callable[[], dict[str, Any]]
    media: Callable[[str], Media | None]
    retrain: Callable[[str, str, str], str]
    wake: Callable[[], None]
    publish: Callable[[], None]
    preview: Callable[[str, bytes, str], Preview] | None = None
