"""The routing table in force in this worker: read when the control page names a new one, swapped whole."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from tenure.deploy.router import Endpoint, Table
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.runner import Fleet
from tenure.errors import BusyError

_log = logging.getLogger("tenure.serving")


class Live:
    """Follow the control page.

    A table whose versions are all loaded is in force at once, so that a roll-back, whose version is kept warm,
    never waits for a load. Other tables wait for their versions. A version that cannot be loaded does not hold
    the table back: its requests go to people.
    """

    def __init__(self, folder: Path, page: ControlPage, slot: Slot, fleet: Fleet) -> None:
        self._folder = folder / "routing"
        self._page = page
        self._slot = slot
        self._fleet = fleet
        self._broken: set[str] = set()
        self._loading: asyncio.Task[None] | None = None
        self._next: Table | None = None  # read, but its versions are not all loaded yet
        self.table: Table | None = None

    @property
    def version(self) -> int:
        """The version of the table in force; 0 before the first."""
        return self.table.version if self.table else 0

    def endpoint(self, name: str) -> Endpoint:
        """Return the routing of an endpoint; raises BusyError before the first table."""
        if self.table is None or name not in self.table.endpoints:
            raise BusyError("no routing table yet; the controller is starting", code="not_ready", at=name)
        return self.table.endpoints[name]

    def has(self, version: str) -> bool:
        """Say whether a version is loaded here."""
        return self._fleet.has(version)

    def check(self) -> None:
        """Look at the page: one comparison when nothing changed."""
        if self._page.routing == self.version:
            return
        table = self._read(self._page.routing)
        if table is None:
            return
        self._next = table
        missing = [v for v in _versions(table) if not self._fleet.has(v) and v not in self._broken]
        if not missing:
            self._swap(table)
        elif self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load(missing))

    def _read(self, version: int) -> Table | None:
        if self._next is not None and self._next.version == version:
            return self._next
        try:
            return msgspec.json.decode((self._folder / f"{version}.json").read_bytes(), type=Table)
        except (OSError, msgspec.DecodeError):
            _log.exception("cannot read routing table %d; the old one stays in force", version)
            return None

    async def _load(self, versions: list[str]) -> None:
        try:
            for version in versions:
                try:
                    await self._fleet.load(version)
                except Exception:  # noqa: BLE001  # user code is loaded here: whatever it raises must not stop the worker
                    _log.exception("cannot load version %s; its requests go to people", version)
                    self._broken.add(version)
        finally:
            self._loading = None
        self.check()
        self._drop_unnamed()

    def _swap(self, table: Table) -> None:
        self.table, self._next = table, None
        self._slot.set("routing", table.version)
        if self._slot.state == "starting":
            self._slot.state = "ready"
        if self._loading is None:
            self._drop_unnamed()

    def _drop_unnamed(self) -> None:
        """Let go of versions that neither the table in force nor the one being loaded names."""
        named = {v for table in (self.table, self._next) if table is not None for v in _versions(table)}
        self._fleet.keep_only(named)
        self._broken &= named


def _versions(table: Table) -> list[str]:
    return [version for route in table.endpoints.values() for version in route.versions()]
