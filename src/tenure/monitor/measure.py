"""From rows of the prediction log to profiles per pane; nothing is computed that the row does not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.data import columnar
from tenure.data.frames import Frame, stack
from tenure.data.records import Flag, Status
from tenure.monitor import metrics
from tenure.monitor.profile import Profile
from tenure.scope.project import Output
from tenure.types import Route

Array = npt.NDArray[Any]

NO_VERSION = 65535
"""`version` of a row that no model answered."""


class Named(Sequence[str]):
    """Answers that are all names of a short list, as they stand in a column: (rows,) indices into the names."""

    def __init__(self, indices: Array, names: Sequence[str]) -> None:
        self.indices, self.names = indices, names

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self.names[k] for k in self.indices[i].tolist()]
        return self.names[int(self.indices[i])]


class Rows(msgspec.Struct, frozen=True):
    """The rows of one or more prediction frames of one endpoint and one schema.

    Attributes:
        endpoint: its name.
        versions: the schema's dictionary for the `version` column.
        columns: column name -> (rows,) array, as in `records.PREDICTION` with its `x:` and `stage_us:` columns.
        values: the answers, one per row; None where there is none.
    """

    endpoint: str
    versions: tuple[str, ...]
    columns: Mapping[str, Array]
    values: Sequence[Any]


def rows_of(parts: Sequence[Frame]) -> Rows:
    """Return the rows of intact prediction frames of one schema."""
    schema, columns = parts[0].schema, stack(parts)
    return Rows(schema.endpoint, schema.versions, columns, _values(parts, columns))


def _values(parts: Sequence[Frame], columns: Mapping[str, Array]) -> Sequence[Any]:
    """Return the answers of the rows; where they stand in a column the variable parts are not read."""
    indices, names = columnar.labels(parts[0].schema, columns)
    if (indices < len(names)).all():
        return Named(indices, names)
    places = ((frame, i) for frame in parts for i in range(frame.rows))
    return [
        names[k] if k < len(names) else frame.var(i).get("value")
        for k, (frame, i) in zip(indices.tolist(), places, strict=True)
    ]


class Cell(NamedTuple):
    """Where a profile belongs: one metric of one version at one stage in one pane (start, microseconds)."""

    version: str
    stage: str
    metric: str
    pane_us: int


def measure(rows: Rows, *, pane_us: int, output: Output | None) -> dict[Cell, Profile]:
    """Return the profiles of the rows, by pane of the record's own time."""
    columns = rows.columns
    codes = _class_codes(rows.values, output)
    out: dict[Cell, Profile] = {}
    for pane, inside in _panes(columns["t_ns"], pane_us * 1000):
        part = columns if inside is None else {name: column[inside] for name, column in columns.items()}
        chosen = codes if inside is None else codes[inside]
        for version, stage, metric, profile in _pane(part, rows.versions, chosen, output):
            out[Cell(version, stage, metric, pane * pane_us)] = profile
    return out


def _panes(t_ns: Array, pane_ns: int) -> Iterator[tuple[int, Array | None]]:
    """Yield the number of each pane and which rows lie in it; None where all do."""
    if not len(t_ns):
        return
    first, last = int(t_ns.min()) // pane_ns, int(t_ns.max()) // pane_ns
    if first == last:
        yield first, None
        return
    panes = t_ns // pane_ns
    for pane in np.unique(panes).tolist():
        yield pane, panes == pane


def stable_version(rows: Rows) -> tuple[int, str] | None:
    """Return (routing version, model version) of the newest answer of a stable version; None without one."""
    c = rows.columns
    chosen = (c["role"] == 0) & (c["version"] < len(rows.versions)) & (c["status"] == Status.OK)
    if not chosen.any():
        return None
    at = int(np.flatnonzero(chosen)[c["routing"][chosen].argmax()])
    return int(c["routing"][at]), rows.versions[int(c["version"][at])]


Found = tuple[str, str, str, Profile]


def _pane(
    c: Mapping[str, Array], versions: tuple[str, ...], codes: Array, output: Output | None
) -> Iterator[Found]:
    taken = c["status"] != Status.REFUSED
    yield from _software(c, taken)
    if not taken.any():
        return
    for name, column in c.items():
        if name.startswith("x:"):
            yield metrics.ALL_VERSIONS, metrics.INPUT, name[2:], Profile.of(column[taken])
    route = c["route"][taken & (c["route"] != Route.NONE)]  # a mere prediction is decided by nobody
    yield metrics.ALL_VERSIONS, metrics.OUTPUT, "automated", Profile.flags(route == Route.AUTO)
    yield metrics.ALL_VERSIONS, metrics.OUTPUT, "fallback", Profile.flags(route == Route.FALLBACK)
    answered = (c["status"] == Status.OK) & (c["version"] < len(versions))
    for code in np.unique(c["version"][answered]).tolist():
        chosen = answered & (c["version"] == code)
        for metric, profile in _output(c, chosen, codes[chosen], output):
            yield versions[code], metrics.OUTPUT, metric, profile


def _software(c: Mapping[str, Array], taken: Array) -> Iterator[Found]:
    failed = (c["status"] >= Status.FAILED) & (c["status"] <= Status.EXPIRED)
    online = (c["flags"] & Flag.BATCH) == 0  # nobody waited for a row that was scored offline
    flags, answered = c["flags"][online], taken & online
    found = {
        "error_share": Profile.flags(failed),
        "over_budget": Profile.flags((flags & Flag.OVER_BUDGET) != 0),
        "degraded": Profile.flags((flags & Flag.DEGRADED) != 0),
        "latency_ms": Profile.of(c["latency_us"][answered] / 1000.0),
        "queue_ms": Profile.of(c["queue_us"][answered] / 1000.0),
    }
    for metric, profile in found.items():
        if profile.rows:
            yield metrics.ALL_VERSIONS, metrics.SOFTWARE, metric, profile
    for name, column in c.items():
        if name.startswith("stage_us:"):
            ran = column[np.isfinite(column)]
            if ran.size:  # a stage that did not run is not a missing value
                yield metrics.ALL_VERSIONS, name[9:], "time_ms", Profile.of(ran / 1000.0)


def _output(
    c: Mapping[str, Array], chosen: Array, codes: Array, output: Output | None
) -> Iterator[tuple[str, Profile]]:
    yield "confidence", Profile.of(c["confidence"][chosen])
    yield "empty", Profile.flags((c["flags"][chosen] & Flag.EMPTY) != 0)
    if output is not None and output.regions is not None:
        yield "n_regions", Profile.of(c["n_regions"][chosen])
    if output is not None and output.kind == "number":
        yield "number", Profile.of(c["number"][chosen])
    for code, metric in enumerate(metrics.class_metrics(output)):
        yield metric, Profile.flags(codes == code)


def _class_codes(values: Sequence[Any], output: Output | None) -> Array:
    """Return the number of each answer's label; every other answer gets the number after the last."""
    labels = {} if output is None else {label: i for i, label in enumerate(output.labels)}
    rest = len(labels)
    if isinstance(values, Named):
        return np.array([labels.get(name, rest) for name in values.names], dtype=np.int64)[values.indices]
    return np.array([labels.get(v, rest) for v in values] if labels else [rest] * len(values), dtype=np.int64)
