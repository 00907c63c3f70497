"""Knobs that are not promises: name, default, unit, reason. Promises live in tenure.yaml."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """Internal constants in one place; tests may pass others."""

    tick_s: float = 0.2
    """Controller loop period. Below the 200 ms that a roll-back may take to be noticed by people."""

    page_poll_s: float = 0.05
    """How often an idle worker looks at the control page; a roll-back reaches it within this time."""

    judgement_margin_s: float = 0.25
    """A judgement this close to the deadline is training data, not the decision."""

    segment_bytes: int = 16 * 2**20
    """A spool segment is finished at this size."""

    segment_s: float = 60.0
    """A spool segment is finished at this age."""

    payload_segment_bytes: int = 64 * 2**20
    """Payload segments are larger: they hold the inputs themselves."""

    panes_s: float = 90 * 86_400.0
    """How long panes of metrics are kept for charts."""

    shadow_queue: int = 256
    """Shadow work that may wait per worker; more is shed and counted."""

    idempotency_s: float = 86_400.0
    """How long an idempotency key is remembered."""

    hung_s: float = 10.0
    """A ready worker whose event loop stands still so long is killed and started again."""

    fetch_s: float = 10.0
    """How long the fetch of an input that a labelling tool names by address may take."""

    controller_hung_s: float = 60.0
    """The controller is killed and started again when one turn of its loop lasts so long."""
