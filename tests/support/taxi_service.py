"""A service that stands where the models' service stands, and misbehaves on cue."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ANSWERS = {"trip-duration": {"duration_minutes": 12.25}, "fare": {"fare": 9.5}}


@dataclass
class Service:
    """Answers as told.

    Attributes:
        url: Its address.
        manner: What it does with each model's next requests, then with all others: ``good``,
            ``hangs``, ``fails``, ``refuses``, ``nan``, ``huge``, ``garbage`` or ``lacks``.
        asked: The bodies of the requests, in order.
    """

    url: str = ""
    manner: list[str] = field(default_factory=lambda: ["good"])
    asked: list[dict[str, object]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        model = request.path_params["model"]
        self.asked.append({"model": model, **await request.json()})
        times = sum(asked["model"] == model for asked in self.asked)
        manner = self.manner[min(times, len(self.manner)) - 1]
        body = {"model": model, "version": "7", "prediction": ANSWERS[model]}
        if manner == "hangs":
            await asyncio.sleep(30)
        if manner in ("fails", "refuses"):
            return JSONResponse({}, 500 if manner == "fails" else 422)
        if manner == "garbage":
            return Response(b"<html>")
        if manner == "lacks":
            return JSONResponse({**body, "prediction": {}})
        if manner in ("nan", "huge"):
            value = "NaN" if manner == "nan" else "1e9"
            name = next(iter(ANSWERS[model]))
            text = f'{{"version": "7", "prediction": {{"{name}": {value}}}}}'
            return Response(text, media_type="application/json")
        return JSONResponse(body)


@contextmanager
def serving() -> Iterator[Service]:
    """Run a service on a port of its own."""
    service = Service()
    app = Starlette(routes=[Route("/predict/{model}", service.answer, methods=["POST"])])
    listening = socket.create_server(("127.0.0.1", 0))
    service.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield service
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
