"""Claims of idempotency keys: one winner among threads, processes and the dead's heirs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serving_world import NUMBER, World, ask

from tenure.deploy.serving.predict.idempotency import Claim, Claims
from tenure.errors import BusyError, CaseError, ConflictError, StoreError
from tenure.types import Level

RACE = """
import sys
from pathlib import Path
from tenure.deploy.serving.predict.idempotency import Claims
claims, run = Claims(Path(sys.argv[1])), int(sys.argv[2])
sys.stdin.readline()
print(sum(claims.claim("e", f"k{n}", b"x", run=run, seq=n).mine for n in range(200)))
"""


def test_one_of_many_threads_wins_and_all_see_the_winner(tmp_path: Path) -> None:
    claims, start = Claims(tmp_path), threading.Barrier(8)

    def race(run: int) -> Claim:
        start.wait()
        return claims.claim("e", "k", b"body", run=run, seq=run)

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(race, range(1, 9)))
    (winner,) = [c for c in got if c.mine]
    assert {(c.run, c.seq) for c in got} == {(winner.run, winner.seq)}
    assert [p.name[0] for p in (tmp_path / "idempotency").glob("??/*")].count(".") == 0, "no leftovers"


def test_each_key_has_one_winner_among_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    racers = [
        subprocess.Popen([*command, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for run in (1, 2, 3)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert sum(int(racer.communicate()[0]) for racer in racers) == 200


def test_another_body_under_the_same_key_is_a_mismatch(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.claim("e", "k", b"one", run=1, seq=1)
    with pytest.raises(ConflictError) as caught:
        claims.claim("e", "k", b"two", run=1, seq=2)
    assert (caught.value.code, caught.value.status) == ("idempotency_mismatch", 409)
    assert claims.claim("f", "k", b"two", run=1, seq=3).mine, "keys are per endpoint"


def test_a_released_key_may_be_used_again(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.claim("e", "k", b"one", run=1, seq=1)
    claims.release("e", "k")
    assert claims.claim("e", "k", b"two", run=1, seq=2).mine


def test_one_heir_takes_a_dead_claim_over(tmp_path: Path) -> None:
    claims, start = Claims(tmp_path), threading.Barrier(6)
    old = claims.claim("e", "k", b"body", run=1, seq=1)

    def take(run: int) -> Claim:
        start.wait()
        return claims.take_over("e", "k", old, run=run, seq=run)

    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(take, range(2, 8)))
    (heir,) = [c for c in got if c.mine]
    assert {(c.run, c.seq) for c in got} == {(heir.run, heir.seq)}
    assert claims.claim("e", "k", b"body", run=9, seq=9).run == heir.run


def test_old_claims_are_forgotten(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    for key in ("old", "new"):
        claims.claim("e", key, b"", run=1, seq=1)
    os.utime(claims._path("e", "old"), (1000, 1000))
    now = os.stat(claims._path("e", "new")).st_mtime
    gone = tmp_path / "idempotency" / "00" / "given up by a worker after it was listed"
    gone.parent.mkdir(exist_ok=True)
    gone.symlink_to(tmp_path / "nowhere")
    assert claims.forget(86_400, now) == 1
    assert claims.claim("e", "old", b"", run=2, seq=2).mine
    assert not claims.claim("e", "new", b"", run=2, seq=2).mine


def test_a_claim_that_cannot_be_kept_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "idempotency").write_text("a file where the folder belongs")
    with pytest.raises(StoreError, match="cannot keep the key"):
        Claims(tmp_path).claim("e", "k", b"", run=1, seq=1)


# The core's use of them: two workers in one process


def test_a_retry_gets_the_first_answer_from_any_worker(tmp_path: Path) -> None:
    world = World(tmp_path, workers=2)
    world.at(Level.FULL)

    async def work() -> None:
        one, two = [await world.ready(world.core(i)) for i in (0, 1)]
        first = await one.predict(ask(2.2, key="k"))
        assert await one.predict(ask(2.2, key="k")) == first
        assert await two.predict(ask(2.2, key="k")) == first, "confidence and all, though it is read from the log"
        with pytest.raises(ConflictError):
            await two.predict(ask(7, key="k"))

    asyncio.run(work())
    assert len(world.rows()) == 1
    world.close()


def test_concurrent_retries_are_one_request(tmp_path: Path) -> None:
    world = World(tmp_path, workers=2)
    world.at(Level.FULL)

    async def work() -> set[str]:
        cores = [await world.ready(world.core(i)) for i in (0, 1)]
        answers = await asyncio.gather(*(cores[n % 2].predict(ask(2, key="k")) for n in range(10)))
        return {a.id for a in answers}

    assert len(asyncio.run(work())) == 1
    assert len(world.rows()) == 1
    world.close()


def test_a_worker_that_died_before_it_logged_is_answered_for(tmp_path: Path) -> None:
    world = World(tmp_path, workers=2)
    world.at(Level.FULL)

    async def work() -> None:
        heir = await world.ready(world.core(1))
        world.page.slot(0).begin(run=99, pid=1)
        Claims(tmp_path).claim("e", "k", ask(2).body, run=99, seq=5)
        world.page.slot(0).state = "dead"
        answer = await heir.predict(ask(2, key="k"))
        assert answer.status == "decided"
        assert (await heir.predict(ask(2, key="k"))).id == answer.id

    asyncio.run(work())
    assert len(world.rows()) == 1
    world.close()


def test_a_worker_that_died_after_it_logged_is_not_answered_for_twice(tmp_path: Path) -> None:
    world = World(tmp_path, workers=2)
    world.at(Level.FULL)

    async def work() -> None:
        dead = await world.ready(world.core(0))
        first = await dead.predict(ask(2, key="k"))
        world.page.slot(0).state = "dead"
        heir = await world.ready(world.core(1))
        assert (await heir.predict(ask(2, key="k"))).id == first.id

    asyncio.run(work())
    assert len(world.rows()) == 1
    world.close()


def test_a_retry_waits_for_a_living_worker_and_then_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, workers=2)
    world.at(Level.FULL)

    async def work() -> None:
        core = await world.ready(world.core(1))
        world.page.slot(0).begin(run=99, pid=1)
        world.page.slot(0).state = "ready"
        Claims(tmp_path).claim("e", "k", ask(2).body, run=99, seq=5)
        with pytest.raises(ConflictError) as caught:
            await core.predict(ask(2, key="k"))
        assert caught.value.code == "in_progress"

    asyncio.run(work())
    assert world.rows() == []
    world.close()


def test_an_heir_that_is_refused_gives_the_key_up_again(tmp_path: Path) -> None:
    world = World(tmp_path, workers=2)

    async def work() -> None:
        heir = world.core(1)
        Claims(tmp_path).claim("e", "k", ask(2).body, run=99, seq=5)
        with pytest.raises(BusyError):
            await heir.predict(ask(2, key="k"))
        world.at(Level.FULL)
        await world.ready(heir)
        assert (await heir.predict(ask(2, key="k"))).status == "decided"

    asyncio.run(work())
    world.close()


def test_a_refused_case_gives_its_key_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.at(Level.FULL)

    async def work() -> None:
        core = await world.ready(world.core())
        with pytest.raises(CaseError):
            await core.predict(ask("no number", key="k"))
        assert (await core.predict(ask(2, key="k"))).status == "decided"

    asyncio.run(work())
    assert [r["route"] for r in world.rows()] == ["refused", "auto"]
    world.close()


def test_a_client_that_hangs_up_leaves_its_key_to_the_logged_answer(tmp_path: Path) -> None:
    """Cancelled while the row is being written: the row is in the log, so its key stays."""
    world = World(tmp_path, workers=2)
    world.at(Level.FULL)

    async def work() -> None:
        core = await world.ready(world.core())
        append = core._journal.append_rows

        def hang_up(*args: Any, **options: Any) -> None:
            append(*args, **options)
            task.cancel()

        core._journal.append_rows = hang_up  # type: ignore[method-assign]
        task = asyncio.create_task(core.predict(ask(2, key="k")))
        with pytest.raises(asyncio.CancelledError):
            await task
        core._journal.append_rows = append  # type: ignore[method-assign]
        other = await world.ready(world.core(1))
        ids = {(await c.predict(ask(2, key="k"))).id for c in (core, other)}
        assert len(ids) == 1

    asyncio.run(work())
    assert len(world.rows()) == 1
    world.close()


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_keys_have_1_to_255_characters(tmp_path: Path, key: str) -> None:
    world = World(tmp_path)
    world.at(Level.FULL)

    async def work() -> None:
        core = await world.ready(world.core())
        with pytest.raises(CaseError) as caught:
            await core.predict(ask(2, key=key))
        assert (caught.value.status, caught.value.at) == (400, "Idempotency-Key")

    asyncio.run(work())
    world.close()


def test_a_pending_answer_repeated_elsewhere_is_the_same(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(NUMBER)
    world = World(tmp_path, spec=spec, workers=2)
    world.at(Level.ASSIST, blind=0.0)

    async def work() -> None:
        one, two = [await world.ready(world.core(i)) for i in (0, 1)]
        first = await one.predict(ask(2.3, key="k"))
        assert first.status == "pending"
        assert first.prediction is not None
        assert await two.predict(ask(2.3, key="k")) == first

    asyncio.run(work())
    world.close()
