"""The Open Inference Protocol, version 2, over REST: what Triton, KServe and MLServer speak.

Tensors come and go as JSON or, by the binary data extension, as bytes behind the JSON; see
`trivet.hosts.service.protocols.tensors` for what they may be.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from trivet.hosts.service.answers import Answer
from trivet.hosts.service.exchange import (
    LARGE_ROWS,
    Context,
    Handler,
    Reply,
    Request,
    all_good,
    aside,
    is_large,
)
from trivet.hosts.service.faults import HTTP, Problems, Refused
from trivet.hosts.service.protocols.columns import check_size, check_values, loose, tell
from trivet.hosts.service.protocols.outputs import check_requested, outputs_of
from trivet.hosts.service.protocols.tensors import (
    OF_FIELD,
    Rows,
    Tensor,
    refused,
    rows_of,
)
from trivet.hosts.service.serving import Served
from trivet.records import UNREADABLE
from trivet.schema import Schema

PLATFORM = "trivet"
EXTENSIONS = ["binary_tensor_data"]
ABOUT = 20
"""So much at most is said of each tensor beside its values."""

HEADER = b"inference-header-content-length"

_encode = msgspec.json.Encoder().encode


@cache
def version() -> str:
    """Return the version of this program."""
    return importlib.metadata.version("trivet")


class Input(msgspec.Struct, gc=False):
    """A tensor of a request, as it is written."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


class Wanted(msgspec.Struct, gc=False):
    """An output that a request asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class Infer(msgspec.Struct, gc=False):
    """A request."""

    inputs: list[Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Wanted] | None = None


_infer = msgspec.json.Decoder(Infer)


def route(method: str, path: str) -> Handler | None:
    """See `trivet.hosts.service.exchange.Protocol`."""
    if path != "/v2" and not path.startswith("/v2/"):
        return None
    right = "GET"
    match path.rstrip("/").split("/")[2:]:
        case []:
            handler: Handler = _server
        case ["health", "live"]:
            handler = _live
        case ["health", "ready"]:
            handler = _ready
        case ["models", _] | ["models", _, "versions", _]:
            handler = _model
        case ["models", _, "ready"] | ["models", _, "versions", _, "ready"]:
            handler = _model_ready
        case ["models", _, "infer"] | ["models", _, "versions", _, "infer"]:
            handler, right = infer, "POST"
        case _:
            raise Refused("not_found", f"nothing is served at {path[:100]}")
    if method != right:
        raise Refused("method", f"{path[:100]} is for {right}")
    return handler


def fault(kind: str, detail: str, problems: Problems) -> Reply:
    """See `trivet.hosts.service.exchange.Protocol`."""
    status = 400 if kind == "bad_rows" else HTTP[kind][0]
    return Reply(_encode({"error": tell(problems) or detail}), status)


async def infer(context: Context, request: Request) -> Reply:
    """Answer one inference request."""
    served = _served(context, request)
    asked, rows = await aside(is_large(request.body), _asked, context, request, served)
    count = rows.decoded.batch.num_rows
    answer = all_good(
        await context.score(served, rows.decoded, count, request.deadline, beside=rows.beside)
    )
    return await aside(count > LARGE_ROWS, _reply, served, answer, asked, request.id)


def _asked(context: Context, request: Request, served: Served) -> tuple[Infer, Rows]:
    model = served.model
    text, binary = _parts(request)
    max_rows, key = context.settings.max_rows, context.models.key
    check_size(text, len(model.inputs), max_rows)
    tensors = len(model.inputs) + len(key) + len(model.outputs)
    check_values(text, (max_rows + ABOUT) * tensors + 1000)
    try:
        asked = _read(text)
    except Refused as error:
        if request.header(HEADER) is None and b"binary_data_size" in request.body:
            raise Refused(
                "bad_request",
                f"{error.detail}; where bytes follow the JSON, the header "
                "Inference-Header-Content-Length must say how long it is",
            ) from None
        raise
    given = _tensors(asked.inputs, binary)
    wanted = asked.outputs or []
    requested = [output.name for output in wanted]
    check_requested(requested, model.outputs)
    return asked, rows_of(given, model.inputs, key, max_rows)


async def _server(context: Context, request: Request) -> Reply:
    return _json({"name": PLATFORM, "version": version(), "extensions": EXTENSIONS})


async def _live(context: Context, request: Request) -> Reply:
    return _json({"live": True})


async def _ready(context: Context, request: Request) -> Reply:
    if not context.ready:
        raise Refused("not_ready", "the service is stopping")
    return _json({"ready": True})


async def _model(context: Context, request: Request) -> Reply:
    return _json(metadata(context, _served(context, request)))


async def _model_ready(context: Context, request: Request) -> Reply:
    served = _served(context, request)
    if not context.ready:
        raise Refused("not_ready", "the service is stopping")
    return _json({"name": served.name, "ready": True})


def metadata(context: Context, served: Served) -> dict[str, Any]:
    """Describe a model."""
    return {
        "name": served.name,
        "versions": list(context.models.families[served.name].versions),
        "platform": PLATFORM,
        "inputs": _described(served.model.inputs),
        "outputs": _described(served.model.outputs),
    }


def _described(schema: Schema) -> list[dict[str, Any]]:
    return [{"name": f.name, "datatype": OF_FIELD[f.type], "shape": [-1]} for f in schema]


def _json(body: object) -> Reply:
    return Reply(_encode(body))


def _served(context: Context, request: Request) -> Served:
    parts = request.path.split("/")
    asked = parts[5] if len(parts) > 5 and parts[4] == "versions" else None
    return context.models.find(parts[3], asked)


def _parts(request: Request) -> tuple[memoryview, memoryview]:
    """Return a request's JSON, and the bytes behind it."""
    body = memoryview(request.body)
    header = request.header(HEADER)
    length = len(body)
    if header is not None:
        if not re.fullmatch(rb"[0-9]{1,12}", header) or int(header) > len(body):
            raise Refused(
                "bad_request",
                f"Inference-Header-Content-Length is {header[:20].decode('latin-1')!r}; it must be "
                f"the length of the JSON, and the body has {len(body)} bytes",
            )
        length = int(header)
    return body[:length], body[length:]


def _read(text: memoryview) -> Infer:
    try:
        return _infer.decode(text)
    except UNREADABLE as unread:
        found = loose(text, unread)
        try:
            return msgspec.convert(found, Infer)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Refused("bad_request", _misread(found, str(error))) from None


def _misread(found: Any, error: str) -> str:
    """Say what is wrong with a request, by the tensor's name if it has one."""
    place = re.search(r"\$\.(inputs|outputs)\[(\d+)\]", error)
    name = None
    if place is not None:
        tensor = found[place[1]][int(place[2])]
        name = tensor.get("name") if isinstance(tensor, dict) else None
    return f"tensor {name!r}: {error}" if isinstance(name, str) else f"the request: {error}"


def _tensors(inputs: Sequence[Input], binary: memoryview) -> list[Tensor]:
    """Give each input its values, or its share of the bytes."""
    tensors, place = [], 0
    for given in inputs:
        size = (given.parameters or {}).get("binary_data_size")
        data: list[Any] | memoryview
        if size is None:
            if given.data is msgspec.UNSET:
                raise refused(given.name, "has neither data nor a binary_data_size")
            data = given.data
        else:
            if given.data is not msgspec.UNSET:
                raise refused(given.name, "has both data and a binary_data_size")
            if type(size) is not int or not 0 <= size <= len(binary) - place:
                raise refused(
                    given.name,
                    f"has a binary_data_size of {str(size)[:20]}; "
                    f"{len(binary) - place} bytes are left of the body",
                )
            data = binary[place : place + size]
            place += size
        tensors.append(Tensor(given.name, given.datatype, given.shape, data))
    if place != len(binary):
        raise Refused(
            "bad_request",
            f"{len(binary) - place} bytes follow the JSON that are in no tensor's binary_data_size",
        )
    return tensors


def _reply(served: Served, answer: Answer, asked: Infer, name: str) -> Reply:
    model = served.model
    every = bool((asked.parameters or {}).get("binary_data_output", False))
    as_bytes = {
        output.name: bool((output.parameters or {}).get("binary_data", every))
        for output in asked.outputs or ()
    }
    outputs, binary = [], []
    for output in outputs_of(answer, model.outputs, list(as_bytes)):
        told: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": [len(output.column)],
        }
        if as_bytes.get(output.name, every):
            data = output.binary()
            binary.append(data)
            told["parameters"] = {"binary_data_size": len(data)}
        else:
            told["data"] = output.values()
        outputs.append(told)
    head = _encode(
        {
            "model_name": served.name,
            "model_version": model.version,
            "id": name if asked.id is None else asked.id,
            "parameters": {"digest": model.digest},
            "outputs": outputs,
        }
    )
    if not binary:
        return Reply(head)
    headers = [
        (b"content-type", b"application/octet-stream"),
        (HEADER, str(len(head)).encode()),
    ]
    return Reply(b"".join([head, *binary]), headers=headers)
