"""The shape of the project file as the value structs state it: the one source of reader, schema and reference."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from tenure.scope.project import Project
from tenure.scope.units import Unit

Section = type[msgspec.Struct]

SET_BY_READER = {(Project, "root")}

Kind = Literal["section", "map", "list", "choice", "quantity", "text", "switch", "scalar"]


@dataclass(frozen=True)
class Form:
    """What may stand at one place.

    `item`: the form of a list's or map's values; `struct`: the section; `choices`: the words allowed; `meta`:
    bounds beyond the unit's own; `nullable`: may be left empty.
    """

    kind: Kind
    nullable: bool = False
    struct: Section | None = None
    item: Form | None = None
    choices: tuple[str, ...] = ()
    unit: Unit = Unit.NUMBER
    meta: msgspec.Meta | None = None


@dataclass(frozen=True)
class Key:
    """One key of a section: `name` in the file, `field` in the struct."""

    name: str
    field: str
    form: Form
    required: bool
    default: Any


@cache
def keys(struct: Section) -> dict[str, Key]:
    """Return the keys of a section by their name in the file."""
    hints = get_type_hints(struct, include_extras=True)
    return {
        field.encode_name: Key(
            name=field.encode_name,
            field=field.name,
            form=form(hints[field.name]),
            required=field.required,
            default=_default(field),
        )
        for field in msgspec.structs.fields(struct)
        if (struct, field.name) not in SET_BY_READER
    }


def form(hint: Any) -> Form:
    """Return the form of an annotation.

    Raises:
        TypeError: an annotation that the project file has no spelling for; a fault of ours.
    """
    base, marks = _unwrap(hint)
    origin = get_origin(base)
    if origin in (Union, types.UnionType):
        return _union(get_args(base))
    if origin is Literal:
        return Form("choice", choices=get_args(base))
    if origin is tuple:
        return Form("list", item=form(get_args(base)[0]))
    if origin is dict:
        return Form("map", item=form(get_args(base)[1]))
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return Form("section", struct=base)
    if base is bool:
        return Form("switch")
    if base is str:
        return Form("text")
    if base in (int, float):
        return _quantity(base, marks)
    raise TypeError(f"no spelling for {hint!r} in the project file")


def sections(struct: Section = Project, path: str = "") -> Iterator[tuple[str, Section]]:
    """Yield every section with its path; `*` stands for a name that the user gives, `[]` for a list's entry."""
    yield path, struct
    for key in keys(struct).values():
        place, found = f"{path}.{key.name}".lstrip("."), key.form
        while found.item is not None:
            place, found = place + (".*" if found.kind == "map" else "[]"), found.item
        if found.struct is not None:
            yield from sections(found.struct, place)


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


def _union(members: tuple[Any, ...]) -> Form:
    rest = [member for member in members if member is not type(None)]
    nullable = len(rest) < len(members)
    if len(rest) > 1:
        return Form("scalar", nullable=nullable)
    return replace(form(rest[0]), nullable=nullable)


def _quantity(base: Any, marks: tuple[Any, ...]) -> Form:
    units = [mark for mark in marks if isinstance(mark, Unit)]
    metas = [mark for mark in marks if isinstance(mark, msgspec.Meta)]
    unit = units[0] if units else Unit.COUNT if base is int else Unit.NUMBER
    return Form("quantity", unit=unit, meta=metas[0] if metas else None)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
