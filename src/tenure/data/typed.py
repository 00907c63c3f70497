"""Records decoded and checked in one pass by generated code; any doubt goes to the checker in words.

`RecordDecoder.decode` accepts and returns exactly what `InputSchema.check_record(read_json(body))` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from tenure.data.schema import InputSchema
from tenure.scope.project import Field
from tenure.types import Record

EXACT = 2**53
"""Integers up to here are exact as float64."""

Packed = tuple[float | int | bool | None, ...]
"""The values of a record whose fields are all numbers or truth values, in the order of the fields."""


class RecordDecoder:
    """From the JSON of one record to its values.

    Attributes:
        names: the declared fields, in order.
        kinds: their types.
        numeric: every field is a number or a truth value, so that records are `Packed`.
    """

    def __init__(self, schema: InputSchema) -> None:
        self._schema = schema
        self.names = tuple(schema.fields)
        self.kinds = tuple(field.type for field in schema.fields.values())
        self.numeric = bool(self.names) and not {"text", "category"} & set(self.kinds)
        self._decoder = _decoder(schema.fields)

    def decode(self, body: bytes) -> Packed | Record:
        """Return the record, packed where it can be.

        Raises:
            CaseError: as `data.decode.read_json` and `InputSchema.check_record` say.
        """
        if self._decoder is None:
            return self._checked(body)
        try:
            values: Packed = msgspec.structs.astuple(self._decoder.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            return self._checked(body)
        return values if self.numeric else dict(zip(self.names, values, strict=True))

    def pack(self, record: Record) -> Packed | Record:
        """Return a checked record packed where it can be."""
        if not self.numeric:
            return record
        values = tuple(record.values())
        return record if any(_is_long(value) for value in values) else values

    def unpack(self, values: Packed) -> Record:
        """Return the record of packed values."""
        return dict(zip(self.names, values, strict=True))

    def _checked(self, body: bytes) -> Packed | Record:
        from tenure.data.decode import read_json

        return self.pack(self._schema.check_record(read_json(body)))


def _is_long(value: Any) -> bool:
    return type(value) is int and not -EXACT <= value <= EXACT


def _decoder(fields: Mapping[str, Field]) -> msgspec.json.Decoder[msgspec.Struct] | None:
    """Return a decoder into a struct with one attribute per field; it checks types and ranges as it reads."""
    if not fields or any(_is_impossible(field) for field in fields.values()):
        return None
    if any(char in '"\\' or char < " " for name in fields for char in name):
        return None  # names that msgspec does not take
    names = {f"f{i}": name for i, name in enumerate(fields)}
    members: list[Any] = []
    for attribute, field in zip(names, fields.values(), strict=True):
        optional = not field.required
        kind = _type(field)
        if optional or field.nullable:
            kind = kind | None
        members.append((attribute, kind, None) if optional else (attribute, kind))
    made = msgspec.defstruct("Record", members, rename=names, forbid_unknown_fields=True, kw_only=True)
    return msgspec.json.Decoder(made)


def _is_impossible(field: Field) -> bool:
    """Say whether no integer lies between the bounds; the checker in words refuses every value then."""
    low, high = -math.inf if field.min is None else field.min, math.inf if field.max is None else field.max
    return field.type == "int" and (
        low > EXACT or high < -EXACT or math.ceil(max(low, -EXACT)) > min(high, EXACT)
    )


def _type(field: Field) -> Any:
    if field.type in ("text", "category"):
        return str
    if field.type == "bool":
        return bool
    if field.type == "int":
        low = -EXACT if field.min is None else max(-EXACT, math.ceil(field.min))
        high = EXACT if field.max is None else min(EXACT, math.floor(field.max))
        return Annotated[int, msgspec.Meta(ge=low, le=high)]
    if field.min is None and field.max is None:
        return float
    return Annotated[float, msgspec.Meta(ge=field.min, le=field.max)]
