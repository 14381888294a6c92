"""Arrow IPC streams in and out, for many rows at once.

``POST /predict/MODEL/arrow`` (and ``/predict/MODEL/versions/VERSION/arrow``), or ``/predict/MODEL``
with the content type of a stream. The answer has the outputs for every row, null for a row that
was rejected, and ``trivet_error`` with its problems as JSON; model, version, digest and the
request's id are the metadata of its schema.

A stream is looked through before Arrow reads it: what it says of itself must not make it larger
in memory than it came.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import SchemaError
from trivet.hosts.service.answers import Answer
from trivet.hosts.service.exchange import (
    LARGE_BYTES,
    LARGE_ROWS,
    Context,
    Handler,
    Reply,
    Request,
    aside,
)
from trivet.hosts.service.faults import HTTP, BadRows, Problems, Refused
from trivet.hosts.service.protocols.columns import MAX_PROBLEMS, answered, filled, taken, tell
from trivet.hosts.service.protocols.problems import by_row
from trivet.hosts.service.serving import Served
from trivet.schema import Field, Schema, type_name
from trivet.validation import Decoded, conform

CONTENT_TYPE = b"application/vnd.apache.arrow.stream"
ERROR = "trivet_error"
MAX_MESSAGES = 10_000
MAX_DICTIONARIES = 100

_PREFIX = "/predict/"
_encode = msgspec.json.Encoder().encode


def route(method: str, path: str) -> Handler | None:
    """See `trivet.hosts.service.exchange.Protocol`."""
    if not path.startswith(_PREFIX) or not path.endswith("/arrow"):
        return None
    match path[len(_PREFIX) :].split("/"):
        case [_, "arrow"] | [_, "versions", _, "arrow"]:
            if method != "POST":
                raise Refused("method", "send the rows with POST")
            return predict
    return None


def handles(request: Request) -> bool:
    """Say whether a request for another path has a stream for a body."""
    kind = request.header(b"content-type")
    return kind is not None and kind.partition(b";")[0].strip().lower() == CONTENT_TYPE


async def predict(context: Context, request: Request) -> Reply:
    """Answer one request."""
    parts = request.path[len(_PREFIX) :].removesuffix("/arrow").split("/")
    served = context.models.find(parts[0], "/".join(parts[2:]) or None)
    large = len(request.body) > LARGE_BYTES
    rows, beside = await aside(large, _read, request.body, served, context)
    count = rows.batch.num_rows
    answer = await context.score(served, rows, count, request.deadline, beside=beside)
    body = await aside(count > LARGE_ROWS, _written, answer, served, request.id)
    return Reply(body, headers=[(b"content-type", CONTENT_TYPE)])


def fault(kind: str, detail: str, problems: Problems) -> Reply:
    """See `trivet.hosts.service.exchange.Protocol`."""
    status, title = HTTP[kind]
    body = {
        "type": f"urn:trivet:{kind}",
        "title": title,
        "status": status,
        "detail": tell(problems) or detail,
    }
    return Reply(_encode(body), status, [(b"content-type", b"application/problem+json")])


def _read(body: bytes, served: Served, context: Context) -> tuple[Decoded, pa.RecordBatch | None]:
    schema = served.model.inputs
    try:
        _inspect(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            batches, count, left = [], 0, context.settings.max_body
            names = taken(stream.schema, schema, context.models.key)
            for sent in stream:
                count += sent.num_rows
                if count > context.settings.max_rows:
                    raise Refused(
                        "too_large", f"a request may have {context.settings.max_rows} rows"
                    )
                batch = sent.select(names)
                batch.validate(full=True)
                plain, grown = _plain(batch, left)
                batches.append(plain)
                left -= grown
            if not count:
                raise Refused("bad_request", "the request has no rows")
            batch = pa.concat_batches(batches) if len(batches) > 1 else batches[0]
            return conform(filled(batch, schema), schema), _beside(
                batch, schema, context.models.key
            )
    except (pa.ArrowException, OSError, struct.error, IndexError, ValueError) as error:
        raise Refused("bad_request", f"not a stream of Arrow IPC: {error}"[:400]) from None
    except SchemaError as error:
        raise Refused("bad_request", str(error)) from None


def _inspect(body: bytes) -> None:
    """Refuse a stream that would be larger, or far slower to read, than its bytes tell.

    Raises:
        Refused: It is compressed, or cut into too many messages.
    """
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    messages = dictionaries = 0
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        metadata = message.metadata.to_pybytes()
        messages += 1
        dictionaries += message.type == "dictionary"
        if messages > MAX_MESSAGES or dictionaries > MAX_DICTIONARIES:
            raise Refused(
                "bad_request",
                f"a stream of more than {MAX_MESSAGES} messages or {MAX_DICTIONARIES} dictionaries "
                "is not read; write larger batches",
            )
        if message.type != "schema" and _is_compressed(metadata, message.type):
            raise Refused("bad_request", "compressed streams are not read; write it uncompressed")


def _is_compressed(metadata: bytes, kind: str) -> bool:
    """Say whether the buffers of a message are compressed, by its FlatBuffers metadata."""
    if b"ARROW:experimental_compression" in metadata:
        return True
    message = struct.unpack_from("<I", metadata)[0]
    batch = _member(metadata, message, 2)
    if batch is not None and kind == "dictionary":
        batch = _member(metadata, batch, 1)
    return batch is not None and _member(metadata, batch, 3) is not None


def _member(metadata: bytes, table: int, slot: int) -> int | None:
    """Return where a table's member, itself a table, is; None if it is left out."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if vtable < 0 or 4 + 2 * slot >= struct.unpack_from("<H", metadata, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", metadata, vtable + 4 + 2 * slot)[0]
    if not offset:
        return None
    place: int = table + offset + struct.unpack_from("<I", metadata, table + offset)[0]
    return place


def _plain(batch: pa.RecordBatch, limit: int) -> tuple[pa.RecordBatch, int]:
    """Write texts out that may stand in a batch once for many rows, and say how long they are.

    Raises:
        Refused: They would be too long.
    """
    columns, grown = [], 0
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        grown += _written_out(name, column)
        if grown > limit:
            raise Refused(
                "too_large",
                f"column {name!r} has texts that stand there once for many rows; written out, a "
                f"request's may have {limit} bytes more",
            )
        columns.append(_decoded(column))
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names), grown


def _written_out(name: str, column: pa.Array) -> int:
    """Return the bytes of a column's texts, if it may have them once for many rows."""
    if pa.types.is_string_view(column.type):
        # No kernel tells a view's length, which is the first of its four numbers.
        views = np.frombuffer(column.buffers()[1] or b"", "<i4").reshape(-1, 4)
        sizes = views[column.offset : column.offset + len(column), 0]
        here = column.is_valid().to_numpy(zero_copy_only=False)
        return int(sizes.sum(where=here, dtype=np.int64))
    if not pa.types.is_dictionary(column.type) or pa.types.is_primitive(column.type.value_type):
        return 0
    if pa.types.is_string_view(column.type.value_type):
        raise SchemaError(f"column {name!r} is a dictionary of string_view; cast it to string")
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return pc.sum(lengths.cast(pa.int64())).as_py() or 0


def _decoded(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def _beside(batch: pa.RecordBatch, schema: Schema, key: Sequence[str]) -> pa.RecordBatch | None:
    """Read the key's columns; one that is an input has its problems told as such."""
    names = [name for name in key if name in batch.schema.names]
    columns = []
    for name in names:
        column = batch.column(name)
        kind = type_name(column.type)
        if kind in ("timestamp", "date"):
            dated = conform(
                batch.select([name]), Schema([Field(name=name, type=kind, nullable=True)])
            )
            if dated.problems.num_rows and name not in schema.names:
                raise SchemaError(
                    f"column {name!r} is {column.type}, with a value that no key has "
                    f"({dated.problems.column('reason')[0]}); cast it to an integer or to text"
                )
            column = dated.batch.column(0)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=names) if names else None


def _written(answer: Answer, served: Served, name: str) -> bytes:
    model = served.model
    batch = answered(answer)
    if len(answer.problems) > MAX_PROBLEMS:
        raise BadRows(answer.problems)
    errors = by_row(answer.problems, len(batch))
    arrow = pa.schema(
        [*(pa.field(f.name, f.type) for f in batch.schema), pa.field(ERROR, pa.string())],
        {
            "trivet.model": served.name,
            "trivet.version": model.version,
            "trivet.digest": model.digest,
            "trivet.request_id": name,
        },
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, arrow) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, errors], schema=arrow))
    written: bytes = sink.getvalue().to_pybytes()
    return written
