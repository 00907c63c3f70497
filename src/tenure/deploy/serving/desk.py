"""What is fixed about one endpoint, and the columns of its prediction rows."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.data.extract import metric_names
from tenure.data.frames import Encoder
from tenure.data.records import By, Flag, Kind, Status
from tenure.data.schema import InputSchema
from tenure.deploy.serving.journal import Journal
from tenure.scope.project import EndpointSpec, Output
from tenure.types import Failed, Level, Prediction, Route

NO_VERSION = 65_535
_NAN = math.nan
_FLOAT32 = struct.Struct("<f")


class Row(msgspec.Struct, kw_only=True):
    """One prediction row before it is packed; the fields are the columns of `records.PREDICTION`."""

    seq: int
    t_ns: int
    deadline_ns: int = 0
    latency_us: int = 0
    queue_us: int = 0
    version: str | None = None
    role: int = 0
    route: Route = Route.PENDING
    by: By = By.NOBODY
    level: Level = Level.HUMAN_ONLY
    status: Status = Status.NOT_RUN
    flags: int = 0
    policy: int = 0
    routing: int = 0
    audit_prob: float = 0.0
    share: float = 1.0
    unit: int = 0
    key: int = 0
    prediction: Prediction | Failed | None = None
    stages: tuple[str, ...] = ()
    stage_us: tuple[int, ...] = ()
    metrics: npt.NDArray[np.float32] | None = None
    logged: bool = False  # not a column: whether the row was handed to the log


class Desk:
    """One endpoint in one worker."""

    def __init__(self, name: str, spec: EndpointSpec, output: Output, journal: Journal) -> None:
        self.name = name
        self.spec = spec
        self.output = output
        self.schema = InputSchema.of(spec)
        self.metrics = metric_names(spec.input, spec.fields)
        self._journal = journal
        self._versions: dict[str, int] = {}
        self._stages: tuple[str, ...] = ()
        self._no_metrics = (_NAN,) * len(self.metrics)

    def pack(self, row: Row) -> tuple[Encoder, tuple[float | int, ...]]:
        """Return the encoder and the values of the row's columns, in order."""
        version = NO_VERSION if row.version is None else self._version(row.version)
        if not set(row.stages) <= set(self._stages):
            self._stages += tuple(s for s in row.stages if s not in self._stages)
        encoder = self._journal.prediction_encoder(
            self.name, stages=self._stages, metrics=self.metrics, versions=tuple(self._versions)
        )
        confidence, number, regions = _numbers(row.prediction)
        fixed = (
            row.seq, row.t_ns, row.deadline_ns, min(row.latency_us, 2**32 - 1), min(row.queue_us, 2**32 - 1),
            version, row.role, row.route, row.by, row.level, row.status, row.flags, row.policy, row.routing,
            row.audit_prob, row.share, row.unit, row.key, confidence, number, regions,
        )  # fmt: skip
        return encoder, (*fixed, *self._times(row), *self._measured(row))

    def shadow_encoder(self, version: str) -> tuple[Encoder, int]:
        """Return the encoder of shadow rows and the version's number in it."""
        from_names = self._version(version)
        return self._journal.plain_encoder(Kind.SHADOW, self.name, tuple(self._versions)), from_names

    def variable(
        self, row: Row, *, item: Any, reason: str, unit: str | None, at: str | None = None
    ) -> dict[str, Any]:
        """Return the variable part of the row."""
        out: dict[str, Any] = {"reason": reason or None, "unit": unit or None, "at": at}
        if isinstance(item, str):
            out["text"] = item
        elif isinstance(item, dict):
            out["record"] = item
        return out | said(row.prediction)

    def flags(self, prediction: Prediction | Failed | None, latency_us: int) -> int:
        """Return the bits that the answer itself sets."""
        bits = Flag(0)
        if isinstance(prediction, Prediction) and is_empty(prediction):
            bits |= Flag.EMPTY
        if latency_us > self.spec.serve.latency * 1e6:
            bits |= Flag.OVER_BUDGET
        return int(bits)

    def _version(self, version: str) -> int:
        return self._versions.setdefault(version, len(self._versions))

    def _times(self, row: Row) -> Sequence[float]:
        if not self._stages:
            return ()
        known = dict(zip(row.stages, row.stage_us, strict=False))
        return [float(known.get(stage, _NAN)) for stage in self._stages]

    def _measured(self, row: Row) -> Sequence[float]:
        return self._no_metrics if row.metrics is None else row.metrics.tolist()


def said(prediction: Prediction | Failed | None) -> dict[str, Any]:
    """Return what a model said as the variable part of its row."""
    if isinstance(prediction, Failed):
        return {"reason": prediction.reason}
    if prediction is None:
        return {}
    return {
        "value": prediction.value,
        "regions": [msgspec.to_builtins(box) for box in prediction.regions] or None,
        "probabilities": prediction.probabilities,
    }


def as_logged(prediction: Prediction | Failed) -> Prediction | Failed:
    """Return the answer with its confidence as the log holds it (float32).

    What is decided on is then exactly what certificates later see, and a retry answered from the log agrees.
    """
    if isinstance(prediction, Failed) or prediction.confidence is None:
        return prediction
    (confidence,) = _FLOAT32.unpack(_FLOAT32.pack(prediction.confidence))
    return msgspec.structs.replace(prediction, confidence=confidence)


def shown(confidence: float | None) -> float | None:
    """Return a logged confidence as clients read it: the seven digits that a float32 holds."""
    return None if confidence is None else float(f"{confidence:.7g}")


def is_empty(prediction: Prediction) -> bool:
    """Say whether an answer says nothing: null, or text without a character."""
    value = prediction.value
    return value is None or (isinstance(value, str) and not value.strip())


def _numbers(prediction: Prediction | Failed | None) -> tuple[float, float, int]:
    if not isinstance(prediction, Prediction):
        return _NAN, _NAN, 0
    value = prediction.value
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _NAN
    confidence = _NAN if prediction.confidence is None else prediction.confidence
    return confidence, number, min(len(prediction.regions), 65_535)
