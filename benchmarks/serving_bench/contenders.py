"""Who takes part: which script, whose Python, how it is asked. And their processes, from start to end."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from serving_bench import peers, wire
from serving_bench.loads import Cell, Kind, Name
from serving_bench.models import Truth
from serving_bench.peers import NotInstalledError
from serving_bench.wire import Form, WrongError

SERVERS = Path(__file__).resolve().parents[1] / "servers"
_FIRST_ANSWER_S = 120.0
_PREPARE_S = 300.0
_END_S = 20.0


class Contender(NamedTuple):
    """One server program.

    Attributes:
        script: file in benchmarks/servers.
        forms: how it is asked, for each load that it takes part in.
        peer: whose environment runs it; None for our own.
        oip: name of its model in the Open Inference Protocol's binary form, where it speaks it.
        prepares: whether its script makes files first, which is no part of a start.
        checked: whether it computes anything that could be wrong.
    """

    name: str
    script: str
    forms: Mapping[Name, Form]
    peer: str | None = None
    oip: str | None = None
    prepares: bool = False
    workers: int = 1
    variant: str = ""
    checked: bool = True

    def takes(self, cell: Cell) -> bool:
        return cell.load in self.forms or (cell.load == "oip" and self.oip is not None)

    def python(self, cache: Path) -> str:
        """Return the interpreter; raises NotInstalledError with the reason."""
        if self.name == "nginx" and shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
            raise NotInstalledError("no nginx on this system (Debian: apt-get install nginx-light)")
        return sys.executable if self.peer is None else str(peers.python_of(self.peer, cache))


_PLAIN: dict[Name, Form] = {
    "record": wire.record("/v1/risk/predict"),
    "photo": wire.photo("/v1/photo/predict"),
    "form": wire.multipart("/v1/photo/form"),
}
_OURS: dict[Name, Form] = {
    "record": wire.record("/v1/risk/predict", wire.read_tenure),
    "photo": wire.photo("/v1/photo/predict", wire.read_tenure),
    "form": wire.multipart("/v1/photo/predict", wire.read_tenure),
}
_RISK_ONLY: dict[Name, Form] = {"record": _OURS["record"]}
BASE = Contender("base", "fastapi_base.py", {**_PLAIN, "oip": wire.v2_json("/v2/models/risk/infer")})
OURS = Contender("ours", "ours.py", _OURS, oip="risk", prepares=True)
ALL_PIXELS = OURS._replace(
    name="ours-all-pixels", forms={n: _OURS[n] for n in ("photo", "form")}, oip=None, variant="pixels"
)
VARIANTS = tuple(
    OURS._replace(name=f"ours-{name}", forms=_RISK_ONLY, oip=None, variant=variant, workers=workers)
    for name, variant, workers in (
        ("canary", "canary", 1),  # and a full shadow
        ("power", "power", 1),
        ("thread", "thread", 1),
        ("2-workers", "", 2),
    )
)
V2: dict[Name, Form] = {"record": wire.v2_json("/v2/models/risk/infer")}
_FORM: dict[Name, Form] = {"form": _PLAIN["form"]}
_RECORD: dict[Name, Form] = {"record": _PLAIN["record"]}
PEERS = (
    Contender("mlserver", "mlserver_server.py", V2 | {"oip": V2["record"]}, peer="mlserver"),
    Contender("litserve", "litserve_server.py", _RECORD | _FORM, peer="litserve"),
    Contender("bentoml", "bentoml_server.py", _PLAIN, peer="bentoml"),
    Contender("kserve", "kserve_server.py", V2, peer="kserve", oip="risk"),
    Contender(
        "mlflow", "mlflow_server.py", {"record": wire.mlflow("/invocations")}, peer="mlflow", prepares=True
    ),
    Contender("ray", "ray_server.py", _PLAIN, peer="ray"),
)
CEILING = Contender("nginx", "nginx_empty.py", {"record": _PLAIN["record"]}, checked=False)


class Running:
    """A contender's processes: a group of their own, found again by their ids."""

    def __init__(self, contender: Contender, *, python: str, kind: Kind, models: Path, cores: set[int]) -> None:
        self.contender = contender
        self.kind: Kind = kind
        self.port = _free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"bench-{Path(contender.script).stem}-"))
        self.first_answer_s = 0.0
        self._command = [
            python, str(SERVERS / contender.script), kind, str(models), "--folder", str(self.folder),
            "--port", str(self.port), "--workers", str(contender.workers), "--variant", contender.variant,
        ]  # fmt: skip
        self._cores = cores
        self._log = (self.folder / "output.txt").open("wb")
        self._seen: dict[int, psutil.Process] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, truth: Truth) -> None:
        """Prepare, start, and wait for the first right answer.

        Raises:
            RuntimeError: it ended, or gave none in time; with its last words.
        """
        if self.contender.prepares:
            done = self._popen("--prepare").wait(_PREPARE_S)
            if done:
                raise RuntimeError(f"cannot prepare: {self.last_words()}")
        began = time.perf_counter()
        self.process = self._popen()
        while (problem := self._problem(truth)) is not None:
            if self.process.poll() is not None or time.perf_counter() - began > _FIRST_ANSWER_S:
                raise RuntimeError(f"no right answer: {problem}; {self.last_words()}")
            time.sleep(0.02)
        self.first_answer_s = time.perf_counter() - began

    def form(self, cell: Cell) -> Form:
        if cell.load == "oip" and self.contender.oip is not None:
            return wire.v2_binary(self.port, self.contender.oip)
        return self.contender.forms[cell.load]

    def verify(self, truth: Truth, cell: Cell) -> None:
        """Ask every input once over one connection and compare; raises WrongError."""
        form, connection = self.form(cell), http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            for number in range(len(truth.photos) if cell.kind == "photo" else len(truth.rows)):
                ask = form.ask(truth, cell, number)
                connection.request("POST", ask.path, ask.body, ask.headers)
                reply = connection.getresponse()
                self.compare(
                    truth, cell, number,
                    status=reply.status, head={k.lower(): v for k, v in reply.getheaders()}, body=reply.read(),
                )  # fmt: skip

    def compare(
        self, truth: Truth, cell: Cell, number: int, *, status: int, head: dict[str, str], body: bytes
    ) -> None:
        """Check one answer; raises WrongError."""
        if status != 200:
            raise WrongError(f"status {status}: {body[:300]!r}")
        if not self.contender.checked:
            return
        try:
            found = self.form_read(cell)(head, body)
        except Exception as error:  # what a foreign server says may be anything
            raise WrongError(f"cannot read the answer ({error!r}): {body[:300]!r}") from error
        wire.check(truth, cell, number, found=found)

    def form_read(self, cell: Cell) -> Any:
        return wire.read_v2 if cell.load == "oip" else self.contender.forms[cell.load].read

    # What it uses

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of the tree, the root first."""
        assert self.process is not None
        try:
            root = psutil.Process(self.process.pid)
            found = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
        self._seen |= {each.pid: each for each in found}
        return found

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds of each process so far, by role and id."""
        out = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                out[f"{_role(process)} {process.pid}"] = used.user + used.system
        return out

    def memory(self) -> dict[str, Any]:
        """Return megabytes: resident (RSS) of each process, and of all with shared pages counted once (PSS)."""
        each, pss = {}, 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found = process.memory_full_info()
                each[f"{_role(process)} {process.pid}"] = round(found.rss / 1e6, 1)
                pss += found.pss / 1e6
        return {"processes": each, "rss_mb": round(sum(each.values()), 1), "pss_mb": round(pss, 1)}

    def counters(self) -> dict[str, int]:
        """Return what our server counted, such as shadow answers that were dropped under load; {} of others."""
        if self.contender.script != OURS.script:
            return {}
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10).read().decode()
        out: dict[str, int] = {}
        for line in text.splitlines():
            name = line.partition("{")[0].removeprefix("tenure_").removesuffix("_total")
            if name in ("requests", "failed", "faults", "refused", "shadows", "shadows_shed", "unlogged"):
                out[name] = out.get(name, 0) + int(float(line.rpartition(" ")[2]))
        return out

    def last_words(self) -> str:
        self._log.flush()
        text = (self.folder / "output.txt").read_text(errors="replace").strip()
        return " | ".join(text.splitlines()[-6:])[-900:]

    def stop(self) -> None:
        """End all of it: the root is asked, what remains of the tree is killed by its own ids."""
        if self.process is not None:
            self.processes()
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_END_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            for process in self._seen.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()  # psutil checks that the id is still the same process
            self.process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _popen(self, *more: str) -> subprocess.Popen[bytes]:
        with pinned(self._cores):
            return subprocess.Popen(
                [*self._command, *more], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                start_new_session=True, cwd=self.folder, env=_environment(self.contender),
            )  # fmt: skip

    def _problem(self, truth: Truth) -> str | None:
        cell = Cell("photo" if self.kind == "photo" else "record")
        if not self.contender.takes(cell):
            cell = Cell("form")
        ask = self.form(cell).ask(truth, cell, 0)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            with contextlib.closing(connection):
                connection.request("POST", ask.path, ask.body, ask.headers)
                reply = connection.getresponse()
                head = {k.lower(): v for k, v in reply.getheaders()}
                self.compare(truth, cell, 0, status=reply.status, head=head, body=reply.read())
        except (OSError, http.client.HTTPException, WrongError) as error:
            return str(error) or repr(error)
        return None


@contextlib.contextmanager
def running(
    contender: Contender, truth: Truth, *, cache: Path, kind: Kind, models: Path, cores: set[int]
) -> Iterator[Running]:
    """Start a contender, and end it whatever happens.

    Raises:
        NotInstalledError, RuntimeError: it cannot take part; the message is the reason.
    """
    made = Running(contender, python=contender.python(cache), kind=kind, models=models, cores=cores)
    try:
        made.start(truth)
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Let what is started inside run on these cores only; an empty set changes nothing."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _environment(contender: Contender) -> dict[str, str]:
    """Return a contender's environment: ours, and for a peer without what names another Python's modules."""
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    found = os.environ | quiet | {"PYTHONUNBUFFERED": "1"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV") if contender.peer else ():
        found.pop(name, None)
    return found


def _role(process: psutil.Process) -> str:
    """Return what a process is, from its command line."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        if "tenure.system" in words:
            return words[words.index("tenure.system") + 1]
        return Path(next((w for w in words[1:] if w.endswith(".py")), words[0] if words else "?")).name
    return "?"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
