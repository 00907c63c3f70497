"""PyTorch programs in `.pt2` files, as `torch.export.save` writes them.

Reading one unpickles parts of it and evaluates expressions in it, so it can run code: like a pickle it is loaded
only where the operator pinned its hash. ONNX is the way without that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenure.errors import ModelError
from tenure.model.formats import extras
from tenure.model.formats.tabular import Array, Link, Raw, Tabular, classified, confidence_of, features_of
from tenure.types import Failed, Prediction

ENDINGS = (".pt2",)


@dataclass
class TorchModel(Tabular):
    """An exported program of one input as a stage.

    `scores` says what its (n, k) output of classes holds, see `OnnxModel`; a (n,) or (n, 1) output is a number,
    unless `labels` are given: then it is the chance of the second of two. Takes records, or arrays of any one
    shape from a stage before.
    """

    file: str = "model.pt2"
    scores: Link = "probability"

    def load(self, files: Path) -> None:
        """Open the file for one thread, since the workers are the parallelism."""
        place = self.place(files)
        torch = self._torch = extras.load("torch", format="PyTorch")
        torch.set_num_threads(1)
        try:
            program = torch.export.load(place)
            self._rows = _fixed_rows(program)
            self._module = program.module()
        except Exception as error:  # whatever a broken archive makes torch raise
            why = f"{type(error).__name__}: {str(error)[:300]}"
            raise ModelError(f"cannot load {self.file}: {why}", at=self.file) from error

    def predict(self, batch: list[Any]) -> Sequence[Prediction | Failed]:
        """Answer a batch of records or of arrays."""
        raw = self._raw(self._run(features_of(batch, self.features, self.file)))
        self.confidence = confidence_of(raw.kind)
        return self.answers(raw)

    def _run(self, rows: Array) -> Array:
        """Run the program; one that was exported for a fixed number of rows gets that many at a time."""
        size = self._rows or len(rows)
        parts = [self._run_part(rows[i : i + size], size) for i in range(0, len(rows), size)]
        return np.concatenate(parts)

    def _run_part(self, rows: Array, size: int) -> Array:
        filled = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
        with self._torch.inference_mode():
            out = self._module(self._torch.from_numpy(filled))
        out = out[0] if isinstance(out, tuple | list) else out
        return np.asarray(out.numpy())[: len(rows)]

    def _raw(self, values: Array) -> Raw:
        if values.ndim == 2 and values.shape[1] > 1:
            return classified(values, self.scores)
        if values.size != len(values):
            raise ModelError(
                f"{self.file} answers an array of shape {values.shape}, not a row of scores", at="file"
            )
        return Raw("probability" if self.labels else "number", values.reshape(-1))


def _fixed_rows(program: Any) -> int | None:
    """Return the number of rows that the program was exported for, None where it takes any."""
    names = program.graph_signature.user_inputs
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(inputs) != 1:
        raise ModelError(f"expected a program with one input, got {len(inputs)}", at="file")
    rows = inputs[0].meta["val"].shape[0]
    return rows if isinstance(rows, int) else None
