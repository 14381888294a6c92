"""A stream as a whole: one parent, the processes that consume, and their metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from trivet import errors
from trivet.counts import rendered, retire, summed
from trivet.errors import MissingExtra, SettingsError, TrivetError
from trivet.hosts.stream import worker
from trivet.hosts.stream.metrics import HELP, Metrics
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.worker import Plan
from trivet.results.tables import view_of
from trivet.workers import Job, Workers

END_SECONDS = 10.0
"""So much longer than its events under way may take, a process may take to end."""

_FATAL = ("OffsetGone", "SettingsError", "ResultsError", "ResultsOutdated", "ResultsTooNew")
"""Errors that a process started again would only meet again."""

log = logging.getLogger("trivet.stream")


class Supervisor:
    """Keeps the processes up that consume.

    `stop` and `reload` may be called from signal handlers and other threads.

    Args:
        plan: What each process is started with; it names the folder of the counts.
    """

    def __init__(self, plan: Plan) -> None:
        assert plan.counts is not None  # the processes share it
        self._plan, self._counts = plan, plan.counts
        self._told = False
        self._metrics = Metrics(plan.settings.name, self._counts, 0)
        self._restarted(0)
        job = Job(
            name="stream",
            target=worker.work,
            arguments=lambda number, place: (plan, number, place),
            ready=self._tell,
            died=self._count,
            error=_error,
            fatal=_FATAL,
            end_seconds=END_SECONDS + plan.settings.stop_timeout.total_seconds(),
            log=log,
        )
        self._workers = Workers(job, plan.settings.workers)

    @property
    def pids(self) -> list[int]:
        """The processes that consume."""
        return self._workers.pids

    @property
    def is_ready(self) -> bool:
        """Whether every process consumes."""
        return self._workers.is_ready

    def stop(self) -> None:
        """Have all processes end; a second time, at once."""
        self._workers.stop()

    def reload(self) -> None:
        """Have all processes look for a new version of their model."""
        self._workers.reload()

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            TrivetError: The stream cannot start, or cannot go on.
        """
        self._workers.run()

    def _tell(self, model: bytes) -> None:
        settings = self._plan.settings
        if self._told or not self.is_ready:
            return
        self._told = True
        into = [settings.output] if settings.output else []
        into += [f"the view {view_of(settings.name)}"] if settings.results else []
        log.info(
            "%s: scoring %s with %s into %s",
            settings.name,
            settings.topic,
            model.decode(),
            " and ".join(into),
            extra={"fields": {"event": "ready", "deployment": settings.name}},
        )

    def _count(self, number: int) -> None:
        retire(self._counts, number, HELP)
        self._restarted(1)

    def _restarted(self, times: int) -> None:
        name = self._plan.settings.name
        self._metrics.count("trivet_stream_worker_restarts", times, deployment=name)


def _error(name: str, reason: str) -> Exception:
    """Make the error that a process ended with once more."""
    kind = getattr(errors, name, TrivetError)
    return (SettingsError if kind is MissingExtra else kind)(reason)


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
