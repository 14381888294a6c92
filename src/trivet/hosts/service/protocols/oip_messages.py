"""The messages of the Open Inference Protocol over gRPC, built from their field numbers.

The numbers and types are the protocol's; nothing generated, and nothing of it in protobuf's
default pool, where a client library of the same protocol in this process would meet its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from trivet.hosts.service.faults import Refused

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_PARAMETERS = "map"
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ((1, "live", "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ((1, "ready", "bool"),),
    "ModelReadyRequest": ((1, "name", "string"), (2, "version", "string")),
    "ModelReadyResponse": ((1, "ready", "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (
        (1, "name", "string"),
        (2, "version", "string"),
        (3, "extensions", "string*"),
    ),
    "ModelMetadataRequest": ((1, "name", "string"), (2, "version", "string")),
    "ModelMetadataResponse.TensorMetadata": (
        (1, "name", "string"),
        (2, "datatype", "string"),
        (3, "shape", "int64*"),
    ),
    "ModelMetadataResponse": (
        (1, "name", "string"),
        (2, "versions", "string*"),
        (3, "platform", "string"),
        (4, "inputs", "ModelMetadataResponse.TensorMetadata*"),
        (5, "outputs", "ModelMetadataResponse.TensorMetadata*"),
    ),
    "InferParameter": (
        (1, "bool_param", "bool"),
        (2, "int64_param", "int64"),
        (3, "string_param", "string"),
        (4, "double_param", "double"),
        (5, "uint64_param", "uint64"),
    ),
    "InferTensorContents": (
        (1, "bool_contents", "bool*"),
        (2, "int_contents", "int32*"),
        (3, "int64_contents", "int64*"),
        (4, "uint_contents", "uint32*"),
        (5, "uint64_contents", "uint64*"),
        (6, "fp32_contents", "float*"),
        (7, "fp64_contents", "double*"),
        (8, "bytes_contents", "bytes*"),
    ),
    "ModelInferRequest.InferInputTensor": (
        (1, "name", "string"),
        (2, "datatype", "string"),
        (3, "shape", "int64*"),
        (4, "parameters", _PARAMETERS),
        (5, "contents", "InferTensorContents"),
    ),
    "ModelInferRequest.InferRequestedOutputTensor": (
        (1, "name", "string"),
        (2, "parameters", _PARAMETERS),
    ),
    "ModelInferRequest": (
        (1, "model_name", "string"),
        (2, "model_version", "string"),
        (3, "id", "string"),
        (4, "parameters", _PARAMETERS),
        (5, "inputs", "ModelInferRequest.InferInputTensor*"),
        (6, "outputs", "ModelInferRequest.InferRequestedOutputTensor*"),
        (7, "raw_input_contents", "bytes*"),
    ),
    "ModelInferResponse.InferOutputTensor": (
        (1, "name", "string"),
        (2, "datatype", "string"),
        (3, "shape", "int64*"),
        (4, "parameters", _PARAMETERS),
        (5, "contents", "InferTensorContents"),
    ),
    "ModelInferResponse": (
        (1, "model_name", "string"),
        (2, "model_version", "string"),
        (3, "id", "string"),
        (4, "parameters", _PARAMETERS),
        (5, "outputs", "ModelInferResponse.InferOutputTensor*"),
        (6, "raw_output_contents", "bytes*"),
    ),
}
"""Full name to the fields: number, name, type; ``*`` for a repeated one."""

_Field = descriptor_pb2.FieldDescriptorProto
_ONE_OF = "InferParameter"


def _add(field: Any, owner: Any, path: str, kind: str) -> None:
    repeated = kind.endswith("*") or kind == _PARAMETERS
    field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    name = kind.rstrip("*")
    if name == _PARAMETERS:
        entry = owner.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add(entry.field.add(name="key", number=1), entry, "", "string")
        _add(entry.field.add(name="value", number=2), entry, "", _ONE_OF)
        name = f"{path}.ParametersEntry"
    if name[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{name}"
    else:
        field.type = getattr(_Field, f"TYPE_{name.upper()}")
    if path == _ONE_OF:
        field.oneof_index = 0


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="trivet/open_inference.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, Any] = {}
    for path in sorted(_MESSAGES, key=lambda path: path.count(".")):
        outer, _, inner = path.rpartition(".")
        message = made[outer].nested_type.add() if outer else file.message_type.add()
        message.name = inner
        made[path] = message
        if path == _ONE_OF:
            message.oneof_decl.add(name="parameter_choice")
        for number, name, kind in _MESSAGES[path]:
            _add(message.field.add(name=name, number=number), message, path, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        path: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{path}"))
        for path in _MESSAGES
    }


MESSAGES = _build()
"""Message classes by their name within the package."""

_WIDTHS = {6: 4, 7: 8}
"""Bytes of a value of `fp32_contents` and `fp64_contents`; the others end below 128."""


def check_members(body: bytes, most: int) -> None:
    """Refuse a message of far more members than a request has use for, before it is parsed.

    A tensor or a text of two bytes takes many times as much once it is an object. What is no
    message is left to the parser to refuse.

    Raises:
        Refused: There are too many.
    """
    pending = [(0, len(body), 0)]
    try:
        while pending:
            at, end, depth = pending.pop()
            while at < end:
                most -= 1
                tag, at = _varint(body, at)
                kind = tag & 7
                if kind == 2:
                    size, at = _varint(body, at)
                    field, last = tag >> 3, min(at + size, end)
                    if field == 5 and depth < 2:  # a request's tensors, a tensor's contents
                        pending.append((at, last, depth + 1))
                    elif (depth, field) == (1, 3) or (depth == 2 and field < 8):  # side by side
                        most -= _values(body, at, last, _WIDTHS.get(field if depth == 2 else 0))
                    at += size
                elif kind == 0:
                    _, at = _varint(body, at)
                elif kind in (1, 5):
                    at += 8 if kind == 1 else 4
                else:
                    return
                if most < 0:
                    raise Refused("too_large", "the message has too many tensors or values")
    except IndexError:
        return


def _values(body: bytes, at: int, end: int, width: int | None) -> int:
    """Count the values of a repeated field of numbers."""
    if at >= end:
        return 0
    if width is not None:
        return (end - at) // width
    return int(np.count_nonzero(np.frombuffer(body, np.uint8, end - at, at) < 128))


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place behind it."""
    value = shift = 0
    while body[at] > 127:
        value |= (body[at] & 127) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise IndexError(at)
    return value | body[at] << shift, at + 1
