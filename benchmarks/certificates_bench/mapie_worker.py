"""MAPIE's risk control on given draws; runs in MAPIE's own environment, with numpy and MAPIE only.

    python mapie_worker.py draws.npz answers.npz

After every batch MAPIE's p-values of the counts go through its default procedure (Bonferroni-Holm) for precision.
At the planned number of labels this must give the thresholds of `BinaryClassificationController` itself, which is
run for every draw. One difference is in its favour here: where no label reaches a threshold, the controller's
p-value is not a number and it then claims nothing at all; here that one threshold is not claimed. Such draws are
counted (`lost`); any other difference is an error (`odd`).
"""

import sys
import warnings

import numpy as np
from mapie.risk_control import BinaryClassificationController
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

DEFAULT = np.linspace(0, 0.99, 100)


def controller(score, wrong, params, bound, delta):
    made = BinaryClassificationController(
        predict_function=lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]), risk="precision",
        target_level=1 - bound, confidence_level=1 - delta, list_predict_params=params,
    )  # fmt: skip
    return made.calibrate(score[:, None], (~wrong).astype(int))


def looks(score, wrong, params, batch):
    """Return n and k after every batch, (looks, params)."""
    above = score[:, None] >= params[None, :]
    n = above.cumsum(axis=0, dtype=np.int32)[batch - 1 :: batch]
    return n, (above & wrong[:, None]).cumsum(axis=0, dtype=np.int32)[batch - 1 :: batch]


def peeked(n, k, params, bound, delta):
    # In the controller's own arithmetic: its rounding decides whether a count is rounded up to the next one.
    rate = np.where(n > 0, 1 - (n - k) / np.maximum(n, 1), 1.0)
    level, delta = 1 - (1 - bound), 1 - (1 - delta)
    p = compute_hoeffding_bentkus_p_value(rate.ravel(), n.ravel(), level, binary=True).reshape(n.shape)
    p[n == 0] = 1.0
    keep = step_down(p, delta)
    found = np.where(keep, params, np.inf).min(axis=1)
    return params[keep[-1]], found


def step_down(p, delta):
    """Return Holm's rejections row by row, as `control_fwer` makes them one hypothesis at a time."""
    order = np.argsort(p, axis=1, kind="stable")
    fine = np.take_along_axis(p, order, axis=1) <= delta / np.arange(p.shape[1], 0, -1)
    keep = np.zeros(p.shape, bool)
    np.put_along_axis(keep, order, np.logical_and.accumulate(fine, axis=1), axis=1)
    return keep


def main():
    warnings.simplefilter("ignore")
    data = np.load(sys.argv[1])
    score, wrong, grids = data["score"], data["wrong"], data["grids"]
    bound, delta, batch = float(data["bound"]), float(data["delta"]), int(data["batch"])
    out, odd, lost = {"default": [], "grid": []}, 0, 0
    for rows, grid in zip(data["rows"], grids, strict=True):
        s, w = score[rows], wrong[rows]
        for name, params in (("default", DEFAULT), ("grid", np.sort(grid[~np.isnan(grid)]))):
            n, k = looks(s, w, params, batch)
            last, found = peeked(n, k, params, bound, delta)
            made = controller(s, w, params, bound, delta)
            if not np.array_equal(np.sort(made.valid_predict_params), np.sort(last)):
                odd, lost = odd + (n[-1] > 0).all(), lost + (n[-1] == 0).any()
            out[name].append(found)
    np.savez(sys.argv[2], odd=odd, lost=lost, **{name: np.array(v) for name, v in out.items()})


main()
