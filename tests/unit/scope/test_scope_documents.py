"""What is made from the structs: template, JSON Schema, reference page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml

from tenure.errors import ProjectError
from tenure.scope import jsonschema as project_schema
from tenure.scope import reference, rules
from tenure.scope.keys import MEANINGS, SHOWN
from tenure.scope.project import EndpointSpec, InputKind, LossSpec, Output, Project, Scope
from tenure.scope.reader import load_project, read_project
from tenure.scope.shape import keys, sections
from tenure.scope.template import template

ROOT = Path(__file__).resolve().parents[3]
KINDS = get_args(InputKind)
SCHEMA = project_schema.schema()


def against_schema(text: str) -> list[str]:
    checker = jsonschema.Draft202012Validator(SCHEMA)
    return [error.json_path for error in checker.iter_errors(yaml.safe_load(text))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_has_no_fault(kind: InputKind) -> None:
    project = read_project(template(kind, "parts"))
    assert project.endpoints["parts"].input == kind
    assert project.endpoints["parts"].automation.start == "human_only"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_template_comments_out_works(kind: InputKind) -> None:
    text = template(kind, "parts").replace("# regions:", "regions:")
    if kind == "audio":
        text = text.replace("labels: [clear, unclear]", "kind: text")
        text = re.sub(r"sides:.*\n.*\n.*\n", "errors: 2%\n", text)
    text = re.sub(r"      steps:(?s:.*)(?=    monitor:)", "", text)
    for key in ("loss", "gold", "strategy"):
        assert text.count(f"# {key}: ") == 1
        text = text.replace(f"# {key}: ", f"{key}: ")
    text = text.replace("expires: 7d,", "expires: 7d, decisions: 100000,")
    made = read_project(text).endpoints["parts"]
    assert (made.automation.loss != LossSpec(), made.review.gold.share) == (True, 0.02)
    assert (made.rollout.strategy, made.automation.certificate.decisions) == ("canary", 100_000)


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_fits_the_schema(kind: InputKind) -> None:
    assert against_schema(template(kind, "parts")) == []


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("latency: 200ms", "latency: 200"),
        ("latency: 200ms", "latncy: 200ms"),
        ("max_body: 8MB", "max_body: 8mb"),
        ("sample: 10%", "sample: 10"),
        ("1 per 30d", "30d"),
        ("input: image", "input: picture"),
        ("input: image", ""),
        ("durability: process", "durability: maybe"),
        ("min: 200}\n        - {share: 25%", "min: 2.5}\n        - {share: 25%"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(old: str, new: str) -> None:
    text = template("image", "parts")
    assert text.count(old) == 1
    assert len(against_schema(text.replace(old, new))) == 1


def test_every_key_has_a_meaning_and_no_meaning_lost_its_key() -> None:
    stated = {(struct, key) for struct, table in MEANINGS.items() for key in table}
    assert stated == {(struct, key) for _, struct in sections() for key in keys(struct)}


def source_of(part: str) -> str:
    place = ROOT / "src" / "tenure" / part.replace(".", "/")
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


READ_BY_SHAPE = {"down", "privacy", "level"}
"""Keys whose only allowed values are what happens anyway: the reader refuses the rest."""


def test_every_key_is_read_by_its_keeper() -> None:
    """What a section does not enforce is refused, not ignored."""
    ignored = [
        f"{struct.__name__}.{name} by {meaning.by}"
        for struct, table in MEANINGS.items()
        for name, meaning in table.items()
        if meaning.by != SHOWN and name not in READ_BY_SHAPE
        if not re.search(rf"\.{keys(struct)[name].field}\b", source_of(meaning.by))
    ]
    assert ignored == []


def test_the_reference_page_is_current() -> None:
    stored = (ROOT / "docs" / "reference" / "project-file.md").read_text(encoding="utf-8")
    assert stored == reference.page(), "run: python -m tenure.scope.reference docs/reference/project-file.md"


def test_the_reference_page_names_every_key() -> None:
    page = reference.page()
    for path, struct in sections():
        heading = f"## `{path.replace('*', 'NAME')}`\n" if path else "## Top level\n"
        section = page.split(heading)[1].split("\n## ")[0]
        assert all(f"| `{key}` |" in section for key in keys(struct)), path


def test_project_files_of_the_examples_have_no_fault() -> None:
    for file in sorted((ROOT / "examples").rglob("tenure.yaml")):
        load_project(file)
        assert against_schema(file.read_text(encoding="utf-8")) == [], file


def test_a_project_built_in_python_goes_through_the_same_rules() -> None:
    project = Project(
        project="parts",
        scope=Scope(y=Output(labels=("good", "bad"))),
        endpoints={"parts": EndpointSpec(input="image")},
    )
    with pytest.raises(ProjectError) as caught:
        rules.check(project)
    (fault,) = caught.value.faults
    assert fault.startswith("endpoints.parts.automation.max: max: partial needs a bound")
