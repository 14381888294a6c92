"""Work on a stream side by side, in order, with a bounded number of items under way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4
"""Items that may wait besides those that are worked on: each worker has its next one at hand, and
goes on while the caller is busy for a moment."""


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
    pool = ThreadPoolExecutor(workers, "score")
    try:
        with _Reader(
            items, lambda item: pool.submit(work, item), workers + _AHEAD, interrupt
        ) as reader:
            while (future := reader.next()) is not None:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Reader(Generic[T, R]):
    """The thread that takes items and hands them to the workers as long as there is room."""

    def __init__(
        self,
        items: Iterable[T],
        submit: Callable[[T], Future[R]],
        room: int,
        interrupt: Callable[[], None],
    ) -> None:
        self._items = items
        self._submit = submit
        self._interrupt = interrupt
        self._room = threading.Semaphore(room)
        self._under_way: queue.SimpleQueue[Future[R] | None] = queue.SimpleQueue()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="read", daemon=True)

    def __enter__(self) -> _Reader[T, R]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._room.release()
        if not self._ended:
            self._interrupt()
        self._thread.join()

    def next(self) -> Future[R] | None:
        """Return the next item's work, None behind the last; its place is the caller's then."""
        future = self._under_way.get()
        if future is not None:
            self._room.release()
            return future
        self._ended = True
        if self._error is not None:
            raise self._error
        return None

    def _read(self) -> None:
        try:
            items = iter(self._items)
            while self._has_room():
                try:
                    item = next(items)
                except StopIteration:
                    break
                self._under_way.put(self._submit(item))
            self._close_items()  # where they were made: a driver's handles keep to one thread
        except BaseException as caught:  # noqa: BLE001 - handed over to the other thread
            self._error = caught
        self._under_way.put(None)

    def _has_room(self) -> bool:
        self._room.acquire()
        return not self._closed

    def _close_items(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()
