"""The prediction log: what was asked and answered, written to the results, in nobody's way.

The event loop only puts finished batches into a bounded queue; one thread turns them into columns
and writes them in short transactions. While the database is away the queue fills; then rows are
left out and counted, or, with ``log_durability = "block"``, requests wait.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trivet.databases import Connection
from trivet.errors import TransientError
from trivet.hosts.service.batcher import Result, TooLate, Waiting
from trivet.hosts.service.log_rows import Entry, asked, columns_of, predictions_of, rejects_of
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
        queue: Rows that may wait.
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
        self._put = 0
        self._taken = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hurry = threading.Event()
        self._stop_at: float | None = None
        self._told = 0.0
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    @property
    def queued(self) -> int:
        """Rows that wait to be written."""
        return self._put - self._taken

    @property
    def is_full(self) -> bool:
        """Whether requests must wait until some rows are written."""
        return self._settings.block and self.queued >= self._settings.queue

    def start(self) -> None:
        """Begin to write; call it in the event loop that `observe` is called in."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self, patience: float) -> int:
        """Write what is left, for so many seconds at most; return how many rows were lost."""
        self._stop_at = time.monotonic() + patience
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
            self._waiters.append(room)
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                    await room
            except TimeoutError:
                raise TooLate("the prediction log had no room before the deadline") from None

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
        if not self._settings.block and self.queued and self.queued + rows > self._settings.queue:
            self._count("dropped", rows)
            self._tell("the prediction log is full: %d rows wait; more are left out", self.queued)
            return
        self._put += rows
        entry = Entry(served, kept, rows, start, result, time.monotonic(), time.time())
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
        opened: _Opened | None = None
        wait = RETRY_SECONDS[0]
        chunk: list[Entry] = []
        while True:
            if not chunk:
                self._wait_for_company()
                chunk = self._chunk()
            if not chunk:
                if self._stop_at is not None:
                    break
                continue
            try:
                opened = opened or _Opened(
                    open_results(self._settings.url, root=self._settings.root)
                )
                self._write(opened, chunk)
                wait = RETRY_SECONDS[0]
            except Exception as error:  # noqa: BLE001 - whatever it is, requests must go on
                self._tell("the prediction log cannot be written: %s", error)
                if opened is not None:
                    opened.db.close()
                    opened = None
                passes = isinstance(error, TransientError) or self._settings.block
                if passes:
                    if self._stop_at is not None and time.monotonic() >= self._stop_at:
                        break
                    time.sleep(wait)
                    wait = min(2 * wait, RETRY_SECONDS[1])
                    continue
                self._count("refused", sum(entry.rows for entry in chunk))
            self._done(chunk)
            chunk = []
        if opened is not None:
            opened.db.close()

    def _wait_for_company(self) -> None:
        """Wait a little for rows to write together, unless there is a transaction full of them.

        Without it, a service under load would have a transaction for every few rows.
        """
        if self._stop_at is None and self.queued < WRITE_ROWS:
            self._hurry.wait(WRITE_SECONDS)
            if self._stop_at is None:
                self._hurry.clear()

    def _chunk(self) -> list[Entry]:
        chunk, rows = [], 0
        while self._entries and rows < WRITE_ROWS:
            chunk.append(self._entries.popleft())
            rows += chunk[-1].rows
        return chunk

    def _done(self, chunk: list[Entry]) -> None:
        self._taken += sum(entry.rows for entry in chunk)
        if self._waiters and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._let_in)

    def _let_in(self) -> None:
        while self._waiters:
            room = self._waiters.popleft()
            if not room.done():
                room.set_result(None)

    def _write(self, opened: _Opened, chunk: list[Entry]) -> None:
        groups: dict[int, list[Entry]] = {}
        for entry in chunk:
            groups.setdefault(id(entry.served), []).append(entry)
        for entries in groups.values():
            served = entries[0].served
            deployment = results.deployment_of(served.name)
            number, references = self._lineage(opened, deployment, served)
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

    def _lineage(self, opened: _Opened, deployment: str, served: Version) -> tuple[int, References]:
        """Make sure that the table is wide enough; return the version's number and bins."""
        model = served.model
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
