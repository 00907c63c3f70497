"""What moved an answer is logged where people will judge it, and is in no answer to a client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from serving_world import LABELS, World, ask

from tenure.data.frames import Frame, read
from tenure.data.spool import SchemaStore
from tenure.deploy.router import Endpoint, Policy
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.types import Level, Prediction


def size(rows: list[dict[str, Any]]) -> list[Prediction]:
    return [Prediction("big", min(0.99, r["a"] / 10), contributions={"a": r["a"] / 2}) for r in rows]


def logged(folder: Path) -> list[dict[str, Any]]:
    schemas, out = SchemaStore(folder / "schemas"), []
    for file in sorted((folder / "spool").glob("worker-0-*.seg")):
        data, at = file.read_bytes(), 0
        while isinstance(got := read(data, at, run=None, schemas=schemas.get), Frame):
            out += [got.var(i) for i in range(got.rows)]
            at = got.end
    return out


def test_only_what_people_judge_carries_them(tmp_path: Path) -> None:
    world = World(tmp_path, load=lambda version: Pipeline([("size", adapt(size))], output=LABELS))
    world.publish(Endpoint("m@1", Policy(1, Level.PARTIAL, {"m@1": {"big": 0.9}}, audit=0.0)))

    async def work() -> list[Any]:
        core = await world.ready(world.core())
        return [await core.predict(ask(a)) for a in (9.5, 4.0)]

    try:
        answers = asyncio.run(work())
    finally:
        for core in world.cores:
            core.close()
    assert [a.status for a in answers] == ["decided", "pending"]
    assert b"contributions" not in msgspec.json.encode(answers)
    assert [row.get("contributions") for row in logged(tmp_path)] == [None, {"a": 2.0}]
