"""Each command on a real data folder, without a server."""

from __future__ import annotations

import pytest
from cli_shell import Shell


def test_without_a_project_a_command_says_what_to_do(tenure: Shell) -> None:
    said = tenure("check")
    assert (said.code, said.out) == (2, "")
    assert "`tenure init` writes a project file" in said.err
    assert len(said.err.splitlines()) == 1


def test_init_writes_a_project_without_faults_and_tokens_for_each_role(tenure: Shell) -> None:
    said = tenure("init", "shop", "--kind", "record")
    assert said.code == 0
    roles = [line.split()[0] for line in said.out.splitlines()[1:5]]
    assert roles == ["client", "reviewer", "operator", "viewer"]
    assert tenure("check", "-p", "shop/tenure.yaml").out.startswith("shop: no faults")
    assert len(tenure("token", "list", "-p", "shop/tenure.yaml", "--json").json()) == 4
    again = tenure("init", "shop")
    assert (again.code, "is there already" in again.err) == (2, True)


def test_check_names_every_fault_with_its_line(tenure: Shell) -> None:
    (tenure.folder / "tenure.yaml").write_text(
        "tenure: 1\nproject: a\nscopes: {}\nendpoints:\n  a: {input: picture}\n"
    )
    said = tenure("check")
    assert said.code == 2
    assert [line.split(" ")[0] for line in said.err.splitlines()] == ["tenure.yaml:3:", "tenure.yaml:5:"]


def test_the_first_version_is_live_and_the_next_is_not(mail: Shell) -> None:
    second = mail("register", "my:Stricter", "-s", "Win!", "--json").json()["version"]
    states = {v["id"]: v["state"] for v in mail("versions", "--json").json()}
    assert list(states.values()) == ["live", "registered"]
    assert states[second] == "registered"
    assert second in mail("versions").out


def test_register_without_a_project_file_needs_the_code_and_the_endpoint(tenure: Shell) -> None:
    (tenure.folder / "my.py").write_text("def double(r: dict) -> float:\n    return r['a'] * 2\n")
    (tenure.folder / "sample.json").write_text('{"a": 1}')
    assert "which endpoint?" in tenure("register", "-s", "sample.json").err
    assert "what does an input look like?" in tenure("register", "my:double", "-e", "prices").err
    assert "what is to be registered?" in tenure("register", "-s", "sample.json", "-e", "prices").err
    assert "no nothing.py" in tenure("register", "nothing:X", "-s", "sample.json", "-e", "prices").err
    assert "my has no 'X'" in tenure("register", "my:X", "-s", "sample.json", "-e", "prices").err
    assert tenure("register", "my:double", "-s", "sample.json", "-e", "prices").out.startswith("double@")
    assert tenure("check").out.startswith("local: no faults")


def test_tokens_are_made_listed_and_revoked(mail: Shell) -> None:
    token = mail("token", "create", "line-1").out.strip()
    assert token.startswith("tc_")
    assert mail("token", "create", "line-1").code == 2
    assert mail("token", "revoke", "line-1").out == "revoked the token of line-1\n"
    listed = mail("token", "list", "--json").json()
    assert listed[0]["name"] == "line-1"
    assert listed[0]["revoked_us"] is not None
    assert token not in mail("token", "list").out


def test_levels_go_up_by_evidence_and_down_at_once(mail: Shell) -> None:
    assert mail("level", "show").out.startswith("mail: human_only")
    assert mail("level", "up").out.startswith("mail: human_only -> shadow")
    refused = mail("level", "up")
    assert (refused.code, "more blind judgements" in refused.err) == (2, True)
    assert "partial is not down" in mail("level", "down", "--to", "partial").err
    assert mail("level", "down", "--to", "human_only").out.startswith("mail: shadow -> human_only")
    assert "nothing below" in mail("level", "down").err
    assert mail("level", "show", "--json").json()[0]["level"] == "human_only"


def test_a_rollout_is_commanded_from_start_to_end(mail: Shell) -> None:
    assert mail("rollback").code == 2
    version = mail("register", "my:Stricter", "-s", "Win!").out.strip()
    number = mail("rollout", "start", version).out.strip()
    shown = mail("rollout", "show").out
    assert shown.startswith(f"{number}: {version} against model@")
    assert "1. shadow 100 %" in shown
    assert mail("rollout", "pause", "-r", "lunch").out == f"{number}: paused at step 1 of 4\n"
    assert mail("rollout", "resume").out.endswith("running at step 1 of 4\n")
    assert mail("rollout", "promote", number).out.endswith("running at step 2 of 4\n")
    assert mail("rollback", "--reason", "enough").out.endswith("rolled_back at step 2 of 4\n")
    reasons = [move["reason"] for move in mail("rollout", "show", number, "--json").json()["moves"]]
    assert {"lunch", "enough"} <= set(reasons)
    assert number in mail("rollout", "show").out
    again = mail("rollout", "start", version).out.strip()
    assert mail("rollout", "cancel").out == f"{again}: cancelled at step 1 of 4\n"


def test_the_log_answers_sql_in_three_forms(mail: Shell) -> None:
    assert mail("log", "SELECT 1 AS a, 'x' AS b", "--format", "csv").out == "a,b\n1,x\n"
    assert mail("log", "SELECT count(*) AS n FROM predictions", "--format", "json").json() == [{"n": 0}]
    assert "(2 rows)" in mail("log", "SELECT * FROM range(9)", "--limit", "2").out
    wrong = mail("log", "DELETE FROM predictions")
    assert (wrong.code, wrong.err.startswith("tenure: expected one SELECT")) == (2, True)


def test_events_alarms_and_metrics(mail: Shell) -> None:
    assert mail("event", "new lamp", "-e", "mail").out == "event 1\n"
    assert mail("event", " ").code == 2
    assert mail("alarms", "list").out == "no open alarms\n"
    assert mail("alarms", "ack", "7").code == 2
    assert "brightness" in mail("metrics", "list").out


def test_the_audit_trail_is_listed_and_verified(mail: Shell) -> None:
    actions = [row["action"] for row in mail("audit", "list", "--json").json()]
    assert actions == ["rollout.set_stable", "version.register"]
    assert mail("audit", "verify").out.startswith("whole: 2 rows")
    _alter(mail)
    said = mail("audit", "verify")
    assert (said.code, said.out.startswith("the chain breaks at row 1")) == (1, True)


def _alter(shell: Shell) -> None:
    import sqlite3

    with sqlite3.connect(shell.folder / "tenure-data" / "state.db") as database:
        database.execute("UPDATE audit SET actor = 'somebody else' WHERE id = 1")


def test_questions_that_have_no_answer_yet(mail: Shell) -> None:
    assert "nothing was served yet" in mail("history").out
    assert "has not been judged blind" in mail("report").out
    assert mail("reviews", "--json").json()["mail"]["open"] == 0
    assert "no training command" in mail("retrain").err
    assert "ISO 8601" in mail("history", "yesterday").err


def test_schema_is_json_and_help_teaches_by_examples(tenure: Shell) -> None:
    assert tenure("schema").json()["title"] == "tenure project file"
    for command in ("init", "serve", "log", "register", "rollback"):
        assert "Example" in tenure(command, "--help").out


@pytest.mark.parametrize("command", ["nonsense", "token"])
def test_a_wrong_call_is_a_usage_error(tenure: Shell, command: str) -> None:
    assert tenure(command).code == 2


def test_the_demo_s_own_options_are_shown_by_its_help(tenure: Shell) -> None:
    said = tenure("demo", "inspection", "--help")
    assert (said.code, "--once" in said.out, "--seed" in said.out) == (0, True, True)


def test_a_training_run_that_fails_says_why_and_exits_with_1(mail: Shell) -> None:
    file = mail.folder / "tenure.yaml"
    text = file.read_text().replace(
        "    # retrain:\n    #   command: python train.py", "    retrain:\n      command: 'true'"
    )
    file.write_text(text.replace("    #   min_labels: 500", "      min_labels: 1"))
    assert mail("check").code == 0
    said = mail("retrain", "--cause", "a test")
    assert (said.code, ": failed" in said.out) == (1, True)
    assert said.err
    runs = mail("retrain", "--list", "--json").json()
    assert [run["state"] for run in runs] == ["failed"]
