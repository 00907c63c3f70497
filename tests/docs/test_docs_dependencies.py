"""Each dependency stands on the page with its reason, and none stands there that is gone."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"]]
    lists += project["project"]["optional-dependencies"].values()
    lists += project["dependency-groups"].values()
    names = {re.split(r"[^A-Za-z0-9-]", each)[0] for one in lists for each in one if isinstance(each, str)}
    console = json.loads((ROOT / "ui" / "package.json").read_text())
    return names | set(console["dependencies"]) | set(console["devDependencies"])


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    assert set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)) == declared()
