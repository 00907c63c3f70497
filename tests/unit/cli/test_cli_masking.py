"""Masked fields stay behind in exports and data sets, unless a reason is given, which the audit trail keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from cli_shell import Shell

from tenure.clock import SystemClock
from tenure.data import tables as t
from tenure.data.masking import NOTHING, fields_of, mask_of
from tenure.data.schema import InputSchema
from tenure.data.state import State
from tenure.deploy.review.items import ItemPrediction, NewItem
from tenure.deploy.review.queue import ReviewQueue
from tenure.errors import CaseError
from tenure.maintain.exchange import taking
from tenure.maintain.exchange.entry import Taken
from tenure.scope.project import Data, EndpointSpec, Field, Project

SECRET = "4711-0815"
YAML = """
tenure: 1
project: ward
data:
  unit: patient
scope:
  y: {labels: [keep, send_home]}
endpoints:
  beds:
    input: record
    automation: {max: assist}
    fields:
      patient: {type: text, masked: true}
      pulse: {type: float}
    review:
      second_reader: {disagreements: 0, agreements: 0}
"""


@pytest.fixture
def ward(tenure: Shell) -> Shell:
    """A project whose patients are masked, with judged and waiting records of two of them."""
    Path("tenure.yaml").write_text(YAML)
    state = State.open(_database(tenure), SystemClock())
    fields = {"patient": Field(type="text", masked=True), "pulse": Field(type="float")}
    spec = EndpointSpec(input="record", fields=fields)
    queue = ReviewQueue(state, {"beds": spec})
    base = {
        "kind": "uncertain",
        "media_type": "application/json",
        "version": "v1",
        "level": "assist",
        "blind": False,
    }
    with state.begin() as conn:
        queue.add(conn, [
            NewItem(
                id=f"q{i}", endpoint="beds", created_us=i, unit=f"{SECRET}-{i % 2}",
                record={"patient": f"{SECRET}-{i % 2}", "pulse": 60.0 + i}, **base,  # type: ignore[arg-type]
            )
            for i in range(6)
        ])  # fmt: skip
        queue.add_predictions(
            conn,
            [ItemPrediction(item=f"q{i}", version="v1", role="primary", value="keep", at_us=i) for i in range(6)],
        )
    found = [Taken(item=f"q{i}", reader="ann", value="keep", key=f"k{i}", at=str(i)) for i in range(4)]
    taking.take(state, queue, "beds", found)
    state.close()
    return tenure


def _database(shell: Shell) -> Path:
    folder = shell.folder / "tenure-data"
    folder.mkdir(exist_ok=True)
    return folder / "state.db"


def audited(shell: Shell) -> list[tuple[str, Any]]:
    state = State.open(_database(shell), SystemClock())
    a = t.audit.c
    with state.read() as conn:
        rows = conn.execute(sa.select(a.action, a.detail).where(a.action.like("%.reveal")).order_by(a.id)).all()
    state.close()
    return [(row.action, json.loads(row.detail)) for row in rows]


def everything(folder: Path) -> bytes:
    """Return every byte below a folder, tables as text too, since they are compressed."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    tables = [str(pq.read_table(p).to_pylist()).encode() for p in files if p.suffix == ".parquet"]
    return b"".join([p.read_bytes() for p in files] + tables)


@pytest.mark.parametrize("form", ["label-studio", "jsonl", "parquet"])
def test_an_export_is_without_masked_values_and_with_them_for_a_reason(ward: Shell, form: str) -> None:
    assert ward("export", "beds", "out", "--format", form, "--which", "all").code == 0
    plain = everything(ward.folder / "out")
    assert SECRET.encode() not in plain
    assert b"pulse" in plain
    assert audited(ward) == []
    assert ward("export", "beds", "no", "--format", form, "--which", "all", "--reveal", " ").code == 2
    assert not (ward.folder / "no").exists()
    told = ward("export", "beds", "all", "--format", form, "--which", "all", "--reveal", "audit of ward 3")
    assert told.code == 0
    assert SECRET.encode() in everything(ward.folder / "all")
    ((action, detail),) = audited(ward)
    assert action == "exchange.reveal"
    assert detail["fields"] == ["patient", "unit"]
    assert (detail["reason"], detail["items"], detail["format"]) == ("audit of ward 3", 6, form)


def test_a_masked_unit_still_tells_rows_apart(ward: Shell) -> None:
    assert ward("export", "beds", "out", "--format", "jsonl", "--which", "all").code == 0
    lines = [json.loads(line) for line in (ward.folder / "out" / "judgements.jsonl").read_text().splitlines()]
    units = [one["unit"] for one in lines]
    assert len(set(units)) == 2
    assert units[0] == units[2] != units[1]
    assert all("patient" not in one["record"] for one in lines)


def test_a_data_set_says_what_it_is_without_and_revealed_is_another_one(ward: Shell) -> None:
    plain = ward("dataset", "build", "beds", "--out", "plain", "--test-share", "0", "--json").json()
    assert plain["masked"] == ["patient", "unit"]
    assert SECRET.encode() not in everything(ward.folder / "plain")
    whole = ward(
        "dataset", "build", "beds", "--out", "whole", "--test-share", "0", "--reveal", "to train", "--json"
    ).json()
    assert (whole["rows"], "masked" in whole) == (plain["rows"], False)
    assert whole["id"] != plain["id"]
    assert SECRET.encode() in everything(ward.folder / "whole")
    assert [(action, detail["out"]) for action, detail in audited(ward)] == [("dataset.reveal", "whole")]


def test_an_error_about_a_masked_value_does_not_tell_it() -> None:
    for masked, told in ((True, False), (False, True)):
        spec = EndpointSpec(input="record", fields={"age": Field(type="int", max=130, masked=masked)})
        with pytest.raises(CaseError) as caught:
            InputSchema.of(spec).check_record({"age": 4711})
        assert ("4711" in caught.value.message) is told


def test_only_a_unit_that_names_a_masked_field_is_hashed() -> None:
    fields = {"patient": Field(type="text", masked=True), "line": Field(type="text")}
    spec = EndpointSpec(input="record", fields=fields)
    for unit, hashed in (("patient", True), ("line", False), (None, False)):
        project = Project(project="p", data=Data(unit=unit), endpoints={"e": spec})
        mask = mask_of(project, "e", b"key")
        assert (mask.unit("a") != "a", mask.unit("")) == (hashed, "")
        assert mask.record({"patient": 1, "line": 2}) == {"line": 2}
    assert fields_of(EndpointSpec(input="text")) == NOTHING
    assert NOTHING.record("text") == "text"
