"""What an endpoint takes and answers: checking records, inferring fields, comparing two contracts."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tenure.errors import CaseError
from tenure.scope.project import EndpointSpec, Field, InputKind, Output
from tenure.types import Box, Failed, Prediction, Record

MAX_DEPTH = 16
MAX_VALUES = 10_000
"""Limits of a record without declared fields: nested containers, and values in all."""

INT64 = 2**63

CATEGORY_VALUES = 20
CATEGORY_ROWS = 50
"""Text with fewer distinct values in at least so many rows is inferred as a category."""

_WORDS = {"int": "an integer", "float": "a number", "bool": "true or false"}


class InputSchema(msgspec.Struct, frozen=True):
    """What an endpoint takes; `fields` are those of a record, none = any JSON object.

    `min_side` is that of the project file's `decode`; where it is not set it is not written either, so that a
    bundle without it keeps its hash.
    """

    kind: InputKind
    fields: dict[str, Field] = {}
    min_side: int | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, spec: EndpointSpec) -> InputSchema:
        return cls(spec.input, spec.fields, spec.decode.min_side or msgspec.UNSET)

    def check_record(self, record: object) -> Record:
        """Return the record with every declared field, None where an optional one is absent.

        Integers are accepted for numbers and become floats; a truth value is no number; a category may have a
        value that is not declared (it is watched, not refused).

        Raises:
            CaseError: wrong type, missing, null, out of range or unknown field; `at` is the field.
        """
        if not isinstance(record, dict):
            raise CaseError(f"expected a JSON object, got {_kind(record)}", at="body")
        if not self.fields:
            _check_free(record)
            return record
        if not record.keys() <= self.fields.keys():
            raise _unknown(next(k for k in record if k not in self.fields), self.fields)
        return {name: _check_field(name, field, record) for name, field in self.fields.items()}


class Contract(msgspec.Struct, frozen=True):
    """What clients of an endpoint rely on: what it takes and what it answers."""

    input: InputSchema
    output: Output


def breaks(old: Contract, new: Contract) -> tuple[str, ...]:
    """Say why clients of `old` could not be served by `new`; empty when they can.

    `new` must accept everything that `old` accepts and answer in the same terms.
    """
    if old.input.kind != new.input.kind:
        return (f"input: {old.input.kind} became {new.input.kind}",)
    return (
        *_output_breaks(old.output, new.output),
        *_field_breaks(old.input.fields, new.input.fields),
        *pixel_breaks(old.input, new.input),
    )


def pixel_breaks(old: InputSchema, new: InputSchema) -> tuple[str, ...]:
    """Say how a version made for `old` would see other pixels under `new`; empty when it sees the same."""
    if (old.min_side or 0) == (new.min_side or 0):
        return ()
    was, now = (f"{s.min_side} pixels" if s.min_side else "none" for s in (old, new))
    return (f"decode.min_side: was {was}, is {now}, so the same photo has other pixels",)


def compatible(old: Contract, new: Contract) -> bool:
    """Say whether a version with contract `new` may answer for clients of `old`."""
    return not breaks(old, new)


class Inferred(msgspec.Struct, frozen=True):
    """Fields guessed from samples, with notes in words for the person who confirms them."""

    fields: dict[str, Field]
    notes: tuple[str, ...]


def infer(samples: Sequence[Mapping[str, Any]]) -> Inferred:
    """Guess the fields of a record endpoint from sample records.

    Integers beside numbers are widened to numbers, null makes a field nullable, absence makes it optional, and
    text with fewer than 20 distinct values in at least 50 rows is a category.

    Raises:
        CaseError: no samples, or a value that no field type can hold.
    """
    if not samples:
        raise CaseError("expected at least one sample record, got none", at="samples")
    names = list(dict.fromkeys(name for row in samples for name in row))
    notes: list[str] = []
    if len(samples) == 1:
        notes.append("inferred from one row: every type and every required field is a guess")
    fields = {name: _infer_field(name, samples, notes) for name in names}
    return Inferred(fields, tuple(notes))


def check_output(prediction: Prediction, output: Output) -> Prediction | Failed:
    """Return the prediction when it is what the endpoint promises to answer, else why not.

    An empty answer (None) is allowed: it is counted and watched, not refused.
    """
    fault = _value_fault(prediction.value, output) or _regions_fault(prediction.regions, output)
    if fault is None and prediction.probabilities and output.labels:
        other = sorted(set(prediction.probabilities) - set(output.labels))
        fault = f"probabilities for {other[0]!r}, which is not an output label" if other else None
    return prediction if fault is None else Failed(fault)


# Records


def _check_field(name: str, field: Field, record: Mapping[str, Any]) -> Any:
    value = record.get(name)
    if value is not None:
        return _check_value(name, field, value)
    if field.required and name not in record:
        raise CaseError(f"missing field {name!r}", at=name, code="missing_field")
    if field.required and not field.nullable:
        raise CaseError(f"field {name!r} must not be null", at=name, code="null_field")
    return None


def _check_value(name: str, field: Field, value: Any) -> Any:
    if field.type in ("text", "category"):
        if not isinstance(value, str):
            raise _wrong_type(name, "a text", value)
        return _check_text(name, value)
    if field.type == "bool":
        if not isinstance(value, bool):
            raise _wrong_type(name, _WORDS["bool"], value)
        return value
    return _check_number(name, field, value)


def _check_number(name: str, field: Field, value: Any) -> int | float:
    whole = field.type == "int"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise _wrong_type(name, _WORDS[field.type], value)
    if whole and not -INT64 <= value < INT64:
        raise CaseError(f"field {name!r}: expected an integer of 64 bits", at=name, code="out_of_range")
    if not _is_finite(value):
        raise CaseError(f"field {name!r}: expected a finite number", at=name, code="out_of_range")
    if field.min is not None and value < field.min:
        raise _out_of_range(name, f">= {field.min:g}", None if field.masked else value)
    if field.max is not None and value > field.max:
        raise _out_of_range(name, f"<= {field.max:g}", None if field.masked else value)
    return value if whole else float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float64 holds
        return False


def _check_text(name: str, value: str) -> str:
    if value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value):
        return value
    raise CaseError(f"field {name!r}: the text holds half a surrogate pair", at=name, code="wrong_type")


def _check_free(record: Mapping[str, Any]) -> None:
    """Walk a record without declared fields; iterative, so that no depth can exhaust the stack."""
    todo: list[tuple[str, Any, int]] = [(str(k), v, 1) for k, v in record.items()]
    seen = len(todo)
    while todo:
        name, value, depth = todo.pop()
        if isinstance(value, dict | list | tuple):
            inner = value.values() if isinstance(value, dict) else value
            todo += [(name, v, depth + 1) for v in inner]
            seen += len(value)
        elif not isinstance(value, str | int | float | None):
            raise _wrong_type(name, "a JSON value", value)
        else:
            _check_leaf(name, value)
        if depth > MAX_DEPTH or seen > MAX_VALUES:
            raise CaseError(
                f"the record is too large: at most {MAX_DEPTH} levels and {MAX_VALUES} values", at=name
            )


def _check_leaf(name: str, value: Any) -> None:
    if isinstance(value, str):
        _check_text(name, value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise CaseError(f"field {name!r}: expected a finite number, got {value}", at=name, code="out_of_range")
    elif isinstance(value, int) and not -INT64 <= value < INT64:
        raise CaseError(f"field {name!r}: expected an integer of 64 bits", at=name, code="out_of_range")


def _unknown(name: object, fields: Iterable[str]) -> CaseError:
    text = str(name)[:100]
    near = difflib.get_close_matches(text, list(fields), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; the fields are {', '.join(sorted(fields))}"
    return CaseError(f"unknown field {text!r}{hint}", at=text, code="unknown_field")


def _wrong_type(name: str, expected: str, value: Any) -> CaseError:
    return CaseError(f"field {name!r}: expected {expected}, got {_kind(value)}", at=name, code="wrong_type")


def _out_of_range(name: str, expected: str, value: float | None) -> CaseError:
    got = "" if value is None else f", got {value:g}"  # a masked value is not told: reasons are logged
    return CaseError(f"field {name!r}: expected {expected}{got}", at=name, code="out_of_range")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {dict: "an object", list: "a list", str: "a text", int: "an integer", float: "a number"}
    return names.get(type(value), type(value).__name__)


# Contracts


def _output_breaks(old: Output, new: Output) -> list[str]:
    out = []
    if old.kind != new.kind:
        out.append(f"output: {old.kind} became {new.kind}")
    if set(old.labels) != set(new.labels):
        changed = ", ".join(sorted(set(old.labels) ^ set(new.labels)))
        out.append(f"output: the labels differ in {changed}")
    if old.regions != new.regions:
        out.append(f"output: regions were {old.regions}, are {new.regions}")
    return out


def _field_breaks(old: Mapping[str, Field], new: Mapping[str, Field]) -> list[str]:
    if not new:
        return []
    if not old:
        return ["fields: any record was accepted, now only declared fields are"]
    out = [f"field {name!r} is no longer accepted" for name in old if name not in new]
    out += [f"field {n!r} is new and required" for n, f in new.items() if n not in old and f.required]
    for name in old.keys() & new.keys():
        out += [f"field {name!r} {fault}" for fault in _narrowed(old[name], new[name])]
    return sorted(out)


def _narrowed(old: Field, new: Field) -> list[str]:
    texts = {"text", "category"}
    same = old.type == new.type or {old.type, new.type} <= texts or (old.type, new.type) == ("int", "float")
    out = [] if same else [f"was {old.type}, is {new.type}"]
    if new.required and not old.required:
        out.append("became required")
    elif new.required and not new.nullable and old.nullable:
        out.append("may no longer be null")
    if new.min is not None and (old.min is None or new.min > old.min):
        out.append(f"has a higher minimum: {new.min:g}")
    if new.max is not None and (old.max is None or new.max < old.max):
        out.append(f"has a lower maximum: {new.max:g}")
    return out


# Inference


def _infer_field(name: str, samples: Sequence[Mapping[str, Any]], notes: list[str]) -> Field:
    present = [row[name] for row in samples if name in row]
    values = [v for v in present if v is not None]
    required, nullable = len(present) == len(samples), len(values) < len(present)
    if nullable:
        notes.append(f"{name}: null in {len(present) - len(values)} of {len(samples)} rows, so it may be null")
    if not required:
        notes.append(f"{name}: absent in {len(samples) - len(present)} of {len(samples)} rows, so it is optional")
    kinds = {type(v) for v in values}
    if not kinds:
        notes.append(f"{name}: only null was seen; text is a guess")
        return Field(type="text", required=required, nullable=True)
    if kinds == {bool}:
        return Field(type="bool", required=required, nullable=nullable)
    if kinds <= {int, float}:
        if kinds == {int, float}:
            notes.append(f"{name}: integers and numbers were seen; read as a number")
        return Field(type="int" if kinds == {int} else "float", required=required, nullable=nullable)
    if kinds == {str}:
        return _infer_text(name, values, notes, required=required, nullable=nullable)
    seen = " and ".join(sorted({_kind(v) for v in values}))
    raise CaseError(f"field {name!r}: {seen} fit no field type", at=name)


def _infer_text(name: str, values: list[str], notes: list[str], *, required: bool, nullable: bool) -> Field:
    distinct = sorted(set(values))
    if len(values) < CATEGORY_ROWS or len(distinct) >= CATEGORY_VALUES:
        return Field(type="text", required=required, nullable=nullable)
    notes.append(f"{name}: {len(distinct)} distinct texts in {len(values)} rows, so it is a category")
    return Field(type="category", required=required, nullable=nullable, values=tuple(distinct))


# Outputs


def _value_fault(value: Any, output: Output) -> str | None:
    if value is None:
        return None
    if output.kind == "number":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if number else f"expected a number, got {value!r:.100}"
    if output.kind == "text":
        return None if isinstance(value, str) else f"expected a text, got {value!r:.100}"
    if output.labels and value not in output.labels:
        return f"expected one of {', '.join(output.labels)}, got {value!r:.100}"
    return None


def _regions_fault(regions: Sequence[Box], output: Output) -> str | None:
    if regions and output.regions is None:
        return "the answer has regions, but the endpoint's output declares none"
    for box in regions:
        if not (math.isfinite(box.x2 - box.x1) and math.isfinite(box.y2 - box.y1)):
            return "a region's corners must be finite"
        if box.x2 < box.x1 or box.y2 < box.y1:
            return f"a region's second corner lies before its first: {(box.x1, box.y1, box.x2, box.y2)}"
    return None
