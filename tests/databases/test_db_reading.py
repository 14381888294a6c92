"""Reading with a time limit, from each database that can hold results."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.places import Place
from trivet.databases.reading import Reader, only_select, open_reader
from trivet.errors import QueryError, QueryTimeout, TransientError

MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.fixture
def reader(home: Place) -> Iterator[Reader]:
    at = "TEXT" if home.kind == "sqlite" else "TIMESTAMPTZ"
    home.fill(
        "t",
        {"n": "BIGINT", "name": "TEXT", "at": at},
        "1, 'one', '2026-01-02 03:04:05'",
        "2, NULL, '2026-01-03 00:00:00'",
    )
    opened = open_reader(home.url)
    yield opened
    opened.close()


def test_rows_are_plain_values_with_moments_in_utc(reader: Reader) -> None:
    rows = reader.rows("SELECT n, name, at FROM t ORDER BY n")
    assert rows == [
        {"n": 1, "name": "one", "at": MOMENT},
        {"n": 2, "name": None, "at": dt.datetime(2026, 1, 3, tzinfo=dt.UTC)},
    ]


@pytest.mark.parametrize("at", [MOMENT, dt.datetime(2026, 1, 3, tzinfo=dt.UTC)])
def test_a_moment_equals_the_one_that_is_kept(reader: Reader, at: dt.datetime) -> None:
    assert len(reader.rows("SELECT n FROM t WHERE at = $at", at=at)) == 1


def test_an_unknown_parameter_is_named(reader: Reader) -> None:
    with pytest.raises(QueryError, match=r"\$m"):
        reader.rows("SELECT n FROM t WHERE n = $m", n=1)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM t", "DROP TABLE t", "INSERT INTO t (n) VALUES (3)", "SELECT nothing"]
)
def test_what_the_database_refuses_is_told(reader: Reader, statement: str) -> None:
    with pytest.raises(QueryError):
        reader.rows(statement)
    assert len(reader.rows("SELECT n FROM t")) == 2


def test_a_query_that_takes_too_long_ends(reader: Reader) -> None:
    slow = {
        "sqlite": "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g) "
        "SELECT max(i) FROM g",
        "postgresql": "SELECT count(*) FROM generate_series(1, 1000000000) AS a",
    }[reader.dialect]
    with pytest.raises(QueryTimeout, match=r"longer than 0\.2 s"):
        reader.rows(slow, seconds=0.2)
    assert len(reader.rows("SELECT n FROM t")) == 2


def test_only_a_select_can_be_one(reader: Reader) -> None:
    assert len(reader.rows(only_select("SELECT n FROM t -- all;", 1))) == 1
    for statement in ("DELETE FROM t", "SELECT 1; DELETE FROM t", "PRAGMA user_version"):
        with pytest.raises(QueryError):
            reader.rows(only_select(statement, 10))


def test_a_file_that_is_away_or_another_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    with pytest.raises(QueryError, match="there is no file"):
        open_reader(url)
    place = Place("sqlite", url)
    place.fill("t", {"n": "INTEGER"})
    reader = open_reader(url)
    assert reader.is_current()
    (tmp_path / "r.db").unlink()
    assert not reader.is_current()
    reader.close()


def test_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises((TransientError, QueryError)):
        open_reader(f"sqlite:///{tmp_path}")
