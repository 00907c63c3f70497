"""Building the page: which node will do, when it is stale, and a lock that names no registry."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("version", "enough"),
    [("v20.19.0", True), ("v20.18.9", False), ("v18.20.4", False), ("v22.11.0", False), ("v22.12.0", True),
     ("v21.7.0", False), ("v24.1.0", True), ("", False)],
)  # fmt: skip
def test_node_is_new_enough_for_vite(hook: ModuleType, version: str, enough: bool) -> None:
    assert hook.new_enough(version) is enough


def test_the_page_is_stale_until_it_is_built_from_this_source(hook: ModuleType, tmp_path: Path) -> None:
    hook.UI, hook.STAMP = tmp_path / "ui", tmp_path / "stamp"
    assert not hook.stale()  # an installed package has no source
    (hook.UI / "src").mkdir(parents=True)
    (hook.UI / "src" / "a.ts").write_text("1")
    assert hook.stale()
    hook.STAMP.write_text(hook.source_hash())
    assert not hook.stale()
    (hook.UI / "src" / "a.ts").write_text("2")
    assert hook.stale()


def test_the_lock_file_names_no_host_and_every_hash() -> None:
    text = (ROOT / "ui" / "package-lock.json").read_text()
    assert "http" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in entry for name, entry in packages.items() if name)
