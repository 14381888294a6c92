"""Connections: uvicorn's, made to bear any bytes, with a short way for small rows; and a sweeper.

The short way leaves uvicorn's parser and pipelining as they are. It holds back the task that would
call the application until the body is there, and then lets the application answer without one, if
it will. Idle connections are the sweeper's: a timer after every answer would cost a twentieth of
the requests.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from trivet.hosts.service.exchange import Headers

ACCEPTS = 8
"""Connections that are taken in one turn of the event loop."""

MAX_PIPELINED = 1000
"""Requests that may wait on one connection for those before them."""

CLOSE = (b"connection", b"close")

_OF_UPGRADE = (b"upgrade", b"http2-settings")


class _Flow(FlowControl):
    """Reads no more while requests wait for their turn.

    uvicorn goes on with each answer and each body that is asked for, and so without end.
    """

    def __init__(self, transport: Any, waiting: Collection[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    _head = 0
    """Bytes of late that were no body: of a head that is not complete, or of trailers."""
    _is_large = _is_reading = _is_refused = _has_body = False
    _data: bytes | memoryview = b""
    _rest: memoryview | None = None
    _held: Any = None
    _begun: Any = None
    _begins: ClassVar[dict[int, tuple[Headers, bytes]]] = {}

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        before = self.cycle
        limit = self.config.app.max_head  # type: ignore[union-attr]
        self._is_large = self._head + len(data) > limit
        self._has_body = False
        self._is_reading = True
        self._data = data
        super().data_received(data)
        while self._rest is not None:
            self._data, self._rest = self._rest, None
            super().data_received(self._data)  # type: ignore[arg-type]
        self._data = b""
        self._is_reading = False
        if self._held is not None:  # its body is not complete yet
            self._let_go()
        self._head = 0 if self._has_body or self.cycle is not before else self._head + len(data)
        if self._head > limit:
            self._refuse(431)

    def on_body(self, body: bytes) -> None:
        self._has_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        cycle = self._held
        if cycle is None:
            if len(self.pipeline) > MAX_PIPELINED:
                raise ValueError("too many requests wait for their turn on one connection")
            return
        if self.app.straight(cycle.scope, bytes(cycle.body), self._write, cycle, self.loop):
            self._held = None
        else:
            self._let_go()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        following = self.pipeline.pop() if self.pipeline else None
        self.flow.resume_reading()
        if following is not None:
            self._start_asgi_task(*following)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        own: Any = self.config.app
        if app is not own:  # there are too many connections
            app = own.crowded
        if self._is_large and self._has_large_head(cycle):
            self._refuse(431)
            return
        self._begun = cycle
        if (
            self._is_reading
            and app is own
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
        parts = [self._begin_of(status, cycle.default_headers)]
        if not cycle.keep_alive:  # the service has begun to stop meanwhile
            headers.append(CLOSE)
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", body)
        self.transport.write(b"".join(parts))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _begin_of(self, status: int, headers: Headers) -> bytes:
        """Return the first lines of an answer: the same until uvicorn's clock moves on."""
        known = self._begins.get(status)
        if known is None or known[0] is not headers:
            lines = [name + b": " + value + b"\r\n" for name, value in headers]
            known = self._begins[status] = headers, b"".join([STATUS_LINE[status], *lines])
        return known[1]

    def _has_large_head(self, cycle: Any) -> bool:
        scope = cycle.scope
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        return size > self.config.app.max_head  # type: ignore[union-attr, no-any-return]

    def _should_upgrade(self) -> bool:
        return True

    def handle_websocket_upgrade(self) -> None:
        """Read on as if no upgrade were asked for, which a server may; the parser left the body.

        Java's client asks for HTTP/2 in this way whenever it connects without TLS.
        """
        method, version = self.scope["method"], self.parser.get_http_version()
        if method == "CONNECT":
            self._refuse(400)
            return
        found: Any = sys.exc_info()[1]
        self._rest = memoryview(self._data)[found.args[0] :]
        lines = [b"%s %s HTTP/%s" % (method.encode(), self.url, version.encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = (token.strip() for token in value.split(b","))
                value = b", ".join(t for t in tokens if t.lower() not in _OF_UPGRADE)  # noqa: PLW2901
            if name not in _OF_UPGRADE:
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        with suppress(AttributeError):  # of httptools before 0.6.3
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            self.parser.feed_data(b"\r\n".join([*lines, b"\r\n"]))
        except httptools.HttpParserError:  # what it says of its body is looked at without upgrade
            self._rest = None
            self._refuse(400)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, which uvicorn would do before what was asked earlier."""
        self._refuse(400)

    def _refuse(self, status: int) -> None:
        """End the connection for what cannot be read on, after the answers that are due."""
        if self._is_refused:
            return
        self._is_refused = True
        self._held = None
        cycle, begun = self.cycle, self._begun
        if cycle is not None and cycle.more_body:  # it is to do with this one's body
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            elif cycle is not begun or not cycle.response_started:
                self._end(status)
                return
            else:  # its answer is on the way, or was
                self.transport.close()
                return
        due = self.pipeline[0][0] if self.pipeline else begun
        if due is None or due.response_complete:
            self._end(status)
            return
        respond = due.on_response

        def last() -> None:
            respond()
            self._end(status)

        due.on_response = last

    def _end(self, status: int) -> None:
        if self.transport.is_closing():
            return
        self.config.app.unreadable(status, self.client)  # type: ignore[union-attr]
        if status == 400:
            super().send_400_response("Invalid HTTP request received.")
            return
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            b"content-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()


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
            unread = connection.transport.get_write_buffer_size()
            resting = cycle is None or (cycle.response_complete and not unread)
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


def shares(sock: socket.socket) -> list[socket.socket]:
    """Return a listening socket several times over.

    uvloop takes one connection from each in a turn. From one alone it would take a burst of new
    clients, and the probes behind them, seconds of a busy loop to get in.
    """
    return [sock, *(sock.dup() for _ in range(ACCEPTS - 1))]
