"""The addresses for those who run the service: health, metrics and documentation."""

from __future__ import annotations

import asyncio

import msgspec

from trivet.hosts.service.exchange import Context, Handler, Reply, Request
from trivet.hosts.service.faults import Refused
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.openapi import Pages
from trivet.hosts.service.protocols import records

LIVE, READY = "/health/live", "/health/ready"


class Operations:
    """A protocol like the others; its faults are those of records.

    Args:
        metrics: What is counted.
        pages: The OpenAPI document and its page.
    """

    __name__ = "service"

    def __init__(self, metrics: Metrics, pages: Pages) -> None:
        self._counted = metrics
        self._pages = pages
        self._handlers: dict[str, Handler] = {
            LIVE: self._live,
            READY: self._ready,
            "/metrics": self._metrics,
            "/openapi.json": self._page,
            "/docs": self._page,
            "/docs/try.js": self._page,
        }

    def route(self, method: str, path: str) -> Handler | None:
        handler = self._handlers.get(path)
        if handler is not None and method != "GET":
            raise Refused("method", "read this with GET")
        return handler

    fault = staticmethod(records.fault)

    async def _live(self, context: Context, request: Request) -> Reply:
        return Reply(b'{"status":"ok"}')

    async def _ready(self, context: Context, request: Request) -> Reply:
        if not context.ready:
            raise Refused("not_ready", "the service is stopping")
        families = context.models.families.values()
        told = {f.name: {"default": f.default, "versions": list(f.versions)} for f in families}
        return Reply(msgspec.json.encode({"status": "ok", "models": told}))

    async def _metrics(self, context: Context, request: Request) -> Reply:
        accept = (request.header(b"accept") or b"").decode("latin-1")
        body, kind = await asyncio.to_thread(self._counted.render, accept)
        return Reply(body, headers=[(b"content-type", kind.encode())])

    async def _page(self, context: Context, request: Request) -> Reply:
        return self._pages.reply(request.path)
