"""Synthetic rows of the prediction log for the tests of the monitor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tenure.data.records import PREDICTION
from tenure.monitor.measure import Rows
from tenure.scope.project import EndpointSpec, Monitor, Output

LABELS = ("good", "defect")


def spec(**monitor: Any) -> EndpointSpec:
    settings = {"pane": 1.0, "reference": 40, "tolerance": 0.02, **monitor}
    return EndpointSpec(
        input="image",
        output=Output(labels=LABELS, regions="box"),
        monitor=Monitor(**settings),
    )


def rows(
    rng: np.random.Generator,
    start_us: int,
    *,
    n: int = 50,
    light: float = 1.0,
    inputs: Mapping[str, Any] | None = None,
    version: str = "m@1",
    routing: int = 1,
    confidence: float = 0.9,
    pane_s: float = 1.0,
    endpoint: str = "phones",
) -> Rows:
    """Return n rows spread over the pane that starts at start_us."""
    c: dict[str, Any] = {name: np.zeros(n, dtype=dtype) for name, dtype in PREDICTION}
    c["t_ns"] = (start_us + np.sort(rng.uniform(0, pane_s * 1e6, n))).astype(np.int64) * 1000
    c["latency_us"] = rng.uniform(2_000, 9_000, n).astype("<u4")
    c["routing"][:] = routing
    c["confidence"] = np.clip(rng.normal(confidence, 0.05, n), 0, 1).astype("<f4")
    c["stage_us:detect"] = rng.uniform(500, 900, n).astype("<f4")
    found = inputs or {
        "brightness": rng.normal(120, 10, n) * light,
        "contrast": rng.normal(40, 4, n) * light,
        "sharpness": rng.gamma(9, 20, n) * light**2,
        "width": np.full(n, 320.0),
    }
    c |= {f"x:{name}": np.asarray(x, dtype="<f4") for name, x in found.items()}
    values = [LABELS[int(bad)] for bad in rng.uniform(size=n) < 0.3]
    return Rows(endpoint, (version,), c, values)
