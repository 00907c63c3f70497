"""What an ONNX file asks for beside itself: outside files for its weights, and operators that are not built in.

Reads the protobuf encoding itself, skipping weights, so that a file is judged before anything loads it.
https://protobuf.dev/programming-guides/encoding and the field numbers of `onnx.proto`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tenure.errors import ModelError
from tenure.model.contents import safe_path

MAX_BYTES = 2 * 2**30
"""Protobuf's own limit of a message; larger models keep their weights beside the file."""

BUILT_IN = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training",
     "com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"}
)  # fmt: skip
"""Domains of operators that come with ONNX Runtime."""

_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 7, 8, 25
_OPSET_DOMAIN, _FUNCTION_NODES, _FUNCTION_DOMAIN = 1, 7, 10
_GRAPH_NODES, _GRAPH_TENSORS, _GRAPH_SPARSE = 1, 5, 15
_NODE_TYPE, _NODE_ATTRIBUTES, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL, _SPARSE_TENSORS = 13, (1, 2)
_MAX_DEPTH = 32

Fields = list[tuple[int, memoryview]]


class Needs(msgspec.Struct):
    """What a model needs; `functions` are the domains of functions that it defines itself."""

    operators: set[tuple[str, str]] = msgspec.field(default_factory=set)
    outside: set[str] = msgspec.field(default_factory=set)
    functions: set[str] = msgspec.field(default_factory=set)


def check(path: Path, folder: Path) -> None:
    """Refuse a model that needs operators that are not built in, or weights outside `folder`.

    Raises:
        ModelError: saying which; or the file is too large or no ONNX model.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(
            f"{path.name} is larger than {MAX_BYTES // 2**30} GiB; keep its weights beside it", at=path.name
        )
    found = needs(path)
    strange = sorted(op for op in found.operators if op[0] not in BUILT_IN and op[0] not in found.functions)
    if strange:
        domain, name = strange[0]
        raise ModelError(
            f"{path.name} needs the operator {domain}::{name}, which is not one of ONNX Runtime's own; libraries "
            "of operators are code and are not loaded",
            at=path.name,
            code="custom_operator",
        )
    for place in sorted(found.outside):
        _check_outside(path, place, folder)


def _check_outside(path: Path, place: str, folder: Path) -> None:
    try:
        weights = path.parent / safe_path(place.removeprefix("./"), at=path.name)
    except ModelError:
        raise ModelError(
            f"{path.name} keeps weights at {place!r}, outside the bundle", at=path.name, code="outside_file"
        ) from None
    inside = weights.resolve().is_relative_to(folder.resolve())
    if weights.is_symlink() or not weights.is_file() or not inside:
        raise ModelError(
            f"{path.name} keeps weights in {place}, which is not among the files; register the folder of both",
            at=path.name,
            code="outside_file",
        )


def needs(path: Path) -> Needs:
    """Read what a model needs.

    Raises:
        ModelError: it is no ONNX model.
    """
    found = Needs()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            try:
                _model(view, found)
            finally:
                view.release()
    except (ValueError, IndexError, UnicodeDecodeError, BufferError) as error:
        raise ModelError(f"cannot load {path.name}: it is no ONNX model", at=path.name) from error
    return found


def _model(view: memoryview, found: Needs) -> None:
    seen_graph = False
    for number, value in _fields(view):
        with value:
            if number == _MODEL_GRAPH:
                seen_graph = True
                _graph(value, found, 0)
            elif number == _MODEL_FUNCTIONS:
                _function(value, found)
    if not seen_graph:
        raise ValueError("no graph")


def _function(view: memoryview, found: Needs) -> None:
    for number, value in _fields(view):
        with value:
            if number == _FUNCTION_DOMAIN:
                found.functions.add(_text(value))
            elif number == _FUNCTION_NODES:
                _node(value, found, 0)


def _graph(view: memoryview, found: Needs, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    for number, value in _fields(view):
        with value:
            if number == _GRAPH_NODES:
                _node(value, found, depth)
            elif number == _GRAPH_TENSORS:
                _tensor(value, found)
            elif number == _GRAPH_SPARSE:
                _sparse(value, found)


def _node(view: memoryview, found: Needs, depth: int) -> None:
    kind = domain = ""
    for number, value in _fields(view):
        with value:
            if number == _NODE_TYPE:
                kind = _text(value)
            elif number == _NODE_DOMAIN:
                domain = _text(value)
            elif number == _NODE_ATTRIBUTES:
                _attribute(value, found, depth)
    found.operators.add((domain, kind))


def _attribute(view: memoryview, found: Needs, depth: int) -> None:
    for number, value in _fields(view):
        with value:
            if number in _ATTRIBUTE_TENSORS:
                _tensor(value, found)
            elif number in _ATTRIBUTE_GRAPHS:
                _graph(value, found, depth + 1)
            elif number in _ATTRIBUTE_SPARSE:
                _sparse(value, found)


def _sparse(view: memoryview, found: Needs) -> None:
    for number, value in _fields(view):
        with value:
            if number in _SPARSE_TENSORS:
                _tensor(value, found)


def _tensor(view: memoryview, found: Needs) -> None:
    for number, value in _fields(view):
        with value:
            if number == _TENSOR_EXTERNAL:
                entry = {n: bytes(v).decode() for n, v in _fields(value)}
                if entry.get(1) == "location":
                    found.outside.add(entry.get(2, ""))


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (number, bytes) of the fields that hold bytes: texts and messages; the others are stepped over."""
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(view, at)
            continue
        if kind == 2:
            size, at = _varint(view, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("a field is longer than its message")
        if kind == 2:
            yield key >> 3, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _text(view: memoryview) -> str:
    return bytes(view).decode()
