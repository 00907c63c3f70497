"""What a plan computes: costs, simulated capacity, log, people."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.records import Kind
from tenure.data.schema import InputSchema
from tenure.data.state import State
from tenure.deploy.capacity import people, samples, volume
from tenure.deploy.capacity.constant import Constant
from tenure.deploy.capacity.costs import Cost, batch_of, fit, measure
from tenure.deploy.capacity.forecast import Machine, Worker, enough, highest, keeps_up, shares, waits, worker
from tenure.deploy.serving.predict.journal import Journal
from tenure.model.answer import Scores
from tenure.model.bundle import Sample
from tenure.model.columns import Rows
from tenure.model.registry import Registry
from tenure.scope.project import (
    Audit,
    Automation,
    Budget,
    EndpointSpec,
    Field,
    LogSpec,
    Output,
    Payloads,
    Review,
    SecondReader,
    Trust,
)
from tenure.settings import Settings

RECORD = EndpointSpec(input="record", fields={"a": Field(type="float", min=0.0, max=3.0), "b": Field(type="int")})
BODY = Sample(b'{"a": 2.0, "b": 7}', "application/json")


def machine(item: float = 0.0, batch: float = 0.0, **options: object) -> Machine:
    told = {"request_s": 1e-4, "controller_s": 0.0, "sender_s": 0.0, "cores": 64, "inline": True} | options
    busy = float(told.pop("busy", 1.0))  # type: ignore[arg-type]
    return Machine(model=Cost(item=item, batch=batch, busy=busy), **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(("a", "b"), [(1e-3, 0.0), (1e-6, 1e-4), (0.0, 1e-3), (5e-3, 2e-2)])
def test_a_line_is_found_again(a: float, b: float) -> None:
    assert fit([(n, a * n + b) for n in (1, 8, 32, 64)]) == pytest.approx((a, b), abs=1e-12)


def test_costs_are_never_negative() -> None:
    assert fit([(1, 1.0), (8, 9.0), (64, 80.0)])[1] == 0.0
    item, batch = fit([(1, 2.0), (8, 1.5), (64, 1.0)])
    assert (item, batch) == (0.0, pytest.approx(1.5))


NOW = "TENURE_TEST_NOW_NS"
"""Where the stage below, which runs from its bundle's own copy of this file, and the clock meet."""


class StageClock(ManualClock):
    def monotonic_ns(self) -> int:
        return int(os.environ[NOW])


def slow(rows: list) -> list:  # type: ignore[type-arg]
    os.environ[NOW] = str(int(os.environ.get(NOW, "0")) + 2_000_000 + 1_000_000 * len(rows))
    return ["yes"] * len(rows)


def test_a_version_is_measured_as_the_server_runs_it(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOW, "0")
    registry = Registry(state, tmp_path)
    output = Output(labels=("yes", "no"))
    version = registry.register("it", slow, spec=RECORD, output=output, sample={"a": 2.0, "b": 7})
    cpu = iter(range(0, 10**12, 1_000_000))
    found = measure(registry.get(version), [BODY], clock=StageClock(), cpu_ns=lambda: next(cpu), trusted=Trust())
    assert (found.item, found.batch) == (pytest.approx(0.001), pytest.approx(0.002))
    assert found.points[3] == (64, pytest.approx(0.066))
    assert 0 < found.busy < 1
    assert not found.scores


def test_records_of_numbers_are_a_matrix_as_in_the_server() -> None:
    made = batch_of(InputSchema.of(RECORD), [BODY], 8)()
    assert isinstance(made, Rows)
    assert made.values.shape == (8, 2)
    text = batch_of(InputSchema.of(EndpointSpec(input="text")), [Sample(b"hello", "text/plain")], 3)()
    assert list(text) == ["hello"] * 3


def test_an_idle_worker_answers_in_its_own_time() -> None:
    assert waits(Worker(0.001, 0.004), rate=1.0) == pytest.approx(0.005, rel=0.05)


def test_the_simulation_agrees_with_queueing_theory() -> None:
    """Without a cost per batch the server is M/D/1, but that what it took together is answered together."""
    assert waits(Worker(0.001, 0.0), rate=1.0, count=2000) == pytest.approx(0.001, rel=0.05)
    half, most = waits(Worker(0.001, 0.0), rate=500), waits(Worker(0.001, 0.0), rate=950)
    assert 0.003 < half < 0.006
    assert most > 4 * half


def test_batches_carry_more_than_single_items() -> None:
    one = highest(machine(batch=0.01, request_s=0.0), workers=1, latency=0.2)
    assert one > 60 * 1 / 0.011  # 64 items in a batch, where one by one would be 100 a second
    assert one <= Worker(0.0, 0.01).most()


def test_a_slow_stage_is_limited_by_its_items() -> None:
    found = highest(machine(item=0.005, inline=False, busy=0.01), workers=1, latency=0.2)
    assert 180 < found < 200


def test_what_waits_in_a_thread_leaves_the_loop_free() -> None:
    waiting = machine(item=1e-4, inline=False, busy=0.0)
    burning = machine(item=1e-4, inline=False, busy=1.0)
    assert worker(waiting).most() == pytest.approx(1e4)
    assert worker(burning).most() == pytest.approx(5e3)
    assert worker(machine(item=1e-4)).most() == pytest.approx(5e3)


def test_a_latency_below_one_request_is_held_by_nothing() -> None:
    assert highest(machine(item=0.3), workers=4, latency=0.2) == 0.0
    assert enough(machine(item=0.3), rate=10, latency=0.2) == (0, 0)


def test_workers_share_the_cores_with_the_others() -> None:
    free = highest(machine(cores=64), workers=4, latency=0.2)
    tight = highest(machine(cores=2, controller_s=1e-4, sender_s=5e-5), workers=4, latency=0.2)
    assert free > 4 * 9_000
    assert tight < free / 2
    assert keeps_up(machine(controller_s=1e-4)) == pytest.approx(1e4)
    assert math.isinf(keeps_up(machine()))


def test_as_few_machines_and_workers_as_suffice() -> None:
    assert enough(machine(cores=4), rate=5_000, latency=0.2) == (1, 1)
    assert enough(machine(cores=4), rate=15_000, latency=0.2) == (1, 2)
    machines, workers = enough(machine(cores=4), rate=100_000, latency=0.2)
    assert machines == 3
    assert workers == 4


def test_the_scheduler_is_fair() -> None:
    assert shares([0.2, 1.0, 1.0], 2) == pytest.approx([0.2, 0.9, 0.9])
    assert shares([0.5, 0.5], 2) == [0.5, 0.5]
    assert sum(shares([1.0, 1.0, 1.0], 2)) == pytest.approx(2)


def test_log_bytes_are_those_of_the_segments(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "worker-0", settings=Settings(), clock=ManualClock())
    encoder = journal.prediction_encoder("it", stages=(), metrics=(), versions=())
    journal.close()
    assert encoder.schema.kind == Kind.PREDICTION
    assert volume.of_segments(tmp_path, "it") == volume.RowSize(0.0, 0.0)


def test_the_own_log_counts_once_it_is_large_enough(state: State) -> None:
    row = {"path": "a", "kind": 1, "endpoint": "it", "run": "1", "segment": "s", "first_seq": 0, "last_seq": 9}
    row |= {"bytes": 60_000, "sha256": "", "sealed_us": 1, "kind": int(Kind.PREDICTION)}
    with state.begin() as conn:
        conn.execute(t.log_files.insert().values(**row, rows=900))
        assert volume.of_log(conn, "it") == 0.0
        conn.execute(sa.update(t.log_files).values(rows=1200))
        assert volume.of_log(conn, "it") == 50.0
        assert volume.of_log(conn, "other") == 0.0


def test_which_inputs_are_kept() -> None:
    automation = Automation(audit=Audit(steady=0.1))
    photo = EndpointSpec(input="image", automation=automation)
    assert volume.kept_share(photo, 0.0) == 1.0
    assert volume.kept_share(photo, 1.0) == pytest.approx(0.1 + 0.9 * 0.1)
    everything = EndpointSpec(input="image", log=LogSpec(payloads=Payloads(keep=("all",))))
    assert volume.kept_share(everything, 1.0) == 1.0
    assert volume.kept_share(RECORD, 0.0) == 0.0


def test_people_by_the_file() -> None:
    spec = EndpointSpec(input="image", automation=Automation(audit=Audit(steady=0.2)))
    assert people.reviewed_share(spec, 0.9) == pytest.approx(0.1 + 0.9 * 0.2)
    assert people.readings_of(spec) == pytest.approx(1 + 0.05 + 0.95 * 0.05)
    two = EndpointSpec(input="image", review=Review(readers=2, second_reader=SecondReader()))
    assert people.readings_of(two) == 2
    found = people.need(per_second=0.1, readings=1.5, seconds=12.0, budget=Budget(people=2))
    assert (found.per_hour, found.people, found.budget_per_hour) == (
        pytest.approx(540),
        pytest.approx(1.8),
        600.0,
    )
    assert found.is_enough is True
    assert (
        people.need(per_second=1, readings=1, seconds=9, budget=Budget(reviews_per_hour=100)).is_enough is False
    )
    assert people.need(per_second=1, readings=1, seconds=9, budget=Budget()).is_enough is None


def test_varied_records_stay_valid_and_differ() -> None:
    schema = InputSchema.of(RECORD)
    made = samples.varied([BODY], schema, count=50)
    samples.check(made, schema)
    assert len({sample.body for sample in made}) > 30
    assert all(b'"b":7' in sample.body for sample in made)


def test_the_constant_answers_in_columns_where_the_version_does() -> None:
    answer = {"value": "yes", "confidence": 0.75, "probabilities": {"yes": 0.75, "no": 0.25}}
    plain, columns = Constant(answer).predict([1, 2]), Constant(answer, scores=True).predict([1, 2])
    assert isinstance(columns, Scores)
    assert list(columns) == list(plain)
    assert np.allclose(columns.probabilities, [[0.75, 0.25]] * 2)
