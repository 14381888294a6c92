"""A thread that a model is called on, and that can be left behind."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable


class Thread:
    """A thread that does one thing after the other; it does not keep a process alive."""

    _numbers = itertools.count(1)

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        name = f"{name}-{next(self._numbers)}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def do(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def end(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work
