"""What alarms do: hold or roll back a rollout, lower the level, ask for retraining. Each once."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.engine import Connection

from tenure.deploy.automation.ledger import Automation
from tenure.deploy.rollout.ledger import Rollouts
from tenure.maintain.retrain import Retrainer
from tenure.monitor import alarms
from tenure.monitor.alarms import AlarmEvent
from tenure.types import Level

AUTHOR = "alarm"


class Actions:
    """Performs the actions of firing alarms, in the controller's transaction. Promotion is none of them."""

    def __init__(self, *, automation: Automation, rollouts: Rollouts, retrainer: Retrainer) -> None:
        self._automation, self._rollouts, self._retrainer = automation, rollouts, retrainer
        self._do: dict[str, Callable[[Connection, AlarmEvent], str]] = {
            "hold_rollout": self._hold,
            "rollback": self._roll_back,
            "drop_level": self._drop,
            "open_retraining": self._retrain,
        }

    def perform(self, conn: Connection, now_us: int) -> list[str]:
        """Do what is due and say what was done."""
        done = []
        for event in alarms.due(conn):
            for action in event.do:
                if action in self._do:
                    detail = self._do[action](conn, event)
                    alarms.mark_done(conn, event.alarm, action, detail, now_us)
                    done.append(f"{event.endpoint}: {action}: {detail}")
        return done

    def _hold(self, conn: Connection, event: AlarmEvent) -> str:
        held = self._rollouts.hold(conn, event.endpoint, _why(event), AUTHOR)
        return "rollout held" if held else "no rollout was running"

    def _roll_back(self, conn: Connection, event: AlarmEvent) -> str:
        moved = self._rollouts.force_rollback(conn, event.endpoint, _why(event), AUTHOR)
        return "rollout rolled back" if moved else "no rollout was running"

    def _drop(self, conn: Connection, event: AlarmEvent) -> str:
        before = self._automation.level_in(conn, event.endpoint)
        self._automation.drop(conn, event.endpoint, Level.ASSIST, _why(event), AUTHOR)
        after = self._automation.level_in(conn, event.endpoint)
        return f"level {before.word} -> {after.word}; evidence starts anew"

    def _retrain(self, conn: Connection, event: AlarmEvent) -> str:
        self._retrainer.request(conn, event.endpoint, _why(event))
        return "retraining asked for"


def _why(event: AlarmEvent) -> str:
    return f"alarm {event.alarm}: {event.message}"
