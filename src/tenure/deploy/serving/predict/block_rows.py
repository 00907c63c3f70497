"""The records of a block as the columns of a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LARGEST = np.float32(3e38)  # metrics end there: see `Desk.measure`


def as_metrics(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32] | None:
    """Return a matrix of records as its metrics, (1 + fields, n); None where float32 would change a value.

    The first metric is the share of missing values. What is returned equals `Desk.measure`, transposed, and needs
    no columns of fields beside it: most clients send float32.
    """
    with np.errstate(over="ignore"):
        rows = values.astype(np.float32)
    same = rows == values
    if same.all():
        missing, most = np.float32(0.0), np.maximum.reduce(np.abs(rows), axis=None, initial=0.0)
    else:
        gone = np.isnan(rows)
        if not (same | gone).all():
            return None
        missing, most = gone.mean(axis=1), np.fmax.reduce(np.abs(rows), axis=None, initial=0.0)
    if most > _LARGEST:
        return None
    out = np.empty((1 + rows.shape[1], len(rows)), np.float32)
    out[0], out[1:] = missing, rows.T
    return out
