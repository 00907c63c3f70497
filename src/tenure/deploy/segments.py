"""Which segment a request belongs to: read from what is known before anything is decided."""

from __future__ import annotations

from typing import Any

from tenure.model.columns import Rows
from tenure.scope.project import EndpointSpec

_TOLD = frozenset({str, int, bool})


class Reader:
    """Read the segments of requests to one endpoint; a value that is not listed reads as the empty text.

    They are told by a declared field, or else by what the client sent as the request's unit.

    Args:
        spec: the endpoint; its segments are declared.
    """

    def __init__(self, spec: EndpointSpec) -> None:
        segments = spec.automation.segments
        assert segments is not None
        self._field = segments.by if segments.by in spec.fields else None
        kind = spec.fields[segments.by].type if self._field else "text"
        self._names: dict[Any, str] = {_parsed(value, kind): value for value in segments.values}
        self._place = list(spec.fields).index(segments.by) if self._field else 0

    def of(self, item: Any, unit: str | None) -> str:
        """Return the segment of one request.

        Args:
            item: its input: a record, packed values in the order of the fields, or anything else.
            unit: its unit, None without one.
        """
        if self._field is None:
            return self._names.get(unit, "")
        if type(item) is tuple:
            return self._names.get(item[self._place], "")
        value = item.get(self._field) if type(item) is dict else None
        return self._names.get(value, "") if type(value) in _TOLD else ""

    def of_rows(self, rows: Rows, unit: str | None) -> str | None:
        """Return the segment that all rows of a matrix share, None where they have several."""
        if self._field is None:
            return self._names.get(unit, "")
        found = {self._names.get(value, "") for value in set(rows.values[:, self._place].tolist())}
        return found.pop() if len(found) == 1 else None


def reader_of(spec: EndpointSpec) -> Reader | None:
    """Return the reader of an endpoint's segments, None where it has none."""
    return Reader(spec) if spec.automation.segments is not None else None


def _parsed(value: str, kind: str) -> Any:
    """Return the value of a field that the project file spells so; 1, 1.0 and True are one key of a dict."""
    if kind == "int":
        return int(value)
    return value == "true" if kind == "bool" else value
