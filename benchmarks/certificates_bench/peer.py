"""MAPIE in an environment of its own: made once, stamped with its pins, asked by a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from certificates_bench.draws import DELTA, Draw
from certificates_bench.populations import Floats, Population

PINS = ("mapie==1.6.0", "scikit-learn==1.9.1", "numpy==2.4.6", "scipy==1.17.1")
WORKER = Path(__file__).with_name("mapie_worker.py")


def home(cache: Path) -> Path | None:
    """Return its interpreter, or None where it is absent or of other pins."""
    stamp = cache / "mapie" / "pins.txt"
    if not stamp.is_file() or stamp.read_text() != "\n".join(PINS):
        return None
    return cache / "mapie" / "bin" / "python"


def install(cache: Path) -> None:
    """Make the environment anew unless it is there with these pins."""
    if home(cache):
        return
    place = cache / "mapie"
    print(f"installing {PINS[0]} into {place}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", *PINS], check=True, timeout=900)
    (place / "pins.txt").write_text("\n".join(PINS))


def ask(
    python: Path,
    population: Population,
    draws: list[Draw],
    *,
    grids: list[Sequence[float]],
    bound: float,
    batch: int,
) -> dict[str, Floats]:
    """Return MAPIE's thresholds per draw after every batch, inf for nothing, and `lost` draws.

    Raises:
        RuntimeError: its parts do not give what its controller gives.
    """
    wide = np.full((len(grids), max(map(len, grids))), np.nan)
    for row, grid in zip(wide, grids, strict=True):
        row[: len(grid)] = grid
    with tempfile.TemporaryDirectory(prefix="bench-mapie-") as folder:
        asked, said = Path(folder) / "asked.npz", Path(folder) / "said.npz"
        np.savez(
            asked, score=population.score, wrong=population.wrong, rows=np.array([d.rows for d in draws]),
            grids=wide, bound=bound, delta=DELTA, batch=batch,
        )  # fmt: skip
        subprocess.run([str(python), str(WORKER), str(asked), str(said)], check=True, timeout=1800)
        with np.load(said) as found:
            if int(found["odd"]):
                raise RuntimeError(f"in {int(found['odd'])} cases MAPIE's parts differ from its controller")
            return {name: found[name] for name in ("default", "grid", "lost")}
