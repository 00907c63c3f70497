"""JSON Schemas of what the data plane takes and answers, beside those that are made from types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenure.data.schema import INT64
from tenure.scope.project import Field

Schema = dict[str, Any]

ERROR: Schema = {
    "type": "object",
    "required": ["error", "code", "at"],
    "additionalProperties": False,
    "properties": {
        "error": {"type": "string", "description": "what was wrong, in words"},
        "code": {"type": "string", "description": "stable and machine-readable"},
        "at": {"type": ["string", "null"], "description": "where"},
    },
}
ROW_ERROR: Schema = {
    **ERROR,
    "required": [*ERROR["required"], "index"],
    "properties": {**ERROR["properties"], "index": {"type": "integer", "description": "of the row, from 0"}},
}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
FEEDBACK: Schema = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "anyOf": [{"required": ["truth"]}, {"required": ["kind"], "properties": {"kind": {"minLength": 1}}}],
    "properties": {
        "id": {"type": "string", "description": "id of the request"},
        "truth": {**_SCALAR, "description": "what was right"},
        "kind": {"type": "string", "description": "name of another reaction, such as `redo` or `click`"},
        "value": {**_SCALAR, "description": "of that reaction"},
    },
}
READY: Schema = {
    "type": "object",
    "required": ["ready", "workers"],
    "properties": {
        "ready": {"type": "boolean"},
        "workers": {"type": "array", "items": {"type": "string"}, "description": "state of each worker"},
    },
}


def record_schema(fields: Mapping[str, Field]) -> Schema:
    """Return what a record endpoint takes; without declared fields any object.

    A category may have a value that is not declared, so its values are examples.
    """
    if not fields:
        return {"type": "object"}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, field in fields.items() if field.required],
        "properties": {name: _field(field) for name, field in fields.items()},
    }


def _field(field: Field) -> Schema:
    kind = {"int": "integer", "float": "number", "bool": "boolean"}.get(field.type, "string")
    may_be_null = field.nullable or not field.required
    schema: Schema = {"type": [kind, "null"] if may_be_null else kind}
    if field.type == "int":
        schema |= {"minimum": -INT64, "maximum": INT64 - 1}
    if field.min is not None:
        schema["minimum"] = field.min
    if field.max is not None:
        schema["maximum"] = field.max
    if field.values:
        schema["examples"] = list(field.values)
    return schema
