"""Appends to the embedded broker: gathered while the disk is busy, written in one transaction."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from zlib import crc32

from trivet.brokers import embedded_log as log
from trivet.brokers.base import Failed, Headers, Member
from trivet.brokers.embedded_file import LogFile
from trivet.brokers.embedded_log import Pending
from trivet.brokers.embedded_member import EmbeddedMember
from trivet.errors import BrokerError, BrokerUnavailable, BufferFull, EventTooLarge, MembershipLost

LINGER = 0.002
"""Seconds for which the first event waits for others, unless `flush` is called."""

MOST_BYTES = 2**28
_LARGEST = 2**28
_RETRY = 0.05

_logger = logging.getLogger("trivet.brokers")


class EmbeddedAppender:
    """One appender; see `trivet.brokers.base.Appender`.

    Args:
        file: A connection of its own.
        logs_of: Gives the logs of a topic by partition.
        transaction: The name of its transactions, or none.
        most: Events that may wait.
        after: Called after events were written.
    """

    def __init__(
        self,
        file: LogFile,
        logs_of: Callable[[str], Mapping[int, int]],
        *,
        transaction: str,
        most: int,
        after: Callable[[], None],
    ) -> None:
        self._file = file
        self._logs_of = logs_of
        self._most = most
        self._after = after
        self._transaction = transaction
        self._epoch = self._shut_out_others() if transaction else 0
        self._begun = False
        self._topics: dict[str, list[int]] = {}
        self._turn = 0
        self._lost = ""
        self._pending: dict[int, Pending] = {}
        self._events = 0
        self._bytes = 0
        self._taking = threading.Lock()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        failed: Failed | None = None,
    ) -> None:
        logs = self._topics.get(topic)
        if logs is None:
            logs = self._topics[topic] = list(self._logs_of(topic).values())
        if self._transaction and not self._begun:
            raise BrokerError("this appender has transactions only: call begin() first")
        place = self._turn if key is None else crc32(key)
        number = logs[place % len(logs)]
        size = len(value or b"") + len(key or b"") + (_size_of(headers) if headers else 0)
        if size > _LARGEST:
            raise EventTooLarge(f"an event of {size:,} bytes: {_LARGEST:,} at most go into {topic}")
        with self._taking:
            if self._events >= self._most or self._bytes + size > MOST_BYTES:
                raise BufferFull(
                    f"{self._events:,} events ({self._bytes:,} bytes) wait to be written to "
                    f"{self._file.path}; flush() first, or append less at a time"
                )
            pending = self._pending.get(number)
            if pending is None:
                pending = self._pending[number] = Pending()
            if headers:
                pending.headers[len(pending.values)] = headers
            pending.keys.append(key)
            pending.values.append(value)
            pending.sizes.append(size)
            if failed is not None:
                pending.failed.append(failed)
            self._events += 1
            self._bytes += size
        if not self._begun and not self._wake.is_set():
            self._wake_writer()

    def flush(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while not self._begun:
            try:
                self._write()
            except BrokerUnavailable:
                if time.monotonic() >= deadline:
                    break
                time.sleep(_RETRY)
            else:
                break
        if self._lost:
            lost, self._lost = self._lost, ""
            raise BrokerError(lost)
        return self._events

    def begin(self) -> None:
        if not self._transaction:
            raise BrokerError("this appender was opened without a transaction name")
        self._check_epoch()
        self._begun = True

    def commit(self, member: Member, offsets: Mapping[int, int]) -> None:
        if not self._begun:
            raise BrokerError("commit() without begin()")
        if not isinstance(member, EmbeddedMember):
            raise BrokerError("the member whose offsets are committed is of another broker")
        bodies = {number: pending.bodies() for number, pending in self._pending.items()}
        with self._file.writing():
            self._check_epoch()
            log.append(self._file, bodies)
            member.commit_within(self._file, offsets)
        self._forget()
        self._after()

    def abort(self) -> None:
        if self._begun:
            self._forget()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._file.close()

    def _forget(self) -> None:
        self._begun = False
        self._pending, self._events, self._bytes = {}, 0, 0

    def _shut_out_others(self) -> int:
        with self._file.writing():
            return int(self._file.rows("open_transaction", name=self._transaction)[0][0])

    def _check_epoch(self) -> None:
        newest = self._file.rows("transaction_epoch", name=self._transaction)[0][0]
        if newest != self._epoch:
            raise MembershipLost(
                f"another appender has opened the transactions {self._transaction!r}; "
                "this one ends without its events"
            )

    def _write(self) -> None:
        """Write what waits; those that call meanwhile find it written."""
        with self._writing:
            with self._taking:
                taken, self._pending = self._pending, {}
                self._turn += 1
            if not taken:
                return
            try:
                bodies = {number: pending.bodies() for number, pending in taken.items()}
                with self._file.writing():
                    log.append(self._file, bodies)
            except BrokerUnavailable:
                self._put_back(taken)
                raise
            except BrokerError as error:
                self._topics.clear()  # one may have been deleted, and made anew
                self._give_up(taken, str(error))
                return
            self._account(taken)
        with suppress(BrokerError):  # what was written is written; the next time may succeed
            self._after()

    def _put_back(self, taken: dict[int, Pending]) -> None:
        with self._taking:
            newer, self._pending = self._pending, taken
            for number, pending in newer.items():
                older = taken.setdefault(number, Pending())
                moved = len(older.values)
                older.headers |= {moved + place: each for place, each in pending.headers.items()}
                older.keys += pending.keys
                older.values += pending.values
                older.sizes += pending.sizes
                older.failed += pending.failed

    def _give_up(self, taken: dict[int, Pending], why: str) -> None:
        events = sum(len(pending.values) for pending in taken.values())
        _logger.error("%d events are given up: %s", events, why)
        if events > sum(len(pending.failed) for pending in taken.values()):
            self._lost = self._lost or f"{events:,} events were given up: {why}"
        self._account(taken)
        for pending in taken.values():
            for failed in pending.failed:
                failed(why)

    def _account(self, done: dict[int, Pending]) -> None:
        with self._taking:
            self._events -= sum(len(pending.values) for pending in done.values())
            self._bytes -= sum(sum(pending.sizes) for pending in done.values())

    def _wake_writer(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="appender", daemon=True)
            self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        while self._wake.wait() and not self._closed.wait(LINGER):
            self._wake.clear()
            if self._closed.is_set():  # close() may have set both before this cleared one
                return
            try:
                self._write()
            except BrokerUnavailable as error:
                _logger.warning("%s", error)
                self._wake.set()
                self._closed.wait(_RETRY)


@functools.lru_cache(maxsize=64)
def _size_of(headers: Headers) -> int:
    return sum(len(name.encode()) + len(value) for name, value in headers)
