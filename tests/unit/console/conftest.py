"""One office per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from console_office import ROLES, Office, services_of
from starlette.testclient import TestClient

from tenure.clock import ManualClock
from tenure.console.api import management_app
from tenure.data.state import State


@pytest.fixture
def office(state: State, clock: ManualClock) -> Iterator[Office]:
    media: dict[str, tuple[str, bytes]] = {}
    woken: list[str] = []
    services = services_of(state, clock, media, woken)
    tokens = {role: services.access.create(f"{role}-1", role) for role in ROLES}
    with TestClient(management_app(services), base_url="http://127.0.0.1") as client:
        yield Office(state, services, client, media, tokens, woken)
