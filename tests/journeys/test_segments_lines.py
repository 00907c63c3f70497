"""A factory with two lines on one endpoint, on a real server: each line earns and loses its automation alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import serving_models as models
from serving_server import Client, World

from tenure.data import tables as t
from tenure.scope.project import (
    Audit,
    Automation,
    CertificateSpec,
    EndpointSpec,
    Field,
    Review,
    SecondReader,
    Segments,
    SegmentSpec,
)

PARTS = EndpointSpec(
    input="record",
    review=Review(second_reader=SecondReader(disagreements=0.0, agreements=0.0)),
    fields={"a": Field(type="float"), "line": Field(type="category", values=("A", "B", "C"))},
    automation=Automation(
        start="assist",
        max="partial",
        errors=0.2,
        blind=1.0,
        audit=Audit(steady=1.0),
        certificate=CertificateSpec(pilot=60, plan=200),
        segments=Segments(by="line", values={"A": SegmentSpec(), "B": SegmentSpec()}),
    ),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("lines"), {"parts": PARTS}, workers=1)
    made.register("parts", models.Size(limit=1.0), sample={"a": 2.0, "line": "A"})
    with made.running():
        yield made


class Factory:
    """What a client, an inspector and an operator do."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def client(self) -> Client:
        """A new connection: the server closes those that were idle for a while."""
        return self.world.client()

    @property
    def operator(self) -> Client:
        return self.world.client("operator")

    def send(self, line: str, n: int) -> list[dict[str, Any]]:
        """Send parts of one line; returns the answers."""
        bodies = [{"a": 3.0 if i % 2 else 0.5, "line": line} for i in range(n)]
        client = self.client
        return [client.call("POST", "/v1/parts/predict", body).json() for body in bodies]

    def judge(self, n: int) -> None:
        """Let people read what waits, rightly, until `n` parts are judged."""
        judged, reviewer = 0, self.world.client("reviewer")
        while judged < n:
            items = reviewer.call("POST", "/api/reviews/lease?n=50&endpoint=parts").json()["items"]
            entries = [
                {k: i[k] for k in ("item", "token")}
                | {"key": i["token"], "value": "big" if i["record"]["a"] > 1 else "small"}
                for i in items
            ]
            if entries:
                told = reviewer.call("POST", "/api/reviews/judgements", {"judgements": entries})
                judged += len(told.json()["results"])

    def contradict(self, answers: list[dict[str, Any]]) -> None:
        """Say afterwards that answers were wrong."""
        client = self.client
        for answer in answers:
            truth = "small" if answer["decision"]["value"] == "big" else "big"
            body = {"id": answer["id"], "kind": "truth", "value": truth}
            assert client.call("POST", "/v1/feedback", body).status == 202

    def page(self, segment: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.operator.call("GET", f"/api/levels?endpoint=parts&segment={segment}").json()
        return found

    def levels(self) -> dict[str, str]:
        return {row["segment"]: row["level"] for row in self.page()["segments"]}

    def up(self, segment: str) -> Any:
        body = {"endpoint": "parts", "to": "partial", "approve": True, "segment": segment}
        return self.operator.call("POST", "/api/levels", body)

    def earn(self, line: str) -> None:
        """Send and read parts of a line until a certificate is in force for it."""
        self.send(line, 220)
        self.judge(220)
        self.until(lambda: self.page(line)["certificates"] != [], f"no certificate for {line}", lines=line)

    def until(self, done: Callable[[], bool], why: str, *, lines: str = "") -> None:
        for _ in range(1200):
            if done():
                return
            time.sleep(0.05)
        pytest.fail(f"{why}: {[self.page(line)['lineages'] for line in lines]}")

    def routed(self, level: str, segment: str) -> None:
        """Wait until the workers rule on a segment at a level."""
        policy = self.page(segment)["policy"]
        assert policy["level"] == level
        up = self.world.up
        self.until(lambda: up.page.acknowledged() >= up.page.routing, "the table is not in force")


def decided_by(client: Client, line: str) -> str:
    answer = client.call("POST", "/v1/parts/predict", {"a": 3.0, "line": line}).json()
    return str(answer["decision"]["by"]) if answer["status"] == "decided" else "nobody yet"


def test_lines_earn_and_lose_automation_each_alone(world: World) -> None:
    factory = Factory(world)
    factory.send("B", 20)
    factory.judge(20)
    factory.earn("A")
    assert factory.levels() == {"": "assist", "A": "assist", "B": "assist"}
    refused = factory.up("B")
    assert refused.status == 409
    assert "more blind judgements" in refused.json()["error"]
    assert factory.up("A").status == 200
    factory.routed("partial", "A")
    factory.until(lambda: decided_by(factory.client, "A") == "model", "line A is not automated")
    assert [decided_by(factory.client, line) for line in "BC"] == ["nobody yet"] * 2

    factory.earn("B")
    assert factory.up("B").status == 200
    factory.routed("partial", "B")
    factory.until(lambda: decided_by(factory.client, "B") == "model", "line B is not automated")
    assert factory.levels() == {"": "assist", "A": "partial", "B": "partial"}

    answers = factory.send("A", 40)  # the coating of line A has changed
    assert {a["decision"]["by"] for a in answers} == {"model"}
    factory.contradict(answers)
    factory.until(lambda: factory.levels()["A"] == "assist", "audits do not revoke", lines="A")
    factory.until(lambda: decided_by(factory.client, "A") == "nobody yet", "line A is still automated")
    assert decided_by(factory.client, "B") == "model"
    assert factory.levels() == {"": "assist", "A": "assist", "B": "partial"}
    states = {(c["segment"], c["state"]) for line in "AB" for c in factory.page(line)["certificates"]}
    assert ("A", "revoked") in states
    assert ("B", "valid") in states
    assert ("B", "revoked") not in states
    _check_log(world)


def _check_log(world: World) -> None:
    """The policy that a row names is the one of the line that its record names."""
    with world.state.read() as conn:
        segment_of = {row.id: row.segment for row in conn.execute(t.policies.select())}
        items = {row.id: row.segment for row in conn.execute(t.review_items.select())}
    rows = world.rows()
    for row in rows:
        line = row["record"] and '"C"' not in row["record"] and ("A" if '"A"' in row["record"] else "B")
        assert segment_of[row["policy"]] == (line or "")
    assert set(items.values()) == {"", "A", "B"}
    assert len(rows) > 480
