"""The `tenure` command called in this process, and the source of a stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tenure.cli import main

STAGE = """
import tenure


class Filter:
    MARK = "!"

    def predict(self, texts: list[str]) -> list[tenure.Prediction]:
        return [tenure.Prediction("spam" if self.MARK in t else "wanted", confidence=0.9) for t in texts]


class Stricter(Filter):
    MARK = "?"
"""


class Said(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self.folder = folder

    def __call__(self, *arguments: str) -> Said:
        code: Any = 0
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code or 0
        out, err = self._capsys.readouterr()
        return Said(code, out, err)
