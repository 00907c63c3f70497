"""The OpenAPI document, written from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec

from tenure.console.route import Route


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the management API."""
    table = tuple(routes)
    bodies = [r.body for r in table if r.body is not None]
    _, schemas = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tenure management API", "version": version("tenure")},
        "paths": paths,
        "components": {"schemas": {**schemas, "Error": _ERROR}, "securitySchemes": _SECURITY},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _name(route),
        "parameters": _parameters(route),
        "responses": {
            "200": {"description": "done", "content": {route.answer: {"schema": {}}}},
            "default": {"description": "an error", "content": {"application/json": {"schema": _REF}}},
        },
    }
    if route.roles:
        operation["security"] = [{"bearer": []}, {"cookie": []}]
        operation["x-roles"] = sorted(route.roles)
    if route.body is not None:
        schema = {"$ref": f"#/components/schemas/{route.body.__name__}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    text = {"type": "string"}
    in_path = [
        {"name": n, "in": "path", "required": True, "schema": text} for n in re.findall(r"{(\w+)", route.path)
    ]
    in_query = [{"name": n, "in": "query", "description": d, "schema": text} for n, d in route.query.items()]
    return in_path + in_query


def _name(route: Route) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", route.path.lower()).strip("_")
    return f"{route.method.lower()}_{words}"


_REF = {"$ref": "#/components/schemas/Error"}
_ERROR = {
    "type": "object",
    "required": ["error", "code", "at"],
    "properties": {
        "error": {"type": "string", "description": "what was wrong, in words"},
        "code": {"type": "string", "description": "stable and machine-readable"},
        "at": {"type": ["string", "null"], "description": "where"},
    },
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "tenure_session"},
}
