"""The README's and the tutorial's commands and code do what the pages show."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_blocks import ROOT, Reader


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.close()


def test_the_readme_runs(reader: Reader) -> None:
    assert reader.read(ROOT / "README.md") == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial uses curl, which is not installed")
def test_the_tutorial_runs(reader: Reader) -> None:
    assert reader.read(ROOT / "docs" / "tutorial" / "your-model.md") > 15
