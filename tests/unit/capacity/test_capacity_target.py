"""Whom to load, with what, and on a copy of what."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from capacity_server import serving

from tenure import system
from tenure.clock import ManualClock
from tenure.data import tables as t
from tenure.data.schema import InputSchema
from tenure.data.state import State
from tenure.deploy.capacity import samples, trial
from tenure.deploy.capacity.target import Target, ask_once, parse, refuse_remote, running
from tenure.deploy.rollout.ledger import Rollouts
from tenure.deploy.serving.processes import supervisor
from tenure.errors import AccessError, BusyError, CaseError, ConflictError, MissingError
from tenure.model.bundle import Sample
from tenure.model.registry import Registry
from tenure.scope.project import (
    AlarmSpec,
    Automation,
    EndpointSpec,
    Field,
    Monitor,
    Output,
    Project,
    Retrain,
    Scope,
    Server,
)

SPEC = EndpointSpec(
    input="record",
    fields={"a": Field(type="float")},
    automation=Automation(start="assist", errors=0.1),
    monitor=Monitor(webhook="http://example.test/", alarms=(AlarmSpec(do=("rollback", "drop_level")),)),
    retrain=Retrain(command="python train.py", auto_train=True),
)


def answer(row: dict) -> str:  # type: ignore[type-arg]
    return "yes" if row["a"] > 1 else "no"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(
        project="trial", root=str(tmp_path), scope=Scope(y=Output(labels=("yes", "no"))),
        endpoints={"sizes": SPEC}, server=Server(host="0.0.0.0", port=8700, workers=3),
    )  # fmt: skip
    system.prepare(made.folder())
    return system.resolved(made)


@pytest.fixture
def opened(project: Project) -> State:
    return State.open(project.folder() / "state.db", ManualClock())


@pytest.fixture
def version(project: Project, opened: State) -> str:
    made = Registry(opened, project.folder()).register(
        "sizes", answer, spec=SPEC, output=project.output("sizes"), sample={"a": 2.0}
    )
    with opened.begin() as conn:
        Rollouts(opened, project.endpoints).set_stable(conn, "sizes", made, "test")
    return made


@pytest.mark.parametrize(
    ("url", "address", "loopback"),
    [
        ("http://127.0.0.1:8700", "127.0.0.1:8700", True),
        ("localhost:80/", "localhost:80", True),
        ("http://[::1]:8700/models/", "[::1]:8700", True),
        ("https://example.test", "example.test:443", False),
        ("http://10.0.0.5:8700", "10.0.0.5:8700", False),
        ("http://127.0.0.1.example.test:1", "127.0.0.1.example.test:1", False),
    ],
)
def test_a_remote_target_needs_a_word(url: str, address: str, loopback: bool) -> None:
    target = parse(url)
    assert (target.address, target.is_loopback()) == (address, loopback)
    refuse_remote(target, allowed=True)
    if loopback:
        refuse_remote(target, allowed=False)
        return
    with pytest.raises(AccessError, match="is an attack"):
        refuse_remote(target, allowed=False)


@pytest.mark.parametrize("url", ["ftp://a:1", "http://", "http://a:0x1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(CaseError, match="expected an address"):
        parse(url)


def test_a_token_cannot_smuggle_a_header() -> None:
    with pytest.raises(CaseError, match="printable"):
        parse("http://localhost:1", token="a\r\nX: y")


def test_the_first_request_must_be_answered() -> None:
    with serving() as (port, script):
        target = Target(host="127.0.0.1", port=port, prefix="/m", token="secret")
        ask_once(target, "x", Sample(b"ok", "text/plain"))
        with pytest.raises(CaseError, match="answered with 422"):
            ask_once(target, "x", Sample(b"bad", "text/plain"))
        with pytest.raises(BusyError, match="no answer"):
            ask_once(target, "x", Sample(b"drop", "text/plain"))
    head = script.heads[0]
    assert head.startswith(b"POST /m/v1/x/predict HTTP/1.1\r\n")
    assert b"Tenure-Unit: load-test" in head
    assert b"Authorization: Bearer secret" in head


def test_a_folder_without_a_server(project: Project) -> None:
    assert running(project.folder()) is None
    (project.folder() / "server.lock").touch()
    assert running(project.folder()) is None


def test_a_page_left_by_a_dead_server_is_no_server(project: Project) -> None:
    lock = supervisor.claim(project.folder())
    assert running(project.folder()) is None  # claimed, but no page yet
    import os

    os.close(lock)


def test_samples_of_lines_and_folders(tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [s.body for s in samples.of_path(lines)] == [b'{"a": 1}', b'{"a": 2}']
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "b.png").write_bytes(b"2")
    (folder / "a.jpg").write_bytes(b"1")
    (folder / ".hidden").write_bytes(b"0")
    assert samples.of_path(folder) == [Sample(b"1", "image/jpeg"), Sample(b"2", "image/png")]
    (tmp_path / "none.txt").touch()
    with pytest.raises(MissingError):
        samples.of_path(tmp_path / "none.txt")


def test_a_sample_that_the_endpoint_cannot_read_is_named() -> None:
    schema = InputSchema.of(SPEC)
    good = Sample(b'{"a": 1.0}', "application/json")
    samples.check([good], schema)
    with pytest.raises(CaseError, match="sample 2: "):
        samples.check([good, Sample(b'{"b": 1.0}', "application/json")], schema)


def test_requests_are_whole() -> None:
    (made,) = samples.as_requests(
        [Sample(b"\x00\r\n", "image/png")], endpoint="x", host="h:1", prefix="/m", token="secret"
    )
    assert made == (
        b"POST /m/v1/x/predict HTTP/1.1\r\nHost: h:1\r\n"
        b"Tenure-Unit: load-test\r\nAuthorization: Bearer secret\r\n"
        b"Content-Type: image/png\r\nContent-Length: 3\r\n\r\n\x00\r\n"
    )


def test_a_copy_has_the_routing_and_nothing_that_acts(project: Project, opened: State, version: str) -> None:
    with opened.begin() as conn:
        opened.audit(conn, actor="me", action="x", subject="y")
        conn.execute(
            t.levels.insert().values(
                endpoint="sizes",
                at_us=1,
                from_level="assist",
                to_level="shadow",
                author="me",
                cause="",
                numbers="{}",
            )
        )
    with trial.copied(project, opened, workers=2) as copy:
        assert copy.folder() != project.folder()
        assert (copy.server.host, copy.server.port, copy.server.workers) == ("127.0.0.1", 0, 2)
        spec = copy.endpoints["sizes"]
        assert spec.monitor.webhook is None
        assert spec.monitor.alarms[0].do == ("notify",)
        assert spec.retrain.command is None
        again = State.open(copy.folder() / "state.db", ManualClock())
        with again.read() as conn:
            assert Rollouts(again, copy.endpoints).routing(conn, "sizes").stable == version
            assert conn.execute(sa.select(t.levels.c.to_level)).scalars().all() == ["shadow"]
            assert conn.execute(sa.select(sa.func.count()).select_from(t.audit)).scalar() == 0
        assert Registry(again, copy.folder()).get(version).id == version
        again.close()
        kept = copy.folder()
    assert not kept.exists()
    assert (project.folder() / "bundles").is_dir()


def test_a_copy_at_another_level(project: Project, opened: State, version: str) -> None:
    made = trial.trial_project(project, project.folder() / "x", workers=None, level="full")
    assert made.server.workers == 3
    assert made.scope.case == "new"
    assert made.endpoints["sizes"].automation.start == "full"
    assert project.endpoints["sizes"].automation.start == "assist"


def test_nothing_in_force_is_nothing_to_test(project: Project, opened: State) -> None:
    with pytest.raises(ConflictError, match="no version is in force"), trial.copied(project, opened):
        pass
    with pytest.raises(MissingError, match="has no version"):
        trial.live_bundle(project, opened, "sizes")


def test_the_constant_answers_what_the_version_answers(project: Project, opened: State, version: str) -> None:
    with trial.with_constant(project, opened, "sizes") as copy:
        again = State.open(copy.folder() / "state.db", ManualClock())
        found = trial.live_bundle(copy, again, "sizes")
        again.close()
        assert found.manifest.expected.value == "yes"
        assert [s.name for s in found.manifest.stages] == ["constant"]
        assert (copy.server.workers, copy.endpoints["sizes"].automation.start) == (1, "full")
