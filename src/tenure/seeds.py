"""The only source of randomness: keyed hashes for draws, secrets for keys."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_SCALE = 2.0**-64
BLOCK = 256
"""Requests whose draws, or whose id tags, come out of one call of the hash."""


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


def request_draw(salt: str, run: int, seq: int) -> float:
    """Return a uniform number in [0, 1) fixed by `salt` and the request (run, seq).

    It is word `seq % 256` of SHAKE-128 over (salt, run, seq // 256): 256 requests share one call of the hash, and
    the draw of any request can be recomputed from the log.
    """
    return _draws(salt, run, seq // BLOCK)[seq % BLOCK]


def request_draws(salt: str, run: int, first: int, count: int) -> npt.NDArray[np.float64]:
    """Return `request_draw` of `count` requests from `first` on, as (count,) array."""
    blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
    joined = np.concatenate([_draw_array(salt, run, block) for block in blocks]) if count else np.zeros(0)
    start = first % BLOCK
    return joined[start : start + count]


@lru_cache(maxsize=64)
def _draws(salt: str, run: int, block: int) -> tuple[float, ...]:
    return tuple(_draw_array(salt, run, block).tolist())


@lru_cache(maxsize=64)
def _draw_array(salt: str, run: int, block: int) -> npt.NDArray[np.float64]:
    words = np.frombuffer(keyed_block(salt.encode(), run, block, 8 * BLOCK), "<u8")
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)  # 53 bits, so that no draw rounds up to 1


def keyed_block(key: bytes, run: int, block: int, size: int) -> bytes:
    """Return `size` pseudo-random bytes for a block of a run's requests (SHAKE-128, FIPS 202)."""
    head = len(key).to_bytes(4, "little") + key
    return hashlib.shake_128(head + run.to_bytes(8, "little") + block.to_bytes(8, "little")).digest(size)


def fresh_u64() -> int:
    """Return an unguessable non-zero 64-bit number."""
    return secrets.randbits(64) | 1


def fresh_token(prefix: str) -> str:
    """Return a new bearer token, `prefix_` plus 256 bits."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def generator(seed: int) -> np.random.Generator:
    """Return a seeded generator for simulations and bootstraps."""
    return np.random.default_rng(seed)
