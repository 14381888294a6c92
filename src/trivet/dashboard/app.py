"""The web application: pages rendered on the server, static files, and a stream of changes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from trivet.alerts.facts import Limits
from trivet.alerts.settings import AlertSettings
from trivet.dashboard import access, assets, words
from trivet.dashboard.ask import Ask, NotThere, Page, deployment_path
from trivet.dashboard.live import Watch
from trivet.dashboard.own import own_pages
from trivet.dashboard.pages import PAGES
from trivet.dashboard.settings import DashboardSettings
from trivet.dashboard.source import Source
from trivet.errors import (
    QueryTimeout,
    ResultsEmpty,
    ResultsOutdated,
    ResultsTooNew,
    TransientError,
    TrivetError,
)

_log = logging.getLogger("trivet.dashboard")

_LONGEST_FILTER = 500

_MAKERS = 8
"""Pages that are made at a time: each more would cost memory, and with one interpreter no less
time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the pages are shown in.

    Attributes:
        project: The project's name.
        source: Where the figures come from.
        settings: ``[dashboard]``.
        bundle: The script that defines ``vegaEmbed``.
        clock: Returns the moment that freshness is judged by.
        pages: The pages.
        alerts: ``[alerts]``.
        limits: Limits of measures by deployment.
    """

    project: str
    source: Source
    settings: DashboardSettings
    bundle: Path
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    pages: Sequence[Page] = PAGES
    alerts: AlertSettings = field(default_factory=AlertSettings)
    limits: Limits = field(default_factory=dict)


def create_app(around: Surroundings) -> Starlette:
    """Return the ASGI application."""
    return _Dashboard(around).app


class _Dashboard:
    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._makers = asyncio.Semaphore(_MAKERS)
        self._assets = assets.load(around.bundle)
        self._templates = environment(self._assets)
        self._menu = [(page.title, page.path) for page in around.pages if page.menu]
        self._menu += own_pages(around.settings)
        self._watch = Watch(around.source.marker, around.settings.refresh.total_seconds())
        routes = [Route(page.path, self._endpoint(page), name=page.name) for page in around.pages]
        routes += [
            Route("/live", self._live),
            Route("/health", self._health),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/static/{name}", self._static),
        ]
        self.app = Starlette(
            routes=routes,
            middleware=[
                Middleware(access.Guard, settings=around.settings),
                Middleware(GZipMiddleware, minimum_size=1024, compresslevel=5),
            ],
            exception_handlers={HTTPException: self._no_page},
            lifespan=self._lifespan,
        )
        self.app.state.watch = self._watch

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._watch.close()
        self._around.source.close()

    def _endpoint(self, page: Page) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            async with self._makers:
                return await run_in_threadpool(self._answer, page, request)

        return answer

    def _answer(self, page: Page, request: Request) -> Response:
        ask = Ask(
            source=self._around.source,
            settings=self._around.settings,
            now=self._around.clock(),
            alerts=self._around.alerts,
            limits=self._around.limits,
            address=request.url.path,
            path=request.path_params,
            query={k: v[:_LONGEST_FILTER] for k, v in request.query_params.items()},
        )
        try:
            marker = ask.source.marker()
            shown = page.content(ask)
            known = ask.deployments()
            html = self._render(
                f"{page.name}.html",
                request,
                page=page,
                ask=ask,
                marker=marker,
                known=known,
                **shown,
            )
        except NotThere as error:
            return self._told(request, "Not there", str(error), 404)
        except TrivetError as error:
            return self._unwell(request, error)
        except Exception:  # noqa: BLE001 - one page fails, with its trace in the log
            _log.exception("%s: a page failed", request.url.path)
            return self._told(
                request, "Something is wrong in the dashboard", "Its log has the reason.", 500
            )
        return _tagged(request, html)

    def _unwell(self, request: Request, error: TrivetError) -> Response:
        """Tell what is the matter with the database; the page looks again by itself."""
        told = [rest for kind, *rest in _UNWELL if isinstance(error, kind)]
        title, status, commands = told[0] if told else _REFUSED
        if status == 500:
            _log.error("%s: %s", request.url.path, error)
        return self._told(request, title, str(error), status, commands=commands, waits=True)

    def _told(
        self, request: Request, title: str, detail: str, status: int, **more: Any
    ) -> Response:
        html = self._render("told.html", request, title=title, detail=detail, known=[], **more)
        return HTMLResponse(html, status, {"Cache-Control": "no-store"})

    async def _no_page(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        title = {404: "No such page", 405: "Pages can only be read"}.get(status, "Not possible")
        return self._told(request, title, f"There is nothing at {request.url.path}.", status)

    async def _live(self, _: Request) -> Response:
        return StreamingResponse(
            self._watch.events(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _login(self, request: Request) -> Response:
        wrong = False
        if request.method == "POST":
            answer = await access.log_in(request, self._around.settings)
            if answer is not None:
                return answer
            wrong = True
        html = self._render(
            "login.html", request, known=[], wrong=wrong, to=request.query_params.get("to", "/")
        )
        return HTMLResponse(html, 401 if wrong else 200, {"Cache-Control": "no-store"})

    async def _static(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        headers = {"ETag": f'"{asset.tag}"', "Vary": "Accept-Encoding"}
        if request.query_params.get("v") == asset.tag:
            headers["Cache-Control"] = "public, max-age=31536000, immutable"
        else:
            headers["Cache-Control"] = "no-cache"
        if asset.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(asset.packed, headers=headers, media_type=asset.kind)
        return Response(asset.content, headers=headers, media_type=asset.kind)

    def _render(self, template: str, request: Request, **shown: Any) -> str:
        shown.setdefault("page", None)
        shown.setdefault("marker", "")
        return self._templates.get_template(template).render(
            project=self._around.project,
            menu=self._menu,
            address=request.url.path,
            user=getattr(request.state, "user", ""),
            now=dt.datetime.now(dt.UTC),
            **shown,
        )


_REFUSED = ("The results database refuses", 500, ())

_UNWELL: tuple[tuple[Any, ...], ...] = (
    (
        ResultsEmpty,
        "No results yet",
        200,
        ("trivet score NAME", "trivet serve", "trivet consume NAME"),
    ),
    (
        ResultsOutdated,
        "The results database has an older layout",
        503,
        ("trivet results upgrade",),
    ),
    (
        ResultsTooNew,
        "The results database has a newer layout",
        503,
        ("pip install --upgrade trivet",),
    ),
    (TransientError, "The results database cannot be reached", 503, ()),
    (QueryTimeout, "The results database is too slow for this page", 503, ()),
)


def environment(files: Mapping[str, assets.Asset]) -> jinja2.Environment:
    """Return the templates, with everything that they may call."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("trivet.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(words.FILTERS)
    made.globals["ago"] = words.ago
    made.globals["deployment_path"] = deployment_path
    made.globals["static"] = lambda name: f"/static/{name}?v={files[name].tag}"
    return made


def _tagged(request: Request, html: str) -> Response:
    """Answer with a page, or that it is still the one that the browser has."""
    tag = f'"{hashlib.sha256(html.encode()).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(html, headers=headers)
