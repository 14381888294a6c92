"""The prediction log: what was asked and answered, written to the results, in nobody's way.

The event loop only puts finished batches into a bounded queue; one thread turns them into columns
and writes them in short transactions. While the database is away the queue fills; then rows are
left out and counted, or, with ``log_durability = "block"``, requests wait. What the database, or
the way to it, refuses for good is looked for by halves: only the request that cannot be written is
lost to the log, and told.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from trivet.databases import Connection
from trivet.errors import TransientError
from trivet.hosts.service.answers import Result, Waiting
from trivet.hosts.service.batcher import TooLate
from trivet.hosts.service.log_rows import (
    Entry,
    asked,
    columns_of,
    predictions_of,
    rejects_of,
    weight_of,
)
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.serving import Version
from trivet.results import rows as results
from trivet.results.layout import open_results
from trivet.results.ledger import Deployment, register
from trivet.results.profiles import Counted, References, references_of
from trivet.results.tables import view_of

WRITE_SECONDS = 0.5
"""How long rows wait for others before they are written."""

WRITE_ROWS = 5_000
"""Rows of one transaction."""

RETRY_SECONDS = (0.2, 10.0)
"""The shortest and the longest wait before a database that failed is tried again."""

log = logging.getLogger("trivet.service.log")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where and how much to log.

    Attributes:
        url: The results database.
        root: The folder that relative paths start from.
        sample: The share of requests.
        block: Whether requests wait while the log is full.
        queue: Rows that may wait; see `trivet.hosts.service.log_rows.weight_of`.
    """

    url: str
    root: Path
    sample: float = 1.0
    block: bool = False
    queue: int = 20_000


@dataclass(slots=True)
class _Opened:
    """A connection and what was prepared on it."""

    db: Connection
    lineages: dict[tuple[str, str, str], tuple[int, References]] = field(default_factory=dict)


class PredictionWriter:
    """Logs predictions; `observe` takes them, a thread of its own writes them.

    Args:
        settings: Where and how much.
        metrics: Counts rows that were written, left out, or there already.
        chance: Gives a number from 0 to 1 for each request.
    """

    def __init__(
        self,
        settings: LogSettings,
        metrics: Metrics,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        for outcome in ("written", "repeated", "dropped", "refused"):
            self._count(outcome, 0)
        self._chance = chance
        self._entries: deque[Entry] = deque()
        # One is written by the event loop only, the other one by the thread only.
        self._put = self._weighed = 0
        self._taken = self._freed = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._stop_at = 0.0
        self._opened: _Opened | None = None
        self._told = 0.0
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    @property
    def queued(self) -> int:
        """Rows that wait to be written."""
        return self._put - self._taken

    @property
    def is_full(self) -> bool:
        """Whether requests must wait until some rows are written."""
        return self._settings.block and self._held >= self._settings.queue

    @property
    def _held(self) -> int:
        """As how many rows counts what waits, which is more than `queued` where rows are large."""
        return self._weighed - self._freed

    def start(self) -> None:
        """Begin to write; call it in the event loop that `observe` is called in."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self, patience: float) -> int:
        """Write what is left, for so many seconds at most; return how many rows were lost."""
        self._stop_at = time.monotonic() + patience
        self._stopping.set()
        self._hurry.set()
        self._thread.join(patience + 1.0)
        lost = self.queued
        if lost:
            self._count("dropped", lost)
            log.error("%d rows of the prediction log could not be written before the end", lost)
        return lost

    async def room(self, deadline: float) -> None:
        """Wait until there is room.

        Raises:
            TooLate: The deadline came first.
        """
        self._hurry.set()
        while self.is_full:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(room)
            try:
                if not self.is_full:  # the thread may have found nobody waiting just before
                    return
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                    await room
            except TimeoutError:
                raise TooLate("the prediction log had no room before the deadline") from None
            finally:
                self._waiters.discard(room)

    def observe(
        self, served: Version, batch: Sequence[Waiting], result: Result, seconds: float
    ) -> None:
        """Take a batch; an observer of `trivet.hosts.service.serving.Models`."""
        if isinstance(result, Exception):
            return
        start = rows = 0
        kept = []
        sample, chance = self._settings.sample, self._chance
        for waiting in batch:
            if sample >= 1 or chance() < sample:
                kept.append(asked(start, waiting))
                rows += waiting.count
            start += waiting.count
        if not kept:
            return
        weight = weight_of(rows, kept, result)
        if not self._settings.block and self._held and self._held + weight > self._settings.queue:
            self._count("dropped", rows)
            self._tell("the prediction log is full: %d rows wait; more are left out", self.queued)
            return
        self._put += rows
        self._weighed += weight
        entry = Entry(served, kept, rows, start, result, time.monotonic(), time.time(), weight)
        self._entries.append(entry)

    def _count(self, what: str, rows: int) -> None:
        self._metrics.count("trivet_log_rows", rows, outcome=what)

    def _tell(self, message: str, *parts: object) -> None:
        """Log a trouble that goes on, every ten seconds only."""
        now = time.monotonic()
        if now - self._told > 10:
            self._told = now
            log.error(message, *parts)

    def _run(self) -> None:
        """Write until told to stop and nothing is left, or the time for that is up."""
        while True:
            self._wait_for_company()
            chunk = self._chunk()
            if not all(self._store(entries) for entries in _by_model(chunk)):
                break
            self._free(chunk)
            if not chunk and self._stopping.is_set():
                break
        self._close()

    def _store(self, entries: Sequence[Entry], *, again: bool = True) -> bool:
        """Write entries of one model, without those that cannot be written.

        Args:
            entries: What to write.
            again: Whether a single request is tried once more: a connection that broke may look
                like a request that cannot be written.

        Returns:
            Whether there is time to go on.
        """
        wait = RETRY_SECONDS[0]
        while True:
            ready = False
            try:
                opened = self._open()
                number, references = self._lineage(opened, entries[0].served)
                ready = True
                self._write(opened, entries, number, references)
            except Exception as error:  # noqa: BLE001 - whatever it is, requests must go on
                away = self._opened is None or isinstance(error, TransientError)
                self._close()
                if not away:
                    return self._without_the_bad(entries, error, ready=ready, again=again)
                self._tell("the prediction log cannot be written: %s", error)
                if not self._pause(wait):
                    return False
                wait = min(2 * wait, RETRY_SECONDS[1])
            else:
                self._taken += sum(entry.rows for entry in entries)
                return True

    def _without_the_bad(
        self, entries: Sequence[Entry], error: Exception, *, ready: bool, again: bool
    ) -> bool:
        """Write those of some entries that can be written; `error` is why not all of them can."""
        halves = _halves(entries) if ready else ()
        if halves:
            return all(self._store(half) for half in halves)
        if again:
            return self._store(entries, again=False)
        self._count("refused", sum(entry.rows for entry in entries))
        served = entries[0].served
        if ready:
            log.error(
                "the prediction log has no rows of request %s to model %s: %s: %s",
                entries[0].requests[0][2],
                served.name,
                type(error).__name__,
                error,
            )
        else:
            self._tell("the prediction log takes no rows of model %s: %s", served.name, error)
        self._taken += sum(entry.rows for entry in entries)
        return True

    def _open(self) -> _Opened:
        if self._opened is None:
            self._opened = _Opened(open_results(self._settings.url, root=self._settings.root))
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            with suppress(Exception):  # it may be broken
                opened.db.close()

    def _pause(self, wait: float) -> bool:
        """Wait before another try, shortly once told to stop; return whether there is time."""
        if not self._stopping.wait(wait):
            return True
        left = self._stop_at - time.monotonic()
        time.sleep(max(min(left, RETRY_SECONDS[0]), 0.0))
        return left > 0

    def _wait_for_company(self) -> None:
        """Wait a little for rows to write together, unless there is a transaction full of them.

        Without it, a service under load would have a transaction for every few rows.
        """
        if not self._stopping.is_set() and self.queued < WRITE_ROWS:
            self._hurry.wait(WRITE_SECONDS)
            if not self._stopping.is_set():
                self._hurry.clear()

    def _chunk(self) -> list[Entry]:
        chunk, rows = [], 0
        while self._entries and rows < WRITE_ROWS:
            chunk.append(self._entries.popleft())
            rows += chunk[-1].rows
        return chunk

    def _free(self, chunk: Sequence[Entry]) -> None:
        self._freed += sum(entry.weight for entry in chunk)
        if self._waiters and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._let_in)

    def _let_in(self) -> None:
        for room in self._waiters:
            if not room.done():
                room.set_result(None)

    def _write(
        self, opened: _Opened, entries: Sequence[Entry], number: int, references: References
    ) -> None:
        served = entries[0].served
        deployment = results.deployment_of(served.name)
        predictions, inputs = predictions_of(served, number, entries)
        there = results.append(
            opened.db,
            deployment,
            predictions,
            rejects_of(served, deployment, entries),
            Counted(inputs, served.model.outputs.names, references),
        )
        self._count("written", predictions.num_rows - there)
        if there:
            self._count("repeated", there)

    def _lineage(self, opened: _Opened, served: Version) -> tuple[int, References]:
        """Make sure that the table is wide enough; return the version's number and bins."""
        model, deployment = served.model, results.deployment_of(served.name)
        key = (deployment, model.version, model.digest)
        if key not in opened.lineages:
            now = dt.datetime.now(dt.UTC)
            columns = columns_of(served)
            register(
                opened.db,
                Deployment(
                    name=deployment,
                    kind="service",
                    model=served.name,
                    view=view_of(deployment),
                    key=served.reader.beside,
                    keep=(),
                    manifest=served.summary,
                ),
                now,
            )
            results.prepare(opened.db, deployment, results.SERVICE, columns)
            number = results.lineage(opened.db, deployment, model, now)
            opened.lineages[key] = (number, references_of(served.summary))
        return opened.lineages[key]


def _by_model(chunk: Iterable[Entry]) -> Iterable[list[Entry]]:
    """Part entries by what scored them: each part goes into a table of its own."""
    parts: dict[int, list[Entry]] = {}
    for entry in chunk:
        parts.setdefault(id(entry.served), []).append(entry)
    return parts.values()


def _halves(entries: Sequence[Entry]) -> Sequence[Sequence[Entry]]:
    """Cut some entries in two, or the requests of a single one; none if there is one request."""
    middle = len(entries) // 2
    if middle:
        return entries[:middle], entries[middle:]
    (entry,) = entries
    middle = len(entry.requests) // 2
    if not middle:
        return ()
    parts = entry.requests[:middle], entry.requests[middle:]
    return [[replace(entry, requests=part, rows=sum(one[1] for one in part))] for part in parts]
