"""One request on its way through a worker, and the lane that it shares with others: same version, same rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from tenure.data.records import Status
from tenure.deploy.router import Endpoint, Policy
from tenure.model.answer import Scores
from tenure.model.columns import Rows
from tenure.types import Answer, Failed, Level, Prediction, Route

if TYPE_CHECKING:
    from tenure.deploy.serving.predict.desk import Desk

_read = msgspec.json.Decoder(Answer).decode
NOBODY = Policy(0, Level.HUMAN_ONLY, audit=0.0)


def _nobody(work: Any) -> None:
    return


class Lane(msgspec.Struct, frozen=True, eq=False):
    """What requests have in common that one version answers under one policy; the constant columns of a frame.

    Attributes:
        version: the version that answers; None where no model does.
        role: 0 stable, 1 candidate.
        share: chance that a request came here.
        level: the level in force.
        policy: the policy in force.
        routing: version of the routing table.
        watched: the controller is alive, or was lately.
        route: the endpoint's routing that it was drawn under; None for what was refused.
    """

    version: str | None = None
    role: int = 0
    share: float = 1.0
    level: Level = Level.HUMAN_ONLY
    policy: Policy = NOBODY
    routing: int = 0
    watched: bool = True
    route: Endpoint | None = None


class Block:
    """Many requests that came as one matrix: numbered in a row, answered, logged and returned as arrays.

    Where not every row is decided by one version alone, the rows become works of their own: then `answers` holds
    an answer or an error for each, and `scores` is None.
    """

    __slots__ = (
        "answers", "desk", "done", "error", "expires_ns", "first", "flags", "gone", "item", "lane", "scores",
        "settled", "start_ns", "t_ns", "unit", "unit_hash",
    )  # fmt: skip
    alone: ClassVar[bool] = True

    def __init__(self, desk: Desk, first: int, item: Rows, *, t_ns: int, start_ns: int) -> None:
        self.desk, self.first, self.item = desk, first, item
        self.t_ns, self.start_ns, self.expires_ns = t_ns, start_ns, 0
        self.unit: str | None = None
        self.unit_hash = 0
        self.done: Callable[[Block], None] = _nobody
        self.gone = self.settled = False
        self.lane: Lane = Lane()
        self.flags: npt.NDArray[np.uint16] | None = None
        self.scores: Scores | None = None
        self.answers: list[Answer | Exception] = []
        self.error: Exception | None = None

    def __len__(self) -> int:
        return len(self.item)


class Work(msgspec.Struct, eq=False):
    """One request, from its admission to its reply. The upper half is what came, the lower what became of it."""

    alone: ClassVar[bool] = False

    desk: Desk
    seq: int
    t_ns: int  # wall clock, arrival
    start_ns: int  # monotonic, arrival
    deadline_ns: int = 0  # wall clock: until when a person may decide; 0 = no end
    expires_ns: int = 0  # monotonic: until when the model may answer; 0 = no end
    unit: str | None = None
    unit_hash: int = 0
    key: int = 0  # keyed hash of the Idempotency-Key
    item: Any = None  # decoded input: packed values, a record, a text, an Image or an Audio
    body: bytes = b""  # bytes of an image or a clip, for the log
    media_type: str = ""
    metrics: npt.NDArray[np.float32] | None = None
    caller: Any = None  # whatever `done` wants to find again
    done: Callable[[Work], None] = _nobody
    gone: bool = False  # nobody waits any more
    settled: bool = False  # it has been ruled on

    lane: Lane = Lane()
    audited: bool = False
    queue_us: int = 0
    latency_us: int = 0
    status: int = Status.NOT_RUN
    route: int = Route.PENDING
    flags: int = 0
    prediction: Prediction | Failed | None = None
    stage_us: tuple[int, ...] = ()
    reason: str = ""
    logged: bool = False
    answer: Answer | None = None
    json: bytes = b""  # the answer as it goes out
    error: Exception | None = None

    def said(self) -> Answer:
        """Return the answer of a request that has one."""
        if self.answer is None:
            self.answer = _read(self.json)
        return self.answer
