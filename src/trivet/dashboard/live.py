"""Telling open pages that something was written: server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool

_ALIVE_SECONDS = 15.0
"""A comment is sent this often, so that a proxy does not take the line for dead."""


class Watch:
    """Looks at the results' marker while anybody listens, and tells all of them of a change.

    Args:
        marker: Returns a text that is another one after a change; called in a thread.
        every: Seconds between two looks.
    """

    def __init__(self, marker: Callable[[], str], every: float) -> None:
        self._marker, self._every = marker, every
        self._listeners: set[asyncio.Queue[str]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.last = ""

    async def events(self) -> AsyncIterator[str]:
        """Give the lines of one listener's stream: the marker at first, then each change."""
        queue: asyncio.Queue[str] = asyncio.Queue(1)
        self._listeners.add(queue)
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        try:
            yield "retry: 2000\n\n"
            if self.last:
                yield _event(self.last)
            while not self._stopping.is_set():
                try:
                    found = await asyncio.wait_for(queue.get(), _ALIVE_SECONDS)
                except TimeoutError:
                    yield ": alive\n\n"
                else:
                    if not self._stopping.is_set():
                        yield _event(found)
        finally:
            self._listeners.discard(queue)

    def stop(self) -> None:
        """End every stream, so that the server can end."""
        self._stopping.set()
        self._tell("")

    async def close(self) -> None:
        """Stop looking."""
        self.stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        while not self._stopping.is_set():
            if self._listeners:
                found = await run_in_threadpool(self._marker)
                if found != self.last:
                    self.last = found
                    self._tell(found)
            await asyncio.sleep(self._every)

    def _tell(self, found: str) -> None:
        for queue in self._listeners:
            if queue.full():  # it has not taken the last one yet: the newest is enough
                queue.get_nowait()
            queue.put_nowait(found)


def _event(marker: str) -> str:
    return f"event: change\ndata: {marker}\n\n"
