"""Into a table: rows and their chunk in one transaction, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from offline_world import World, customers, parquet

import postgres
from tenure.cli.scoring import Told, score
from tenure.deploy.offline.database import url_of
from tenure.deploy.offline.manifest import Manifest
from tenure.deploy.offline.sql_sink import SqlSink, target_of
from tenure.deploy.offline.table import Layout
from tenure.errors import CaseError, ConflictError, StoreError
from tenure.scope.project import Output


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'target.db'}"
    url: str = postgres.new_database(request.getfixturevalue("postgres_url"))
    return url.replace("postgresql+psycopg", "postgresql")


def table(database: str, sql: str) -> list[Any]:
    engine = sa.create_engine(url_of(database))
    with engine.connect() as conn:
        found = [tuple(row) for row in conn.execute(sa.text(sql))]
    engine.dispose()
    return found


def batch() -> list[dict[str, Any]]:
    rows = customers(250)
    rows[7] |= {"age": 13, "customer": "nul\0l"}
    rows[201] |= {"age": 130}
    return rows


def test_rows_and_failures_are_in_their_tables(database: str, world: World, tmp_path: Path) -> None:
    source = parquet(tmp_path / "day.parquet", batch())
    done = world.score(source, f"{database}?table=scores", keep=("customer",))
    assert (done.counts.scored, done.counts.quarantined) == (248, 2)
    found = table(database, 'SELECT "row", customer, value, p_stays, decided_by FROM scores ORDER BY "row"')
    assert [r[0] for r in found] == [i for i in range(250) if i not in (7, 201)]
    assert all(r[1] == f"c{r[0]:05d}" and r[2] in ("stays", "leaves") and r[4] == "none" for r in found)
    failed = table(database, 'SELECT "row", code, record FROM scores_quarantine ORDER BY "row"')
    assert [(r[0], r[1]) for r in failed] == [(7, "model_failed"), (201, "out_of_range")]
    assert json.loads(failed[1][2])["age"] == 130
    assert world.score(source, f"{database}?table=scores", keep=("customer",)).state == "already"


def test_a_query_of_one_database_is_scored_into_the_same(database: str, world: World) -> None:
    engine = sa.create_engine(url_of(database))
    people = sa.Table(
        "people", sa.MetaData(), sa.Column("name", sa.String, primary_key=True), sa.Column("age", sa.Integer),
        sa.Column("spend", sa.Numeric(10, 2)), sa.Column("plan", sa.String),
    )  # fmt: skip
    people.metadata.create_all(engine)
    rows = [
        {k: v for k, v in row.items() if k != "customer"} | {"name": row["customer"]} for row in customers(240)
    ]
    with engine.begin() as conn:
        conn.execute(people.insert(), rows)
    told = {"sql": "SELECT * FROM people", "url": database, "key": "name", "keep": ("name",)}
    world.score(None, f"{database}?table=scores", **told)
    found = table(database, 'SELECT "row", name FROM scores ORDER BY "row"')
    assert found == [(i, f"c{i:05d}") for i in range(240)]
    with engine.begin() as conn:
        conn.execute(people.delete().where(people.c.name == "c00100"))
    engine.dispose()
    again = world.score(None, f"{database}?table=scores", **told)
    assert (again.state, again.counts.rows) == ("finished", 239)


class Broken(BaseException):
    """The process or its connection is gone."""


@pytest.mark.parametrize("when", ["rows", "commit", "after"])
def test_a_crash_in_a_commit_neither_loses_nor_doubles_rows(
    when: str, database: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, address = parquet(tmp_path / "day.parquet", batch()), f"{database}?table=scores"
    real, calls = SqlSink.commit, 0

    def crash(*_: object) -> None:
        raise Broken

    def commit(self: SqlSink, manifest: Manifest, answered: Any, rejected: Any) -> Manifest:
        nonlocal calls
        calls += 1
        if calls != 2:
            return real(self, manifest, answered, rejected)
        if when == "after":
            real(self, manifest, answered, rejected)
            raise Broken
        event = "commit" if when == "commit" else "after_cursor_execute"
        sa.event.listen(self._engine if when == "rows" else self._conn, event, crash)
        return real(self, manifest, answered, rejected)

    with monkeypatch.context() as patch:
        patch.setattr(SqlSink, "commit", commit)
        with pytest.raises(Broken):
            world.score(source, address)
    committed = 200 if when == "after" else 100
    assert table(database, "SELECT count(*) FROM scores")[0][0] in (committed - 1, committed)
    done = world.score(source, address)
    assert (done.counts.rows, done.rows) == (250, 250 - committed)
    numbers = table(database, 'SELECT "row" FROM scores UNION ALL SELECT "row" FROM scores_quarantine ORDER BY 1')
    assert [n for (n,) in numbers] == list(range(250))
    assert [r["seq"] for r in world.logged("seq")] == list(range(1, 251))
    assert len(table(database, "SELECT chunk FROM tenure_score_chunks")) == 3


def test_an_unfinished_run_with_other_terms_is_refused_or_removed(
    database: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, address = parquet(tmp_path / "day.parquet", batch()), f"{database}?table=scores"

    def stop(progress: Any) -> None:
        if progress.rows > 100:
            raise Broken

    with pytest.raises(Broken):
        score(world.desk, Told(endpoint="churn", input=str(source), output=address, chunk=100), stop)
    with pytest.raises(ConflictError, match="predict_only: False became True"):
        world.score(source, address, predict_only=True)
    world.score(source, address, predict_only=True, restart=True)
    assert table(database, "SELECT count(*), count(DISTINCT run) FROM scores") == [(248, 1)]
    assert table(database, "SELECT count(*) FROM tenure_score_chunks") == [(3,)]


def test_every_night_adds_a_run(database: str, world: World, tmp_path: Path) -> None:
    address = f"{database}?table=scores"
    for night in range(3):
        world.score(parquet(tmp_path / "day.parquet", customers(120, seed=night)), address)
        world.clock.advance(86_400)
    assert table(database, "SELECT count(*), count(DISTINCT run) FROM scores") == [(360, 3)]


def test_two_runs_cannot_share_a_table(database: str, world: World, tmp_path: Path) -> None:
    source, address = parquet(tmp_path / "day.parquet", batch()), f"{database}?table=scores"
    with SqlSink(address, Layout.of(Output(labels=("stays", "leaves")))), pytest.raises(ConflictError) as caught:
        world.score(source, address)
    assert caught.value.code == "run_active"
    assert world.score(source, address).state == "finished"


def test_a_table_of_another_kind_is_left_alone(database: str, world: World, tmp_path: Path) -> None:
    engine = sa.create_engine(url_of(database))
    with engine.begin() as conn:
        conn.execute(sa.text("CREATE TABLE scores (row INTEGER, value TEXT)".replace("row", '"row"')))
    engine.dispose()
    with pytest.raises(ConflictError, match="table scores is there without column run, id"):
        world.score(parquet(tmp_path / "day.parquet", batch()), f"{database}?table=scores")


def test_addresses_that_name_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"End the address with \?table=NAME"):
        target_of("sqlite:///x.db")
    with pytest.raises(CaseError, match="cannot read oracle"):
        target_of("oracle://x/y?table=z")
    assert "secret" not in SqlSink("postgresql://me:secret@127.0.0.1/db?table=t", Layout.of(Output())).name


def test_an_unreachable_database_is_one_sentence(world: World, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        world.score(parquet(tmp_path / "d.parquet", batch()), "postgresql://me:secret@127.0.0.1:1/db?table=t")
    assert caught.value.code == "database_failed"
    assert "secret" not in caught.value.message
