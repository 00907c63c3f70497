"""Train the detector: a small network on patches, exported to ONNX, and a calibration on photos held out.

Run as a command (`python -m tenure.demo.inspection.train ORIGINALS`) it follows the retraining contract: it reads
the data set in `TENURE_DATASET` and leaves new weights, metrics and unlabelled scores in `TENURE_OUTPUT`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.data.pictures import read_image
from tenure.demo.inspection import detector
from tenure.demo.inspection import folder as folders
from tenure.demo.inspection.detector import PATCH, STRIDE
from tenure.demo.inspection.photos import Photo
from tenure.seeds import generator
from tenure.types import Box

HELD_OUT = 0.3
"""Share of the photos that the calibration gets; the network never sees them."""

GOOD_PATCHES, ALL_GOOD = 40, 40_000
"""Patches without a defect from each photo, half at random, half where there is much to see; and from all."""

HARD_PATCHES = 10
"""Patches from each good photo that the first rounds took for a defect, or nearly."""

NEAR_PATCHES = 12
"""Patches with a defect that are drawn from each photo, at most."""

NEWEST, TESTED = 1400, 300
"""Of the judged photos the command takes the newest: what changed is in them, and the line is waiting."""

BROKEN_CONTRAST = 8.0
"""The preprocessing of the version that is bad on purpose: its patches come out 2.5 times too strong."""

Floats = npt.NDArray[np.float32]


class Trained(msgspec.Struct, frozen=True):
    """A trained detector: the ONNX file and what goes into `calibration.json`."""

    net: bytes
    calibration: dict[str, Any]

    def write(self, folder: Path) -> Path:
        """Write the files that `Detector.load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "patches.onnx").write_bytes(self.net)
        (folder / "calibration.json").write_text(json.dumps(self.calibration, indent=1, sort_keys=True))
        return folder


def train(photos: Sequence[Photo], *, seed: int = 0) -> Trained:
    """Train on photos with labels and boxes.

    A defective photo without boxes helps to calibrate only. The photos are shuffled and parted by `seed`.

    Raises:
        ValueError: one of both labels is missing in one of both parts.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    order = generator(seed).permutation(len(photos))
    cut = int(len(photos) * HELD_OUT)
    held, shown = ([photos[i] for i in part] for part in (order[:cut], order[cut:]))
    with threadpool_limits(1):  # threads wait for each other on matrices this small: eight times slower
        net = _fit(shown, seed)
        return _calibrate(net, held, contrast=detector.CONTRAST)


def broken(good: Trained) -> Trained:
    """Return the detector with a wrong preprocessing, as happens when serving and training code drift apart."""
    return Trained(good.net, good.calibration | {"contrast": BROKEN_CONTRAST})


def scores_by_answer(trained: Trained, photos: Sequence[Photo]) -> dict[str, list[float]]:
    """Return confidences by the answer given: the pilot that fixes a certificate's thresholds, without labels."""
    find = _Ready(trained)
    chances = [find.chance(photo) for photo in photos]
    return {"good": [1 - c for c in chances if c < 0.5], "defect": [c for c in chances if c >= 0.5]}


def measure(trained: Trained, photos: Sequence[Photo]) -> dict[str, Any]:
    """Return how the detector does on photos: AUC, and the errors among its most confident answers.

    `error_at` maps a share of the photos, answered in order of confidence, to the share of wrong answers.
    """
    find = _Ready(trained)
    truth = np.array([p.label == "defect" for p in photos])
    chance = np.array([find.chance(p) for p in photos])
    return {"photos": len(photos)} | scores(chance, truth)


def scores(chance: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return AUC, error at some coverages, missed defects and false alarms, given the chances of a defect."""
    wrong = (chance >= 0.5) != truth
    surest = np.argsort(-np.abs(chance - 0.5), kind="stable")
    error_at = {share: float(wrong[surest[: max(1, round(share * len(wrong)))]].mean()) for share in _SHARES}
    return {
        "auc": round(_auc(chance, truth), 4),
        "error_at": {f"{share:.0%}": round(error, 4) for share, error in error_at.items()},
        "missed": round(float(np.mean(chance[truth] < 0.5)) if truth.any() else 0.0, 4),
        "false_alarms": round(float(np.mean(chance[~truth] >= 0.5)) if (~truth).any() else 0.0, 4),
    }


_SHARES = (0.5, 0.7, 0.9, 1.0)


def _auc(chance: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> float:
    """Return the chance that a defective photo scores above a good one (Mann-Whitney)."""
    bad, good = chance[truth], np.sort(chance[~truth])
    if not len(bad) or not len(good):
        return float("nan")
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return float(below.sum() / (2.0 * len(bad) * len(good)))


# The network on patches


def _fit(photos: Sequence[Photo], seed: int) -> bytes:
    from sklearn.neural_network import MLPClassifier

    rng = generator(seed + 1)
    each = max(8, min(GOOD_PATCHES, ALL_GOOD // max(1, len(photos))))
    parts = [_patches(photo, rng, good=each) for photo in photos]
    good, hits = np.concatenate([g for g, _ in parts]), [h for _, h in parts if len(h)]
    if not len(good) or not hits:
        raise ValueError("training needs good photos and defective photos with boxes; one of both is missing")
    net = MLPClassifier(
        hidden_layer_sizes=(64, 32),
        batch_size=256,
        learning_rate_init=2e-3,
        alpha=1e-3,
        random_state=seed,
        warm_start=True,
    )
    _learn(net, good, np.concatenate(hits), rounds=4)
    hard = [_mistaken(net, photo) for photo in photos if photo.label == "good"]
    good = np.concatenate([good, *hard])
    _learn(net, good, np.concatenate([_clearest(net, h) for h in hits]), rounds=12)
    return _export(net)


def _learn(net: Any, good: Floats, hit: Floats, *, rounds: int) -> None:
    """Go a fixed number of times over all patches; scikit-learn would warn that more changes little."""
    net.set_params(max_iter=rounds, n_iter_no_change=rounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(np.concatenate([good, hit]), np.repeat([0, 1], [len(good), len(hit)]))


def _clearest(net: Any, hits: Floats) -> Floats:
    """Return the patches of a photo's boxes that show the defect.

    A box around a crack holds much clean glass; the first rounds tell which patches are which.
    """
    chance = net.predict_proba(hits)[:, 1]
    keep = max(2, len(hits) // 4)
    clear: Floats = hits[(chance > 0.5) | (np.argsort(np.argsort(-chance)) < keep)]
    return clear[:NEAR_PATCHES]


def _mistaken(net: Any, photo: Photo) -> Floats:
    """Return the patches of a good photo that look most like a defect after the first rounds."""
    flat = detector.patches(read_image(photo.data).grey()).reshape(-1, PATCH * PATCH)
    worst: Floats = flat[np.argsort(-net.predict_proba(flat)[:, 1])[:HARD_PATCHES]]
    return worst


def _patches(photo: Photo, rng: np.random.Generator, *, good: int) -> tuple[Floats, Floats]:
    """Return some patches of a photo that touch no defect, and those that may show one, in random order."""
    cut = detector.patches(read_image(photo.data).grey())
    inside, near = _marks(cut.shape[:2], photo.boxes)
    flat = cut.reshape(-1, PATCH * PATCH)
    if photo.label == "defect" and not photo.boxes:
        return flat[:0], flat[:0]
    clean, hit = rng.permutation(np.flatnonzero(~near.ravel())), rng.permutation(np.flatnonzero(inside.ravel()))
    busy = clean[np.argsort(-flat[clean].std(axis=1), kind="stable")]
    kept = np.concatenate([clean[: good // 2], busy[: 4 * good : 8]])
    return flat[kept], flat[hit]


def _marks(shape: tuple[int, int], boxes: Sequence[Box]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which patches have their middle in a box, and which touch one at all."""
    inside, near = np.zeros(shape, bool), np.zeros(shape, bool)
    top, left = (np.arange(n) * STRIDE for n in shape)
    for box in boxes:
        for marks, margin in ((inside, -PATCH / 2 + 4), (near, 0.0)):
            rows = (top + PATCH + margin > box.y1) & (top - margin < box.y2)
            columns = (left + PATCH + margin > box.x1) & (left - margin < box.x2)
            marks |= rows[:, None] & columns[None, :]
    return inside, near


def _export(net: Any) -> bytes:
    from skl2onnx import to_onnx

    options = {id(net): {"zipmap": False}}
    sample = np.zeros((1, PATCH * PATCH), np.float32)
    return bytes(to_onnx(net, sample, options=options, target_opset=18).SerializeToString())


# The confidence of a photo


class _Ready:
    """A detector in memory, without a bundle."""

    def __init__(self, trained: Trained) -> None:
        self._finder = detector.Detector()
        self._calibration = trained.calibration
        with tempfile.TemporaryDirectory() as folder:
            self._finder.load(trained.write(Path(folder)))

    def summary(self, photo: Photo) -> list[float]:
        return detector.summary(self._finder.logits(read_image(photo.data).grey()))

    def chance(self, photo: Photo) -> float:
        return detector.probability(self.summary(photo), self._calibration)


def _calibrate(net: bytes, photos: Sequence[Photo], *, contrast: float) -> Trained:
    from sklearn.linear_model import LogisticRegression

    blank = {"contrast": contrast, "bias": 0.0, "weights": [0.0] * 3, "patch_logit": 0.0}
    find = _Ready(Trained(net, blank))
    x = np.array([find.summary(p) for p in photos])
    y = np.array([p.label == "defect" for p in photos])
    if len(np.unique(y)) < 2:
        raise ValueError("calibration needs good and defective photos; one of both is missing")
    fit = LogisticRegression(C=1.0, max_iter=500).fit(x, y)
    bias, weights = float(fit.intercept_[0]), [float(w) for w in fit.coef_[0]]
    cut = float(np.quantile(x[~y, 0], 0.9))
    return Trained(net, blank | {"bias": bias, "weights": weights, "patch_logit": cut})


# The command


def main() -> None:
    """Train on the original photos and on what people judged, as the retraining contract asks."""
    originals = folders.read(Path(sys.argv[1])) if len(sys.argv) > 1 else []
    dataset, output = Path(os.environ["TENURE_DATASET"]), Path(os.environ["TENURE_OUTPUT"])
    known = originals + _judged(dataset, "train", newest=NEWEST)
    test = _judged(dataset, "test", newest=TESTED)
    print(f"{len(originals)} original photos, {len(known) - len(originals)} judged ones, {len(test)} to test on")
    made = train(known)
    made.write(output / "files")
    metrics = measure(made, test) if test else {"photos": 0}
    (output / "metrics.json").write_text(json.dumps(metrics | {"trained_on": len(known)}, indent=1))
    if test:
        (output / "pilot_scores.json").write_text(json.dumps(scores_by_answer(made, test)))
    print(json.dumps(metrics))


def _judged(dataset: Path, split: str, *, newest: int) -> list[Photo]:
    """Return the newest photos of one part of a frozen data set, whose rows are in order of time."""
    lines = (dataset / "index.jsonl").read_bytes().splitlines()
    rows = [row for line in lines if (row := msgspec.json.decode(line, type=_Row)).split == split]
    return [Photo((dataset / row.file).read_bytes(), row.label, row.boxes) for row in rows[-newest:]]


class _Row(msgspec.Struct, frozen=True):
    """What training needs of a line of a frozen data set."""

    split: str
    label: Literal["good", "defect"]
    file: str
    boxes: tuple[Box, ...] = ()


if __name__ == "__main__":
    main()
