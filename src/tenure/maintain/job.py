"""The steps of one retraining run: freeze the labels, run the command, register its version, compare, deploy."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from tenure.clock import Clock
from tenure.data.masking import NOTHING, Mask
from tenure.data.state import State
from tenure.deploy.loss import EQUAL
from tenure.errors import ModelError, TenureError
from tenure.maintain import compare, dataset, runs
from tenure.maintain.claim import Claim
from tenure.maintain.command import Command, explain
from tenure.maintain.dataset import Payload
from tenure.maintain.judged import select
from tenure.maintain.output import Left, read_output
from tenure.maintain.snapshot import MANIFEST, Snapshot, open_snapshot
from tenure.model.registry import Registry
from tenure.scope.project import LossSpec, Retrain

Deploy = Callable[[str, str, str], object]
"""Starts a rollout: endpoint, version, cause."""

KEPT_LINES = 200
_FLUSH_NS = 1_000_000_000
_log = logging.getLogger("tenure.maintain")


class Tools(msgspec.Struct, frozen=True):
    """What every run works with."""

    state: State
    folder: Path
    registry: Registry
    root: Path
    clock: Clock
    payload: Payload
    deploy: Deploy | None


class Job:
    """One run, from its open row to its end."""

    def __init__(
        self,
        tools: Tools,
        claim: Claim,
        *,
        run: str,
        endpoint: str,
        spec: Retrain,
        by: str,
        cause: str,
        progress: Callable[[str], None] | None = None,
        min_side: int = 0,
        mask: Mask = NOTHING,
        loss: LossSpec = EQUAL,
    ) -> None:
        self.run = run
        self.endpoint = endpoint
        self._tools = tools
        self._claim = claim
        self._spec = spec
        self._min_side = min_side
        self._mask = mask
        self._loss = loss
        self._by = by
        self._cause = cause
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._flushed_ns = tools.clock.monotonic_ns()
        self._metrics: dict[str, Any] = {}
        self._command: Command | None = None
        self._stopping = False
        self._ended = False
        self._lock = threading.Lock()

    def work(self) -> None:
        """Do everything; whatever happens, the row says how it ended and the claim is given back."""
        try:
            self._steps()
        except TenureError as error:
            self._fail(error.message)
        except Exception as error:  # noqa: BLE001 - user code runs here: the run fails, tenure goes on
            _log.exception("retraining run %s failed", self.run)
            self._fail(f"{type(error).__name__}: {error}")
        except BaseException:  # Ctrl-C of the command line
            self._fail("interrupted")
            raise
        finally:
            self._claim.release()

    def stop(self) -> None:
        """End the run now; it fails."""
        with self._lock:
            self._stopping = True
            command = self._command
        if command is not None:
            command.stop()

    def _steps(self) -> None:
        snapshot = self._freeze()
        parent = self._parent()
        output = self._tools.folder / "retrain" / self.endpoint / self.run
        left = self._train(snapshot, parent, output)
        self._change(state="trained", metrics=self._metrics)
        version = self._register(left, snapshot, parent)
        self._change(version=version)
        self._compare(snapshot, version, parent)
        self._end("registered")
        shutil.rmtree(output, ignore_errors=True)

    def _freeze(self) -> Snapshot:
        tools = self._tools
        with tools.state.read() as conn:
            items = select(conn, self.endpoint, since_us=0)
        now_us = tools.state.now_us()
        # No transaction is open while inputs are copied: the controller goes on writing.
        made = dataset.freeze(
            items, self.endpoint, tools.folder, since_us=0, payload=tools.payload, now_us=now_us,
            min_side=self._min_side, mask=self._mask,
        )  # fmt: skip
        with tools.state.begin() as conn:
            dataset.record(conn, made, now_us=now_us)
            runs.change(conn, self.run, snapshot=made.id)
        said = made.manifest
        self.note(f"snapshot {made.id}: {said.train} rows to train, {said.test} to test")
        if self._mask.fields:
            names = ", ".join(sorted(self._mask.fields))
            self.note(f"without the masked fields {names}; `retrain.reveal: true` gives them to the command")
        if said.missing:
            self.note(f"{len(said.missing)} judged items could not be used; {MANIFEST} names them")
        return made

    def _parent(self) -> str | None:
        """Return the incumbent: the live version, else the newest one."""
        live = self._tools.registry.live(self.endpoint)
        known = [v.id for v in self._tools.registry.list(self.endpoint) if v.state != "retired"]
        return live or (known[-1] if known else None)

    def _train(self, snapshot: Snapshot, parent: str | None, output: Path) -> Left:
        line = self._spec.command or ""
        output.mkdir(parents=True)
        env = {
            "TENURE_DATASET": str(snapshot.path),
            "TENURE_OUTPUT": str(output),
            "TENURE_ENDPOINT": self.endpoint,
            "TENURE_RUN": self.run,
        }
        if parent is not None:
            env["TENURE_PARENT"] = str(self._tools.registry.get(parent).path)
        self.note(f"$ {line}")
        command = self._launch(line, env)
        outcome = command.wait(self._spec.timeout, on_line=self.note)
        reason = explain(outcome, self._spec.timeout)
        if reason is not None:
            raise ModelError(reason, code="training_failed")
        left = read_output(output)
        self._metrics["command"] = left.metrics
        return left

    def _launch(self, line: str, env: dict[str, str]) -> Command:
        with self._lock:
            if self._stopping:
                raise ModelError("the command was stopped", code="training_failed")
            command = self._command = Command(line, cwd=self._tools.root, env=env)
        self._claim.write(command.mark)
        return command

    def _register(self, left: Left, snapshot: Snapshot, parent: str | None) -> str:
        registry = self._tools.registry
        provenance = {
            "run": self.run,
            "cause": self._cause,
            "snapshot": snapshot.id,
            "snapshot_sha": snapshot.sha,
            "command": self._spec.command,
            "parent": parent,
            "metrics": left.metrics,
            **git_state(self._tools.root),
        }
        if left.bundle is not None:
            version = registry.register_bundle(self.endpoint, left.bundle, by=self._by, provenance=provenance)
        elif left.files is None or parent is None:
            raise ModelError(
                f"{self.endpoint} has no version whose code and sample could be reused; "
                "the first training must leave bundle/ instead of files/",
                code="no_parent",
            )
        else:
            version = registry.register_files(
                parent, left.files, by=self._by, provenance=provenance, pilot_scores=left.pilot_scores
            )
        self.note(f"registered {version}")
        return version

    def _compare(self, snapshot: Snapshot, version: str, parent: str | None) -> None:
        """Compare with the incumbent. A comparison that fails leaves the version registered, and says so."""
        if version == parent:
            self._metrics["verdict"] = f"the command made {version} again; nothing changed"
            self.note(self._metrics["verdict"])
            return
        try:
            found = self._compared(open_snapshot(snapshot.path), version, parent)
        except TenureError as error:
            self._metrics["verdict"] = f"not compared: {error.message}"
            self.note(self._metrics["verdict"])
            return
        self._metrics |= {"comparison": msgspec.to_builtins(found), "verdict": found.sentence}
        self.note(found.sentence)
        if self._spec.auto_deploy:
            self._deploy(found, version)

    def _compared(self, snapshot: Snapshot, version: str, parent: str | None) -> compare.Comparison:
        registry = self._tools.registry
        with self._tools.state.read() as conn:
            attempt = runs.attempt(conn, self.endpoint, version, cut_us=snapshot.manifest.cut_us)
        incumbent = None if parent is None else registry.get(parent)
        return compare.compare(
            snapshot, registry.get(version), incumbent, attempt=attempt, trusted=registry.trusted, by=self._loss
        )

    def _deploy(self, found: compare.Comparison, version: str) -> None:
        if not found.passed:
            self.note("no rollout was started: only a version that is shown not to be worse is")
            return
        if self._tools.deploy is None:
            self.note("no rollout was started: this process cannot; start one by hand")
            return
        try:
            self._tools.deploy(self.endpoint, version, f"retraining run {self.run} passed")
            self.note("a rollout was started")
        except TenureError as error:
            self.note(f"no rollout was started: {error.message}")

    # The row

    def note(self, line: str) -> None:
        """Keep a line of output; the row follows about once a second. What comes after the end is dropped."""
        with self._lock:
            if self._ended:
                return
            self._lines.append(line)
        if self._progress is not None:
            with contextlib.suppress(OSError):  # a reader of ours that has gone away must not stop the training
                self._progress(line)
        now = self._tools.clock.monotonic_ns()
        if now - self._flushed_ns >= _FLUSH_NS:
            self._flushed_ns = now
            try:
                self._change()
            except sa.exc.SQLAlchemyError:
                _log.warning("cannot note the output of run %s", self.run, exc_info=True)

    def _change(self, **values: Any) -> None:
        with self._tools.state.begin() as conn:
            runs.change(conn, self.run, log=self._log_text(), **values)

    def _fail(self, reason: str) -> None:
        self.note(f"failed: {reason}")
        self._metrics["error"] = reason
        self._end("failed")

    def _end(self, state: str) -> None:
        with self._lock:
            self._ended = True
        tools = self._tools
        values = {"state": state, "metrics": self._metrics, "ended_us": tools.state.now_us()}
        with tools.state.begin() as conn:
            runs.change(conn, self.run, log=self._log_text(), **values)
            tools.state.audit(
                conn, actor=self._by, action=f"retrain.{state}", subject=self.endpoint, detail={"run": self.run}
            )

    def _log_text(self) -> str:
        with self._lock:
            return "\n".join(self._lines)


def git_state(root: Path) -> dict[str, Any]:
    """Return the commit of a git tree and whether it has changes, {} where there is no git or no tree."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}
