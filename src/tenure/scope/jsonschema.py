"""A JSON Schema of the project file for editors, made from the structs; it knows the units' spellings.

It checks shape and spelling. What keys ask of each other is checked by `tenure check` alone.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tenure.scope import units
from tenure.scope.keys import meaning
from tenure.scope.project import Project
from tenure.scope.shape import Form, Key, Section, keys, sections
from tenure.scope.units import Unit

Schema = dict[str, Any]

_ZERO: Schema = {"const": 0}
_SPELLINGS: dict[Unit, list[Schema]] = {
    Unit.DURATION: [{"type": "string", "pattern": f"^(?:{units.DURATION}|0)$"}, _ZERO],
    Unit.SIZE: [{"type": "string", "pattern": f"^{units.SIZE}$"}],
    Unit.SHARE: [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "pattern": f"^(?:{units.PERCENT}|all|none)$"},
    ],
    Unit.RATE: [{"type": "string", "pattern": f"^{units.RATE}$"}],
    Unit.AMOUNT: [{"type": "number"}, {"type": "string", "pattern": f"^{units.PERCENT}$"}],
    Unit.NUMBER: [{"type": "number"}],
    Unit.COUNT: [{"type": "integer", "minimum": 0}],
}
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of `tenure.yaml`."""
    found = {struct for _, struct in sections()}
    parts = {struct.__name__: _section(struct) for struct in sorted(found, key=lambda each: each.__name__)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tenure project file",
        **parts.pop(Project.__name__),
        "$defs": parts,
    }


def text() -> str:
    """Return the schema as it is written to a file."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def _section(struct: Section) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key.name for key in keys(struct).values() if key.required],
        "properties": {key.name: _key(struct, key) for key in keys(struct).values()},
    }


def _key(struct: Section, key: Key) -> Schema:
    return {"description": meaning(struct, key.name).text, **_form(key.form)}


def _form(form: Form) -> Schema:
    if form.nullable:
        return {"anyOf": [_value(form), {"type": "null"}]}
    return _value(form)


def _value(form: Form) -> Schema:
    if form.kind == "section":
        return {"$ref": f"#/$defs/{cast('Section', form.struct).__name__}"}
    if form.kind == "map":
        return {"type": "object", "additionalProperties": _form(cast("Form", form.item))}
    if form.kind == "list":
        return {"type": "array", "items": _form(cast("Form", form.item))}
    if form.kind == "choice":
        return {"enum": list(form.choices)}
    if form.kind == "quantity":
        return _quantity(form)
    return {"type": {"text": "string", "switch": "boolean"}.get(form.kind, ["string", "number", "boolean"])}


def _quantity(form: Form) -> Schema:
    spellings = [dict(each) for each in _SPELLINGS[form.unit]]
    for each in spellings:
        if each.get("type") in ("number", "integer"):
            each.update(_bounds(form.meta))
    return spellings[0] if len(spellings) == 1 else {"anyOf": spellings}


def _bounds(meta: msgspec.Meta | None) -> Schema:
    limits = {name: getattr(meta, field, None) for field, name in _BOUNDS.items()}
    return {name: limit for name, limit in limits.items() if limit is not None}
