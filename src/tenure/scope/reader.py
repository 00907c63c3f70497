"""Read a project file: YAML text in, `Project` out, or every fault at once with its line.

The walker follows the annotations of the structs (`shape.py`); nothing here knows a single section. Scalars are
read from their text, not as YAML 1.1 would resolve them, so `12:30` is not 750 and `010` is not 8.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import yaml

from tenure.errors import ProjectError
from tenure.scope import rules
from tenure.scope.later import NOT_YET
from tenure.scope.project import Project, RolloutSpec
from tenure.scope.scalar import READS, TAG, expected, scalar
from tenure.scope.shape import Form, Key, keys, sections

FAILED: Final = object()


def load_project(path: str | Path) -> Project:
    """Read the project file at `path`; its folder becomes the project's root.

    Raises:
        ProjectError: `faults` holds every fault as `tenure.yaml:12: place: what, expected …`.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProjectError([f"{file}: no such file; `tenure init` writes one"]) from None
    except UnicodeDecodeError as error:
        raise ProjectError([f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8"]) from None
    except OSError as error:
        raise ProjectError([f"{file}: cannot be read: {error.strerror}"]) from None
    return read_project(text, file.name, file.resolve().parent)


def read_project(text: str, name: str = "tenure.yaml", root: str | Path = ".") -> Project:
    """Read a project from YAML text; `name` stands in messages, `root` is where relative paths start.

    Raises:
        ProjectError: see `load_project`.
    """
    walk = _Walk()
    project = walk.value(_compose(text, name), Form("section", struct=Project), "")
    if project is not FAILED:
        project = msgspec.structs.replace(project, root=str(root))
        walk.unread = frozenset(walk.tainted)
        for fault in rules.faults(project):
            walk.rule(fault)
    if walk.faults:
        ordered = sorted(walk.faults, key=lambda fault: fault[0])
        raise ProjectError([f"{name}:{line}: {message}" for line, message in ordered], at=name)
    return cast("Project", project)


def load_plan(path: str | Path, unit: str | None) -> RolloutSpec:
    """Read the plan of one rollout from a file with the keys of a project file's `rollout` section.

    Raises:
        ProjectError: see `load_project`.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError([f"{file}: cannot be read: {error}"]) from None
    walk = _Walk()
    found = walk.value(_compose(text, file.name), Form("section", struct=RolloutSpec), "rollout")
    if found is not FAILED:
        walk.unread = frozenset(walk.tainted)
        for fault in rules.plan_faults(found, unit, "rollout"):
            walk.rule(fault)
    if walk.faults:
        ordered = sorted(walk.faults, key=lambda fault: fault[0])
        raise ProjectError([f"{file.name}:{line}: {message}" for line, message in ordered], at=file.name)
    return cast("RolloutSpec", found)


def read_rollout(text: str, name: str) -> RolloutSpec:
    """Read a plan from YAML text: what would stand under an endpoint's `rollout:`, with or without that word.

    Raises:
        ProjectError: `faults` holds every fault with its line.
    """
    walk, node = _Walk(), _compose(text, name)
    if isinstance(node, yaml.MappingNode) and [k.value for k, _ in node.value] == ["rollout"]:
        node = node.value[0][1]
    found = walk.value(node, Form("section", struct=RolloutSpec), "")
    if walk.faults:
        raise ProjectError([f"{name}:{line}: {message}" for line, message in sorted(walk.faults)], at=name)
    return cast("RolloutSpec", found)


def _compose(text: str, name: str) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise ProjectError([_syntax(error, name)], at=name) from None
    except yaml.YAMLError as error:
        raise ProjectError([f"{name}: not YAML: {' '.join(str(error).split())}"], at=name) from None
    except RecursionError:
        raise ProjectError([f"{name}: nested too deeply to be a project file"], at=name) from None
    if node is None:
        raise ProjectError([f"{name}:1: the file is empty; `tenure init` writes one"], at=name)
    return node


def _syntax(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}" if mark else name
    problem = error.problem or "not YAML"
    if "'\\t'" in problem:
        return f"{where}: a tab stands before the text; YAML indents with spaces only"
    if mark and "mapping values are not allowed" in problem:
        problem += "; put a text that holds ': ' in quotes, and a space after each key's colon"
    context = f" ({error.context})" if error.context else ""
    return f"{where}: not YAML: {problem}{context}"


class _Walk:
    """Turns nodes into values; collects faults and the line of every place."""

    def __init__(self) -> None:
        self.faults: list[tuple[int, str]] = []
        self.lines: dict[str, int] = {}
        self.tainted: list[str] = []
        self.unread: frozenset[str] = frozenset()

    def fault(self, node: yaml.Node, place: str, message: str) -> object:
        """Note a fault; the place counts as unread, so that no rule complains of it again."""
        self.tainted.append(place)
        self.faults.append((node.start_mark.line + 1, f"{place}: {message}" if place else message))
        return FAILED

    def rule(self, fault: rules.Fault) -> None:
        """Note a fault of meaning, unless it only follows from one that is noted already."""
        rests_on = (fault.place, *fault.needs)
        follows = (
            any(_touch(needed, bad) and bad != fault.place for needed in rests_on for bad in self.tainted)
            or fault.place in self.unread
        )
        if not follows:
            self.tainted.append(fault.place)
            self.faults.append((self.line(fault.place), f"{fault.place}: {fault.message}"))

    def line(self, place: str) -> int:
        """Return the line of a place, or of the nearest section around it that the file names."""
        while place and place not in self.lines:
            place = place.rpartition(".")[0] if "." in place else ""
        return self.lines.get(place, 1)

    def value(self, node: yaml.Node, form: Form, place: str) -> Any:
        """Return the value at `place`, or FAILED after noting why."""
        self.lines[place] = node.start_mark.line + 1
        if node.tag == TAG + "null":
            return None if form.nullable else self.fault(node, place, f"empty, expected {expected(form)}")
        if form.kind == "section":
            return self.section(node, form, place)
        if form.kind == "map":
            return self.names(node, cast("Form", form.item), place)
        if form.kind == "list":
            return self.entries(node, cast("Form", form.item), place)
        if not isinstance(node, yaml.ScalarNode):
            return self.fault(node, place, f"expected {expected(form)}, got {_kind(node)}")
        try:
            return scalar(node, form)
        except ValueError as error:
            return self.fault(node, place, str(error))

    def section(self, node: yaml.Node, form: Form, place: str) -> Any:
        """Return a struct; a key that failed falls back to its default so that reading goes on."""
        struct = cast("type[msgspec.Struct]", form.struct)
        known = keys(struct)
        values = {}
        for key_node, value_node in self.pairs(node, place):
            name = key_node.value
            if name not in known:
                self.unknown(key_node, node, struct, place)
                continue
            value = self.value(value_node, known[name].form, _join(place, name))
            if value is not FAILED:
                values[known[name].field] = value
        if not isinstance(node, yaml.MappingNode):
            return FAILED
        if self.missing(node, known, place) or any(k.required and k.field not in values for k in known.values()):
            return FAILED
        return struct(**values)

    def missing(self, node: yaml.MappingNode, known: dict[str, Key], place: str) -> bool:
        """Note each required key that the file does not name."""
        named = _named(node)
        absent = [key for key in known.values() if key.required and key.name not in named]
        for key in absent:
            self.fault(node, _join(place, key.name), f"missing, expected {expected(key.form)}")
        return bool(absent)

    def names(self, node: yaml.Node, item: Form, place: str) -> Any:
        """Return a dict whose keys the user names; entries that failed are left out."""
        if not isinstance(node, yaml.MappingNode):
            return self.fault(node, place, f"expected names with a value each, got {_kind(node)}")
        found = {k.value: self.value(v, item, _join(place, k.value)) for k, v in self.pairs(node, place)}
        return {name: value for name, value in found.items() if value is not FAILED}

    def entries(self, node: yaml.Node, item: Form, place: str) -> Any:
        """Return a tuple; entries that failed are left out."""
        if not isinstance(node, yaml.SequenceNode):
            return self.fault(node, place, f"expected a list such as [a, b], got {_kind(node)}")
        found = [self.value(each, item, f"{place}[{i}]") for i, each in enumerate(node.value)]
        return tuple(value for value in found if value is not FAILED)

    def pairs(self, node: yaml.Node, place: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """Return a mapping's usable pairs; note keys that are doubled or not plain text."""
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, place, f"expected a section with keys, got {_kind(node)}")
            return []
        usable: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for key, value in node.value:
            problem = _bad_key(key)
            if problem:
                self.fault(key, place, problem)
            elif key.value in usable:
                first = usable[key.value][0].start_mark.line + 1
                self.fault(key, _join(place, key.value), f"written twice, first in line {first}; keep one")
            else:
                usable[key.value] = (key, value)
        return list(usable.values())

    def unknown(self, node: yaml.ScalarNode, within: yaml.Node, struct: type[msgspec.Struct], place: str) -> None:
        """Note an unknown key with the nearest key there is, here or elsewhere."""
        name, known = node.value, keys(struct)
        later = NOT_YET.get((struct, name))
        if later:
            self.fault(node, _join(place, name), later)
            return
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        elsewhere = [path or "the top level" for path, other in sections() if name in keys(other)]
        if near:
            hint = f"; did you mean {near[0]}?"
            if near[0] not in _named(within):
                self.tainted.append(_join(place, near[0]))
        elif elsewhere:
            hint = f"; {name} belongs under {elsewhere[0]}"
        else:
            hint = ""
        self.fault(node, _join(place, name), f"unknown key, expected one of {', '.join(known)}{hint}")


def _bad_key(key: yaml.Node) -> str | None:
    if not isinstance(key, yaml.ScalarNode):
        return f"expected a plain word as key, got {_kind(key)}"
    tag = key.tag.removeprefix(TAG)
    if tag == "merge":
        return "merge keys (<<) are not supported; write the keys out"
    if tag != "str":
        return f'the key {key.value} reads as {READS.get(tag, tag)} in YAML; write "{key.value}" in quotes'
    return None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a section"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return str(node.value) if node.value else "nothing"


def _named(node: yaml.Node) -> set[str]:
    return {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _touch(a: str, b: str) -> bool:
    """Say whether one place is the other or lies inside it."""
    inner, outer = (a, b) if len(a) >= len(b) else (b, a)
    return inner == outer or not outer or inner.startswith((outer + ".", outer + "["))
