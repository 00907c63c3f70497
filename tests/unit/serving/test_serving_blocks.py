"""A matrix of records is answered as its rows would be, one by one: same answers, same log, same draws."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from serving_world import World, ask

from tenure.deploy.router import Endpoint, Policy
from tenure.deploy.serving.predict.core import Core
from tenure.deploy.serving.predict.desk import as_shown
from tenure.model.answer import Scores
from tenure.model.columns import Rows
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import Automation, EndpointSpec, Field, Output, Segments, SegmentSpec
from tenure.types import Answer, Decision, Level, Prediction

LABELS = Output(labels=("big", "small"))
SPEC = EndpointSpec(
    input="record", output=LABELS,
    fields={"a": Field(type="float", nullable=True), "b": Field(type="int"), "c": Field(type="bool")},
)  # fmt: skip
VALUES = np.array([[3.0, 1, 0], [0.25, -2, 1], [np.nan, 7, 1], [9.5, 0, 0], [1.25, 3, 1], [-4.0, 2, 0]])


class Sized:
    """Sure about far numbers; takes rows as a matrix."""

    takes_rows = True

    def predict(self, batch: Sequence[Any]) -> Any:
        if not isinstance(batch, Rows):
            raise TypeError("expected a matrix")
        a = np.nan_to_num(batch.matrix("a")[:, 0])
        big = 1 / (1 + np.exp(1.5 - a))
        return Scores.of(("big", "small"), np.column_stack([big, 1 - big]))


class Poisoned(Sized):
    """Cannot answer where b is 7."""

    def predict(self, batch: Sequence[Any]) -> Any:
        if (batch.matrix("b") == 7).any():  # type: ignore[attr-defined]
            raise ArithmeticError("7 is poison")
        return super().predict(batch)


def world_of(folder: Path, stage: type[Sized] = Sized, spec: EndpointSpec = SPEC) -> World:
    folder.mkdir()
    return World(folder, spec=spec, load=lambda v: Pipeline([("size", adapt(stage))], output=LABELS))


def answers_of(core: Core, block: Any) -> list[Answer]:
    if block.scores is None:
        return list(block.answers)
    out = []
    for public_id, exact in zip(core.public_ids(block), block.scores, strict=True):
        said = as_shown(exact)
        decision = Decision(said.value, "model", block.lane.version, said.confidence, policy=block.lane.policy.id)
        out.append(Answer(public_id, "decided", decision, said))
    return out


def plain(answer: Answer) -> Answer:
    return msgspec.structs.replace(answer, id="")


ROUTES = {
    "full": Endpoint("m@1", Policy(1, Level.FULL, audit=0.5)),
    "partial, all": Endpoint("m@1", Policy(1, Level.PARTIAL, {"m@1": {"*": 0.0}}, audit=0.5)),
    "partial, some": Endpoint("m@1", Policy(1, Level.PARTIAL, {"m@1": {"*": 0.8}}, audit=0.5, blind=0.5)),
    "assist": Endpoint("m@1", Policy(1, Level.ASSIST, blind=0.5)),
    "shadow": Endpoint("m@1", Policy(1, Level.SHADOW)),
    "canary": Endpoint("m@1", Policy(1, Level.FULL, audit=0.5), candidate="m@2", share=0.5),
    "with a shadow": Endpoint("m@1", Policy(1, Level.FULL, audit=0.5), shadows=("m@3",)),
}
OWN = {
    "7": Policy(2, Level.PARTIAL, {"m@1": {"*": 0.0}}, audit=0.5, segment="7"),
    "1": Policy(3, Level.SHADOW, segment="1"),
    "2": Policy(4, Level.PARTIAL, {"m@1": {"*": 0.97}}, audit=0.5, segment="2"),
}
BY_B = Automation(segments=Segments(by="b", values=dict.fromkeys(OWN, SegmentSpec())))
SPECS = {"segments": msgspec.structs.replace(SPEC, automation=BY_B)}
ROUTES["segments"] = Endpoint("m@1", Policy(1, Level.FULL, audit=0.5), segments=OWN)
IGNORED = ("run", "t_ns", "t", "latency_us", "queue_us", "stage_us_size", "segment", "frame", "row", "schema_id")


@pytest.mark.parametrize("stage", [Sized, Poisoned])
@pytest.mark.parametrize("name", ROUTES)
def test_a_block_is_answered_and_logged_as_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stage: type[Sized]
) -> None:
    """The same (run, seq) draw the same audits, so the two logs can be compared column by column."""
    monkeypatch.setattr("tenure.deploy.serving.predict.journal.fresh_u64", lambda: 77)
    logs, said = [], []
    for kind in ("block", "rows"):
        world = world_of(tmp_path / kind, stage, SPECS.get(name, SPEC))
        world.publish(ROUTES[name])

        async def work(kind: str = kind, world: World = world) -> list[Answer]:
            core = await world.ready(world.core())
            if kind == "block":
                found = answers_of(core, await core.predict_rows("", "e", VALUES))
            else:
                records = [{"a": None if a != a else a, "b": int(b), "c": bool(c)} for a, b, c in VALUES.tolist()]
                found = list(await core.predict_many("", "e", records))  # type: ignore[arg-type]
            while core.answering.shadows.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            return found

        said.append(asyncio.run(work()))
        logs.append([{k: v for k, v in r.items() if k not in IGNORED} for r in world.rows()])
        asked = {r["seq"] for r in world.rows() if r["audited"] or r["route"] == "pending"}
        shadows = world.rows("shadows")
        assert all(r["spare"] == (r["seq"] not in asked) for r in shadows)
        logs[-1].append({"shadows": len(shadows), "asked": sorted(asked)})
        world.close()
    assert [plain(a) for a in said[0]] == [plain(a) for a in said[1]]
    assert [a.id[16:28] for a in said[0]] == [a.id[16:28] for a in said[1]]
    assert logs[0] == logs[1]


def test_a_block_of_one_segment_stays_one_and_its_policy_tells_the_segment(tmp_path: Path) -> None:
    world = world_of(tmp_path / "w", spec=SPECS["segments"])
    world.publish(ROUTES["segments"])
    seven, rest = VALUES.copy(), VALUES.copy()
    seven[:, 1], rest[:, 1] = 7, 40

    async def work() -> list[Any]:
        core = await world.ready(world.core())
        return [await core.predict_rows("", "e", values) for values in (seven, rest, VALUES)]

    blocks = asyncio.run(work())
    assert [block.scores is None for block in blocks] == [False, False, True]
    assert [block.lane.policy.id for block in blocks[:2]] == [2, 1]
    assert [r["policy"] for r in world.rows()][-6:] == [3, 1, 2, 1, 1, 4]
    world.close()


def test_requests_of_several_segments_share_a_batch_and_each_is_ruled_on_by_its_own(tmp_path: Path) -> None:
    world = world_of(tmp_path / "w", spec=SPECS["segments"])
    world.publish(ROUTES["segments"])

    async def work() -> list[Answer]:
        core = await world.ready(world.core())
        bodies = [b'{"a": 1.5, "b": %d, "c": false}' % b for b in (1, 7, 2, 5) * 8]
        return list(await asyncio.gather(*(core.predict(ask(body=body)) for body in bodies)))

    found = asyncio.run(work())
    assert [a.status for a in found[:4]] == ["pending", "decided", "pending", "decided"]
    rows = world.rows()
    assert [r["policy"] for r in rows[:4]] == [3, 2, 4, 1]
    assert [r["level"] for r in rows[:4]] == ["shadow", "partial", "partial", "full"]
    assert len({r["frame"] for r in rows if r["policy"] == 2}) < 8, "one frame for what is alike"
    world.close()


def test_a_block_of_one_version_is_one_frame_and_its_records_come_back(tmp_path: Path) -> None:
    world = world_of(tmp_path / "w")
    world.publish(ROUTES["full"])

    async def work() -> tuple[list[str], Any]:
        core = await world.ready(world.core())
        block = await core.predict_rows("", "e", VALUES, unit="ward-3")
        ids = core.public_ids(block)
        return ids, await core.decision("", ids[2], 0)

    ids, third = asyncio.run(work())
    rows = world.rows()
    assert len({r["frame"] for r in rows}) == 1
    assert msgspec.json.decode(rows[2]["record"]) == {"a": None, "b": 7, "c": True}
    assert {r["unit"] for r in rows} == {"ward-3"}
    assert len(set(ids)) == len(VALUES)
    assert isinstance(third.prediction, Prediction)
    assert third.decision.value == rows[2]["label"] == "small"
    world.close()


def test_blocks_and_single_requests_share_a_version_and_stay_apart(tmp_path: Path) -> None:
    world = world_of(tmp_path / "w")
    world.publish(ROUTES["full"])

    async def work() -> None:
        core = await world.ready(world.core())
        one = b'{"a": 5, "b": 1, "c": false}'
        blocks = [core.predict_rows("", "e", VALUES + np.array([k, 0, 0])) for k in range(5)]
        singles = [core.predict(ask(body=one)) for _ in range(70)]
        found = await asyncio.gather(*blocks, *singles)
        for k, block in enumerate(found[:5]):
            expected = Sized().predict(
                Rows(("a", "b", "c"), ("float", "int", "bool"), VALUES + np.array([k, 0, 0]))
            )
            np.testing.assert_array_equal(block.scores.probabilities, expected.probabilities)
        assert {a.decision.value for a in found[5:]} == {"big"}

    asyncio.run(work())
    assert len(world.rows()) == 5 * len(VALUES) + 70
    world.close()


def test_small_blocks_of_one_turn_run_and_are_logged_together(tmp_path: Path) -> None:
    """Clients that send a row each share batches, as those of plain requests do."""
    world = world_of(tmp_path / "w")
    world.publish(ROUTES["full"])

    async def work() -> list[Answer]:
        core = await world.ready(world.core())
        blocks = await asyncio.gather(*(core.predict_rows("", "e", VALUES[k : k + 1]) for k in range(6)))
        whole = answers_of(core, await core.predict_rows("", "e", VALUES))
        apart = [answer for block in blocks for answer in answers_of(core, block)]
        assert [plain(a) for a in apart] == [plain(a) for a in whole]
        return apart

    apart = asyncio.run(work())
    rows = world.rows()
    assert [a.id[16:28] for a in apart] == [f"{r['seq']:012x}" for r in rows[:6]]
    assert len({r["frame"] for r in rows[:6]}) < 6, "a new version is tried with small batches first"
    world.close()


def test_a_fault_of_ours_leaves_nobody_waiting(tmp_path: Path) -> None:
    world = world_of(tmp_path / "w")
    world.publish(ROUTES["full"])

    async def work() -> None:
        core = await world.ready(world.core())

        def broken(*args: Any, **options: Any) -> None:
            raise ZeroDivisionError("a bug")

        core.desks["e"].log_block = broken  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(core.predict_rows("", "e", VALUES), 60)

    asyncio.run(work())
    assert world.rows() == []
    world.close()
