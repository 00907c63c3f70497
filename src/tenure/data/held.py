"""SQL for what sealed rows hold in columns only: `record` and `probabilities` as the JSON that they stand for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pyarrow as pa

from tenure.data.columnar import sealed_name
from tenure.data.records import Schema

_CAST = {"int": "BIGINT", "bool": "BOOLEAN"}


def columns(schemas: Iterable[Schema]) -> pa.Table:
    """Return an empty table of the columns that `select` names, so that each of them exists."""
    found: dict[str, pa.DataType] = {}
    for schema in schemas:
        found |= {sealed_name(f"p:{name}"): pa.float32() for name in schema.labels}
        found |= {sealed_name(f"f:{name}"): pa.float64() for name, _ in schema.fields}
    return pa.table({name: pa.array([], kind) for name, kind in found.items()})


def select(schemas: Iterable[Schema]) -> str:
    """Return the select list of a view: everything, with what only columns hold put into its place as JSON."""
    records: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
    chances: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for schema in schemas:
        if schema.fields:
            records[schema.fields].append(schema.id)
        if schema.labels:
            chances[schema.labels].append(schema.id)
    new = []
    if records:
        new.append(_case("record", [(ids, "true", _record(fields)) for fields, ids in records.items()]))
    if chances:
        new.append(_case("probabilities", [(ids, _all_there(n), _chances(n)) for n, ids in chances.items()]))
    return f"* REPLACE ({', '.join(new)})" if new else "*"


def _case(name: str, cases: Sequence[tuple[list[int], str, str]]) -> str:
    whens = " ".join(
        f"WHEN schema_id IN ({', '.join(map(str, ids))}) AND {condition} THEN {value}"
        for ids, condition, value in cases
    )
    return f"CASE WHEN {name} IS NOT NULL OR status = 'refused' THEN {name} {whens} END AS {name}"


def _record(fields: Sequence[tuple[str, str]]) -> str:
    return _json([(name, f"CAST({_column('f', name)} AS {_CAST.get(kind, 'DOUBLE')})") for name, kind in fields])


def _chances(names: Sequence[str]) -> str:
    return _json([(name, f"CAST({_column('p', name)} AS DOUBLE)") for name in names])


def _all_there(names: Sequence[str]) -> str:
    return " AND ".join(f"{_column('p', name)} IS NOT NULL" for name in names)


def _json(pairs: Sequence[tuple[str, str]]) -> str:
    inside = ", ".join(f"{_text(name)}, {value}" for name, value in pairs)
    return f"CAST(json_object({inside}) AS VARCHAR)"


def _column(prefix: str, name: str) -> str:
    return '"' + sealed_name(f"{prefix}:{name}").replace('"', '""') + '"'


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
