"""One row of the management API: method, path, who may, what it takes, and the function that answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from tenure.console.services import Services
from tenure.errors import CaseError, MissingError

VIEW = frozenset({"viewer", "reviewer", "adjudicator", "operator"})
JUDGE = frozenset({"reviewer", "adjudicator", "operator"})
OPERATE = frozenset({"operator"})
EXCHANGE = frozenset({"exchange", "operator"})
ANYONE: frozenset[str] = frozenset()
"""No token needed: health, the login and the page itself."""


@dataclass(frozen=True)
class Person:
    """Who asks: a principal's name and role."""

    name: str
    role: str


@dataclass(frozen=True)
class Ask:
    """A checked request: who, the path's names, the query and the decoded body."""

    who: Person
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any = None
    key: str = ""

    def integer(self, name: str, default: int, *, low: int = 0, high: int = 10_000) -> int:
        """Return a whole number of the query.

        Raises:
            CaseError: it is not a whole number in [low, high].
        """
        text = self.query.get(name)
        if text is None or text == "":
            return default
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise CaseError(
                f"{name} must be a whole number from {low} to {high}, got {text!r}",
                code="invalid_query",
                at=name,
                status=400,
            )
        return value


Handler = Callable[[Services, Ask], "dict[str, Any] | Response"]


@dataclass(frozen=True)
class Route:
    """A route; `roles` empty means that no token is needed. `body` is a msgspec Struct or None.

    `outside`: other programs call it, never a browser: see `Guard`. `slow`: only a few of these run at once, so
    that they do not hold up the page.
    """

    method: str
    path: str
    roles: frozenset[str]
    handler: Handler
    summary: str
    body: type[Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)  # name -> what it means
    answer: str = "application/json"
    max_body: int = 1 << 20
    outside: bool = False
    slow: bool = False


def endpoint_of(services: Services, name: str | None) -> str:
    """Return the endpoint's name.

    Raises:
        MissingError: the project has no such endpoint.
    """
    if name is None or name not in services.project.endpoints:
        known = ", ".join(sorted(services.project.endpoints)) or "none"
        raise MissingError(f"there is no endpoint {name!r}; this project has: {known}", at="endpoint")
    return name
