"""Reading with a time limit: what a page asks of a database must end, whatever it asks.

The ADBC driver of SQLite cannot be interrupted, so there the standard library's module reads: its
queries are looked at every few thousand steps. Elsewhere the server keeps the time.
"""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
import time
from pathlib import Path
from typing import Any, Protocol

from trivet.databases import connect, redact
from trivet.databases.dialects import of, path_of
from trivet.databases.parameters import bare, names_in
from trivet.databases.values import sqlite_text
from trivet.errors import QueryError, QueryTimeout, TransientError

Row = dict[str, Any]

_STEPS = 20_000
"""Steps of SQLite's machine between two looks at the clock: well under a millisecond."""

_CACHE_KIB = 2_048

_SESSION = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    # Queries here take milliseconds, on which compiling them first would cost tenths of a second.
    "SET jit = off",
)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")


class Reader(Protocol):
    """A connection that only reads, and stops a query that takes too long.

    Not to be used by two threads at a time.
    """

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        ...

    def rows(self, sql: str, /, *, seconds: float | None = None, **parameters: Any) -> list[Row]:
        """Run one SELECT and return its rows, which should be few; moments are aware, in UTC.

        Args:
            sql: The statement.
            seconds: A limit of its own.
            parameters: Values by name.

        Raises:
            QueryTimeout: It took longer than it may.
            QueryError: The database refuses it.
            TransientError: The connection was lost.
        """
        ...

    def is_current(self) -> bool:
        """Say whether this still is the database of its url: a file may have been replaced."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def open_reader(url: str, *, root: Path = Path(), seconds: float = 10.0) -> Reader:
    """Open a connection for reading only.

    Args:
        url: As of `trivet.databases.connect`.
        root: The folder that relative paths start from.
        seconds: How long a query may take.

    Raises:
        DatabaseError: As of `trivet.databases.connect`.
    """
    if of(url).name == "sqlite":
        return _Sqlite(url, root, seconds)
    return _Server(url, root, seconds)


class _Sqlite:
    dialect = "sqlite"

    def __init__(self, url: str, root: Path, seconds: float) -> None:
        path = path_of(url, root)
        if path is None or not path.exists():
            raise QueryError(f"{redact(url)}: there is no file {path}")
        self._url, self._path, self._seconds = url, path.resolve(), seconds
        self._file = _identity(self._path)
        self._deadline = 0.0
        self._late = False
        try:
            self._handle = sqlite3.connect(
                f"{self._path.as_uri()}?mode=ro",
                uri=True,
                timeout=seconds,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise TransientError(f"{redact(url)}: {error}") from None
        self._handle.set_progress_handler(self._look, _STEPS)
        self.rows(f"PRAGMA cache_size = -{_CACHE_KIB}")

    def rows(self, sql: str, /, *, seconds: float | None = None, **parameters: Any) -> list[Row]:
        _refuse_unknown(sql, parameters)
        limit = seconds or self._seconds
        self._deadline, self._late = time.monotonic() + limit, False
        bound = {name: sqlite_text(value) for name, value in parameters.items()}
        try:
            cursor = self._handle.execute(sql, bound)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, map(_plain, row), strict=True)) for row in cursor]
        except sqlite3.Error as error:
            raise self._told(error, limit) from None

    def is_current(self) -> bool:
        return _identity(self._path) == self._file

    def close(self) -> None:
        self._handle.close()

    def _look(self) -> int:
        self._late = time.monotonic() > self._deadline
        return int(self._late)

    def _told(self, error: sqlite3.Error, limit: float) -> Exception:
        if self._late:
            return QueryTimeout(f"{redact(self._url)}: the query took longer than {limit:g} s")
        transient = ("locked", "busy", "unable to open", "disk i/o")
        kind = TransientError if any(t in str(error).lower() for t in transient) else QueryError
        return kind(f"{redact(self._url)}: {error}")


class _Server:
    def __init__(self, url: str, root: Path, seconds: float) -> None:
        self._db = connect(url, root=root)
        self.dialect = self._db.dialect.name
        self._seconds = seconds
        self._limit = 0.0
        for setting in _SESSION if self.dialect == "postgresql" else ():
            self._db.execute(setting)

    def rows(self, sql: str, /, *, seconds: float | None = None, **parameters: Any) -> list[Row]:
        limit = seconds or self._seconds
        if limit != self._limit:
            self._db.execute(f"SET statement_timeout = {max(1, round(limit * 1000))}")
            self._limit = limit
        try:
            table = self._db.rows(sql, **parameters)
        except QueryError as error:
            if "statement timeout" in str(error):
                raise QueryTimeout(
                    f"{redact(self._db.url)}: the query took longer than {limit:g} s"
                ) from None
            raise
        names = table.column_names
        columns = [map(_plain, column.to_pylist()) for column in table.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def is_current(self) -> bool:
        return True

    def close(self) -> None:
        self._db.close()


def only_select(sql: str, limit: int) -> str:
    """Return a user's query as one that can be nothing but a SELECT, of so many rows at most."""
    return f"SELECT * FROM (\n{bare(sql)}\n) AS q LIMIT {int(limit)}"  # noqa: S608 - the user's own


def _refuse_unknown(sql: str, parameters: Row) -> None:
    unknown = [name for name in names_in(sql) if name not in parameters]
    if unknown:
        known = ", ".join(f"${name}" for name in parameters) or "none here"
        raise QueryError(f"unknown parameter ${unknown[0]}; there are {known}")


def _plain(value: Any) -> Any:
    """Return a moment aware and in UTC, however the database keeps it."""
    if isinstance(value, str):
        if _MOMENT.fullmatch(value):
            return dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC)
        return value
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return value


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino
