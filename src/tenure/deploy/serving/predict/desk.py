"""What is fixed about one endpoint in one worker, and how its answers become a frame of the log."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.data.extract import extract, metric_names
from tenure.data.frames import Column, Encoder
from tenure.data.records import NO_LABEL, By, Flag, Kind, Status
from tenure.data.schema import InputSchema
from tenure.data.typed import Packed, RecordDecoder
from tenure.deploy import segments
from tenure.deploy.serving.predict.block_rows import as_metrics
from tenure.deploy.serving.predict.journal import Journal
from tenure.deploy.serving.predict.work import Block, Lane, Work
from tenure.model.answer import Scores
from tenure.model.columns import Rows
from tenure.scope.project import EndpointSpec, Output
from tenure.types import Decision, Failed, Input, Prediction, Route

NO_VERSION = 65_535
_NAN = math.nan
_FLOAT32 = struct.Struct("<f")
_PACKED = {tuple}
_LARGEST = 3e38  # float32 has no room for more
_U32, _U16 = 2**32 - 1, 65_535
_pack = msgspec.msgpack.Encoder().encode

Numbers = npt.NDArray[np.float32]


class Desk:
    """One endpoint in one worker."""

    def __init__(self, name: str, spec: EndpointSpec, output: Output, journal: Journal) -> None:
        self.name = name
        self.spec = spec
        self.output = output
        self.schema = InputSchema.of(spec)
        self.records = RecordDecoder(self.schema)
        self.segments = segments.reader_of(spec)
        self.metrics = metric_names(spec.input, spec.fields)
        self.labels = output.labels if output.kind == "label" else ()
        self._fields = tuple(zip(self.records.names, self.records.kinds, strict=True))
        self._journal = journal
        self._versions: dict[str, int] = {}
        self._stages: tuple[str, ...] = ()  # of all versions seen; those of each:
        self._steps: dict[str, tuple[str, ...]] = {}
        self._made: dict[bool, Encoder] = {}  # for the versions and stages seen so far
        self._label_of = {label: i for i, label in enumerate(self.labels)}
        self._latency_us = spec.serve.latency * 1e6
        self._limit_s = 0.0 if spec.serve.on_overrun == "wait" else spec.serve.latency

    # Inputs

    def batch(self, items: Sequence[Any]) -> Sequence[Input]:
        """Return decoded inputs as a model takes them: records of numbers as a matrix."""
        if not self.records.numeric:
            return items
        if set(map(type, items)) == _PACKED:
            return self.rows(items)
        return [self.records.unpack(item) if type(item) is tuple else item for item in items]

    def rows(self, packed: Sequence[Packed]) -> Rows:
        """Return packed records as a matrix."""
        return Rows(self.records.names, self.records.kinds, np.array(packed, dtype=np.float64))

    def measure(self, items: Sequence[Input]) -> Numbers:
        """Return the input metrics of a batch, (n, metrics)."""
        if isinstance(items, Rows):
            values = items.values
            out = np.empty((len(values), len(self.metrics)), np.float32)
            if np.maximum.reduce(np.abs(values), axis=None, initial=0.0) <= _LARGEST:  # false for NaN, too
                out[:, 0], out[:, 1:] = 0.0, values
            else:
                out[:, 0] = np.isnan(values).mean(axis=1)
                out[:, 1:] = np.minimum(np.maximum(values, -_LARGEST), _LARGEST)
            return out
        return np.stack([extract(self.spec.input, item, self.spec.fields) for item in items])

    # The log

    def log(
        self, lane: Lane, works: Sequence[Work], items: Sequence[Input] | None, scores: Scores | None
    ) -> None:
        """Write one frame for works of one lane, in their order; they are in the log when this returns.

        Args:
            lane: what they share.
            works: requests that have been ruled on.
            items: their inputs as `batch` gives them; None for refused ones, whose input could not be read.
            scores: their predictions where all are a classifier's; else each work has its own.

        Raises:
            StoreError: nothing was written.
        """
        rows = self._rows(lane, works, scores)
        tail = self._tail(works, items, scores)
        var = self._variable(works, items, scores)
        self._journal.append_rows(self._encoder(lane), first_seq=works[0].seq, rows=rows, tail=tail, var=var)

    def log_block(
        self, block: Block, scores: Scores, flags: npt.NDArray[np.uint16], reasons: list[str] | None, *,
        stage_us: tuple[int, ...], latency_us: int, queue_us: int,
    ) -> None:  # fmt: skip
        """Write one frame for a block that its version decided; raises StoreError: nothing was written."""
        lane, n = block.lane, len(block)
        metrics = as_metrics(block.item.values)  # as float32, which then stands for the fields, too
        single = metrics is not None
        encoder = self._encoder(lane, single=single)
        own = self._steps.get(lane.version or "", ())
        head: list[Column | float | int] = [
            np.arange(block.first, block.first + n, dtype=np.uint64), block.t_ns, 0, min(latency_us, _U32),
            min(queue_us, _U32), self._version(lane.version or ""), lane.role, int(Route.AUTO), int(By.MODEL),
            int(lane.level), int(Status.OK), flags, lane.policy.id, lane.routing, lane.policy.audit, lane.share,
            block.unit_hash, 0, scores.confidence, _NAN, 0,
            *(_at(stage_us, own.index(s) if s in own else _U16) for s in self._stages),
        ]  # fmt: skip
        parts = [self.measure(block.item).T.tobytes() if metrics is None else metrics.tobytes()]
        if self.labels:
            best, chances = self._classes(scores)
            parts += [best.tobytes(), chances.T.tobytes()]
        if not single:
            parts.append(block.item.values.T.tobytes())
        var = [b""] * n
        if reasons is not None or block.unit is not None:
            told = {} if block.unit is None else {"unit": block.unit}
            var = [_pack(told | ({} if reasons is None else {"reason": reasons[i]})) for i in range(n)]
        self._journal.append(encoder, first_seq=block.first, head=head, tail=b"".join(parts), var=var)

    def _encoder(self, lane: Lane, *, single: bool = False) -> Encoder:
        if lane.version is not None:
            self._version(lane.version)
        made = self._made.get(single)
        if made is None:
            made = self._made[single] = self._journal.prediction_encoder(
                self.name, stages=self._stages, metrics=self.metrics, versions=tuple(self._versions),
                labels=self.labels, fields=self._fields if self.records.numeric else (), single=single,
            )  # fmt: skip
        return made

    def learn(self, version: str, stages: tuple[str, ...]) -> None:
        """Take in the stages of a version, so that their times have columns."""
        if self._steps.get(version) != stages:
            self._stages += tuple(s for s in stages if s not in self._stages)
            self._steps[version] = stages
            self._made.clear()

    def _rows(self, lane: Lane, works: Sequence[Work], scores: Scores | None) -> list[tuple[float | int, ...]]:
        """Return the fixed columns and the stages' times, row by row."""
        version = NO_VERSION if lane.version is None else self._version(lane.version)
        level, policy = int(lane.level), lane.policy
        told: Iterable[tuple[float, float, int]] = map(_numbers, [w.prediction for w in works])
        if scores is not None:
            told = zip(scores.confidence.tolist(), repeat(_NAN), repeat(0), strict=False)
        rows: list[tuple[float | int, ...]] = []
        spent = works[0].stage_us
        times = self._times(lane, spent)
        for w, numbers in zip(works, told, strict=False):
            if w.stage_us is not spent:
                spent, times = w.stage_us, self._times(lane, w.stage_us)
            rows.append((
                w.seq, w.t_ns, w.deadline_ns, min(w.latency_us, _U32), min(w.queue_us, _U32),
                version, lane.role, w.route, _BY[w.route], level, w.status, w.flags,
                policy.id, lane.routing, policy.audit, lane.share, w.unit_hash, w.key, *numbers, *times,
            ))  # fmt: skip
        return rows

    def _times(self, lane: Lane, spent: tuple[int, ...]) -> list[float]:
        own = self._steps.get(lane.version or "", ())
        return [_at(spent, own.index(stage) if stage in own else _U16) for stage in self._stages]

    def _tail(self, works: Sequence[Work], items: Sequence[Input] | None, scores: Scores | None) -> bytes:
        n = len(works)
        parts = [self._measured(works, items).T.tobytes()]
        if self.labels:
            best, chances = self._classes([w.prediction for w in works] if scores is None else scores)
            parts += [best.tobytes(), chances.T.tobytes()]
        if self.records.numeric:
            values = items.values if isinstance(items, Rows) else np.full((n, len(self._fields)), _NAN)
            parts.append(values.T.tobytes())
        return b"".join(parts)

    def _measured(self, works: Sequence[Work], items: Sequence[Input] | None) -> Numbers:
        if items is None:
            return np.full((len(works), len(self.metrics)), np.nan, dtype=np.float32)
        if works[0].metrics is not None:
            return np.stack([w.metrics for w in works])  # type: ignore[misc]
        return self.measure(items)

    def _classes(
        self, predictions: Sequence[Prediction | Failed | None]
    ) -> tuple[npt.NDArray[np.uint16], Numbers]:  # fmt: skip
        """Return the columns `label`, (n,), and `p:<label>`, (n, labels)."""
        if isinstance(predictions, Scores) and predictions.labels == self.labels:
            return predictions.best.astype(np.uint16), predictions.probabilities
        n, k = len(predictions), len(self.labels)
        best = np.full(n, NO_LABEL, np.uint16)
        chances = np.full((n, k), np.nan, np.float32)
        for i, told in enumerate(predictions):
            if isinstance(told, Prediction):
                best[i] = self._label_of.get(told.value, NO_LABEL) if type(told.value) is str else NO_LABEL
                for label, p in (told.probabilities or {}).items():
                    chances[i, self._label_of[label]] = p
        return best, chances

    def _variable(
        self, works: Sequence[Work], items: Sequence[Input] | None, scores: Scores | None
    ) -> list[bytes]:
        """Return what has no column, one blob per row."""
        out = []
        in_columns = items is None or isinstance(items, Rows)
        plain = scores is not None and in_columns
        for i, w in enumerate(works):
            if plain and not w.reason and w.unit is None:
                out.append(b"")
                continue
            parts: dict[str, Any] = {"reason": w.reason or None, "unit": w.unit}
            if w.route == Route.REFUSED:
                parts["at"] = getattr(w.error, "at", None)
            elif not in_columns and items is not None:
                parts |= _input(items[i])
            if scores is None:
                parts |= said(w.prediction, self._label_of)
                parts["contributions"] = _for_people(w)
            out.append(_pack({k: v for k, v in parts.items() if v is not None}))
        return out

    def log_shadow(
        self, version: str, seqs: Sequence[int], predictions: Sequence[Prediction | Failed], *,
        spare: Sequence[bool], t_ns: int, latency_us: int,
    ) -> None:  # fmt: skip
        """Write one frame of what a shadow said of requests; raises StoreError: nothing was written."""
        number = self._version(version)
        encoder = self._journal.plain_encoder(Kind.SHADOW, self.name, tuple(self._versions), self.labels)
        run, scores = self._journal.run, predictions if isinstance(predictions, Scores) else None
        status: Column | int = int(Status.OK)
        told: list[Column | float | int] = [_NAN, _NAN, 0] if scores is None else [scores.confidence, _NAN, 0]
        var = [b""] * len(seqs)
        if scores is None:
            status = [int(Status.FAILED if isinstance(p, Failed) else Status.OK) for p in predictions]
            numbers = [_numbers(p) for p in predictions]
            told = [[t[k] for t in numbers] for k in range(3)]
            words = [{k: v for k, v in said(p, self._label_of).items() if v is not None} for p in predictions]
            var = [_pack(w) if w else b"" for w in words]
        tail = b""
        if self.labels:
            best, chances = self._classes(predictions)
            tail = best.tobytes() + chances.T.tobytes()
        head = [run, list(seqs), t_ns, number, status, min(latency_us, _U32), *told, spare]
        self._journal.append(encoder, first_seq=int(seqs[0]), head=head, tail=tail, var=var)

    def fallback(self) -> Decision:
        """Return what the project decides where nobody did."""
        told = self.spec.serve.on_timeout
        return Decision(value=None if told is None else told.decide, by="fallback")

    def deadline_ns(self, t_ns: int) -> int:
        """Return until when a person may decide what came at a wall time; 0 = no end."""
        told = self.spec.serve.on_timeout
        return 0 if told is None else t_ns + int(told.after * 1e9)

    def expires_ns(self, start_ns: int, deadline_s: float) -> int:
        """Return until when the model may answer what came at a monotonic time; 0 = no end."""
        limit_s = deadline_s or self._limit_s
        return start_ns + int(limit_s * 1e9) if limit_s else 0

    def is_late(self, latency_us: int) -> bool:
        """Say whether an answer took longer than the endpoint's budget."""
        return latency_us > self._latency_us

    def _version(self, version: str) -> int:
        known = self._versions.get(version)
        if known is None:
            known = self._versions[version] = len(self._versions)
            self._made.clear()
        return known


_BY = {int(route): int(By.NOBODY) for route in Route} | {
    int(Route.AUTO): int(By.MODEL),
    int(Route.FALLBACK): int(By.FALLBACK),
}


def said(prediction: Prediction | Failed | None, labels: Any = ()) -> dict[str, Any]:
    """Return what a model said as the variable part of its row, without what `labels` gives a column."""
    if isinstance(prediction, Failed):
        return {"reason": prediction.reason}
    if prediction is None:
        return {}
    regions = [msgspec.to_builtins(box) for box in prediction.regions] or None
    if type(prediction.value) is str and prediction.value in labels:
        return {"regions": regions}
    chances = None if labels else prediction.probabilities
    return {"value": prediction.value, "regions": regions, "probabilities": chances}


def _for_people(work: Work) -> dict[str, float] | None:
    """Return what moved the answer, where people get the request to judge."""
    seen = work.route == Route.PENDING or work.flags & Flag.AUDITED
    return work.prediction.contributions if seen and isinstance(work.prediction, Prediction) else None


def as_logged(prediction: Prediction | Failed) -> Prediction | Failed:
    """Return the answer with its confidence and probabilities as the log holds them (float32).

    What is decided on is then exactly what certificates later see, and a retry answered from the log agrees.
    """
    if isinstance(prediction, Failed):
        return prediction
    confidence, chances = prediction.confidence, prediction.probabilities
    if confidence is None and chances is None:
        return prediction
    return msgspec.structs.replace(
        prediction,
        confidence=None if confidence is None else _single(confidence),
        probabilities=None if chances is None else {label: _single(p) for label, p in chances.items()},
    )


def shown(confidence: float | None) -> float | None:
    """Return a logged confidence as clients read it: the seven digits that a float32 holds."""
    return None if confidence is None else float(f"{confidence:.7g}")


def as_shown(prediction: Prediction) -> Prediction:
    """Return a logged prediction as clients read it."""
    chances = prediction.probabilities
    return Prediction(
        prediction.value,
        shown(prediction.confidence),
        None if chances is None else {label: float(f"{p:.7g}") for label, p in chances.items()},
        prediction.regions,
    )


def is_empty(prediction: Prediction) -> bool:
    """Say whether an answer says nothing: null, or text without a character."""
    value = prediction.value
    return value is None or (isinstance(value, str) and not value.strip())


def answer_flags(desk: Desk, work: Work) -> int:
    """Return the bits that the answer itself sets."""
    bits = 0
    if isinstance(work.prediction, Prediction) and is_empty(work.prediction):
        bits |= Flag.EMPTY
    if desk.is_late(work.latency_us):
        bits |= Flag.OVER_BUDGET
    return int(bits)


def _single(value: float) -> float:
    found: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return found


def _at(times: tuple[int, ...], k: int) -> float:
    return float(times[k]) if k < len(times) else _NAN


def _input(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item}
    return {"record": item} if isinstance(item, dict) else {}


def _numbers(prediction: Prediction | Failed | None) -> tuple[float, float, int]:
    if not isinstance(prediction, Prediction):
        return _NAN, _NAN, 0
    value = prediction.value
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _NAN
    confidence = _NAN if prediction.confidence is None else prediction.confidence
    return confidence, number, min(len(prediction.regions), _U16)
