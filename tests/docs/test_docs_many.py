"""The page about many records does what it shows."""

from __future__ import annotations

from pathlib import Path

from docs_blocks import ROOT, Reader


def test_every_form_is_answered_as_the_page_shows(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        assert reader.read(ROOT / "docs" / "howto" / "many-records.md") == 4
    finally:
        reader.close()
