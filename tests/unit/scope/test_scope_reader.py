"""Reading tenure.yaml: values, every fault at once with its line, and YAML's own traps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.errors import ProjectError
from tenure.scope.project import Project, Step
from tenure.scope.reader import load_project, read_project

GOOD = """\
tenure: 1
project: phones
scope:
  case: assist
  x: photo of a phone screen
  y: {labels: [good, defect], regions: box}
  metrics: {errors_automated: {max: 2%, confidence: 95%}, missed_defects: {max: 3%}}
  budget: {people: 2, reviews_per_hour: 240}
data: {unit: line, drift_prior: slow}
endpoints:
  phones:
    input: image
    pipeline:
      - {stage: scratch, uses: "my:Scratch", placement: thread, budget: 40ms}
    serve:
      latency: 200ms
      qps: 50
      max_body: 8MB
      on_timeout: {decide: defect, after: 30s}
      on_controller_lost: {hold: 10m}
    log:
      payloads: {keep: [pending, audited, sampled], sample: 10%, quota: 20GB, retention: 30d}
    automation:
      max: partial
      sides: {good: {errors: 2%}, defect: {errors: 2%}}
      certificate: {expires: 7d, up: approve, down: automatic}
    review: {second_reader: {disagreements: all, agreements: 5%}, lease: 2m}
    rollout:
      steps: [{shadow: 100%, min_labels: 500}, {share: 5%, min: 200}, {share: 100%}]
      gates: [{bad: wrong_decision, alpha: 5%}, {bad: empty_output, alpha: 1%}]
      keep_warm: 24h
    monitor:
      false_alarms: 1 per 30d
      thresholds: [{metric: server_load, above: 0.91, for: 1m, do: [notify]}]
      alarms: [{drift: any, do: [notify, drop_level, hold_rollout]}]
    retrain: {command: "python train.py", auto_train: false}
server: {workers: 3}
privacy: {level: internal}
"""


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(ProjectError) as caught:
        read_project(text)
    return caught.value.faults


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_reads_every_kind_of_value() -> None:
    project = read_project(GOOD, root="/somewhere")
    phones = project.endpoints["phones"]
    assert (project.root, project.server.workers, project.data.unit) == ("/somewhere", 3, "line")
    assert (phones.serve.latency, phones.serve.qps, phones.serve.max_body) == (0.2, 50.0, 8_000_000)
    assert phones.serve.on_timeout is not None
    assert (phones.serve.on_timeout.decide, phones.serve.on_timeout.after) == ("defect", 30.0)
    assert phones.rollout.steps[1] == Step(share=0.05, min=200)
    assert phones.monitor.false_alarms == 30 * 86400.0
    assert phones.monitor.thresholds[0].lasting == 60.0
    assert phones.review.second_reader.disagreements == 1.0
    assert phones.automation.sides["good"].errors == 0.02
    assert phones.log.payloads.keep == ("pending", "audited", "sampled")


def test_what_is_left_out_has_the_struct_s_defaults() -> None:
    project = read_project(
        "project: a\nscope: {y: {labels: [x, z]}}\nendpoints: {a: {input: text, automation: {max: assist}}}"
    )
    assert project == Project(
        project="a",
        scope=project.scope,
        endpoints=project.endpoints,
    )
    assert project.endpoints["a"].serve.latency == 0.2


def test_loads_a_file_and_sets_the_root(tmp_path: Path) -> None:
    file = tmp_path / "tenure.yaml"
    file.write_text(GOOD, encoding="utf-8")
    project = load_project(file)
    assert project.root == str(tmp_path.resolve())
    assert project.folder() == tmp_path.resolve() / "tenure-data"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file; `tenure init`"),
        (b"project: \xff", "not UTF-8"),
        (b"", "is empty"),
        (b"# only\n", "is empty"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "tenure.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ProjectError, match=says):
        load_project(file)


ONE_FAULT = [
    (
        "    input: image",
        "    input: images",
        "expected one of image, audio, text, record, got images; did you mean image?",
    ),
    ("latency: 200ms", "latncy: 200ms", "unknown key, expected one of latency,"),
    ("latency: 200ms", "latncy: 200ms", "did you mean latency?"),
    ("qps: 50", "workers: 4", "is one number for all endpoints; write it under server"),
    ("qps: 50", "min_labels: 4", "min_labels belongs under endpoints.*.rollout.steps[]"),
    ("qps: 50", "qps: fifty", "expected a number, got fifty"),
    ("qps: 50", "qps: 0", "more than 0, got 0"),
    (
        "latency: 200ms",
        "latency: 200",
        "expected a duration such as 250ms, 30s, 10m, 24h or 7d, got 200: say the unit",
    ),
    ("max_body: 8MB", "max_body: 8", "expected a size"),
    ("sample: 10%", "sample: 10", "write 10% if percent is meant"),
    ("decide: defect", "decide: defekt", "expected one of the labels good, defect, got defekt"),
    ("after: 30s", "after: 200ms", "expected more than 250ms"),
    ("hold: 10m", "hold: 10m, then: human_only", "is always human_only; leave the key out"),
    ('"my:Scratch"', "my.Scratch", 'expected "module:Name"'),
    ("budget: 40ms", "processes: 4", "needs placement: process, got thread"),
    ("budget: 40ms", "budget: 4s", "the stages' budgets sum to 4 s, more than serve.latency, 0.2 s"),
    ("      sides: {good: {errors: 2%}, defect: {errors: 2%}}", "", "max: partial needs a bound"),
    ("sides: {good:", "sides: {godo:", "expected one of the labels good, defect"),
    ("max: partial", "max: partial\n      errors: 2%", "expected either errors (all answers) or sides"),
    ("max: partial", "start: assist\n      max: shadow", "assist is above max: shadow"),
    ("[good, defect]", "[good]", "expected at least two labels"),
    ("[good, defect]", "[good, defect, good]", "good stands there twice"),
    ("[good, defect]", "good", "expected a list such as [a, b], got good"),
    ("{share: 100%}", "{share: 90%}", "expected the last step to be share: 100%"),
    ("{share: 100%}", "{share: 4%}", "shares must rise, got 0.04 after 0.05"),
    ("{share: 100%}", "{share: 100%, shadow: 5%}", "expected either shadow or share"),
    ("{share: 100%}", "{shadow: 5%}, {share: 100%}", "a shadow step cannot follow a share"),
    ("bad: empty_output", "bad: wrong_decision", "two gates count wrong_decision"),
    ("above: 0.91, ", "", "expected either above or below"),
    ("above: 0.91, ", "above: 0.91, below: 0.1, ", "expected either above or below"),
    ("unit: line, ", "", "unit needs data.unit"),
    ("false_alarms: 1 per 30d", "false_alarms: 1 per 30s", "fewer than one per pane"),
    ("false_alarms: 1 per 30d", "false_alarms: 30d", '"1 per 30d"'),
    ("do: [notify, drop_level, hold_rollout]", "do: [notify, drop_levle]", "did you mean drop_level?"),
    ('command: "python train.py", auto_train: false', "auto_train: true", "expected retrain.command"),
    ("auto_train: false", "auto_train: no", "expected true or false, got no"),
    ("auto_train: false", 'auto_train: "true"', "expected true or false"),
    ("privacy: {level: internal}", "privacy: {level: secret}", "encryption at rest is not enforced yet"),
    ("drift: any", "drift: concept", "not built yet: concept drift needs late labels; use data or any"),
    ("privacy: {level: internal}", "privacy: {erase_by: unit}", "erasing by unit is not enforced yet"),
    ("tenure: 1\n", "tenure: 2\n", "expected 1, the version of this format"),
    ("project: phones", "project: My Phones", "expected a name of small letters"),
    ("project: phones", "project:", "empty, expected a text"),
    ("project: phones", "project: 12", 'reads as a number in YAML; for the word write "12" in quotes'),
    (
        "  x: photo of a phone screen",
        "  x: no",
        'reads as true or false in YAML; for the word write "no" in quotes',
    ),
    ("sides: {good:", "sides: {on:", 'the key on reads as true or false in YAML; write "on" in quotes'),
    ("confidence: 95%", "confidence: 100%", "less than 1, got 100%"),
    ("workers: 3", "workers: 0", "at least 1, got 0"),
    ("workers: 3", "port: 9000, console_port: 9000", "expected another port than server.port, 9000"),
    ("workers: 3", "port: 70000", "at most 65535"),
    ("workers: 3", "state: mysql://x", "expected a postgresql"),
    ("workers: 3", "<<: {workers: 3}", "merge keys (<<) are not supported"),
    ("workers: 3", "[a]: 3", "expected a plain word as key, got a list"),
    ("workers: 3", "root: elsewhere", "unknown key"),
]


@pytest.mark.parametrize(
    ("old", "new", "says"), ONE_FAULT, ids=[f"{new.strip()[:40]}" for _, new, _ in ONE_FAULT]
)
def test_one_mistake_is_one_fault(old: str, new: str, says: str) -> None:
    text = changed(old, new)
    if "unit needs" in says:
        text = text.replace("keep_warm: 24h", "assign: unit")
    found = faults(text)
    assert len(found) == 1, found
    assert says in found[0]
    assert found[0].startswith("tenure.yaml:")


def test_all_faults_come_at_once_in_order_with_their_lines() -> None:
    text = GOOD
    marks = [
        ("latency: 200ms", "latency: fast"),
        ("max: partial", "max: most"),
        ("lease: 2m", "lase: 2m"),
        ("keep_warm: 24h", "keep_warm: 24"),
    ]
    for old, new in marks:
        text = text.replace(old, new)
    found = faults(text)
    assert [int(fault.split(":")[1]) for fault in found] == [line_of(text, new) for _, new in marks]


def test_a_fault_is_not_reported_again_by_a_rule_that_rests_on_it() -> None:
    """Labels that cannot be read must not make every label elsewhere look wrong."""
    found = faults(changed("labels: [good, defect]", "labels: {good: 1}"))
    assert len(found) == 1
    assert "expected a list" in found[0]


def test_rules_still_run_beside_an_unrelated_fault() -> None:
    found = faults(changed("latency: 200ms", "latency: fast").replace("{share: 100%}", "{share: 90%}"))
    assert len(found) == 2


def test_a_key_written_twice_names_both_lines() -> None:
    text = changed("      qps: 50", "      qps: 50\n      qps: 60")
    (found,) = faults(text)
    first, second = line_of(text, "qps: 50"), line_of(text, "qps: 60")
    assert found.startswith(f"tenure.yaml:{second}: endpoints.phones.serve.qps: written twice")
    assert f"first in line {first}" in found


def test_an_endpoint_written_twice_is_refused() -> None:
    (found,) = faults(GOOD.replace("server: {workers: 3}", "") + "\nproject: b\n")
    assert "written twice" in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("project: a\n\tscope: {}\n", "tenure.yaml:2: a tab stands before the text"),
        ("project: a: b\n", "tenure.yaml:1: not YAML: mapping values are not allowed"),
        ("project: [a\n", "not YAML"),
        ("project: a\n---\nproject: b\n", "expected a single document"),
        ("project: \x07\n", "not YAML"),
        ("- project\n", "expected a section with keys, got a list"),
        ("just words\n", "expected a section with keys, got just words"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("project: &a [*a]\n", "expected a text, got a list"),
    ],
)
def test_yaml_s_own_faults_are_said_in_plain_words(text: str, says: str) -> None:
    assert says in faults(text)[0]


def test_tags_cannot_make_objects() -> None:
    assert faults(changed("project: phones", "project: !!python/object/apply:os.getcwd []"))


def test_numbers_are_not_read_as_yaml_1_1_would() -> None:
    """12:30 would be 750, 0x10 16 and 010 8."""
    assert "expected a number, got 12:30" in faults(changed("qps: 50", "qps: 12:30"))[0]
    assert "expected a number, got 0x10" in faults(changed("qps: 50", "qps: 0x10"))[0]
    assert (
        read_project(changed("reviews_per_hour: 240", "reviews_per_hour: 010")).scope.budget.reviews_per_hour
        == 10
    )


@pytest.mark.parametrize(
    ("decide", "value"), [("1", 1), ("1.5", 1.5), ("2%", 0), ("true", True), ('"yes"', "yes")]
)
def test_a_fallback_may_be_any_scalar(decide: str, value: object) -> None:
    text = f"""
project: a
scope: {{y: {{kind: {"number" if isinstance(value, (int, float)) and not isinstance(value, bool) else "text"}}}}}
endpoints:
  a: {{input: text, automation: {{max: assist}}, serve: {{on_timeout: {{decide: {decide}, after: 5s}}}}}}
"""
    if decide == "2%":
        assert "expected a number, got 2%" in faults(text)[0]
        return
    fallback = read_project(text).endpoints["a"].serve.on_timeout
    assert fallback is not None
    assert fallback.decide == value
    assert type(fallback.decide) is type(value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 12), st.text("{}[]:,-#&*!|>%@`'\"\t\n 0an", max_size=6))
def test_any_damage_is_a_project_or_a_project_error(at: int, cut: int, insert: str) -> None:
    try:
        found = read_project(GOOD[:at] + insert + GOOD[at + cut :])
    except ProjectError:
        return
    assert found.tenure == 1
