"""One run of the comparison: its parts, and the report as it grows."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from serving_bench import contenders as c
from serving_bench import generators, loads, long, models, peers, report, turns
from serving_bench.wire import WrongError

PARTS = ("record", "photo", "oip", "variants")
LONG = ("soak", "swaps")


class Bench:
    """One run: what was told, the inputs, and the report as it grows."""

    def __init__(self, told: argparse.Namespace, folder: Path) -> None:
        self.told = told
        self.folder = folder
        self.truth = models.make(folder)
        self.pace = turns.Pace(told.seconds, told.warmup, told.rounds)
        self.report: dict[str, Any] = {
            "format": 2,
            "machine": _machine(),
            "arguments": sys.argv[1:],
            "closed_loops_by": generators.closed_by(),
            "results": [],
            "servers": {},
            "skipped": {},
        }

    def run(self) -> None:
        for part in self.told.only:
            print(f"\n== {part}", flush=True)
            getattr(self, part)()
            self.save()

    # Parts

    def record(self) -> None:
        self._against_base(loads.RECORD)

    def photo(self) -> None:
        if (os.cpu_count() or 1) < 2:
            self._skip("photo", "needs two cores: one for the server, one for the load generator")
            return
        self.pace = self.pace._replace(client_cores=frozenset({1}))
        self._against_base(loads.PHOTO, cores={0})
        self.pace = self.pace._replace(client_cores=frozenset())

    def oip(self) -> None:
        bare = turns.Bare(self.folder)
        base = [c.BASE] if self.told.contenders is None or c.BASE.name in self.told.contenders else []
        for contender in (*base, *self._contenders()):
            self._measure(bare, contender, loads.OIP)

    def variants(self) -> None:
        with self._up(c.OURS, "record") as plain:
            if plain is None:
                return
            named = [v for v in c.VARIANTS if v.name in (self.told.contenders or ())]
            for variant in named or c.VARIANTS:
                self._measure(turns.Served(plain, self.truth), variant, loads.VARIANTS)

    def soak(self) -> None:
        self._long("soak", lambda server: long.soak(server, self.truth, minutes=self.told.soak))

    def swaps(self) -> None:
        self._long("swaps", lambda server: long.swaps(server, self.truth, times=self.told.swaps))

    # How

    def _long(self, part: str, measure: Callable[[c.Running], dict[str, Any]]) -> None:
        with self._up(c.OURS, "record") as server:
            if server is None:
                return
            try:
                self.report[part] = measure(server)
            except (turns.VoidError, RuntimeError, OSError) as error:
                self._skip(part, str(error))
            self._note(server)

    def _against_base(self, cells: Sequence[loads.Cell], *, cores: set[int] | None = None) -> None:
        with self._up(c.BASE, cells[0].kind, cores) as base:
            if base is None:
                return
            for contender in self._contenders():
                self._measure(turns.Served(base, self.truth), contender, cells, cores)

    def _measure(
        self,
        reference: turns.Side,
        contender: c.Contender,
        cells: Sequence[loads.Cell],
        cores: set[int] | None = None,
    ) -> None:
        """Start a contender and compare it in every cell that it takes."""
        taken = [cell for cell in cells if contender.takes(cell)]
        if not taken:
            return
        print(f"\n-- {contender.name} against {reference.name}", flush=True)
        with self._up(contender, taken[0].kind, cores) as server:
            if server is None:
                return
            for cell in taken:
                self._cell(reference, turns.Served(server, self.truth), cell)
            self._note(server)

    def _cell(self, reference: turns.Side, contender: turns.Served, cell: loads.Cell) -> None:
        try:
            contender.server.verify(self.truth, cell)
        except (WrongError, OSError) as error:
            self._skip(f"{contender.name}: {cell}", f"wrong before anything was measured: {error}")
            return
        line = turns.compare(reference, contender, cell, self.pace)
        print(report.text_of(line), flush=True)
        self.report["results"].append(line)
        self.save()

    @contextlib.contextmanager
    def _up(
        self, contender: c.Contender, kind: loads.Kind, cores: set[int] | None = None
    ) -> Iterator[c.Running | None]:
        """Give a running server, or None where it cannot take part; the reason is kept."""
        with contextlib.ExitStack() as stack:
            try:
                server: c.Running | None = stack.enter_context(
                    c.running(
                        contender,
                        self.truth,
                        cache=self.told.cache,
                        kind=kind,
                        models=self.folder,
                        cores=cores or set(),
                    )
                )
            except (peers.NotInstalledError, RuntimeError) as error:
                self._skip(f"{contender.name} ({kind})", str(error))
                server = None
            if server is not None:
                self._note(server, started=True)
            yield server

    def _contenders(self) -> list[c.Contender]:
        asked = self.told.contenders
        all_ = [c.OURS, c.ALL_PIXELS, *(p for p in c.PEERS if p.peer in self.told.peers), c.CEILING]
        return [each for each in all_ if asked is None or each.name in asked]

    def _note(self, server: c.Running, *, started: bool = False) -> None:
        """Keep what a server needs: seconds to its first answer, and memory after what it did so far."""
        memory, name = server.memory(), server.contender.name
        name = name if server.kind == "record" else f"{name} ({server.kind})"
        known = self.report["servers"].setdefault(name, {"starts_s": []})
        if started:
            known["starts_s"].append(round(server.first_answer_s, 2))
        known |= memory | {"first_answer_s": statistics.median(known["starts_s"])}
        workers = [mb for role, mb in memory["processes"].items() if role.startswith("worker")]
        known["worker_peak_mb"] = max([known.get("worker_peak_mb", 0.0), *workers])
        counted = {} if started else server.counters()
        known |= {"counters": counted} if counted else {}
        print(
            f"{name}: first answer {server.first_answer_s:.2f} s after the start; RSS {memory['rss_mb']:.0f} MB, "
            f"PSS {memory['pss_mb']:.0f} MB {memory['processes']} {counted or ''}",
            flush=True,
        )

    def _skip(self, what: str, why: str) -> None:
        print(f"skipped {what}: {why}", flush=True)
        self.report["skipped"][what] = why

    def save(self) -> None:
        self.report["load_average"] = os.getloadavg()
        self.report["targets"] = [t._asdict() | {"reached": t.is_reached()} for t in report.targets(self.report)]
        self.told.out.parent.mkdir(parents=True, exist_ok=True)
        self.told.out.write_text(json.dumps(self.report, indent=1))

    def install(self) -> None:
        for peer in self.told.peers:
            try:
                peers.install(peer, self.told.cache)
            except peers.NotInstalledError as error:
                self._skip(peer, str(error))
            else:
                self.report.setdefault("peers", {})[peer] = peers.versions(peer, self.told.cache)


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return {
        "cpus": os.cpu_count(),
        "processor": model,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
