"""The demo's operator: asks and commands through the management API, as the console's page does."""

from __future__ import annotations

from typing import Any

from tenure.demo.inspection.calls import Caller
from tenure.demo.inspection.project import ENDPOINT
from tenure.errors import ConflictError

Report = dict[str, Any]


class Operator:
    """A person with an operator's token."""

    def __init__(self, url: str, token: str) -> None:
        self._caller = Caller(url, token)

    # Questions

    def levels(self) -> Report:
        """Return level, evidence, certificates and the comparison with people."""
        found: Report = self._caller.get(f"/api/levels?endpoint={ENDPOINT}")
        return found

    def level(self) -> str:
        return str(self.levels()["level"])

    def rollout(self, number: str) -> Report:
        """Return a rollout with its evidence and moves."""
        found: Report = self._caller.get(f"/api/rollouts/{number}")
        return found

    def alarms(self) -> list[Report]:
        """Return alarms, open ones first."""
        return list(self._caller.get(f"/api/alarms?endpoint={ENDPOINT}")["alarms"])

    def reviews(self) -> Report:
        """Return how full the review queue is."""
        found: Report = self._caller.get(f"/api/reviews/counts?endpoint={ENDPOINT}")
        return found

    def retraining(self, run: str) -> Report:
        """Return one retraining run."""
        found = self._caller.get(f"/api/retrain?endpoint={ENDPOINT}")["runs"]
        return next(r for r in found if r["id"] == run)

    def reference(self) -> Report:
        """Return what the drift boards can see."""
        found: Report = self._caller.get(f"/api/endpoints/{ENDPOINT}/reference")
        return found

    def overview(self) -> Report:
        found: Report = self._caller.get("/api/overview")
        return found

    # Commands

    def move(self, to: str) -> str | None:
        """Move the degree of automation and approve it; returns why not, None when it moved."""
        try:
            self._caller.post("/api/levels", {"endpoint": ENDPOINT, "to": to, "approve": True})
        except ConflictError as error:
            return error.message
        return None

    def roll_out(self, version: str) -> str:
        """Start the rollout of a version and return its id."""
        return str(self._caller.post("/api/rollouts", {"endpoint": ENDPOINT, "candidate": version})["id"])

    def command(self, number: str, verb: str, reason: str) -> None:
        """Give a rollout one command: promote, resume, rollback, cancel."""
        self._caller.post(f"/api/rollouts/{number}/{verb}", {"reason": reason})

    def acknowledge(self, alarm: int) -> None:
        """Say that a person knows of an alarm."""
        self._caller.post(f"/api/alarms/{alarm}/acknowledge", {})

    def note(self, text: str) -> None:
        """Mark the charts."""
        self._caller.post("/api/events", {"text": text, "endpoint": ENDPOINT})

    def retrain(self, cause: str) -> str:
        """Start a retraining run and return its id."""
        return str(self._caller.post("/api/retrain", {"endpoint": ENDPOINT, "cause": cause})["run"])
