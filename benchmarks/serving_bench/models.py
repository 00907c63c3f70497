"""The two models, the inputs, and what the right answers are. Everything is seeded."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "servers"))

from work import FIELDS, PARTS, RISKS, SIDE, Photo, Risk, tensor

RECORDS = 64
PHOTOS = 8
PHOTO_SIDE, PHOTO_BYTES = 480, 30_000
_CHANNELS = (3, 16, 32, 64, 128)  # strides of 2: 15.9 million multiplications for 128 x 128 pixels


class Truth(NamedTuple):
    """The inputs and the right answers.

    Attributes:
        rows: (64, 30) float32.
        chances: (64, 2) probabilities of `RISKS`.
        photos: encoded pictures.
        parts: (8, 8) probabilities of `PARTS`, from all pixels.
    """

    rows: Any
    chances: Any
    photos: list[bytes]
    parts: Any

    def record(self, number: int) -> dict[str, float]:
        return dict(zip(FIELDS, (round(float(v), 4) for v in self.rows[number]), strict=True))

    def batch(self, rows: int, number: int = 0) -> Any:
        """Return (rows, 30) that start at one of the records."""
        return self.rows[(np.arange(rows) + number) % RECORDS]

    def batch_chances(self, rows: int, number: int = 0) -> Any:
        return self.chances[(np.arange(rows) + number) % RECORDS]


def make(folder: Path) -> Truth:
    """Write risk.onnx and photo.onnx into a folder; return the inputs and the right answers."""
    rows = _boosting(folder / "risk.onnx")
    photos = [_photo(seed) for seed in range(PHOTOS)]
    _network(folder / "photo.onnx", np.concatenate([tensor(p) for p in photos]))
    photo = Photo(folder)
    parts = np.concatenate([photo.probabilities(tensor(p)) for p in photos])
    truth = Truth(rows, Risk(folder).probabilities(rows), photos, parts)
    (folder / "record.json").write_text(json.dumps(truth.record(0)))
    (folder / "photo.jpg").write_bytes(photos[0])
    return truth


def _boosting(path: Path) -> Any:
    """Train 100 trees of depth 3; return 64 of its inputs, as JSON with four digits carries them."""
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import GradientBoostingClassifier

    x, y = make_classification(2000, len(FIELDS), n_informative=12, random_state=7)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=7).fit(x, y)
    made = to_onnx(model, x[:1].astype(np.float32), options={"zipmap": False})
    path.write_bytes(made.SerializeToString())
    return x[:RECORDS].round(4).astype(np.float32)


def _photo(seed: int) -> bytes:
    """Return a picture with large and small forms, as JPEG of about 30 KB."""
    from PIL import Image

    draw, size = np.random.default_rng(seed), (PHOTO_SIDE, PHOTO_SIDE)
    tint = draw.uniform(40, 210, 3)
    pixels = np.zeros((*size, 3)) + tint
    for cells, weight in ((3, 50), (12, 30), (48, 18), (240, 9)):
        noise = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += (np.asarray(noise.resize(size, Image.Resampling.BICUBIC), dtype=float) / 127.5 - 1) * weight
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    sizes = {quality: _jpeg(picture, quality) for quality in range(30, 96, 3)}
    return min(sizes.values(), key=lambda made: abs(len(made) - PHOTO_BYTES))


def _jpeg(picture: Any, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _network(path: Path, pixels: Any) -> None:
    """Write four convolutions and a linear layer with random weights.

    The last layer is fitted so that picture i is part i with a clear margin: a wrong answer is then seen.
    """
    features = _run(_graph(with_head=None), pixels)
    target = np.where(np.eye(len(pixels), len(PARTS)) > 0, 3.0, 0.0)
    centre = features.mean(axis=0)
    weights = np.linalg.pinv(features - centre, rcond=1e-3) @ (target - target.mean(axis=0))
    bias = target.mean(axis=0) - centre @ weights
    path.write_bytes(_graph(with_head=(weights.astype(np.float32), bias.astype(np.float32))))


def _run(model: bytes, pixels: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels})[
        0
    ]


def _graph(with_head: tuple[Any, Any] | None) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    draw, nodes, weights, at = np.random.default_rng(11), [], [], "pixels"
    for number, (into, out) in enumerate(pairwise(_CHANNELS)):
        kernel = draw.normal(0, np.sqrt(2 / (into * 9)), (out, into, 3, 3)).astype(np.float32)
        weights += [numpy_helper.from_array(kernel, f"w{number}")]
        nodes += [
            helper.make_node("Conv", [at, f"w{number}"], [f"c{number}"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        ]
        at = f"r{number}"
    nodes += [helper.make_node("GlobalAveragePool", [at], ["pool"]), helper.make_node("Flatten", ["pool"], ["f"])]
    name, width = "f", _CHANNELS[-1]
    if with_head is not None:
        weights += [
            numpy_helper.from_array(array, key) for array, key in zip(with_head, ("wh", "bh"), strict=True)
        ]
        nodes += [
            helper.make_node("Gemm", ["f", "wh", "bh"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
        name, width = "probabilities", len(PARTS)
    graph = helper.make_graph(
        nodes, "photo", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return bytes(model.SerializeToString())


__all__ = ["FIELDS", "PARTS", "RISKS", "Truth", "make"]
