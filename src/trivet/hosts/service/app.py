"""The ASGI application: a callable without a framework, for requests are many and small.

What all protocols share is here: the caller's key, the size limits, the deadline, the request's
id, and a fault turned into the words of the protocol that was spoken to.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from trivet.hosts.service import openapi
from trivet.hosts.service.access import AccessLog
from trivet.hosts.service.answers import Waiting
from trivet.hosts.service.bodies import SMALL, Bodies, Gone, Receive
from trivet.hosts.service.callers import admit, id_of
from trivet.hosts.service.exchange import (
    Context,
    Handler,
    Headers,
    PredictionLog,
    Protocol,
    Reply,
    Request,
    Write,
    explain,
)
from trivet.hosts.service.faults import NO_PROBLEMS, Refused
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.operations import LIVE, READY, Operations
from trivet.hosts.service.protocols import records
from trivet.hosts.service.serving import Models
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.service.straight import Straight

Loop = asyncio.AbstractEventLoop
Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_OPEN = frozenset({LIVE, READY, "/v2/health/live", "/v2/health/ready", "/ping"})
"""Paths that need no key."""

_WANTED = frozenset(
    {
        b"x-request-id",
        b"content-length",
        b"content-type",
        b"x-request-timeout",
        b"x-api-key",
        b"authorization",
        b"origin",
        b"expect",
        b"content-encoding",
        b"transfer-encoding",
    }
)
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_ROUTES = 1024
"""So many addresses are remembered; more than that are not the clients' own."""

_PATH = 256
"""So long an address may be that is remembered."""


class App:
    """The service as an ASGI application.

    Args:
        settings: ``[service]``.
        models: What it serves.
        protocols: Asked in order whether a path is theirs.
        metrics: Counts what happens.
        log: Set if requests wait for the prediction log.
        access: Logs requests.

    Attributes:
        ready: Whether the service wants requests; false while it stops.
        closing: Whether connections are closed after their next answer.
        max_head: Bytes that a request's line and headers may have; for the server to hold to.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        models: Models,
        protocols: Sequence[Protocol] = (records,),
        *,
        metrics: Metrics | None = None,
        log: PredictionLog | None = None,
        access: AccessLog | None = None,
    ) -> None:
        self._settings = settings
        self._models = models
        self.metrics = metrics or Metrics()
        self.pages = openapi.Pages(models, settings, protocols)
        self._own = Operations(self.metrics, self.pages)
        self._protocols: tuple[Protocol, ...] = (*protocols, self._own)
        self._speaks = {id(p): p.__name__.rpartition(".")[2] for p in self._protocols}
        self._routes: dict[tuple[str, str], tuple[Handler, Protocol]] = {}
        self._bodies = Bodies(settings.max_body)
        self._timeout = settings.timeout.total_seconds()
        self._keys = [key.encode() for key in settings.api_keys]
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._log = log
        self._access = access
        self._has_straight = records in protocols and log is None and not self._origins
        # Ids are unique without asking the system for randomness each time.
        self._start = secrets.token_hex(8)
        self._count = itertools.count(1)
        self.max_head = settings.max_head
        self.ready = True
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's life."""
        if scope["type"] != "http":
            await _live(scope, receive, send)
            return
        began = time.monotonic()
        headers: Headers = scope["headers"]
        method, path = scope["method"], scope["path"]
        found = {key: value for key, value in headers if key in _WANTED}
        name = self._name(found.get(b"x-request-id"))
        context = Context(self._settings, self._models, name, began, self._log, ready=self.ready)
        speaking: Protocol = self._own
        held = 0
        try:
            known = self._routes.get((method, path))
            handler, speaking = known or self._route(method, path)
            if self._keys and path not in _OPEN and method != "OPTIONS":
                admit(found, self._keys)
            deadline = began + self._seconds(found.get(b"x-request-timeout"))
            _check_coding(found)
            limit = self._bodies.limit
            if method in _BODILESS or path in _OPEN:
                limit = min(limit, SMALL)
            length = found.get(b"content-length")
            body, held = await self._bodies.read(limit, length, receive, deadline)
            query = scope["query_string"]
            request = Request(path, query, headers, body, name, deadline)
            reply = await handler(context, request)
            if known is None:
                self._remember(method, path, handler, speaking)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the request gets an answer
            reply = speaking.fault(*explain(error, name))
            self._advise(reply, path)
        finally:
            self._bodies.held -= held
        headers = self._headed(reply, name)
        if self._origins:
            headers += self._cors(found.get(b"origin"))
        # A client that waits for leave to send its body would send its next request instead.
        if self.closing or reply.status == 408 or (reply.status >= 400 and b"expect" in found):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        self._note(scope, reply.status, context, context.rows, self._speaks[id(speaking)])

    def straight(self, scope: Scope, body: bytes, write: Write, place: Any, loop: Loop) -> bool:
        """Answer a small good row without a task of its own; the model's batch writes the answer.

        Returns:
            Whether the request was taken; if not, nothing was done and it is to be called as any.
        """
        if not self._has_straight or self.closing:
            return False
        began = time.monotonic()
        found = {key: value for key, value in scope["headers"] if key in _WANTED}
        try:
            served = records.asked(scope["path"], found.get(b"content-type"), body, self._models)
            if served is None or len(body) > self._settings.max_body:
                return False
            if b"content-encoding" in found or b"transfer-encoding" in found:
                return False
            if self._keys:
                admit(found, self._keys)
            deadline = began + self._seconds(found.get(b"x-request-timeout"))
            busy = served.batcher.refusal(1)  # what is refused is not read either
            rows = [served.reader.read(body)] if busy is None else []
        except Exception:  # noqa: BLE001 - as any request it is answered whatever it is
            return False
        if rows and rows[0].problems:
            return False
        name = self._name(found.get(b"x-request-id"))
        asked = Straight(served, name, began, scope, write, place, self._end, self._fail)
        if busy is not None:
            asked.set_exception(busy)
        else:
            served.batcher.queue(Waiting(rows, 1, deadline, asked, name, began), loop)
        return True

    async def crowded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on a connection that is one too many; it is an ASGI application too."""
        most = self._settings.max_connections
        reply = records.fault("crowded", f"more than {most} connections are open", NO_PROBLEMS)
        self._advise(reply, scope["path"])
        context = self.context(self._name(None), time.monotonic())
        headers = [*self._headed(reply, context.name), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        self._note(scope, reply.status, context, 0, "service")

    def unreadable(self, status: int, client: tuple[str, int] | None) -> None:
        """Count and log what was no request, or had a head without an end."""
        scope: Scope = {"method": "", "path": "", "headers": [], "client": client}
        self._note(scope, status, self.context("", time.monotonic()), 0, "service")

    def _end(self, asked: Straight, reply: Reply) -> None:
        """Write the answer of a request on the short way."""
        asked.write(asked.place, reply.status, self._headed(reply, asked.name), reply.body)
        self._note(asked.scope, reply.status, asked, 1, "records")

    def _fail(self, asked: Straight, error: Exception) -> None:
        """Write what an error means to a request on the short way."""
        reply = records.fault(*explain(error, asked.name))
        self._advise(reply, asked.scope["path"])
        self._end(asked, reply)

    def _headed(self, reply: Reply, name: str) -> Headers:
        """Return a reply's headers and those that every reply has."""
        length = (b"content-length", b"%d" % len(reply.body))
        return [*reply.headers, length, (b"x-request-id", name.encode("ascii"))]

    def _note(
        self, scope: Scope, status: int, asked: Context | Straight, rows: int, speaks: str
    ) -> None:
        """Count a request that was answered, and log it."""
        seconds = time.monotonic() - asked.began
        self.metrics.request(asked.served, speaks, status, seconds)
        if self._access is not None:
            self._access.request(scope, status, seconds, asked.name, asked.served, rows, speaks)

    def context(self, name: str, began: float) -> Context:
        """Return the context of a request."""
        return Context(self._settings, self._models, name, began, self._log, None, 0, self.ready)

    def allowed(self, path: str) -> list[str]:
        """Return the methods of a path."""
        found = []
        for method in _METHODS:
            try:
                known = any(p.route(method, path) is not None for p in self._protocols)
            except Refused:
                continue
            if known:
                found += [method, "HEAD"] if method == "GET" else [method]
        return [*found, "OPTIONS"] if found else []

    def _route(self, method: str, path: str) -> tuple[Handler, Protocol]:
        if method == "OPTIONS":
            return self._options, self._own
        for protocol in self._protocols:
            try:
                handler = protocol.route("GET" if method == "HEAD" else method, path)
            except Refused as error:
                return _refusing(error), protocol
            if handler is not None:
                return handler, protocol
        return _refusing(Refused("not_found", f"nothing is served at {path[:100]}")), self._own

    def _remember(self, method: str, path: str, handler: Handler, protocol: Protocol) -> None:
        """Find the handler of an address at once from now on: one of those that are answered."""
        if len(path) > _PATH:
            return
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        self._routes[method, path] = handler, protocol

    async def _options(self, context: Context, request: Request) -> Reply:
        methods = self.allowed(request.path)
        if not methods:
            raise Refused("not_found", f"nothing is served at {request.path[:100]}")
        listed = ", ".join(methods).encode()
        headers = [(b"allow", listed)]
        if self._origins and request.header(b"access-control-request-method"):
            headers += [
                (b"access-control-allow-methods", listed),
                (
                    b"access-control-allow-headers",
                    b"authorization, content-type, x-api-key, x-request-id, x-request-timeout",
                ),
                (b"access-control-max-age", b"600"),
            ]
        return Reply(b"", 204, headers)

    def _name(self, given: bytes | None) -> str:
        """Return the caller's id of a request if it is a plain one, or else one of ours."""
        name = None if given is None else id_of(given)
        if name is not None:
            return name
        return f"{self._start}-{next(self._count):x}"

    def _seconds(self, patience: bytes | None) -> float:
        if patience is None:
            return self._timeout
        try:
            seconds = math.nan if b"_" in patience else float(patience)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise Refused("bad_request", "X-Request-Timeout must be a number of seconds")
        return min(seconds, self._timeout)

    def _advise(self, reply: Reply, path: str) -> None:
        """Add the header that says what to do about a fault."""
        if reply.status == 503:
            reply.headers.append((b"retry-after", b"1"))
        elif reply.status == 415:
            reply.headers.append((b"accept-encoding", b"identity"))
        elif reply.status == 405:
            reply.headers.append((b"allow", ", ".join(self.allowed(path)).encode()))
        elif reply.status == 401:
            reply.headers += [
                (b"www-authenticate", b'Bearer realm="trivet"'),
                (b"www-authenticate", b'Basic realm="trivet: any name, a key as the password"'),
            ]

    def _cors(self, origin: bytes | None) -> Headers:
        if b"*" in self._origins:
            told = b"*"
        elif origin is not None and origin in self._origins:
            told = origin
        else:
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", told),
            (b"access-control-expose-headers", b"x-request-id, retry-after"),
            (b"vary", b"origin"),
        ]


def _check_coding(found: Mapping[bytes, bytes]) -> None:
    """Refuse a compressed body: it would be read as what it is not."""
    for name, plain in ((b"content-encoding", b"identity"), (b"transfer-encoding", b"chunked")):
        coding = found.get(name, plain)
        if coding.strip().lower() != plain:
            told = coding.decode("latin-1")[:60]
            raise Refused(
                "media_type",
                f"{name.decode().title()} {told!r} is not read; send the body uncompressed",
            )


def _refusing(error: Refused) -> Handler:
    async def refuse(context: Context, request: Request) -> Reply:
        raise error

    return refuse


async def _live(scope: Scope, receive: Receive, send: Send) -> None:
    """Follow the server's life; anything else than requests is closed."""
    if scope["type"] != "lifespan":
        await send({"type": "websocket.close"})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
