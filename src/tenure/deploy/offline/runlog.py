"""The run's part of the prediction log: each row once, whatever happens to the process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tenure.clock import Clock
from tenure.data.records import Kind, Schema
from tenure.data.rows import row
from tenure.data.seal import sealed_files
from tenure.data.spool import SchemaStore, SegmentName, SpoolWriter, segments
from tenure.data.spool_index import SegmentReader
from tenure.deploy.offline.rows import DECIDED, Answered, Item, Rejected
from tenure.deploy.offline.score import Scorer, seq_of
from tenure.deploy.serving.predict.desk import shown
from tenure.seeds import fresh_u64
from tenure.settings import Settings
from tenure.types import Route

_COLUMNS = ("seq", "status", "route", "value", "confidence", "probabilities", "reason", "at", "version")
_PREDICTIONS = frozenset({int(Kind.PREDICTION)})


class RunLog:
    """Appends the run's frames, and finds those that a killed process appended before its chunk was committed.

    A chunk's frames are written before it is committed. A resumed run asks what is there already, and answers
    those rows from the log instead of scoring and logging them again: neither the keeper nor the monitor would
    know a second frame for the same row from a new one. A frame that was cut off counts for nobody.
    """

    def __init__(self, folder: Path, run: int, schema: Schema, *, settings: Settings, clock: Clock) -> None:
        self._schemas = SchemaStore(folder / "schemas")
        self._schemas.put(schema)
        self._folder, self._run = folder, run
        # A name of its own for each process: two processes of one run must never write the same segment.
        self._spool = SpoolWriter(
            folder / "spool", f"score-{fresh_u64() & 0xFFFF_FFFF:08x}", run,
            segment_bytes=settings.segment_bytes, segment_s=settings.segment_s, durability="power", clock=clock,
        )  # fmt: skip

    def known(self, first_row: int) -> dict[int, dict[str, Any]]:
        """Return the logged rows from `first_row` on, by number, as `rows.row` gives them.

        The spool is read before the sealed files: a segment that is sealed in between is then seen twice rather
        than not at all. Only this run's frames are read, however long the log is.
        """
        after = seq_of(first_row) - 1
        live = list(self._live(after))
        return {int(known["seq"]) - 1: known for known in [*self._sealed(after), *live]}

    def _live(self, after: int) -> Iterator[dict[str, Any]]:
        for name in segments(self._folder / "spool"):
            parts = SegmentName.parse(name)
            if parts is None or parts.run != self._run:
                continue
            try:
                reader = SegmentReader(self._folder / "spool" / f"{name}.seg", self._run, self._schemas)
            except FileNotFoundError:  # sealed since it was listed
                continue
            for offset, head in reader.advance(frozenset(), _PREDICTIONS):
                frame = reader.frame(offset) if max(head.seqs()) > after else None
                if frame is not None:
                    yield from (row(frame, i) for i, seq in enumerate(frame.seqs()) if seq > after)
            reader.close()

    def _sealed(self, after: int) -> Iterator[dict[str, Any]]:
        mine = (pc.field("run") == pa.scalar(self._run, pa.uint64())) & (pc.field("seq") > after)
        for path in sealed_files(self._folder, Kind.PREDICTION):
            table = pq.read_table(path, columns=list(_COLUMNS), filters=mine, partitioning=None)
            for line in table.to_pylist():
                yield line | {name: _decoded(line[name]) for name in ("value", "probabilities")}

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
        known = logged[item.row]
        if known["status"] == "ok":
            answered.append(_answered(scorer, item, known, id_))
        else:
            rejected.append(scorer.rejected(item, id_, *_why(known)))
    return answered, rejected


def _answered(scorer: Scorer, item: Item, known: dict[str, Any], id_: str) -> Answered:
    route = Route[str(known["route"]).upper()]
    return Answered(
        item.row, id_, known["value"], shown(known["confidence"]), known["probabilities"],
        DECIDED[route], str(known["reason"] or ""), str(known["version"]), scorer.kept(item),
    )  # fmt: skip


def _why(known: dict[str, Any]) -> tuple[str, str, str | None]:
    reason = str(known["reason"] or "")
    if known["status"] == "failed":
        return "model_failed", reason, None
    code, _, text = reason.partition(": ")
    return code, text, known["at"]


def _decoded(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
