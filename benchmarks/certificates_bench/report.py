"""The figures as Markdown tables."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
ENDS = {"revoke": "revoked", "renew": "renewed"}

NAMES = {
    "tenure": "tenure", "even": "tenure, four even starts", "mapie": "MAPIE, one look",
    "mapie_peeked": "MAPIE, each batch",
    "mapie_grid": "MAPIE on tenure's grid, one look", "mapie_grid_peeked": "MAPIE on tenure's grid, each batch",
    "naive": "plug-in, one look", "naive_peeked": "plug-in, each batch",
}  # fmt: skip


def coverage(rows: list[Row]) -> str:
    """Return a line per data set and bound: false claims of each method."""
    return _methods(rows, "false", "share of draws with a false claim")


def automated(rows: list[Row]) -> str:
    """Return a line per data set and bound: mean true share automated at the planned number of labels."""
    return _methods(
        rows, "share", "share automated, mean", ("oracle", "tenure", "even", "mapie", "mapie_grid", "naive")
    )


def nothing(rows: list[Row]) -> str:
    return _methods(rows, "nothing", "draws without a claim", ("tenure", "even", "mapie", "mapie_grid"))


def half(rows: list[Row]) -> str:
    """Return how tenure's share grows with the labels."""
    lines = [
        "| data | bound | labels | oracle | at 1/5 of the labels | at 2/5 | at all |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        cells = [f"{r['growth'][i]:.1%}" for i in (0, 1, 2)]
        lines.append(
            f"| {r['data']} | {r['bound']:.0%} | {r['labels']:,} | {r['share']['oracle']:.1%} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def _methods(rows: list[Row], what: str, title: str, order: tuple[str, ...] | None = None) -> str:
    names = [n for n in (order or tuple(NAMES)) if any(n in r[what] for r in rows)]
    heads = ["data", "bound", "labels", *(NAMES.get(n, n) for n in names)]
    lines = [f"{title}", "", "| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for r in rows:
        cells = [f"{r[what][n]:.1%}" if n in r[what] else "-" for n in names]
        lines.append("| " + " | ".join([r["data"], f"{r['bound']:.0%}", f"{r['labels']:,}", *cells]) + " |")
    return "\n".join(lines)


def audits(rows: list[Row]) -> str:
    return "\n\n".join(_ends([r for r in rows if r["test"] == test], done) for test, done in ENDS.items())


def _ends(rows: list[Row], done: str) -> str:
    heads = ("bound", "true error, times the bound", done, "median audits", "median errors")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for r in rows:
        cells = (f"{r['bound']:.0%}", f"{r['rate']:g}", f"{r['share']:.1%}", _n(r["audits"]), _n(r["errors"]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shifts(rows: list[Row]) -> str:
    heads = (
        "shift", "audited", "bound", "certificates issued", "true error among automated, mean",
        "revoked within 5,000 audits", "median audits", "median errors",
    )  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    for r in rows:
        cells = (
            r["shift"], r["source"], f"{r['bound']:.0%}", f"{r['issued']:.1%}", f"{r['risk']:.1%}",
            f"{r['share']:.1%}", _n(r["audits"]), _n(r["errors"]),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
