"""A real service on free ports: its parent in a thread of the test, its processes its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from trivet.current import Source
from trivet.hosts.service.server import Supervisor, bind
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.service.worker import Plan

PATIENCE = 60.0


class Service:
    """A service for the length of a ``with`` block."""

    def __init__(
        self, root: Path, sources: list[Source], *, results: str = "", **settings: Any
    ) -> None:
        names = [s.name if s.version is None else f"{s.name}@{s.version}" for s in sources]
        given = {"port": 0, "grpc": False, "stop_delay": _seconds(0), "log": "none"} | settings
        self.settings = ServiceSettings(models=tuple(names), **given)
        counts = root / "counts"
        counts.mkdir(exist_ok=True)
        plan = Plan(
            settings=self.settings,
            sources=tuple(sources),
            root=root,
            results=results or f"sqlite:///{root / 'results.db'}",
            counts=counts,
        )
        self.supervisor = Supervisor(plan, bind(self.settings))
        self.url = f"http://127.0.0.1:{self.supervisor.port}"
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def __enter__(self) -> Self:
        self._thread.start()
        self.until(lambda: self.supervisor.is_ready or not self._thread.is_alive())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            self.supervisor.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for what the service will come to by itself."""
        wait_until(what)

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, **more)

    def counted(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        with self.client() as client:
            return counted(client.get("/metrics").text, name, **labels)


def wait_until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, "it did not come to that"
        threading.Event().wait(0.01)


def counted(text: str, name: str, **labels: str) -> float:
    total = 0.0
    for line in text.splitlines():
        sample, _, value = line.rpartition(" ")
        told = (f'{key}="{value}"' for key, value in labels.items())
        if sample.partition("{")[0] == name and all(part in sample for part in told):
            total += float(value)
    return total


def _seconds(number: float) -> Any:
    import datetime as dt

    return dt.timedelta(seconds=number)
