"""A run from input to output: what it writes, what it logs, who decides, and when it refuses."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from offline_world import World, customers, parquet, parts, quarantined

from tenure.cli import score_progress
from tenure.cli.scoring import Told, score
from tenure.data.records import decode_id
from tenure.deploy.offline.folder_sink import FolderSink
from tenure.deploy.offline.table import Layout
from tenure.errors import CaseError, ConflictError, MissingError, StoreError
from tenure.scope.project import Output, Segments, SegmentSpec
from tenure.types import Level

YAML = """
tenure: 1
project: shop
server: {data: data}
endpoints:
  churn:
    input: record
    output: {labels: [stays, leaves]}
    fields:
      age: {type: int, min: 0, max: 120}
      spend: {type: float, nullable: true}
      plan: {type: category}
    automation: {max: assist}
"""


def batch(n: int = 250) -> list[dict[str, Any]]:
    """Return customers of whom four cannot be answered."""
    rows = customers(n)
    rows[3] |= {"age": 130}
    rows[4] |= {"age": 13}
    rows[120] |= {"plan": None}
    rows[249] |= {"age": 13}
    return rows


def test_each_row_is_one_row_of_the_output_or_of_the_quarantine(world: World, tmp_path: Path) -> None:
    rows, out = batch(), tmp_path / "out"
    done = world.score(parquet(tmp_path / "day.parquet", rows), out, keep=("customer",))
    assert (done.state, done.counts.scored, done.counts.quarantined) == ("finished", 246, 4)
    found, failed = parts(out), quarantined(out)
    assert sorted([r["row"] for r in found] + [r["row"] for r in failed]) == list(range(250))
    assert [r["row"] for r in found] == sorted(r["row"] for r in found)
    assert all(r["customer"] == rows[r["row"]]["customer"] for r in found)
    assert [(r["row"], r["code"], r["at"]) for r in failed] == [
        (3, "out_of_range", "age"), (4, "model_failed", None), (120, "null_field", "plan"),
        (249, "model_failed", None),
    ]  # fmt: skip
    assert failed[0]["record"] == rows[3]
    assert failed[1]["reason"] == "stage churn: nobody is 13"
    first = found[0]
    assert first["p_stays"] + first["p_leaves"] == pytest.approx(1)
    assert first["confidence"] == pytest.approx(max(first["p_stays"], first["p_leaves"]), rel=1e-6)
    assert (first["decided_by"], first["reason"], first["version"]) == (
        "none", "level human_only", world.version(),
    )  # fmt: skip


def test_the_log_holds_every_row_once_with_the_same_answer(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = world.score(parquet(tmp_path / "day.parquet", batch()), out)
    logged = world.logged()
    assert done.manifest is not None
    assert {r["run"] for r in logged} == {done.manifest.number}
    assert [r["seq"] for r in logged] == list(range(1, 251))
    assert all(r["batch"] for r in logged)
    assert {r["status"] for r in logged} == {"ok", "failed", "refused"}
    by_row = {r["seq"] - 1: r for r in logged}
    secret = (world.folder / "secret.key").read_bytes()
    for row in parts(out):
        assert decode_id(row["id"], secret) == (done.manifest.number, row["row"] + 1)
        seen = by_row[row["row"]]
        assert json.loads(seen["value"]) == row["value"]
        assert json.loads(seen["probabilities"])["leaves"] == pytest.approx(row["p_leaves"], rel=1e-6)
        assert seen["route"] == "none"
    assert by_row[3]["reason"].startswith("out_of_range: field 'age'")
    assert by_row[0]["x_field_age"] == json.loads(by_row[0]["record"])["age"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_other_formats_say_the_same(form: Any, world: World, tmp_path: Path) -> None:
    source = parquet(tmp_path / "day.parquet", batch())
    world.score(source, tmp_path / "a")
    world.score(source, tmp_path / "b", format=form)
    texts = [p.read_text() for p in sorted((tmp_path / "b").glob(f"part-*.{form}"))]
    if form == "csv":
        found = [row for text in texts for row in csv.DictReader(text.splitlines())]
    else:
        found = [json.loads(line) for text in texts for line in text.splitlines()]
    expected = parts(tmp_path / "a")
    assert [(int(r["row"]), r["value"], float(r["p_stays"])) for r in found] == [
        (r["row"], r["value"], r["p_stays"]) for r in expected
    ]


def test_a_text_endpoint_takes_the_column_text(world: World, tmp_path: Path) -> None:
    source = parquet(tmp_path / "mail.parquet", [{"text": "hello"}, {"text": None}, {"text": ""}])
    done = world.score(source, tmp_path / "out", endpoint="length")
    assert [(r["row"], r["value"]) for r in parts(tmp_path / "out")] == [(0, 5.0), (2, 0.0)]
    assert [(r["row"], r["code"]) for r in quarantined(tmp_path / "out")] == [(1, "null_field")]
    assert done.counts.rows == 3


def test_several_processes_say_the_same_as_one(world: World, tmp_path: Path) -> None:
    source = parquet(tmp_path / "day.parquet", batch())
    world.score(source, tmp_path / "a")
    world.score(source, tmp_path / "b", workers=2)
    strip = [{k: v for k, v in row.items() if k != "id"} for row in parts(tmp_path / "a")]
    assert [{k: v for k, v in row.items() if k != "id"} for row in parts(tmp_path / "b")] == strip
    assert len(world.logged("seq")) == 500


def test_the_processes_end_with_the_one_that_commits(world: World, tmp_path: Path) -> None:
    source = tmp_path / "day.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in customers(30_000)))
    (world.root / "tenure.yaml").write_text(YAML)
    command = [sys.executable, "-m", "tenure", "score", "churn", str(source), "out", "--workers", "2"]
    process = psutil.Popen(command, cwd=world.root, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    while len(children) < 2 or not list((world.folder / "spool").glob("score-*.seg")):
        assert process.poll() is None
        time.sleep(0.01)
        children = process.children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []


class TestWhoDecides:
    def test_at_assist_people_do(self, world: World, tmp_path: Path) -> None:
        world.level(Level.ASSIST)
        done = world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out")
        assert (done.counts.person, done.counts.model, done.counts.none) == (246, 0, 0)
        assert {r["route"] for r in world.logged() if r["status"] == "ok"} == {"pending"}
        assert {r["route"] for r in world.logged() if r["status"] != "ok"} == {"refused"}

    def test_at_partial_the_model_decides_what_its_certificate_covers(self, world: World, tmp_path: Path) -> None:
        world.watch()
        version = world.version()
        world.level(Level.PARTIAL, thresholds={version: {"stays": 0.8}}, audit=0.2)
        world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out")
        found = parts(tmp_path / "out")
        sure = [r for r in found if r["value"] == "stays" and r["confidence"] >= 0.8]
        assert 0 < len(sure) < len(found)
        assert [r["row"] for r in found if r["decided_by"] == "model"] == [r["row"] for r in sure]
        assert {r["decided_by"] for r in found} == {"model", "person"}
        logged = world.logged()
        audited = [r for r in logged if r["audited"]]
        assert 0 < len(audited) < len(sure)
        assert {r["route"] for r in audited} == {"auto"}

    def test_each_segment_is_decided_by_its_own_policy(self, world: World, tmp_path: Path) -> None:
        world.watch()
        listed = Segments(by="plan", values={"plus": SegmentSpec()})
        spec = world.project.endpoints["churn"]
        auto = msgspec.structs.replace(spec.automation, segments=listed)
        world.desk.project.endpoints["churn"] = msgspec.structs.replace(spec, automation=auto)
        sure = {world.version(): {"*": 0.0}}
        world.level(Level.ASSIST)
        world.level(Level.PARTIAL, thresholds=sure, audit=0.2, segment="plus")
        world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out")
        logged = [r for r in world.logged() if r["status"] == "ok"]
        plans = {json.loads(r["record"])["plan"]: (r["level"], r["route"], r["policy"]) for r in logged}
        assert {plan: told[:2] for plan, told in plans.items()} == {
            "plus": ("partial", "auto"), "basic": ("assist", "pending"),
        }  # fmt: skip
        assert plans["plus"][2] != plans["basic"][2]

    def test_without_a_controller_nothing_is_automated(self, world: World, tmp_path: Path) -> None:
        world.level(Level.PARTIAL, thresholds={world.version(): {"*": 0.0}})
        done = world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out")
        assert (done.counts.model, done.counts.person) == (0, 246)
        assert all(r["degraded"] for r in world.logged())

    def test_without_review_the_undecided_ones_wait_for_nobody(self, world: World, tmp_path: Path) -> None:
        world.watch()
        world.level(Level.PARTIAL, thresholds={world.version(): {"stays": 0.8}}, audit=1.0)
        done = world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out", review=False)
        assert done.counts.person == 0
        assert done.counts.model > 0
        assert done.counts.none > 0
        # audits stay, but what is left is no fair sample of all rows
        assert {(r["route"], r["audited"], r["lottery"]) for r in world.logged() if r["status"] == "ok"} == {
            ("auto", True, False), ("none", False, False),
        }  # fmt: skip

    def test_a_mere_prediction_is_decided_by_nobody(self, world: World, tmp_path: Path) -> None:
        world.watch()
        world.level(Level.FULL)
        done = world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out", predict_only=True)
        assert (done.counts.none, done.counts.model) == (246, 0)

    def test_a_version_out_of_force_decides_only_what_it_is_certified_for(
        self, world: World, tmp_path: Path
    ) -> None:
        world.watch()
        world.level(Level.FULL)
        source, version = parquet(tmp_path / "day.parquet", batch()), world.version()
        assert world.score(source, tmp_path / "a", version=version).counts.model == 246
        with world.state.begin() as conn:
            world.desk.rollouts.set_stable(conn, "churn", None, "test")
        assert world.score(source, tmp_path / "b", version=version).counts.model == 0
        assert {r["role"] for r in world.logged("role, seq")} == {"stable", "candidate"}


class TestGoingOn:
    def test_a_finished_run_says_so(self, world: World, tmp_path: Path) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        world.score(source, tmp_path / "out")
        again = world.score(source, tmp_path / "out")
        assert (again.state, again.counts.rows) == ("already", 250)
        assert "this run is finished: 250 rows" in score_progress.summary(again)
        assert len(world.logged("seq")) == 250

    @pytest.mark.parametrize(
        ("told", "words"),
        [
            ({"predict_only": True}, "predict_only: False became True"),
            ({"limit": 5}, "limit: nothing became 5"),
            ({"chunk": 50}, "chunk: 100 became 50"),
            ({"keep": ("customer",)}, "keep: nothing became customer"),
            ({"format": "csv"}, "format: parquet became csv"),
        ],
    )
    def test_other_options_are_refused(
        self, told: dict[str, Any], words: str, world: World, tmp_path: Path
    ) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        world.score(source, tmp_path / "out")
        with pytest.raises(ConflictError) as caught:
            world.score(source, tmp_path / "out", **told)
        assert caught.value.code == "run_changed"
        assert words in caught.value.message

    def test_a_changed_input_is_refused_and_scored_on_request(self, world: World, tmp_path: Path) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        first = world.score(source, tmp_path / "out")
        parquet(source, customers(120))
        with pytest.raises(ConflictError, match=r"input\.files day\.parquet\.(size|sha256)"):
            world.score(source, tmp_path / "out")
        second = world.score(source, tmp_path / "out", restart=True)
        assert [r["row"] for r in parts(tmp_path / "out")] == list(range(120))
        assert len(list((tmp_path / "out").glob("part-*"))) == 2
        assert not list((tmp_path / "out").glob("quarantine/*"))
        assert first.manifest is not None
        assert second.manifest is not None
        assert first.manifest.run != second.manifest.run

    def test_an_input_that_only_got_another_time_is_the_same(self, world: World, tmp_path: Path) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        world.score(source, tmp_path / "out")
        source.touch()
        assert world.score(source, tmp_path / "out").state == "already"

    def test_an_input_that_grows_meanwhile_is_never_finished(self, world: World, tmp_path: Path) -> None:
        source = tmp_path / "day.jsonl"
        lines = [json.dumps(row) + "\n" for row in customers(250)]
        source.write_text("".join(lines))

        def grow(progress: Any) -> None:
            with source.open("a") as file:
                file.write(lines[0])

        told = Told(endpoint="churn", input=str(source), output=str(tmp_path / "out"), chunk=100)
        with pytest.raises(ConflictError, match="changed while it was read"):
            score(world.desk, told, grow)
        assert msgspec.json.decode((tmp_path / "out" / "manifest.json").read_bytes())["state"] == "running"

    def test_a_version_that_goes_out_of_force_stops_the_run(self, world: World, tmp_path: Path) -> None:
        source, out = parquet(tmp_path / "day.parquet", batch()), tmp_path / "out"

        def roll_back(progress: Any) -> None:
            if progress.rows == 200:
                with world.state.begin() as conn:
                    world.desk.rollouts.set_stable(conn, "churn", None, "test")

        told = Told(endpoint="churn", input=str(source), output=str(out), chunk=100)
        with pytest.raises(ConflictError) as caught:
            score(world.desk, told, roll_back)
        assert caught.value.code == "version_changed"
        assert len(parts(out)) + len(quarantined(out)) == 200
        done = world.score(source, out, version=world.version())
        assert (done.counts.rows, done.rows) == (250, 50)
        assert len(world.logged("seq")) == 250

    def test_a_missing_part_is_noticed(self, world: World, tmp_path: Path) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        world.score(source, tmp_path / "out")
        (tmp_path / "out" / "part-00001.parquet").unlink()
        with pytest.raises(ConflictError, match=r"part-00001\.parquet is gone or was changed"):
            world.score(source, tmp_path / "out")

    def test_two_runs_cannot_share_a_folder(self, world: World, tmp_path: Path) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        holder = FolderSink(tmp_path / "out", Layout.of(Output()), "parquet")
        with holder, pytest.raises(ConflictError) as caught:
            world.score(source, tmp_path / "out")
        assert caught.value.code == "run_active"
        assert world.score(source, tmp_path / "out").state == "finished"

    def test_a_folder_with_other_things_in_it_is_left_alone(self, world: World, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("precious")
        with pytest.raises(ConflictError) as caught:
            world.score(parquet(tmp_path / "day.parquet", batch()), out, restart=True)
        assert caught.value.code == "output_taken"

    def test_a_newer_manifest_is_not_guessed(self, world: World, tmp_path: Path) -> None:
        source, out = parquet(tmp_path / "day.parquet", batch()), tmp_path / "out"
        world.score(source, out)
        (out / "manifest.json").write_text('{"format": 99}')
        with pytest.raises(StoreError) as caught:
            world.score(source, out)
        assert caught.value.code == "format_newer"


class TestBeforeTheFirstRow:
    def test_a_rehearsal_writes_nothing(self, world: World, tmp_path: Path) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        before = {p: p.stat().st_size for p in world.folder.rglob("*") if "state.db" not in p.name}
        done = world.score(source, tmp_path / "out", dry_run=True)
        assert (done.state, done.counts.rows, done.total) == ("rehearsed", 100, 250)
        assert not (tmp_path / "out").exists()
        assert {p: p.stat().st_size for p in world.folder.rglob("*") if "state.db" not in p.name} == before

    def test_a_limit_is_exact_across_chunks(self, world: World, tmp_path: Path) -> None:
        done = world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out", limit=150)
        assert (done.counts.rows, len(world.logged("seq"))) == (150, 150)

    def test_a_missing_version_is_said(self, world: World, tmp_path: Path) -> None:
        source = parquet(tmp_path / "day.parquet", batch())
        with pytest.raises(MissingError, match="no version 'churn@00000000'"):
            world.score(source, tmp_path / "out", version="churn@00000000")
        with pytest.raises(ConflictError, match="is a version of length"):
            world.score(source, tmp_path / "out", version=world.version("length"))

    def test_a_kept_column_may_not_hide_one_of_the_output(self, world: World, tmp_path: Path) -> None:
        with pytest.raises(CaseError, match="a column id of its own"):
            world.score(parquet(tmp_path / "day.parquet", batch()), tmp_path / "out", keep=("id",))
