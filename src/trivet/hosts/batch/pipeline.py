"""Work on a stream side by side, in order, with a bounded number of items under way."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.1


def pipelined(
    items: Iterable[T],
    work: Callable[[T], R],
    workers: int,
    interrupt: Callable[[], None] = lambda: None,
) -> Generator[R, None, None]:
    """Yield ``work(item)`` for every item, in order, while the next items are read and worked on.

    Items are taken in one thread of their own, so that reading, working and whatever the caller
    does with the results overlap. Besides the one that the caller has, at most ``workers + 4``
    items are held at any time. Closing the iterator ends the threads; an exception of `items` or
    `work` comes out where its result would.

    Args:
        items: What to work on.
        work: Called with each item, by any of the workers.
        workers: Threads that work.
        interrupt: Called if the iterator ends before the items do, to end a read under way.
    """
    with _Reader(items, interrupt) as reader:
        pool = ThreadPoolExecutor(workers, "score")
        under_way: deque[Future[R]] = deque()
        try:
            for item in reader:
                under_way.append(pool.submit(work, item))
                # One result waits while each worker is busy and has its next item at hand.
                while len(under_way) > workers + 1 or (under_way and under_way[0].done()):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
            reader.fail()
        finally:
            pool.shutdown(cancel_futures=True)


class _End:
    """What a reader puts last: the exception that ended it, if one did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Reader(Generic[T]):
    def __init__(self, items: Iterable[T], interrupt: Callable[[], None]) -> None:
        self._items = items
        self._interrupt = interrupt
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=2)
        self._closed = threading.Event()
        self._end: _End | None = None
        self._thread = threading.Thread(target=self._read, name="read", daemon=True)

    def __enter__(self) -> _Reader[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._end is None:
            self._interrupt()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                self._end = item
                return
            yield item

    def fail(self) -> None:
        """Raise what ended the items, if it was an exception."""
        if self._end is not None and self._end.error is not None:
            raise self._end.error

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    break
            self._close_items()  # where they were made: a driver's handles keep to one thread
        except BaseException as caught:  # noqa: BLE001 - handed over to the other thread
            error = caught
        self._put(_End(error))

    def _close_items(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()

    def _put(self, item: T | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
