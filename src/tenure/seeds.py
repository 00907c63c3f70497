"""The only source of randomness: keyed hashes for draws, secrets for keys."""

from __future__ import annotations

import hashlib
import secrets

import numpy as np

_SCALE = 2.0**-64


def draw(salt: str, key: str | bytes) -> float:
    """Return a uniform number in [0, 1) fixed by `salt` and `key` (BLAKE2b, 64 bits).

    The same salt and key give the same number on every machine, so that an assignment can be recomputed from
    the log.

    Example:
        >>> draw("a", "unit-1") == draw("a", "unit-1")
        True
    """
    data = key.encode() if isinstance(key, str) else key
    digest = hashlib.blake2b(data, key=salt.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "little") * _SCALE


def hash64(salt: str, key: str | bytes) -> int:
    """Return the 64-bit keyed hash behind `draw`; used to log units without their names."""
    data = key.encode() if isinstance(key, str) else key
    return int.from_bytes(hashlib.blake2b(data, key=salt.encode()[:64], digest_size=8).digest(), "little")


def fresh_u64() -> int:
    """Return an unguessable non-zero 64-bit number."""
    return secrets.randbits(64) | 1


def fresh_token(prefix: str) -> str:
    """Return a new bearer token, `prefix_` plus 256 bits."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def generator(seed: int) -> np.random.Generator:
    """Return a seeded generator for simulations and bootstraps."""
    return np.random.default_rng(seed)
