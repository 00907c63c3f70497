"""The page about pictures does what it shows, its four-line client first of all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from docs_blocks import ROOT, Reader
from PIL import Image as Pillow


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl, which is not installed")
def test_a_newcomer_gets_a_drawn_picture(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        assert reader.read(ROOT / "docs" / "howto" / "ask-for-pictures.md") == 6
    finally:
        reader.close()
    sent, seen, unsure = (
        np.asarray(Pillow.open(tmp_path / name).convert("RGB")).astype(int)
        for name in ("sky.png", "seen.png", "seen.jpg")
    )
    edge, inside = (slice(60, 80), 200), (slice(60, 80), slice(215, 245))
    assert np.abs(seen[edge] - sent[edge]).max() > 100  # the line
    assert (seen[inside] == sent[inside]).all()
    assert np.abs(unsure - sent).mean() < 3  # confidence=0.95 leaves the box out
