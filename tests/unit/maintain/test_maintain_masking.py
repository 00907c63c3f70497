"""A training command gets masked fields only where the project says so, and then the audit keeps the run."""

from __future__ import annotations

import json

import msgspec
import pytest
import sqlalchemy as sa
from maintain_world import World, add_judged

from tenure.data import tables as t
from tenure.maintain.retrain import Retrainer
from tenure.maintain.snapshot import open_snapshot
from tenure.scope.project import Field


@pytest.mark.parametrize("reveal", [False, True])
def test_the_command_gets_masked_fields_only_where_the_project_reveals_them(world: World, reveal: bool) -> None:
    spec = world.spec("echo found $(grep -c 'Ann Smith' $TENURE_DATASET/index.jsonl)", reveal=reveal)
    fields = {"x": Field(type="float"), "name": Field(type="text", masked=True)}
    spec = msgspec.structs.replace(spec, fields=fields)
    add_judged(world.state, world.clock, [f"q{i:05d}" for i in range(20)], record={"x": 0.1, "name": "Ann Smith"})
    retrainer = Retrainer(
        world.state, {"phones": spec}, world.data, registry=world.registry, root=world.root, clock=world.clock,
        payload=lambda _: None, deploy=lambda *words: "",
    )  # fmt: skip
    run = retrainer.get(retrainer.run("phones", "asked", "ann"))
    assert f"found {20 if reveal else 0}" in run.log.splitlines()
    assert ("without the masked fields name" in run.log) is not reveal
    masked = open_snapshot(world.data / "snapshots" / run.snapshot).manifest.masked
    assert masked == (msgspec.UNSET if reveal else ("name",))
    a = t.audit.c
    with world.state.read() as conn:
        told = conn.execute(sa.select(a.actor, a.detail).where(a.action == "dataset.reveal")).all()
    assert [(row.actor, json.loads(row.detail)["fields"]) for row in told] == (
        [("ann", ["name"])] if reveal else []
    )
