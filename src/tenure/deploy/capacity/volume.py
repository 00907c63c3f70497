"""How much log a day makes: bytes of a row as measured, and of the inputs that are kept."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tenure.data import tables as t
from tenure.data.records import Kind
from tenure.data.seal import seal_segment
from tenure.data.spool import SchemaStore
from tenure.model.bundle import Sample
from tenure.scope.project import EndpointSpec

_ROWS = 1000
DAY_S = 86_400


class RowSize(msgspec.Struct, frozen=True):
    """Bytes of one prediction row: as it is appended, and sealed in Parquet; 0 = unknown."""

    frame: float
    sealed: float


def of_segments(folder: Path, endpoint: str) -> RowSize:
    """Return the sizes in the finished segments of a trial's folder, sealing copies of them.

    Many rows of few inputs compress better than life does: `sealed` is a lower bound.
    """
    with TemporaryDirectory() as place:
        copy = Path(place)
        shutil.copytree(folder / "schemas", copy / "schemas")
        (copy / "spool").mkdir()
        schemas, frames, sealed, rows = SchemaStore(copy / "schemas"), 0, 0, 0
        for path in sorted((folder / "spool").glob("worker-*.seg")):
            if ".payload" in path.name:
                continue
            shutil.copy(path, copy / "spool" / path.name)
            size = path.stat().st_size
            files = seal_segment(copy, path.stem, schemas, now_ns=0)
            mine = [f for f in files if f.kind == Kind.PREDICTION and f.endpoint == endpoint]
            if mine:
                frames, sealed = frames + size, sealed + sum(f.bytes for f in mine)
                rows += sum(f.rows for f in mine)
    return RowSize(frames / rows, sealed / rows) if rows else RowSize(0.0, 0.0)


def of_log(conn: Connection, endpoint: str) -> float:
    """Return the bytes of a sealed row in the project's own log; 0 with fewer than 1,000 rows."""
    f = t.log_files.c
    query = sa.select(sa.func.sum(f.bytes), sa.func.sum(f.rows)).where(
        f.endpoint == endpoint, f.kind == int(Kind.PREDICTION)
    )
    held, rows = conn.execute(query).one()
    return float(held) / float(rows) if rows and rows >= _ROWS else 0.0


def kept_share(spec: EndpointSpec, automated: float) -> float:
    """Return the share of inputs whose bytes are kept apart: pictures and clips only, by the `keep` policy."""
    if spec.input not in ("image", "audio"):
        return 0.0
    keep = spec.log.payloads
    if "all" in keep.keep:
        return 1.0
    needed = 1.0 - automated + automated * spec.automation.audit.steady
    sampled = keep.sample if "sampled" in keep.keep else 0.0
    return needed + (1.0 - needed) * sampled


def input_bytes(samples: Sequence[Sample]) -> float:
    """Return the mean size of the inputs."""
    return sum(len(sample.body) for sample in samples) / len(samples)
