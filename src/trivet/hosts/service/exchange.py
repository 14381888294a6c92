"""One request and its reply, as all protocols see them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from typing import Protocol as Shape

import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import TrivetError
from trivet.hosts.service.answers import Answer
from trivet.hosts.service.batcher import Overloaded, TooLate
from trivet.hosts.service.faults import NO_PROBLEMS, BadRows, Problems, Refused
from trivet.hosts.service.serving import Models, Served
from trivet.hosts.service.settings import ServiceSettings
from trivet.records import Record
from trivet.validation import MODEL_ERROR, Decoded

LARGE_BYTES = 64 * 2**10
LARGE_ROWS = 1000
"""Requests beyond these are read and answers written on a thread."""

LARGE_VALUES = 4 * LARGE_ROWS
"""The same of the values in a body, where they may be all the rows there are."""

T = TypeVar("T")

Headers = list[tuple[bytes, bytes]]

Write = Callable[[Any, int, Headers, bytes], None]
"""Writes a whole answer: where, status, headers and body."""

log = logging.getLogger("trivet.service")


@dataclass(slots=True)
class Request:
    """A request whose body has been read.

    Attributes:
        path: Without the query string.
        query: The query string, undecoded.
        headers: Names in lower case.
        body: All of it; within the limit.
        id: The caller's ``X-Request-Id``, or one made here.
        deadline: When the caller no longer wants the answer, by `time.monotonic`.
    """

    path: str
    query: bytes
    headers: Headers
    body: bytes
    id: str
    deadline: float

    def header(self, name: bytes) -> bytes | None:
        """Return a header's value, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(slots=True)
class Reply:
    """What goes back: the server adds the length and the request's id."""

    body: bytes
    status: int = 200
    headers: Headers = field(default_factory=lambda: [(b"content-type", b"application/json")])


class PredictionLog(Shape):
    """What a request may have to wait for before it is scored; see `trivet.hosts.service.log`."""

    @property
    def is_full(self) -> bool:
        """Whether requests must wait until some rows are written."""
        ...

    async def room(self, deadline: float) -> None:
        """Wait until there is room.

        Raises:
            TooLate: The deadline came first.
        """
        ...


@dataclass(slots=True)
class Context:
    """What a protocol may use of the service, and what is learnt of one request on its way.

    Attributes:
        settings: ``[service]``.
        models: What is served.
        name: The request's id.
        began: When it came, by `time.monotonic`.
        log: Set if requests wait for the prediction log.
        served: The model that was asked.
        rows: The request's rows.
        ready: Whether the service wants requests; false while it stops.
    """

    settings: ServiceSettings
    models: Models
    name: str = ""
    began: float = 0.0
    log: PredictionLog | None = None
    served: Served | None = None
    rows: int = 0
    ready: bool = True

    async def score(
        self,
        served: Served,
        rows: Sequence[Record] | Decoded,
        count: int,
        deadline: float,
        *,
        beside: pa.RecordBatch | None = None,
    ) -> Answer:
        """Have rows scored; see `trivet.hosts.service.batcher`.

        Args:
            served: The model.
            rows: The rows.
            count: How many.
            deadline: When the caller no longer wants the answer, by `time.monotonic`.
            beside: Columns carried beside rows that are decoded already.

        Raises:
            Refused: There are more rows than a request may have, or none.
            Overloaded: Too many rows wait.
            TooLate: The deadline passed.
            PredictionError: The model failed.
        """
        self.served = served
        self.rows = count
        if not count:
            raise Refused("bad_request", "the request has no rows")
        if count > self.settings.max_rows:
            raise Refused("too_large", f"{count} rows; a request may have {self.settings.max_rows}")
        if self.log is not None and self.log.is_full:
            await self.log.room(deadline)
        return await served.batcher.submit(
            rows, count, deadline, self.name, self.began or time.monotonic(), beside
        )


async def aside(is_large: bool, work: Callable[..., T], *given: Any) -> T:
    """Do some work, on a thread if it is large: the event loop is everyone's."""
    return await asyncio.to_thread(work, *given) if is_large else work(*given)


def is_large(body: bytes) -> bool:
    """Say whether JSON is to be read on a thread: many small rows take as long as large ones."""
    if len(body) > LARGE_BYTES:
        return True
    return len(body) > 2 * LARGE_ROWS and (
        body.count(b"{") > LARGE_ROWS or body.count(b",") > LARGE_VALUES
    )


def all_good(answer: Answer) -> Answer:
    """Return an answer of a protocol that has no place for a rejected row.

    Raises:
        BadRows: A row was rejected.
    """
    if answer.problems:
        raise BadRows(answer.problems)
    return answer


def explain(error: Exception, name: str) -> tuple[str, str, Problems]:
    """Say of an exception that ended a request its kind, its text and the rows' problems.

    The kind is a key of `trivet.hosts.service.faults.HTTP`. An error that is ours is logged under
    the request's id and not told.
    """
    if isinstance(error, Refused):
        return error.kind, error.detail, NO_PROBLEMS
    if isinstance(error, BadRows):
        problems = error.problems
        codes = pc.unique(problems.columns.column("code")).to_pylist()
        blame = "model" if codes == [MODEL_ERROR] else "bad_rows"
        rows = problems.rows()
        several = len(rows) and rows[0] != rows[-1]
        told = (
            f"{f'row {row}: ' if several else ''}{field + ': ' if field else ''}{reason}"
            for row, (field, _, reason) in problems.first(3)
        )
        text = "; ".join(told)
        if blame == "model":
            log.error("request %s: the model raised: %s", name, text)
        return blame, text, problems
    if isinstance(error, Overloaded):
        return "busy", str(error), NO_PROBLEMS
    if isinstance(error, TooLate):
        return "late", str(error), NO_PROBLEMS
    if isinstance(error, TrivetError):
        log.error("request %s: %s", name, error)
        return "model", str(error), NO_PROBLEMS
    log.error("request %s", name, exc_info=error)
    return "model", f"an error that is ours; the log has it as request {name}", NO_PROBLEMS


Handler = Callable[[Context, Request], Awaitable[Reply]]


class Protocol(Shape):
    """The members of a protocol's module."""

    __name__: str

    def route(self, method: str, path: str) -> Handler | None:
        """Return what answers a path, None if it is not of this protocol.

        Raises:
            Refused: The path is of this protocol and the method is not (``method``).
        """
        ...

    def fault(self, kind: str, detail: str, problems: Problems) -> Reply:
        """Put a fault (a kind of `trivet.hosts.service.faults.HTTP`) into the protocol's words."""
        ...
