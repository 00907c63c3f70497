"""The reference pages say what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
from docs_blocks import ROOT
from starlette.routing import Route as StarletteRoute

from tenure.cli import reference
from tenure.deploy.serving.http import app, openapi
from tenure.settings import Settings

SOURCE = ROOT / "src" / "tenure"
REFERENCE = ROOT / "docs" / "reference"
CODES = (
    re.compile(r"""(?:\bcode|\bdefault_code|"code")\s*[=:]\s*"([a-z_]+)\""""),
    re.compile(r'\bcode = "[a-z_]+" if .* else "([a-z_]+)"'),
    re.compile(r'code = \{404: "([a-z_]+)", 405: "[a-z_]+"\}'),
    re.compile(r'code = \{404: "[a-z_]+", 405: "([a-z_]+)"\}'),
    re.compile(r'\.get\(error\.status_code, "([a-z_]+)"\)'),
)


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def codes() -> set[str]:
    texts = [p.read_text(encoding="utf-8") for p in SOURCE.rglob("*.py") if "demo" not in p.parts]
    return {code for text in texts for pattern in CODES for code in pattern.findall(text)}


def test_every_error_code_is_listed_and_no_other() -> None:
    listed = set(re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\| (`[^|]+) \|", page("errors.md"), re.M))))
    assert codes() - listed == set(), "codes that docs/reference/errors.md does not explain"
    assert listed - codes() == set(), "codes on the page that no code raises"


def test_the_pattern_for_codes_still_finds_them() -> None:
    assert {"overloaded", "log_full", "log_failed", "method_not_allowed", "http_error", "internal"} <= codes()


def test_the_page_of_commands_is_current() -> None:
    assert page("cli.md") == reference.page(), "run: python -m tenure.cli.reference docs/reference/cli.md"


def test_every_setting_is_documented_with_its_default() -> None:
    text = page("settings.md")
    source = (SOURCE / "settings.py").read_text(encoding="utf-8")
    for name, value in ((n, getattr(Settings(), n)) for n in Settings.__struct_fields__):
        said = re.search(rf"^    {name}: [^\n]*\n    \"\"\"(.+?)\"\"\"", source, re.MULTILINE | re.DOTALL)
        assert said, f"{name} has no docstring"
        assert f"| `{name}` | `{value!r}` | {' '.join(said[1].split())} |" in text
    assert len(re.findall(r"^\| `\w+` \| `", text, re.MULTILINE)) == len(Settings.__struct_fields__)


def served() -> set[tuple[str, str]]:
    """Return what the data plane routes, read from a built app; the handlers are never called."""
    routes = app.data_app(None, page=None, slot=None, clock=None).routes  # type: ignore[arg-type]
    return {
        (method, route.path)
        for route in routes
        if isinstance(route, StarletteRoute)
        and not route.path.startswith("/internal/")  # the control plane's own
        for method in (route.methods or ()) - {"HEAD"}
    }


def test_the_openapi_document_has_every_route_and_no_other() -> None:
    paths = json.loads(openapi.document())["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == served()


def test_the_page_of_the_open_inference_protocol_has_every_call() -> None:
    calls = {(m, p.replace("/versions/{version}", "")) for m, p in served() if p.startswith("/v2")}
    assert len(calls) > 8
    for method, path in calls:
        assert f"`{method} {path}`" in page("oip.md")


def test_the_page_of_the_http_api_has_every_call_parameter_and_status() -> None:
    text = page("http.md")
    for call in openapi.CALLS:
        assert f"`{call.method} {call.path}`" in text
        for parameter in (p for p in call.parameters if p.place != "path"):
            assert f"{parameter.place} `{parameter.name}`" in text
        for status in call.statuses:
            assert str(status) in text


def test_the_openapi_document_is_well_formed() -> None:
    document = json.loads(openapi.document())
    refs = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(refs) <= document["components"]["schemas"].keys()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(names) == len(set(names))
    placed = re.compile(r"{(\w+)}")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            given = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert given == set(placed.findall(path))


def test_nothing_tells_of_this_machine() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    told = [p for p in pages if re.search(r"/(root|home/\w+|tmp)/", p.read_text(encoding="utf-8"))]
    assert not [str(Path(p)) for p in told]
