"""What an endpoint takes as tensors, and from tensors to its inputs. Pure.

Every endpoint takes `input`: texts, clips, pictures (encoded, or pixels), JSON objects where a record declares no
fields, or a matrix with a column for each field where all fields are numbers. A record with declared fields also
takes one tensor for each field.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from tenure.data import pictures, sound
from tenure.data.decode import read_json, read_text
from tenure.data.schema import InputSchema
from tenure.deploy.serving.oip.messages import Parameter, TensorMetadata
from tenure.deploy.serving.oip.records import NUMBERS, Item, Records, datatype_of, tried
from tenure.deploy.serving.oip.refusals import wrong, wrong_datatype, wrong_shape
from tenure.deploy.serving.oip.tensors import DTYPES, Tensor, from_bytes, of_bytes
from tenure.errors import CaseError
from tenure.types import Audio, Image, Input

INPUT = "input"
MAX_ROWS = 4096
"""Rows of one request; more are refused with 413."""


class Inputs:
    """The inputs of one endpoint.

    Attributes:
        metadata: the tensors that clients are told of; the others are taken as well.
    """

    def __init__(self, model: str, schema: InputSchema) -> None:
        self._model = model
        self._schema = schema
        self._fields = schema.fields
        numbers = bool(self._fields) and all(f.type in NUMBERS for f in self._fields.values())
        self._has_matrix = numbers and INPUT not in self._fields
        self._records = Records(model, schema)
        self.metadata = self._metadata()

    def raw(self, body: bytes) -> Tensor:
        """Return a whole body as the tensor of a model that has one: numbers fill rows, bytes are one element.

        Raises:
            CaseError: 400, the model has several inputs, or the body is no whole number of rows.
        """
        if len(self.metadata) != 1:
            names = ", ".join(m.name for m in self.metadata)
            raise wrong(f"a raw body needs a model with one input; {self._model!r} has {names}")
        told = self.metadata[0]
        if told.datatype == "BYTES":
            return of_bytes(told.name, [body])
        row = DTYPES[told.datatype].itemsize * math.prod(told.shape[1:])
        return from_bytes(told.name, told.datatype, (len(body) // row, *told.shape[1:]), body)

    def items(self, tensors: Sequence[Tensor]) -> list[Item]:
        """Return the input of each row; a CaseError stands for a row that cannot be used.

        Raises:
            CaseError: 400, the tensors are not those of the endpoint; 413, too many rows.
        """
        named = {tensor.name: tensor for tensor in tensors}
        if len(named) != len(tensors):
            raise wrong(f"an input of model {self._model!r} is given twice")
        rows = self._rows(tensors)
        if not self._fields or (self._has_matrix and INPUT in named):
            self._expect(named, {INPUT}, needed={INPUT})
            return self._of_one(named[INPUT])
        self._expect(named, set(self._fields), needed={n for n, f in self._fields.items() if f.required})
        return self._records.columns(named, rows)

    def values(self, tensors: Sequence[Tensor]) -> npt.NDArray[np.float64] | None:
        """Return the one matrix of a request whose every row is right; None: read it with `items`."""
        if not self._has_matrix or len(tensors) != 1 or tensors[0].name != INPUT:
            return None
        if not 1 <= (tensors[0].shape[0] if tensors[0].shape else 0) <= MAX_ROWS:
            return None
        return self._records.values(tensors[0])

    # What clients are told

    def _metadata(self) -> tuple[TensorMetadata, ...]:
        if self._has_matrix:
            columns: dict[str, Parameter] = {"columns": ",".join(self._fields)}
            return (TensorMetadata(INPUT, "FP64", (-1, len(self._fields)), columns),)
        if self._fields:
            return tuple(TensorMetadata(n, datatype_of(f), (-1,)) for n, f in self._fields.items())
        return (TensorMetadata(INPUT, "BYTES", (-1,)),)

    # What they sent

    def _rows(self, tensors: Sequence[Tensor]) -> int:
        counts = {tensor.shape[0] if tensor.shape else 0 for tensor in tensors}
        if len(counts) != 1:
            raise wrong(f"the inputs of a request to {self._model!r} have one and the same number of rows")
        (rows,) = counts
        if rows == 0:
            raise wrong(f"the request to {self._model!r} has no rows")
        if rows > MAX_ROWS:
            raise CaseError(
                f"{rows} rows are more than {MAX_ROWS}; send them in several requests",
                code="too_large", at="inputs", status=413,
            )  # fmt: skip
        return rows

    def _expect(self, named: dict[str, Tensor], known: set[str], *, needed: set[str]) -> None:
        other = sorted(named.keys() - known)
        if other:
            told = ", ".join(m.name for m in self.metadata)
            raise wrong(
                f"unexpected inference input {other[0]!r} for model {self._model!r}; it takes {told}", at=other[0]
            )
        missing = sorted(needed - named.keys())
        if missing:
            raise wrong(
                f"expected {len(needed)} inputs for model {self._model!r}, {missing[0]!r} is missing",
                at=missing[0],
            )

    def _of_one(self, tensor: Tensor) -> list[Item]:
        if self._fields:
            return self._records.matrix(tensor)
        if self._schema.kind == "image" and tensor.datatype != "BYTES":
            return _pixels(self._model, tensor)
        return self._elements(tensor)

    def _elements(self, tensor: Tensor) -> list[Item]:
        """Read texts, objects, pictures or clips; together they may not cost more than one large one."""
        shape = tensor.shape
        if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
            raise wrong_shape(self._model, tensor, "[-1]")
        if tensor.datatype != "BYTES":
            raise wrong_datatype(self._model, tensor, "BYTES")
        left, items = {"image": pictures.MAX_PIXELS, "audio": sound.MAX_SAMPLES}.get(self._schema.kind, 0), []
        for body in tensor.data.ravel().tolist():
            items.append(tried(partial(self._element, left=left), body or b""))
            left -= _cost(items[-1])
        return items

    def _element(self, body: bytes, *, left: int) -> Input:
        if self._schema.kind == "image":
            return pictures.read_image(body, min_side=self._schema.min_side or 0, max_pixels=left)
        if self._schema.kind == "audio":
            return sound.read_audio(body, max_samples=left)
        if self._schema.kind == "text":
            return read_text(body)
        return self._schema.check_record(read_json(body))


def _pixels(model: str, tensor: Tensor) -> list[Item]:
    if tensor.datatype != "UINT8":
        raise wrong_datatype(model, tensor, "BYTES (encoded pictures) or UINT8 (pixels)")
    if tensor.data.ndim != 4 or tensor.shape[3] != 3 or 0 in tensor.shape:
        raise wrong_shape(model, tensor, "[-1,-1,-1,3]")
    if tensor.data.size // 3 > pictures.MAX_PIXELS:
        raise wrong(f"more than {pictures.MAX_PIXELS} pixels in one request", at=tensor.name)
    return [_picture(pixels) for pixels in np.ascontiguousarray(tensor.data)]


def _picture(pixels: npt.NDArray[np.uint8]) -> Image:
    """Return an image whose encoded form is a PNG, so that a reviewer can be shown what the model saw."""
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG", compress_level=1)
    own = pixels.copy()
    own.flags.writeable = False
    return Image(own, out.getvalue(), "image/png")


def _cost(item: Item) -> int:
    if isinstance(item, Image):
        return item.height * item.width
    return len(item.samples) if isinstance(item, Audio) else 0
