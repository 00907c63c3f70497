"""Inputs that a labelling tool names by address: what is called, what never is, and what ends the call."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.errors import CaseError
from tenure.maintain.exchange import fetching
from tenure.scope.hosts import allowed

LOCAL = "127.0.0.1"


class Host:
    """A real web server on loopback that remembers who asked for what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.seen.append((self.path, self.headers["Host"]))
                host.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((LOCAL, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        path = to.path.partition("?")[0]
        if path == "/redirect":
            to.send_response(302)
            to.send_header("Location", f"http://{LOCAL}:{self.port}/file")
            to.end_headers()
            return
        to.send_response(404 if path == "/none" else 200)
        to.send_header("Content-Type", "image/png")
        if path == "/gzip":
            to.send_header("Content-Encoding", "gzip")
        if path == "/claims":
            to.send_header("Content-Length", "5000000")
        if path == "/short":
            to.send_header("Content-Length", "50")
        to.end_headers()
        to.wfile.write(b"x" * 5000 if path == "/big" else b"bytes")
        to.wfile.flush()
        if path == "/slow":
            self.over.wait(60)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.over.set()
    made.server.shutdown()
    made.server.server_close()


def fetch(
    host: Host, path: str, *, name: str = "files.example", hosts: list[str] | None = None, **more: Any
) -> Any:
    listed = [f"files.example:{host.port}", f"{LOCAL}:{host.port}"] if hosts is None else hosts
    options: dict[str, Any] = {"limit": 1000, "seconds": 60.0, "resolve": lambda name, port: [LOCAL], **more}
    return fetching.fetch(f"http://{name}:{host.port}{path}", allowed(listed), **options)


def test_a_listed_host_at_a_listed_address_gives_its_file(host: Host) -> None:
    asked: list[tuple[str, int]] = []

    def resolve(name: str, port: int) -> list[str]:
        asked.append((name, port))
        return [LOCAL]

    assert fetch(host, "/file?a=1", resolve=resolve) == (b"bytes", "image/png")
    assert asked == [("files.example", host.port)]  # once: the checked address is the one that was called
    assert host.seen[-1] == ("/file?a=1", f"files.example:{host.port}")


@pytest.mark.parametrize(
    ("hosts", "addresses", "why"),
    [
        ([], [LOCAL], "not among"),
        (["files.example"], [LOCAL], "not among"),  # the usual port alone
        (["files.example:PORT"], [LOCAL], "private"),
        (["files.example:PORT"], ["10.0.0.1"], "private"),
        (["files.example:PORT"], ["169.254.169.254"], "private"),
        (["files.example:PORT"], ["::1"], "private"),
        (["files.example:PORT"], ["::ffff:127.0.0.1"], "private"),
        (["files.example:PORT"], ["64:ff9b::7f00:1"], "private"),
        (["files.example:PORT"], ["2002:7f00:1::"], "private"),
        (["files.example:PORT"], ["fe80::1%eth0"], "private"),
        (["files.example:PORT"], ["224.0.0.1"], "private"),
        (["files.example:PORT"], ["0.0.0.0"], "private"),
        (["files.example:PORT"], ["93.184.215.14", "10.0.0.1"], "private"),
        (["files.example:PORT", "10.0.0.1:PORT"], ["10.0.0.2"], "private"),
        (["other.example:PORT", LOCAL], [LOCAL], "not among"),
    ],
)
def test_nothing_else_is_called(host: Host, hosts: list[str], addresses: list[str], why: str) -> None:
    before = len(host.seen)
    listed = [entry.replace("PORT", str(host.port)) for entry in hosts]
    with pytest.raises(CaseError, match=why) as caught:
        fetch(host, "/file", hosts=listed, resolve=lambda name, port: addresses)
    assert caught.value.code == "url_refused"
    assert len(host.seen) == before


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://files.example/x", "gopher://files.example/x", "//files.example/x",
        "/data/upload/1.png",
        "http://", "http://user:word@files.example/x", "http://files.example@evil.example/x", "http://evil.example/x",
        "http://files.example.evil.example/x", "http://127.1/x", "http://2130706433/x", "http://0x7f000001/x",
        "http://[::1]/x", "http://files.example:99999/x", "http://files.example:22/x", "http://[files.example]/x",
        "http://files.example/\r\nHost: evil", "http://files.example/a b", "http://fıles.example/x", "\x00",
    ],
)  # fmt: skip
def test_an_address_that_says_something_else_than_it_seems_is_refused(url: str) -> None:
    def never(name: str, port: int) -> list[str]:
        raise AssertionError("a refused address must not be looked up")

    with pytest.raises(CaseError) as caught:
        fetching.fetch(url, allowed(["files.example"]), limit=10, seconds=1.0, resolve=never)
    assert caught.value.code == "url_refused"


@pytest.mark.parametrize(
    ("path", "code", "why"),
    [
        ("/redirect", "fetch_failed", "redirects are not followed"),
        ("/none", "fetch_failed", "404"),
        ("/gzip", "fetch_failed", "compressed"),
        ("/short", "fetch_failed", "ended early|IncompleteRead"),
        ("/big", "too_large", "1000"),
        ("/claims", "too_large", "1000"),
    ],
)
def test_what_is_no_file_of_the_right_size_is_said(host: Host, path: str, code: str, why: str) -> None:
    with pytest.raises(CaseError, match=why) as caught:
        fetch(host, path)
    assert caught.value.code == code
    assert host.seen[-1][0] == path


def test_a_host_that_never_ends_is_cut(host: Host) -> None:
    with pytest.raises(CaseError, match="too long") as caught:
        fetch(host, "/slow", seconds=0.3)
    assert caught.value.code == "fetch_failed"


def test_a_name_without_address_and_a_closed_port_are_said(host: Host) -> None:
    def unknown(name: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    for resolve in (unknown, lambda name, port: []):
        with pytest.raises(CaseError, match=r"look|no address") as caught:
            fetch(host, "/file", resolve=resolve)
        assert caught.value.code == "fetch_failed"


def test_data_uris_are_read_and_bounded() -> None:
    body = base64.b64encode(b"hello").decode()
    assert fetching.data_uri(f"data:image/png;base64,{body}", limit=5) == (b"hello", "image/png")
    assert fetching.data_uri("data:text/plain;charset=utf-8,a%20b", limit=5) == (
        b"a b",
        "text/plain;charset=utf-8",
    )
    assert fetching.data_uri("data:,x", limit=5) == (b"x", "")
    for text, code in (
        ("data:image/png;base64", "invalid_data_uri"), ("data:image/png;base64,@@", "invalid_data_uri"),
        (f"data:image/png;base64,{body}", "too_large"), ("data:," + "a" * 500, "too_large"),
    ):  # fmt: skip
        with pytest.raises(CaseError) as caught:
            fetching.data_uri(text, limit=4)
        assert caught.value.code == code


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9@:\[\]./%-]{0,30}", fullmatch=True))
def test_whatever_the_address_only_the_listed_host_is_looked_up(url: str) -> None:
    asked: list[str] = []

    def resolve(name: str, port: int) -> list[str]:
        asked.append(name)
        return ["10.0.0.1"]

    with pytest.raises(CaseError):
        fetching.fetch(url, allowed(["a"]), limit=10, seconds=1.0, resolve=resolve)
    assert set(asked) <= {"a"}
