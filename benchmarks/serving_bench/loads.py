"""What is asked: the cells of the comparison."""

from __future__ import annotations

from typing import Literal, NamedTuple

Name = Literal["record", "photo", "form", "oip"]
Kind = Literal["record", "photo"]
OPEN_CONNECTIONS = 64


class Cell(NamedTuple):
    """One way to load a server: closed loop, or open loop where `rate` (requests a second) is above 0.

    `rows` is the number of records in a request of the load `oip`.
    """

    load: Name
    connections: int = OPEN_CONNECTIONS
    rate: float = 0.0
    rows: int = 1

    @property
    def kind(self) -> Kind:
        """What a server must have loaded to answer this."""
        return "photo" if self.load in ("photo", "form") else "record"

    def __str__(self) -> str:
        rows = f" {self.rows} rows" if self.load == "oip" else ""
        how = f"{self.rate:g}/s" if self.rate else f"{self.connections} connections"
        return f"{self.load}{rows}, {how}"


RECORD = tuple(Cell("record", n) for n in (1, 16, 64)) + tuple(Cell("record", rate=r) for r in (200.0, 1000.0))
PHOTO = tuple(Cell(load, n) for load in ("photo", "form") for n in (1, 16))
OIP = tuple(Cell("oip", n, rows=rows) for rows in (1, 32, 256) for n in (1, 16))
VARIANTS = (Cell("record", 1), Cell("record", 64))
ALL: dict[str, tuple[Cell, ...]] = {"record": RECORD, "photo": PHOTO, "oip": OIP, "variants": VARIANTS}
