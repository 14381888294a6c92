"""The Open Inference Protocol, version 2, over gRPC; on the event loop and models of the rest.

Contents come and go as typed values or raw bytes: an answer is raw if its request was.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from trivet.hosts.service.answers import Answer
from trivet.hosts.service.bodies import Bodies
from trivet.hosts.service.callers import admit, id_of
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
from trivet.hosts.service.protocols.oip_messages import MESSAGES, SERVICE, check_members
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
"""So many bytes of a status, as it is written, go into a trailer; gRPC takes 8 KB of all."""

MAX_CALLS = 1000
"""Calls that may be under way, whatever the size of what they send."""

_SIDES = 8
"""Sides of a tensor's shape that are looked at: two are more than enough."""

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
    bodies = Bodies(settings.max_body)
    start = secrets.token_hex(8)
    timeout = settings.timeout.total_seconds()
    count = 0

    def behaviour(method: str, answering: Answering, *, reads: bool = True) -> Any:
        kind = MESSAGES[f"{method}Request"]

        async def call(body: bytes, rpc: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            nonlocal count
            count += 1
            began = time.monotonic()
            given = _found(rpc.invocation_metadata())
            name = id_of(given.get(b"x-request-id")) or f"{start}-g{count:x}"
            context = make(name, began)
            status = grpc.StatusCode.CANCELLED
            held = 0
            try:
                left = rpc.time_remaining()
                deadline = began + (timeout if left is None else min(left, timeout))
                large = len(body) > LARGE_BYTES
                if large:
                    bodies.hold(len(body))
                    held = len(body)
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
                bodies.held -= held
                if watch is not None:
                    watch(method, context, status, time.monotonic() - began)
            if status is not grpc.StatusCode.OK:
                await rpc.abort(status, _cut(told), tuple(trailers))
            rpc.set_trailing_metadata((("x-request-id", name),))
            return reply  # type: ignore[no-any-return]

        async def unread(_: Any, rpc: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return await call(b"", rpc)

        if reads:
            return grpc.unary_unary_rpc_method_handler(call)
        return grpc.stream_unary_rpc_method_handler(unread)

    made = grpc.aio.server(
        maximum_concurrent_rpcs=min(MAX_CALLS, settings.max_connections),
        options=[
            ("grpc.max_receive_message_length", settings.max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
        ],
    )
    made.add_generic_rpc_handlers([_Calls([k.encode() for k in settings.api_keys], behaviour)])
    return made


class _Calls(grpc.GenericRpcHandler):
    """Finds what answers a call; a body is read only of one that has a key and a use for it."""

    def __init__(self, keys: Sequence[bytes], behaviour: Callable[..., Any]) -> None:
        self._keys = keys
        self._behaviour = behaviour
        self._handlers = {
            f"/{SERVICE}/{method}": behaviour(method, answering, reads=method not in _OPEN)
            for method, answering in _METHODS.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        handler = self._handlers.get(path)
        method = path.rpartition("/")[2]
        if handler is None or not self._keys or method in _OPEN:
            return handler
        try:
            admit(_found(handler_call_details.invocation_metadata), self._keys)
        except Refused:
            return self._behaviour(method, _keyless, reads=False)
        return handler


def _found(metadata: Any) -> dict[bytes, bytes]:
    """Return a call's metadata as a request's headers."""
    return {
        key.encode(): value.encode() if isinstance(value, str) else value
        for key, value in metadata or ()
    }


async def _keyless(context: Context, request: Any, deadline: float) -> Any:
    raise Refused(
        "unauthorized", "send one of the service's keys as x-api-key or as a Bearer token"
    )


def _cut(text: str) -> str:
    """Return as much of a text as a status may have, where most characters take 3 bytes a byte."""
    left = MAX_MESSAGE
    for place, char in enumerate(text):
        plain = " " <= char <= "~" and char != "%"
        left -= 1 if plain else 3 * len(char.encode(errors="surrogatepass"))
        if left < 0:
            return text[:place]
    return text


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
    sides = [tensor.shape[0] for tensor in request.inputs[:1] if tensor.shape]  # of all, if right
    large = max(sides, default=0) > LARGE_ROWS or request.ByteSize() > LARGE_BYTES
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
        shape = tuple(given.shape[: _SIDES + 1])  # to be refused, and told, a longer one is too
        tensors.append(Tensor(given.name, given.datatype, shape, data))
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
