"""The file of the embedded broker: one SQLite database, opened by as many processes as like."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trivet.errors import BrokerError, BrokerUnavailable
from trivet.statements import statements_of

_APPLICATION = 0x74726C67
"""Tells a log from any other SQLite file."""
_LAYOUT = 1
_TABLES = (
    "topics",
    "logs",
    "chunks",
    "committed",
    "members",
    "claims",
    "generations",
    "transactions",
)
_PASSES = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN"}
_PATIENCE = 20.0
"""Seconds that a statement waits for other processes, each of which holds the file briefly."""


class LogFile:
    """One connection to the file; several threads may use it, one statement at a time.

    Args:
        path: The file; it is made if it is not there.
        synchronous: SQLite's setting of that name: ``FULL`` or ``NORMAL``.
    """

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        self.path = path
        self._sql = statements_of("trivet.brokers")
        self._lock = threading.RLock()
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            # No busy_timeout: SQLite's own waits grow to 100 ms, which readers would notice.
            self._db = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare(synchronous)
        except BaseException:
            self._db.close()
            raise

    def rows(self, statement: str, /, **values: Any) -> list[Any]:
        """Run a named statement and return its rows."""
        sql = self._sql[statement]
        found: list[Any] = self._retried(lambda: self._db.execute(sql, values).fetchall())
        return found

    def some(self, statement: str, /, **values: Any) -> Iterator[Any]:
        """Run a named statement and give its rows one by one; end it before the next statement."""
        with self._translated():
            yield from self._db.execute(self._sql[statement], values)

    def many(self, statement: str, rows: Iterator[Any]) -> None:
        """Run a named statement for each row of values, within `writing`."""
        self._db.executemany(self._sql[statement], rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the file's write lock: everything within is committed together, or not at all."""
        with self._lock:
            self._retried(lambda: self._db.execute("BEGIN IMMEDIATE"))
            try:
                with self._translated():
                    yield
                self._retried(lambda: self._db.execute("COMMIT"))
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See the file as it is at one moment."""
        with self._lock:
            self._retried(lambda: self._db.execute("BEGIN"))
            try:
                yield
            finally:
                with suppress(sqlite3.Error):
                    self._db.execute("COMMIT")

    def version(self) -> int:
        """Return a number that changes when another connection has written."""
        return int(self._retried(lambda: self._db.execute("PRAGMA data_version").fetchone())[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _prepare(self, synchronous: str) -> None:
        # In this order: whoever makes the file makes its tables and its mark together.
        tables = self.rows("tables")[0][0]
        found = self._pragma("application_id")
        if found == _APPLICATION:
            layout = self._pragma("user_version")
            if layout > _LAYOUT:
                raise BrokerError(
                    f"{self.path}: its layout {layout} is of a newer version; upgrade Trivet"
                )
        elif found or tables:
            raise BrokerError(f"{self.path} is another kind of database; name another file")
        self._retried(lambda: self._db.execute("PRAGMA journal_mode = WAL"))
        self._retried(lambda: self._db.execute(f"PRAGMA synchronous = {synchronous}"))
        if found == _APPLICATION:
            return
        with self.writing():
            if self._pragma("application_id") != _APPLICATION:
                for table in _TABLES:
                    self._db.execute(self._sql[f"create_{table}"])
                self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._db.execute(f"PRAGMA user_version = {_LAYOUT}")

    def _pragma(self, name: str) -> int:
        return int(self._retried(lambda: self._db.execute(f"PRAGMA {name}").fetchone())[0])

    def _retried(self, run: Any) -> Any:
        """Run it, again and again while other processes are in the way."""
        deadline, pause = time.monotonic() + _PATIENCE, 0.0002
        with self._lock, self._translated():
            while True:
                try:
                    return run()
                except sqlite3.OperationalError as error:
                    busy = _kind(error) in {"SQLITE_BUSY", "SQLITE_LOCKED"}
                    if not busy or time.monotonic() > deadline:
                        raise
                time.sleep(pause)
                pause = min(pause * 1.5, 0.004)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _kind(error) in _PASSES:
                raise BrokerUnavailable(f"{self.path}: {error}; it is tried again") from None
            raise BrokerError(f"{self.path}: {error}") from None
        except OSError as error:
            raise BrokerUnavailable(f"{self.path}: {error.strerror}") from None


def _kind(error: sqlite3.Error) -> str:
    """Return the name of SQLite's primary result code."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])
