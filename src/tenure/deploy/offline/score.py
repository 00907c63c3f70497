"""Score some rows: check, run, decide, and make the frame that logs them. No I/O."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tenure.clock import Clock
from tenure.data.extract import Floats, extract, metric_names
from tenure.data.frames import Encoder
from tenure.data.records import By, Flag, Schema, Status, encode_id, prediction_schema
from tenure.deploy import segments
from tenure.deploy.decide import Draws, decide, draws
from tenure.deploy.offline.force import Rules
from tenure.deploy.offline.rows import DECIDED, Answered, Item, Rejected, Scored
from tenure.deploy.offline.source import Wanted, record_of
from tenure.deploy.serving.predict.desk import as_logged, is_empty, said, shown
from tenure.errors import CaseError
from tenure.model.pipeline import Pipeline
from tenure.scope.project import EndpointSpec, Output
from tenure.types import Failed, Level, Prediction, Route

_pack = msgspec.msgpack.Encoder().encode
_U32 = 2**32 - 1
Load = Callable[[str], Pipeline]
"""Loads a version as a worker does, smoke test included. Picklable, for other processes."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is fixed about a run; it can be sent to another process."""

    endpoint: str
    version: str
    spec: EndpointSpec
    output: Output
    wanted: Wanted
    run: int
    secret: bytes


def contract(spec: EndpointSpec, output: Output) -> str:
    """Return the SHA-256 of what an endpoint takes and answers."""
    parts = (spec.input, spec.fields, output)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def seq_of(row: int) -> int:
    """Return the number under which a row is logged."""
    return row + 1


class _Draft(NamedTuple):
    """One row on its way into the log."""

    item: Item
    value: Any
    metrics: Floats | None
    fault: CaseError | None


class _Ruled(NamedTuple):
    route: Route
    flags: int
    reason: str


class Scorer:
    """One version, loaded, that scores batches. Every number of a row follows from the run and the row."""

    def __init__(self, plan: Plan, pipeline: Pipeline, *, clock: Clock) -> None:
        self.plan, self._pipeline, self._clock = plan, pipeline, clock
        self._metrics = metric_names(plan.spec.input, plan.spec.fields)
        self._segments = segments.reader_of(plan.spec)
        self.schema = self._schema()
        self._encoder = Encoder(self.schema)

    def _schema(self) -> Schema:
        return prediction_schema(
            self.plan.endpoint, stages=self._pipeline.names, metrics=self._metrics, versions=(self.plan.version,)
        )

    def score(self, items: Sequence[Item], rules: Rules) -> Scored:
        """Answer rows and rule on each; the frame holds them all, those that failed too."""
        start = self._clock.monotonic_ns()
        drafts = [self._check(item) for item in items]
        good = [draft.value for draft in drafts if draft.fault is None]
        results = iter(self._pipeline.run(good) if good else ())
        answers = [(draft.fault, ()) if draft.fault else _pair(next(results)) for draft in drafts]
        each_us = (self._clock.monotonic_ns() - start) // 1000 // max(len(items), 1)
        ids = [encode_id(self.plan.run, seq_of(item.row), self.plan.secret) for item in items]
        each = [self._rules_of(draft, rules) for draft in drafts]
        ruled = [
            self._rule(answer, seq_of(item.row), own)
            for (answer, _), item, own in zip(answers, items, each, strict=True)
        ]
        answered, rejected = [], []
        for draft, id_, (answer, _), ruling in zip(drafts, ids, answers, ruled, strict=True):
            if isinstance(answer, Prediction):
                answered.append(self._answered(draft.item, id_, answer, ruling))
            else:
                rejected.append(self.rejected(draft.item, id_, *_why(answer)))
        frame = self._frame(drafts, answers, ruled, each, each_us)
        return Scored(answered, rejected, frame, items[0].row)

    def _check(self, item: Item) -> _Draft:
        spec, schema = self.plan.spec, self.plan.wanted.schema
        try:
            if item.fault is not None:
                code, _, reason = item.fault.partition(": ")
                raise CaseError(reason, code=code, at="row")
            value = record_of(self.plan.wanted, item.raw)
            if schema.kind == "text":
                value = _text(value)
            else:
                value = schema.check_record(value)
        except CaseError as error:
            return _Draft(item, None, None, error)
        return _Draft(item, value, extract(spec.input, value, spec.fields), None)

    def _rules_of(self, draft: _Draft, rules: Rules) -> Rules:
        """Return the rules of one row: those of its segment, where it has one."""
        return rules if self._segments is None else rules.of(self._segments.of(draft.value, None))

    def _rule(self, answer: Any, seq: int, rules: Rules) -> _Ruled:
        if not isinstance(answer, Prediction):
            return _Ruled(Route.REFUSED, rules.flags, "")
        empty = Flag.EMPTY if is_empty(answer) else 0
        if rules.predict_only or rules.level < Level.ASSIST:
            why = "predict only" if rules.predict_only else f"level {rules.level.word}"
            return _Ruled(Route.NONE, rules.flags | empty, why)
        drawn = draws(rules.policy, (self.plan.run, seq))
        ruling = decide(answer, version=self.plan.version, level=rules.level, policy=rules.policy, drawn=drawn)
        flags = rules.flags | empty | _drawn_flags(drawn, rules)
        flags |= (Flag.AUDITED if ruling.audited else 0) | (Flag.BLIND if ruling.blind else 0)
        if ruling.route == Route.PENDING and not rules.review:
            return _Ruled(Route.NONE, flags, ruling.reason)
        return _Ruled(ruling.route, int(flags), ruling.reason)

    def _answered(self, item: Item, id_: str, answer: Prediction, ruling: _Ruled) -> Answered:
        return Answered(
            item.row, id_, answer.value, shown(answer.confidence), answer.probabilities,
            DECIDED[ruling.route], ruling.reason, self.plan.version, self.kept(item),
        )  # fmt: skip

    def kept(self, item: Item) -> dict[str, Any]:
        """Return the columns of a row that are copied to the output."""
        return {name: item.raw.get(name) for name in self.plan.wanted.keep}

    def rejected(self, item: Item, id_: str, code: str, reason: str, at: str | None) -> Rejected:
        """Return a row as it goes to the quarantine."""
        return Rejected(item.row, id_, code, reason, at, item.raw)

    def _frame(
        self, drafts: Sequence[_Draft], answers: Sequence[tuple[Any, tuple[int, ...]]],
        ruled: Sequence[_Ruled], each: Sequence[Rules], each_us: int,
    ) -> bytes:  # fmt: skip
        now_ns, rows = self._clock.now_ns(), len(drafts)
        known = self._columns(drafts, answers, ruled, each)
        known |= {"t_ns": [now_ns] * rows, "latency_us": [min(each_us, _U32)] * rows}
        columns = {name: known.get(name, [_default(dtype)] * rows) for name, dtype in self.schema.columns}
        var = [
            _variable(draft, answer, ruling)
            for draft, (answer, _), ruling in zip(drafts, answers, ruled, strict=True)
        ]
        first = seq_of(drafts[0].item.row)
        return self._encoder.encode(run=self.plan.run, first_seq=first, t_ns=now_ns, columns=columns, var=var)

    def _columns(
        self, drafts: Sequence[_Draft], answers: Sequence[tuple[Any, tuple[int, ...]]],
        ruled: Sequence[_Ruled], each: Sequence[Rules],
    ) -> dict[str, list[Any]]:  # fmt: skip
        rows = len(drafts)
        status = [_STATUS[type(answer)] for answer, _ in answers]
        ran = [s != Status.REFUSED for s in status]
        columns: dict[str, list[Any]] = {
            "seq": [seq_of(draft.item.row) for draft in drafts],
            "version": [0 if r else _NO_VERSION for r in ran],
            "role": [rules.role for rules in each],
            "route": [int(r.route) for r in ruled],
            "by": [int(By.MODEL if r.route == Route.AUTO else By.NOBODY) for r in ruled],
            "level": [int(rules.level) for rules in each],
            "status": [int(s) for s in status],
            "flags": [int(r.flags) for r in ruled],
            "policy": [rules.policy.id for rules in each],
            "routing": [rules.routing for rules in each],
            "audit_prob": [rules.policy.audit for rules in each],
            "share": [1.0] * rows,
            "confidence": [_confidence(answer) for answer, _ in answers],
            "number": [_number(answer) for answer, _ in answers],
        }
        for i, name in enumerate(self._pipeline.names):
            columns[f"stage_us:{name}"] = [float(us[i]) if us else math.nan for _, us in answers]
        for i, name in enumerate(self._metrics):
            columns[f"x:{name}"] = [_NAN if d.metrics is None else float(d.metrics[i]) for d in drafts]
        return columns


_NAN = math.nan
_NO_VERSION = 65_535
_STATUS = {Prediction: Status.OK, Failed: Status.FAILED, CaseError: Status.REFUSED}


def _pair(result: Any) -> tuple[Any, tuple[int, ...]]:
    return as_logged(result.prediction), result.stage_us


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise CaseError(
        "column text: expected a text", code="null_field" if value is None else "wrong_type", at="text"
    )


def _why(answer: CaseError | Failed) -> tuple[str, str, str | None]:
    if isinstance(answer, Failed):
        return "model_failed", answer.reason, None
    return answer.code, answer.message, answer.at


def _drawn_flags(drawn: Draws, rules: Rules) -> Flag:
    """Return the lottery's bit. Without review most drawn rows get no label: the rest would be no fair sample."""
    return Flag.LOTTERY if drawn.audited and rules.review else Flag(0)


def _variable(draft: _Draft, answer: Any, ruling: _Ruled) -> bytes:
    out: dict[str, Any] = {"reason": ruling.reason or None}
    if isinstance(answer, CaseError):
        out = {"reason": f"{answer.code}: {answer.message}", "at": answer.at}
    else:
        out |= {"text" if isinstance(draft.value, str) else "record": draft.value, **said(answer)}
    return _pack({key: value for key, value in out.items() if value is not None})


def _confidence(answer: Any) -> float:
    known = answer.confidence if isinstance(answer, Prediction) else None
    return _NAN if known is None else known


def _number(answer: Any) -> float:
    value = answer.value if isinstance(answer, Prediction) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _NAN


def _default(dtype: str) -> float | int:
    return _NAN if np.dtype(dtype).kind == "f" else 0
