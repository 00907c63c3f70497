"""Records as the named tensors that a model declares: one matrix, or one column for each field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.errors import ModelError
from tenure.model.columns import Columns
from tenure.model.formats.tabular import features_of

Array = npt.NDArray[Any]


class Wanted(msgspec.Struct, frozen=True):
    """One input of a model; `columns` is the size of its second axis: 1, more, or None where any fits.

    `dtype` is a NumPy type; `object` stands for texts.
    """

    name: str
    dtype: str
    columns: int | None
    flat: bool = False  # shape (n,) instead of (n, 1)


def feed(batch: Sequence[Any], wanted: Sequence[Wanted], features: Sequence[str], file: str) -> dict[str, Array]:
    """Return input -> (n, columns) array.

    A model with one input of numbers gets the features as a matrix. A model with several gets the field of the
    same name in each; where the names differ, `features` are the fields in the order of the inputs.

    Raises:
        ModelError: the inputs cannot be filled from records.
        ValueError: a field of this batch has the wrong type, or is missing where the type has no such value.
    """
    first = wanted[0]
    if len(wanted) == 1 and first.columns != 1:
        rows = features_of(batch, features, file)
        if first.columns not in (None, rows.shape[1]):
            raise ModelError(f"{file} takes {first.columns} features, got {rows.shape[1]}", at=file)
        return {first.name: rows.astype(first.dtype, copy=False)}
    if not isinstance(batch[0], dict):
        raise ModelError(f"{file} has {len(wanted)} inputs; it takes records, not arrays", at=file)
    wide = [each.name for each in wanted if each.columns not in (None, 1)]
    if wide:
        raise ModelError(f"the input {wide[0]} of {file} takes several columns beside other inputs", at=file)
    columns = Columns(batch)
    fields = _fields(wanted, features, columns, file)
    return {
        each.name: _column(columns, name, each, len(batch)) for each, name in zip(wanted, fields, strict=True)
    }


def _fields(wanted: Sequence[Wanted], features: Sequence[str], columns: Columns, file: str) -> list[str]:
    own = [each.name for each in wanted]
    if set(own) <= (set(features) or set(columns)):
        return own
    if len(features) != len(own):
        raise ModelError(
            f"{file} takes {', '.join(own[:8])}; the fields are {', '.join((features or list(columns))[:8])}",
            at=file,
        )
    return list(features)


def _column(columns: Columns, name: str, each: Wanted, rows: int) -> Array:
    found = columns[name] if name in columns else np.full(rows, np.nan)
    if each.dtype == "object":
        if found.dtype != object or any(not isinstance(v, str) for v in found):
            raise ValueError(f"field {name!r} must be a text")
    elif found.dtype == object and any(v is not None for v in found):
        raise ValueError(f"field {name!r} is not numeric")
    elif each.dtype.startswith(("int", "uint", "bool")) and not np.isfinite(found.astype(np.float64)).all():
        raise ValueError(f"field {name!r} is missing, and the model takes whole numbers only")
    made = found.astype(object if each.dtype == "object" else each.dtype)
    return made if each.flat else made[:, None]
