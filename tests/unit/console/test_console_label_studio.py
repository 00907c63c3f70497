"""The Label Studio backend: its protocol's shapes, who may call it, and what it never shows or fetches."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from console_office import Office, services_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from starlette.testclient import TestClient

from tenure.clock import ManualClock
from tenure.console.api import management_app
from tenure.data import tables as t
from tenure.data.state import State
from tenure.deploy.serving.predict.preview import Preview
from tenure.errors import ModelError
from tenure.maintain.exchange import label_studio
from tenure.types import Box, Prediction

GOLDEN = Path(__file__).parents[2] / "golden" / "label_studio"
AT = "/label-studio/phones"
CONFIG = (
    '<View><Image name="photo" value="$picture"/>'
    '<Choices name="verdict" toName="photo"><Choice value="good"/><Choice value="defect"/></Choices>'
    '<RectangleLabels name="where" toName="photo"><Label value="scratch"/></RectangleLabels></View>'
)


def png() -> bytes:
    out = io.BytesIO()
    Pillow.new("L", (8, 5), 9).save(out, "PNG")
    return out.getvalue()


def uri() -> str:
    return "data:image/png;base64," + base64.b64encode(png()).decode()


class Desk:
    """An office whose worker is asked by `asked`."""

    def __init__(self, office: Office, client: TestClient, token: str) -> None:
        self.office, self.client, self.token = office, client, token
        self.asked: list[tuple[str, bytes, str]] = []

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        auth = more.pop("auth", ("studio", self.token))
        return self.client.request(method, AT + path, json=body, auth=auth, **more)

    def preview(self, endpoint: str, body: bytes, media_type: str) -> Preview:
        self.asked.append((endpoint, body, media_type))
        if body == b"broken":
            raise ModelError("told to", code="model_failed", at=endpoint)
        said = Prediction("defect", 0.9, regions=(Box(1, 2, 3.5, 4, "scratch", 0.5),))
        return Preview("a@1", said, (8, 5))


@pytest.fixture
def desk(state: State, clock: ManualClock) -> Iterator[Desk]:
    media: dict[str, tuple[str, bytes]] = {}
    made: list[Desk] = []
    services = services_of(state, clock, media, [])
    object.__setattr__(services, "preview", lambda *call: made[0].preview(*call))
    token = services.access.create("studio", "exchange")
    others = {role: services.access.create(role, role) for role in ("operator", "reviewer", "client")}
    row = {"id": "a@1", "endpoint": "phones", "name": "a", "sha": "1", "manifest": "{}", "provenance": "{}"}
    with state.begin() as conn:
        conn.execute(t.versions.insert().values(**row, state="live", created_us=0, created_by="test"))
        services.rollouts.set_stable(conn, "phones", "a@1", "test")
    with TestClient(management_app(services), base_url="http://127.0.0.1") as client:
        made.append(Desk(Office(state, services, client, media, others), client, token))
        yield made[0]


def task(number: int, **data: Any) -> dict[str, Any]:
    return {"id": number, "data": data, "meta": {}, "annotations": [], "predictions": [], "project": 3}


def test_the_golden_requests_of_the_protocol_get_the_golden_answers(desk: Desk) -> None:
    for file in sorted(GOLDEN.glob("backend-*.json")):
        one = json.loads(file.read_text().replace("DATA_URI", uri()))
        answer = desk.call(one["method"], one["path"], one.get("body"))
        assert (answer.status_code, answer.json()) == (one["status"], one["answer"]), file.name


def test_ours_are_answered_from_our_own_log_and_never_where_the_reading_is_blind(desk: Desk) -> None:
    desk.office.add("seen")
    desk.office.add("blind", blind=True)
    desk.office.media.update({"seen": ("image/png", b"ours"), "blind": ("image/png", b"ours")})
    flags = [("seen", True), ("seen", False), ("blind", True), ("blind", False)]
    tasks = [
        task(n, image="http://169.254.169.254/latest", tenure_item=item, tenure_shown=shown)
        for n, (item, shown) in enumerate(flags)
    ]
    answer = desk.call("POST", "/predict", {"tasks": tasks}).json()
    assert [bool(found) for found in answer["results"]] == [True, False, False, False]
    assert answer["results"][1:] == [[], [], []]  # Label Studio stores no prediction for these
    assert desk.asked == [("phones", b"ours", "image/png")]
    at_editor = desk.call("POST", "/predict", {"tasks": tasks[1:2], "params": {"context": {"result": []}}}).json()
    assert at_editor["results"] == [{"result": [], "score": None}]


def test_a_bad_task_costs_its_own_prediction_and_is_named(desk: Desk) -> None:
    broken = "data:image/png;base64," + base64.b64encode(b"broken").decode()
    tasks = [task(1, image=uri()), task(2, image="/data/upload/1/x.png"), task(3, image=broken), task(4)]
    tasks.append(task(5, image="x", tenure_item="nobody"))
    answer = desk.call("POST", "/predict", {"tasks": tasks})
    assert answer.status_code == 200
    assert [bool(found) for found in answer.json()["results"]] == [True, False, False, False, False]
    assert [(e["task"], e["code"], e["at"]) for e in answer.json()["errors"]] == [
        (2, "url_refused", "tasks[1].data"), (3, "model_failed", "tasks[2].phones"),
        (4, "invalid_task", "tasks[3].data.image"), (5, "unknown_item", "tasks[4].data.tenure_item"),
    ]  # fmt: skip
    alone = desk.call("POST", "/predict", {"tasks": tasks[1:2]})
    assert (alone.status_code, alone.json()["code"]) == (422, "url_refused")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("<View>", "no XML"),
        ("<View/>", "no <Image>"),
        (CONFIG.replace("$picture", "$a.b"), "needs a value"),
        (CONFIG.replace('<Choice value="defect"/>', ""), "lacks defect"),
        (CONFIG.replace("RectangleLabels", "PolygonLabels"), "no <RectangleLabels>"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + CONFIG, "entities"),
    ],
)
def test_setup_says_what_a_configuration_lacks(desk: Desk, config: str, said: str) -> None:
    answer = desk.call("POST", "/setup", {"project": "1.1", "schema": config, "access_token": "secret"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_label_config")
    assert said in answer.json()["error"]


def test_predictions_bear_the_names_of_the_projects_own_configuration(desk: Desk) -> None:
    body = {"tasks": [task(1, picture=uri())], "label_config": CONFIG}
    (found,) = desk.call("POST", "/predict", body).json()["results"]
    assert [(r["from_name"], r["to_name"]) for r in found["result"]] == [("verdict", "photo"), ("where", "photo")]


def test_only_the_roles_for_exchange_come_in_and_go_nowhere_else(desk: Desk) -> None:
    tokens = desk.office.tokens
    for word, status in (("wrong", 401), ("", 401), (tokens["client"], 403), (tokens["reviewer"], 403)):
        for method, path in (("GET", "/health"), ("GET", "/"), ("POST", "/setup"), ("POST", "/predict")):
            body = {"tasks": []} if method == "POST" else None
            assert desk.call(method, path, body, auth=("x", word)).status_code == status
    assert desk.call("GET", "/health", auth=("x", tokens["operator"])).status_code == 200
    bearer = {"authorization": f"Bearer {desk.token}"}
    assert desk.client.get(AT + "/health", headers=bearer).status_code == 200
    assert desk.client.get("/api/me", headers=bearer).status_code == 403
    assert desk.client.get("/api/me", auth=("x", tokens["operator"])).status_code == 401  # Basic is for programs
    desk.client.cookies.set("tenure_session", desk.token)
    assert desk.client.get(AT + "/health").status_code == 401
    assert desk.client.get("/label-studio/nothing/health", headers=bearer).status_code == 404


def test_without_tokens_only_loopback_and_never_a_page_of_a_browser(state: State, clock: ManualClock) -> None:
    app = management_app(services_of(state, clock, {}, []), open_loopback=True)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get(AT + "/health").status_code == 200
        assert client.get(AT + "/health", headers={"host": "evil.example"}).status_code == 401
        assert client.get(AT + "/health", headers={"origin": "http://evil.example"}).status_code == 401
        form = {"content-type": "text/plain"}
        assert client.post(AT + "/predict", content=b'{"tasks": []}', headers=form).status_code == 415


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
DATA = st.dictionaries(st.sampled_from(["image", "tenure_item", "tenure_shown"]), JSON, max_size=3)
TASK = st.fixed_dictionaries({}, optional={"id": JSON, "data": DATA | JSON, "meta": JSON})
PREDICT = st.fixed_dictionaries(
    {}, optional={"tasks": st.lists(TASK | JSON, max_size=3) | JSON, "label_config": JSON, "params": JSON}
)


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=PREDICT | JSON, path=st.sampled_from(["/predict", "/setup"]))
def test_no_payload_makes_a_fault(desk: Desk, body: Any, path: str) -> None:
    answer = desk.client.post(
        AT + path,
        content=json.dumps(body).encode(),
        auth=("s", desk.token),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code < 500
    assert msgspec.json.decode(answer.content)
    assert label_studio.item_of({}) is None
