"""The Open Inference Protocol over gRPC, on a port of its own that all workers share. Needs the extra `grpc`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
import msgspec
import numpy as np

from tenure.clock import Clock
from tenure.deploy.serving.control_page import ControlPage, Slot
from tenure.deploy.serving.oip.body import Sent
from tenure.deploy.serving.oip.messages import (
    InferRequest,
    OutputParameters,
    Parameter,
    RequestedOutput,
    RequestParameters,
    TensorMetadata,
)
from tenure.deploy.serving.oip.rpc_messages import CALLS, CONTENTS, SERVICE, message_classes
from tenure.deploy.serving.oip.service import Answered, Service
from tenure.deploy.serving.oip.tensors import DTYPES, Tensor, count, fault, from_bytes, of_bytes, to_bytes
from tenure.deploy.serving.predict.core import Core
from tenure.errors import CaseError, TenureError
from tenure.scope.project import Server
from tenure.seeds import fresh_u64

_log = logging.getLogger("tenure.serving")
_HEAD_BYTES = 64 * 1024  # of a message beside its tensors
_STATUSES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION, 413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT, 422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE, 504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip

Context = Any
Handler = Callable[[Any, Context], Awaitable[Any]]


class RpcDoor:
    """The gRPC server of one worker: answers from `begin` to `end`."""

    def __init__(self, core: Core, *, page: ControlPage, slot: Slot, clock: Clock, server: Server) -> None:
        limit = max(desk.spec.serve.max_body for desk in core.desks.values()) + _HEAD_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
            ]
        )
        self._server.add_generic_rpc_handlers((handlers(Service(core, page=page, slot=slot, clock=clock), slot),))
        self._host = f"[{server.host}]" if ":" in server.host else server.host
        self._port = server.grpc_port

    async def begin(self) -> int:
        """Listen on the port that all workers share, and return it.

        Raises:
            RuntimeError: the port cannot be bound.
        """
        port: int = self._server.add_insecure_port(f"{self._host}:{self._port}")
        await self._server.start()
        return port

    async def end(self, seconds: float) -> None:
        """Take no new calls; those in hand have so long."""
        await self._server.stop(seconds)


def handlers(service: Service, slot: Slot) -> grpc.GenericRpcHandler:
    """Return what answers the calls of the protocol."""
    messages = message_classes()
    doors = _Doors(service, messages)
    own: dict[str, Handler] = {
        "ServerLive": doors.live, "ServerReady": doors.ready, "ModelReady": doors.model_ready,
        "ServerMetadata": doors.server, "ModelMetadata": doors.model, "ModelInfer": doors.infer,
    }  # fmt: skip
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(own[name], slot),
                request_deserializer=messages[f"{name}Request"].FromString,
                response_serializer=messages[f"{name}Response"].SerializeToString,
            )
            for name in CALLS
        },
    )


class _Doors:
    def __init__(self, service: Service, messages: Mapping[str, Any]) -> None:
        self._service = service
        self._made = messages

    async def live(self, request: Any, context: Context) -> Any:
        return self._made["ServerLiveResponse"](live=True)

    async def ready(self, request: Any, context: Context) -> Any:
        return self._made["ServerReadyResponse"](ready=self._service.ready())

    async def server(self, request: Any, context: Context) -> Any:
        return self._made["ServerMetadataResponse"](**msgspec.structs.asdict(self._service.server()))

    async def model_ready(self, request: Any, context: Context) -> Any:
        desk = self._service.desk(_token(context), request.name, request.version)
        return self._made["ModelReadyResponse"](ready=self._service.model_ready(desk))

    async def model(self, request: Any, context: Context) -> Any:
        told = self._service.model(self._service.desk(_token(context), request.name, request.version))
        return self._made["ModelMetadataResponse"](
            name=told.name, versions=told.versions, platform=told.platform,
            inputs=self._tensors(told.inputs), outputs=self._tensors(told.outputs),
        )  # fmt: skip

    async def infer(self, request: Any, context: Context) -> Any:
        token = _token(context)
        desk = self._service.desk(token, request.model_name, request.model_version)
        if request.ByteSize() > desk.spec.serve.max_body + _HEAD_BYTES:
            raise CaseError(
                f"the message is larger than {desk.spec.serve.max_body} bytes", code="too_large", status=413
            )
        answered = await self._service.infer(
            desk, Sent(_request(request), _sent(request)), token=token,
            unit=_told(context, "tenure-unit") or None, deadline_s=context.time_remaining() or 0.0,
        )  # fmt: skip
        return self._answer(answered, raw=bool(request.raw_input_contents))

    def _tensors(self, told: Iterable[TensorMetadata]) -> list[Any]:
        make = self._made["TensorMetadata"]
        return [make(name=each.name, datatype=each.datatype, shape=each.shape) for each in told]

    def _answer(self, answered: Answered, *, raw: bool) -> Any:
        """Write an answer: raw where the request was, else typed."""
        said = answered.response
        out = self._made["ModelInferResponse"](
            model_name=said.model_name, model_version=said.model_version, id=said.id
        )
        for name, value in said.parameters.items():
            _put(out.parameters[name], value)
        for tensor in answered.tensors:
            made = out.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if raw:
                out.raw_output_contents.append(to_bytes(tensor))
            else:
                getattr(made.contents, CONTENTS[tensor.datatype]).extend(tensor.data.ravel().tolist())
        return out


def _guarded(handler: Handler, slot: Slot) -> Handler:
    """Turn every error into a gRPC status, and count it."""

    async def answer(request: Any, context: Context) -> Any:
        try:
            return await handler(request, context)
        except TenureError as error:
            slot.add("refused")
            status, text = _STATUSES.get(error.status, grpc.StatusCode.INTERNAL), error.message
        except Exception:  # noqa: BLE001  # the edge: a bug must not look like a dead server
            number = f"{fresh_u64():016x}"
            _log.exception("fault %s while answering %s", number, SERVICE)
            slot.add("faults")
            status, text = grpc.StatusCode.INTERNAL, f"a fault of the server; its log has it as {number}"
        return await context.abort(status, text)

    return answer


def _told(context: Context, name: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else ""
    return ""


def _token(context: Context) -> str:
    scheme, _, token = _told(context, "authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _request(request: Any) -> InferRequest:
    outputs = [RequestedOutput(each.name, _wish(each.parameters)) for each in request.outputs]
    timeout = _whole(request.parameters, "timeout")
    return InferRequest([], request.id, RequestParameters(timeout=timeout), outputs)


def _wish(parameters: Any) -> OutputParameters:
    shared = "" if "shared_memory_region" in parameters else None
    return OutputParameters(classification=_whole(parameters, "classification"), shared_memory_region=shared)


def _whole(parameters: Any, name: str) -> int:
    """Return an integer parameter, 0 without it; looking one up in a map of messages would make it."""
    if name not in parameters:
        return 0
    value = parameters[name]
    return int(value.int64_param or value.uint64_param)


def _put(parameter: Any, value: Parameter) -> None:
    if isinstance(value, str):
        parameter.string_param = value
    elif isinstance(value, int):
        parameter.int64_param = value


def _sent(request: Any) -> list[Tensor]:
    """Return the tensors of a request.

    Raises:
        CaseError: 400, typed and raw data are mixed, or data do not fit their datatype or shape.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise CaseError(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs",
            code="invalid_body", at="raw_input_contents", status=400,
        )  # fmt: skip
    return [_tensor(each, raw[i] if raw else None) for i, each in enumerate(request.inputs)]


def _tensor(sent: Any, raw: bytes | None) -> Tensor:
    name, datatype, shape = sent.name, sent.datatype, list(sent.shape)
    if "shared_memory_region" in sent.parameters:
        raise fault(name, "shared memory is not offered; send the data")
    if raw is not None:
        if sent.HasField("contents"):
            raise fault(name, "it has both `contents` and raw data")
        return from_bytes(name, datatype, shape, raw)
    size = count(name, datatype, shape)
    if datatype not in CONTENTS:
        raise fault(name, f"{datatype} has no typed contents; send raw_input_contents")
    values = list(getattr(sent.contents, CONTENTS[datatype]))
    if len(values) != size:
        raise fault(
            name, f"unexpected number of elements {len(values)} in {CONTENTS[datatype]}, expecting {size}"
        )
    if datatype == "BYTES":
        return of_bytes(name, values, shape)
    try:
        return Tensor(name, datatype, np.array(values, DTYPES[datatype]).reshape(shape))
    except OverflowError as error:
        raise fault(name, f"its data are no {datatype}: {error}") from error
