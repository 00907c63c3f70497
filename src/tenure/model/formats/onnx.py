"""ONNX files: a session as a callable, and a classifier stage that needs no code of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tenure.errors import ModelError
from tenure.model.answer import Scores
from tenure.model.columns import Rows, matrix
from tenure.types import Failed, Image, Prediction

Array = npt.NDArray[Any]


def onnx(path: str | Path, *, threads: int = 1) -> Session:
    """Open an ONNX file on the CPU.

    One thread by default: the workers are the parallelism, and a session that takes all cores for one request
    takes them from every other.

    Raises:
        ModelError: the file is missing or no ONNX model that can be run.
    """
    return Session(Path(path), threads=threads)


class Session:
    """A loaded ONNX model: `session(x)` or `session(name=x)` returns its outputs by name, as NumPy arrays.

    Attributes:
        inputs: names of the inputs, in order.
        outputs: names of the outputs, in order.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import onnxruntime

        if not path.is_file():
            raise ModelError(f"no ONNX file at {path.name}", at=path.name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no public base class of its errors
            raise ModelError(f"cannot load {path.name}: {str(error)[:300]}", at=path.name) from error
        self._types = {i.name: _dtype(i.type) for i in self._session.get_inputs()}
        self.inputs = tuple(self._types)
        self.outputs = tuple(o.name for o in self._session.get_outputs())

    def __call__(self, *arrays: Any, **named: Any) -> dict[str, Any]:
        """Run the model; arrays are converted to the type that each input declares.

        Raises:
            ModelError: there are other inputs than the model's.
        """
        given = {**dict(zip(self.inputs, arrays, strict=False)), **named}
        if len(arrays) > len(self.inputs) or given.keys() != self._types.keys():
            raise ModelError(f"the model takes {', '.join(self.inputs)}; got {', '.join(given)}", at="inputs")
        feed = {name: _as(array, self._types[name]) for name, array in given.items()}
        return dict(zip(self.outputs, self._session.run(None, feed), strict=True))


@dataclass
class OnnxClassifier:
    """A classifier in an ONNX file as a stage: features in, the most probable label out.

    Args:
        file: name of the file in the bundle's `files`.
        labels: names of the classes in the order of the probabilities; empty = those in the file.
        features: fields of a record in the order of the model's columns; empty = all fields, as they stand.
            Missing values become NaN.

    Takes records, or arrays of features from a stage before it. The probabilities are a (n, k) output or a list
    of {label: probability}, as skl2onnx writes either.
    """

    file: str = "model.onnx"
    labels: Sequence[str] = ()
    features: Sequence[str] = ()
    takes_rows: ClassVar[bool] = True

    def load(self, files: Path) -> None:
        self._session = onnx(files / self.file)
        if len(self._session.inputs) != 1:
            raise ModelError(f"{self.file} must have one input, has {len(self._session.inputs)}", at=self.file)

    def predict(self, batch: Sequence[Any]) -> Sequence[Prediction | Failed]:
        outputs = self._session(self._matrix(batch))
        found = next((v for v in outputs.values() if _are_probabilities(v, len(batch))), None)
        if found is None:
            shapes = ", ".join(f"{n} {getattr(v, 'shape', type(v).__name__)}" for n, v in outputs.items())
            raise ModelError(f"no output of {self.file} holds probabilities: {shapes}", at=self.file)
        labels = self._names(found, outputs)
        return Scores.of(labels, _table(found))

    def _matrix(self, batch: Sequence[Any]) -> Array:
        if isinstance(batch, Rows):
            return batch.matrix(*self.features)
        if isinstance(batch[0], dict):
            return matrix(batch, self.features)
        if isinstance(batch[0], str | Image):
            raise ModelError(f"{self.file} takes features; put a stage before it that makes them", at=self.file)
        return np.stack([np.asarray(item, dtype=np.float32) for item in batch])

    def _names(self, found: Any, outputs: dict[str, Any]) -> tuple[str, ...]:
        count = len(found[0])
        if isinstance(found, list):
            own = tuple(str(key) for key in found[0])
        else:
            own = tuple(str(i) for i in range(max(2, count)))
        names = tuple(self.labels) or own
        if len(names) != max(2, count):
            raise ModelError(
                f"{self.file} has {max(2, count)} classes, {len(names)} labels are given", at="labels"
            )
        return names


def _are_probabilities(value: Any, rows: int) -> bool:
    if isinstance(value, list):
        return len(value) == rows and isinstance(value[0], dict)
    return bool(value.ndim == 2 and len(value) == rows and value.dtype.kind == "f")


def _table(found: Any) -> Array:
    """Return (n, labels) probabilities; a single column is the chance of the second class."""
    if isinstance(found, list):
        return np.array([[float(row[key]) for key in found[0]] for row in found], dtype=np.float32)
    table: Array = found
    return np.hstack([1 - table, table]) if table.shape[1] == 1 else table


_DTYPES: dict[str, type[Any]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


def _dtype(text: str) -> type[Any] | None:
    return _DTYPES.get(text)


def _as(array: Any, dtype: type[Any] | None) -> Array:
    return np.asarray(array) if dtype is None else np.ascontiguousarray(array, dtype=dtype)
