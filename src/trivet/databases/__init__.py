"""Databases over ADBC and Arrow: one code path, a small table of schemes.

`connect` opens a `Connection`; rows come out and go in as Arrow. Statements name their
parameters (``$interval_start``); values are bound, and only moments are ever written as literals.
Drivers' exceptions end here: a caller sees `trivet.errors.DatabaseError`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from trivet.databases import dialects, values
from trivet.databases.dialects import Dialect
from trivet.databases.failures import redact, translated
from trivet.databases.parameters import bare, names_in, numbered, replaced
from trivet.databases.sqlite import Finish, checked_query
from trivet.errors import QueryError
from trivet.schema import Schema
from trivet.validation import no_problems

BATCH_ROWS = 65_536
"""Rows of the batches that `Connection.stream` gives: large enough to be fast, small enough to
keep memory flat and both cores busy."""

BUSY_SECONDS, PAUSE_SECONDS = 0.3, 0.105
"""So long may transactions follow each other before a pause, where one writes at a time."""

Parameters = Mapping[str, Any]


class Connection:
    """One connection; statements run at once unless inside `transaction`.

    Not to be used by two threads at a time.
    """

    def __init__(self, dialect: Dialect, database: Any, handle: Any, url: str) -> None:
        self.dialect = dialect
        self.url = url
        self._database = database
        self._handle = handle
        self._active: Any = None
        self._cancelled = False
        self._busy = self._turned = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back by the server."""
        with suppress(Exception):  # a connection that was cut cannot be closed politely
            self._handle.close()
        if self._database is not None:
            with suppress(Exception):
                self._database.close()

    def cancel(self) -> None:
        """Make the statement that another thread is waiting for fail soon.

        SQLite's driver cannot be interrupted: there, a streamed query fails at its next batch.
        """
        statement = self._active
        if statement is not None:
            self._cancelled = True
            with suppress(Exception):  # it may have ended in this very moment
                statement.cancel()

    def execute(self, sql: str, /, **parameters: Any) -> None:
        """Run one statement and drop its result."""
        with self._statement(sql, parameters) as statement, self._named_failures(sql):
            statement.execute_update()

    def execute_each(self, sql: str, sets: Sequence[Parameters]) -> int:
        """Run one statement with each of several sets of values; return how many rows it changed.

        Only for SQLite and PostgreSQL, and for statements that return no rows.
        """
        columns = {name: [given[name] for given in sets] for name in names_in(sql)}
        with self._statement(sql, columns, each=True) as statement, self._named_failures(sql):
            return int(statement.execute_update())

    def rows(self, sql: str, /, **parameters: Any) -> pa.Table:
        """Run one statement and return its whole result, which should be small."""
        with self._statement(sql, parameters) as statement, self._named_failures(sql):
            statement.set_options(**self.dialect.row_options)
            handle, _ = statement.execute_query()
            with pa.RecordBatchReader.from_stream(handle) as reader:
                return values.plain_table(reader.read_all())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the statements inside as one: all of them or, after an exception, none.

        A write lock is taken at the start where the database has one writer (SQLite), so that a
        transaction waits at its beginning and never fails in its middle.
        """
        begin = self.dialect.begin
        if begin:
            self.execute(begin)
        else:
            with self._named_failures("BEGIN"):
                self._handle.set_autocommit(False)
        try:
            yield
            if begin:
                self.execute("COMMIT")
            else:
                with self._named_failures("COMMIT"):
                    self._handle.set_autocommit(True)
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                if begin:
                    self.execute("ROLLBACK")
                else:
                    self._handle.rollback()
                    self._handle.set_autocommit(True)
            raise

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Run one of many transactions in a row, and leave other writers their turn among them.

        Who waits for SQLite's write lock looks again every tenth of a second, at the longest: a
        pause of that length now and then lets everyone in, whatever the chances.
        """
        began = time.perf_counter()
        if self.dialect.turn_rows and self._busy >= BUSY_SECONDS:
            time.sleep(max(0.0, self._turned + PAUSE_SECONDS - began))
            began = time.perf_counter()
        if began - self._turned >= PAUSE_SECONDS:  # there was a pause
            self._busy = 0.0
        with self.transaction():
            yield
        self._turned = time.perf_counter()
        self._busy += self._turned - began

    def append(self, table: str, batch: pa.RecordBatch, *, temporary: bool = False) -> None:
        """Append rows to an existing table, of this connection only or not, by columns' names."""
        if not batch.num_rows:
            return
        what = f"append {batch.num_rows} rows to {table}"
        into = {"adbc.ingest.target_table": table, "adbc.ingest.mode": "adbc.ingest.mode.append"}
        try:
            with self._open_statement(what) as statement, self._named_failures(what):
                statement.set_options(**into)
                if temporary:
                    statement.set_options(**{"adbc.ingest.temporary": "true"})
                statement.bind(self.dialect.encode(batch))
                statement.execute_update()
        except QueryError:
            if self.dialect.name == "postgresql":
                _refuse_nul(table, batch)
            raise

    def columns(self, query: str, parameters: Parameters) -> list[str]:
        """Return the names of a query's columns without reading its rows."""
        names: list[str] = self.described(query, parameters).names
        return names

    def described(self, query: str, parameters: Parameters) -> pa.Schema:
        """Return a query's columns without reading its rows; of type null where it is unknown."""
        self._refuse_unknown(names_in(query), parameters)
        empty = f"SELECT * FROM (\n{bare(query)}\n) AS q LIMIT 0"  # noqa: S608 - the user's own
        found = self.rows(empty, **self._bound(query, parameters)).schema
        if self.dialect.name == "sqlite":  # a column of no row has the driver's favourite type
            found = pa.schema([pa.field(name, pa.null()) for name in found.names])
        return found

    def stream(
        self, query: str, parameters: Parameters, schema: Schema
    ) -> Generator[tuple[pa.RecordBatch, pa.RecordBatch], None, None]:
        """Read a query's rows in batches, with flat memory.

        Args:
            query: One SELECT; unknown parameters are refused.
            parameters: Values of the parameters it may name.
            schema: Fields whose types are known, by column name. Where the database has no
                column types (SQLite), their values are checked one by one.

        Yields:
            Batches of at most `BATCH_ROWS` rows and, of the schema `trivet.validation.PROBLEMS`,
            the values that are not of their field's type (they are null in the batch).

        Raises:
            QueryError: The database refuses the query.
            TransientError: The connection was lost.
        """
        self._refuse_unknown(names_in(query), parameters)
        known = self._bound(query, parameters)
        with self._reader(bare(query), known, schema) as (batches, finish):
            for batch in _rechunked(batches):
                if self._cancelled:
                    raise QueryError(f"{redact(self.url)}: the query was cancelled")
                yield finish(batch)

    def _bound(self, query: str, parameters: Parameters) -> dict[str, Any]:
        return {name: self.dialect.bound(parameters[name]) for name in names_in(query)}

    @contextmanager
    def _reader(self, query: str, parameters: Parameters, schema: Schema) -> Iterator[Any]:
        what = "the query"
        finish: Finish = _as_is
        checked = self.dialect.name == "sqlite"
        if checked:
            names = self.columns(query, parameters)
            query, finish = checked_query(query, names, self._declared(query, names), schema)
        # PostgreSQL cannot COPY a statement with bound parameters, and without COPY its driver
        # holds the whole result in memory: the bounds of an interval become literals.
        known = {name: self.dialect.literal(value) for name, value in parameters.items()}
        query = replaced(query, lambda name: known[name] or f"${name}")
        with self._statement(query, parameters, what) as statement:
            if self.dialect.stream_options:
                statement.set_options(**self.dialect.stream_options)
            with self._named_failures(what):
                handle, _ = statement.execute_query()
                reader = pa.RecordBatchReader.from_stream(handle)
            with reader, self._named_failures(what):
                batches = values.plain_batches(reader)
                yield (_after_first_row(batches) if checked else batches), finish

    def _declared(self, query: str, names: list[str]) -> list[str]:
        """Return the types that SQLite's tables declare for a query's columns."""
        kinds: list[str] = []
        view = replaced(query, lambda _: "NULL")  # views take no parameters
        with suppress(QueryError):
            self.execute(f"CREATE TEMP VIEW trivet_columns AS {view}")
            try:
                kinds = self.rows("SELECT type FROM pragma_table_info('trivet_columns')")[
                    "type"
                ].to_pylist()
            finally:
                self.execute("DROP VIEW temp.trivet_columns")
        return kinds if len(kinds) == len(names) else [""] * len(names)

    @contextmanager
    def _statement(
        self, sql: str, parameters: Parameters, what: str = "", *, each: bool = False
    ) -> Iterator[Any]:
        text, names = numbered(sql)
        self._refuse_unknown(names, parameters)
        with self._open_statement(what or sql) as statement:
            with self._named_failures(what or sql):
                statement.set_sql_query(text)
                if names:
                    statement.prepare()
                    given = [parameters[name] for name in names]
                    columns = [self.dialect.column(v if each else [v]) for v in given]
                    statement.bind(pa.RecordBatch.from_arrays(columns, names=list(names)))
            yield statement

    @contextmanager
    def _open_statement(self, what: str) -> Iterator[Any]:
        import adbc_driver_manager  # noqa: PLC0415 - a driver is loaded with the first connection

        with self._named_failures(what):
            statement = adbc_driver_manager.AdbcStatement(self._handle)
        self._active, self._cancelled = statement, False
        try:
            yield statement
        finally:
            self._active = None
            with suppress(Exception):
                statement.close()

    def _named_failures(self, what: str) -> AbstractContextManager[None]:
        return translated(what, self.url)

    def _refuse_unknown(self, names: Sequence[str], parameters: Parameters) -> None:
        unknown = [name for name in names if name not in parameters]
        if unknown:
            raise QueryError(
                f"unknown parameter ${unknown[0]}; "
                f"there are {', '.join('$' + name for name in parameters) or 'none here'}"
            )


def connect(url: str, *, root: Path = Path(), write: bool = False) -> Connection:
    """Open a connection.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``postgresql://…``,
            ``duckdb:///file.duckdb``, ``duckdb://`` (in memory, for Parquet files), or the scheme
            of any installed ADBC driver.
        root: The folder that relative paths start from.
        write: Create the file if it is missing, and allow writing. Otherwise SQLite and DuckDB
            files are opened for reading only.

    Raises:
        UnsupportedDatabase: No driver is known for the scheme.
        MissingExtra: The driver is not installed.
        TransientError: The server cannot be reached.
        QueryError: The file is missing or is not a database.
    """
    import adbc_driver_manager  # noqa: PLC0415 - see above

    dialect = dialects.of(url)
    kept = dialect.keeps and write
    database = _kept(url) if kept else dialect.open(url, root, write)
    try:
        with translated("connecting", url):
            handle = adbc_driver_manager.AdbcConnection(database)
    except BaseException:
        if not kept:
            database.close()
        raise
    connection = Connection(dialect, None if kept else database, handle, url)
    try:
        for statement in dialect.on_connect(root, write):
            connection.rows(statement)
    except BaseException:
        connection.close()
        raise
    return connection


@functools.lru_cache(maxsize=16)
def _kept(url: str) -> Any:
    """Return a database's handle, the same one for every connection that writes.

    It holds no socket. What it knows of the types is as old as itself, so those who read a user's
    tables get one of their own.
    """
    return dialects.of(url).open(url, Path(), True)


def _rechunked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut and join batches to `BATCH_ROWS` each, so that no driver's habit decides ours."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        start = 0
        while count + batch.num_rows - start >= BATCH_ROWS:
            piece = batch.slice(start, BATCH_ROWS - count)
            yield _joined([*held, piece])
            start += piece.num_rows
            held, count = [], 0
        if start < batch.num_rows:
            held.append(batch.slice(start))
            count += batch.num_rows - start
    if held:
        yield _joined(held)


def _after_first_row(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    first = next(batches)
    if first.num_rows > 1:
        yield first.slice(1)
    yield from batches


def _refuse_nul(table: str, batch: pa.RecordBatch) -> None:
    """Name the text that PostgreSQL cannot keep, if there is one."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_string(column.type):
            has = pc.match_substring(column, "\0")
            if pc.any(has).as_py():
                row = pc.index(has, True).as_py()
                raise QueryError(
                    f"append to {table}: column {name!r} has a NUL character in a text "
                    f"(row {row} of the batch), which PostgreSQL cannot keep; "
                    "remove it where the rows come from"
                ) from None


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _as_is(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    return batch, no_problems()


__all__ = ["BATCH_ROWS", "Connection", "Dialect", "connect", "redact"]
