"""The routing table in force in this worker: read when the control page names a new one, swapped whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tenure.deploy.router import Endpoint, Table
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.predict import memory
from tenure.deploy.serving.predict.runner import Fleet
from tenure.errors import BusyError

_log = logging.getLogger("tenure.serving")
LOAD_S = 300.0
"""A version that takes longer to load counts as broken: the table must not wait for it for ever."""
PAUSES_S = (5.0, 15.0, 60.0, 300.0)
"""Pauses before a version that could not be loaded is tried again, as long as a table names it."""

FREE_AGAIN_S = 5.0
"""Memory is given back when a version is dropped, and again after this: requests may still have been at it."""


class Live:
    """Follow the control page.

    A table whose versions are all loaded is in force at once, so that a roll-back, whose version is kept warm,
    never waits for a load. Other tables wait for their versions. A version that cannot be loaded does not hold
    the table back: its requests go to people, and it is tried again after a pause that grows.
    """

    def __init__(
        self, folder: Path, page: ControlPage, slot: Slot, fleet: Fleet, *, load_s: float = LOAD_S,
        pauses_s: Sequence[float] = PAUSES_S, give_back: Callable[[], None] = memory.give_back,
    ) -> None:  # fmt: skip
        self._folder = folder / "routing"
        self._page = page
        self._slot = slot
        self._fleet = fleet
        self._load_s, self._pauses_s, self._give_back = load_s, pauses_s, give_back
        self._failures: dict[str, int] = {}  # versions that could not be loaded
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
        missing = [v for v in _versions(table) if not self._fleet.has(v) and v not in self._failures]
        if not missing:
            self._swap(table)
        elif self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load(missing))

    def foresee(self) -> None:
        """Load what the last run's newest table names, while the controller starts; it is not in force yet."""
        numbers = [int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdigit()]
        if self._page.routing or self._loading is not None or not numbers:
            return
        table = self._read(max(numbers))
        if table is not None:
            self._next = table
            self._loading = asyncio.get_running_loop().create_task(self._load(_versions(table)))

    def _read(self, version: int) -> Table | None:
        if self._next is not None and self._next.version == version:
            return self._next
        try:
            return msgspec.json.decode((self._folder / f"{version}.json").read_bytes(), type=Table)
        except (OSError, msgspec.DecodeError):
            _log.exception("cannot read routing table %d; the old one stays in force", version)
            return None

    async def _load(self, versions: Sequence[str]) -> None:
        try:
            for version in versions:
                if version in self._named():  # a newer table may have come meanwhile
                    await self._load_one(version)
        finally:
            self._loading = None
        self.check()
        self._drop_unnamed()

    async def _load_one(self, version: str) -> None:
        try:
            with memory.separate():
                await asyncio.wait_for(self._fleet.load(version), self._load_s)
        except Exception as error:  # noqa: BLE001  # user code is loaded here: whatever it raises must not stop the worker
            failures = self._failures[version] = self._failures.get(version, 0) + 1
            pause_s = self._pauses_s[min(failures, len(self._pauses_s)) - 1]
            why = f"it took more than {self._load_s:g} s" if isinstance(error, TimeoutError) else str(error)
            _log.error(
                "cannot load version %s, so its requests go to people; tried again in %g s: %s",
                version, pause_s, why, exc_info=error,
            )  # fmt: skip
            asyncio.get_running_loop().call_later(pause_s, self._try_again, version, failures)
        else:
            self._failures.pop(version, None)

    def _try_again(self, version: str, failures: int) -> None:
        """Load a version that once failed, behind the table in force; nothing waits for it."""
        if self._failures.get(version) != failures:  # no table named it meanwhile, or another try is on its way
            return
        loop = asyncio.get_running_loop()
        if self._loading is None:
            self._loading = loop.create_task(self._load([version]))
        else:
            loop.call_later(self._pauses_s[0], self._try_again, version, failures)

    def _swap(self, table: Table) -> None:
        self.table, self._next = table, None
        self._slot.set("routing", table.version)
        if self._slot.state == "starting":
            self._slot.state = "ready"
        if self._loading is None:
            self._drop_unnamed()

    def _named(self) -> set[str]:
        tables = (self.table, self._next)
        return {v for table in tables if table is not None for v in _versions(table)}

    def _drop_unnamed(self) -> None:
        """Let go of versions that neither the table in force nor the one being loaded names."""
        named, held = self._named(), len(self._fleet.versions())
        self._fleet.keep_only(named)
        self._failures = {v: n for v, n in self._failures.items() if v in named}
        if len(self._fleet.versions()) < held:
            self._free()
            asyncio.get_running_loop().call_later(FREE_AGAIN_S, self._free)

    def _free(self) -> None:
        asyncio.get_running_loop().run_in_executor(None, self._give_back)


def _versions(table: Table) -> list[str]:
    return [version for route in table.endpoints.values() for version in route.versions()]
