"""A plan is shown before it starts, comes from a file or by name, and its steps are jumped to."""

from __future__ import annotations

from cli_shell import Shell


def test_a_plan_is_printed_and_nothing_starts(mail: Shell) -> None:
    version = mail("register", "my:Stricter", "-s", "Win!", "--no-measure").out.strip()
    said = mail("rollout", "start", version, "--strategy", "blue_green", "--dry-run").out.splitlines()
    assert said[0].startswith("1. answers 100% of requests unseen, until 1,000 requests of both versions and")
    assert said[1:3] == ["2. answers 100% of requests", "no gates: nothing is compared"]
    assert "no rollouts" in mail("rollout", "show").out
    refused = mail("rollout", "start", version, "--strategy", "green", "--dry-run")
    assert (refused.code, "expected canary, blue_green or shadow" in refused.err) == (2, True)


def test_a_case_names_its_plan(mail: Shell) -> None:
    version = mail("register", "my:Stricter", "-s", "Win!", "--no-measure").out.strip()

    def shares(case: str) -> list[str]:
        said = mail("rollout", "start", version, "--case", case, "--dry-run").out.splitlines()
        return [line.split("answers ")[1].split(" of requests")[0] for line in said if "answers " in line]

    assert shares("new") == ["1%", "5%", "25%", "100%"]
    assert shares("replace")[1:] == ["5%", "25%", "50%", "100%"]
    for wrong, why in (
        (("--case", "old"), "--case old: expected new, assist or replace"),
        (("--case", "new", "--strategy", "canary"), "give one of them"),
    ):
        refused = mail("rollout", "start", version, *wrong, "--dry-run")
        assert (refused.code, why in refused.err) == (2, True)


def test_a_plan_of_a_file_is_started_and_jumped_in(mail: Shell) -> None:
    version = mail("register", "my:Stricter", "-s", "Win!", "--no-measure").out.strip()
    file = mail.folder / "night.yaml"
    file.write_text(
        "steps:\n  - {share: 5%, approve: true}\n  - {share: 50%}\n  - {share: 100%}\nsecond_person: true\n"
    )
    mail("rollout", "start", version, "--plan", str(file))
    shown = mail("rollout", "show").out
    assert "asks: anybody but " in shown
    assert "forecast: every count that the step wants is there" in shown
    assert "wants a second person" in mail("rollout", "approve").err
    assert "wants a second person" in mail("rollout", "jump", "3").err
    assert "no other one" in mail("rollout", "jump", "9").err
