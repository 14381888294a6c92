"""CSV as columns of a model, for the protocols that take it.

A column has the type that all its cells are of. Where a field cannot take that type, its cells are
read apart: one bad cell is no other's fault. Text and times, which mean the same in every protocol,
and the key are read as the texts that they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from trivet.errors import SchemaError
from trivet.hosts.service.faults import BadRows, Problems, Refused
from trivet.hosts.service.protocols.columns import MAX_BAD, filled, read_column, taken
from trivet.schema import Field, Schema
from trivet.validation import Decoded, conform, merge, together

MAX_COLUMNS = 10_000

_EXACT = 2.0**53
_WHOLE = r"^-?[0-9]+$"


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
    texts = [f.name for f in schema if f.type in ("string", "timestamp", "date")]
    texts += [name for name in key if name not in schema.names]
    try:
        table = _cells(body, texts)
        unfit = _unfit(table, schema)
        if any(name not in texts for name in unfit.names):
            table = _cells(body, [*texts, *unfit.names])
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
        rows = _with_nulls(rows, schema)
        decoded = conform(filled(rows, schema), schema)
        return Decoded(decoded.batch, merge([decoded.problems, *found])), beside
    except (pa.ArrowException, ValueError) as error:
        raise Refused("bad_request", f"not CSV: {error}"[:400]) from None
    except SchemaError as error:
        raise Refused("bad_request", str(error)[:400]) from None


def _cells(body: bytes, texts: Sequence[str]) -> pa.Table:
    return pa.csv.read_csv(
        pa.BufferReader(body),
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=max(len(body), 1)),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(texts, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _unfit(table: pa.Table, schema: Schema) -> Schema:
    """Return the fields whose column was taken for something else, which one cell can do."""
    places = {field: table.schema.get_field_index(field.name) for field in schema}
    return Schema(f for f, at in places.items() if at >= 0 and not _suits(f, table.column(at)))


def _suits(field: Field, column: pa.ChunkedArray) -> bool:
    if not _fits(field, column.type):
        return False
    if not (field.type.startswith("int") and pa.types.is_floating(column.type)):
        return True
    exact = pc.less(pc.abs(column), _EXACT)  # beyond, a float loses the last digits of an integer
    return pc.all(exact, min_count=0).as_py() is not False


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
        return _halved(cells, field, pa.bool_())
    if field.type.startswith("float"):
        return _halved(cells, field, pa.float64())
    if not field.type.startswith("int"):
        return _texts(cells, field)  # times and dates are ISO 8601, as in JSON
    whole = pc.match_substring_regex(pc.ascii_trim_whitespace(cells), _WHOLE)
    if pc.all(whole).as_py():
        return _halved(cells, field, pa.int64())
    integers = _halved(pc.if_else(whole, cells, None), field, pa.int64())
    others = _halved(pc.if_else(whole, None, cells), field, pa.float64())
    column = pc.coalesce(integers.batch.column(0), others.batch.column(0))
    problems = merge([integers.problems, others.problems])
    return Decoded(pa.record_batch({field.name: column}), problems)


def _halved(cells: pa.Array, field: Field, kind: pa.DataType) -> Decoded:
    """Read cells as a type, halving them until those that are not of it stand alone."""
    schema = Schema([field])
    parts: list[Decoded] = []
    pending = [pc.ascii_trim_whitespace(cells)]
    bad = 0
    while pending and bad < MAX_BAD:
        piece = pending.pop()
        try:
            good = piece.cast(kind)
        except pa.ArrowInvalid:
            good = None
        if good is not None:
            read = _with_nulls(pa.record_batch({field.name: good}), schema)
            parts.append(conform(read, schema))
        elif len(piece) == 1:
            parts.append(_texts(piece, field))
            bad += 1
        else:
            half = len(piece) // 2
            pending += [piece.slice(half), piece.slice(0, half)]
    if pending:
        raise BadRows(Problems(together(parts).problems))
    return together(parts)


def _with_nulls(rows: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    """Turn NaN, which stands for a missing value, into null where that is allowed."""
    for field in schema:
        place = rows.schema.get_field_index(field.name)
        if field.nullable and place >= 0 and pa.types.is_floating(rows.schema.field(place).type):
            column = rows.column(place)
            rows = rows.set_column(place, field.name, pc.if_else(pc.is_nan(column), None, column))
    return rows


def _texts(cells: pa.Array, field: Field) -> Decoded:
    column, bad = read_column(field, cells.to_pylist())
    return Decoded(pa.record_batch({field.name: column}), bad)
