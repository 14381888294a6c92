"""SQLite has types by value, not by column: a query whose values are held to a schema.

The driver guesses a column's type from its first rows, and fails or rounds when later rows
differ. So each field with a known type is cast to it, beside an expression that is null for a
clean row and else lists the values that were something else: they are null in the batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.databases.parameters import bare
from trivet.errors import QueryError
from trivet.schema import Field, Schema
from trivet.validation import TYPE, merge, no_problems, problems

_WRONG = "trivet_wrong_"
_GROUP = 50
"""Fields that one such list is for: functions of SQLite take 100 arguments at most."""

_SHOWN = 60
"""Characters of a wrong value that its reason quotes."""

_DECLARED = (("INT", "0"), ("CHAR|CLOB|TEXT", "''"), ("REAL|FLOA|DOUB", "0.5"))
_LONGEST = len("2024-01-01T00:00:00.123456")
_ZONED = r":.*(Z|[+-]\d\d(:?\d\d)?)$"

Finish = Callable[[pa.RecordBatch], tuple[pa.RecordBatch, pa.RecordBatch]]


def checked_query(
    query: str, names: Sequence[str], declared: Sequence[str], schema: Schema
) -> tuple[str, Finish]:
    """Return a query with the same rows, typed by a schema, and how to finish its batches.

    The first row of the result is not the query's: it shows the driver every column's type,
    before a null could mislead it.

    Args:
        query: The user's query.
        names: Its columns.
        declared: The types that the tables declare for them, "" where they declare none.
        schema: The fields whose types are known; other columns stay as they are.
    """
    fields = {field.name: field for field in schema if field.name in names}
    known = list(fields.values())
    picked = [
        f"{_value(fields[name])} AS {_quoted(name)}" if name in fields else _quoted(name)
        for name in names
    ]
    groups = [known[i : i + _GROUP] for i in range(0, len(known), _GROUP)]
    picked += [f"{_wrong_ones(group)} AS {_WRONG}{i}" for i, group in enumerate(groups)]
    first = [
        _specimen(fields.get(name), kind) for name, kind in zip(names, declared, strict=True)
    ] + ["''"] * len(groups)
    text = (
        f"SELECT {', '.join(first)} UNION ALL SELECT * FROM ("  # noqa: S608 - the user's own query
        f"SELECT {', '.join(picked)} FROM (\n{bare(query)}\n) AS q)"
    )
    return text, lambda batch: _finish(batch, list(names), groups)


def _finish(
    batch: pa.RecordBatch, names: list[str], groups: list[list[Field]]
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    columns = dict(zip(names, batch.columns[: len(names)], strict=True))
    found = []
    known = {field.name for group in groups for field in group}
    for name in columns.keys() - known:
        if not _is_text(columns[name]):
            raise QueryError(
                f"column {name!r} has a text that is not UTF-8; "
                "select it as hex(…), or leave it out of key and keep"
            )
    for number, group in enumerate(groups):
        wrong = _shown(batch.column(len(names) + number), len(group))
        for place, field in enumerate(group):
            column, unread = _typed(columns[field.name], field)
            shown = {row: values[place] for row, values in wrong if values[place] is not None}
            if shown:
                column = _without(column, shown)
            shown |= unread
            if shown:
                rows = np.array(sorted(shown), dtype=np.int64)
                reasons = [f"{shown[row]} is not {field.type}" for row in rows.tolist()]
                found.append(problems(rows, field.name, TYPE, pa.array(reasons)))
            columns[field.name] = column
    return pa.record_batch(columns), merge(found) if found else no_problems()


def _without(column: pa.Array, rows: Collection[int]) -> pa.Array:
    """Put null in the place of wrong values: what a cast made of them means nothing."""
    lost = np.zeros(len(column), dtype=bool)
    lost[list(rows)] = True
    return pc.if_else(pa.array(lost), pa.scalar(None, column.type), column)


def _shown(column: pa.Array, fields: int) -> list[tuple[int, list[str | None]]]:
    """Return the rows with wrong values, and for each field what its wrong value looks like."""
    if column.null_count == len(column):
        return []
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    texts = column.cast(pa.binary()).take(pa.array(rows)).to_pylist()
    lists = [json.loads(text.decode(errors="replace"), strict=False) for text in texts]
    return [(int(row), values) for row, values in zip(rows, lists, strict=True)]


def _wrong_ones(group: Sequence[Field]) -> str:
    """Select null where all values are of their field's type, else a JSON list of those not."""
    tests = [_wrong(field) for field in group]
    shown = [
        f"CASE WHEN {test} THEN CASE typeof({c}) WHEN 'blob' THEN 'a blob' "
        f"WHEN 'text' THEN quote(substr({c}, 1, {_SHOWN})) "
        f"ELSE CAST({c} AS TEXT) END END"
        for test, c in zip(tests, (_quoted(field.name) for field in group), strict=True)
    ]
    return f"CASE WHEN {' OR '.join(tests)} THEN json_array({', '.join(shown)}) END"


def _value(field: Field) -> str:
    name = _quoted(field.name)
    if field.type in ("float32", "float64"):
        return f"CAST({name} AS REAL)"
    if field.type in ("string", "timestamp", "date"):
        return f"CASE typeof({name}) WHEN 'text' THEN {name} END"
    return f"CAST({name} AS INTEGER)"


def _wrong(field: Field) -> str:
    name = _quoted(field.name)
    if field.type in ("float32", "float64"):
        # Numbers sort before text and text before blobs; far cheaper than a typeof each.
        return f"{name} >= ''"
    if field.type in ("string", "timestamp", "date"):
        return f"typeof({name}) NOT IN ('text', 'null')"
    if field.type == "bool":
        return f"({name} IS NOT NULL AND NOT (typeof({name}) = 'integer' AND {name} IN (0, 1)))"
    return f"(CAST({name} AS INTEGER) IS NOT {name} OR {name} >= '')"


def _specimen(field: Field | None, declared: str) -> str:
    if field is None:
        found = (sql for kinds, sql in _DECLARED if re.search(kinds, declared, re.IGNORECASE))
        return next(found, "NULL")
    if field.type in ("float32", "float64"):
        return "0.5"
    return "''" if field.type in ("string", "timestamp", "date") else "0"


def _typed(column: pa.Array, field: Field) -> tuple[pa.Array, dict[int, str]]:
    """Turn 0 and 1 into bool and text into moments; tell which texts could not be read."""
    if field.type == "bool":
        return pc.not_equal(column, 0), {}
    if field.type not in ("string", "timestamp", "date"):
        return column, {}
    unread: dict[int, str] = {}
    if not _is_text(column):
        raw = column.cast(pa.binary()).to_pylist()
        texts = [_decoded(value) for value in raw]
        lost = [row for row, text in enumerate(texts) if text is None and raw[row] is not None]
        unread = dict.fromkeys(lost, "a text that is not UTF-8")
        column = pa.array(texts, pa.string())
    if field.type == "string":
        return column, unread
    read = _moments(column, pa.timestamp("us") if field.type == "timestamp" else pa.date32())
    for row in np.flatnonzero(pc.and_(read.is_null(), column.is_valid()).to_numpy(False)):
        unread[int(row)] = f"'{column[row].as_py()[:_SHOWN]}'"
    return read, unread


def _moments(column: pa.Array, target: pa.DataType) -> pa.Array:
    """Read ISO 8601 texts, with or without an offset (then UTC); null where that fails.

    What is finer than a microsecond is cut, as in every host.
    """
    if pa.types.is_date(target):
        return _cast(column, target)
    if (pc.max(pc.binary_length(column)).as_py() or 0) > _LONGEST:
        column = pc.replace_substring_regex(column, r"(\.[0-9]{6})[0-9]+", r"\1")
    zoned = pc.match_substring_regex(column, _ZONED)
    utc = pa.timestamp("us", "UTC")
    naive = _cast(pc.if_else(zoned, None, column), target).cast(utc)
    if not pc.any(zoned).as_py():
        return naive
    return pc.coalesce(naive, _cast(pc.if_else(zoned, column, None), utc))


def _cast(column: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast texts, with null for those that cannot be: halved until each is alone."""
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return pa.nulls(1, target)
        half = len(column) // 2
        parts = [_cast(column[:half], target), _cast(column[half:], target)]
        return pa.concat_arrays(parts)


def _is_text(column: pa.Array) -> bool:
    """Say whether a column, if it is one of texts, has only valid ones: SQLite takes any bytes."""
    if not pa.types.is_string(column.type):
        return True
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _decoded(value: bytes | None) -> str | None:
    try:
        return value.decode() if value is not None else None
    except UnicodeDecodeError:
        return None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
