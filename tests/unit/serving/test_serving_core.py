"""The core: what each level answers, what is logged, who decides when nobody does."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow
from serving_world import LABELS, NUMBER, SECRET, World, ask

from tenure.data.records import decode_id, encode_id
from tenure.deploy.router import Endpoint, Policy
from tenure.deploy.serving.predict.core import Ask, Core, guard
from tenure.errors import AccessError, BusyError, CaseError, MissingError, TenureError
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import EndpointSpec, Fallback, Lost, Serve
from tenure.types import Answer, Image, Level, Prediction

FALLBACK = msgspec.structs.replace(NUMBER, serve=Serve(on_timeout=Fallback(decide="small", after=0.05)))
THRESHOLDS = {"m@1": {"big": 0.9, "small": 0.9}}


def run(world: World, work: Callable[[Core], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        return await work(await world.ready(world.core()))

    try:
        return asyncio.run(whole())
    finally:
        for core in world.cores:
            core.close()


async def shadowed(core: Core) -> None:
    """Wait until no shadow is on its way and what they said is in the log."""
    while core.answering.shadows.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


def key_of(answer: Answer) -> tuple[int, int]:
    key = decode_id(answer.id, SECRET)
    assert key is not None
    return key


# What each level answers


def test_full_decides_everything_that_the_model_answers(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.FULL, audit=0.0)

    async def work(core: Core) -> list[Answer]:
        return [await core.predict(ask(a)) for a in (3.0, 1.1, 13.0)]

    sure, unsure, poison = run(world, work)
    assert sure.decision is not None
    assert (sure.decision.value, sure.decision.by, sure.decision.version) == ("big", "model", "m@1")
    assert unsure.status == "decided"
    assert (poison.status, poison.prediction) == ("pending", None), "a failed item goes to people, not to a 500"
    assert [r["route"] for r in world.rows()] == ["auto", "auto", "pending"]
    assert world.rows()[2]["reason"].startswith("stage size: ArithmeticError")


def test_partial_decides_only_above_the_certified_threshold(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.PARTIAL, thresholds=THRESHOLDS, blind=0.0, audit=0.0)

    async def work(core: Core) -> list[Answer]:
        return [await core.predict(ask(a)) for a in (5.5, 3.0, 5.0)]

    sure, unsure, edge = run(world, work)
    assert (sure.status, unsure.status) == ("decided", "pending")
    assert edge.status == "pending", "0.9 is below 0.9 as float32 only if the log says so"
    assert unsure.prediction == Prediction("big", 0.7)
    assert [r["route"] for r in world.rows()] == ["auto", "pending", "pending"]


@pytest.mark.parametrize("blind", [0.0, 1.0])
def test_assist_shows_the_answer_except_where_the_reviewer_is_blind(tmp_path: Path, blind: float) -> None:
    world = World(tmp_path)
    world.at(Level.ASSIST, blind=blind)

    async def work(core: Core) -> tuple[Answer, Answer]:
        first = await core.predict(ask())
        return first, await core.decision("", first.id, 0)

    for answer in run(world, work):
        assert answer.status == "pending"
        assert (answer.prediction is None) == bool(blind)
    (row,) = world.rows()
    assert (row["value"], row["blind"]) == ('"big"', bool(blind)), "the log knows it in any case"


@pytest.mark.parametrize("level", [Level.HUMAN_ONLY, Level.SHADOW])
def test_up_to_shadow_the_models_answer_is_returned_by_no_call(tmp_path: Path, level: Level) -> None:
    world = World(tmp_path, workers=2)
    world.at(level)

    async def work(core: Core) -> list[Answer]:
        other = await world.ready(world.core(1))
        first = await core.predict(ask(key="k"))
        await shadowed(core)
        again = await core.predict(ask(key="k"))
        return [first, again, await other.predict(ask(key="k")), await other.decision("", first.id, 0)]

    for answer in run(world, work):
        assert (answer.status, answer.decision, answer.prediction) == ("pending", None, None)
        assert b"big" not in msgspec.json.encode(answer)
    (row,) = world.rows()
    assert (row["value"], row["version"], row["status"]) == (None, None, "not_run")
    shadows = world.rows("shadows")
    assert [s["value"] for s in shadows] == (['"big"'] if level == Level.SHADOW else [])
    if shadows:
        assert (shadows[0]["run"], shadows[0]["seq"]) == (row["run"], row["seq"])


def test_a_lapsed_certificate_and_a_lost_controller_end_automation(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(NUMBER, serve=Serve(on_controller_lost=Lost(hold=10)))
    world = World(tmp_path, spec=spec)
    world.at(Level.PARTIAL, thresholds=THRESHOLDS, valid_until_ns=world.clock.now_ns() + 5_000_000_000)

    async def work(core: Core) -> None:
        assert (await core.predict(ask(6))).status == "decided"
        world.clock.advance(6)  # type: ignore[attr-defined]
        lapsed = await core.predict(ask(6))
        assert (lapsed.status, lapsed.degraded) == ("pending", False)
        world.at(Level.FULL)
        assert (await core.predict(ask(6))).status == "decided"
        world.clock.advance(6)  # type: ignore[attr-defined]
        lost = await core.predict(ask(6))
        assert (lost.status, lost.degraded) == ("pending", True)
        world.page.controller_ns = world.clock.now_ns()
        assert (await core.predict(ask(6))).status == "decided", "the controller is back"

    run(world, work)
    assert [r["degraded"] for r in world.rows()] == [False, False, False, True, False]


def test_audits_are_drawn_before_the_answer_and_logged(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.PARTIAL, thresholds=THRESHOLDS, audit=0.5)

    async def work(core: Core) -> None:
        for n in range(60):
            await core.predict(ask(6 if n % 2 else 2))

    run(world, work)
    rows = world.rows()
    assert {r["route"] for r in rows if r["audited"]} == {"auto"}
    for route in ("auto", "pending"):
        drawn = [r["lottery"] for r in rows if r["route"] == route]
        assert any(drawn), route
        assert not all(drawn), route
    assert all(r["audit_prob"] == 0.5 for r in rows)
    assert all(r["blind"] for r in rows if r["lottery"])


# Refusals


REFUSALS: list[tuple[bytes, str, int, str]] = [
    (b'{"a": 1', "application/json", 422, "invalid_json"),
    (b'{"a": "x"}', "application/json", 422, "wrong_type"),
    (b"{}", "application/json", 422, "missing_field"),
    (b"abc", "image/png", 415, "unsupported_media_type"),
]


@pytest.mark.parametrize(("body", "media_type", "status", "code"), REFUSALS)
def test_a_refused_request_is_a_row_with_its_reason(
    tmp_path: Path, body: bytes, media_type: str, status: int, code: str
) -> None:
    world = World(tmp_path)
    world.at(Level.FULL)

    async def work(core: Core) -> CaseError:
        with pytest.raises(CaseError) as caught:
            await core.predict(Ask(endpoint="e", body=body, media_type=media_type))
        return caught.value

    error = run(world, work)
    (row,) = world.rows()
    assert (row["route"], row["status"], row["by"]) == ("refused", "refused", "nobody")
    assert row["reason"] == f"{error.code}: {error.message}"
    assert error.status == status
    assert error.code == code


def test_the_gate_comes_first_then_size_then_the_queue(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(NUMBER, serve=Serve(max_body=100, max_queue=0.5))
    world = World(tmp_path, spec=spec)
    world.at(Level.FULL)

    async def work(core: Core) -> None:
        async def refused(kind: type[TenureError], **options: Any) -> Any:
            with pytest.raises(kind) as caught:
                await core.predict(msgspec.structs.replace(ask(), **options))
            return caught.value

        assert (await refused(MissingError, endpoint="x")).code == "unknown_endpoint"
        assert (await refused(CaseError, body=b" " * 101)).status == 413
        core._fleet.queued_us = lambda: 700_000.0  # type: ignore[method-assign]
        busy = await refused(BusyError)
        assert (busy.status, busy.code, busy.retry_after) == (503, "overloaded", 0.7)

        def nobody(token: str) -> None:
            raise AccessError("no", status=401)

        core._may = nobody
        assert (await refused(AccessError, endpoint="x")).status == 401, "who may not call learns nothing else"

    run(world, work)


def test_ids_of_others_are_unknown(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.FULL)

    async def work(core: Core) -> None:
        forged = encode_id(1, 1, b"another key of 32 bytes.........")
        absent = encode_id(1, 1, SECRET)
        for bad in (forged, absent, "", "zzz", "é" * 29, "a" * 10_000):
            with pytest.raises(MissingError):
                await core.decision("", bad, 0)
            with pytest.raises(MissingError):
                await core.feedback("", bad, "truth", "big")

    run(world, work)


def test_guard_tells_apart_the_unknown_and_the_forbidden() -> None:
    class Principal:
        name, role = "ann", "reviewer"

        def may(self, action: str) -> bool:
            return False

    gate = guard(lambda token: Principal() if token == "known" else None, open_loopback=False)
    for token, status in (("", 401), ("other", 401), ("known", 403)):
        with pytest.raises(AccessError) as caught:
            gate(token)
        assert caught.value.status == status
    open_gate = guard(lambda token: None, open_loopback=True)
    open_gate("")
    with pytest.raises(AccessError):
        open_gate("wrong")


# Decisions of people and of the fallback


def test_a_persons_decision_reaches_the_one_who_waits(tmp_path: Path) -> None:
    world = World(tmp_path, workers=2)
    world.at(Level.HUMAN_ONLY)

    async def work(core: Core) -> None:
        other = await world.ready(world.core(1))
        answer = await core.predict(ask())
        waiting = [asyncio.create_task(c.decision("", answer.id, 30)) for c in (core, other)]
        held = asyncio.create_task(core.predict(ask(key="k", wait_s=30)))
        while len(world.rows()) != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        row = world.rows()[1]
        world.decide([(*key_of(answer), "big"), (row["run"], row["seq"], "small")])
        while not all(t.done() for t in (*waiting, held)):
            core.poll()
            other.poll()
            await asyncio.sleep(0.001)
        for task in waiting:
            got = task.result()
            assert (got.status, got.decision.value, got.decision.by) == ("decided", "big", "person")
        assert held.result().decision.value == "small"

    run(world, work)


def test_the_first_decision_in_the_log_stands(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.HUMAN_ONLY)

    async def work(core: Core) -> None:
        answer = await core.predict(ask())
        key = key_of(answer)
        world.decide([(*key, "big")])
        core.poll()
        world.decide([(*key, "small")])
        core.poll()
        got = await core.decision("", answer.id, 0)
        assert got.decision is not None
        assert got.decision.value == "big"

    run(world, work)


def test_at_the_deadline_the_fallback_decides_exactly_once(tmp_path: Path) -> None:
    world = World(tmp_path, spec=FALLBACK)
    world.at(Level.HUMAN_ONLY)

    async def work(core: Core) -> list[Answer]:
        first = await core.predict(ask())
        assert first.deadline is not None
        waited = await core.decision("", first.id, 30)
        world.clock.advance(1)  # type: ignore[attr-defined]
        world.decide([(*key_of(first), "big")])  # too late, whoever sends it
        core.poll()
        return [waited, await core.decision("", first.id, 0), await core.predict(ask(key="k", wait_s=30))]

    *answers, held = run(world, work)
    for answer in (*answers, held):
        assert (answer.status, answer.decision.value, answer.decision.by) == ("decided", "small", "fallback")
    by_fallback = [d for d in world.rows("decisions", "t_ns") if d["by"] == "fallback"]
    assert len({(d["run"], d["seq"]) for d in by_fallback}) == len(by_fallback) == 2
    assert world.page.slot(0).get("fallback") == 2


def test_a_judgement_before_the_deadline_leaves_the_fallback_nothing_to_do(tmp_path: Path) -> None:
    world = World(tmp_path, spec=FALLBACK)
    world.at(Level.HUMAN_ONLY)

    async def work(core: Core) -> Answer:
        first = await core.predict(ask())
        world.decide([(*key_of(first), "big")])
        timer = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.08, timer.set_result, None)
        await timer  # the fallback's own timer, set before, has fired by then
        return await core.decision("", first.id, 0)

    answer = run(world, work)
    assert answer.decision is not None
    assert (answer.decision.value, answer.decision.by) == ("big", "person")
    assert [d["by"] for d in world.rows("decisions", "t_ns")] == ["person"]


def test_another_worker_knows_the_fallback_of_one_that_died(tmp_path: Path) -> None:
    world = World(tmp_path, spec=FALLBACK, workers=2)
    world.at(Level.HUMAN_ONLY)

    async def work(core: Core) -> None:
        other = await world.ready(world.core(1))
        first = await core.predict(ask())
        core.pending._fall_back = lambda *args: None  # type: ignore[method-assign]  # it died before its timer
        world.clock.advance(1)  # type: ignore[attr-defined]
        got = await other.decision("", first.id, 0)
        assert got.decision is not None
        assert (got.decision.value, got.decision.by) == ("small", "fallback")

    run(world, work)


# Feedback, shadows, payloads


def test_feedback_is_an_outcome_row(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.FULL)

    async def work(core: Core) -> None:
        answer = await core.predict(ask())
        for kind, value in (("truth", "small"), ("click", True), ("redo", None)):
            await core.feedback("", answer.id, kind, value)

    run(world, work)
    assert [(o["kind"], o["value"]) for o in world.rows("outcomes", "t_ns, kind desc")] == [
        ("truth", '"small"'), ("redo", None), ("click", "true"),
    ]  # fmt: skip


def test_shadows_answer_after_the_reply_and_never_harm_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish(Endpoint("m@1", Policy(1, Level.FULL), shadows=("s@1", "broken@1"), shadow=1.0))

    async def work(core: Core) -> Answer:
        answer = await core.predict(ask())
        assert core._slot.get("shadows") == 0
        await shadowed(core)
        return answer

    assert run(world, work).decision.version == "m@1"
    (shadow,) = world.rows("shadows")
    assert (shadow["version"], shadow["value"]) == ("s@1", '"big"')


def test_shadow_work_beyond_the_bound_is_shed_and_counted(tmp_path: Path) -> None:
    world = World(
        tmp_path, settings=msgspec.structs.replace(World.__init__.__kwdefaults__["settings"], shadow_queue=3)
    )
    world.publish(Endpoint("m@1", Policy(1, Level.FULL), shadows=("s@1",)))

    async def work(core: Core) -> None:
        await asyncio.gather(*(core.predict(ask()) for _ in range(10)))
        await shadowed(core)

    run(world, work)
    slot = world.page.slot(0)
    assert slot.get("shadows") + slot.get("shadows_shed") == 10
    assert slot.get("shadows_shed") > 0
    assert len(world.rows("shadows")) == slot.get("shadows")


def test_pending_photos_are_always_kept_and_automated_ones_by_policy(tmp_path: Path) -> None:
    def grey(image: Image) -> Prediction:
        return Prediction("big" if image.pixels.mean() > 100 else "small", 0.99)

    spec = EndpointSpec(input="image", output=LABELS)
    spec = msgspec.structs.replace(
        spec,
        log=msgspec.structs.replace(spec.log, payloads=msgspec.structs.replace(spec.log.payloads, sample=0.0)),
    )
    world = World(tmp_path, spec=spec, load=lambda v: Pipeline([("grey", adapt(grey))], output=LABELS))
    world.at(Level.HUMAN_ONLY)
    out = io.BytesIO()
    Pillow.fromarray(np.full((8, 8), 200, np.uint8)).save(out, "PNG")

    async def work(core: Core) -> None:
        for level in (Level.HUMAN_ONLY, Level.FULL):
            world.at(level, audit=0.0)
            await world.ready(core)
            await core.predict(Ask(endpoint="e", body=out.getvalue(), media_type="image/png"))

    run(world, work)
    assert [(r["route"], r["payload"]) for r in world.rows()] == [("pending", True), ("auto", False)]
    first = world.rows()[0]
    assert world.log.payload(first["run"], first["seq"]) == ("image/png", out.getvalue())


def test_an_expired_request_goes_to_people_without_a_model_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.FULL)

    async def work(core: Core) -> Answer:
        take = core.shed

        def slow(*args: Any) -> None:
            take(*args)
            world.clock.advance(1)  # type: ignore[attr-defined]

        core.shed = slow  # type: ignore[method-assign]
        return await core.predict(ask(deadline_s=0.5))

    assert run(world, work).status == "pending"
    assert world.rows()[0]["status"] == "expired"


def test_units_are_logged_by_hash_and_by_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish(Endpoint("m@1", Policy(1, Level.FULL), candidate="m@2", share=0.5, assign="unit"))

    async def work(core: Core) -> None:
        for n in range(40):
            await core.predict(ask(unit=f"u{n % 8}"))

    run(world, work)
    rows = world.rows()
    by_unit = {unit: {r["version"] for r in rows if r["unit"] == unit} for unit in {r["unit"] for r in rows}}
    assert all(len(versions) == 1 for versions in by_unit.values())
    assert len({r["unit_hash"] for r in rows}) == 8
    assert {r["version"] for r in rows} == {"m@1", "m@2"}
    assert {(r["role"], r["share"]) for r in rows} == {("stable", 0.5), ("candidate", 0.5)}
