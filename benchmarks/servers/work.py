"""The work that every Python contender does for a request: the same files, the same libraries, the same pixels.

Imports NumPy, ONNX Runtime and Pillow only, so that it runs in each contender's own environment.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

FIELDS = tuple(f"f{i}" for i in range(30))
RISKS = ("no", "yes")
PARTS = ("bolt", "cable", "clip", "gear", "lens", "nut", "panel", "screw")
SIDE = 128
_PR_SET_PDEATHSIG = 1


def session(path: Path) -> Any:
    """Open an ONNX file with one thread: the processes are the parallelism."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


class Risk:
    """Gradient boosting: (n, 30) float32 to (n, 2) probabilities."""

    def __init__(self, models: Path) -> None:
        self._session = session(models / "risk.onnx")

    def probabilities(self, rows: Any) -> Any:
        return self._session.run(["probabilities"], {"X": rows})[0]

    def answer(self, record: dict[str, float]) -> dict[str, Any]:
        """Return the label and its probability for one record."""
        row = np.array([[record[name] for name in FIELDS]], dtype=np.float32)
        return named(self.probabilities(row)[0], RISKS)


class Photo:
    """A small convolutional network: an encoded picture to the probabilities of eight labels."""

    def __init__(self, models: Path) -> None:
        self._session = session(models / "photo.onnx")

    def probabilities(self, pixels: Any) -> Any:
        return self._session.run(["probabilities"], {"pixels": pixels})[0]

    def answer(self, body: bytes) -> dict[str, Any]:
        return named(self.probabilities(tensor(body))[0], PARTS)


def tensor(body: bytes) -> Any:
    """Decode as most handlers do: all pixels, then resize; (1, 3, 128, 128) float32 in [0, 1]."""
    with Image.open(io.BytesIO(body)) as picture:
        small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return as_tensor(small)


def as_tensor(picture: Any) -> Any:
    """Return a small RGB picture as (1, 3, height, width) float32 in [0, 1]."""
    pixels = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(pixels) / np.float32(255)


def named(probabilities: Any, labels: tuple[str, ...]) -> dict[str, Any]:
    best = int(probabilities.argmax())
    return {"value": labels[best], "confidence": float(probabilities[best])}


def told(text: str | None) -> argparse.Namespace:
    """Return what the benchmark tells a contender's script, which will not outlive the benchmark."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("kind", choices=("record", "photo"), help="what to serve")
    parser.add_argument("models", type=Path, help="folder with risk.onnx and photo.onnx")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a folder of the contender's own")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--variant", default="")
    parser.add_argument("--prepare", action="store_true", help="make files that a start needs, and end")
    return parser.parse_args()
