"""What is printed, and whether the promised figures were reached."""

from __future__ import annotations

from typing import Any, NamedTuple

from serving_bench.loads import Cell

Line = dict[str, Any]


class Target(NamedTuple):
    """One promise: the figure that was measured, and the bound."""

    text: str
    found: float | None
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        if self.found is None:
            return f"  not measured  {self.text}"
        bound = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        word = "reached" if self.is_reached() else "MISSED "
        return f"  {word}       {self.text}: {self.found:.3g}, wanted {bound}"

    def is_reached(self) -> bool:
        if self.found is None:
            return False
        return (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)


def text_of(line: Line) -> str:
    """Return one result as lines of text."""
    if "void" in line:
        return f"{line['load']:28} {line['names'][1]}: VOID, {line['void'][:300]}"
    cells = [
        _side(name, line[side]) for name, side in zip(line["names"], ("reference", "contender"), strict=True)
    ]
    ratios, measures = line["ratios"], ("p50", "p99") if line["cell"]["rate"] else ("rate", "p50")
    told = ", ".join(f"{m} {_spread(ratios[m])}" for m in (*measures, "cpu") if m in ratios)
    return f"{line['load']}\n    {cells[0]}\n    {cells[1]}\n    ratios: {told}"


def _side(name: str, side: dict[str, Any]) -> str:
    rows = side["rows_per_second"]
    speed = f"{side['per_second']:8.0f}/s" + (f" ({rows:.0f} rows/s)" if rows != side["per_second"] else "")
    ms, parts = side["ms"], [speed]
    if ms:
        parts.append(f"p50 {ms['p50']:.2f} p99 {ms['p99']:.2f} ms")
    controller = side.get("controller_cpu_us", 0.0)
    extra = f", {controller:.0f} of them the controller's" if controller else ""
    parts.append(f"{side['cpu_us']:.0f} us CPU{extra}")
    if side["per_second"] < 0.95 * side.get("due_per_second", 0.0):
        parts.append(f"DID NOT HOLD the rate: {side['due_per_second']:.0f}/s were due")
    if side.get("client_busy", 0.0) > 0.9:
        parts.append("the load generator was the limit")
    return f"{name:18} {'  '.join(parts)}"


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}..{ratio['max']:.2f})"


def table(report: dict[str, Any]) -> str:
    """Return all results as a Markdown table."""
    rows = [
        "| load | server | against | answers/s | p50 ms | p99 ms | CPU us | rate | p50 | p99 |",
        "|---" * 10 + "|",
    ]
    for line in report["results"]:
        reference, name = line["names"]
        if "void" in line:
            rows.append(f"| {line['load']} | {name} | {reference} | void" + " | " * 6 + "|")
            continue
        side, ms, ratios = line["contender"], line["contender"]["ms"], line["ratios"]
        cells = [
            line["load"],
            name,
            reference,
            f"{side['per_second']:.0f}",
            f"{ms['p50']:.2f}",
            f"{ms['p99']:.2f}",
        ]
        cells += [f"{side['cpu_us']:.0f}", *(_short(ratios.get(m)) for m in ("rate", "p50", "p99"))]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _short(ratio: dict[str, float] | None) -> str:
    return "" if ratio is None else f"{ratio['median']:.3g}"


def targets(report: dict[str, Any]) -> list[Target]:
    """Compare a report, as far as it is, with what serving is to reach."""
    lines: list[Line] = [line for line in report["results"] if "void" not in line]

    def ours(connections: int = 64, measure: str = "rate", variant: str = "", **cell: Any) -> float | None:
        name = f"ours-{variant}" if variant else "ours"
        return _ratio(lines, name, Cell("record", connections)._replace(**cell), measure)

    at_1000 = ours(measure="p99", rate=1000.0)
    binary = ours(16, load="oip", rows=256)
    return [
        Target("record, 64 connections, answers a second against the base", ours(), least=6),
        Target("the same against the fastest peer", _against_peers(lines), least=20),
        Target("record, 1 connection, p50 against the base", ours(1, "p50"), most=0.6),
        Target("record, 1,000/s, p99 against the base", at_1000, most=1),
        Target("a 5 % canary with a full shadow, part of the rate kept", ours(variant="canary"), least=0.85),
        Target("a log that reaches the disk, part of the rate kept", ours(variant="power"), least=0.70),
        Target("photo, raw body, 16 connections, against the base", ours(16, load="photo"), least=2),
        Target("photo in a form, 16 connections, against the base", ours(16, load="form"), least=2),
        Target("256 rows, 16 connections, part of bare ONNX Runtime", binary, least=0.5),
        *_needs(report),
    ]


def _needs(report: dict[str, Any]) -> list[Target]:
    """Return the promises about memory and the start."""
    ours, soak, swaps = report["servers"].get("ours", {}), report.get("soak") or {}, report.get("swaps") or {}
    worker = ours.get("worker_peak_mb")
    return [
        Target("memory of a worker, MB", worker, most=100),
        Target("first answer after the start, median, s", ours.get("first_answer_s"), most=1.5),
        Target("memory of a worker at full load, MB a minute", soak.get("worker_mb_per_minute"), most=0.5),
        Target("memory of a worker over the swaps, MB a swap", swaps.get("worker_mb_per_swap"), most=0.05),
    ]


def _ratio(lines: list[Line], contender: str, cell: Cell, measure: str) -> float | None:
    for line in lines:
        if line["names"][1] == contender and Cell(**line["cell"]) == cell:
            found = line["ratios"].get(measure)
            return None if found is None else float(found["median"])
    return None


def _against_peers(lines: list[Line]) -> float | None:
    """Return our ratio to the base over the best ratio of a peer to the base."""
    cell, names = Cell("record", 64), {line["names"][1] for line in lines if line["names"][0] == "base"}
    found = {name: _ratio(lines, name, cell, "rate") for name in names - {"nginx"} if "-" not in name}
    ours, peers = found.pop("ours", None), [ratio for ratio in found.values() if ratio is not None]
    return ours / max(peers) if peers and ours is not None else None
