"""The gRPC messages of the Open Inference Protocol, built at run time from a table of names and field numbers.

Names and numbers are those of the protocol; they live in a pool of their own, so that a client library in the
same process may register its own classes under the same names. Needs the extra `grpc`.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

_PARAMETERS = "map InferParameter"
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {
        "name": (1, "string"), "version": (2, "string"), "extensions": (3, "list string"),
    },
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "list int64")},
    "ModelMetadataResponse": {
        "name": (1, "string"), "versions": (2, "list string"), "platform": (3, "string"),
        "inputs": (4, "list TensorMetadata"), "outputs": (5, "list TensorMetadata"),
    },
    "InferParameter": {
        "bool_param": (1, "one bool"), "int64_param": (2, "one int64"), "string_param": (3, "one string"),
        "double_param": (4, "one double"), "uint64_param": (5, "one uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "list bool"), "int_contents": (2, "list int32"), "int64_contents": (3, "list int64"),
        "uint_contents": (4, "list uint32"), "uint64_contents": (5, "list uint64"),
        "fp32_contents": (6, "list float"), "fp64_contents": (7, "list double"),
        "bytes_contents": (8, "list bytes"),
    },
    "InferTensor": {
        "name": (1, "string"), "datatype": (2, "string"), "shape": (3, "list int64"),
        "parameters": (4, _PARAMETERS), "contents": (5, "InferTensorContents"),
    },
    "InferRequestedOutput": {"name": (1, "string"), "parameters": (2, _PARAMETERS)},
    "ModelInferRequest": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"),
        "parameters": (4, _PARAMETERS), "inputs": (5, "list InferTensor"),
        "outputs": (6, "list InferRequestedOutput"), "raw_input_contents": (7, "list bytes"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"),
        "parameters": (4, _PARAMETERS), "outputs": (5, "list InferTensor"),
        "raw_output_contents": (6, "list bytes"),
    },
}  # fmt: skip
"""Message -> field -> (number, type); `list` repeats, `map` maps texts to it, `one` is a member of one choice."""

CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Where typed data of each datatype stand; FP16 and BF16 are raw only."""

CALLS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def message_classes() -> dict[str, Any]:
    """Return a class for each message, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="tenure/oip.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


def _add(message: Any, name: str, number: int, kind: str) -> None:
    form, _, inner = kind.rpartition(" ")
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if form == "map":
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add(entry, "key", 1, "string")
        _add(entry, "value", 2, inner)
        field.label = _Field.LABEL_REPEATED
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{message.name}.{entry.name}"
        return
    if form == "list":
        field.label = _Field.LABEL_REPEATED
    if form == "one":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if inner in _SCALARS:
        field.type = _SCALARS[inner]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{inner}"
