"""Real tables with a score and a known truth per row: each is the whole population that draws are made from.

Models are fitted fold by fold, so that every row is scored by a model that did not see it. A population is then a
fixed table of (score, wrong): its true risk above any threshold is known exactly.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import soundfile
from PIL import Image
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Population:
    """One row per case: confidence in [0, 1], and whether the answer is wrong.

    Attributes:
        bounds: the bounds on the error rate that are tried.
        labels: planned number of labels.
    """

    name: str
    score: Floats
    wrong: Bools
    bounds: tuple[float, ...]
    labels: int

    def risk(self, threshold: float) -> float:
        above = self.score >= threshold
        return float(self.wrong[above].mean()) if above.any() else 0.0

    def share(self, threshold: float) -> float:
        return float((self.score >= threshold).mean())


@dataclass(frozen=True)
class Shift:
    """Cases of a source that the certificate was not earned on."""

    name: str
    home: Population
    away: Population


def confidence(probabilities: Floats, truth: npt.NDArray[np.int64]) -> tuple[Floats, Bools]:
    """Return the largest probability and whether its class, counted from 0, is wrong."""
    return np.clip(probabilities.max(axis=1), 0.0, 1.0), probabilities.argmax(axis=1) != truth


def tiles(data: Path) -> tuple[Population, list[Shift]]:
    """Magnetic tiles, good or defect; trees on statistics of cells."""
    folder = data / "images" / "magnetic_tile"
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    x = np.array([_cells(folder / r["file"]) for r in rows])
    y = np.array([int(r["label"] == "defect") for r in rows])
    return Population("magnetic tiles", *confidence(_folded(_trees, x, y), y), (0.01, 0.02), 3000), []


def digits(data: Path) -> tuple[Population, list[Shift]]:
    """Spoken digits of three speakers, logistic regression on log-mel; shift: a fourth speaker."""
    folder = data / "speech" / "digits"
    with (folder / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.array([_mel(folder / r["file"]) for r in rows])
    y = np.array([int(r["digit"]) for r in rows])
    new = np.array([r["speaker"] == "nicolas" for r in rows])
    known = Population(
        "spoken digits", *confidence(_folded(_logistic, x[~new], y[~new]), y[~new]), (0.01, 0.02), 3000
    )
    away = confidence(_logistic().fit(x[~new], y[~new]).predict_proba(x[new]), y[new])
    return known, [Shift("digits: a fourth speaker", known, Population("new speaker", *away, (0.02,), 3000))]


def hospital(data: Path) -> tuple[Population, list[Shift]]:
    """Hospital encounters, readmitted within 30 days or not; folds keep a patient together."""
    table = pq.read_table(data / "health" / "diabetes_130_hospitals.parquet")
    y = np.array([int(v == "<30") for v in table["readmitted"].to_pylist()])
    groups = table["patient_nbr"].to_numpy()
    names = [n for n in table.column_names if n not in {"encounter_id", "patient_nbr", "readmitted"}]
    x = np.column_stack([_codes(table[n].to_pylist()) for n in names])
    found = confidence(_folded(_boosted, x, y, groups), y)
    return Population("hospital encounters", *found, (0.02, 0.05), 5000), []


def votes(data: Path) -> tuple[Population, list[Shift]]:
    """CIFAR-10H: one person's answer is the model; half of the others give its score, the rest the truth."""
    table = pq.read_table(data / "labels" / "cifar10h_counts.parquet")
    counts = np.column_stack([table[n].to_numpy() for n in table.column_names[1:]]).astype(np.int64)
    rng = np.random.default_rng(7)
    answer = np.array([rng.choice(10, p=row / row.sum()) for row in counts])
    counts[np.arange(len(counts)), answer] -= 1
    scorers = np.array([rng.multivariate_hypergeometric(row, row.sum() // 2) for row in counts])
    truth = (counts - scorers).argmax(axis=1)
    score = scorers[np.arange(len(counts)), answer] / scorers.sum(axis=1)
    return Population("CIFAR-10H, one person", score, answer != truth, (0.01, 0.02), 3000), []


def housing(data: Path) -> tuple[Population, list[Shift]]:
    """House prices within 25 %; confidence is the width of a quantile band; shift: sales half a year later."""
    table = pq.read_table(data / "housing" / "king_county.parquet")
    names = [n for n in table.column_names if n not in {"id", "date", "price"}]
    x = np.column_stack([np.asarray(table[n].to_pylist(), float) for n in names])
    y = np.log(table["price"].to_numpy().astype(float))
    day = table["date"].to_numpy().astype("datetime64[D]")
    early, late = day < np.datetime64("2014-10-01"), day >= np.datetime64("2015-04-01")
    whole = Population("house prices within 25 %", *_priced(x, y), (0.02, 0.05), 5000)
    home = Population("sales May to September 2014", *_priced(x[early], y[early]), (0.05,), 5000)
    bands = [_quantile(q).fit(x[early], y[early]).predict(x[late]) for q in _BAND]
    away = Population("sales April and May 2015", *_within(bands, y[late]), (0.05,), 5000)
    return whole, [Shift("house prices: half a year later", home, away)]


_BAND = (0.1, 0.5, 0.9)


def _quantile(q: float) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(loss="quantile", quantile=q, random_state=0)


def _priced(x: Floats, y: Floats) -> tuple[Floats, Bools]:
    bands = [np.zeros(len(y)) for _ in _BAND]
    for train, test in KFold(5, shuffle=True, random_state=0).split(x):
        for band, q in zip(bands, _BAND, strict=True):
            band[test] = _quantile(q).fit(x[train], y[train]).predict(x[test])
    return _within(bands, y)


def _within(bands: list[Floats], y: Floats) -> tuple[Floats, Bools]:
    low, middle, high = bands
    return np.exp(-np.maximum(high - low, 0.0)), np.abs(np.expm1(middle - y)) > 0.25


SOURCES: dict[str, Callable[[Path], tuple[Population, list[Shift]]]] = {
    "tiles": tiles, "digits": digits, "hospital": hospital, "votes": votes, "housing": housing,
}  # fmt: skip


def _trees() -> ExtraTreesClassifier:
    return ExtraTreesClassifier(300, min_samples_leaf=2, random_state=0)


def _logistic() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))


def _boosted() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=100, random_state=0)


def _folded(make: Callable[[], object], x: Floats, y: npt.NDArray[np.int64], groups: object = None) -> Floats:
    """Return each row's probabilities by a model that saw none of its fold, classes 0, 1, ... in order."""
    out = np.zeros((len(y), int(y.max()) + 1))
    cut = KFold(5, shuffle=True, random_state=0) if groups is None else GroupKFold(5)
    for train, test in cut.split(x, y, groups):
        out[test] = make().fit(x[train], y[train]).predict_proba(x[test])  # type: ignore[attr-defined]
    return out


def _cells(file: Path) -> Floats:
    """Return statistics of 8 x 8 cells of a photo of even brightness, in place and sorted."""
    image = np.asarray(Image.open(file).convert("L").resize((96, 96)), float)
    image = (image - image.mean()) / (image.std() + 1e-9)
    cells = image.reshape(8, 12, 8, 12).transpose(0, 2, 1, 3).reshape(64, 144)
    steps = (
        np.abs(np.diff(image, axis=0, append=0.0)).reshape(8, 12, 8, 12).transpose(0, 2, 1, 3).reshape(64, 144)
    )
    figures = np.stack([cells.min(1), cells.max(1), cells.std(1), steps.max(1), cells.mean(1)])
    return np.concatenate([figures.ravel(), np.sort(figures, axis=1).ravel()])


def _mel(file: Path, bands: int = 32, times: int = 20) -> Floats:
    """Return a log-mel picture of `bands` x `times`, its loudness taken out."""
    sound, rate = soundfile.read(file)
    sound = np.pad(sound, (0, max(0, 400 - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, 200)[::80] * np.hanning(200)
    power = np.abs(np.fft.rfft(frames, 256, axis=1)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(256, 1 / rate)
    up = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    picture = np.log(power @ np.clip(np.minimum(up, down), 0, None).T + 1e-8)
    cuts = np.linspace(0, len(picture) - 1, times)
    picture = np.array([np.interp(cuts, np.arange(len(picture)), band) for band in picture.T])
    return (picture - picture.mean()).ravel()


def _codes(values: list[object]) -> Floats:
    """Return numbers as they are; words by how often they occur, which needs no truth."""
    if all(isinstance(v, int | float) or v is None for v in values):
        return np.array([np.nan if v is None else v for v in values], float)
    words, where, often = np.unique([str(v) for v in values], return_inverse=True, return_counts=True)
    return often[where] + np.arange(len(words))[where] / (len(words) + 1)
