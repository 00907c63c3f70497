"""ONNX files: a session as a callable, and a model over rows as a stage that needs no code of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tenure.errors import ModelError
from tenure.model.formats import onnx_file
from tenure.model.formats.tabular import Link, Raw, Tabular, classified, confidence_of
from tenure.model.formats.tensors import Wanted, feed
from tenure.types import Failed, Prediction

Array = npt.NDArray[Any]
ENDINGS = (".onnx",)


def onnx(path: str | Path, *, threads: int = 1) -> Session:
    """Open an ONNX file on the CPU.

    One thread by default: the workers are the parallelism, and a session that takes all cores for one request
    takes them from every other.

    Raises:
        ModelError: the file is missing, no ONNX model that can be run, or needs operators or files of others.
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
        onnx_file.check(path, path.parent)
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

    def wanted(self) -> tuple[Wanted, ...]:
        """Return the inputs as tensors to be filled from rows."""
        return tuple(_wanted(each) for each in self._session.get_inputs())

    def __call__(self, *arrays: Any, **named: Any) -> dict[str, Any]:
        """Run the model; arrays are converted to the type that each input declares.

        Raises:
            ModelError: there are other inputs than the model's.
        """
        given = {**dict(zip(self.inputs, arrays, strict=False)), **named}
        if len(arrays) > len(self.inputs) or given.keys() != self._types.keys():
            raise ModelError(f"the model takes {', '.join(self.inputs)}; got {', '.join(given)}", at="inputs")
        return self.run({name: _as(array, self._types[name]) for name, array in given.items()}, self.outputs)

    def run(self, feed: dict[str, Array], outputs: Sequence[str]) -> dict[str, Any]:
        """Return some outputs for inputs that have the model's names and types already."""
        return dict(zip(outputs, self._session.run(outputs, feed), strict=True))


@dataclass
class OnnxModel(Tabular):
    """A model over rows in an ONNX file as a stage.

    Args:
        file: see `Tabular`; so are `labels`, `features` and `scale`.
        answer: `label` or `number`; empty = what the outputs look like.
        scores: what a (n, k) output of a classifier holds: probabilities, scores before the `softmax`, or a
            `margin` that is no probability after any link.
        quantiles: levels, ascending, of the columns of a regressor's output; gives a confidence by the width.
        output: name of the output to answer from; empty = the first that fits.

    Takes records, or arrays of features from a stage before it. A model with one input gets a matrix. A model
    with several inputs of one column each, as skl2onnx writes for fields of different types, gets each field by
    name.
    Probabilities are a (n, k) output or a list of {label: probability}, as skl2onnx writes either.
    """

    file: str = "model.onnx"
    answer: Literal["", "label", "number"] = ""
    scores: Link = "probability"
    quantiles: Sequence[float] = ()
    output: str = ""

    def load(self, files: Path) -> None:
        """Open the file."""
        self._session = onnx(self.place(files))
        self._wanted = self._session.wanted()
        self._asked: Sequence[str] = (self.output,) if self.output else self._session.outputs
        if self.output and self.output not in self._session.outputs:
            raise ModelError(
                f"{self.file} has no output {self.output}; it has {', '.join(self._session.outputs)}", at="output"
            )

    def predict(self, batch: list[Any]) -> Sequence[Prediction | Failed]:
        """Answer a batch of records or of arrays of features."""
        outputs = self._session.run(feed(batch, self._wanted, self.features, self.file), self._asked)
        raw = self._raw(outputs, len(batch))
        self.confidence = confidence_of(raw.kind)
        return self.answers(raw)

    def _raw(self, outputs: dict[str, Any], rows: int) -> Raw:
        chances = next((v for v in outputs.values() if _are_scores(v, rows)), None)
        if self.answer == "number" or (self.quantiles and not self.answer):
            return self._number(outputs, rows)
        if chances is not None and (self.answer == "label" or _classes(chances) != 1):
            return self._chances(chances)
        if not self.answer and any(_is_column(v, rows) and v.dtype.kind == "f" for v in outputs.values()):
            return self._number(outputs, rows)
        label = next((v for v in outputs.values() if _is_column(v, rows)), None)
        if label is None:
            raise ModelError(
                f"no output of {self.file} holds an answer for each row: {_shapes(outputs)}", at=self.file
            )
        return Raw("label", label.reshape(-1))

    def _chances(self, found: Any) -> Raw:
        if isinstance(found, list):
            classes = tuple(str(key) for key in found[0])
            return Raw("probability", np.array([list(row.values()) for row in found], dtype=np.float64), classes)
        return classified(found, self.scores)

    def _number(self, outputs: dict[str, Any], rows: int) -> Raw:
        if self.quantiles:
            for value in outputs.values():
                if isinstance(value, np.ndarray) and value.shape == (rows, len(self.quantiles)):
                    return Raw("interval", value, levels=tuple(self.quantiles))
        found = next((v for v in outputs.values() if _is_column(v, rows) and v.dtype.kind in "fiu"), None)
        if found is None or self.quantiles:
            raise ModelError(f"no output of {self.file} holds one number a row: {_shapes(outputs)}", at=self.file)
        return Raw("number", found.reshape(-1))


@dataclass
class OnnxClassifier(OnnxModel):
    """A classifier in an ONNX file as a stage: features in, the most probable label out.

    The name that bundles of format 1 use. Options as of `OnnxModel`.
    """

    answer: Literal["", "label", "number"] = "label"


def _are_scores(value: Any, rows: int) -> bool:
    if isinstance(value, list):
        return len(value) == rows and isinstance(value[0], dict)
    return bool(value.ndim == 2 and len(value) == rows and value.dtype.kind == "f")


def _classes(value: Any) -> int:
    return len(value[0])


def _is_column(value: Any, rows: int) -> bool:
    return isinstance(value, np.ndarray) and value.shape in ((rows,), (rows, 1))


def _shapes(outputs: dict[str, Any]) -> str:
    return ", ".join(f"{n} {getattr(v, 'shape', type(v).__name__)}" for n, v in outputs.items())


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


def _wanted(each: Any) -> Wanted:
    dtype = _DTYPES.get(each.type, np.float32)
    shape = each.shape
    columns = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else 1 if len(shape) == 1 else None
    return Wanted(
        each.name, "object" if dtype is np.object_ else np.dtype(dtype).name, columns, flat=len(shape) == 1
    )


def _as(array: Any, dtype: type[Any] | None) -> Array:
    return np.asarray(array) if dtype is None else np.ascontiguousarray(array, dtype=dtype)
