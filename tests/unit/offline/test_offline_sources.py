"""Every kind of input: the same rows, checked before the first one, and from any row on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from offline_world import FIELDS, customers, parquet

from tenure.data.schema import InputSchema
from tenure.deploy.offline.opened import open_files, open_query
from tenure.deploy.offline.source import Source, Wanted
from tenure.errors import CaseError, MissingError
from tenure.scope.project import Field

WANTED = Wanted(InputSchema("record", FIELDS), ("customer",))
ROWS = customers(23)


def write_csv(path: Path, rows: list[dict[str, Any]], *, mark: str = ",") -> Path:
    lines = [mark.join(rows[0]), *(mark.join("" if v is None else str(v) for v in r.values()) for r in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_sql(path: Path, rows: list[dict[str, Any]]) -> str:
    engine = sa.create_engine(f"sqlite:///{path}")
    table = sa.Table(
        "customers", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("age", sa.Integer),
        sa.Column("spend", sa.Float), sa.Column("plan", sa.String), sa.Column("customer", sa.String),
    )  # fmt: skip
    table.metadata.create_all(engine)
    with engine.begin() as conn:
        conn.execute(table.insert(), [row | {"id": 1000 - 7 * i} for i, row in enumerate(rows)])
    engine.dispose()
    return f"sqlite:///{path}"


@pytest.fixture(params=["parquet", "groups", "folder", "csv", "semicolons", "json", "sql"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """The same 23 rows in each form."""
    kind = request.param
    if kind == "sql":
        url = write_sql(tmp_path / "x.db", ROWS[::-1])
        return open_query(url, "SELECT * FROM customers;", "id", WANTED)
    if kind == "folder":
        parquet(tmp_path / "a.parquet", ROWS[:9])
        parquet(tmp_path / "b.parquet", ROWS[9:], row_group_size=4)
        return open_files(str(tmp_path), WANTED)
    path = tmp_path / f"day.{'csv' if kind == 'semicolons' else 'parquet' if kind == 'groups' else kind}"
    if kind in ("parquet", "groups"):
        parquet(path, ROWS, row_group_size=5 if kind == "groups" else None)
    elif kind == "json":
        write_json(path, ROWS)
    else:
        write_csv(path, ROWS, mark=";" if kind == "semicolons" else ",")
    return open_files(str(path), WANTED)


def test_every_form_gives_the_same_rows_in_the_same_order(source: Source) -> None:
    found = list(source.items(0))
    assert [item.row for item in found] == list(range(23))
    assert [item.raw for item in found] == ROWS
    assert source.total == 23


@pytest.mark.parametrize("start", [1, 4, 5, 9, 13, 22, 23])
def test_a_row_has_its_number_wherever_reading_begins(start: int, source: Source) -> None:
    assert list(source.items(start)) == list(source.items(0))[start:]


def test_a_fingerprint_changes_with_the_input(source: Source, tmp_path: Path) -> None:
    before = source.fingerprint()
    assert source.fingerprint() == before
    if isinstance(before.files, tuple) and before.files:
        path = next(p for p in tmp_path.iterdir() if p.name == before.files[0].name)
        path.write_bytes(path.read_bytes().replace(b"c00000", b"c99999"))
    else:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
        with engine.begin() as conn:
            conn.execute(sa.text("UPDATE customers SET spend = 1 WHERE customer = 'c00003'"))
    assert source.fingerprint() != before


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_missing_column_is_one_error_that_lists_what_is_there(kind: str, tmp_path: Path) -> None:
    rows, path = [{"age": 1, "spent": 2.0, "customer": "a"}], tmp_path / f"day.{kind}"
    {"parquet": parquet, "csv": write_csv, "jsonl": write_json}[kind](path, rows)
    with pytest.raises(CaseError) as caught:
        open_files(str(path), WANTED)
    assert caught.value.code == "missing_column"
    assert "no column spend, plan; there is: age, spent, customer" in caught.value.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"age": ["1"]}, "column age is string, the endpoint's field is int"),
        ({"age": [1.5]}, "column age is double, the endpoint's field is int"),
        ({"spend": [True]}, "column spend is bool, the endpoint's field is float"),
        ({"plan": [3]}, "column plan is int64, the endpoint's field is category"),
    ],
)
def test_a_column_of_another_type_is_refused_at_once(values: dict[str, Any], words: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"age": [1], "spend": [1.0], "plan": ["basic"]} | values), tmp_path / "x.parquet")
    with pytest.raises(CaseError, match=words):
        open_files(str(tmp_path / "x.parquet"), Wanted(WANTED.schema))


def test_integers_fit_numbers_and_encoded_words_fit_categories(tmp_path: Path) -> None:
    table = pa.table(
        {"age": pa.array([1], pa.uint8()), "spend": [3], "plan": pa.array(["a"]).dictionary_encode()}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    found = list(open_files(str(tmp_path / "x.parquet"), Wanted(WANTED.schema)).items(0))
    assert found[0].raw == {"age": 1, "spend": 3, "plan": "a"}


def test_nan_is_null(tmp_path: Path) -> None:
    pq.write_table(pa.table({"age": [1], "spend": [float("nan")], "plan": ["a"]}), tmp_path / "x.parquet")
    assert next(open_files(str(tmp_path / "x.parquet"), Wanted(WANTED.schema)).items(0)).raw["spend"] is None


def test_an_optional_column_may_be_absent(tmp_path: Path) -> None:
    wanted = Wanted(InputSchema("record", {"age": Field(type="int"), "note": Field(type="text", required=False)}))
    parquet(tmp_path / "x.parquet", [{"age": 3}])
    assert next(open_files(str(tmp_path / "x.parquet"), wanted).items(0)).raw == {"age": 3}


def test_lines_that_cannot_be_read_keep_their_number(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.write_text('{"age": 1, "spend": 2, "plan": "a"}\n\n{"age": \n[1]\n{"age": 4}\n')
    found = list(open_files(str(path), Wanted(WANTED.schema)).items(0))
    assert [(i.row, (i.fault or "").partition(":")[0]) for i in found] == [
        (0, ""), (1, "invalid_json"), (2, "invalid_case"), (3, ""),
    ]  # fmt: skip
    path = tmp_path / "day.csv"
    path.write_text('age,spend,plan\n1,2,a\n1,2\n"1",,"a\nb"\n1,2,a,b\n')
    found = list(open_files(str(path), Wanted(WANTED.schema)).items(0))
    assert [i.fault is None for i in found] == [True, False, True, False]
    assert found[1].fault == "invalid_csv: day.csv line 3: expected 3 cells, got 2"
    assert found[2].raw == {"age": 1, "spend": None, "plan": "a\nb"}


@pytest.mark.parametrize(
    ("cell", "value"),
    [("7", 7), (" 7 ", 7), ("7.0", "7.0"), ("x", "x"), ("", None), ("1_0", "1_0"), ("9" * 25, "9" * 25)],
)
def test_a_csv_cell_is_never_bent_into_an_integer(cell: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"age,spend,plan\n{cell},1,a\n")
    assert next(open_files(str(tmp_path / "x.csv"), Wanted(WANTED.schema)).items(0)).raw["age"] == value


def test_what_is_no_input_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no input at"):
        open_files(str(tmp_path / "none.parquet"), WANTED)
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(CaseError, match=r"expected files of one of .*; found \.xlsx"):
        open_files(str(tmp_path / "a.xlsx"), WANTED)
    (tmp_path / "a.parquet").write_text("x")
    with pytest.raises(CaseError, match=r"cannot read a\.parquet as Parquet"):
        open_files(str(tmp_path / "a.parquet"), WANTED)
    (tmp_path / "a.json").write_text('[{"age": 1}]')
    with pytest.raises(CaseError, match="holds an array"):
        open_files(str(tmp_path / "a.json"), WANTED)


class TestQueries:
    def test_a_query_needs_its_database_and_its_key(self, tmp_path: Path) -> None:
        url = write_sql(tmp_path / "x.db", ROWS)
        with pytest.raises(CaseError, match="Say --from"):
            open_query(None, "SELECT 1", "id", WANTED)
        with pytest.raises(CaseError, match="Say --key"):
            open_query(url, "SELECT 1", None, WANTED)
        with pytest.raises(CaseError, match="cannot read mysql"):
            open_query("mysql://x/y", "SELECT 1", "id", WANTED)

    def test_a_key_with_equal_values_is_refused(self, tmp_path: Path) -> None:
        url = write_sql(tmp_path / "x.db", ROWS)
        with pytest.raises(CaseError) as caught:
            open_query(url, "SELECT * FROM customers", "plan", WANTED)
        assert caught.value.code == "key_not_unique"
        assert "0 nulls and 2 different values" in caught.value.message

    def test_a_wrong_query_and_wrong_types_are_said(self, tmp_path: Path) -> None:
        url = write_sql(tmp_path / "x.db", ROWS)
        with pytest.raises(CaseError, match="the query is wrong: no such table: clients"):
            open_query(url, "SELECT * FROM clients", "id", WANTED)
        query = "SELECT id, customer AS age, spend, plan, customer FROM customers"
        with pytest.raises(CaseError, match="column age holds str, the endpoint's field is int"):
            open_query(url, query, "id", WANTED)
        with pytest.raises(CaseError, match="has no column plan; there is: id, age"):
            open_query(url, "SELECT id, age, spend, customer FROM customers", "id", WANTED)

    def test_a_colon_in_the_query_is_a_colon(self, tmp_path: Path) -> None:
        url = write_sql(tmp_path / "x.db", ROWS)
        query = "SELECT *, 'a:b' AS note FROM customers WHERE customer <> ':x'"
        assert len(list(open_query(url, query, "id", WANTED).items(0))) == 23
