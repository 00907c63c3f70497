"""Write docs/reference/project-file.md from the structs and the table of meanings.

`python -m tenure.scope.reference docs/reference/project-file.md`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import msgspec

from tenure.scope.keys import SHOWN, meaning
from tenure.scope.shape import Form, Key, Section, keys, sections
from tenure.scope.units import BYTES, SECONDS, Unit, spell

_INTRO = f"""# The project file

`tenure.yaml` says what a project promises.
`tenure init` writes one, `tenure check` reads it and names every fault at once, with its line.
This page is made from the code by `python -m tenure.scope.reference docs/reference/project-file.md`.

## Spelling

| type | written as |
|---|---|
| duration | a number and one of {", ".join(f"`{name}`" for name in SECONDS)}: `250ms`, `7d`; or a bare `0` |
| size | a number and one of {", ".join(f"`{name}`" for name in BYTES)}; `MB` is 10^6 bytes, `MiB` is 2^20 |
| share | `5%` or `0.05`, from 0 to 1; `all` is 100%, `none` is 0% |
| rate | `1 per 30d` |
| amount | a number or a percentage: `0.91`, `2%` |
| number, count | `50`; a count is whole |
| switch | `true` or `false`, nothing else |

A key that is not on this page is refused, and so is a value that nothing enforces yet.
Refused too: a key that stands twice, a merge key (`<<`), a tab before the text,
and a word that YAML reads as something else, such as `no`, `on` or `1.0` as a label; put it in quotes.

*Kept by* names the part of tenure that acts on the key.
*{SHOWN}* means that people read it and no code acts on it.
In section names `NAME` is a name that you choose and `[]` one entry of a list.
"""

_WORDS = {
    Unit.DURATION: "duration",
    Unit.SIZE: "size",
    Unit.SHARE: "share",
    Unit.RATE: "rate",
    Unit.AMOUNT: "amount",
    Unit.NUMBER: "number",
    Unit.COUNT: "count",
}


def page() -> str:
    """Return the reference page as Markdown."""
    return "\n".join([_INTRO, *(_section(path, struct) for path, struct in sections())])


def _section(path: str, struct: Section) -> str:
    title = f"`{path.replace('*', 'NAME')}`" if path else "Top level"
    rows = [_row(struct, key) for key in keys(struct).values()]
    head = ["| key | type | default | meaning | kept by |", "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *rows, ""])


def _row(struct: Section, key: Key) -> str:
    text, by = meaning(struct, key.name)
    default = "**required**" if key.required else _default(key)
    keeper = by if by == SHOWN else f"`{by}`"
    return f"| `{key.name}` | {_type(key.form)} | {default} | {text} | {keeper} |"


def _type(form: Form) -> str:
    if form.item is not None:
        return f"{'list' if form.kind == 'list' else 'names'} of {_type(form.item)}"
    if form.kind == "choice":
        return " or ".join(f"`{choice}`" for choice in form.choices)
    if form.kind == "quantity":
        return _WORDS[form.unit] + _bounds(form.meta)
    return "text, number or switch" if form.kind == "scalar" else form.kind


def _bounds(meta: msgspec.Meta | None) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [
        f"{sign} {getattr(meta, name)}" for name, sign in signs.items() if getattr(meta, name, None) is not None
    ]
    return f" ({', '.join(limits)})" if limits else ""


def _default(key: Key) -> str:
    value, form = key.default, key.form
    if value is None or value == () or value == {}:
        return "none"
    if form.kind == "section":
        return "its keys' defaults"
    return f"`{_spelled(value, form)}`"


def _spelled(value: Any, form: Form) -> str:
    if form.kind == "list":
        return f"[{', '.join(_spelled(each, cast('Form', form.item)) for each in value)}]"
    if form.kind == "quantity":
        return spell(form.unit, value)
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
