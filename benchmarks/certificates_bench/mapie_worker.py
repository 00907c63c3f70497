"""MAPIE's risk control on given draws; runs in MAPIE's own environment, with numpy and MAPIE only.

    python mapie_worker.py draws.npz answers.npz

At the planned number of labels `BinaryClassificationController` itself answers, with its default procedure
(Bonferroni-Holm) for precision. After every batch its own p-values of the counts go through the same procedure;
at the last batch this must give the controller's thresholds, which is checked for every draw.
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
    out = {name: [] for name in ("default", "default_peeked", "grid", "grid_peeked")}
    odd = 0
    for rows, grid in zip(data["rows"], grids, strict=True):
        s, w = score[rows], wrong[rows]
        for name, params in (("default", DEFAULT), ("grid", np.sort(grid[~np.isnan(grid)]))):
            last, found = peeked(*looks(s, w, params, batch), params, bound, delta)
            made = controller(s, w, params, bound, delta)
            odd += not np.array_equal(np.sort(made.valid_predict_params), np.sort(last))
            best = made.best_predict_param
            out[name].append(np.inf if best is None else float(np.ravel(best)[0]))
            out[f"{name}_peeked"].append(found)
    np.savez(sys.argv[2], odd=odd, **{name: np.array(v) for name, v in out.items()})


main()
