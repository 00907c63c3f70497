"""The JSON messages of the Open Inference Protocol, as typed values; unknown keys are ignored."""

from __future__ import annotations

from typing import Any

import msgspec

Parameter = str | int | float | bool | None


class TensorParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What this server reads of a tensor's parameters.

    Attributes:
        binary_data_size: bytes of the tensor behind the JSON header; None = its data are in the JSON.
        content_type: `base64` where the texts of a BYTES tensor in JSON are base64.
        shared_memory_region: not offered here.
    """

    binary_data_size: int | None = None
    content_type: str | None = None
    shared_memory_region: str | None = None


class InputTensor(msgspec.Struct, frozen=True):
    """A tensor that a client sends; `data` is read when its datatype and shape are known."""

    name: str
    shape: list[int]
    datatype: str
    parameters: TensorParameters | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OutputParameters(msgspec.Struct, frozen=True):
    """How a client wants an output: as binary data, as its highest classes, or in shared memory (not offered)."""

    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output that a client asks for."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(msgspec.Struct, frozen=True):
    """What this server reads of a request's parameters; `timeout` is in microseconds."""

    binary_data_output: bool = False
    timeout: int = 0


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON part of an inference request."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: RequestParameters | None = None
    outputs: list[RequestedOutput] | None = None


class OutputTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tensor that the server sends; without `data` it follows the JSON in binary."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: TensorParameters | None = None
    data: list[Any] | None = None


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON part of an answer. `model_version` is there when one version decided every row."""

    model_name: str
    outputs: list[OutputTensor]
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Parameter] = {}


class TensorMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tensor of a model; -1 is a dimension of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Parameter] = {}


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a model takes and answers."""

    name: str
    versions: list[str]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class ServerMetadata(msgspec.Struct, frozen=True):
    """What a server is and which extensions it has."""

    name: str
    version: str
    extensions: tuple[str, ...]
