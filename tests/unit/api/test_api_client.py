"""`tenure.ask`: what is sent for each kind of case, and what an error becomes."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import tenure
from tenure.api.client import encode
from tenure.errors import AccessError, BusyError, CaseError, ConflictError, MissingError, StoreError, TenureError

PNG = b"\x89PNG\r\n\x1a\n rest"


class Server(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.status = 202
        self.body: Any = {"id": "k3", "status": "pending"}
        self.seen: dict[str, str] = {}
        self.path = ""
        self.raw: bytes | None = None


class Door(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.path, self.server.seen = self.path, {k.lower(): v for k, v in self.headers.items()}
        data = self.server.raw if self.server.raw is not None else json.dumps(self.server.body).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(data)))
        self.send_header("retry-after", "7")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_cases_are_sent_as_what_they_are(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"\xff\xd8\xff")
    assert encode({"a": 1}) == (b'{"a": 1}', "application/json")
    assert encode("héllo") == ("héllo".encode(), "text/plain; charset=utf-8")
    assert encode(PNG) == (PNG, "image/png")
    assert encode(photo) == (b"\xff\xd8\xff", "image/jpeg")
    with photo.open("rb") as file:
        assert encode(file) == (b"\xff\xd8\xff", "image/jpeg")
    with photo.open() as file:  # opened as text, by mistake
        assert encode(file) == (b"\xff\xd8\xff", "image/jpeg")
    assert encode(io.BytesIO(PNG)) == (PNG, "image/png")


def test_other_things_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="got int"):
        encode(3)  # type: ignore[arg-type]
    with pytest.raises(CaseError, match="cannot read"):
        encode(tmp_path / "absent.png")


def test_headers_and_query_carry_the_options(server: Server) -> None:
    answer = tenure.ask(url(server), "phones", PNG, token="tc_1", unit="line 3", wait=2, key="k")
    assert (answer.id, answer.status, answer.decision) == ("k3", "pending", None)
    assert server.path == "/v1/phones/predict?wait=2"
    seen = server.seen
    assert (seen["authorization"], seen["tenure-unit"], seen["idempotency-key"]) == ("Bearer tc_1", "line 3", "k")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, CaseError), (401, AccessError), (403, AccessError), (404, MissingError), (409, ConflictError),
        (413, CaseError), (415, CaseError), (422, CaseError), (500, TenureError), (503, BusyError),
    ],
)  # fmt: skip
def test_an_error_becomes_the_class_that_callers_act_on(
    server: Server, status: int, kind: type[TenureError]
) -> None:
    server.status, server.body = status, {"error": "no", "code": "some_word", "at": "there"}
    with pytest.raises(kind) as caught:
        tenure.ask(url(server), "phones", "x")
    assert (caught.value.message, caught.value.code, caught.value.at) == ("no", "some_word", "there")
    assert caught.value.status == status
    if isinstance(caught.value, BusyError):
        assert caught.value.retry_after == 7


def test_a_foreign_server_is_named_as_such(server: Server) -> None:
    server.status, server.raw = 502, b"<html>bad gateway"
    with pytest.raises(StoreError, match="not in tenure's words: <html>"):
        tenure.ask(url(server), "phones", "x")


def test_a_foreign_answer_with_success_is_named_as_such(server: Server) -> None:
    server.status, server.raw = 200, b"<html>welcome"
    with pytest.raises(StoreError, match="not in tenure's words"):
        tenure.ask(url(server), "phones", "x")


def test_no_server_and_no_address_are_told_apart() -> None:
    with socket.socket() as silent:  # it does not listen, and nobody else gets its port meanwhile
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(BusyError, match="is `tenure serve` running there") as caught:
            tenure.ask(f"http://127.0.0.1:{silent.getsockname()[1]}", "phones", "x", timeout=60)
    assert caught.value.code == "unreachable"
    with pytest.raises(CaseError, match="expected an address"):
        tenure.ask("ftp://127.0.0.1", "phones", "x")
