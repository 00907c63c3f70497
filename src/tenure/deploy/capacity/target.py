"""Whom a load test may load: a server on this machine, found or named; another's only on an explicit word."""

from __future__ import annotations

import fcntl
import http.client
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil

from tenure.deploy.capacity.samples import UNIT
from tenure.deploy.serving.control_page import ControlPage
from tenure.errors import AccessError, BusyError, CaseError
from tenure.model.bundle import Sample

_TIMEOUT_S = 30.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go. `pids` are the server's processes by name, where they can be seen."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    token: str = ""
    pids: dict[str, int] = {}

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_loopback(self) -> bool:
        """Say whether it is on this machine for sure."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(url: str, *, token: str = "", pids: Mapping[str, int] | None = None) -> Target:
    """Return the target that an address names.

    Raises:
        CaseError: it is no http(s) address.
    """
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise CaseError(f"expected an address such as http://127.0.0.1:8700, got {url!r}", at="--url")
    if not token.isascii() or not token.isprintable():
        raise CaseError("a token holds printable ASCII only", at="--token")
    return Target(
        host=parts.hostname, port=port, tls=parts.scheme == "https", prefix=parts.path.rstrip("/"), token=token,
        pids=dict(pids or {}),
    )  # fmt: skip


def refuse_remote(target: Target, *, allowed: bool) -> None:
    """Refuse another machine unless the caller says that it is theirs to load.

    Raises:
        AccessError: it is not on loopback and not allowed.
    """
    if not allowed and not target.is_loopback():
        raise AccessError(
            f"{target.address} is not on this machine, and load on someone else's is an attack; if you may do "
            "this, say --yes-remote",
            code="remote_target",
            at="--url",
        )


def running(folder: Path, *, token: str = "") -> Target | None:
    """Return the server that runs on a data folder, None without one; its port is read from its workers."""
    if not _is_claimed(folder / "server.lock") or not (folder / "control.page").is_file():
        return None
    slots = [slot for slot in ControlPage(folder / "control.page").slots() if slot.state == "ready"]
    for slot in slots:
        heard = _listens(slot.pid)
        if heard is not None:
            pids = {f"worker {s.index}": s.pid for s in slots} | _controller(slot.pid)
            return Target(host=heard[0], port=heard[1], token=token, pids=pids)
    return None


def ask_once(target: Target, endpoint: str, sample: Sample) -> None:
    """Send one request before the load, so that a wrong token or input is an error and not a result.

    Raises:
        BusyError: no answer, or 503.
        CaseError: any other answer than 200 and 202.
    """
    kind = http.client.HTTPSConnection if target.tls else http.client.HTTPConnection
    connection = kind(target.host, target.port, timeout=_TIMEOUT_S)
    headers = {"Content-Type": sample.media_type, "Tenure-Unit": UNIT}
    if target.token:
        headers["Authorization"] = f"Bearer {target.token}"
    try:
        connection.request("POST", f"{target.prefix}/v1/{endpoint}/predict", sample.body, headers)
        reply = connection.getresponse()
        text = reply.read()[:300].decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise BusyError(f"no answer from {target.address}: {error or type(error).__name__}", code="unreachable",
                        at=target.address) from error  # fmt: skip
    finally:
        connection.close()
    if reply.status not in (200, 202):
        raise CaseError(f"the first request was answered with {reply.status}: {text}", at=target.address)


def _is_claimed(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _listens(pid: int) -> tuple[str, int] | None:
    try:
        found = [c for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return None
    if not found:
        return None
    host, port = found[0].laddr[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)


def _controller(worker: int) -> dict[str, int]:
    """Return the controller beside a worker: the child of the same supervisor that is told so."""
    try:
        parent = psutil.Process(worker).parent()
        children = parent.children() if parent is not None else []
        found = next((c.pid for c in children if "controller" in c.cmdline()[:5]), None)
    except psutil.Error:
        found = None
    return {} if found is None else {"controller": found}
