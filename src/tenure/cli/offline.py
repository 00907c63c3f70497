"""Roll back without a controller: the database first, then the routing table that the workers read."""

from __future__ import annotations

import msgspec

from tenure.cli.office import Office
from tenure.controller.publisher import Publisher
from tenure.deploy.router import Endpoint
from tenure.deploy.serving.control_page import ControlPage
from tenure.errors import ConflictError, MissingError

ALIVE_NS = 5_000_000_000
"""A controller that was seen so lately is alive."""


def roll_back(desk: Office, endpoint: str, reason: str) -> list[str]:
    """End the active rollout and route everything to the stable version; returns what was done, in words.

    Raises:
        ConflictError: a controller is alive, which would do it itself.
        MissingError: no server has run on this data folder.
    """
    page = _page(desk)
    age_ns = desk.state.clock.now_ns() - page.controller_ns
    if page.controller_ns and age_ns < ALIVE_NS:
        raise ConflictError(
            f"the controller is alive (seen {age_ns / 1e9:.1f} s ago): leave out --offline, and it does it"
        )
    why, done = reason or f"rolled back offline by {desk.by}", []
    active = desk.rollouts.active(None, endpoint)
    if active is not None:
        desk.rollouts.rollback(active.id, by=desk.by, reason=why)
        done.append(f"rollout {active.id} is rolled back")
    publisher = Publisher(desk.state, desk.folder, page)
    table = publisher.table
    if table is None or endpoint not in table.endpoints:
        raise MissingError(f"no routing table names {endpoint}; nothing is served yet", at=endpoint)
    routes = dict(table.endpoints) | {endpoint: _plain(table.endpoints[endpoint])}
    with desk.state.begin() as conn:
        changed = publisher.put(conn, routes, f"{endpoint}: {why}")
        detail = {"reason": why, "changed": changed}
        desk.state.audit(conn, actor=desk.by, action="rollback.offline", subject=endpoint, detail=detail)
    publisher.show()
    number = publisher.table.version if publisher.table else 0
    stable = routes[endpoint].stable or "nobody: people decide"
    if changed:
        return [*done, f"routing table {number}: every request of {endpoint} goes to {stable}"]
    return [*done, f"routing table {number} routes every request of {endpoint} to {stable} already"]


def _plain(route: Endpoint) -> Endpoint:
    """Return the route without a candidate and shadows; the candidate stays warm, to be looked at."""
    left = tuple(v for v in (route.candidate, *route.shadows) if v is not None and v != route.stable)
    warm = tuple(dict.fromkeys((*route.warm, *left)))
    return msgspec.structs.replace(route, candidate=None, share=0.0, shadows=(), rollout=None, warm=warm)


def _page(desk: Office) -> ControlPage:
    path = desk.folder / "control.page"
    if not path.is_file():
        raise MissingError("no server has run on this data folder; `tenure rollback` suffices", at=str(path))
    return ControlPage(path)
