"""Records: one JSON object, or ``{"rows": [...]}``, in; predictions by name out.

``POST /predict/MODEL`` and ``POST /predict/MODEL/versions/VERSION``. Faults are problem details
(RFC 9457).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from trivet.hosts.service.answers import Answer
from trivet.hosts.service.exchange import (
    LARGE_BYTES,
    LARGE_ROWS,
    Context,
    Handler,
    Reply,
    Request,
    aside,
    is_large,
)
from trivet.hosts.service.faults import HTTP, BadRows, Problems, Refused
from trivet.hosts.service.protocols import arrow
from trivet.hosts.service.protocols.columns import (
    MAX_BAD,
    MAX_PROBLEMS,
    check_size,
    gathered,
    loose,
)
from trivet.hosts.service.protocols.problems import with_errors
from trivet.hosts.service.serving import Models, Served
from trivet.records import UNREADABLE, Record
from trivet.validation import Decoded

PREFIX = "/predict/"

_PROBLEM = [(b"content-type", b"application/problem+json")]

_encode = msgspec.json.Encoder().encode


class _Rows(msgspec.Struct, gc=False):
    rows: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


_rows = msgspec.json.Decoder(_Rows)


class _Object(msgspec.Struct, gc=False):
    """Any object; what is in it is passed over."""


class _Objects(msgspec.Struct, gc=False):
    rows: list[_Object] | msgspec.UnsetType = msgspec.UNSET


_objects = msgspec.json.Decoder(_Objects)
_list = msgspec.json.Decoder(list[msgspec.Raw])


class One(msgspec.Struct, gc=False):
    """The answer for one row."""

    id: str
    model: str
    version: str
    digest: str
    prediction: dict[str, Any]


class Many(msgspec.Struct, gc=False):
    """The answer for several rows; null stands in the place of a row that is in ``errors``."""

    ids: list[str]
    model: str
    version: str
    digest: str
    predictions: list[dict[str, Any] | None]


def route(method: str, path: str) -> Handler | None:
    """See `trivet.hosts.service.exchange.Protocol`."""
    if not path.startswith(PREFIX):
        return None
    if method != "POST":
        raise Refused("method", "send the row with POST")
    return predict


async def predict(context: Context, request: Request) -> Reply:
    """Answer one request."""
    if arrow.handles(request):
        return await arrow.predict(context, request)
    name, _, version = request.path[len(PREFIX) :].partition("/versions/")
    served = context.models.find(name, version or None)
    _check_type(request)
    limit = context.settings.max_rows
    body = request.body
    large = is_large(body) if b'"rows"' in body else len(body) > LARGE_BYTES
    rows, count, beside = await aside(large, _decode, body, served, limit)
    answer = await context.score(
        served, rows, 1 if count is None else count, request.deadline, beside=beside
    )
    if count is None:
        return Reply(_one(answer, served, request.id))
    return Reply(await aside(count > LARGE_ROWS, _many, answer, served, request.id))


def asked(path: str, kind: bytes | None, body: bytes, models: Models) -> Served | None:
    """Return the model of the commonest request: one small row for a default version.

    None for all others, which are `predict`'s.
    """
    if kind is not None and kind != b"application/json":
        return None
    if not path.startswith(PREFIX) or len(body) > LARGE_BYTES or b'"rows"' in body:
        return None
    family = models.families.get(path[len(PREFIX) :])
    return None if family is None else family.versions[family.default]


def written(answer: Answer, served: Served, name: str) -> Reply:
    """Return the answer for one row.

    Raises:
        BadRows: The row was rejected.
    """
    return Reply(_one(answer, served, name))


def _check_type(request: Request) -> None:
    """Refuse a body that says it is something else than JSON; one that says nothing is read."""
    given = request.header(b"content-type")
    if given is None or given == b"application/json":
        return
    kind = given.partition(b";")[0].strip().lower()
    if kind and kind != b"application/json" and not kind.endswith(b"+json"):
        raise Refused("media_type", "send application/json or application/vnd.apache.arrow.stream")


def fault(kind: str, detail: str, problems: Problems) -> Reply:
    """See `trivet.hosts.service.exchange.Protocol`."""
    status, title = HTTP[kind]
    body: dict[str, Any] = {
        "type": f"urn:trivet:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if len(problems) > MAX_PROBLEMS:
        body["detail"] = f"{detail}; and so on: more than {MAX_PROBLEMS} problems"
        problems = problems.first(MAX_BAD)
    return Reply(with_errors(_encode(body), problems), status, list(_PROBLEM))


Rows = tuple[Sequence[Record] | Decoded, int | None, pa.RecordBatch | None]
"""Rows, how many (None for a single object), and the key's columns unless the rows carry them."""


def _decode(body: bytes, served: Served, limit: int) -> Rows:
    """Read a request's rows; what cannot be read is one that is rejected."""
    if b'"rows"' in body and "rows" not in served.model.inputs.names:
        try:
            if len(body) > LARGE_BYTES:
                _check_large(body, len(served.model.inputs), limit)
            several = _rows.decode(body).rows
        except msgspec.ValidationError as error:
            raise Refused("bad_request", f"rows must be a list of objects: {error}") from None
        except UNREADABLE:
            return _loosely(body, served, limit)
        if several is not msgspec.UNSET:
            _check_count(len(several), limit)
            return _several(served, map(served.reader.read, several), len(several))
    row = served.reader.read(body)
    if row.problems and body.lstrip().startswith(b"[") and _is_list(body):
        row = served.reader.unread('the row is a list, not an object; send rows as {"rows": [...]}')
    return _single(row)


def _is_list(body: bytes) -> bool:
    try:
        _list.decode(body)
    except UNREADABLE:
        return False
    return True


def _single(row: Record) -> Rows:
    return [row], None, None


def _several(served: Served, rows: Iterable[Record], count: int) -> Rows:
    if count <= LARGE_ROWS:
        return list(rows), count, None
    decoded, beside = gathered(served.reader, rows)
    return decoded, count, beside


def _check_large(body: bytes, width: int, limit: int) -> None:
    """Refuse a list of far too many rows, objects or not, before an object is made of each.

    Raises:
        Refused: There are too many objects.
        ValidationError: There are many values that are in no object.
    """
    check_size(body, width, limit)
    if body.count(b",") - body.count(b":") > limit:  # an object's members have a colon each
        _objects.decode(body)


def _loosely(body: bytes, served: Served, limit: int) -> Rows:
    """Read what only a reader takes that lets NaN through: one such row is no other row's fault."""
    try:
        check_size(body, len(served.model.inputs), limit)
        found = loose(body)
    except Refused:
        return _single(served.reader.read(body))  # it says what is wrong
    if isinstance(found, dict) and isinstance(found.get("rows"), list):
        _check_count(len(found["rows"]), limit)
        rows = found["rows"]
        return _several(served, map(served.reader.read_object, rows), len(rows))
    return _single(served.reader.read_object(found))


def _check_count(count: int, limit: int) -> None:
    if count > limit:
        raise Refused("too_large", f"{count} rows; a request may have {limit}")


def _one(answer: Answer, served: Served, name: str) -> bytes:
    place = answer.places[0]
    if place < 0:
        raise BadRows(answer.problems)
    model = served.model
    values = answer.batch.values()
    row = {n: column[place] for n, column in zip(model.outputs.names, values, strict=True)}
    return _encode(One(name, model.name, model.version, model.digest, row))


def _many(answer: Answer, served: Served, name: str) -> bytes:
    if len(answer.problems) > MAX_PROBLEMS:
        raise BadRows(answer.problems)
    model, values = served.model, answer.batch.values()
    outputs = model.outputs.names
    predictions: list[dict[str, Any] | None] = [
        None if place < 0 else {n: column[place] for n, column in zip(outputs, values, strict=True)}
        for place in answer.places
    ]
    count = len(predictions)
    ids = [name] if count == 1 else [f"{name}-{row}" for row in range(count)]
    told = Many(ids, model.name, model.version, model.digest, predictions)
    return with_errors(_encode(told), answer.problems)
