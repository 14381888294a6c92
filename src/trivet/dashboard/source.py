"""Where the pages' figures come from: the results database, asked as seldom as will do.

What was asked once is kept until something changed in the database, or until asking again costs
little beside the time that has passed: a query that took a second is asked once in ten.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivet.errors import DatabaseError, QueryTimeout, ResultsEmpty
from trivet.results.reading import (
    Reader,
    Row,
    names_in,
    only_select,
    open_results_reader,
    sqlite_bound,
)
from trivet.results.statements import identifier, named

PACKAGE = "trivet.dashboard"

MOST_ROWS = 5_000
"""Rows that a chart of the user's may have: more are cut off, and the page says so."""

_KEPT_ROWS = 2_000
_KEPT_IN_ALL = 8_000
"""Rows of one answer, and of all answers, that are kept: a row takes about a kilobyte."""
_SHARE = 10
"""A query may take a tenth of the time: it is not asked again before ten times its duration."""

_READERS = 4


@dataclass(frozen=True, slots=True)
class _Answer:
    marker: str
    at: float
    took: float
    rows: list[Row]


class Source:
    """The results database behind the pages; to be used by any number of threads.

    Args:
        url: The results database.
        root: The folder that relative paths start from.
        limit: Seconds that a query may take.
    """

    def __init__(self, url: str, root: Path, limit: float = 10.0) -> None:
        self._url, self._root, self._limit = url, root, limit
        self._idle: list[Reader] = []
        self._watching: Reader | None = None
        self._seats = threading.BoundedSemaphore(_READERS)
        self._lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._answers: OrderedDict[Any, _Answer] = OrderedDict()
        self._kept = 0
        self._generation = 0
        self._marker = ""

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return "sqlite" if self._url.startswith("sqlite") else "postgresql"

    @property
    def kept_rows(self) -> int:
        """How many rows of answers are kept, about."""
        return self._kept

    def rows(self, name: str, /, *, package: str = PACKAGE, **parameters: Any) -> list[Row]:
        """Return the rows of a named statement.

        Args:
            name: The statement, in a ``.sql`` file of the package's folder ``sql``.
            package: Whose folder.
            parameters: Values to bind.

        Raises:
            TrivetError: The database is away, too slow, empty or of another layout.
        """
        return self.ask(named(name, self.dialect, package), **parameters)

    def named_rows(
        self, name: str, names: Mapping[str, str], /, *, package: str = PACKAGE, **parameters: Any
    ) -> list[Row]:
        """Return the rows of a named statement with names of tables and columns for its braces.

        The names are quoted here; lists of columns are the caller's to build of `identifier`.
        """
        sql = named(name, self.dialect, package)
        return self.ask(sql.format(**{k: quoted(v) for k, v in names.items()}), **parameters)

    def first(self, name: str, /, **parameters: Any) -> Row:
        """Return the one row of a named statement, or an empty one."""
        return next(iter(self.rows(name, **parameters)), {})

    def select(self, sql: str, /, **parameters: Any) -> tuple[list[Row], bool]:
        """Return the rows of a user's SELECT, and whether there were more than may be shown.

        The statement may name any of the parameters, and need not.
        """
        used = {name: parameters[name] for name in parameters if name in names_in(sql)}
        if self.dialect == "sqlite":  # whose columns of days and of times are both text
            used = {name: sqlite_bound(value) for name, value in used.items()}
        rows = self.ask(only_select(sql, MOST_ROWS + 1), **used)
        return rows[:MOST_ROWS], len(rows) > MOST_ROWS

    def ask(self, sql: str, /, **parameters: Any) -> list[Row]:
        """Return the rows of a statement; they are shared and not to be changed."""
        key = (sql, tuple(sorted(parameters.items())))
        with self._lock:
            known = self._answers.get(key)
            marker = self._marker
        began = time.monotonic()
        if known and marker and (known.marker == marker or began - known.at < _SHARE * known.took):
            return known.rows
        with self.reader() as reader:
            rows = reader.rows(sql, **parameters)
        if len(rows) <= _KEPT_ROWS:
            done = time.monotonic()
            with self._lock:
                self._drop(key)
                self._answers[key] = _Answer(marker, done, done - began, rows)
                self._kept += _weight(rows)
                while self._kept > _KEPT_IN_ALL:
                    self._drop(next(iter(self._answers)))
        return rows

    def _drop(self, key: Any) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._kept -= _weight(answer.rows)

    def marker(self) -> str:
        """Return a text that is another one once anything was written; empty while it is away."""
        with self._watch_lock:
            try:
                found = self._look()
            except DatabaseError as error:
                self._forget()
                found = f"away {type(error).__name__}"
            except ResultsEmpty:
                found = "empty"
        with self._lock:
            self._marker = found
        return found

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Lend a connection.

        Raises:
            QueryTimeout: All of them are busy with slow queries.
        """
        if not self._seats.acquire(timeout=self._limit):
            raise QueryTimeout(f"all connections were busy for {self._limit:g} s")
        try:
            reader = self._take()
            try:
                yield reader
            except DatabaseError as error:
                if isinstance(error, QueryTimeout):
                    self._idle.append(reader)
                else:
                    reader.close()
                raise
            else:
                self._idle.append(reader)
        finally:
            self._seats.release()

    def close(self) -> None:
        """Close every connection."""
        with self._watch_lock:
            self._forget()
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Reader:
        while self._idle:
            try:
                reader = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if reader.is_current():
                return reader
            reader.close()
        return self._open()

    def _open(self) -> Reader:
        return open_results_reader(self._url, root=self._root, seconds=self._limit)

    def _look(self) -> str:
        if self._watching is not None and not self._watching.is_current():
            self._forget()
        if self._watching is None:
            self._watching = self._open()
            self._generation += 1
        row = self._watching.rows(named("marker", self.dialect, PACKAGE))[0]
        return f"{self._generation}.{next(iter(row.values()))}"

    def _forget(self) -> None:
        if self._watching is not None:
            self._watching.close()
            self._watching = None


def _weight(rows: list[Row]) -> int:
    """Return how many rows an answer counts for: none takes some room, too."""
    return 1 + len(rows)


def quoted(names: str) -> str:
    """Quote the name of a table or column; a text that is quoted already stays."""
    return names if names.startswith('"') or not names else identifier(names)
