"""Connections: uvicorn's, with a limit for heads, a short way for small rows, and a sweeper.

The short way leaves uvicorn's parser and pipelining as they are. It holds back the task that would
call the application until the body is there, and then lets the application answer without one, if
it will. Idle connections are the sweeper's: a timer after every answer would cost a twentieth of
the requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from trivet.hosts.service.exchange import Headers

CLOSE = (b"connection", b"close")


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    _head = 0
    _is_reading = False
    _held: Any = None

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        self._is_reading = True
        super().data_received(data)
        self._is_reading = False
        if self._held is not None:  # its body is not complete yet
            self._let_go()
        self._limit_head(data, before)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        cycle = self._held
        if cycle is None:
            return

        def write(status: int, headers: Headers, body: bytes) -> None:
            self._write(cycle, status, headers, body)

        if self.app.straight(cycle.scope, bytes(cycle.body), write):
            self._held = None
        else:
            self._let_go()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if (
            self._is_reading
            and app is self.config.app
            and cycle.scope["method"] == "POST"
            and cycle.keep_alive
            and not cycle.waiting_for_100_continue
            and not self.flow.write_paused
        ):
            self._held = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _let_go(self) -> None:
        cycle, self._held = self._held, None
        super()._start_asgi_task(cycle, self.app)

    def _write(self, cycle: Any, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole answer, and say so as `RequestResponseCycle.send` does."""
        if cycle.disconnected:
            return
        parts = [STATUS_LINE[status]]
        told = [*cycle.default_headers, *headers]
        if not cycle.keep_alive:  # the service has begun to stop meanwhile
            told.append(CLOSE)
        for name, value in told:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", body)
        self.transport.write(b"".join(parts))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _limit_head(self, data: bytes, before: Any) -> None:
        """Cut a request off whose head does not end."""
        if self.cycle is before and (
            before is None or (before.response_complete and not before.more_body)
        ):
            self._head += len(data)
            limit = self.config.app.max_head  # type: ignore[union-attr]
            if self._head > limit and not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                    b"content-length: 0\r\nconnection: close\r\n\r\n"
                )
                self.transport.close()
        else:
            self._head = 0


class Sweeper:
    """Cuts connections off that neither finish a request nor take their answer.

    Args:
        idle: Seconds that a connection may spend without a complete request head.
        busy: Seconds that a request may take from its head to the last byte of its answer.
    """

    def __init__(self, idle: float, busy: float) -> None:
        self._idle = idle
        self._busy = busy
        self._seen: dict[Any, tuple[Any, bool, float]] = {}

    def sweep(self, connections: Sequence[Any], now: float) -> int:
        """Look at the connections, some time after the last look; return how many were cut off."""
        seen, cut = {}, 0
        for connection in connections:
            cycle = connection.cycle
            resting = cycle is None or cycle.response_complete
            known, rested, since = self._seen.get(connection, (None, False, now))
            if known is not cycle or rested is not resting:
                since = now
            if now - since > (self._idle if resting else self._busy):
                connection.transport.abort()
                cut += 1
                continue
            seen[connection] = cycle, resting, since
        self._seen = seen
        return cut
