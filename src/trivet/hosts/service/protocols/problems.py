"""Problems written as JSON, a column at a time: many bad rows are little more work than good ones.

The texts of many are put together from columns of their pieces, with no object for any problem, and
Arrow does not hold the event loop meanwhile.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.hosts.service.faults import Problems

FEW = 100
"""Up to so many problems, objects of them are cheaper than columns."""

TEXT = pa.large_string()

_encode = msgspec.json.Encoder().encode


def with_errors(written: bytes, problems: Problems) -> bytes:
    """Add problems to an object that is written, as its member `errors`, if there are any."""
    if not len(problems):
        return written
    return b"".join([written[:-1], b',"errors":[', _listed(problems), b"]}"])


def _listed(problems: Problems) -> bytes | memoryview:
    """Write problems as objects with row, field, code and reason, and a comma between them."""
    if len(problems) <= FEW:
        told = [
            {"row": row, "field": field, "code": code, "reason": reason}
            for row, (field, code, reason) in problems
        ]
        return _encode(told)[1:-1]
    rows = pa.array(problems.rows()).cast(TEXT)
    texts = _objects(problems, [_text('{"row":'), rows, _text(',"field":')], "},")
    # The values of a column of texts lie behind one another: together they are the list.
    places = np.frombuffer(texts.buffers()[1], np.int64)
    first, last = places[texts.offset], places[texts.offset + len(texts)]
    return memoryview(texts.buffers()[2])[first : last - 1]


def by_row(problems: Problems, count: int) -> pa.Array:
    """Write of each of so many rows its problems as a list of objects, null where it has none."""
    if not len(problems):
        return pa.nulls(count, pa.string())
    texts = _objects(problems, [_text('{"field":')], "}")
    rows, starts = np.unique(problems.rows(), return_index=True)
    ends = pa.array([*starts.tolist(), len(texts)], pa.int32())
    together = pc.binary_join(pa.ListArray.from_arrays(ends, texts), _text(","))
    told = pc.binary_join_element_wise(_text("["), together, _text("]"), _text(""))
    places = np.full(count, -1)
    places[rows] = np.arange(len(rows))
    return told.cast(pa.string()).take(pa.array(places, mask=places < 0))


def _objects(problems: Problems, start: list[pa.Scalar | pa.Array], end: str) -> pa.Array:
    """Write each problem as an object that begins with some pieces, then its field's name."""
    _, fields, codes, reasons = problems.columns.columns
    return pc.binary_join_element_wise(
        *start,
        _quoted(fields),
        _text(',"code":'),
        _quoted(codes),
        _text(',"reason":"'),
        _escaped(reasons).cast(TEXT),
        _text(f'"{end}'),
        _text(""),
    )


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, TEXT)


def _quoted(column: pa.Array) -> pa.Array:
    """Write texts as JSON, few of which differ."""
    found = column.dictionary_encode()
    written = [_encode(value).decode() for value in found.dictionary.to_pylist()]
    return pa.array(written, TEXT).take(found.indices)


def _escaped(column: pa.Array) -> pa.Array:
    """Write texts as JSON has them between its quotes."""
    plain = pc.replace_substring(pc.replace_substring(column, "\\", "\\\\"), '"', '\\"')
    rare = pc.match_substring_regex(column, "[\\x00-\\x1f]")
    if not pc.any(rare).as_py():
        return plain
    written = [_encode(value).decode()[1:-1] for value in column.filter(rare).to_pylist()]
    return pc.replace_with_mask(plain, rare, pa.array(written, pa.string()))
