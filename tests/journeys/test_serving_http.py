"""The data plane over real HTTP: every way in, every refusal, every wait, and an end that cuts nobody."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import serving_models as models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifecycle_plant import wait
from PIL import Image as Pillow
from prometheus_client.parser import text_string_to_metric_families
from serving_server import NOTES, PHOTOS, SIZES, Client, Reply, World, sizes_world

from tenure import system
from tenure.data.records import encode_id

ENDPOINTS = {"sizes": SIZES, "photos": PHOTOS, "notes": NOTES}


def photo(value: int = 200, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(np.full((32, 32), value, np.uint8)).save(out, form)
    return out.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("http"), ENDPOINTS)
    made.register("sizes", models.Size())
    made.register("notes", models.length)
    made.register("photos", models.bright, sample=_sample(made))
    with made.running():
        yield made


def _sample(world: World) -> Path:
    path = world.folder / "sample.png"
    path.write_bytes(photo())
    return path


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def multipart(name: str, data: bytes, media_type: str) -> tuple[bytes, dict[str, str]]:
    head = f'--X\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\nContent-Type: {media_type}'
    return head.encode() + b"\r\n\r\n" + data + b"\r\n--X--\r\n", {
        "Content-Type": "multipart/form-data; boundary=X"
    }


def is_error(reply: Reply) -> bool:
    """Every refusal has one form."""
    return reply.headers["content-type"] == "application/json" and set(reply.json()) == {"error", "code", "at"}


# Ways in


def test_a_record_is_decided_by_the_model_and_found_again(world: World, client: Client) -> None:
    reply = client.call("POST", "/v1/sizes/predict", {"a": 3})
    answer = reply.json()
    assert (reply.status, answer["status"]) == (200, "decided")
    assert answer["decision"]["value"] == "big"
    assert answer["decision"]["by"] == "model"
    for _ in range(4):  # whichever worker is asked, by a connection of its own
        again = world.client().call("GET", f"/v1/decisions/{answer['id']}")
        assert (again.status, again.json()) == (200, answer)


def test_text_is_taken_as_it_is(client: Client) -> None:
    reply = client.call("POST", "/v1/notes/predict", "größer".encode(), {"Content-Type": "text/plain"})
    assert reply.json()["decision"]["value"] == "big"


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_raw_photo_and_one_in_a_form_are_pending_with_a_location(client: Client, form: str) -> None:
    kind, data = f"image/{form.lower()}", photo(form=form)
    for body, headers in ((data, {"Content-Type": kind}), multipart("file", data, kind)):
        reply = client.call("POST", "/v1/photos/predict", body, headers)
        answer = reply.json()
        assert (reply.status, answer["status"]) == (202, "pending")
        assert reply.headers["location"] == f"/v1/decisions/{answer['id']}"
        assert "prediction" not in answer
        state = client.call("GET", reply.headers["location"])
        assert (state.status, state.json()["status"]) == (200, "pending")


def test_the_photo_that_a_reviewer_sees_is_the_one_that_came(world: World, client: Client) -> None:
    data = photo(77)
    answer = client.call("POST", "/v1/photos/predict", data, {"Content-Type": "image/png"}).json()
    item = _wait_for_item(world, answer["id"])
    media = world.client("reviewer").call("GET", f"/api/reviews/{item['item']}/media")
    assert (media.status, media.headers["content-type"], media.body) == (200, "image/png", data)


# Decisions of people


def _wait_for_item(world: World, item: str) -> dict[str, str]:
    """Lease until the item is ours; others are given back by the end of the test run."""
    reviewer = world.client("reviewer")
    while True:
        leased = reviewer.call("POST", "/api/reviews/lease?n=50&endpoint=photos").json()["items"]
        for entry in leased:
            if entry["item"] == item:
                return dict(entry)
        time.sleep(0.02)


def _judge(world: World, entry: dict[str, str], value: str) -> Reply:
    return world.client("reviewer").call(
        "POST", f"/api/reviews/{entry['item']}/judgements", {"token": entry["token"], "value": value},
        {"Idempotency-Key": f"judge-{entry['item']}"},
    )  # fmt: skip


def test_a_long_poll_ends_with_the_reviewers_decision(world: World, client: Client) -> None:
    answer = client.call("POST", "/v1/photos/predict", photo(), {"Content-Type": "image/png"}).json()
    with ThreadPoolExecutor(4) as pool:
        polls = [
            pool.submit(world.client().call, "GET", f"/v1/decisions/{answer['id']}?wait=30") for _ in range(4)
        ]
        assert _judge(world, _wait_for_item(world, answer["id"]), "small").status in (200, 201)
        for poll in polls:
            got = poll.result().json()
            assert (got["status"], got["decision"]["value"], got["decision"]["by"]) == (
                "decided",
                "small",
                "person",
            )


def test_predict_with_wait_holds_the_request_until_a_person_decided(world: World) -> None:
    before = {(r["run"], r["seq"]) for r in world.rows(where="endpoint = 'photos'")}
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(
            world.client().call, "POST", "/v1/photos/predict?wait=30", photo(50), {"Content-Type": "image/png"}
        )
        row = None
        while row is None:
            new = [r for r in world.rows(where="endpoint = 'photos'") if (r["run"], r["seq"]) not in before]
            row = new[0] if new else None
        item = encode_id(row["run"], row["seq"], system.secret(world.folder))
        _judge(world, _wait_for_item(world, item), "big")
        reply = held.result()
    assert (reply.status, reply.json()["id"]) == (200, item)
    assert reply.json()["decision"] == {
        "value": "big",
        "by": "person",
        "policy": reply.json()["decision"]["policy"],
    }


def test_the_fallback_answers_a_held_request_at_its_deadline(world: World) -> None:
    reply = world.client().call(
        "POST", "/v1/notes/predict?wait=30", b"please fall over", {"Content-Type": "text/plain"}
    )
    answer = reply.json()
    assert (reply.status, answer["decision"]["value"], answer["decision"]["by"]) == (200, "small", "fallback")
    key = world.key(answer["id"])
    logged = [d for d in world.rows("decisions") if (d["run"], d["seq"]) == key]
    assert [d["by"] for d in logged] == ["fallback"]


# Retries and feedback


def test_a_retry_on_any_worker_gets_the_same_answer(world: World) -> None:
    key = {"Idempotency-Key": "retry-1"}
    replies = [world.client().call("POST", "/v1/sizes/predict", {"a": 5}, key) for _ in range(12)]
    assert {r.status for r in replies} == {200}
    assert len({r.body for r in replies}) == 1
    run, seq = world.key(replies[0].json()["id"])
    assert len(world.rows(where=f"run = {run} and seq = {seq}")) == 1
    other = world.client().call("POST", "/v1/sizes/predict", {"a": 6}, key)
    assert (other.status, other.json()["code"]) == (409, "idempotency_mismatch")


def test_parallel_retries_are_one_request(world: World) -> None:
    def call(n: int) -> Reply:
        key = {"Idempotency-Key": f"burst-{n % 5}"}
        while True:
            reply = world.client().call("POST", "/v1/sizes/predict", {"a": 5}, key)
            if reply.status != 409:  # in progress: what a client does whose first request takes a second
                return reply
            assert reply.json()["code"] == "in_progress"

    with ThreadPoolExecutor(8) as pool:
        ids = [r.json()["id"] for r in pool.map(call, range(60))]
    assert len(set(ids)) == 5


def test_feedback_joins_by_id(world: World, client: Client) -> None:
    answer = client.call("POST", "/v1/sizes/predict", {"a": 3}).json()
    bodies = [{"id": answer["id"], "truth": "small"}, {"id": answer["id"], "kind": "click", "value": True}]
    assert [world.client().call("POST", "/v1/feedback", b).status for b in bodies] == [202, 202]
    key = world.key(answer["id"])
    got = {o["kind"]: o["value"] for o in world.rows("outcomes") if (o["run"], o["seq"]) == key}
    assert got == {"truth": '"small"', "click": "true"}


# Refusals


def test_every_refusal_has_one_form_and_its_own_status(world: World, client: Client) -> None:
    png = {"Content-Type": "image/png"}
    calls: list[tuple[int, str, str, object, dict[str, str]]] = [
        (422, "POST", "/v1/sizes/predict", b'{"a":', {"Content-Type": "application/json"}),
        (422, "POST", "/v1/sizes/predict", {"a": "x"}, {}),
        (422, "POST", "/v1/sizes/predict", {"b": 1}, {}),
        (422, "POST", "/v1/sizes/predict", {"a": 10**400}, {}),
        (415, "POST", "/v1/sizes/predict", b"x", png),
        (415, "POST", "/v1/photos/predict", b"hello", {"Content-Type": "text/plain"}),
        (422, "POST", "/v1/photos/predict", photo()[:60], png),
        (413, "POST", "/v1/photos/predict", b"x" * 300_000, png),
        (400, "POST", "/v1/photos/predict", b"no form", {"Content-Type": "multipart/form-data; boundary=X"}),
        (422, "POST", "/v1/photos/predict", *multipart("other", photo(), "image/png")),
        (400, "POST", "/v1/sizes/predict?wait=soon", {"a": 1}, {}),
        (400, "POST", "/v1/sizes/predict?wait=1e300", {"a": 1}, {}),
        (400, "POST", "/v1/sizes/predict", {"a": 1}, {"Tenure-Deadline-Ms": "-1"}),
        (400, "POST", "/v1/sizes/predict", {"a": 1}, {"Idempotency-Key": ""}),
        (404, "POST", "/v1/nothing/predict", {"a": 1}, {}),
        (404, "GET", "/v1/decisions/abc", None, {}),
        (404, "GET", "/somewhere", None, {}),
        (405, "GET", "/v1/sizes/predict", None, {}),
        (405, "POST", "/v1/decisions/abc", {}, {}),
        (400, "POST", "/v1/feedback", b"{", {}),
        (422, "POST", "/v1/feedback", {"id": "x"}, {}),
        (422, "POST", "/v1/feedback", {"truth": 1}, {}),
        (404, "POST", "/v1/feedback", {"id": "x", "truth": 1}, {}),
        (413, "POST", "/v1/feedback", b"x" * 70_000, {}),
    ]  # fmt: skip
    for status, method, path, body, headers in calls:
        reply = world.client().call(method, path, body, headers)
        assert (reply.status, is_error(reply)) == (status, True), (method, path, body, reply)
    assert client.call("POST", "/v1/sizes/predict", {"a": 1}).status == 200


def test_tokens_are_asked_at_every_door(world: World) -> None:
    anyone = world.client("")
    for method, path, body in (
        ("POST", "/v1/sizes/predict", {"a": 1}), ("POST", "/v1/nothing/predict", {}),
        ("GET", "/v1/decisions/abc", None), ("POST", "/v1/feedback", {"id": "x", "truth": 1}),
    ):  # fmt: skip
        reply = anyone.call(method, path, body)
        assert (reply.status, is_error(reply)) == (401, True), path
        assert reply.headers["www-authenticate"] == "Bearer"
        wrong = anyone.call(method, path, body, {"Authorization": "Bearer nonsense"})
        assert wrong.status == 401, path
        reviewer = anyone.call(method, path, body, {"Authorization": f"Bearer {world.tokens['reviewer']}"})
        assert (reviewer.status, reviewer.json()["code"]) == (403, "forbidden"), path
    assert anyone.call("GET", "/health/live").status == 200
    assert anyone.call("GET", "/health/ready").json() == {"ready": True, "workers": ["ready", "ready"]}


# Anything at all


MEDIA = st.sampled_from(
    ["application/json", "text/plain", "text/plain; charset=utf-16", "image/png", "image/*", "audio/wav", "",
     "multipart/form-data", "multipart/form-data; boundary=X", "application/json; charset=\xff", "/", ";;;"]
)  # fmt: skip
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSONS.map(lambda value: json.dumps(value).encode()),
    JSONS.map(lambda value: json.dumps({"a": value}).encode()),
    st.binary(max_size=60).map(lambda tail: photo()[:40] + tail),
    st.binary(max_size=60).map(lambda data: multipart("file", data, "image/png")[0]),
)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(["Tenure-Unit", "Idempotency-Key", "Tenure-Deadline-Ms", "Accept", "X-Any"]),
    HEADER,
    max_size=3,
)


def test_no_body_and_no_header_makes_a_fault_and_each_is_logged(world: World, client: Client) -> None:
    before, sent, more = len(world.rows()), 0, 0

    @settings(max_examples=300, deadline=None)
    @given(
        endpoint=st.sampled_from(["sizes", "photos", "notes"]), body=BODIES, media=MEDIA, headers=HEADERS,
        wait=st.sampled_from(["", "?wait=0", "?wait=nan", "?wait=-1", "?wait=9e99", "?other=1"]),
    )  # fmt: skip
    def send(endpoint: str, body: bytes, media: str, headers: dict[str, str], wait: str) -> None:
        nonlocal sent, more
        sent += 1
        told = {"Content-Type": media} | {name: value.strip() for name, value in headers.items()}
        if "Idempotency-Key" in told:  # each is to be a request of its own
            told["Idempotency-Key"] += str(sent)
        reply = client.call("POST", f"/v1/{endpoint}/predict{wait}", body, told)
        assert reply.status in (200, 202, 400, 406, 413, 415, 422), reply
        if reply.status == 200 and isinstance(reply.json(), list):  # each row is a request
            more += len(reply.json()) - 1
        assert reply.status in (200, 202) or is_error(reply), reply

    send()
    assert sent >= 300
    assert len(world.rows()) - before == sent + more, "every request is a row in the log"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=BODIES, value=JSONS)
def test_no_feedback_makes_a_fault(world: World, client: Client, body: bytes, value: object) -> None:
    answer = client.call("POST", "/v1/sizes/predict", {"a": 1}).json()
    for sent in (body, json.dumps({"id": answer["id"], "truth": value}).encode()):
        reply = client.call("POST", "/v1/feedback", sent)
        assert reply.status == 202 or (reply.status in (400, 404, 422) and is_error(reply)), reply


# What operators read


def test_metrics_parse_and_agree_with_what_was_asked(world: World, client: Client) -> None:
    def total(name: str) -> float:
        text = client.call("GET", "/metrics").body.decode()
        families = {f.name: f for f in text_string_to_metric_families(text)}
        return sum(s.value for s in families[name].samples if s.name in (f"{name}_total", f"{name}_count", name))

    def settled() -> float:
        """Return the count once both workers have added theirs to the page, as they do with each beat."""
        slots = world.up.page.slots()
        for _ in range(2):
            had = [slot.get("heartbeat_ns") for slot in slots]
            wait(
                lambda had=had: all(s.get("heartbeat_ns") > h for s, h in zip(slots, had, strict=True)), "a beat"
            )
        return total("tenure_requests")

    before, refused = settled(), total("tenure_refused")
    latencies = total("tenure_latency_seconds")
    for n in range(10):
        world.client().call("POST", "/v1/sizes/predict", {"a": 1} if n % 2 else {"b": 1})
    assert settled() - before == 10
    assert total("tenure_refused") - refused == 5
    assert total("tenure_latency_seconds") - latencies >= 5
    assert total("tenure_worker_ready") == 2
    assert total("tenure_faults") == 0, "no test of this module made a fault"


# The end


class Load:
    """Keep-alive clients that remember what they were told, and how each connection ended."""

    def __init__(self, world: World, threads: int) -> None:
        self.world = world
        self.answered: list[str] = []
        self.cut: list[str] = []
        self.refused = 0
        self.stop = threading.Event()
        self.warm = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        for _ in range(20 * len(self._threads)):
            assert self.warm.acquire(timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        client = Client(self.world.up.url, self.world.tokens["client"])
        while not self.stop.is_set():
            client.refresh()
            fresh = client.connection.sock is None
            try:
                reply = client.call("POST", "/v1/sizes/predict", {"a": 3})
            except (ConnectionError, http.client.HTTPException, OSError) as error:
                if fresh and isinstance(error, ConnectionError):
                    self.refused += 1  # never accepted: the log must not know of it
                else:
                    self.cut.append(repr(error))
                break
            assert reply.status == 200, reply
            self.answered.append(reply.json()["id"])
            self.warm.release()
        client.close()


def test_the_end_of_a_busy_server_cuts_no_request(tmp_path: Path) -> None:
    world = sizes_world(tmp_path)
    with world.running(), Load(world, threads=4) as load:
        world.up.supervisor.stop()
        for thread in load._threads:
            thread.join(60)
    assert load.cut == []
    assert load.refused == 4, "every client ended by being refused a new connection"
    logged = [(r["run"], r["seq"]) for r in world.rows()]
    assert sorted(world.key(i) for i in load.answered) == sorted(logged)


def test_a_worker_that_is_restarted_loses_nothing(tmp_path: Path) -> None:
    world = sizes_world(tmp_path)
    with world.running():
        pids, old = world.up.supervisor.pids(), {slot.run for slot in world.up.page.slots()}
        with Load(world, threads=4) as load:
            for name in ("worker 0", "worker 1"):
                os.kill(pids[name], signal.SIGTERM)
                while world.up.supervisor.pids().get(name, pids[name]) == pids[name]:
                    time.sleep(0.02)
                world.up.supervisor.wait_ready(60)
            had = len(load.answered)
            wait(lambda: len(load.answered) >= had + 20, "answers of the new ones")
        assert world.client().call("GET", "/health/ready").status == 200
    assert (load.cut, load.refused) == ([], 0)
    logged = [(r["run"], r["seq"]) for r in world.rows()]
    assert sorted(world.key(i) for i in load.answered) == sorted(logged)
    answered = {run for run, _ in logged}
    assert answered & old, "old processes answered"
    assert answered - old, "and new ones"
