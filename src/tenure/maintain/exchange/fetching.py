"""Inputs that another tool names by address: data URIs, and files of hosts that the operator listed.

Who can name an address can make this process call it, so nothing is called that is not listed (OWASP,
"Server-Side Request Forgery Prevention"): only http and https, only listed hosts and ports, no private address
unless it is listed itself, the checked address is the one that is connected to, no redirect, no credentials, no
proxy, bounded size and time.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from threading import Timer
from urllib.parse import unquote_to_bytes, urlsplit

from tenure.errors import CaseError
from tenure.scope.hosts import NAME, Allowed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

_PORTS = {"http": 80, "https": 443}
_CARRIERS = tuple(ipaddress.ip_network(n) for n in ("64:ff9b::/96", "2002::/16", "2001::/32"))
"""Addresses that carry an IPv4 address inside, which may be private."""


def data_uri(text: str, *, limit: int) -> tuple[bytes, str]:
    """Return (bytes, media type) of a data URI (RFC 2397).

    Raises:
        CaseError: `invalid_data_uri`, or `too_large` beyond `limit` bytes.
    """
    head, comma, body = text.removeprefix("data:").partition(",")
    if not comma:
        raise CaseError("the data URI has no comma", code="invalid_data_uri", at="data")
    if len(body) > 3 * limit + 64:
        raise _large(limit)
    media_type, _, coding = head.rpartition(";")
    try:
        is_base64 = coding.strip().lower() == "base64"
        data = base64.b64decode(unquote_to_bytes(body), validate=True) if is_base64 else unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise CaseError(f"the data URI is no base64: {error}", code="invalid_data_uri", at="data") from error
    if len(data) > limit:
        raise _large(limit)
    return data, media_type if is_base64 else head


def fetch(
    url: str, allow: Allowed, *, limit: int, seconds: float, resolve: Resolve | None = None
) -> tuple[bytes, str]:
    """Return (bytes, media type) of a file on a listed host.

    Args:
        url: http or https.
        allow: which hosts and addresses may be called.
        limit: bytes of the file.
        seconds: for all of it, but the look-up of the name.
        resolve: (host, port) -> addresses; by default the system's.

    Raises:
        CaseError: `url_refused` where it may not be called, `fetch_failed` where it gives no file, `too_large`.
    """
    secure, host, port, path = _split(url)
    if not _listed(host, port, secure, allow):
        raise _refused(f"{host}:{port} is not among exchange.hosts of the project")
    address = _address(host, port, allow, resolve or _resolved)
    connection = _Pinned(host, port, address, secure=secure, seconds=seconds)
    watch = Timer(seconds, connection.cut)
    watch.daemon = True
    watch.start()
    try:
        return _read(connection, path, limit)
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = connection.late or isinstance(error, TimeoutError)  # whichever of our two watches was first
        what = "it took too long" if late else f"{type(error).__name__}: {error}"
        raise _failed(f"{host}:{port} gave no file: {what}"[:300]) from error
    finally:
        watch.cancel()
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever the name means a moment later."""

    def __init__(self, host: str, port: int, address: str, *, secure: bool, seconds: float) -> None:
        super().__init__(host, port, timeout=seconds)
        self._address, self._secure, self.late = address, secure, False
        self.default_port = _PORTS["https" if secure else "http"]

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()

    def cut(self) -> None:
        """End whatever goes on: the time is over."""
        self.late = True
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _read(connection: _Pinned, path: str, limit: int) -> tuple[bytes, str]:
    connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "tenure"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise _failed(f"{connection.host}:{connection.port} answered {reply.status}; redirects are not followed")
    if (reply.getheader("content-encoding") or "identity").lower() != "identity":
        raise _failed("the file is compressed for transport, which was not asked for")
    if (reply.length or 0) > limit:
        raise _large(limit)
    data = reply.read(limit + 1)
    if len(data) > limit:
        raise _large(limit)
    if connection.late or reply.length:
        raise OSError("the answer ended early")
    return data, reply.getheader("content-type") or ""


def _split(url: str) -> tuple[bool, str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip(".").lower(), parts.port
    except ValueError as error:
        raise _refused(f"it is no address: {error}") from error
    if parts.scheme not in _PORTS or not host:
        raise _refused("only http and https with a host are called")
    if parts.username is not None or parts.password is not None:
        raise _refused("an address with a user or password is not called")
    try:
        host = host.encode("idna").decode() if not host.isascii() else host
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path.encode("ascii")
    except UnicodeError as error:
        raise _refused("its host or path has characters that an address cannot have") from error
    if re.search(r"[\x00-\x20\x7f]", path) or not (NAME.fullmatch(host) or ":" in host):
        raise _refused("its host or path has characters that an address cannot have")
    return parts.scheme == "https", host, port or _PORTS[parts.scheme], path


def _listed(host: str, port: int, secure: bool, allow: Allowed) -> bool:
    usual = port == _PORTS["https" if secure else "http"]
    if (host, port) in allow.hosts or (usual and (host, None) in allow.hosts):
        return True
    with contextlib.suppress(ValueError):
        literal = ipaddress.ip_address(host)
        return usual and any(literal in network for network in allow.networks)
    return False


def _address(host: str, port: int, allow: Allowed, resolve: Resolve) -> str:
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise _failed(f"the name {host} cannot be looked up: {error}") from error
    if not found:
        raise _failed(f"the name {host} has no address")
    for text in found:
        if not _may(ipaddress.ip_address(text.partition("%")[0]), port, allow):
            raise _refused(f"{host} has the address {text}, which is private and not listed itself")
    return found[0]


def _may(address: Address, port: int, allow: Allowed) -> bool:
    address = getattr(address, "ipv4_mapped", None) or address
    if (str(address), port) in allow.hosts or any(address in network for network in allow.networks):
        return True
    return address.is_global and not address.is_multicast and not any(address in n for n in _CARRIERS)


def _resolved(host: str, port: int) -> list[str]:
    return [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _refused(what: str) -> CaseError:
    return CaseError(f"the input's address is not called: {what}", code="url_refused", at="data")


def _failed(what: str) -> CaseError:
    return CaseError(f"the input cannot be fetched: {what}", code="fetch_failed", at="data")


def _large(limit: int) -> CaseError:
    return CaseError(f"the input is larger than {limit} bytes", code="too_large", at="data", status=413)
