"""A client of the service that needs no server: requests go straight into the application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from trivet.contract import Model
from trivet.hosts.service.app import App
from trivet.hosts.service.exchange import Protocol
from trivet.hosts.service.protocols import arrow, mlflow, oip, records
from trivet.hosts.service.serving import Models
from trivet.hosts.service.settings import ServiceSettings

PROTOCOLS: tuple[Protocol, ...] = (arrow, records, oip, mlflow)


class Answered(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def application(
    models: Sequence[Model], *, protocols: Sequence[Protocol] = PROTOCOLS, **settings: Any
) -> App:
    """Build the application for some models."""
    made = ServiceSettings(models=tuple(dict.fromkeys(m.name for m in models)), **settings)
    loaded = Models(made.key, made.max_batch, made.max_queue)
    for model in models:
        loaded.add(model.name, model)
    return App(made, loaded, protocols)


async def send(
    app: App,
    path: str,
    body: bytes | str | dict[str, Any] | None = None,
    *,
    method: str | None = None,
    **headers: str,
) -> Answered:
    """Send one request; underscores in the headers' names become dashes."""
    path, _, query = path.partition("?")
    told = {"content_type": "application/json"} if isinstance(body, dict) else {}
    payload = b""
    if isinstance(body, dict):
        payload = json.dumps(body).encode()
    elif body is not None:
        payload = body.encode() if isinstance(body, str) else body
    scope = {
        "type": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": path,
        "query_string": query.encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in {**told, **headers}.items()
        ],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": payload, "more_body": False}

    async def collect(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, collect)
    start, end = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answered(start["status"], found, end["body"])


def ask(app: App, path: str, body: Any = None, **more: Any) -> Answered:
    """Send one request on an event loop of its own."""
    return asyncio.run(send(app, path, body, **more))
