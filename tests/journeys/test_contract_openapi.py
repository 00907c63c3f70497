"""What the OpenAPI document says is what a real server does: thousands of requests are made from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import contract_world
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from serving_server import Client, World

load_all_checks()
LEFT_OUT = {
    "not_a_server_error": "ours knows that 503 is documented",
    "positive_data_acceptance": "a schema cannot say that a key is for single inputs only, or what a JPEG is",
    "ignored_auth": "whether a token is asked for depends on how the server was started; tested elsewhere",
}
SHORT, LONG = 400, 10_000
SPARE = 2  # some calls have few ways to be made


@schemathesis.check
def no_fault(ctx: Any, response: Any, case: Any) -> None:
    """A 5xx is one of the documented ones, and a 503 of a call says when to try again."""
    status = response.status_code
    if status < 500:
        return
    assert status in (503, 504), response.text
    assert str(status) in case.operation.definition.raw["responses"]
    assert status != 503 or "retry-after" in response.headers or case.path.endswith("/ready")


for name, strategy in contract_world.media().items():
    schemathesis.openapi.media_type(name, strategy)


CHECKED = [check for check in CHECKS.get_all() if check.__name__ not in LEFT_OUT]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = contract_world.world(tmp_path_factory.mktemp("contract"))
    with made.running():
        yield made


@pytest.fixture(scope="module")
def document(world: World) -> dict[str, Any]:
    return dict(requests.get(f"{world.up.url}/openapi.json", timeout=60).json())


class Told:
    """How often each status came, and what was not as the document says."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()

    def check(self, case: Any, response: Any) -> None:
        self.statuses[response.status_code] += 1
        # The check of refusals does not know that 413 is one.
        left = [c for c in CHECKED if response.status_code != 413 or c.__name__ != "negative_data_rejection"]
        try:
            case.validate_response(response, checks=left)
        except FailureGroup as group:
            for failure in group.exceptions:
                what = f"{failure.title}: {failure.message}"[:400]
                self.faults[f"{case.method} {case.path} [{response.status_code}] {what}"] += 1


def test_each_endpoint_is_a_path_that_says_what_it_takes(document: dict[str, Any]) -> None:
    asks = {path.split("/")[2] for path in document["paths"] if path.endswith("/predict") and path != "/predict"}
    assert asks == set(contract_world.ENDPOINTS)
    sums = document["paths"]["/v1/sums/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    record = sums["anyOf"][0]
    assert (record["required"], record["additionalProperties"]) == (["a"], False)
    assert record["properties"]["n"] == {"type": ["integer", "null"], "minimum": 0, "maximum": 100}
    spots, photos = (
        document["paths"][f"/v1/{name}/predict"]["post"]["responses"]["200"] for name in ("spots", "photos")
    )
    assert {"image/jpeg", "image/png"} <= spots["content"].keys()
    assert photos["content"].keys() == {"application/json"}
    model = next(p for p in document["paths"]["/predict"]["post"]["parameters"] if p["name"] == "model")
    assert model["schema"]["enum"] == ["spots", "photos"]


def test_the_document_is_kept(world: World, document: dict[str, Any]) -> None:
    told = run(world, document, round(SHORT * SPARE))
    assert not told.faults
    assert told.statuses.total() >= SHORT
    assert told.statuses[200] > SHORT / 20
    assert told.statuses[400] + told.statuses[422] > SHORT / 20


@pytest.mark.slow
def test_the_document_is_kept_by_ten_thousand_requests(world: World, document: dict[str, Any]) -> None:
    told = run(world, document, round(LONG * SPARE))
    assert not told.faults
    assert told.statuses.total() >= LONG


def run(world: World, document: dict[str, Any], n: int) -> Told:
    """Make about so many requests from the document and check every reply."""
    schema = schemathesis.openapi.from_dict(at_hand(world, document))
    schema.config.update(base_url=world.up.url)
    told, session = Told(), requests.Session()
    session.headers["Authorization"] = f"Bearer {world.tokens['client']}"
    made = [one for found in schema.get_all_operations() for one in strategies(found.ok())]
    for strategy in made:
        send(strategy, session, told, n=-(-n // len(made)))
    return told


def at_hand(world: World, document: dict[str, Any]) -> dict[str, Any]:
    """Name what there is, so that not every call ends at 404, and leave out what only costs time.

    Left out are waits for people who are not there, and the length of a list, which megabytes would have to pass.
    """
    out = json.loads(json.dumps(document).replace('"maxItems": 10000, ', ""))
    client, png = world.client(), {"Content-Type": "image/png"}
    asked = [
        client.call("POST", "/v1/sums/predict", {"a": 1}),
        client.call("POST", "/v1/photos/predict", contract_world.photo(), png),
    ]
    ids = [reply.json()["id"] for reply in asked] + ["nothing"]
    known = {"id": ids, "model": [*contract_world.ENDPOINTS, "nothing"], "version": versions(client)}
    for operation in (each for path in out["paths"].values() for each in path.values()):
        operation["parameters"] = [p for p in operation["parameters"] if p["name"] != "wait"]
        for parameter in operation["parameters"]:
            if parameter["in"] == "path":
                parameter["schema"]["enum"] = known[parameter["name"]]
    out["components"]["schemas"]["Feedback"]["properties"]["id"]["enum"] = ids
    return dict(out)


def versions(client: Client) -> list[str]:
    """Return the version of each model as the Open Inference Protocol names it."""
    return [client.call("GET", f"/v2/models/{name}").json()["versions"][0] for name in contract_world.ENDPOINTS]


def strategies(operation: Any) -> Iterator[st.SearchStrategy[Any]]:
    """Yield what makes requests that keep the document, and what makes others where there can be any."""
    yield operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if operation.body or any(p.location != "path" for p in operation.iter_parameters()):
        yield operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def send(strategy: st.SearchStrategy[Any], session: requests.Session, told: Told, *, n: int) -> None:
    @settings(
        max_examples=n, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def one(case: Any) -> None:
        told.check(case, case.call(session=session, timeout=60))

    one()
