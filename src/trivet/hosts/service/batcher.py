"""The natural batch: whatever arrived while the model was busy is the next batch.

Nothing waits for company. A model that answers in well under a millisecond is called in the event
loop itself, once for all requests that one turn of the loop read; any other model, and any large
batch, is called on a thread of its own, so that it stops neither the other models nor the health
endpoints. That thread takes the next batch itself: under overload the event loop is busy with
requests that it refuses, and the model must not wait for it. A thread whose model does not come
back is left behind and another one takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa

from trivet.contract import Model
from trivet.errors import TrivetError
from trivet.hosts.service.answers import (
    Answer,
    Predictions,
    Result,
    Waiting,
    scored,
    share,
)
from trivet.hosts.service.lane import Thread
from trivet.records import Record, RecordReader
from trivet.validation import Decoded

QUICK_SECONDS = 0.0005
"""A model whose batch of a few rows takes no longer is called in the event loop."""

QUICK_ROWS = 256
"""A larger batch goes to the thread, however quick the model."""

SLOW_SECONDS = 20 * QUICK_SECONDS
SLOW_TIMES = 5
"""So many batches in a row that took so long in the event loop, and the model gets a thread."""

SETTLED_TIMES = 100
"""So many that did not, on its thread, and it comes back: it was the machine that was busy. Twice
as many each time."""

MAX_LOST = 4
"""With so many threads that never came back, a model is not asked any more until one does."""

log = logging.getLogger("trivet.service")


class Overloaded(TrivetError):
    """The queue of a model is full: the caller should come again later."""


class TooLate(TrivetError):
    """The request's deadline passed before it was answered."""


Results = list[tuple[list[Waiting], Result]]

Watch = Callable[[Sequence[Waiting], Result, float], None]
"""Told of every batch, after its requests have their answers: what came of it, and its seconds."""


@dataclass(slots=True, eq=False)
class Batcher:
    """Gathers the rows for one model and scores them together.

    Attributes:
        model: What scores them.
        reader: Turns records into its columns.
        quick: Whether small batches are scored in the event loop, now.
        max_batch: Rows that are scored in one call, unless one request alone has more.
        max_queue: Rows that may wait.
        hang_after: Seconds after which a call on the thread is given up.
        watch: Told of every batch.
        queued: Rows that wait now.
        lost: Threads whose model did not come back.
    """

    model: Model
    reader: RecordReader
    quick: bool
    max_batch: int = 256
    max_queue: int = 10_000
    hang_after: float = 30.0
    watch: Watch | None = None
    queued: int = 0
    lost: int = 0
    _waiting: deque[Waiting] = field(default_factory=deque)
    _busy: bool = False
    _running: _Call | None = None
    _slow: int = 0
    _settled: int = 0
    _patience: int = 0
    """Batches until a model comes back into the event loop; 0 if it was never there."""
    _retired: bool = False
    _thread: Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while rows leave the queue, which both the event loop and the thread take from."""

    def submit(
        self,
        rows: Sequence[Record] | Decoded,
        count: int,
        deadline: float,
        name: str = "",
        began: float = 0.0,
        beside: pa.RecordBatch | None = None,
    ) -> asyncio.Future[Answer]:
        """Queue rows; the future gets their answer. See `queue`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self.queue(Waiting(rows, count, deadline, answer, name, began, beside), loop)
        return answer

    def queue(self, waiting: Waiting, loop: asyncio.AbstractEventLoop) -> None:
        """Queue rows that are waited for in a way of the caller's own.

        Args:
            waiting: The rows.
            loop: The one that runs: to ask for it is a system call.

        Raises:
            Overloaded: Too many rows wait already, or the model hangs on all its threads.
        """
        count = waiting.count
        busy = self.refusal(count)
        if busy is not None:
            raise busy
        if self._running is not None or not self.quick:
            patience = max(waiting.deadline - time.monotonic(), 0.0)
            waiting.timer = loop.call_later(patience, self._expire, waiting)
        with self._lock:
            self._waiting.append(waiting)
            self.queued += count
            begins, self._busy = not self._busy, True
        if begins:
            loop.call_soon(self._begin)

    def refusal(self, count: int) -> Overloaded | None:
        """Say why so many rows more may not wait; None if they may."""
        if self.queued + count > self.max_queue and self.queued:
            return Overloaded(
                f"{self.queued} rows wait for model {self.model.name}; come again later"
            )
        if self.lost >= MAX_LOST:
            return Overloaded(
                f"model {self.model.name} does not come back from {self.lost} calls; "
                "come again later"
            )
        return None

    def retire(self) -> None:
        """End the thread once nothing waits any more; may be called from any thread."""
        with self._lock:
            self._retired = True
            if not self._busy:
                self._end_thread()

    def _rest(self) -> None:
        """Nothing waits any more."""
        with self._lock:
            self._busy = False
            if self._retired:
                self._end_thread()

    def _end_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    def _begin(self) -> None:
        with self._lock:
            batch, rows, late = self._next()
        for waiting in late:
            self._expire(waiting)
        if not batch:
            self._rest()
        elif self.quick and rows <= QUICK_ROWS:
            began = time.perf_counter()
            results = scored(self.model, self.reader, batch)
            seconds = time.perf_counter() - began
            if seconds > SLOW_SECONDS:  # no timer could go off meanwhile
                self._end_late(batch)
            self._answer(results, seconds)
            self._slow = self._slow + 1 if seconds > SLOW_SECONDS else 0
            if self._slow == SLOW_TIMES:
                self._move_out(seconds)
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._begin)
            else:
                self._rest()
        else:
            self._hand_over(batch)

    def _end_late(self, batch: list[Waiting]) -> None:
        now = time.monotonic()
        for waiting in batch:
            if waiting.deadline < now:
                self._expire(waiting)

    def _move_out(self, seconds: float) -> None:
        """Give a model a thread that was quick and is not any more."""
        self.quick = False
        self._slow = self._settled = 0
        self._patience = 2 * self._patience or SETTLED_TIMES
        log.warning(
            "model %s takes %.1f ms a batch; it gets a thread of its own",
            self.model.name,
            seconds * 1000,
        )

    def _move_back(self, seconds: float) -> None:
        """Have a model in the event loop again that was quick once, and is so for a while."""
        self._settled = self._settled + 1 if seconds <= SLOW_SECONDS else 0
        if self._settled == self._patience:
            self.quick = True
            log.info("model %s is quick again; it needs no thread", self.model.name)

    def _hand_over(self, batch: list[Waiting]) -> None:
        """Score a batch on the model's thread."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = Thread(f"model-{self.model.name}")
        for waiting in (*batch, *self._waiting) if self.quick else batch:
            if waiting.timer is None:  # it was queued for the event loop
                patience = max(waiting.deadline - time.monotonic(), 0.0)
                waiting.timer = loop.call_later(patience, self._expire, waiting)
        call = _Call(batch)
        self._expect(call)
        self._thread.do(lambda: self._work(call, loop))

    def _expect(self, call: _Call) -> None:
        """Wait for a call on the thread, but not for ever."""
        loop = asyncio.get_running_loop()
        call.alarm = loop.call_later(self.hang_after, self._give_up, call)
        self._running = call

    def _work(self, call: _Call | None, loop: asyncio.AbstractEventLoop) -> None:
        """Score a batch, and those that came meanwhile; runs on the thread."""
        while call is not None:
            began = time.perf_counter()
            results = scored(self.model, self.reader, call.batch)
            seconds = time.perf_counter() - began
            following, late = self._follow(call)
            with suppress(RuntimeError):  # the loop is closed: the service has ended
                loop.call_soon_threadsafe(self._end, call, results, seconds, following, late)
            call = following

    def _follow(self, call: _Call) -> tuple[_Call | None, list[Waiting]]:
        """End a call on the thread and take the next one, with those that it is too late for."""
        with self._lock:
            call.ended = True
            if call.left or self.quick:
                return None, []
            batch, _, late = self._next()
            return (_Call(batch) if batch else None), late

    def _end(
        self,
        call: _Call,
        results: Results,
        seconds: float,
        following: _Call | None,
        late: list[Waiting],
    ) -> None:
        if call is not self._running:
            self.lost -= 1
            log.warning("model %s came back after %.1f s", self.model.name, seconds)
            return
        if call.alarm is not None:
            call.alarm.cancel()
        self._running = None
        if self._patience and not self.quick:
            self._move_back(seconds)
        if following is not None:
            self._expect(following)
        for waiting in late:
            self._expire(waiting)
        self._answer(results, seconds)
        if following is None:
            self._begin()

    def _give_up(self, call: _Call) -> None:
        """Leave a thread behind that does not come back; the next batch gets a new one."""
        with self._lock:
            if call.ended:  # its answers are on their way
                return
            call.left = True
        self.lost += 1
        log.error(
            "model %s %s has not come back for %.1f s; its thread is left behind (%d so far)",
            self.model.name,
            self.model.version,
            self.hang_after,
            self.lost,
        )
        self._running = None
        self._end_thread()
        for waiting in call.batch:
            self._expire(waiting)
        if self.lost >= MAX_LOST:
            while self._waiting:
                self._expire(self._waiting.popleft())
        self._begin()

    def _expire(self, waiting: Waiting) -> None:
        with self._lock:
            self._leave(waiting)
        if waiting.timer is not None:
            waiting.timer.cancel()
        if not waiting.answer.done():
            waiting.answer.set_exception(
                TooLate(f"model {self.model.name} gave no answer before the deadline")
            )

    def _leave(self, waiting: Waiting) -> None:
        if waiting.queued:
            waiting.queued = False
            self.queued -= waiting.count

    def _next(self) -> tuple[list[Waiting], int, list[Waiting]]:
        """Take what fits into a batch, with its rows; apart from it, what it is too late for.

        What nobody waits for any more is left out.
        """
        batch: list[Waiting] = []
        late: list[Waiting] = []
        rows = 0
        now = time.monotonic()
        while self._waiting and (not batch or rows + self._waiting[0].count <= self.max_batch):
            waiting = self._waiting.popleft()
            self._leave(waiting)
            if waiting.answer.done():
                continue
            if waiting.deadline < now:
                late.append(waiting)
                continue
            batch.append(waiting)
            rows += waiting.count
        return batch, rows, late

    def _answer(self, results: Results, seconds: float) -> None:
        each = seconds / len(results)
        for batch, result in results:
            self._tell(batch, result)
            if self.watch is not None:
                try:
                    self.watch(batch, result, each)
                except Exception:  # the requests have their answers; the next ones want theirs
                    log.exception("a batch of model %s was not counted", self.model.name)

    def _tell(self, batch: list[Waiting], result: Result) -> None:
        """Give the requests of a batch their answers."""
        for waiting in batch:
            if waiting.timer is not None:
                waiting.timer.cancel()
        if isinstance(result, TrivetError):
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(result)
            return
        predictions = Predictions(self.model, result.predictions)
        if result.rows is None and not result.problems.num_rows:
            start = 0
            for waiting in batch:
                stop = start + waiting.count
                if not waiting.answer.done():
                    waiting.answer.set_result(Answer(predictions, range(start, stop)))
                start = stop
        else:
            share(batch, predictions, result)


@dataclass(slots=True, eq=False)
class _Call:
    """A batch that a thread is at work on.

    Attributes:
        batch: What it scores.
        alarm: Gives it up when it takes too long.
        ended: Whether it came back.
        left: Whether it was given up before that.
    """

    batch: list[Waiting]
    alarm: asyncio.TimerHandle | None = None
    ended: bool = False
    left: bool = False
