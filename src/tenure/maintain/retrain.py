"""Retraining: the user's own command under a contract, one run per endpoint at a time, and their history.

The contract is `docs/howto/retrain.md`.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy.engine import Connection

from tenure.clock import Clock
from tenure.data.masking import NOTHING, fields_of
from tenure.data.state import State
from tenure.errors import ConflictError, MissingError
from tenure.maintain import runs, trigger
from tenure.maintain.claim import Claim
from tenure.maintain.command import end_marked
from tenure.maintain.dataset import Payload
from tenure.maintain.job import Deploy, Job, Tools
from tenure.maintain.runs import Run
from tenure.model.registry import Registry
from tenure.scope.project import EndpointSpec
from tenure.seeds import fresh_u64


class Retrainer:
    """Starts retraining runs and answers what became of them.

    Args:
        state: the control state.
        endpoints: name -> what the project says of it.
        folder: the data folder.
        registry: where new versions go.
        root: the project's folder, in which the command runs.
        clock: the time.
        payload: returns the input of a request, None where it was not kept.
        deploy: starts a rollout for `auto_deploy`; without it none is started.
    """

    def __init__(
        self,
        state: State,
        endpoints: Mapping[str, EndpointSpec],
        folder: Path,
        *,
        registry: Registry,
        root: Path,
        clock: Clock,
        payload: Payload,
        deploy: Deploy | None = None,
    ) -> None:
        self._tools = Tools(state, folder.resolve(), registry, root.resolve(), clock, payload, deploy)
        self._endpoints = endpoints
        self._jobs: dict[str, tuple[Job, threading.Thread]] = {}
        self._lock = threading.Lock()

    # Commands

    def start(self, endpoint: str, cause: str, by: str) -> str:
        """Start a run in the background and return its id.

        Raises:
            MissingError: there is no such endpoint.
            ConflictError: a run of it is going, here or in another process, or it has no command.
        """
        job = self._open(endpoint, cause, by)
        thread = threading.Thread(target=job.work, name=f"retrain-{endpoint}", daemon=True)
        with self._lock:
            self._jobs = {run: found for run, found in self._jobs.items() if found[1].is_alive()}
            self._jobs[job.run] = (job, thread)
            thread.start()
        return job.run

    def run(self, endpoint: str, cause: str, by: str, *, progress: Callable[[str], None] | None = None) -> str:
        """Do a whole run and return its id; `get` says how it ended, `progress` gets each line as it comes.

        Raises:
            MissingError, ConflictError: as `start`. A run that fails raises nothing.
        """
        job = self._open(endpoint, cause, by, progress=progress)
        job.work()
        return job.run

    def wait(self, run: str, timeout_s: float | None = None) -> bool:
        """Wait for a run that this process started; returns whether it has ended."""
        with self._lock:
            found = self._jobs.get(run)
        if found is None:
            return True
        found[1].join(timeout_s)
        return not found[1].is_alive()

    def close(self) -> None:
        """Stop the runs of this process; they fail, and nothing of them goes on."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job, _ in jobs:
            job.stop()
        for _, thread in jobs:
            thread.join()

    def recover(self) -> list[str]:
        """End the runs whose process is gone, with what their command left running; returns their ids.

        Call it once at the start. A run of another process that lives is left alone.
        """
        with self._tools.state.read() as conn:
            open_ = runs.active(conn)
        ended = []
        for endpoint in sorted({run.endpoint for run in open_}):
            claim = Claim.take(self._claims, endpoint)
            if claim is None:
                continue
            try:
                ended += self._give_up(endpoint, claim)
            finally:
                claim.release()
        return ended

    # For the controller

    def due(self, conn: Connection, endpoint: str, now_us: int) -> str | None:
        """Return why a run should start now, None when none should; see `trigger.due`."""
        spec = self._endpoints[endpoint].retrain
        return None if spec.command is None else trigger.due(conn, endpoint, spec)

    def request(self, conn: Connection, endpoint: str, cause: str) -> None:
        """Remember that an alarm wants retraining, until the next run starts."""
        trigger.request(conn, endpoint, cause)

    # Questions

    def history(self, endpoint: str) -> list[Run]:
        """Return the runs of an endpoint, newest first."""
        with self._tools.state.read() as conn:
            return runs.history(conn, endpoint)

    def get(self, run: str) -> Run:
        """Return one run; raises MissingError."""
        with self._tools.state.read() as conn:
            return runs.one(conn, run)

    @property
    def _claims(self) -> Path:
        return self._tools.folder / "retrain"

    def _open(self, endpoint: str, cause: str, by: str, *, progress: Callable[[str], None] | None = None) -> Job:
        spec = self._spec(endpoint)
        claim = Claim.take(self._claims, endpoint)
        if claim is None:
            raise ConflictError(
                f"{endpoint} is being trained already; wait for that run", code="already_running", at=endpoint
            )
        try:
            self._give_up(endpoint, claim)
            shutil.rmtree(self._claims / endpoint, ignore_errors=True)  # what an earlier, failed run left
            run = f"r{fresh_u64():016x}"
            with self._tools.state.begin() as conn:
                runs.open_run(conn, run, endpoint=endpoint, cause=cause, now_us=self._tools.state.now_us())
                trigger.settle(conn, endpoint)
                self._tools.state.audit(
                    conn, actor=by, action="retrain.start", subject=endpoint, detail={"run": run, "cause": cause}
                )
                masked = sorted(fields_of(spec).fields)
                if masked and spec.retrain.reveal:
                    detail = {"run": run, "fields": masked, "reason": "retrain.reveal of the project"}
                    self._tools.state.audit(
                        conn, actor=by, action="dataset.reveal", subject=endpoint, detail=detail
                    )
        except BaseException:
            claim.release()
            raise
        return Job(
            self._tools, claim, run=run, endpoint=endpoint, spec=spec.retrain, by=by, cause=cause,
            min_side=spec.decode.min_side or 0, mask=NOTHING if spec.retrain.reveal else fields_of(spec),
            progress=progress, loss=spec.automation.loss,
        )  # fmt: skip

    def _spec(self, endpoint: str) -> EndpointSpec:
        if endpoint not in self._endpoints:
            known = ", ".join(self._endpoints) or "none"
            raise MissingError(f"there is no endpoint {endpoint!r}; this project has: {known}", at=endpoint)
        spec = self._endpoints[endpoint]
        if spec.retrain.command is None:
            raise ConflictError(
                f"{endpoint} has no training command; set endpoints.{endpoint}.retrain.command",
                code="no_command",
                at=endpoint,
            )
        return spec

    def _give_up(self, endpoint: str, claim: Claim) -> list[str]:
        """End what a dead owner of the claim left: its command's processes and its open rows."""
        end_marked(claim.read())
        state = self._tools.state
        with state.begin() as conn:
            left = runs.active(conn, endpoint)
            for run in left:
                runs.give_up(conn, run, now_us=state.now_us())
                state.audit(
                    conn, actor="tenure", action="retrain.crashed", subject=endpoint, detail={"run": run.id}
                )
        return [run.id for run in left]
