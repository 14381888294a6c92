"""The Open Inference Protocol, version 2, over gRPC; on the event loop and models of the rest.

Contents come and go as typed values or raw bytes: an answer is raw if its request was.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from trivet.hosts.service.batcher import Answer
from trivet.hosts.service.exchange import (
    LARGE_BYTES,
    LARGE_ROWS,
    Context,
    all_good,
    aside,
    explain,
)
from trivet.hosts.service.faults import Refused
from trivet.hosts.service.protocols.columns import tell
from trivet.hosts.service.protocols.oip import EXTENSIONS, PLATFORM, metadata, version
from trivet.hosts.service.protocols.oip_messages import MESSAGES, SERVICE
from trivet.hosts.service.protocols.outputs import check_requested, outputs_of
from trivet.hosts.service.protocols.tensors import (
    BYTES,
    Rows,
    Tensor,
    refused,
    rows_of,
)
from trivet.hosts.service.serving import Served

STATUS = {
    "bad_request": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthorized": grpc.StatusCode.UNAUTHENTICATED,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "method": grpc.StatusCode.UNIMPLEMENTED,
    "slow": grpc.StatusCode.DEADLINE_EXCEEDED,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "media_type": grpc.StatusCode.INVALID_ARGUMENT,
    "bad_rows": grpc.StatusCode.INVALID_ARGUMENT,
    "model": grpc.StatusCode.INTERNAL,
    "busy": grpc.StatusCode.UNAVAILABLE,
    "crowded": grpc.StatusCode.UNAVAILABLE,
    "not_ready": grpc.StatusCode.UNAVAILABLE,
    "late": grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Kind of fault (see `trivet.hosts.service.faults.HTTP`) to status."""

_OPEN = ("ServerLive", "ServerReady")
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Datatype to the member that has its values."""

MAX_MEMBERS = 10_000
"""So many members a larger message may have, beside those that its rows need."""

MAX_MESSAGE = 4000
"""So many characters of a status go into a trailer; gRPC takes 8 KB of all of them."""

Answering = Callable[[Context, Any, float], Awaitable[Any]]
Watch = Callable[[str, Context, grpc.StatusCode, float], None]
"""Told of each call that is over: its method, what was learnt of it, its status and seconds."""


def server(make: Callable[[str, float], Context], watch: Watch | None = None) -> grpc.aio.Server:
    """Build a server, to be given its ports and started by the caller.

    Args:
        make: Makes the context of a call from its id and when it began.
        watch: Told of each call.
    """
    settings = make("", 0.0).settings
    keys = [key.encode() for key in settings.api_keys]
    start = secrets.token_hex(8)
    timeout = settings.timeout.total_seconds()
    count = 0

    def behaviour(method: str, answering: Answering) -> grpc.RpcMethodHandler[bytes, bytes]:
        kind = MESSAGES[f"{method}Request"]

        async def call(body: bytes, rpc: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            nonlocal count
            count += 1
            began = time.monotonic()
            given = dict(rpc.invocation_metadata() or ())
            name = _name(given.get("x-request-id")) or f"{start}-g{count:x}"
            context = make(name, began)
            status = grpc.StatusCode.CANCELLED
            try:
                if keys and method not in _OPEN:
                    _admit(given, keys)
                left = rpc.time_remaining()
                deadline = began + (timeout if left is None else min(left, timeout))
                large = len(body) > LARGE_BYTES
                request = await aside(large, _parsed, kind, body, _most(context) if large else None)
                reply = await answering(context, request, deadline)
                reply = reply.SerializeToString()
                status = grpc.StatusCode.OK
            except Exception as error:  # noqa: BLE001 - whatever it is, the call gets an answer
                fault, detail, problems = explain(error, name)
                status, told = STATUS[fault], tell(problems) or detail
                trailers = [("x-request-id", name)]
                if fault == "busy":
                    trailers.append(("grpc-retry-pushback-ms", "1000"))
            finally:
                if watch is not None:
                    watch(method, context, status, time.monotonic() - began)
            if status is not grpc.StatusCode.OK:
                await rpc.abort(status, told[:MAX_MESSAGE], tuple(trailers))
            rpc.set_trailing_metadata((("x-request-id", name),))
            return reply  # type: ignore[no-any-return]

        return grpc.unary_unary_rpc_method_handler(call)

    made = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
        ]
    )
    handlers = {method: behaviour(method, answering) for method, answering in _METHODS.items()}
    made.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    return made


def _name(given: object) -> str | None:
    """Return the caller's id of a request if it is a plain one."""
    if isinstance(given, str) and 0 < len(given) <= 128 and given.isprintable():
        return given
    return None


def _admit(given: dict[str, Any], keys: Sequence[bytes]) -> None:
    """Let a caller in who has one of the keys; every key is compared, in constant time."""
    shown = str(given.get("x-api-key", ""))
    scheme, _, credentials = str(given.get("authorization", "")).partition(" ")
    if not shown and scheme.lower() == "bearer":
        shown = credentials.strip()
    if not sum(hmac.compare_digest(shown.encode(), known) for known in keys):
        raise Refused(
            "unauthorized", "send one of the service's keys as x-api-key or as a Bearer token"
        )


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
                if most < 0:
                    raise Refused("too_large", "the message has too many tensors or values")
                tag, at = _varint(body, at)
                kind = tag & 7
                if kind == 2:
                    size, at = _varint(body, at)
                    if tag >> 3 == 5 and depth < 2:  # a request's tensors, a tensor's contents
                        pending.append((at, min(at + size, end), depth + 1))
                    at += size
                elif kind == 0:
                    _, at = _varint(body, at)
                elif kind in (1, 5):
                    at += 8 if kind == 1 else 4
                else:
                    return
    except IndexError:
        return


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


def _most(context: Context) -> int:
    """Return how many values a request may have, for the widest of the models."""
    families = context.models.families.values()
    widths = [len(v.model.inputs) for family in families for v in family.versions.values()]
    width = max(widths, default=0) + len(context.models.key)
    return context.settings.max_rows * width + MAX_MEMBERS


def _parsed(kind: Any, body: bytes, most: int | None) -> Any:
    if most is not None:
        check_members(body, most)
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise Refused("bad_request", f"not a {kind.DESCRIPTOR.name}: {error}") from None


async def _server_live(context: Context, request: Any, deadline: float) -> Any:
    return MESSAGES["ServerLiveResponse"](live=True)


async def _server_ready(context: Context, request: Any, deadline: float) -> Any:
    return MESSAGES["ServerReadyResponse"](ready=context.ready)


async def _server_metadata(context: Context, request: Any, deadline: float) -> Any:
    kind = MESSAGES["ServerMetadataResponse"]
    return kind(name=PLATFORM, version=version(), extensions=EXTENSIONS)


async def _model_ready(context: Context, request: Any, deadline: float) -> Any:
    context.models.find(request.name, request.version or None)
    return MESSAGES["ModelReadyResponse"](ready=context.ready)


async def _model_metadata(context: Context, request: Any, deadline: float) -> Any:
    served = context.models.find(request.name, request.version or None)
    return MESSAGES["ModelMetadataResponse"](**metadata(context, served))


async def _model_infer(context: Context, request: Any, deadline: float) -> Any:
    served = context.models.find(request.model_name, request.model_version or None)
    model = served.model
    raw = bool(request.raw_input_contents)
    requested = [output.name for output in request.outputs]
    check_requested(requested, model.outputs)
    large = request.ByteSize() > LARGE_BYTES
    rows = await aside(large, _rows, context, request, served)
    count = rows.decoded.batch.num_rows
    answer = all_good(
        await context.score(served, rows.decoded, count, deadline, beside=rows.beside)
    )
    name = request.id or context.name
    return await aside(count > LARGE_ROWS, _reply, served, answer, requested, raw, name)


def _rows(context: Context, request: Any, served: Served) -> Rows:
    tensors = _tensors(request, _most(context))
    return rows_of(tensors, served.model.inputs, context.models.key, context.settings.max_rows)


_METHODS: dict[str, Answering] = {
    "ServerLive": _server_live,
    "ServerReady": _server_ready,
    "ServerMetadata": _server_metadata,
    "ModelReady": _model_ready,
    "ModelMetadata": _model_metadata,
    "ModelInfer": _model_infer,
}


def _tensors(request: Any, most: int) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refused(
            "bad_request",
            f"raw_input_contents has {len(raw)} members for {len(request.inputs)} tensors",
        )
    tensors = []
    for place, given in enumerate(request.inputs):
        data: memoryview | list[object]
        if raw:
            if given.HasField("contents"):
                raise refused(given.name, "has contents, beside raw_input_contents")
            data = memoryview(raw[place])
        else:
            data = _typed(given, most)
        tensors.append(Tensor(given.name, given.datatype, tuple(given.shape), data))
    return tensors


def _typed(given: Any, most: int) -> list[object]:
    """Return the values of a tensor, which must be where its datatype has them."""
    member = _CONTENTS.get(given.datatype)
    for field, _ in given.contents.ListFields():
        if field.name != member:
            raise refused(
                given.name,
                f"has {field.name}; {given.datatype[:20]} has its values in "
                f"{member or 'raw_input_contents'}",
            )
    found: Sequence[object] = [] if member is None else getattr(given.contents, member)
    if len(found) > most:
        raise Refused("too_large", f"tensor {given.name[:100]!r} has too many values")
    values = list(found)
    if member != "bytes_contents":
        return values
    try:
        return [text.decode() for text in values]  # type: ignore[attr-defined]
    except UnicodeDecodeError:
        raise refused(given.name, "has a text that is not UTF-8") from None


def _reply(served: Served, answer: Answer, requested: Sequence[str], raw: bool, name: str) -> Any:
    model = served.model
    reply = MESSAGES["ModelInferResponse"](
        model_name=served.name, model_version=model.version, id=name
    )
    reply.parameters["digest"].string_param = model.digest
    for output in outputs_of(answer, model.outputs, requested):
        told = reply.outputs.add(
            name=output.name, datatype=output.datatype, shape=[len(output.column)]
        )
        if raw:
            reply.raw_output_contents.append(output.binary())
            continue
        if output.datatype == BYTES:
            values = [b"" if text is None else text.encode() for text in output.values()]
        else:
            values = output.numbers().tolist()
        getattr(told.contents, _CONTENTS[output.datatype]).extend(values)
    return reply
