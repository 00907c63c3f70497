"""Which hosts inputs may be fetched from: names with or without a port, addresses and networks."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Sequence
from typing import Any

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK = ("127.0.0.1", "localhost", "::1")
NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")
_ENTRY = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/]+)(?::(\d{1,5}))?")


class Allowed(msgspec.Struct, frozen=True):
    """Hosts, each with its port or None for the scheme's own, and networks."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[Any, ...] = ()


def allowed(entries: Sequence[str]) -> Allowed:
    """Return what a list such as `["files.example", "studio.example:8080", "10.1.0.0/16"]` allows.

    Raises:
        ValueError: an entry is no host, host with port, address or network.
    """
    hosts: set[tuple[str, int | None]] = set()
    networks: list[Network] = []
    for entry in entries:
        text = entry.strip().lower()
        with contextlib.suppress(ValueError):
            networks.append(ipaddress.ip_network(text))
            continue
        found = _ENTRY.fullmatch(text)
        if found is None:
            raise ValueError(f"{entry!r} is no host, host:port, address or network")
        host, port = found[1].strip("[]"), found[2]
        if not NAME.fullmatch(host) or host.replace(".", "").isdigit():
            _check_address(host, entry)
        hosts.add((host, int(port) if port else None))
    return Allowed(frozenset(hosts), tuple(networks))


def _check_address(host: str, entry: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{entry!r} is no host, host:port, address or network") from None
