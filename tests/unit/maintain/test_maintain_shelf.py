"""Snapshots are found by the beginning of their id, checked to the last byte, and compared row by row."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from maintain_world import World, add_judged

from tenure.errors import ConflictError, MissingError, StoreError
from tenure.maintain import shelf, table
from tenure.maintain.dataset import build_snapshot
from tenure.maintain.snapshot import Snapshot


def build(world: World, **more: object) -> Snapshot:
    settings = {"since_us": 0, "now_us": world.state.now_us(), "payload": lambda _: None, **more}
    with world.state.begin() as conn:
        return build_snapshot(conn, "phones", world.data, **settings)  # type: ignore[arg-type]


def test_a_snapshot_is_found_by_the_beginning_of_its_id_and_by_its_folder(world: World) -> None:
    world.judged(10)
    made = build(world)
    with world.state.read() as conn:
        assert shelf.path_of(conn, world.data, made.id[:6]) == (made.path, made.sha)
        assert shelf.path_of(conn, world.data, str(made.path)) == (made.path, None)
        assert [one.id for one in shelf.listed(conn, "phones")] == [made.id]
        with pytest.raises(MissingError):
            shelf.path_of(conn, world.data, "nothing%")


def test_the_table_says_what_the_index_says(world: World) -> None:
    add_judged(world.state, world.clock, ["a00001"], kind="audit", audit_prob=0.25, level="partial", lottery=True)
    made = build(world)
    (row,) = pq.read_table(made.path / "rows.parquet").to_pylist()
    assert (row["weight"], row["label"], row["label_kind"]) == (4.0, "good", "text")
    assert json.loads(row["record"]) == {"x": 0.37}
    assert shelf.verify(made.path, made.sha).id == made.id


def test_a_table_that_was_exchanged_together_with_its_hash_is_found(world: World) -> None:
    world.judged(10)
    made = build(world)
    path, manifest = made.path / "rows.parquet", made.path / "manifest.json"
    path.unlink()
    table.write(list(made.rows())[1:], path)
    said = json.loads(manifest.read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    said["files"]["rows.parquet"] = {"sha256": digest, "size": path.stat().st_size}
    manifest.chmod(0o644)
    manifest.write_text(json.dumps(said))
    with pytest.raises(StoreError, match="does not say what the index says"):
        shelf.verify(made.path, made.sha)


def test_another_content_under_the_same_id_is_found_by_the_noted_hash(world: World) -> None:
    world.judged(10)
    made = build(world)
    with pytest.raises(StoreError, match="not the one that was noted"):
        shelf.verify(made.path, made.id + "0" * 48)


def test_two_snapshots_are_compared(world: World) -> None:
    world.judged(10)
    first = build(world, test_share=0.0)
    world.judged(2, start=10)
    second = build(world, test_share=0.3)
    found = shelf.difference(first, second)
    assert found.added == ("q00010", "q00011")
    assert len(found.moved) == second.manifest.test - 2
    assert (found.removed, found.relabelled) == ((), ())
    assert found.same + len(found.moved) == 10
    assert shelf.difference(second, first).removed == found.added


def test_a_copy_is_the_same_snapshot_and_nothing_is_written_over(world: World, tmp_path: Path) -> None:
    world.judged(10)
    made = build(world)
    assert shelf.copy(made, tmp_path / "out").sha == made.sha
    with pytest.raises(ConflictError):
        shelf.copy(made, tmp_path / "out")
