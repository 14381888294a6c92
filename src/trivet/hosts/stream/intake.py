"""Events between the thread that polls and the threads that score and keep: bounded, in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from trivet.brokers.base import Fetched
from trivet.results.offsets import Span, Standing


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Events of one partition as they were polled.

    Attributes:
        fetched: The events.
        begin: The offset that the partition was at before them.
        size: Bytes of their values.
        largest: Bytes of the longest one.
        arrived: When they came, by the monotonic clock.
    """

    fetched: Fetched
    begin: int
    size: int
    largest: int
    arrived: float

    @classmethod
    def of(cls, fetched: Fetched, begin: int, arrived: float) -> Chunk:
        """Return events as a chunk."""
        sizes = [len(value) for value in fetched.values if value is not None]
        return cls(fetched, begin, sum(sizes), max(sizes, default=0), arrived)

    @property
    def count(self) -> int:
        """How many events."""
        return len(self.fetched.offsets)

    @property
    def end(self) -> int:
        """The offset behind them."""
        return self.fetched.offsets[-1] + 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What is scored and kept together.

    Attributes:
        chunks: The events.
        generation: Of the intake when they were taken; those of an older one count no more.
    """

    chunks: Sequence[Chunk]
    generation: int

    @property
    def count(self) -> int:
        """How many events."""
        return sum(chunk.count for chunk in self.chunks)

    @property
    def spans(self) -> dict[int, Span]:
        """By partition, the offsets that it begins at and ends before."""
        found: dict[int, Span] = {}
        for chunk in self.chunks:
            partition = chunk.fetched.partition
            begin = found[partition][0] if partition in found else chunk.begin
            found[partition] = (begin, chunk.end)
        return found


class Intake:
    """The events under way: polled, and not kept yet.

    One thread puts and drops, one takes, one tells what is done.

    Args:
        most: Events that may be under way.
        most_bytes: Bytes that their values may have.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.standings: Sequence[Standing] = ()
        self._most, self._most_bytes = most, most_bytes
        self._changed = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._waiting = 0  # events in `_chunks`
        self._events = self._bytes = 0  # of `_chunks` and of the batches taken
        self._taken: dict[int, int] = {}  # by partition, the batches taken with events of it
        self._kept: dict[int, int] = {}  # by partition, the offset that is not mirrored yet
        self._reached: dict[int, tuple[int, float]] = {}  # the offset that was kept, and when
        self._closed = False
        self._stale = False
        self.generation = 0

    @property
    def events(self) -> int:
        """Events under way."""
        return self._events

    @property
    def room(self) -> int:
        """Events that may come beside those under way."""
        if self._bytes >= self._most_bytes:
            return 0
        return max(0, self._most - self._events)

    @property
    def is_stale(self) -> bool:
        """Whether the partitions must be placed anew: see `reset`."""
        return self._stale

    def put(self, chunks: Iterable[Chunk]) -> None:
        """Take events that were polled; none while the partitions are to be placed anew."""
        with self._changed:
            if self._stale:
                return
            for chunk in chunks:
                self._chunks.append(chunk)
                self._waiting += chunk.count
                self._events += chunk.count
                self._bytes += chunk.size
            self._changed.notify_all()

    def take(self, most: int, seconds: float) -> Batch | None:
        """Wait for events and return up to so many; None once it is closed and empty.

        Args:
            most: Events of a batch.
            seconds: How long the first event waits for others.
        """
        with self._changed:
            while not self._chunks:
                if self._closed:
                    return None
                self._changed.wait()
            until = self._chunks[0].arrived + seconds
            while self._waiting < most and not self._closed:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
                if not self._chunks:  # dropped meanwhile
                    return Batch((), self.generation)
            return self._cut(most)

    def done(self, batch: Batch, *, kept: bool) -> None:
        """Say that a batch is no longer under way, and whether its offsets were kept."""
        now = time.monotonic()
        with self._changed:
            for chunk in batch.chunks:
                self._events -= chunk.count
                self._bytes -= chunk.size
            for partition, (_, end) in batch.spans.items():
                self._taken[partition] -= 1
                if kept:
                    self._kept[partition] = end
                    self._reached[partition] = (end, now)
            self._changed.notify_all()

    def drop(self, partitions: Collection[int] | None = None) -> None:
        """Forget events that were not taken yet, of some partitions or of all."""
        with self._changed:
            left: deque[Chunk] = deque()
            for chunk in self._chunks:
                if partitions is None or chunk.fetched.partition in partitions:
                    self._waiting -= chunk.count
                    self._events -= chunk.count
                    self._bytes -= chunk.size
                else:
                    left.append(chunk)
            self._chunks = left
            self._changed.notify_all()

    def reset(self) -> None:
        """Forget everything: the offsets that it began at are not the true ones."""
        with self._changed:
            self.generation += 1
            self._stale = True
        self.drop()

    def begin_anew(self) -> None:
        """Say that the partitions are placed where they should be."""
        with self._changed:
            self._stale = False
            self._kept.clear()

    def settle(self, partitions: Collection[int], seconds: float) -> bool:
        """Wait until no batch with events of some partitions is under way."""
        until = time.monotonic() + seconds
        with self._changed:
            while any(self._taken.get(partition) for partition in partitions):
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until a good part of the room is free again."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._events > self._most // 2 or self._bytes > self._most_bytes // 2:
                left = until - time.monotonic()
                if left <= 0 or self._closed:
                    return False
                self._changed.wait(left)
        return True

    def kept(self) -> dict[int, int]:
        """Return, once, the offsets that were kept since the last call."""
        with self._changed:
            kept, self._kept = self._kept, {}
        return kept

    def forget(self, partitions: Collection[int]) -> None:
        """Forget what was kept of partitions: they go to, or come from, another member."""
        with self._changed:
            for partition in partitions:
                self._kept.pop(partition, None)
                self._reached.pop(partition, None)

    def reached(self) -> Mapping[int, tuple[int, float]]:
        """Return the offset that each partition has reached, and when, by the monotonic clock."""
        with self._changed:
            return dict(self._reached)

    def close(self) -> None:
        """Let what is under way come to its end, and nothing after it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _cut(self, most: int) -> Batch:
        chunks: list[Chunk] = []
        count = 0
        while self._chunks and count < most:
            chunk = self._chunks.popleft()
            if count + chunk.count > most:
                chunk, rest = _split(chunk, most - count)
                self._chunks.appendleft(rest)
            chunks.append(chunk)
            count += chunk.count
        self._waiting -= count
        batch = Batch(chunks, self.generation)
        for partition in batch.spans:
            self._taken[partition] = self._taken.get(partition, 0) + 1
        return batch


def _split(chunk: Chunk, count: int) -> tuple[Chunk, Chunk]:
    head, tail = _cut(chunk.fetched, 0, count), _cut(chunk.fetched, count, chunk.count)
    first = Chunk.of(head, chunk.begin, chunk.arrived)
    rest = Chunk(tail, first.end, chunk.size - first.size, chunk.largest, chunk.arrived)
    return first, rest


def _cut(fetched: Fetched, start: int, stop: int) -> Fetched:
    return Fetched(
        fetched.partition,
        fetched.offsets[start:stop],
        fetched.keys[start:stop],
        fetched.values[start:stop],
        None if fetched.headers is None else fetched.headers[start:stop],
        fetched.times[start:stop],
    )
