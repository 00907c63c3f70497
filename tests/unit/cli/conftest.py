"""A project folder with one text endpoint, and the `tenure` command called in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_shell import STAGE, Shell


@pytest.fixture
def tenure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    """The command, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENURE_PROJECT", raising=False)
    before = list(sys.path)
    yield Shell(capsys, tmp_path)
    sys.path[:] = before
    sys.modules.pop("my", None)


@pytest.fixture
def mail(tenure: Shell) -> Shell:
    """The command, in a project with a registered version."""
    (tenure.folder / "my.py").write_text(STAGE)
    assert tenure("init", "--kind", "text", "--name", "mail", "--no-tokens").code == 0
    assert tenure("register", "-s", "Win!", "--no-measure").code == 0
    return tenure
