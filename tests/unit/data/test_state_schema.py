from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import postgres
from tenure.clock import ManualClock
from tenure.data import state_schema as schema
from tenure.data import tables as t
from tenure.data.state import State, engine_of
from tenure.errors import StoreError

FreshUrl = Callable[[], str]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> FreshUrl:
    """Makes URLs of new, empty databases."""
    if request.param == "sqlite":
        numbers = iter(range(99))
        return lambda: f"sqlite:///{tmp_path}/s{next(numbers)}.db"
    server: str = request.getfixturevalue("postgres_url")
    return lambda: postgres.new_database(server)


def differences(engine: sa.Engine) -> list[object]:
    with engine.connect() as conn:
        return list(compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), t.metadata))


def test_the_migrated_schema_is_the_one_in_tables(fresh_url: FreshUrl) -> None:
    """If this fails after a change of tables.py: python -m tenure.data.migrations NUMBER "what changed"."""
    engine = engine_of(fresh_url())
    with engine.begin() as conn:
        schema.upgrade(conn)
        assert schema.current(conn) == schema.head()
    assert differences(engine) == []
    with engine.begin() as conn:
        conn.execute(sa.text("DROP INDEX ix_review_rollout"))
    assert len(differences(engine)) == 1  # the comparison can see a difference
    engine.dispose()


def test_a_new_database_has_the_same_schema_without_running_the_revisions(fresh_url: FreshUrl) -> None:
    opened = State.open(fresh_url(), ManualClock())
    assert differences(opened.engine) == []
    with opened.read() as conn:
        assert schema.current(conn) == schema.head()
    opened.close()


def test_opening_twice_changes_nothing(fresh_url: FreshUrl) -> None:
    url = fresh_url()
    first, second = State.open(url, ManualClock()), State.open(url, ManualClock())
    with first.begin() as conn:
        first.audit(conn, actor="ann", action="test", subject="x")
    with second.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(t.audit)).scalar_one() == 1
    first.close()
    second.close()


def test_a_newer_schema_is_refused(fresh_url: FreshUrl) -> None:
    url = fresh_url()
    opened = State.open(url, ManualClock())
    with opened.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    opened.close()
    with pytest.raises(StoreError, match="schema 9999, this version of tenure knows"):
        State.open(url, ManualClock())


def test_tables_of_unknown_origin_are_refused(fresh_url: FreshUrl) -> None:
    url = fresh_url()
    engine = engine_of(url)
    t.meta.create(engine)
    engine.dispose()
    with pytest.raises(StoreError, match="no schema version"):
        State.open(url, ManualClock())


def next_revision(folder: Path, body: str) -> Path:
    """Copy the migrations and add one revision after the newest, as a later version of tenure would."""
    copy = folder / "migrations"
    shutil.copytree(schema.FOLDER, copy)
    text = (
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision = '9000'\ndown_revision = '{schema.head()}'\n"
        f"def upgrade():\n    {body}\n"
    )
    (copy / "versions" / "9000_next.py").write_text(text)
    return copy


def test_an_older_database_is_migrated(
    fresh_url: FreshUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh_url()
    old = State.open(url, ManualClock())
    with old.begin() as conn:
        conn.execute(t.meta.insert().values(key="k", value="v"))
    old.close()
    revision = schema.head()
    monkeypatch.setattr(
        schema, "FOLDER", next_revision(tmp_path, "op.add_column('meta', sa.Column('note', sa.Text))")
    )
    new = State.open(url, ManualClock())
    with new.read() as conn:
        assert schema.current(conn) == "9000"
        assert conn.execute(sa.text("SELECT key, value, note FROM meta")).all() == [("k", "v", None)]
    new.close()
    path = new.engine.url.database
    if path and new.engine.dialect.name == "sqlite":
        copy = Path(f"{path}.{revision}.bak")
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with sqlite3.connect(copy) as kept:
            assert kept.execute("SELECT * FROM meta").fetchall() == [("k", "v")]
        kept.close()


def test_a_failed_migration_leaves_the_database_as_it_was(
    fresh_url: FreshUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh_url()
    State.open(url, ManualClock()).close()
    body = "op.add_column('meta', sa.Column('note', sa.Text)); op.drop_table('nowhere')"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "FOLDER", next_revision(tmp_path, body))
        with pytest.raises(StoreError, match="nowhere"):
            State.open(url, ManualClock())
    again = State.open(url, ManualClock())
    assert differences(again.engine) == []
    again.close()


def test_a_reader_does_not_wait_for_a_writer(state: State) -> None:
    with state.begin() as writing:
        writing.execute(t.meta.insert().values(key="k", value="v"))
        with state.read() as reading:
            assert reading.execute(sa.select(t.meta.c.key)).all() == []
