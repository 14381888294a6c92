"""What goes to the pages that are open: each user's own rides, as server-sent events."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from backend.rides import Ride

_STREAMS = 6
_BEHIND = 200


class TooMany(Exception):
    """A user has too many pages open."""


class Live:
    """Hands each user's news to the pages that this user has open; used in one event loop."""

    def __init__(self, beat: float = 15.0) -> None:
        self._beat = beat
        self._pages: dict[str, set[asyncio.Queue[bytes | None]]] = defaultdict(set)
        self._closing = False

    def tell(self, ride: Ride) -> None:
        """Send a ride to its user's pages; a page that does not read is cut off, to start anew."""
        if not self.watches(ride.user_id):
            return
        news = _event("ride", ride.told())
        pages = self._pages[ride.user_id]
        for page in list(pages):
            if page.qsize() >= _BEHIND:
                pages.discard(page)
                page.put_nowait(None)
            else:
                page.put_nowait(news)

    def watches(self, user: str) -> bool:
        """Say whether a user has a page open; any thread may ask."""
        return bool(self._pages.get(user))

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        self._closing = True
        for pages in self._pages.values():
            for page in pages:
                page.put_nowait(None)

    def join(self, user: str) -> asyncio.Queue[bytes | None]:
        """Open a user's page.

        Raises:
            TooMany: The user has many already.
        """
        if len(self._pages[user]) >= _STREAMS:
            raise TooMany
        page: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._pages[user].add(page)
        if self._closing:
            page.put_nowait(None)
        return page

    async def follow(
        self,
        user: str,
        page: asyncio.Queue[bytes | None],
        known: Callable[[], Any],
    ) -> AsyncIterator[bytes]:
        """Give the user's rides as they are, then every change; a beat now and then keeps it up.

        The page was joined before the rides are read, so no change falls between.
        """
        try:
            rides: Sequence[dict[str, Any]] = await known()
            yield b"retry: 1000\n\n" + _event("rides", rides)
            while True:
                try:
                    news = await asyncio.wait_for(page.get(), self._beat)
                except TimeoutError:
                    yield b": beat\n\n"
                    continue
                if news is None:
                    return
                yield news
        finally:
            self._pages[user].discard(page)
            if not self._pages[user]:
                del self._pages[user]


def _event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
