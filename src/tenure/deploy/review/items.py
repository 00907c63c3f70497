"""What goes into the review queue and what comes out of it."""

from __future__ import annotations

from typing import Any

import msgspec

from tenure.types import Box, Value


class NewItem(msgspec.Struct, frozen=True, kw_only=True):
    """One request that people are to judge; its id is the request's id.

    The fields are the columns of `review_items` that are known when the request was logged. `required` None means
    the endpoint's `review.readers`. `record` is the input itself where it is a record or a text.
    """

    id: str
    endpoint: str
    kind: str
    media_type: str
    created_us: int
    blind: bool = True
    required: int | None = None
    pending: bool = False
    priority: float = 0.0
    audit_prob: float = 1.0
    unit: str = ""
    policy: int = 0
    level: str = "human_only"
    version: str | None = None
    rollout: str | None = None
    arm: str = "stable"
    share: float = 1.0
    lottery: bool = False
    segment: str = ""
    record: Any = None
    deadline_us: int = 0


class ItemPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """What one version said about an item; `role` is primary or shadow."""

    item: str
    version: str
    role: str
    value: Value
    at_us: int
    confidence: float | None = None
    regions: tuple[Box, ...] = ()
    automated: bool = False
    contributions: dict[str, float] | None = None


class Suggestion(msgspec.Struct, frozen=True):
    """The model's answer, and what moved it where the model says, for a reviewer who may see it."""

    version: str
    value: Value
    confidence: float | None
    regions: tuple[Box, ...]
    contributions: dict[str, float] | None = None


class Leased(msgspec.Struct, frozen=True, kw_only=True):
    """What a reviewer gets: never why the item is in the queue, nor whether a client waits for it (V5).

    `suggestion` is None for a blind reading. `adjudicate` says that two readers differed. Show only this: the
    item's own `blind` column is about its first reading.
    """

    item: str
    endpoint: str
    token: str
    expires_us: int
    blind: bool
    adjudicate: bool
    media_type: str
    record: Any = None
    suggestion: Suggestion | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement as it is handed in; `key` makes a retry safe, `seconds` are active seconds."""

    item: str
    reader: str
    token: str
    value: Value
    key: str
    regions: tuple[Box, ...] = ()
    seconds: float = 0.0


class Receipt(msgspec.Struct, frozen=True):
    """The stored judgement. `late`: it came after the deadline and is training data only."""

    judgement: int
    item: str
    late: bool


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """One resolved item, in the order of `resolution`; an item that is resolved anew comes again."""

    resolution: int
    item: str
    number: int
    endpoint: str
    kind: str
    version: str | None
    rollout: str | None
    arm: str
    truth: Value
    regions: tuple[Box, ...]
    source: str
    resolved_us: int


class DueDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A person's decision whose frame the controller still has to write."""

    id: str
    endpoint: str
    value: Value
    regions: tuple[Box, ...]
    by: str
    reader: str
    policy: int
    at_us: int
    deadline_us: int


class ReaderStats(msgspec.Struct, frozen=True, kw_only=True):
    """One reader's work: `agreement` is the share of double-read items where this reader said the truth."""

    reader: str
    judgements: int
    seconds: float
    double: int
    agreement: float | None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How full the queue is. Ages are seconds; `open` includes what is pending, leased or in conflict.

    `escalated` wait for an adjudicator; `missed` were ever not judged within `review.within`.
    """

    open: int
    pending: int
    conflicts: int
    leased: int
    oldest_s: float
    resolved: int
    readers: tuple[ReaderStats, ...]
    escalated: int = 0
    missed: int = 0
