"""A remote model is asked by the protocol; what the other server does wrong costs the items it concerns."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tenure.errors import ModelError
from tenure.model.formats.remote import RemoteModel
from tenure.model.stage import adapt, run_stage
from tenure.types import Failed, Prediction

MATRIX = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
NAMED = [
    {"name": "a", "datatype": "FP64", "shape": [-1, 1]},
    {"name": "word", "datatype": "BYTES", "shape": [-1]},
]


class Other:
    """Another server: answers with the chance a/10 of the second class, unless told what to do instead."""

    def __init__(self) -> None:
        self.inputs = MATRIX
        self.calls: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.drop = 0
        self.closes = False
        self.hold: threading.Event | None = None
        self.status = 200
        self.refuse: float | None = None
        self.shape = "wide"
        other = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                found = self.path == "/v2/models/churn"
                self.say(200 if found else 404, {"inputs": other.inputs} if found else {"error": "no such model"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                other.headers.append(dict(self.headers))
                if other.drop:
                    other.drop -= 1
                    self.close_connection = True
                    return
                if other.hold is not None:
                    other.hold.wait(60)
                other.calls.append(body)
                self.say(*other.answer(body))

            def say(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if other.closes:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v2/models/churn"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.status != 200:
            return self.status, {"error": "on fire"}
        first = body["inputs"][0]
        rows = first["shape"][0]
        step = len(first["data"]) // rows
        values = [first["data"][i * step] or 0.0 for i in range(rows)]
        if self.refuse in values:
            return 400, {"error": f"{self.refuse} is not allowed"}
        if self.shape == "wide":
            data = [c for v in values for c in (1 - v / 10, v / 10)]
            return 200, {"outputs": [{"name": "p", "datatype": "FP32", "shape": [rows, 2], "data": data}]}
        if self.shape == "words":
            return 200, {"outputs": [{"name": "w", "datatype": "BYTES", "shape": [rows], "data": ["yes"] * rows}]}
        return 200, {"outputs": [{"name": "n", "datatype": "FP64", "shape": [rows, 1], "data": values}]}


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    yield made
    if made.hold is not None:
        made.hold.set()
    made.server.shutdown()
    made.server.server_close()


def stage_of(url: str, **options: Any) -> tuple[RemoteModel, Any]:
    thing = RemoteModel(file=url, **{"labels": ("no", "yes"), "features": ("a", "b"), "timeout": 60.0, **options})
    stage = adapt(thing)
    stage.load(Path())
    return thing, stage


def rows(*values: float) -> list[dict[str, Any]]:
    return [{"a": v, "b": 0.0, "word": "w"} for v in values]


def test_records_go_out_as_one_matrix_and_chances_come_back(other: Other) -> None:
    thing, stage = stage_of(other.url)
    answers = run_stage(stage, rows(1.0, 8.0))
    assert [(a.value, round(a.confidence or 0, 4)) for a in answers if isinstance(a, Prediction)] == [
        ("no", 0.9),
        ("yes", 0.8),
    ]
    assert thing.confidence == "probability"
    assert other.calls == [{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 0, 8, 0]}]}]


def test_fields_go_out_by_name_where_the_model_has_several_inputs(other: Other) -> None:
    other.inputs = NAMED
    _, stage = stage_of(other.url, features=())
    run_stage(stage, rows(2.0))
    assert other.calls[0]["inputs"] == [
        {"name": "a", "shape": [1, 1], "datatype": "FP64", "data": [2.0]},
        {"name": "word", "shape": [1], "datatype": "BYTES", "data": ["w"]},
    ]


def test_a_missing_number_is_null(other: Other) -> None:
    _, stage = stage_of(other.url)
    run_stage(stage, [{"a": None, "b": 1.0}])
    assert other.calls[0]["inputs"][0]["data"] == [None, 1.0]


def test_numbers_and_words_have_no_confidence(other: Other) -> None:
    other.shape = "number"
    thing, stage = stage_of(other.url, labels=())
    assert run_stage(stage, rows(3.0)) == [Prediction(3.0)]
    other.shape = "words"
    assert run_stage(stage, rows(3.0)) == [Prediction("yes")]
    assert thing.confidence == "none"


def test_the_one_item_that_the_server_refuses_fails_alone(other: Other) -> None:
    other.refuse = 5.0
    _, stage = stage_of(other.url)
    answers = run_stage(stage, rows(1.0, 2.0, 5.0, 8.0))
    assert [type(a) for a in answers] == [Prediction, Prediction, Failed, Prediction]
    assert "answers 400: 5.0 is not allowed" in answers[2].reason  # type: ignore[union-attr]


def test_a_closed_connection_is_tried_again(other: Other) -> None:
    _, stage = stage_of(other.url, retries=2)
    other.drop = 2
    assert isinstance(run_stage(stage, rows(1.0))[0], Prediction)
    assert len(other.headers) == 3
    other.drop = 3
    answers = run_stage(stage, rows(1.0, 2.0))
    assert [a.reason for a in answers if isinstance(a, Failed)] == [
        f"127.0.0.1:{other.server.server_port} did not answer: no connection in 3 tries"
    ] * 2
    assert len(other.headers) == 6


def test_a_server_may_close_after_each_answer(other: Other) -> None:
    other.closes = True
    _, stage = stage_of(other.url, retries=0)
    assert all(isinstance(run_stage(stage, rows(1.0))[0], Prediction) for _ in range(3))


def test_a_slow_answer_fails_its_items_once(other: Other) -> None:
    thing, stage = stage_of(other.url)
    other.hold, thing.timeout = threading.Event(), 0.1
    thing._close()  # the connection has the patience that it was made with
    answers = run_stage(stage, rows(1.0, 2.0))
    assert all(isinstance(a, Failed) and "no answer within 0.1 s" in a.reason for a in answers)
    other.hold.set()
    thing.timeout = 60.0
    assert isinstance(run_stage(stage, rows(1.0))[0], Prediction)
    while len(other.headers) < 2:  # its threads may come to the first request after we gave it up
        time.sleep(0.005)
    assert len(other.headers) == 2


def test_a_fault_of_the_server_fails_all_items_and_is_not_repeated(other: Other) -> None:
    _, stage = stage_of(other.url)
    other.status = 503
    answers = run_stage(stage, rows(1.0, 2.0))
    assert all(isinstance(a, Failed) and "answers 503: on fire" in a.reason for a in answers)
    assert len(other.headers) == 1


def test_a_token_comes_from_the_environment(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_TOKEN", "secret")
    _, stage = stage_of(other.url, token_env="OTHER_TOKEN")
    run_stage(stage, rows(1.0))
    assert other.headers[0]["Authorization"] == "Bearer secret"


def test_what_cannot_be_loaded_says_why(other: Other) -> None:
    for url, words in (
        (other.url.replace("churn", "other"), "answers 404: no such model"),
        ("http://127.0.0.1:1/v2/models/churn", "cannot reach .*no connection in 3 tries"),
        ("http://127.0.0.1/models/churn", "expected http://host/v2/models/NAME"),
    ):
        with pytest.raises(ModelError, match=words):
            stage_of(url)
    other.inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 224, 224]}]
    with pytest.raises(ModelError, match=r"expected numbers or texts of shape \[-1\] or \[-1, k\]"):
        stage_of(other.url)
