"""The columns of each kind of log record; `docs/formats.md` is the prose form of this file.

Columns are only ever appended. Readers fill a column that an old segment lacks with its default.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from enum import IntEnum, IntFlag
from functools import lru_cache

import msgspec
import numpy as np

from tenure.seeds import BLOCK, keyed_block


class Kind(IntEnum):
    """What one frame holds."""

    PREDICTION = 1
    SHADOW = 2
    OUTCOME = 3
    DECISION = 4
    PAYLOAD = 5
    HEARTBEAT = 6


class Flag(IntFlag):
    """Bits of a prediction row."""

    AUDITED = 1  # a person will check this automated decision
    BLIND = 2  # the reviewer must not see the model's answer
    PAYLOAD = 4  # the input bytes were kept
    DEGRADED = 8  # the controller was not alive
    LOTTERY = 16  # drawn before routing to be labelled whatever the model says
    EMPTY = 32  # the answer was empty (None, "" or no text)
    OVER_BUDGET = 64  # later than the endpoint's latency budget
    BATCH = 128  # scored offline: no client waited, and no rollout drew its version


class Status(IntEnum):
    """How computing a prediction ended."""

    OK = 0
    NOT_RUN = 1  # human_only or shadow: no model on the reply path
    FAILED = 2  # the stage failed this item
    REFUSED = 3  # admission, schema or overload
    EXPIRED = 4  # the deadline passed before the model ran


class By(IntEnum):
    """Who decided."""

    NOBODY = 0
    MODEL = 1
    PERSON = 2
    FALLBACK = 3


Columns = tuple[tuple[str, str], ...]
"""(name, numpy dtype string), little endian."""

PREDICTION: Columns = (
    ("seq", "<u8"),
    ("t_ns", "<i8"),  # wall clock, UTC
    ("deadline_ns", "<i8"),  # 0 = none
    ("latency_us", "<u4"),  # arrival to the frame
    ("queue_us", "<u4"),
    ("version", "<u2"),  # index into the schema's `versions`; 65535 = no model
    ("role", "u1"),  # 0 stable, 1 candidate
    ("route", "u1"),
    ("by", "u1"),
    ("level", "u1"),
    ("status", "u1"),
    ("flags", "<u2"),
    ("policy", "<u4"),
    ("routing", "<u4"),  # version of the routing table
    ("audit_prob", "<f4"),
    ("share", "<f4"),  # chance that this request went to its version, known before the outcome
    ("unit", "<u8"),  # keyed hash; 0 = none
    ("key", "<u8"),  # keyed hash of the Idempotency-Key; 0 = none
    ("confidence", "<f4"),  # NaN = none
    ("number", "<f8"),  # the value where it is a number, else NaN
    ("n_regions", "<u2"),
)
"""Fixed columns; then `stage_us:<stage>` (<f4) per stage and `x:<metric>` (<f4) per input metric.

Variable part: msgpack of {value, regions, probabilities, reason, record, text, unit, at}; absent keys are None.
Rows that people judge may have `contributions`, which go into the review item and are not sealed.
Where the schema names `labels` and `fields`, the usual values stand in columns instead: `label` (<u2, index into
`labels`; 65535 = see the variable part), `p:<label>` (<f4, NaN = none), `f:<field>` (<f8, NaN = null).
"""

NO_LABEL = 65_535

SHADOW: Columns = (
    ("run", "<u8"),  # run and seq of the prediction that it shadows
    ("seq", "<u8"),
    ("t_ns", "<i8"),
    ("version", "<u2"),
    ("status", "u1"),
    ("latency_us", "<u4"),
    ("confidence", "<f4"),
    ("number", "<f8"),
    ("n_regions", "<u2"),
    (
        "spare",
        "u1",
    ),  # 1 = no person is asked about this request, so that nothing compares this answer with a truth
)
"""Variable part: msgpack of {value, regions, probabilities, reason}; columns of labels as in predictions."""

OUTCOME: Columns = (
    ("run", "<u8"),
    ("seq", "<u8"),
    ("t_ns", "<i8"),
)
"""A late truth or a user's reaction. Variable part: msgpack of {kind, value, source}."""

DECISION: Columns = (
    ("run", "<u8"),
    ("seq", "<u8"),
    ("t_ns", "<i8"),
    ("by", "u1"),
    ("policy", "<u4"),
)
"""The decision of a pending request. Variable part: msgpack of {value, regions, reader, item, reason}."""

PAYLOAD: Columns = (
    ("seq", "<u8"),  # seq of the prediction of the same run
    ("t_ns", "<i8"),
)
"""Variable part: msgpack of {media_type, sha256, data}."""

HEARTBEAT: Columns = (("t_ns", "<i8"),)

FIXED: dict[Kind, Columns] = {
    Kind.PREDICTION: PREDICTION,
    Kind.SHADOW: SHADOW,
    Kind.OUTCOME: OUTCOME,
    Kind.DECISION: DECISION,
    Kind.PAYLOAD: PAYLOAD,
    Kind.HEARTBEAT: HEARTBEAT,
}


class Schema(msgspec.Struct, frozen=True):
    """What a frame's bytes mean. Written to `schemas/<id>.json` before the first frame that uses it.

    `versions` is the dictionary for the `version` column. A worker that learns of a new version makes a new
    schema. `labels` is the dictionary for the `label` column; `fields` are (name, type) of the record fields that
    have a column. Both are left out of the file where they are empty.
    """

    kind: int
    endpoint: str
    columns: tuple[tuple[str, str], ...]
    versions: tuple[str, ...] = ()
    format: int = 1
    labels: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def sha(self) -> str:
        """Hex SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def id(self) -> int:
        """The u32 that frames carry: the first four bytes of the SHA-256."""
        return int(self.sha[:8], 16)

    def canonical(self) -> bytes:
        """Return the exact bytes of the schema file."""
        plain = msgspec.to_builtins(self)
        for name in ("labels", "fields"):
            if not plain[name]:
                del plain[name]
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()

    def row_bytes(self) -> int:
        """Bytes that one row takes in the fixed part."""
        return sum(np.dtype(d).itemsize for _, d in self.columns)


def prediction_schema(
    endpoint: str, *, stages: tuple[str, ...], metrics: tuple[str, ...], versions: tuple[str, ...],
    labels: tuple[str, ...] = (), fields: tuple[tuple[str, str], ...] = (), single: bool = False,
) -> Schema:  # fmt: skip
    """Return the schema of an endpoint's predictions: fixed columns, stage times, metrics, label, fields.

    With `single` every field is exact as the float32 that its metric `x:field:<name>` holds, which stands for its
    column.
    """
    extra = tuple((f"stage_us:{s}", "<f4") for s in stages) + tuple((f"x:{m}", "<f4") for m in metrics)
    extra += _labelled(labels)
    if not single:
        extra += tuple((f"f:{name}", "<f8") for name, _ in fields)
    return Schema(Kind.PREDICTION, endpoint, PREDICTION + extra, versions, labels=labels, fields=fields)


def plain_schema(
    kind: Kind, endpoint: str, versions: tuple[str, ...] = (), labels: tuple[str, ...] = ()
) -> Schema:  # fmt: skip
    """Return the schema of any other kind; shadows have columns for `labels`, too."""
    return Schema(kind, endpoint, FIXED[kind] + _labelled(labels), versions, labels=labels)


def _labelled(labels: tuple[str, ...]) -> Columns:
    return (("label", "<u2"), *((f"p:{label}", "<f4") for label in labels)) if labels else ()


def encode_id(run: int, seq: int, secret: bytes) -> str:
    """Return the unguessable public id of a request: run (8 B), seq (6 B), keyed tag (4 B), as 36 hex digits.

    The tag makes an id a capability: an id that this project did not issue is refused without a look-up.
    """
    at = seq % BLOCK * _TAG_DIGITS
    return f"{run:016x}{seq:012x}{_tags(secret, run, seq // BLOCK)[at : at + _TAG_DIGITS]}"


def decode_id(text: str, secret: bytes) -> tuple[int, int] | None:
    """Return (run, seq) of an id made by `encode_id` with the same secret, else None."""
    if len(text) != _ID_DIGITS or not text.isascii():
        return None
    try:
        run, seq = int(text[:16], 16), int(text[16:28], 16)
    except ValueError:
        return None
    if not hmac.compare_digest(encode_id(run, seq, secret), text.lower()):
        return None
    return run, seq


_ID_DIGITS, _TAG_DIGITS = 36, 8


@lru_cache(maxsize=32)
def _tags(secret: bytes, run: int, block: int) -> str:
    return keyed_block(secret, run, block, _TAG_DIGITS // 2 * BLOCK).hex()
