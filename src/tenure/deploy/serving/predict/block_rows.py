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
    n, width = values.shape
    out = np.empty((1 + width, n), np.float32)
    columns = out[1:]
    with np.errstate(over="ignore"):
        columns[:] = values.T
    same = columns == values.T
    if same.all():
        out[0] = 0.0
    else:
        gone = np.isnan(columns)
        if not (same | gone).all():
            return None
        out[0] = gone.mean(axis=0)
    return out if np.fmax.reduce(np.abs(columns), axis=None, initial=0.0) <= _LARGEST else None
