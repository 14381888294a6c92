"""What ``mlflow models serve`` answers: ``/invocations``, ``/ping``, ``/health`` and ``/version``.

``/invocations`` is for the first of `models`, or for ``?model=NAME`` (and ``&version=VERSION``). A
frame's missing value (NaN, or an empty cell of CSV) is null where the field may be null. Rows
without names are read in the order of the model's inputs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pyarrow as pa

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
from trivet.hosts.service.protocols.cells import MAX_COLUMNS, read_csv
from trivet.hosts.service.protocols.columns import beside as beside_of
from trivet.hosts.service.protocols.columns import (
    check_size,
    parse,
    read,
    read_rows,
    tell,
)
from trivet.hosts.service.protocols.oip import version
from trivet.hosts.service.serving import Served
from trivet.records import Record
from trivet.schema import Schema
from trivet.validation import Decoded

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")

CODES = {
    "unauthorized": "UNAUTHENTICATED",
    "not_found": "RESOURCE_DOES_NOT_EXIST",
    "model": "INTERNAL_ERROR",
    "busy": "TEMPORARILY_UNAVAILABLE",
    "crowded": "TEMPORARILY_UNAVAILABLE",
    "not_ready": "TEMPORARILY_UNAVAILABLE",
    "late": "DEADLINE_EXCEEDED",
}
"""Kind of fault to MLflow's word for it; BAD_REQUEST for the others."""

Rows = tuple[Decoded | Sequence[Record], int, pa.RecordBatch | None]
"""Rows, how many, and the key's columns beside them unless they carry it."""

_encode = msgspec.json.Encoder().encode


def route(method: str, path: str) -> Handler | None:
    """See `trivet.hosts.service.exchange.Protocol`."""
    handler = _HANDLERS.get(path)
    if handler is None:
        return None
    right = "POST" if handler is invocations else "GET"
    if method != right:
        raise Refused("method", f"{path} is for {right}")
    return handler


def fault(kind: str, detail: str, problems: Problems) -> Reply:
    """See `trivet.hosts.service.exchange.Protocol`."""
    status = 400 if kind == "bad_rows" else HTTP[kind][0]
    code = CODES.get(kind, "BAD_REQUEST")
    return Reply(_encode({"error_code": code, "message": tell(problems) or detail}), status)


async def invocations(context: Context, request: Request) -> Reply:
    """Answer one request."""
    served = _served(context, request)
    large = is_large(request.body)
    rows, count, beside = await aside(large, _read, context, request, served)
    answer = all_good(await context.score(served, rows, count, request.deadline, beside=beside))
    return Reply(await aside(count > LARGE_ROWS, _written, answer))


def _read(context: Context, request: Request, served: Served) -> Rows:
    kind = (request.header(b"content-type") or b"application/json").decode("latin-1").lower()
    mime, _, parameters = kind.partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"') or "utf-8"
    if charset not in ("utf-8", "utf8"):
        raise Refused("media_type", f"only UTF-8 is read here, not {parameters.strip()[:60]!r}")
    if mime.strip() == "application/json":
        return _json(request.body, served, context)
    if mime.strip() == "text/csv":
        _check_count(request.body.count(b"\n") // 2, context.settings.max_rows)
        rows, beside = read_csv(request.body, served.model.inputs, context.models.key)
        return rows, rows.batch.num_rows, beside
    raise Refused("media_type", f"send application/json or text/csv, not {mime.strip()[:60]!r}")


def _written(answer: Answer) -> bytes:
    return _encode({"predictions": _predictions(answer)})


async def _ping(context: Context, request: Request) -> Reply:
    if not context.ready:
        raise Refused("not_ready", "the service is stopping")
    return Reply(b"\n")


async def _version(context: Context, request: Request) -> Reply:
    return Reply(version().encode())


_HANDLERS: Mapping[str, Handler] = {
    "/invocations": invocations,
    "/ping": _ping,
    "/health": _ping,
    "/version": _version,
}


def _served(context: Context, request: Request) -> Served:
    asked = {}
    if request.query:
        try:
            asked = parse_qs(request.query.decode("latin-1"), max_num_fields=100)
        except ValueError:
            raise Refused("bad_request", "the query has too many members") from None
    name, at = context.settings.pinned()[0]
    if "model" in asked:
        name, at = asked["model"][0], None
    if "version" in asked:
        at = asked["version"][0]
    return context.models.find(name, at)


def _json(body: bytes, served: Served, context: Context) -> Rows:
    check_size(body, len(served.model.inputs), context.settings.max_rows)
    found, loose = parse(body)
    if not isinstance(found, dict):
        raise Refused("bad_request", "the body must be a JSON object")
    given = [name for name in FORMATS if name in found]
    if len(given) != 1:
        raise Refused(
            "bad_request",
            f"the body must have exactly one of {', '.join(FORMATS)}; it has "
            f"{', '.join(given) or 'none'}",
        )
    (form,) = given
    schema = served.model.inputs
    content = found[form]
    max_rows = context.settings.max_rows
    if form == "dataframe_split":
        names, rows = _split(content, schema)
        columns = _turned(rows, names, form)
    elif form == "dataframe_records" or _are_objects(content):
        records = _records(content, served, form, loose, max_rows)
        return records, len(records), None
    elif isinstance(content, dict):
        columns = _named(content, form)
    else:
        columns = _turned(_rows(content, schema, form), schema.names, form)
    decoded, count = _frame(columns, schema, loose, max_rows)
    return decoded, count, beside_of(context.models.key, columns)


def _are_objects(content: object) -> bool:
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict)


def _split(content: object, schema: Schema) -> tuple[Sequence[str], Sequence[Any]]:
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise Refused("bad_request", "dataframe_split must be an object with the list data")
    names = content.get("columns")
    if names is None:
        return schema.names, content["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused("bad_request", "dataframe_split: columns must be a list of names")
    _check_width(names, "dataframe_split")
    times = Counter(names)
    for name in schema.names:
        if times[name] > 1:
            raise Refused("bad_request", f"dataframe_split: column {name!r} is there twice")
    return names, content["data"]


def _turned(rows: Sequence[Any], names: Sequence[str], form: str) -> dict[str, Sequence[Any]]:
    """Turn lists, one a row, into columns."""
    width = len(names)
    for row, values in enumerate(rows):
        if not isinstance(values, list) or len(values) != width:
            raise Refused(
                "bad_request",
                f"{form}: row {row} must be a list of {width} values: {', '.join(names[:20])}",
            )
    return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}


def _named(content: Mapping[str, Any], form: str) -> dict[str, Sequence[Any]]:
    """Take columns by name, each of one value a row; or one row of single values."""
    _check_width(content, form)
    if not any(isinstance(values, list) for values in content.values()):
        return {name: [value] for name, value in content.items()}
    for name, values in content.items():
        if not isinstance(values, list):
            raise Refused("bad_request", f"{form}: {name[:60]!r} must be a list of values")
    lists: dict[str, Sequence[Any]] = {
        name: [v[0] if isinstance(v, list) and len(v) == 1 else v for v in values]
        for name, values in content.items()
    }
    lengths = {len(values) for values in lists.values()}
    if len(lengths) > 1:
        told = ", ".join(f"{name[:60]}: {len(values)}" for name, values in lists.items())
        raise Refused("bad_request", f"{form}: the columns differ in length: {told[:400]}")
    return lists


def _rows(content: object, schema: Schema, form: str) -> Sequence[Any]:
    """Take rows without names: lists of values, or the values of a model of one input."""
    if not isinstance(content, list):
        content = [content]
    if len(schema) == 1:
        return [value if isinstance(value, list) else [value] for value in content]
    if content and not any(isinstance(value, list | dict) for value in content):
        raise Refused(
            "bad_request",
            f"{form} must be a list of rows, each with {len(schema)} values: "
            f"{', '.join(schema.names[:20])}",
        )
    return content


def _records(
    content: object, served: Served, form: str, loose: bool, max_rows: int
) -> Sequence[Record]:
    if not isinstance(content, list):
        raise Refused("bad_request", f"{form} must be a list of objects")
    _check_count(len(content), max_rows)
    for row in content:
        if isinstance(row, dict):
            _check_width(row, form)
    rows = [_plain(row) for row in content] if form == "instances" else content
    if loose:
        rows = [_without_nan(row, served.model.inputs) for row in rows]
    return read_rows(served.reader, rows)


def _plain(row: object) -> object:
    """Take a value out of the list of one that TensorFlow's clients put around it."""
    if not isinstance(row, dict):
        return row
    return {n: v[0] if isinstance(v, list) and len(v) == 1 else v for n, v in row.items()}


def _without_nan(row: object, schema: Schema) -> object:
    if not isinstance(row, dict):
        return row
    lacking = [f.name for f in schema if f.nullable and _is_nan(row.get(f.name))]
    return {**row, **dict.fromkeys(lacking)} if lacking else row


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _frame(
    columns: Mapping[str, Sequence[Any]], schema: Schema, loose: bool, max_rows: int
) -> tuple[Decoded, int]:
    count = len(next(iter(columns.values()), ()))
    _check_count(count, max_rows)
    lacking = [f.name for f in schema if f.name not in columns and not f.nullable]
    if count and lacking:
        raise Refused(
            "bad_request",
            f"missing: {', '.join(lacking)}; there are {', '.join(list(columns)[:20]) or 'none'}",
        )
    taken: list[Sequence[Any]] = []
    for field in schema:
        values = columns.get(field.name) or [None] * count
        if loose and field.nullable:
            values = [None if _is_nan(value) else value for value in values]
        taken.append(values)
    return read(schema, taken), count


def _check_count(count: int, max_rows: int) -> None:
    if count > max_rows:
        raise Refused("too_large", f"{count} rows; a request may have {max_rows}")


def _check_width(columns: Sized, form: str) -> None:
    if len(columns) > MAX_COLUMNS:
        raise Refused("bad_request", f"{form}: more than {MAX_COLUMNS} columns are not read")


def _predictions(answer: Answer) -> list[Any]:
    """Return one value a row for a model of one output, one object a row for another."""
    names = answer.batch.model.outputs.names
    values = answer.batch.values()
    if len(names) == 1:
        (column,) = values
        return [column[place] for place in answer.places]
    return [
        {name: column[place] for name, column in zip(names, values, strict=True)}
        for place in answer.places
    ]
