"""Who may look, and what a browser may do with what it gets."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trivet.dashboard.settings import LOOPBACK, DashboardSettings

COOKIE = "trivet_dashboard"
_OPEN = ("/static/", "/login", "/health")
_LONGEST_FORM = 4096

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing inline, nothing of another host."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Lets in who may look, and puts the headers of `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp, settings: DashboardSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, stamped)

    def _refusal(self, scope: Scope) -> Response | None:
        settings, headers = self._settings, Headers(scope=scope)
        if not settings.token and not settings.user_header:
            # A page elsewhere could have its own name resolve to this machine.
            if settings.is_private and not _is_local(headers.get("host", "")):
                return PlainTextResponse(
                    "This dashboard answers to localhost only; "
                    "set token or user_header in [dashboard].\n",
                    421,
                )
            return None
        if scope["path"].startswith(_OPEN):
            return None
        if settings.user_header:
            user = headers.get(settings.user_header, "").strip()
            if user:
                scope.setdefault("state", {})["user"] = user
                return None
            if not settings.token:
                return PlainTextResponse(
                    f"The proxy before this dashboard names nobody in {settings.user_header}.\n",
                    403,
                )
        if self._knows(scope, headers):
            return None
        if "text/html" in headers.get("accept", ""):
            target = scope["path"]
            if query := scope.get("query_string", b"").decode("latin-1"):
                target += f"?{query}"
            return RedirectResponse(f"/login?to={quote(target, safe='')}", 303)
        return PlainTextResponse(
            "Send the token: Authorization: Bearer …\n", 401, {"WWW-Authenticate": "Bearer"}
        )

    def _knows(self, scope: Scope, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self._settings.token):
            return True
        return _same(Request(scope).cookies.get(COOKIE, ""), pass_of(self._settings.token))


def pass_of(token: str) -> str:
    """Return what a browser keeps in the place of the token."""
    return hmac.new(token.encode(), b"trivet dashboard", hashlib.sha256).hexdigest()


async def log_in(request: Request, settings: DashboardSettings) -> Response | None:
    """Let a browser in that sends the token in a form; None if it is not the token."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            return None
    form = parse_qs(body.decode("utf-8", "replace"))
    given, to = form.get("token", [""])[0].strip(), form.get("to", ["/"])[0]
    if not settings.token or not _same(given, settings.token):
        return None
    # Only to a page of ours: "//host" would be another host's.
    answer = RedirectResponse(to if to.startswith("/") and to[1:2] not in ("/", "\\") else "/", 303)
    answer.set_cookie(
        COOKIE,
        pass_of(settings.token),
        max_age=30 * 86_400,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _is_local(host: str) -> bool:
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return name.strip("[]").lower() in LOOPBACK
