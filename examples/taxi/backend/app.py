"""The application: the page, the rides, and the news about them."""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request as Call
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.estimates import Estimates
from backend.limits import Limiter
from backend.live import Live, TooMany
from backend.page import Page
from backend.rides import End, Ended, Refused, Request, Ride, new_id, text_of
from backend.sessions import COOKIE, FLEET, Sessions
from backend.storage import Database

T = TypeVar("T")

STATIC = Path(__file__).with_name("static")
_MOST = 4096
_UNDER_WAY = 100
"""So many requests are worked on at once."""
_YEAR = 365 * 86_400
_NO_RIDE = "you have no such ride"
_PROTECTION = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"geolocation=(), camera=(), microphone=()"),
]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What users may do, and how time goes.

    Attributes:
        burst: Rides that a user may request at once.
        refill: Seconds until one more may be requested.
        time_lapse: Minutes of a ride that pass in one minute; only a demo has other than 1.
        now: Tells the time.
    """

    burst: int = 5
    refill: float = 6.0
    time_lapse: float = 1.0
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)


class Taxi:
    """The handlers, over the parts that do the work."""

    def __init__(
        self,
        database: Database,
        estimates: Estimates,
        live: Live,
        sessions: Sessions,
        fleet_token: str,
        rules: Rules,
    ) -> None:
        self._database = database
        self._estimates = estimates
        self._live = live
        self._sessions = sessions
        self._fleet_token = fleet_token.encode()
        self._rules = rules
        self._limit = Limiter(rules.burst, rules.refill)
        self._visitors = Limiter(120, 1.0)
        self._page = Page(rules.time_lapse)
        self._under_way = 0

    def routes(self) -> list[Route | Mount]:
        """Return the addresses."""
        return [
            Route("/", self.page),
            Route("/health", self.health),
            Route("/api/outlines", self.outlines),
            Route("/api/rides", self.request, methods=["POST"]),
            Route("/api/rides", self.rides, methods=["GET"]),
            Route("/api/rides/{ride_id}", self.ride),
            Route("/api/rides/{ride_id}/end", self.end, methods=["POST"]),
            Route("/api/events", self.events),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    async def page(self, call: Call) -> Response:
        """The page; a new visitor gets a cookie."""
        headers = {"cache-control": "no-cache", "etag": self._page.etag, "vary": "cookie"}
        known = self._sessions.user(call.cookies.get(COOKIE)) is not None
        if known and call.headers.get("if-none-match") == self._page.etag:
            return Response(status_code=304, headers=headers)
        reply = Response(self._page.html, media_type="text/html", headers=headers)
        if not known:
            self._take(self._visitors, call.client.host if call.client else "", "visits")
            reply.set_cookie(
                COOKIE,
                self._sessions.new(),
                max_age=_YEAR,
                httponly=True,
                samesite="strict",
                secure=call.url.scheme == "https",
            )
        return reply

    async def health(self, call: Call) -> Response:
        """Whether rides can be taken."""
        await self._database.ride("")
        return _json({"status": "ok"})

    async def outlines(self, call: Call) -> Response:
        """The zones' real outlines, if somebody has made them with outlines.py."""
        if self._page.outlines is None:
            return _json(None)
        return Response(self._page.outlines, media_type="application/json")

    async def request(self, call: Call) -> Response:
        """Take a ride, unless so many are being taken that this one would wait too long."""
        if self._under_way >= _UNDER_WAY:
            raise Refused(503, "very many rides are asked for; try again", {"retry-after": "1"})
        self._under_way += 1
        try:
            return await self._request(call)
        finally:
            self._under_way -= 1

    async def _request(self, call: Call) -> Response:
        """Estimate, keep, answer. Nobody waits for the stream."""
        user = self._user(call)
        asked = await _body(call, Request)
        now = self._rules.now()
        if asked.pickup_at is not None and user != FLEET:
            raise Refused(403, "a ride starts now; leave out pickup_at")
        if user != FLEET:
            self._take(self._limit, user, "rides")
        requested_at = text_of(now)
        pickup_at = text_of(_utc(asked.pickup_at)) if asked.pickup_at else requested_at
        ride_id = asked.ride_id or new_id()
        facts = {
            "pickup_at": pickup_at,
            "pickup_zone": asked.pickup_zone,
            "dropoff_zone": asked.dropoff_zone,
        }
        duration, fare = await self._estimates.of(ride_id, facts)
        ride = Ride(
            ride_id,
            user,
            requested_at,
            pickup_at,
            asked.pickup_zone,
            asked.dropoff_zone,
            asked.passengers,
            asked.payment,
            duration,
            fare,
        )
        event = msgspec.json.encode(ride.event()).decode()
        kept, new = await self._database.add(ride, event)
        if new:
            self._live.tell(kept)
        location = {"location": f"/api/rides/{kept.ride_id}"}
        return _json(kept.told(), 201 if new else 200, location)

    async def rides(self, call: Call) -> Response:
        """A user's own rides, the latest first."""
        rides = await self._database.rides_of(self._user(call))
        return _json([ride.told() for ride in rides])

    async def ride(self, call: Call) -> Response:
        """One of a user's own rides; another user's is as good as none."""
        user = self._user(call)
        ride = await self._database.ride(call.path_params["ride_id"])
        if ride is None or ride.user_id != user:
            raise Refused(404, _NO_RIDE)
        return _json(ride.told())

    async def end(self, call: Call) -> Response:
        """End a ride: its passenger arrives, or the fleet's meter says how it was."""
        user = self._user(call)
        end = await _body(call, End)
        meter = (end.duration_minutes, end.fare, end.total)
        if user != FLEET and meter != (None, None, None):
            raise Refused(403, "the meter is read by the fleet; send the tip only")
        now, lapse = self._rules.now(), self._rules.time_lapse

        def ended(ride: Ride) -> Ended:
            elapsed = (now - dt.datetime.fromisoformat(ride.pickup_at)).total_seconds() / 60
            return end.told(text_of(now), max(elapsed, 0.0) * lapse, ride.payment == "card")

        told = await self._database.end(call.path_params["ride_id"], user, ended)
        if told is None:
            raise Refused(404, _NO_RIDE)
        self._live.tell(told)
        return _json(told.told())

    async def events(self, call: Call) -> Response:
        """A user's rides and everything new about them, for as long as the page is open."""
        user = self._user(call)
        try:
            page = self._live.join(user)
        except TooMany:
            raise Refused(429, "too many pages are open; close one", {"retry-after": "5"}) from None

        async def known() -> list[dict[str, Any]]:
            return [ride.told() for ride in await self._database.rides_of(user)]

        return StreamingResponse(
            self._live.follow(user, page, known),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def _user(self, call: Call) -> str:
        """Return who asks.

        Raises:
            Refused: Nobody that is known, or another site's page in somebody's name.
        """
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if hmac.compare_digest(token.strip().encode(), self._fleet_token):
                return FLEET
            raise Refused(401, "not the fleet's token", {"www-authenticate": "Bearer"})
        if call.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "only this application's own page may ask")
        user = self._sessions.user(call.cookies.get(COOKIE))
        if user is None:
            raise Refused(401, "open the page first: it gives the cookie that is missing")
        return user

    @staticmethod
    def _take(limit: Limiter, who: str, what: str) -> None:
        if wait := limit.wait(who):
            seconds = int(wait) + 1
            raise Refused(
                429, f"too many {what}; try again in {seconds} s", {"retry-after": str(seconds)}
            )


def application(
    taxi: Taxi, around: Sequence[Callable[[], AbstractAsyncContextManager[None]]] = ()
) -> ASGIApp:
    """Return the application.

    Args:
        taxi: Its handlers.
        around: What runs as long as the application does.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in around:
                await stack.enter_async_context(part())
            yield

    return protected(
        Starlette(routes=taxi.routes(), lifespan=lifespan, exception_handlers={Refused: _refused})
    )


def protected(app: ASGIApp) -> ASGIApp:
    """Add to every answer what tells a browser to trust nothing else."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_PROTECTION]
            await send(message)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    return wrapped


async def _body(call: Call, kind: type[T]) -> T:
    """Read a small JSON body.

    Raises:
        Refused: It is something else, or not what it should be; says where.
    """
    if call.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "send application/json")
    body = bytearray()
    async for chunk in call.stream():
        body += chunk
        if len(body) > _MOST:
            raise Refused(413, f"at most {_MOST} bytes are read")
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (
        msgspec.ValidationError,
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        raise Refused(422, str(error)) from None


async def _refused(call: Call, error: Exception) -> Response:
    assert isinstance(error, Refused)
    body = {"title": "refused", "status": error.status, "detail": error.detail}
    return Response(
        msgspec.json.encode(body),
        error.status,
        error.headers,
        media_type="application/problem+json",
    )


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    told = {"cache-control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(value), status, told, media_type="application/json")


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
