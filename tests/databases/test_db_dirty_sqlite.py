"""SQLite keeps any value in any column: what is not of its field's type becomes a problem."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from trivet.databases import BATCH_ROWS, Connection, connect
from trivet.errors import QueryError
from trivet.schema import TYPES, Field, Schema
from trivet.validation import TYPE

LATE = 100_000


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Connection]:
    with connect(sqlite_url, write=True) as db:
        db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x)")
        yield db


def schema(kind: str) -> Schema:
    return Schema([Field(name="x", type=kind, nullable=True)])


def read(
    db: Connection, kind: str, query: str = "SELECT x FROM t ORDER BY n"
) -> tuple[list[Any], list[tuple[int, str]]]:
    """Return the column and, by row of the whole result, the reasons of its problems."""
    values: list[Any] = []
    found: list[tuple[int, str]] = []
    for batch, problems in db.stream(query, {}, schema(kind)):
        for problem in problems.to_pylist():
            assert (problem["field"], problem["code"]) == ("x", TYPE)
            found.append((len(values) + problem["row"], problem["reason"]))
        values += batch["x"].cast(TYPES[kind]).to_pylist()
    return values, found


def insert(db: Connection, *literals: str) -> None:
    for literal in literals:
        db.execute(f"INSERT INTO t (x) VALUES ({literal})")


class TestEachType:
    @pytest.mark.parametrize("kind", ["float32", "float64"])
    def test_text_and_blobs_are_no_numbers(self, db: Connection, kind: str) -> None:
        insert(db, "1.5", "'2.5'", "NULL", "2", "x'00ff'", "'abc'", "9e999")
        values, found = read(db, kind)
        assert values == [1.5, None, None, 2.0, None, None, float("inf")]
        assert found == [
            (1, f"'2.5' is not {kind}"),
            (4, f"a blob is not {kind}"),
            (5, f"'abc' is not {kind}"),
        ]

    @pytest.mark.parametrize("kind", ["int8", "int64"])
    def test_fractions_and_text_are_no_integers(self, db: Connection, kind: str) -> None:
        insert(db, "1", "2.0", "2.5", "'3'", "NULL", "1e300", "9e999", "x'01'", "-7")
        values, found = read(db, kind)
        assert values == [1, 2, None, None, None, None, None, None, -7]
        assert [row for row, _ in found] == [2, 3, 5, 6, 7]
        assert found[0][1] == f"2.5 is not {kind}"

    def test_integers_at_the_edge(self, db: Connection) -> None:
        insert(db, "9223372036854775807", "-9223372036854775808", "9223372036854775808.0")
        values, found = read(db, "int64")
        assert values == [2**63 - 1, -(2**63), None]
        assert [row for row, _ in found] == [2]

    def test_only_zero_and_one_are_bools(self, db: Connection) -> None:
        insert(db, "1", "0", "5", "1.0", "'true'", "NULL", "true", "x'01'")
        values, found = read(db, "bool")
        assert values == [True, False, None, None, None, None, True, None]
        assert [row for row, _ in found] == [2, 3, 4, 7]
        assert found[0][1] == "5 is not bool"

    def test_numbers_and_blobs_are_no_text(self, db: Connection) -> None:
        insert(db, "'a'", "1", "NULL", "x'6162'", "''", "1.5")
        values, found = read(db, "string")
        assert values == ["a", None, None, None, "", None]
        assert [row for row, _ in found] == [1, 3, 5]

    def test_text_that_is_not_utf8(self, db: Connection) -> None:
        insert(db, "'é'", "CAST(x'ff41' AS TEXT)", "NULL")
        for kind, first in (("string", "é"), ("timestamp", None), ("date", None)):
            values, found = read(db, kind)
            assert values == [first, None, None]
            assert (1, f"a text that is not UTF-8 is not {kind}") in found
        _, found = read(db, "float64")
        assert [row for row, _ in found] == [0, 1]

    def test_text_that_is_not_utf8_outside_the_schema(self, db: Connection) -> None:
        insert(db, "'é'", "CAST(x'ff41' AS TEXT)")
        with pytest.raises(QueryError, match="column 'x' has a text that is not UTF-8"):
            list(db.stream("SELECT x FROM t", {}, Schema([])))

    def test_moments_in_every_usual_form(self, db: Connection) -> None:
        noon = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
        midnight = noon.replace(hour=0)
        forms = {
            "2026-01-02 12:00:00": noon,
            "2026-01-02T12:00:00": noon,
            "2026-01-02T12:00:00Z": noon,
            "2026-01-02 14:00:00+02:00": noon,
            "2026-01-02T14:00+0200": noon,
            "2026-01-02 12:00": noon,
            "2026-01-02 12": noon,
            "2026-01-02": midnight,
            "2026-01-02 12:00:00.000001": noon.replace(microsecond=1),
            "2026-01-02T12:00:00.0000019Z": noon.replace(microsecond=1),
            "1926-01-02 12:00:00.9999999": noon.replace(year=1926, microsecond=999_999),
        }
        for text in forms:
            insert(db, f"'{text}'")
        assert read(db, "timestamp") == (list(forms.values()), [])
        for text, moment in forms.items():  # the same alone as beside all others
            one = f"SELECT x FROM t WHERE x = '{text}'"
            assert read(db, "timestamp", one) == ([moment], [])

    def test_no_moments(self, db: Connection) -> None:
        texts = ["2026-13-01", "yesterday", "", "2026-01-02 25:00:00", "12:00:00+01:00"]
        for text in [*texts, "2026-01-02"]:
            insert(db, f"'{text}'")
        insert(db, "1767312000", "2461042.5", "x'00'")
        values, found = read(db, "timestamp")
        assert values[:5] == [None] * 5
        assert values[5] is not None
        assert [row for row, _ in found] == [0, 1, 2, 3, 4, 6, 7, 8]
        assert found[1][1] == "'yesterday' is not timestamp"
        assert found[5][1] == "1767312000 is not timestamp"

    def test_days(self, db: Connection) -> None:
        insert(db, "'2026-01-02'", "'2026-02-30'", "'2026-01-02 00:00:00'", "NULL", "5")
        values, found = read(db, "date")
        assert values == [dt.date(2026, 1, 2), None, None, None, None]
        assert [row for row, _ in found] == [1, 2, 4]

    def test_a_long_value_is_cut_and_odd_ones_are_told(self, db: Connection) -> None:
        db.execute("INSERT INTO t (x) VALUES ($x)", x="é" * 500)
        db.execute("INSERT INTO t (x) VALUES ($x)", x="it's\n\"\\")
        db.execute("INSERT INTO t (x) VALUES ($x)", x="a\0b")
        for kind in ("float64", "timestamp"):
            _, found = read(db, kind)
            assert found[0][1] == "'" + "é" * 60 + f"' is not {kind}"
            assert [row for row, _ in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("kind", "clean", "dirt"),
    [
        ("float64", "n + 0.5", "'dirt'"),
        ("int64", "n", "2.5"),
        ("bool", "n % 2", "5"),
        ("string", "'s' || n", "7"),
        ("timestamp", "datetime(n, 'unixepoch')", "'soon'"),
        ("date", "date(n * 86400, 'unixepoch')", "'soon'"),
    ],
)
def test_dirt_that_begins_late(db: Connection, kind: str, clean: str, dirt: str) -> None:
    n = LATE + BATCH_ROWS
    dirty = (LATE, LATE + 1, n)
    db.execute(
        "INSERT INTO t WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g "
        f"WHERE n < {n}) SELECT n, CASE WHEN n IN {dirty} THEN {dirt} ELSE {clean} END FROM g"
    )
    values, found = read(db, kind)
    assert len(values) == n
    assert [row + 1 for row, _ in found] == list(dirty)
    assert [row + 1 for row, value in enumerate(values) if value is None] == list(dirty)
    backwards, found = read(db, kind, "SELECT x FROM t ORDER BY n DESC")
    assert backwards == values[::-1]
    assert [n - row for row, _ in found] == list(dirty)[::-1]


def test_every_value_dirty(db: Connection) -> None:
    db.execute(
        "INSERT INTO t WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g "
        "WHERE n < 5000) SELECT n, 'dirt' || n FROM g"
    )
    values, found = read(db, "timestamp")
    assert values == [None] * 5000
    assert found[-1] == (4999, "'dirt5000' is not timestamp")


def test_many_fields_and_problems_in_the_order_of_rows(db: Connection) -> None:
    count = 130
    names = [f'weird "{i}" name' for i in range(count)]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    columns = ", ".join(quoted)
    db.execute(f"CREATE TABLE wide ({columns})")
    for dirty in ((3, 60, 129), (0,), ()):
        values = ", ".join("'dirt'" if i in dirty else str(i) for i in range(count))
        db.execute(f"INSERT INTO wide VALUES ({values})")
    fields = Schema(Field(name=name, type="float64") for name in names)
    ((batch, problems),) = db.stream("SELECT * FROM wide", {}, fields)
    assert batch.schema.names == names
    assert batch.num_rows == 3
    assert [(p["row"], p["field"]) for p in problems.to_pylist()] == [
        (0, names[3]),
        (0, names[60]),
        (0, names[129]),
        (1, names[0]),
    ]
    assert batch[names[5]].to_pylist() == [5.0] * 3


def test_fields_that_the_query_lacks_are_left_out(db: Connection) -> None:
    insert(db, "1")
    fields = Schema([Field(name="y", type="int64"), Field(name="x", type="int64")])
    ((batch, problems),) = db.stream("SELECT n, x FROM t", {}, fields)
    assert batch.to_pylist() == [{"n": 1, "x": 1}]
    assert not problems.num_rows
    assert batch.schema.types == [pa.int64(), pa.int64()]


def test_the_shape_of_a_query_does_not_matter(db: Connection) -> None:
    insert(db, "3", "1", "2")
    queries = (
        "SELECT x FROM t ORDER BY x DESC LIMIT 2",
        "WITH w AS (SELECT x FROM t) SELECT x FROM w ORDER BY x DESC LIMIT 2;",
        "SELECT x FROM t WHERE x >= 3 UNION ALL SELECT x FROM t WHERE x = 2 -- end",
        "SELECT max(x) AS x FROM t GROUP BY n HAVING max(x) > 1 ORDER BY 1 DESC",
    )
    for query in queries:
        assert read(db, "int64", query) == ([3, 2], [])
