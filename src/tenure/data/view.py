"""Ask the whole log: DuckDB views over sealed Parquet and the live spool, and look-ups of one request.

The spool is read first, then the sealed files are listed: a segment that is sealed in between is then seen
twice rather than not at all, and its rows that came from the spool are left out of the sealed side.
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec
import pyarrow as pa

from tenure.data import held, parquet, seal
from tenure.data.frames import Frame
from tenure.data.parquet import Placed
from tenure.data.records import Kind
from tenure.data.sealed_rows import SealedRows
from tenure.data.spool import SchemaStore, SegmentName, segments
from tenure.data.spool_index import SegmentReader, SpoolIndex
from tenure.errors import CaseError, StoreError

VIEWS = {
    "predictions": Kind.PREDICTION,
    "shadows": Kind.SHADOW,
    "outcomes": Kind.OUTCOME,
    "decisions": Kind.DECISION,
    "payloads": Kind.PAYLOAD,
}
_ONCE = {Kind.DECISION: "run, seq"}
"""Kinds of which a restarted controller may write a second row: the first one counts."""

_SEALED_SIDE = """
UNION ALL BY NAME
SELECT p.* FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false) p
WHERE NOT EXISTS (SELECT 1 FROM live_{view}_ends e WHERE e.segment = p.segment AND p.frame < e."end")
"""
_PAYLOADS = frozenset({int(Kind.PAYLOAD)})
_RECORDS = frozenset(int(kind) for kind in VIEWS.values()) - _PAYLOADS

Format = Literal["table", "csv", "json"]
_Rows = tuple[str, int, pa.Table]
"""Segment, end of what was read of it, rows."""


class _LiveSegment:
    """The rows of some kinds in one spool segment as tables, converted once."""

    def __init__(self, path: Path, run: int, schemas: SchemaStore) -> None:
        self._reader = SegmentReader(path, run, schemas)
        self.parts: dict[Kind, list[pa.Table]] = {}

    @property
    def end(self) -> int:
        """How far the segment has been read."""
        return self._reader.offset

    def advance(self, name: str, kinds: frozenset[int]) -> None:
        new = [Placed(name, at, frame) for at, frame in self._reader.advance(kinds) if _has_schema(frame)]
        for (kind, _), table in parquet.tables(new).items():
            self.parts.setdefault(kind, []).append(table)

    def close(self) -> None:
        self._reader.close()


def _has_schema(frame: Frame) -> bool:
    try:
        return bool(frame.schema.columns)
    except StoreError:  # the keeper quarantines and reports it
        return False


class Log:
    """Everything that was logged under a data folder, live and sealed. Thread-safe; queries run one at a time.

    Args:
        memory_limit: of DuckDB, such as `512MB`.
        timeout_s: a query that takes longer is stopped.
    """

    def __init__(
        self,
        folder: Path,
        *,
        memory_limit: str = "512MB",
        timeout_s: float = 30.0,
        threads: int = 2,
    ) -> None:
        self._folder = folder.resolve()
        self._schemas = SchemaStore(folder / "schemas")
        self._index = SpoolIndex(folder, self._schemas)
        self._rows = SealedRows()
        self._listed: dict[Kind, list[Path]] = {}  # sealed files, as they were when a row was looked for last
        self._live: dict[str, _LiveSegment] = {}  # of records; payloads are not kept in memory
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": threads,
            "temp_directory": "",
        }
        self._timeout_s = timeout_s
        self._lock = threading.Lock()

    def query(self, sql: str, *, limit: int | None = None, parameters: Iterable[Any] = ()) -> pa.Table:
        """Return the result of one SELECT over `predictions`, `shadows`, `outcomes`, `decisions`, `payloads`.

        The query sees every row that was acknowledged before the call. Times `t` and `deadline` are UTC.

        At most `limit` rows are returned; `parameters` are the values for `?` in the SQL.

        Raises:
            CaseError: code `query_invalid`; the SQL is wrong or is not a single SELECT.
            StoreError: code `query_timeout` or `query_failed`.
        """
        statement = _only_select(sql)
        kinds = [kind for view, kind in VIEWS.items() if view in sql.lower()]
        with self._lock:
            for attempt in range(5):
                try:
                    return self._run(statement, kinds, limit=limit, parameters=list(parameters))
                except (duckdb.IOException, FileNotFoundError) as error:
                    # A file was merged or removed between the listing and its opening; list again.
                    if attempt == 4:
                        raise StoreError(f"cannot read the sealed log: {error}", code="query_failed") from error
        raise AssertionError("unreachable")

    def find(self, run: int, seq: int) -> dict[str, Any] | None:
        """Return the prediction row of a request with its `decision` (or None) and `outcomes` (a list).

        The keys are those of `rows.row`, wherever the row lies.
        """
        with self._lock:
            live = self._index.find(run, seq)
            decision, outcomes = self._index.decision(run, seq), self._index.outcomes(run, seq)
            found = live or self._sealed(Kind.PREDICTION, run, seq)
        if found is None:
            return None
        hour = seal.hour_of(int(found["t_ns"]) - 3_600_000_000_000)
        key = f"run = {int(run)} AND seq = {int(seq)}"
        if decision is None and self._may_hold(Kind.DECISION, hour):
            decision = self._first(f"SELECT * FROM decisions WHERE {key} ORDER BY t_ns LIMIT 1")
        if self._may_hold(Kind.OUTCOME, hour):
            told = self.query(f"SELECT * FROM outcomes WHERE {key} ORDER BY t_ns")
            outcomes = [parquet.plain_row(row, self._schemas.get) for row in told.to_pylist()]
        return found | {"decision": decision, "outcomes": outcomes}

    def payload(self, run: int, seq: int) -> tuple[str, bytes] | None:
        """Return (media type, bytes) of a request's input, or None where it was not kept."""
        with self._lock:
            row = self._among(self._listed.get(Kind.PAYLOAD, ()), run, seq)
            if row is None:
                found = self._index.payload(run, seq)
                if found is not None:
                    return found
                row = self._sealed(Kind.PAYLOAD, run, seq)
        return None if row is None else (row["media_type"] or "", row["data"] or b"")

    def close(self) -> None:
        """Close the files that are held open."""
        self._index.close()
        for segment in self._live.values():
            segment.close()
        self._live = {}

    def _first(self, sql: str) -> dict[str, Any] | None:
        rows = self.query(sql).to_pylist()
        return parquet.plain_row(rows[0], self._schemas.get) if rows else None

    def _may_hold(self, kind: Kind, hour: str) -> bool:
        """Say whether sealed files of a kind exist from an hour on; an answer never precedes its request."""
        return any("/".join(p.parent.parts[-2:]) >= hour for p in seal.sealed_files(self._folder, kind))

    def _sealed(self, kind: Kind, run: int, seq: int) -> dict[str, Any] | None:
        """Look one row up in sealed files: in those that were listed last, then in those that are there now."""
        known = self._listed.get(kind, [])
        found = self._among(known, run, seq)
        while found is None:
            files = seal.sealed_files(self._folder, kind)
            if files == known:
                return None
            known = self._listed[kind] = files
            found = self._among(files, run, seq)
        return found

    def _among(self, files: Sequence[Path], run: int, seq: int) -> dict[str, Any] | None:
        """Look one row up in some files: by the run in the name, or by the row groups of a merged file."""
        marker = f"-{run:016x}-"
        for path in files:
            if marker not in path.name and not path.name.startswith("hour-"):
                continue
            try:
                row = self._rows.find(path, run, seq)
            except FileNotFoundError:  # merged since it was listed
                continue
            if row is not None:
                return parquet.plain_row(row, self._schemas.get)
        return None

    def _run(self, statement: str, kinds: list[Kind], *, limit: int | None, parameters: list[Any]) -> pa.Table:
        live = self._read_spool(kinds)  # first the spool, then the list of sealed files
        with duckdb.connect(":memory:", config=self._config) as connection:
            connection.execute("SET python_enable_replacements = false")
            for kind in kinds:
                self._define(connection, kind, live[kind])
            self._lock_down(connection)
            timer = threading.Timer(self._timeout_s, connection.interrupt)
            timer.start()
            try:
                result = connection.sql(statement, params=parameters)
                return (result if limit is None else result.limit(limit)).to_arrow_table()
            except duckdb.InterruptException as error:
                raise StoreError(
                    f"the query took longer than {self._timeout_s:g} s; narrow it, for example by t",
                    code="query_timeout",
                ) from error
            except duckdb.OutOfMemoryException as error:
                raise StoreError(f"the query needs too much memory: {error}", code="query_failed") from error
            except (duckdb.IOException, FileNotFoundError):
                raise
            except duckdb.Error as error:
                raise CaseError(str(error), code="query_invalid", at="sql", status=400) from error
            finally:
                timer.cancel()

    def _lock_down(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let the query read the log's folders and nothing else."""
        folders = [str(self._folder / name) + "/" for name in ("log", "payload")]
        listed = ", ".join(f"'{_quoted(folder)}'" for folder in folders)
        connection.execute(f"SET allowed_directories = [{listed}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")

    def _read_spool(self, kinds: list[Kind]) -> dict[Kind, list[_Rows]]:
        """Return the rows of every live segment by kind."""
        records = self._advance(self._live, _RECORDS)
        found: dict[Kind, list[_Rows]] = {k: _rows_of(records, k) for k in kinds if k != Kind.PAYLOAD}
        if Kind.PAYLOAD in kinds:
            payloads = self._advance({}, _PAYLOADS)
            found[Kind.PAYLOAD] = _rows_of(payloads, Kind.PAYLOAD)
            for segment in payloads.values():
                segment.close()
        return found

    def _advance(self, live: dict[str, _LiveSegment], kinds: frozenset[int]) -> dict[str, _LiveSegment]:
        """Open, read on and close live segments as the spool has them now."""
        spool = self._folder / "spool"
        names = segments(spool)
        for name in live.keys() - set(names):
            live.pop(name).close()
        for name in names:
            parts = SegmentName.parse(name)
            if parts is None:
                continue
            try:
                if name not in live:
                    live[name] = _LiveSegment(spool / f"{name}.seg", parts.run, self._schemas)
            except FileNotFoundError:  # sealed since it was listed: its rows are in Parquet
                continue
            live[name].advance(name, kinds)
        return live

    def _define(self, connection: duckdb.DuckDBPyConnection, kind: Kind, live: list[_Rows]) -> None:
        view = next(name for name, k in VIEWS.items() if k == kind)
        schemas = [s for s in self._schemas.all() if s.kind == kind]
        columns = [parquet.empty(kind), held.columns(schemas), *(t for _, _, t in live)]
        rows = pa.concat_tables(columns, promote_options="default")
        ends = {name: end for name, end, _ in live}
        connection.register(f"live_{view}", rows)
        connection.register(
            f"live_{view}_ends",
            pa.table(
                {"segment": pa.array(list(ends), pa.string()), "end": pa.array(list(ends.values()), pa.int64())}
            ),
        )
        files = seal.sealed_files(self._folder, kind)
        gone = seal.superseded(files)
        paths = ", ".join(f"'{_quoted(str(p))}'" for p in files if p not in gone)
        sealed = _SEALED_SIDE.format(paths=paths, view=view) if paths else ""
        once = (
            f"QUALIFY row_number() OVER (PARTITION BY {_ONCE[kind]} ORDER BY t_ns, segment, frame, row) = 1"
            if kind in _ONCE
            else ""
        )
        chosen = held.select(schemas)
        connection.execute(
            f"CREATE VIEW {view} AS SELECT {chosen} FROM (SELECT * FROM live_{view} {sealed}) {once}"
        )


def _rows_of(live: dict[str, _LiveSegment], kind: Kind) -> list[_Rows]:
    return [(name, segment.end, table) for name, segment in live.items() for table in segment.parts.get(kind, [])]


def _only_select(sql: str) -> str:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise CaseError(str(error), code="query_invalid", at="sql", status=400) from error
    allowed = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in allowed:
        raise CaseError(
            "expected one SELECT over the log; it cannot be changed by SQL",
            code="query_invalid",
            at="sql",
            status=400,
        )
    return str(statements[0].query)


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def render(table: pa.Table, format: Format = "table") -> str:
    """Return a result as text: aligned columns, CSV with a header line, or JSON (one array of objects)."""
    rows = table.to_pylist()
    if format == "json":
        return msgspec.json.encode(rows, enc_hook=str).decode()
    cells = [[_cell(row[name]) for name in table.column_names] for row in rows]
    if format == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([table.column_names, *cells])
        return out.getvalue()
    return _aligned(table, cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, (list, dict)):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)


def _aligned(table: pa.Table, cells: list[list[str]]) -> str:
    names = table.column_names
    right = [pa.types.is_integer(f.type) or pa.types.is_floating(f.type) for f in table.schema]
    widths = [max(map(len, [name, *(row[i] for row in cells)])) for i, name in enumerate(names)]

    def line(row: list[str]) -> str:
        pairs = zip(row, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in pairs).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(names), rule, *map(line, cells), f"({len(cells)} rows)"]) + "\n"
