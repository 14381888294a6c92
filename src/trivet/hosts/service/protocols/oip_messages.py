"""The messages of the Open Inference Protocol over gRPC, built from their field numbers.

The numbers and types are the protocol's; nothing generated, and nothing of it in protobuf's
default pool, where a client library of the same protocol in this process would meet its own.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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
