"""Many rows in one request: in order, each for itself, in the form in which they came."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from serving_world import LABELS, World, ask

from tenure.deploy.serving.http import many, many_in
from tenure.deploy.serving.http.app import data_app
from tenure.deploy.serving.predict.core import Core, guard
from tenure.errors import BusyError
from tenure.model.pipeline import Pipeline
from tenure.model.stage import adapt
from tenure.scope.project import EndpointSpec, Field, Output, Serve
from tenure.types import Level, Prediction

Client = httpx.AsyncClient
LINES = {"Content-Type": "application/x-ndjson"}
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
TEXT = EndpointSpec(input="text", output=LABELS)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    """Run a coroutine function with a client of one core and the core itself."""
    worlds: list[World] = []

    def go(
        work: Callable[[Client, Core], Awaitable[Any]], *, level: Level = Level.FULL, **options: Any
    ) -> tuple[Any, World]:
        folder = tmp_path / str(len(worlds))
        folder.mkdir()
        world = World(folder, **options)
        worlds.append(world)
        core = world.core()
        world.at(level)

        async def inside() -> Any:
            await world.ready(core)
            app = data_app(core, page=world.page, slot=world.page.slot(0), clock=world.clock)
            async with Client(transport=httpx.ASGITransport(app), base_url="http://t") as client:
                return await work(client, core)

        return asyncio.run(inside()), world

    yield go
    for world in worlds:
        world.close()


def post(run: Any, content: bytes, headers: dict[str, str], **options: Any) -> tuple[httpx.Response, World]:
    path = options.pop("path", "/v1/e/predict")

    async def send(client: Client, core: Core) -> httpx.Response:
        return await client.post(path, content=content, headers=headers)

    return run(send, **options)


def listed(rows: Any) -> bytes:
    return json.dumps(rows).encode()


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def length(texts: list[str]) -> list[Prediction]:
    return [Prediction("big" if len(text) > 5 else "small", 0.9) for text in texts]


def reading(version: str) -> Pipeline:
    return Pipeline([("length", adapt(length))], output=LABELS)


JSON = {"Content-Type": "application/json"}
MIXED = [{"a": 3}, {"a": "x"}, {"a": 0.5}, {}, 7, {"a": 1, "b": 2}, {"a": 9}]


def check_mixed(answers: list[Any]) -> None:
    assert [a["decision"]["value"] if "decision" in a else a["code"] for a in answers] == [
        "big", "wrong_type", "small", "missing_field", "invalid_case", "unknown_field", "big",
    ]  # fmt: skip
    assert [a["index"] for a in answers if "index" in a] == [1, 3, 4, 5]
    assert answers[1]["at"] == "a"


# The three forms


def test_a_list_is_answered_in_order_and_each_row_fails_alone(run: Any) -> None:
    reply, world = post(run, listed(MIXED), JSON)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    check_mixed(reply.json())
    rows = world.rows()
    assert [row["route"] for row in rows].count("refused") == 4
    assert len(rows) == 7
    ids = [answer["id"] for answer in reply.json() if "id" in answer]
    assert len(set(ids)) == 3
    assert [world.page.slot(0).get(name) for name in ("requests", "auto", "refused")] == [7, 3, 4]


@pytest.mark.parametrize("media_type", many_in.LINES)
def test_lines_are_answered_by_lines(run: Any, media_type: str) -> None:
    body = lines(MIXED).replace(b"\n", b"\r\n\r\n", 2)  # blank lines are no rows
    reply, _ = post(run, body, {"Content-Type": f"{media_type}; charset=utf-8"})
    assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (200, media_type)
    check_mixed([json.loads(line) for line in reply.text.splitlines()])


def test_a_line_that_is_no_json_fails_alone(run: Any) -> None:
    reply, _ = post(run, b'{"a": 3}\n{"a": \n\xff\xfe\n{"a": NaN}\n{"a": 4}', LINES)
    answers = [json.loads(line) for line in reply.text.splitlines()]
    assert [a.get("code", "-") for a in answers] == ["-", "invalid_json", "invalid_json", "invalid_json", "-"]


def test_arrow_is_answered_by_arrow(run: Any) -> None:
    table = pa.table({"a": pa.array([3, None, 0.5, 9.0])})
    reply, world = post(run, stream(table), ARROW)
    assert (reply.status_code, reply.headers["content-type"]) == (200, ARROW["Content-Type"])
    out = pa.ipc.open_stream(reply.content).read_all()
    assert out.column_names == ["id", "status", "value", "confidence", "decided_by", "error"]
    assert out["value"].to_pylist() == ["big", None, "small", "big"]
    assert out["status"].to_pylist() == ["decided", "failed", "decided", "decided"]
    assert out["error"].to_pylist()[1] == "null_field: field 'a' must not be null"
    assert out["decided_by"].to_pylist() == ["model", None, "model", "model"]
    assert [world.log.query("select 1").num_rows, len(set(out["id"].to_pylist()))] == [1, 4]


def test_numbers_are_numbers_in_arrow(run: Any) -> None:
    def double(rows: list[dict[str, Any]]) -> list[Prediction]:
        return [Prediction(2 * row["a"]) for row in rows]

    spec = EndpointSpec(input="record", fields={"a": Field(type="float")}, output=Output(kind="number"))
    pipeline = Pipeline([("double", adapt(double))], output=spec.output)
    reply, _ = post(run, stream(pa.table({"a": [1.0, 2.5]})), ARROW, spec=spec, load=lambda _: pipeline)
    out = pa.ipc.open_stream(reply.content).read_all()
    assert (out["value"].type, out["value"].to_pylist()) == (pa.float64(), [2.0, 5.0])


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (listed(["short", "long enough", 3]), JSON),
        (lines(["short", "long enough", 3]), LINES),
        (stream(pa.table({"note": ["short", "long enough", None]})), ARROW),
    ],
)
def test_texts_come_in_every_form_too(run: Any, body: bytes, headers: dict[str, str]) -> None:
    reply, world = post(run, body, headers, spec=TEXT, load=reading)
    assert reply.status_code == 200
    values = [row["value"] for row in world.rows()]
    assert values == ['"small"', '"big"', None]


def test_pending_rows_say_so_and_are_found_again(run: Any) -> None:
    async def send(client: Client, core: Core) -> list[Any]:
        answers = (await client.post("/v1/e/predict", content=listed([{"a": 1}, {"a": 2}]), headers=JSON)).json()
        states = [(await client.get(f"/v1/decisions/{a['id']}")).json() for a in answers]
        return [answers, states]

    (answers, states), _ = run(send, level=Level.HUMAN_ONLY)
    assert [a["status"] for a in answers] == ["pending", "pending"]
    assert [s["id"] for s in states] == [a["id"] for a in answers]


@pytest.mark.parametrize(("body", "headers", "empty"), [(b"[]", JSON, b"[]"), (b" \n \n", LINES, b"")])
def test_no_rows_are_no_answers(run: Any, body: bytes, headers: dict[str, str], empty: bytes) -> None:
    reply, world = post(run, body, headers)
    assert (reply.status_code, reply.content, world.rows()) == (200, empty, [])


def test_one_record_is_still_one_record(run: Any) -> None:
    reply, _ = post(run, b' {"a": 3}', JSON)
    assert reply.json()["decision"]["value"] == "big"


# Refused as a whole


@pytest.mark.parametrize(
    ("status", "code", "body", "headers", "options"),
    [
        (422, "invalid_json", b"[1, 2", JSON, {}),
        (422, "invalid_json", b"[" * 100_000, JSON, {}),
        (413, "too_many_rows", b"[" + b"1," * many_in.MAX_ROWS + b"1]", JSON, {}),
        (413, "too_many_rows", b"1\n" * (many_in.MAX_ROWS + 1), LINES, {}),
        (413, "too_many_rows", b"\n" * (3 * many_in.MAX_ROWS), LINES, {}),
        (413, "too_many_rows", stream(pa.table({"a": [1.0] * (many_in.MAX_ROWS + 1)})), ARROW, {}),
        (413, "too_large", b"[" + b" " * 3_000 + b"]", JSON, {"spec": EndpointSpec(
            input="record", output=LABELS, serve=Serve(max_body=2_000))}),
        (422, "unreadable_arrow", b"no arrow", ARROW, {}),
        (422, "unreadable_arrow", stream(pa.table({"a": [[1.0]]})), ARROW, {}),
        (422, "unreadable_arrow", stream(pa.table({"a": ["x"], "b": ["y"]})), ARROW, {"spec": TEXT}),
        (415, "unsupported_media_type", b"{}", LINES, {"spec": EndpointSpec(input="image", output=LABELS)}),
        (415, "unsupported_media_type", b"[]", JSON, {"spec": EndpointSpec(input="image", output=LABELS)}),
        (415, "unsupported_media_type", b'{"a": 1}', JSON, {"spec": TEXT}),
        (400, "not_for_many", b"[]", {**JSON, "Idempotency-Key": "k"}, {}),
        (400, "not_for_many", b"[]", JSON, {"path": "/v1/e/predict?wait=3"}),
        (400, "not_for_many", b"[]", {**JSON, "Tenure-Unit-Field": "a"}, {"spec": TEXT}),
        (406, "not_acceptable", b"{}", {**LINES, "Accept": "application/json"}, {}),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_one_refused_request(
    run: Any, status: int, code: str, body: bytes, headers: dict[str, str], options: dict[str, Any]
) -> None:
    reply, world = post(run, body, headers, **options)
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    assert [row["route"] for row in world.rows()] == ["refused"]


def test_a_stranger_s_rows_are_not_read(run: Any) -> None:
    async def send(client: Client, core: Core) -> httpx.Response:
        core._may = guard(lambda _: None, open_loopback=False)
        return await client.post("/v1/e/predict", content=listed(MIXED), headers=JSON)

    reply, world = run(send)
    assert (reply.status_code, world.rows()) == (401, [])


# Units and deadlines


def test_the_unit_comes_from_a_field_or_from_the_header(run: Any) -> None:
    fields = {"a": Field(type="float"), "line": Field(type="int", required=False)}
    spec = EndpointSpec(input="record", fields=fields, output=LABELS)
    rows = [{"a": 1, "line": 7, "who": "ann"}, {"a": 2, "who": "bob"}, {"a": 3, "who": 1.5}, {"a": 4}]

    def units(headers: dict[str, str], field: str) -> list[Any]:
        kept = [{k: v for k, v in row.items() if k in ("a", field)} for row in rows]
        reply, world = post(run, listed(kept), JSON | headers, spec=spec)
        assert reply.status_code == 200
        return [row["unit_key"] if "unit_key" in row else row["unit"] for row in world.rows()]

    taken_out = units({"Tenure-Unit-Field": "who"}, "who")
    assert len(set(taken_out[:2])) == 2
    declared = units({"Tenure-Unit-Field": "line"}, "line")
    assert declared[0] not in (None, *declared[1:])
    for_all = units({"Tenure-Unit": "all"}, "a")
    assert len(set(for_all)) == 1


def test_a_deadline_counts_from_the_start_for_every_row(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PART", 2)
    given: list[float] = []

    async def send(client: Client, core: Core) -> httpx.Response:
        inner = core.predict_many

        async def noted(*args: Any, **kwargs: Any) -> Any:
            given.append(kwargs["deadline_s"])
            core._clock.advance(0.03)
            return await inner(*args, **kwargs)

        monkeypatch.setattr(core, "predict_many", noted)
        return await client.post(
            "/v1/e/predict", content=listed([{"a": 1}] * 6), headers={**JSON, "Tenure-Deadline-Ms": "50"}
        )

    run(send)
    assert given == pytest.approx([0.05, 0.02, 1e-9], abs=1e-6)


# Later parts


def failing(core: Core, monkeypatch: pytest.MonkeyPatch, errors: list[Exception | None]) -> None:
    inner = core.predict_many

    async def answer(*args: Any, **kwargs: Any) -> Any:
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error
        return await inner(*args, **kwargs)

    monkeypatch.setattr(core, "predict_many", answer)


@pytest.mark.parametrize(
    ("errors", "status", "codes"),
    [
        ([BusyError("full", retry_after=1.0)], 503, None),  # nothing was answered yet
        ([None, BusyError("full", retry_after=0.0), None], 200, ["-", "-", "-", "-"]),
        ([None, *[BusyError("full", retry_after=0.0)] * 200], 200, ["-", "-", "overloaded", "overloaded"]),
        ([None, ZeroDivisionError()], 200, ["-", "-", "internal", "internal"]),
    ],
)
@pytest.mark.parametrize("form", [JSON, LINES])
def test_what_fails_later_fails_for_its_rows(
    run: Any, monkeypatch: pytest.MonkeyPatch, form: dict[str, str], errors: list[Any], status: int, codes: Any
) -> None:
    monkeypatch.setattr(many, "PART", 2)
    rows = [{"a": n} for n in range(4)]

    async def send(client: Client, core: Core) -> httpx.Response:
        failing(core, monkeypatch, list(errors))
        return await client.post(
            "/v1/e/predict", content=listed(rows) if form is JSON else lines(rows), headers=form
        )

    reply, _ = run(send)
    assert reply.status_code == status
    if codes:
        answers = reply.json() if form is JSON else [json.loads(line) for line in reply.text.splitlines()]
        assert [a.get("code", "-") for a in answers] == codes


def test_single_requests_are_answered_between_the_parts(run: Any) -> None:
    order: list[str] = []

    async def send(client: Client, core: Core) -> None:
        async def long() -> None:
            await client.post("/v1/e/predict", content=listed([{"a": 3}] * 2_000), headers=JSON)
            order.append("long")

        async def short() -> None:
            for _ in range(5):
                await core.predict(ask(2))
            order.append("short")

        await asyncio.gather(long(), short())

    run(send)
    assert order == ["short", "long"]


def test_lines_come_while_others_are_still_answered(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part is sent before the last one is asked."""
    monkeypatch.setattr(many, "PART", 2)
    sent: list[int] = []

    async def send(client: Client, core: Core) -> None:
        app = client._transport.app  # type: ignore[attr-defined]
        body = lines([{"a": n} for n in range(6)])
        inner = core.predict_many

        async def noted(*args: Any, **kwargs: Any) -> Any:
            sent.append(0)
            return await inner(*args, **kwargs)

        monkeypatch.setattr(core, "predict_many", noted)

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def take(message: Any) -> None:
            sent.append(len(message.get("body", b"").splitlines()))

        scope = {
            "type": "http", "method": "POST", "path": "/v1/e/predict", "raw_path": b"", "root_path": "",
            "query_string": b"", "headers": [(b"content-type", b"application/jsonl")], "scheme": "http",
            "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "http_version": "1.1",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        await app(scope, receive, take)

    run(send)
    assert sent == [0, 0, 2, 0, 2, 0, 2, 0]  # asked, start of the reply, two lines, asked, ...


def test_pyarrow_is_loaded_by_arrow_alone() -> None:
    doors = "tenure.deploy.serving.http.app, tenure.deploy.serving.processes.worker"
    code = f"import sys, {doors}; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
