"""Bodies of requests: read within limits, those of one request and those of all together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trivet.hosts.service.exchange import LARGE_BYTES
from trivet.hosts.service.faults import Refused

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

SMALL = 8 * 2**10
"""Bytes of a body where there is no use for one."""

BODIES = 8
"""Bodies of the largest size that may be under way at once."""

LEAST = 256 * 2**20
"""Bytes that bodies may have together in any case."""


class Gone(Exception):
    """The client went away before its request was complete."""


class Bodies:
    """What the bodies under way have together, those that came small and whole not counted.

    Args:
        limit: Bytes of one body.

    Attributes:
        limit: Bytes of one body.
        held: Bytes of all that are being read, or whose requests are being answered.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._most = max(BODIES * limit, LEAST)

    def hold(self, size: int) -> None:
        """Count bytes of a body, which the caller takes off `held` again.

        Raises:
            Refused: There are too many; they are not counted.
        """
        if self.held + size > self._most:
            raise Refused(
                "busy",
                f"the bodies of requests under way have {self.held} bytes; "
                f"{self._most} is the most together",
            )
        self.held += size

    async def read(
        self, limit: int, length: bytes | None, receive: Receive, deadline: float
    ) -> tuple[bytes, int]:
        """Read a body, and return it and how much of it is in `held`, for the caller to take off.

        Args:
            limit: Bytes of this one.
            length: What the request says that its length is.
            receive: The request's parts, as ASGI has them.
            deadline: When the caller no longer wants the answer, by `time.monotonic`.

        Raises:
            Refused: It is too large, there are too many, or the deadline came first.
            Gone: The client did not send all of it.
        """
        if length is not None and (len(length) > 18 or int(length) > limit):
            raise _too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if message.get("more_body"):
            return await self._rest(body, limit, receive, deadline)
        if len(body) <= LARGE_BYTES:
            return body, 0
        self.hold(len(body))
        return body, len(body)

    async def _rest(
        self, body: bytes, limit: int, receive: Receive, deadline: float
    ) -> tuple[bytes, int]:
        whole, held, more = bytearray(body), 0, True  # a list of small parts would take many times
        try:
            self.hold(len(whole))
            held = len(whole)
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    whole += message.get("body", b"")
                    if len(whole) > limit:
                        raise _too_large(limit)
                    self.hold(len(whole) - held)
                    held = len(whole)
                    more = message.get("more_body", False)
            return bytes(whole), held
        except BaseException as error:
            self.held -= held
            if isinstance(error, TimeoutError):
                raise Refused("slow", "the body was not complete before the deadline") from None
            raise


def _too_large(limit: int) -> Refused:
    return Refused("too_large", f"a body of at most {limit} bytes is read")
