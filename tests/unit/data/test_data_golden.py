"""Segments that earlier releases wrote must be read for ever.

Never change the files in `tests/golden` nor this test; a new format adds files.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenure.data import rows
from tenure.data.frames import scan
from tenure.data.parquet import Placed, plain_row, tables
from tenure.data.records import Kind
from tenure.data.spool import SchemaStore

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SEGMENTS = sorted(GOLDEN.glob("*.seg"))


def test_every_kind_of_every_format_is_there() -> None:
    assert {p.stem for p in SEGMENTS} >= {f"format-1-{kind.name.lower()}" for kind in Kind}


@pytest.mark.parametrize("path", SEGMENTS, ids=lambda p: p.stem)
def test_a_golden_segment_reads_as_it_did(path: Path) -> None:
    """Later releases may add keys to a row; those that were there keep name and value."""
    store = SchemaStore(GOLDEN / "schemas")
    scanned = list(scan(path.read_bytes(), schemas=store.get))
    assert sum(frame.end - frame.offset for frame in scanned) == path.stat().st_size
    expected = json.loads(path.with_suffix(".json").read_text())
    singly = [rows.row(frame, i) for frame in scanned for i in range(frame.rows)]
    sealed = tables([Placed("golden", frame.offset, frame) for frame in scanned])
    in_parquet = [plain_row(row, store.get) for table in sealed.values() for row in table.to_pylist()]
    assert len(singly) == len(expected)
    assert len(in_parquet) == (0 if scanned[0].kind == Kind.HEARTBEAT else len(expected))
    for got in (singly, in_parquet):
        for row, old in zip(got, expected[: len(got)], strict=True):
            assert {key: _text(row[key]) for key in old} == old


def _text(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
