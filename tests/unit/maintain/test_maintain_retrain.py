"""A run ends registered or failed with a reason, whatever the command does; real commands, real bundles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from maintain_world import World

from tenure.clock import ManualClock
from tenure.data.state import State, verify_audit
from tenure.errors import ConflictError, MissingError
from tenure.maintain import command, runs
from tenure.maintain.claim import Claim
from tenure.maintain.runs import Run
from tenure.maintain.snapshot import open_snapshot

GOOD_METRICS = "echo '{}' > $TENURE_OUTPUT/metrics.json"
GOOD_FILES = "mkdir $TENURE_OUTPUT/files; echo 0.5 > $TENURE_OUTPUT/files/limit.txt"


def done(world: World, command: str = "python train.py", **more: object) -> Run:
    retrainer = world.retrainer(command, **more)
    return retrainer.get(retrainer.run("phones", "asked", "ann", progress=world.lines.append))


def test_a_run_registers_a_version_with_where_it_came_from(world: World) -> None:
    parent = world.first_version()
    world.judged(40)
    run = done(world)
    assert (run.state, run.error) == ("registered", None)
    assert run.version is not None
    assert run.version != parent
    said = world.registry.describe(run.version).provenance
    snapshot = open_snapshot(world.data / "snapshots" / run.snapshot)
    assert said["snapshot_sha"] == snapshot.sha
    assert said["command"] == "python train.py"
    assert (said["parent"], said["run"], said["cause"]) == (parent, run.id, "asked")
    assert said["metrics"] == run.metrics["command"]
    assert run.metrics["command"]["rows"] == snapshot.manifest.train == 32
    assert run.metrics["command"]["parent"] == str(world.registry.get(parent).path)
    assert "to stderr" in run.log
    assert world.lines == run.log.splitlines()
    assert not list((world.data / "retrain" / "phones").iterdir())


def test_the_comparison_is_on_the_frozen_test_and_tells_both_errors(world: World) -> None:
    world.first_version(limit=0.9)
    world.judged(1100)
    found = done(world).metrics["comparison"]
    assert found["n"] == 220
    assert found["challenger_errors"] == 0
    assert found["champion_errors"] == found["c"] > 60
    assert found["verdict"] == "not worse"
    assert found["slices"]["defect"]["c"] == found["c"]
    assert world.deployed == []


def test_a_version_that_passed_is_deployed_where_the_project_wants_it(world: World) -> None:
    world.first_version(limit=0.9)
    world.judged(1100)
    run = done(world, auto_deploy=True)
    assert world.deployed == [("phones", run.version, f"retraining run {run.id} passed")]


def test_a_version_that_is_worse_is_registered_and_not_deployed(world: World) -> None:
    world.first_version(limit=0.5)
    world.judged(1100)
    command = f"{GOOD_METRICS}; mkdir $TENURE_OUTPUT/files; echo 0.8 > $TENURE_OUTPUT/files/limit.txt"
    run = done(world, command, auto_deploy=True)
    assert run.state == "registered"
    assert run.metrics["comparison"]["verdict"] == "not shown"
    assert run.metrics["comparison"]["slices"]["defect"]["verdict"] == "worse"
    assert "Worse on: defect" in run.metrics["verdict"]
    assert world.deployed == []


def test_the_next_version_on_the_same_cases_has_less_to_spend(world: World) -> None:
    world.first_version(limit=0.9)
    world.judged(1100)
    first = done(world).metrics["comparison"]
    second = done(
        world, f"{GOOD_METRICS}; mkdir $TENURE_OUTPUT/files; echo 0.6 > $TENURE_OUTPUT/files/limit.txt"
    ).metrics["comparison"]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert second["level"] == pytest.approx(first["level"] / 4)


def test_the_same_weights_again_are_no_new_version(world: World) -> None:
    parent = world.first_version(limit=0.5)
    world.judged(40)
    run = done(world, f"{GOOD_METRICS}; cp -r $TENURE_PARENT/files $TENURE_OUTPUT/files")
    assert (run.state, run.version) == ("registered", parent)
    assert "nothing changed" in run.metrics["verdict"]


def test_the_first_version_may_come_as_a_whole_bundle(world: World) -> None:
    world.judged(40)
    (world.root / "first.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from tenure.model.build import build\nfrom tenure.model.bundle import Sample\n"
        "from tenure.model.manifest import StageRef\n"
        "from tenure.scope.project import EndpointSpec, Field, Output\n"
        "out = Path(os.environ['TENURE_OUTPUT'])\n"
        "Path('limit.txt').write_text('0.5')\n"
        "build(out, endpoint='phones', name='limit', stages=[StageRef('limit', 'limits:Limit')],\n"
        "      sample=Sample(b'{\"x\": 0.5}', 'application/json'),\n"
        "      spec=EndpointSpec(input='record', fields={'x': Field(type='float')}),\n"
        "      output=Output(labels=('good', 'defect')), code=[Path('limits.py')], files=Path('limit.txt'),\n"
        "      pilot_scores={'good': [0.9, 0.8]})\n"
        "(out / 'metrics.json').write_text('{\"made\": 1}')\n"
    )
    run = done(world, "python first.py")
    assert (run.state, run.error) == ("registered", None)
    assert run.metrics["comparison"]["verdict"] == "no incumbent"
    assert world.registry.get(str(run.version)).manifest.pilot_scores == {"good": [0.9, 0.8]}


def test_pilot_scores_go_into_the_new_version(world: World) -> None:
    world.first_version()
    world.judged(40)
    scores = """echo '{"defect": [0.5, 1]}' > $TENURE_OUTPUT/pilot_scores.json"""
    run = done(world, f"{GOOD_METRICS}; {GOOD_FILES}; {scores}")
    assert world.registry.get(str(run.version)).manifest.pilot_scores == {"defect": [0.5, 1.0]}


def test_each_database_keeps_runs_snapshots_and_requests(
    tmp_path: Path, any_state: State, clock: ManualClock
) -> None:
    world = World(tmp_path, any_state, clock)
    world.first_version()
    retrainer = world.retrainer(auto_train=True, min_labels=10)
    with any_state.begin() as conn:
        retrainer.request(conn, "phones", "alarm 1")
    world.judged(20)
    with any_state.read() as conn:
        cause = retrainer.due(conn, "phones", any_state.now_us())
    assert cause == "alarm 1"
    run = retrainer.get(retrainer.run("phones", cause, "tenure"))
    assert (run.state, run.cause) == ("registered", "alarm 1")
    with any_state.read() as conn:
        assert retrainer.due(conn, "phones", any_state.now_us()) is None
        assert verify_audit(conn) is None


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo before; exit 3", "exited with code 3"),
        ("no-such-program", "command not found"),
        ("kill -KILL $$", "ended by SIGKILL; the system may be out of memory"),
        ("kill -TERM $$", "ended by SIGTERM"),
        ("true", "the folder is empty"),
        (GOOD_FILES, "no such file"),
        (GOOD_METRICS, "expected files/ with new weights"),
        (f"{GOOD_METRICS}; mkdir $TENURE_OUTPUT/files", "files/ is empty"),
        (f"{GOOD_FILES}; echo '[1]' > $TENURE_OUTPUT/metrics.json", "expected a JSON object, got a list"),
        (f"{GOOD_FILES}; echo '{{\"a\": NaN}}' > $TENURE_OUTPUT/metrics.json", "not valid JSON"),
        (f"{GOOD_FILES}; ln -s /etc/hostname $TENURE_OUTPUT/metrics.json", "no such file"),
        (f"{GOOD_METRICS}; {GOOD_FILES}; mkdir $TENURE_OUTPUT/bundle", "both files/ and a bundle"),
        (f"{GOOD_METRICS}; mkdir $TENURE_OUTPUT/bundle", "is not a bundle"),
        (f"{GOOD_METRICS}; mkdir -p $TENURE_OUTPUT/bundles/a $TENURE_OUTPUT/bundles/b", "holds 2 bundles"),
        (
            f"{GOOD_METRICS}; {GOOD_FILES}; echo '{{\"good\": [2]}}' > $TENURE_OUTPUT/pilot_scores.json",
            "a confidence is in [0, 1]",
        ),
        (
            f"{GOOD_METRICS}; {GOOD_FILES}; echo '{{\"good\": 2}}' > $TENURE_OUTPUT/pilot_scores.json",
            "expected label -> list",
        ),
        (f"{GOOD_METRICS}; mkdir $TENURE_OUTPUT/files; echo no > $TENURE_OUTPUT/files/limit.txt", "float"),
    ],
)
def test_a_command_that_breaks_the_contract_fails_with_a_reason(world: World, command: str, reason: str) -> None:
    world.first_version()
    world.judged(20)
    run = done(world, command)
    assert run.state == "failed"
    assert reason in str(run.error)
    assert run.log.splitlines()[-1] == f"failed: {run.error}"
    assert run.ended_us is not None
    assert len(world.registry.list("phones")) == 1


def test_files_need_a_version_whose_code_can_be_reused(world: World) -> None:
    world.judged(20)
    assert "must leave bundle/" in str(done(world, f"{GOOD_METRICS}; {GOOD_FILES}").error)


def test_without_labels_a_run_fails_before_the_command(world: World) -> None:
    world.first_version()
    assert "no resolved judgement" in str(done(world, "touch ran").error)
    assert not (world.root / "ran").exists()


def test_a_timeout_ends_the_whole_process_group(world: World) -> None:
    world.first_version()
    world.judged(20)
    run = done(world, "sleep 600 & echo $! > child; wait", timeout=3.0)
    assert "took longer than 3 s" in str(run.error)
    assert is_gone(int((world.root / "child").read_text()))


def test_a_child_left_in_the_background_is_ended(world: World) -> None:
    world.first_version()
    world.judged(20)
    run = done(world, f"{GOOD_METRICS}; {GOOD_FILES}; sleep 600 & echo $! > child")
    assert run.state == "registered"
    assert is_gone(int((world.root / "child").read_text()))


def test_the_last_200_lines_are_kept_and_bad_bytes_do_no_harm(world: World) -> None:
    world.first_version()
    world.judged(20)
    code = "import sys; [print(i) for i in range(500)]; sys.stdout.buffer.write(b'\\xff' * 9000)"
    run = done(world, f'python -c "{code}"; exit 1')
    lines = run.log.splitlines()
    assert len(lines) == 200
    assert "499" in lines
    assert "\ufffd" in run.log


def test_a_process_that_escapes_the_group_does_not_hold_the_run_up_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE_S", 0.2)
    world.judged(20)
    escaped = "setsid sh -c 'echo $$ > child; exec sleep 600' & while [ ! -s child ]; do sleep 0.01; done"
    run = done(world, f"{escaped}; exit 7")
    os.kill(int((world.root / "child").read_text()), signal.SIGKILL)
    assert "code 7" in str(run.error)


def test_a_command_that_ignores_a_polite_end_is_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "GRACE_S", 0.2)
    world.judged(20)
    run = done(world, "trap '' TERM; echo $$ > child; while true; do sleep 0.05; done", timeout=3.0)
    assert "was killed" in str(run.error)
    assert is_gone(int((world.root / "child").read_text()))


def test_a_command_that_changes_the_data_set_is_not_compared(world: World) -> None:
    world.first_version()
    world.judged(1100)
    run = done(world, f"{GOOD_METRICS}; {GOOD_FILES}; rm $TENURE_DATASET/index.jsonl", auto_deploy=True)
    assert run.state == "registered"
    assert "index.jsonl is not what the manifest says" in run.metrics["verdict"]
    assert world.deployed == []


def test_the_row_follows_the_output_while_the_command_runs(world: World) -> None:
    world.judged(20)
    seen: list[str] = []
    retrainer = world.retrainer("echo one; echo two; echo three; exit 1")

    def progress(_: str) -> None:
        world.clock.advance(2.0)
        (run,) = retrainer.history("phones")
        seen.append(run.log)

    retrainer.run("phones", "asked", "ann", progress=progress)
    assert any(text.endswith("one\ntwo") for text in seen)


def test_python_is_the_one_that_runs_tenure(world: World) -> None:
    world.judged(20)
    run = done(world, 'python -c "import sys; print(sys.prefix)"; exit 1')
    assert sys.prefix in run.log.splitlines()


def test_the_commit_is_noted_where_the_project_is_a_git_tree(world: World) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "train.py"], [*who, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=world.root, check=True)
    world.first_version()
    world.judged(20)
    said = world.registry.describe(str(done(world).version)).provenance
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=world.root, check=True, capture_output=True)
    assert (said["commit"], said["changed"]) == (head.stdout.decode().strip(), False)


def test_one_run_at_a_time(world: World) -> None:
    world.first_version()
    world.judged(20)
    os.mkfifo(world.root / "gate")
    retrainer = world.retrainer("cat gate; python train.py")
    run = retrainer.start("phones", "asked", "ann")
    for starter in (retrainer, world.retrainer()):
        with pytest.raises(ConflictError, match="being trained already"):
            starter.start("phones", "again", "bob")
    assert world.retrainer().recover() == []  # it is alive: another process's recovery leaves it alone
    (world.root / "gate").write_text("go\n")
    assert retrainer.wait(run, 60.0)
    assert retrainer.get(run).state == "registered"
    assert [r.id for r in retrainer.history("phones")] == [run]


def test_close_stops_what_runs(world: World) -> None:
    world.first_version()
    world.judged(20)
    os.mkfifo(world.root / "gate")
    retrainer = world.retrainer("echo $$ > gate; sleep 600")
    run = retrainer.start("phones", "asked", "ann")
    pid = int((world.root / "gate").read_text())
    retrainer.close()
    assert (retrainer.get(run).state, retrainer.get(run).error) == ("failed", "the command was stopped")
    assert is_gone(pid)


def test_a_run_whose_process_died_is_ended_with_its_command(world: World) -> None:
    """A process takes the claim, starts a command and is killed; the next start cleans up."""
    with world.state.begin() as conn:
        runs.open_run(conn, "r1", endpoint="phones", cause="asked", now_us=1)
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tenure.maintain.claim import Claim\n"
        "from tenure.maintain.command import Command\n"
        "claim = Claim.take(Path(sys.argv[1]), 'phones')\n"
        "command = Command('sleep 600', cwd=Path('.'), env={})\n"
        "claim.write(command.mark)\n"
        "print(command.mark.partition(':')[0], flush=True)\n"
        "time.sleep(600)\n"
    )
    folder = world.data / "retrain"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert world.retrainer().recover() == []
        assert psutil.pid_exists(pid)
        owner.kill()
        owner.wait()
    retrainer = world.retrainer()
    assert retrainer.recover() == ["r1"]
    assert (retrainer.get("r1").state, retrainer.get("r1").error) == ("failed", runs.CRASHED)
    assert is_gone(pid)
    assert retrainer.recover() == []


def test_a_crash_after_registering_keeps_the_version(world: World) -> None:
    with world.state.begin() as conn:
        runs.open_run(conn, "r1", endpoint="phones", cause="asked", now_us=1)
        runs.change(conn, "r1", state="trained", version="m@1")
    retrainer = world.retrainer()
    retrainer.recover()
    assert (retrainer.get("r1").state, retrainer.get("r1").version) == ("registered", "m@1")


def test_a_new_run_ends_what_a_crash_left(world: World) -> None:
    world.judged(20)
    with world.state.begin() as conn:
        runs.open_run(conn, "r1", endpoint="phones", cause="asked", now_us=1)
    retrainer = world.retrainer("exit 1")
    retrainer.run("phones", "asked", "ann")
    assert {r.state for r in retrainer.history("phones")} == {"failed"}


def test_without_a_command_or_endpoint_nothing_starts(world: World) -> None:
    with pytest.raises(ConflictError, match=r"set endpoints\.phones\.retrain\.command"):
        world.retrainer(None).start("phones", "asked", "ann")
    with pytest.raises(MissingError, match="no endpoint"):
        world.retrainer().start("cars", "asked", "ann")
    with pytest.raises(MissingError, match="no retraining run"):
        world.retrainer().get("r0")


def test_the_claim_is_free_after_an_error_in_opening(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    retrainer = world.retrainer()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "open_run", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            retrainer.start("phones", "asked", "ann")
    claim = Claim.take(world.data / "retrain", "phones")
    assert claim is not None
    claim.release()


def is_gone(pid: int) -> bool:
    """Say whether a process has ended (an unreaped one has); wait for it a little."""
    try:
        process = psutil.Process(pid)
        process.wait(60.0)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def test_paths_with_spaces_are_fine(world: World, tmp_path: Path) -> None:
    spaced = tmp_path / "my project"
    world.root = world.root.rename(spaced)
    world.first_version()
    world.judged(20)
    assert done(world).state == "registered"
