"""A stream as a whole: one parent, the processes that consume, and their metrics."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from trivet import errors
from trivet.counts import rendered, retire, summed
from trivet.errors import MissingExtra, SettingsError, TrivetError
from trivet.hosts.stream import worker
from trivet.hosts.stream.metrics import HELP, Metrics
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.worker import FAILED, READY, Plan

BACKOFF = (0.1, 30.0)
"""The shortest and the longest wait before a process that died is replaced."""

HEALTHY_SECONDS = 60.0
"""A process that lived so long was healthy: its death is the first one again."""

END_SECONDS = 10.0
"""So much longer than its events under way may take, a process may take to end."""

_FATAL = ("OffsetGone", "SettingsError", "ResultsError", "ResultsOutdated", "ResultsTooNew")
"""Errors that a process started again would only meet again."""

log = logging.getLogger("trivet.stream")


@dataclass(slots=True, eq=False)
class _Process:
    """One process, as its parent sees it."""

    process: SpawnProcess
    pipe: connection.Connection
    number: int
    began: float
    ready: bool = False
    kind: str = ""
    reason: str = ""


@dataclass(slots=True)
class _Place:
    """A process that there should be, and how often it died lately."""

    number: int
    process: _Process | None = None
    deaths: int = 0
    due: float = 0.0


class Supervisor:
    """Starts the processes, replaces one that dies, and ends them all.

    `stop` and `reload` may be called from signal handlers and other threads.

    Args:
        plan: What each process is started with; it names the folder of the counts.
    """

    def __init__(self, plan: Plan) -> None:
        assert plan.counts is not None  # the processes share it
        self._plan, self._counts = plan, plan.counts
        self._context = multiprocessing.get_context("spawn")
        self._places = [_Place(number) for number in range(plan.settings.workers)]
        self._number = 0
        self._was_ready = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._stopping = self._killing = False
        self._metrics = Metrics(plan.settings.name, self._counts, 0)

    @property
    def pids(self) -> list[int]:
        """The processes that consume."""
        found = [place.process for place in self._places]
        return [p.process.pid for p in found if p is not None and p.ready and p.process.pid]

    @property
    def is_ready(self) -> bool:
        """Whether every process consumes."""
        return len(self.pids) == len(self._places)

    def stop(self) -> None:
        """Have all processes end; a second time, at once."""
        self._killing = self._stopping
        self._stopping = True
        with suppress(OSError):
            self._waker.send(b"!")

    def reload(self) -> None:
        """Have all processes look for a new version of their model."""
        for pid in self.pids:
            _send(pid, signal.SIGHUP)

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            TrivetError: The stream cannot start, or cannot go on.
        """
        try:
            while not self._stopping:
                now = time.monotonic()
                for place in self._places:
                    if place.process is None and place.due <= now:
                        self._start(place)
                self._look()
        finally:
            self._end()
            self._wake.close()
            self._waker.close()

    def _start(self, place: _Place) -> None:
        mine, theirs = self._context.Pipe()
        self._number += 1
        process = self._context.Process(
            target=worker.work,
            args=(self._plan, self._number, place.number, theirs),
            name=f"trivet-stream-{self._number}",
            daemon=True,
        )
        # Ctrl-C goes to all processes of a terminal; what to make of it is the parent's to say.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        place.process = _Process(process, mine, self._number, time.monotonic())

    def _look(self) -> None:
        """Wait for news of the processes, and take them."""
        now = time.monotonic()
        due = [place.due - now for place in self._places if place.process is None]
        alive = [place.process for place in self._places if place.process is not None]
        pipes = {p.pipe: p for p in alive if not p.pipe.closed}
        found = connection.wait(
            [self._wake, *pipes, *(p.process.sentinel for p in alive)], max(0.0, min([1.0, *due]))
        )
        with suppress(BlockingIOError):
            while self._wake.recv(64):
                pass
        for pipe, process in pipes.items():
            if pipe in found:
                self._hear(process)
        for place in self._places:
            if place.process is not None and place.process.process.sentinel in found:
                self._bury(place)

    def _hear(self, process: _Process) -> None:
        try:
            while process.pipe.poll():
                message = process.pipe.recv_bytes()
                if message.startswith(READY):
                    process.ready = True
                    self._tell(process, message.removeprefix(READY).decode())
                else:
                    told = message.removeprefix(FAILED).decode(errors="replace")
                    process.kind, _, process.reason = told.partition(":")
        except (EOFError, OSError):
            process.pipe.close()

    def _tell(self, process: _Process, model: str) -> None:
        settings = self._plan.settings
        if not self._was_ready and self.is_ready:
            self._was_ready = True
            into = [settings.output] if settings.output else []
            into += [f"view {settings.name}"] if settings.results else []
            log.info(
                "%s: scoring %s with %s into %s",
                settings.name,
                settings.topic,
                model,
                " and ".join(into),
                extra={"fields": {"event": "ready", "deployment": settings.name}},
            )
        log.info("process %d is ready (number %d)", process.process.pid, process.number)

    def _bury(self, place: _Place) -> None:
        process = place.process
        assert process is not None  # it has just died
        if not process.pipe.closed:
            self._hear(process)
            process.pipe.close()
        process.process.join()
        code = process.process.exitcode
        retire(self._counts, process.number, HELP)
        place.process = None
        if process.kind and (process.kind in _FATAL or not self._was_ready):
            self._stopping = True
            kind = getattr(errors, process.kind, TrivetError)
            raise (SettingsError if kind is MissingExtra else kind)(process.reason)
        now = time.monotonic()
        place.deaths = 1 if now - process.began > HEALTHY_SECONDS else place.deaths + 1
        wait = 0.0 if place.deaths == 1 else min(BACKOFF[0] * 2**place.deaths, BACKOFF[1])
        place.due = now + wait
        self._metrics.count("trivet_stream_worker_restarts", 1, deployment=self._plan.settings.name)
        why = process.reason or (
            f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        )
        log.error(
            "process %d died (%s); another one starts in %.1f s", process.process.pid, why, wait
        )

    def _end(self) -> None:
        """End all processes: politely, and after their time is up, not."""
        alive = [place.process for place in self._places if place.process is not None]
        for process in alive:
            _send(process.process.pid, signal.SIGTERM)
        until = time.monotonic() + END_SECONDS + self._plan.settings.stop_timeout.total_seconds()
        while alive and time.monotonic() < until and not self._killing:
            connection.wait([self._wake, *(p.process.sentinel for p in alive)], 1.0)
            with suppress(BlockingIOError):
                while self._wake.recv(64):
                    pass
            alive = [p for p in alive if p.process.is_alive()]
        for process in alive:
            log.error("process %d does not end; it is killed", process.process.pid)
            process.process.kill()
        for place in self._places:
            if place.process is not None:
                place.process.process.join()
                place.process.pipe.close()
                place.process = None


@contextmanager
def metrics_served(settings: StreamSettings, counts: Path) -> Iterator[int]:
    """Serve the metrics of all processes over HTTP, if asked; give the port, 0 for none.

    Raises:
        SettingsError: The port is in use.
        MissingExtra: Their library is not installed.
    """
    if settings.metrics_port is None:
        yield 0
        return
    try:
        import prometheus_client  # noqa: F401, PLC0415 - before anything is asked of it
    except ImportError as error:
        raise MissingExtra("metrics_port", "service") from error

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            body, kind = rendered(summed(counts, HELP), HELP, self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002
            """Say nothing: it is asked every few seconds."""

    where = (settings.metrics_host, settings.metrics_port)
    try:
        server = ThreadingHTTPServer(where, Handler)
    except OSError as error:
        raise SettingsError(
            f"[stream.{settings.name}] metrics_port: {where[0]}:{where[1]} cannot be bound: "
            f"{error.strerror}; write another metrics_port"
        ) from error
    with closing(server.socket):
        thread = threading.Thread(target=server.serve_forever, name="stream-metrics", daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def _send(pid: int | None, number: int) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
