"""CSV as columns of a model, for the protocols that take it.

A column has the type that all its cells are of. Where a field cannot take that type, its cells are
read apart: one bad cell is no other's fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from trivet.errors import SchemaError
from trivet.hosts.service.faults import BadRows, Problems, Refused
from trivet.hosts.service.protocols.columns import MAX_BAD, filled, read_column, taken
from trivet.hosts.service.protocols.tensors import NUMBERS, OF_FIELD
from trivet.schema import Field, Schema
from trivet.validation import Decoded, conform, merge, together

MAX_COLUMNS = 10_000


def read_csv(
    body: bytes, schema: Schema, key: Sequence[str]
) -> tuple[Decoded, pa.RecordBatch | None]:
    """Read the rows, and the key's columns beside them.

    Raises:
        Refused: It is not CSV, or lacks a column.
        BadRows: Too many cells are bad for all to be named.
    """
    head = body.split(b"\n", 1)[0]
    if head.count(b",") >= MAX_COLUMNS:
        raise Refused("bad_request", f"CSV of more than {MAX_COLUMNS} columns is not read")
    texts = {f.name: pa.string() for f in schema if f.type == "string"}
    try:
        table = _cells(body, texts)
        unfit = _unfit(table.schema, schema)
        if unfit:
            table = _cells(body, {**texts, **dict.fromkeys(unfit.names, pa.string())})
        kept = table.select(taken(table.schema, schema, key)).combine_chunks().to_batches()
        rows = kept[0] if kept else pa.RecordBatch.from_pylist([], table.schema)
        mine = [name for name in key if name in rows.schema.names]
        beside = rows.select(mine) if mine else None
        found: list[pa.RecordBatch] = []
        for field in unfit:
            if sum(bad.num_rows for bad in found) >= MAX_BAD:
                raise BadRows(Problems(merge(found)))
            place = rows.schema.get_field_index(field.name)
            column = _column(rows.column(place), field)
            rows = rows.set_column(place, field.name, column.batch.column(0))
            found.append(column.problems)
        decoded = conform(filled(rows, schema), schema)
        return Decoded(decoded.batch, merge([decoded.problems, *found])), beside
    except (pa.ArrowException, ValueError) as error:
        raise Refused("bad_request", f"not CSV: {error}"[:400]) from None
    except SchemaError as error:
        raise Refused("bad_request", str(error)[:400]) from None


def _cells(body: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
    return pa.csv.read_csv(
        pa.BufferReader(body),
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=max(len(body), 1)),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True),
    )


def _unfit(found: pa.Schema, schema: Schema) -> Schema:
    """Return the fields whose column was taken for something else, which one cell can do."""
    places = {field: found.get_field_index(field.name) for field in schema}
    return Schema(f for f, at in places.items() if at >= 0 and not _fits(f, found.field(at).type))


@lru_cache(maxsize=4096)
def _fits(field: Field, kind: pa.DataType) -> bool:
    try:
        conform(pa.record_batch({field.name: pa.nulls(0, kind)}), Schema([field]))
    except SchemaError:
        return False
    return True


def _column(cells: pa.Array, field: Field) -> Decoded:
    """Read cells that are not all a field's, each as if it stood among good ones.

    Raises:
        BadRows: Many are bad.
    """
    if field.type == "bool":
        kinds: tuple[pa.DataType, ...] = (pa.bool_(),)
    elif OF_FIELD[field.type] in NUMBERS:
        kinds = (pa.int64(), pa.float64())
    else:
        return _texts(cells, field)  # times and dates are ISO 8601, as in JSON
    schema = Schema([field])
    parts: list[Decoded] = []
    pending = [pc.ascii_trim_whitespace(cells)]
    bad = 0
    while pending and bad < MAX_BAD:
        piece = pending.pop()
        good = _read_as(piece, kinds)
        if good is not None:
            parts.append(conform(pa.record_batch({field.name: good}), schema))
        elif len(piece) == 1:
            parts.append(_texts(piece, field))
            bad += 1
        else:
            half = len(piece) // 2
            pending += [piece.slice(half), piece.slice(0, half)]
    if pending:
        raise BadRows(Problems(together(parts).problems))
    return together(parts)


def _read_as(cells: pa.Array, kinds: Iterable[pa.DataType]) -> pa.Array | None:
    """Read texts as the first type that all of them are of, None if there is none."""
    for kind in kinds:
        try:
            return cells.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _texts(cells: pa.Array, field: Field) -> Decoded:
    column, bad = read_column(field, cells.to_pylist())
    return Decoded(pa.record_batch({field.name: column}), bad)
