"""Endpoints as models of the Open Inference Protocol: what its doors, REST and gRPC, share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as version_of
from typing import Any, NamedTuple

from tenure.clock import Clock
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.oip.body import Sent
from tenure.deploy.serving.oip.inputs import Inputs
from tenure.deploy.serving.oip.messages import (
    InferResponse,
    ModelMetadata,
    Parameter,
    RequestedOutput,
    RequestParameters,
    ServerMetadata,
)
from tenure.deploy.serving.oip.outputs import MAX_CLASSES, Outputs, Reply, deciders, undecided
from tenure.deploy.serving.oip.records import Item
from tenure.deploy.serving.oip.tensors import Tensor, fault
from tenure.deploy.serving.predict.core import Core
from tenure.deploy.serving.predict.desk import Desk
from tenure.deploy.serving.predict.work import Block
from tenure.errors import MissingError, TenureError
from tenure.types import Answer, Decision

PLATFORM = "tenure"
EXTENSIONS = ("binary_tensor_data", "classification", "statistics")
_NO_PARAMETERS = RequestParameters()


class Answered(NamedTuple):
    """An answer before it is written: its head, its tensors, and which of them the client wants in binary."""

    response: InferResponse
    tensors: list[Tensor]
    binary: list[bool]


class _Model:
    """An endpoint as clients of the protocol see it, and what this worker counted of it."""

    def __init__(self, desk: Desk) -> None:
        self.inputs = Inputs(desk.name, desk.schema)
        self.outputs = Outputs(desk.name, desk.output)
        self.rows = self.successes = self.success_ns = self.failures = self.failure_ns = self.last_ns = 0


class Service:
    """What a worker says and does over the protocol, whatever the door."""

    def __init__(self, core: Core, *, page: ControlPage, slot: Slot, clock: Clock) -> None:
        self._core, self._page, self._slot, self._clock = core, page, slot, clock
        self._models: dict[str, _Model] = {}
        self._decoding = ThreadPoolExecutor(max_workers=2, thread_name_prefix="oip-decode")

    # Health and metadata

    def ready(self) -> bool:
        """Say whether requests are answered: false from the moment at which the worker begins to drain."""
        return self._slot.state == "ready" and any(slot.state == "ready" for slot in self._page.slots())

    def model_ready(self, desk: Desk) -> bool:
        """Say whether an endpoint answers; one that only people decide does."""
        table = self._core.live.table
        if not self.ready() or table is None or desk.name not in table.endpoints:
            return False
        stable = table.endpoints[desk.name].stable
        return stable is None or self._core.live.has(stable)

    def server(self) -> ServerMetadata:
        return ServerMetadata(self._core.server.name, version_of("tenure"), EXTENSIONS)

    def model(self, desk: Desk) -> ModelMetadata:
        known, live = self._known(desk), self._live(desk.name)
        return ModelMetadata(
            desk.name, [live] if live else [], PLATFORM, known.inputs.metadata, known.outputs.metadata
        )

    def names(self, token: str) -> list[str]:
        """Return the names of the models, for a caller that may use them."""
        return [self._core.gate(token, name).name for name in self._core.desks]

    def index(self, token: str) -> list[dict[str, str]]:
        """Return the repository's index: name, version, state and reason of each model."""
        out = []
        for name in self.names(token):
            ready = self.model_ready(self._core.desks[name])
            state, reason = ("READY", "") if ready else ("UNAVAILABLE", "its version is not loaded yet")
            out.append({"name": name, "version": self._live(name), "state": state, "reason": reason})
        return out

    def statistics(self, desk: Desk) -> dict[str, Any]:
        """Return what this worker answered over the protocol since it started."""
        model = self._known(desk)
        return {
            "name": desk.name,
            "version": self._live(desk.name),
            "last_inference": model.last_ns // 1_000_000,
            "inference_count": model.rows,
            "inference_stats": {
                "success": {"count": model.successes, "ns": model.success_ns},
                "fail": {"count": model.failures, "ns": model.failure_ns},
            },
        }

    # Inference

    def desk(self, token: str, name: str, version: str = "") -> Desk:
        """Let a caller in.

        A version is a check, not a choice: it must be the one in force, and routing goes on as ever.

        Raises:
            AccessError: the token may not predict.
            MissingError: no such model, or the version is not the one in force.
            BusyError: a version is named before there is a routing table.
        """
        try:
            desk = self._core.gate(token, name)
        except MissingError as error:
            raise MissingError(
                f"Request for unknown model: {name[:100]!r} is not found", code=error.code, at=error.at
            ) from error
        if version and (self._core.live.endpoint(name).stable != version or not self._core.live.has(version)):
            raise MissingError(
                f"Request for unknown model: {name!r} version {version[:100]!r} is not found; "
                f"in force is {self._live(name) or 'none'}",
                at="version",
            )
        return desk

    def raw(self, desk: Desk, body: bytes) -> Tensor:
        """Return a body without a JSON header as the one input of the endpoint."""
        return self._known(desk).inputs.raw(body)

    async def infer(
        self, desk: Desk, sent: Sent, *, token: str, unit: str | None = None, deadline_s: float = 0.0
    ) -> Answered:
        """Answer each row as a request of its own.

        All rows have the unit key `unit`; the model must begin to answer within `deadline_s` seconds, 0 = what
        the request says, or no limit.

        Raises:
            TenureError: nothing was answered: the request does not fit the model, or every row failed.
        """
        start_ns, model = self._clock.monotonic_ns(), self._known(desk)
        self._slot.add("requests")
        try:
            answered = await self._answer(model, desk, sent, token=token, unit=unit, deadline_s=deadline_s)
        except TenureError:
            model.failures += 1
            model.failure_ns += self._clock.monotonic_ns() - start_ns
            raise
        spent_ns = self._clock.monotonic_ns() - start_ns
        model.successes += 1
        model.success_ns += spent_ns
        model.last_ns = self._clock.now_ns()
        self._slot.observe(spent_ns // 1000)
        return answered

    async def _answer(
        self, model: _Model, desk: Desk, sent: Sent, *, token: str, unit: str | None, deadline_s: float
    ) -> Answered:
        parameters = sent.request.parameters or _NO_PARAMETERS
        wanted = sent.request.outputs or [RequestedOutput(name) for name in model.outputs.usual]
        _check(model, wanted)
        limit_s = deadline_s or max(0, parameters.timeout) / 1e6
        values = model.inputs.values(sent.tensors)
        if values is not None:
            block = await self._core.predict_rows(token, desk.name, values, unit=unit, deadline_s=limit_s)
            plain = all(not (each.parameters and each.parameters.classification) for each in wanted)
            if block.scores is not None and plain:
                return self._of_block(model, block, sent, wanted)
            replies = self._replies(block)
        else:
            items = await self._items(model, desk, sent.tensors)
            units = [unit] * len(items) if unit else ()
            replies = await self._core.predict_many(token, desk.name, items, units=units, deadline_s=limit_s)
        self._count(model, replies)
        tensors = [_output(model, each, replies) for each in wanted]
        response = InferResponse(desk.name, [], _version(replies), sent.request.id or "", _parameters(replies))
        return Answered(response, tensors, [_is_binary(each, parameters) for each in wanted])

    def _of_block(
        self, model: _Model, block: Block, sent: Sent, wanted: Sequence[RequestedOutput]
    ) -> Answered:  # fmt: skip
        """Return the answer to a matrix that one version decided, without an object per row."""
        assert block.scores is not None
        parameters = sent.request.parameters or _NO_PARAMETERS
        n, scores, version = len(block), block.scores, block.lane.version or ""
        self._slot.add("requests", n - 1)  # the first was counted when it came
        self._slot.add("auto", n)
        model.rows += n
        tensors = [
            model.outputs.of_scores(each.name, scores, version=version, ids=lambda: self._core.public_ids(block))
            for each in wanted
        ]
        response = InferResponse(block.desk.name, [], version, sent.request.id or "", {})
        return Answered(response, tensors, [_is_binary(each, parameters) for each in wanted])

    def _replies(self, block: Block) -> list[Reply]:
        if block.scores is None:
            for answer in block.answers:
                if isinstance(answer, Exception) and not isinstance(answer, TenureError):
                    raise answer
            return block.answers  # type: ignore[return-value]
        ids, version, policy = self._core.public_ids(block), block.lane.version, block.lane.policy.id
        out: list[Reply] = []
        for public_id, said in zip(ids, block.scores, strict=True):
            decision = Decision(said.value, "model", version, said.confidence, policy=policy)
            out.append(Answer(public_id, "decided", decision, said))
        return out

    async def _items(self, model: _Model, desk: Desk, tensors: Sequence[Tensor]) -> list[Item]:
        if desk.spec.input in ("text", "record"):
            return model.inputs.items(tensors)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoding, model.inputs.items, tensors)

    def _count(self, model: _Model, replies: Sequence[Reply]) -> None:
        """Count the rows; raises the first row's error when there is no answer at all."""
        failed = [reply for reply in replies if isinstance(reply, TenureError)]
        pending = len(undecided(replies))
        self._slot.add("requests", len(replies) - 1)  # the first was counted when it came
        self._slot.add("pending", pending)
        self._slot.add("auto", len(replies) - pending - len(failed))
        if len(failed) == len(replies):
            self._slot.add("refused", len(failed) - 1)  # the door counts the one that it is told of
            raise failed[0]
        self._slot.add("refused", len(failed))
        model.rows += len(replies) - len(failed)

    def _known(self, desk: Desk) -> _Model:
        model = self._models.get(desk.name)
        if model is None:
            model = self._models[desk.name] = _Model(desk)
        return model

    def _live(self, name: str) -> str:
        """Return the version in force that is loaded, "" without one."""
        table = self._core.live.table
        stable = table.endpoints[name].stable if table is not None and name in table.endpoints else None
        return stable if stable is not None and self._core.live.has(stable) else ""


def _check(model: _Model, wanted: Sequence[RequestedOutput]) -> None:
    model.outputs.expect([each.name for each in wanted])
    for each in wanted:
        parameters = each.parameters
        if parameters is None:
            continue
        if parameters.shared_memory_region is not None:
            raise fault(each.name, "shared memory is not offered")
        if not 0 <= parameters.classification <= MAX_CLASSES:
            raise fault(each.name, f"`classification` is 1 to {MAX_CLASSES}, got {parameters.classification}")
        if parameters.classification:
            model.outputs.classes(each.name, (), 0)


def _output(model: _Model, wanted: RequestedOutput, replies: Sequence[Reply]) -> Tensor:
    n = wanted.parameters.classification if wanted.parameters else 0
    return model.outputs.classes(wanted.name, replies, n) if n else model.outputs.tensor(wanted.name, replies)


def _is_binary(wanted: RequestedOutput, request: RequestParameters) -> bool:
    own = wanted.parameters.binary_data if wanted.parameters else None
    return request.binary_data_output if own is None else own


def _version(replies: Sequence[Reply]) -> str:
    names = deciders(replies)
    all_decided = all(isinstance(reply, Answer) and reply.decision for reply in replies)
    return names.pop() if all_decided and len(names) == 1 else ""


def _parameters(replies: Sequence[Reply]) -> dict[str, Parameter]:
    """Say what a person must decide, and what failed; the protocol's parameters hold no lists."""
    out: dict[str, Parameter] = {}
    waiting = undecided(replies)
    if waiting:
        out |= {"tenure_pending": len(waiting), "tenure_ids": ",".join(waiting)}
    failed = [(i, reply) for i, reply in enumerate(replies) if isinstance(reply, TenureError)]
    if failed:
        row, first = failed[0]
        out |= {"tenure_failed": len(failed), "tenure_error": f"row {row}: {first.message}"}
    return out
