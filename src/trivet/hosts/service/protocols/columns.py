"""Columns of a request or an answer, for the protocols that do not come row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa

from trivet.errors import SchemaError
from trivet.hosts.service.answers import Answer
from trivet.hosts.service.faults import BadRows, Problem, Problems, Refused
from trivet.records import UNREADABLE, Record, RecordReader, hint, moments, text_of, why_unread
from trivet.schema import TYPES, Field, Schema, type_name
from trivet.validation import Decoded, merge, no_problems, together

MAX_TOLD = 100
"""So many problems of a request are written out; of the others, their number."""


MAX_BAD = 10 * MAX_TOLD
"""With so many bad rows a request that one would refuse is not looked at any further."""

MAX_PROBLEMS = 500_000
"""With more problems than that, a request of which the good rows would be scored is refused."""

LOOSE_BYTES = 4 * 2**20
"""So much JSON is read by the standard parser, which lets nothing else run meanwhile."""

PIECE = 2048
"""So many records are turned into columns together."""


def check_size(body: bytes | memoryview, width: int, max_rows: int) -> None:
    """Refuse JSON of far more lists and objects than a request has use for, before it is read.

    In memory each takes many times its bytes in the body.

    Args:
        body: The JSON.
        width: Columns of the model.
        max_rows: Rows that a request may have.

    Raises:
        Refused: There are too many.
    """
    whole = bytes(body) if isinstance(body, memoryview) else body
    most = max_rows * (width + 2) + 1000
    if len(whole) > most and whole.count(b"[") + whole.count(b"{") > most:
        raise Refused(
            "too_large", f"more than {most} lists and objects; a request may have {max_rows} rows"
        )


def check_values(body: memoryview, most: int) -> None:
    """Refuse JSON of more values than a request has use for, before it is read.

    Raises:
        Refused: There are too many.
    """
    if len(body) <= most:
        return
    whole = bytes(body)
    if whole.count(b",") <= most:
        return
    if b"\\" in whole:
        whole = whole.replace(b"\\\\", b"").replace(b'\\"', b"")
    is_many = whole.count(b'"') > 2 * most  # a text is a value itself, the commas in it are none
    if is_many or sum(part.count(b",") for part in whole.split(b'"')[::2]) > most:
        raise Refused("too_large", f"more than {most} values; the model has no use for so many")


def parse(body: bytes | memoryview) -> tuple[Any, bool]:
    """Read JSON; say whether it took a reader that lets NaN and infinity through.

    Raises:
        Refused: It is not JSON.
    """
    try:
        return msgspec.json.decode(body), False
    except UNREADABLE as error:
        return loose(body, error), True


def loose(body: bytes | memoryview, unread: Exception | None = None) -> Any:
    """Read JSON that may have NaN, infinity and numbers beyond 64 bits in it.

    Args:
        body: The JSON.
        unread: What the compiled parser said, to be told of a body beyond `LOOSE_BYTES`; without
            it one of any length is read.

    Raises:
        Refused: It is not JSON, not even so.
    """
    if unread is not None and len(body) > LOOSE_BYTES:
        why = "nested too deeply" if isinstance(unread, RecursionError) else str(unread)
        raise Refused(
            "bad_request",
            f"the JSON cannot be read: {why[:200]}; NaN and infinity are taken in at most "
            f"{LOOSE_BYTES} bytes",
        )
    try:
        text = bytes(body).decode()
        found = json.loads(text)
        if "\\u" in text:  # half a character, which no text may have, gets in by this way only
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused("bad_request", why_unread(error)) from None
    return found


def read(schema: Schema, columns: Sequence[Sequence[object]]) -> Decoded:
    """Turn values as a JSON parser made them, a column for each field, into a batch."""
    arrays, found = [], []
    for field, values in zip(schema, columns, strict=True):
        array, problems = read_column(field, values)
        arrays.append(array)
        found.append(problems)
    arrow = pa.schema([pa.field(f.name, TYPES[f.type]) for f in schema])
    return Decoded(pa.RecordBatch.from_arrays(arrays, schema=arrow), merge(found))


def read_column(field: Field, values: Sequence[object]) -> tuple[pa.Array, pa.RecordBatch]:
    """Turn the values of one field into a column; see `trivet.records` for the rules."""
    kind = TYPES[field.type]
    try:
        good = msgspec.convert(values, _listed(field))
        if field.type == "timestamp":
            good = moments(good)
    except (msgspec.ValidationError, UnicodeEncodeError, OverflowError):
        return _one_by_one(field, values)
    return pa.array(good, kind), no_problems()


@lru_cache(maxsize=1024)
def _listed(field: Field) -> Any:
    return list[hint(field)]  # type: ignore[misc]


def _one_by_one(field: Field, values: Sequence[object]) -> tuple[pa.Array, pa.RecordBatch]:
    reader = RecordReader(Schema([field]))
    records = read_rows(reader, ({field.name: value} for value in values))
    decoded = reader.columns(records)
    return decoded.batch.column(0), decoded.problems


def read_rows(reader: RecordReader, rows: Iterable[object]) -> list[Record]:
    """Read objects one by one, up to `MAX_BAD` problems.

    Raises:
        BadRows: There are so many.
    """
    records: list[Record] = []
    found: list[tuple[int, Problem]] = []
    bad = 0
    for row, value in enumerate(rows):
        record = reader.read_object(value)
        records.append(record)
        if record.problems:
            found += [(row, problem) for problem in record.problems]
            bad += 1
            if bad >= MAX_BAD:
                raise BadRows(Problems.of(found))
    return records


def gathered(
    reader: RecordReader, records: Iterable[Record]
) -> tuple[Decoded, pa.RecordBatch | None]:
    """Turn many records into columns, a piece at a time, and what is carried beside into others.

    Raises:
        BadRows: They have more than `MAX_PROBLEMS` problems.
    """
    parts: list[Decoded] = []
    carried: list[pa.RecordBatch] = []
    problems = 0
    rest = iter(records)
    while piece := list(islice(rest, PIECE)):
        parts.append(reader.columns(piece))
        if reader.beside:
            texts = zip(*([text_of(v) for v in record.beside] for record in piece), strict=True)
            columns = [pa.array(column, pa.string()) for column in texts]
            carried.append(pa.RecordBatch.from_arrays(columns, names=list(reader.beside)))
        problems += parts[-1].problems.num_rows
        if problems > MAX_PROBLEMS:
            raise BadRows(Problems(together(parts).problems))
    return together(parts), pa.concat_batches(carried) if carried else None


def beside(key: Sequence[str], columns: Mapping[str, Sequence[object]]) -> pa.RecordBatch | None:
    """Turn the key's values into columns of the texts that they are kept as."""
    arrays = {
        name: pa.array([text_of(value) for value in columns[name]], pa.string())
        for name in key
        if name in columns
    }
    return pa.record_batch(arrays) if arrays else None


def taken(found: pa.Schema, schema: Schema, key: Sequence[str]) -> list[str]:
    """Return the columns of a batch that a model and its key want, in the order they have.

    Raises:
        SchemaError: One is there twice, or no field holds its type.
    """
    wanted = {*schema.names, *key}
    names = [name for name in found.names if name in wanted]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise SchemaError(f"column {name!r} is there twice")
    for name in names:
        if type_name(found.field(name).type) is None:
            raise SchemaError(f"column {name!r} is {found.field(name).type}, which is not read")
    return names


def filled(batch: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    """Add the columns that are left out and may be null."""
    for field in schema:
        if field.nullable and field.name not in batch.schema.names:
            batch = batch.append_column(field.name, pa.nulls(len(batch), TYPES[field.type]))
    return batch


def answered(answer: Answer) -> pa.RecordBatch:
    """Return the predictions of a request's rows, null for those that were rejected."""
    columns, places = answer.batch.columns, answer.places
    if isinstance(places, range):
        return columns.slice(places.start, len(places))
    return columns.take(pa.array([p if p >= 0 else None for p in places], pa.int64()))


def tell(problems: Problems) -> str:
    """Name row, field, code and reason of every problem in one line, for people."""
    told = [
        f"row {row}: {field + ': ' if field else ''}{code}: {reason}"
        for row, (field, code, reason) in problems.first(MAX_TOLD)
    ]
    if len(problems) >= MAX_BAD:
        told.append("and more")
    elif len(problems) > MAX_TOLD:
        told.append(f"and {len(problems) - MAX_TOLD} more")
    return "; ".join(told)
