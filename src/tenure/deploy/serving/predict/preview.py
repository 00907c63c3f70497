"""What the stable version would say of an input: the request path without a request.

The input is decoded and run as any other, behind everything that a client waits for. Nothing is drawn, decided or
logged, so that no gate, certificate, monitor or review queue ever hears of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from tenure.deploy.serving.predict.runner import Batch, outcome
from tenure.types import Failed, Input, Prediction

PATIENCE_S = 30.0
"""How long a preview may wait behind the requests of clients."""


class Preview(msgspec.Struct, frozen=True):
    """An answer that nobody acts on: of which version, and the (width, height) of a picture as it was sent."""

    version: str
    prediction: Prediction
    size: tuple[int, int] | None = None


class Job:
    """One input on its way through a version's runner."""

    __slots__ = ("expires_ns", "future", "gone", "item", "settled", "start_ns")
    alone: ClassVar[bool] = True

    def __init__(self, item: Sequence[Input], *, start_ns: int) -> None:
        self.item, self.start_ns, self.expires_ns = item, start_ns, start_ns + int(PATIENCE_S * 1e9)
        self.gone = self.settled = False
        self.future: asyncio.Future[Prediction | Failed] = asyncio.get_running_loop().create_future()

    def end(self, batch: Batch) -> None:
        """Take what came of the batch."""
        self.settled = True
        if not self.future.done():
            self.future.set_result(outcome(batch)[0][0])


def password(secret: bytes) -> str:
    """Return what the control plane says to a worker to be let in: only who can read the secret key knows it."""
    return hmac.new(secret, b"tenure preview", hashlib.sha256).hexdigest()
