"""The run's part of the prediction log: each row once, whatever happens to the process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tenure.clock import Clock
from tenure.data.records import Schema
from tenure.data.spool import SchemaStore, SpoolWriter
from tenure.data.view import Log
from tenure.deploy.offline.rows import DECIDED, Answered, Item, Rejected
from tenure.deploy.offline.score import Scorer, seq_of
from tenure.deploy.serving.desk import shown
from tenure.seeds import fresh_u64
from tenure.settings import Settings
from tenure.types import Route

_ROWS = (
    'SELECT seq, status, route, value, confidence, probabilities, reason, "at", version FROM predictions '
    "WHERE run = {run} AND seq > {seq} AND endpoint = ?"
)


class RunLog:
    """Appends the run's frames, and finds those that a killed process appended before its chunk was committed.

    A chunk's frames are written before it is committed. A resumed run asks what is there already, and answers
    those rows from the log instead of scoring and logging them again: neither the keeper nor the monitor would
    know a second frame for the same row from a new one. A frame that was cut off counts for nobody.
    """

    def __init__(self, folder: Path, run: int, schema: Schema, *, settings: Settings, clock: Clock) -> None:
        SchemaStore(folder / "schemas").put(schema)
        self._folder, self._run, self._endpoint = folder, run, schema.endpoint
        # A name of its own for each process: two processes of one run must never write the same segment.
        self._spool = SpoolWriter(
            folder / "spool", f"score-{fresh_u64() & 0xFFFF_FFFF:08x}", run,
            segment_bytes=settings.segment_bytes, segment_s=settings.segment_s, durability="power", clock=clock,
        )  # fmt: skip

    def known(self, first_row: int) -> dict[int, dict[str, Any]]:
        """Return the logged rows from `first_row` on, by number."""
        log = Log(self._folder, timeout_s=600.0)
        try:
            sql = _ROWS.format(run=self._run, seq=seq_of(first_row) - 1)
            found = log.query(sql, parameters=[self._endpoint]).to_pylist()
        finally:
            log.close()
        return {int(row["seq"]) - 1: row for row in found}

    def append(self, frame: bytes) -> None:
        """Log the rows of one frame. Raises StoreError; then nothing of it is logged."""
        self._spool.append(frame)

    def sync(self) -> None:
        """Flush what was appended: a committed chunk must not outlive its log in a power cut."""
        self._spool.sync()

    def close(self) -> None:
        self._spool.close()


def from_log(
    scorer: Scorer, items: Iterable[Item], logged: dict[int, dict[str, Any]], ids: Sequence[str]
) -> tuple[list[Answered], list[Rejected]]:
    """Return rows as they were answered when they were logged."""
    answered: list[Answered] = []
    rejected: list[Rejected] = []
    for item, id_ in zip(items, ids, strict=True):
        row = logged[item.row]
        if row["status"] == "ok":
            answered.append(_answered(scorer, item, row, id_))
        else:
            rejected.append(scorer.rejected(item, id_, *_why(row)))
    return answered, rejected


def _answered(scorer: Scorer, item: Item, row: dict[str, Any], id_: str) -> Answered:
    route = Route[str(row["route"]).upper()]
    return Answered(
        item.row, id_, _decoded(row["value"]), shown(row["confidence"]), _decoded(row["probabilities"]),
        DECIDED[route], str(row["reason"] or ""), str(row["version"]), scorer.kept(item),
    )  # fmt: skip


def _why(row: dict[str, Any]) -> tuple[str, str, str | None]:
    reason = str(row["reason"] or "")
    if row["status"] == "failed":
        return "model_failed", reason, None
    code, _, text = reason.partition(": ")
    return code, text, row["at"]


def _decoded(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
