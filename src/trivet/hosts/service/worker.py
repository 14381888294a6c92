"""One process of the service: models, event loop, and how it ends without losing a request."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
import uvloop

from trivet.current import Source
from trivet.errors import SettingsError, TrivetError
from trivet.hosts.service.access import AccessLog
from trivet.hosts.service.app import App
from trivet.hosts.service.connections import Connection, Sweeper, shares
from trivet.hosts.service.exchange import Context, Protocol
from trivet.hosts.service.log import LogSettings, PredictionWriter
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.protocols import arrow, mlflow, oip, records
from trivet.hosts.service.reload import Library
from trivet.hosts.service.serving import Models
from trivet.hosts.service.settings import ServiceSettings
from trivet.logs import set_up_logging
from trivet.workers import BEAT, READY, failed

PROTOCOLS: Sequence[Protocol] = (arrow, records, oip, mlflow)

BEAT_SECONDS = 1.0
LOG_PATIENCE = 10.0
"""So long a process that ends goes on trying to write its prediction log."""

SWITCH_SECONDS = 0.00001
"""After so long a thread that waits for the interpreter asks for it. The event loop lets go of it
and takes it back every few microseconds, and each time such a wait begins anew: with more than
that, a model's thread hardly ever gets its turn beside a busy loop."""

log = logging.getLogger("trivet.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a process of the service is started with.

    Attributes:
        settings: ``[service]``.
        sources: Where its models come from.
        root: The project's folder.
        results: Url of the results database.
        counts: The folder where all processes count.
        json: Whether the log is written as JSON lines.
        level: The least level that is written.
    """

    settings: ServiceSettings
    sources: tuple[Source, ...]
    root: Path
    results: str
    counts: Path
    json: bool = True
    level: int = logging.INFO


class _Server(uvicorn.Server):
    """A server that leaves the signals to us and calls back ten times a second."""

    def __init__(self, config: uvicorn.Config, tick: Any) -> None:
        super().__init__(config)
        self._tick = tick

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        self._tick(counter)
        return await super().on_tick(counter)


class Worker:
    """One process at work.

    Args:
        plan: What it was started with.
        number: Its number, which no other process of the service ever had.
        sock: The socket to accept connections from, bound and shared with the others.
        grpc_port: The port for gRPC, 0 for none.
        parent: The way to its parent; that it breaks means that the parent is gone.
    """

    def __init__(
        self, plan: Plan, number: int, sock: socket.socket, grpc_port: int, parent: Pipe
    ) -> None:
        self._plan = plan
        self._sock = sock
        self._grpc_port = grpc_port
        self._parent = parent
        settings = plan.settings
        self._metrics = Metrics(plan.counts, number)
        timeout = settings.timeout.total_seconds()
        self._models = Models(settings.key, settings.max_batch, settings.max_queue, timeout)
        self._models.observe(self._metrics.batch)
        self._writer: PredictionWriter | None = None
        if settings.log == "results":
            where = LogSettings(
                url=plan.results,
                root=plan.root,
                sample=settings.log_sample,
                block=settings.log_durability == "block",
                queue=settings.log_queue,
            )
            self._writer = PredictionWriter(where, self._metrics)
            self._models.observe(self._writer.observe)
        self._library = Library(plan.sources, self._models, plan.root, self._metrics)
        self._access = (
            None
            if settings.access_log == "none"
            else AccessLog(errors_only=settings.access_log == "errors")
        )
        self._app = App(
            settings,
            self._models,
            PROTOCOLS,
            metrics=self._metrics,
            log=self._writer if settings.log_durability == "block" else None,
            access=self._access,
        )
        self._sweeper = Sweeper(
            settings.keep_alive.total_seconds(),
            timeout + settings.keep_alive.total_seconds(),
        )
        self._stopping = self._orphan = False

    def run(self) -> bool:
        """Load the models, serve until told to stop; return whether a model still hangs."""
        self._library.load_all()
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.collect()
        gc.freeze()  # what is loaded stays; to look at it again would only stop requests
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # of glibc
            libc.malloc_trim(0)  # what loading needed goes back to the system
        uvloop.run(self._serve())
        families = self._models.families.values()
        lost = any(served.batcher.lost for f in families for served in f.versions.values())
        return lost or self._models.lost > 0

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self._plan.settings
        self._server = _Server(self._config(), self._tick)
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._library.look_now)
        loop.add_reader(self._parent.fileno(), self._orphaned)
        if self._writer is not None:
            self._writer.start()
        self._library.watch(settings.reload_every.total_seconds())
        calls = await self._start_grpc()
        self._metrics.gauge("trivet_workers", 1)
        self._metrics.look(self._models)
        families = self._models.families
        told = {name: list(family.versions) for name, family in families.items()}
        loop.call_soon(self._tell, READY + msgspec.json.encode(told))
        await self._server.serve(shares(self._sock))
        self._library.end()
        if calls is not None:
            await calls.stop(settings.stop_timeout.total_seconds())
        if self._writer is not None:
            await asyncio.to_thread(self._writer.stop, LOG_PATIENCE)
        if self._access is not None:
            self._access.flush()

    def _config(self) -> uvicorn.Config:
        settings, root = self._plan.settings, self._plan.root
        tls: dict[str, Any] = {}
        if settings.tls_cert:
            tls = {
                "ssl_certfile": str(root / settings.tls_cert),
                "ssl_keyfile": str(root / settings.tls_key),
            }
        if settings.tls_client_ca:
            tls |= {
                "ssl_ca_certs": str(root / settings.tls_client_ca),
                "ssl_cert_reqs": ssl.CERT_REQUIRED,
            }
        return uvicorn.Config(
            self._app,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=2048,
            limit_concurrency=settings.max_connections + 1,  # the one that asks is counted
            timeout_keep_alive=max(1, round(settings.keep_alive.total_seconds())),
            timeout_graceful_shutdown=max(1, round(settings.stop_timeout.total_seconds())),
            **tls,
        )

    async def _start_grpc(self) -> Any:
        """Start the gRPC server beside the other one, if it is wanted."""
        if not self._grpc_port:
            return None
        from trivet.hosts.service.protocols import oip_grpc  # noqa: PLC0415 - only if it is wanted

        def make(name: str, began: float) -> Context:
            return self._app.context(name, began)

        def watch(_: str, context: Context, status: Any, seconds: float) -> None:
            self._metrics.request(context.served, "oip_grpc", status.value[0], seconds)

        server = oip_grpc.server(make, watch)
        settings, root = self._plan.settings, self._plan.root
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{self._grpc_port}"
        if settings.tls_cert:
            import grpc  # noqa: PLC0415 - see above

            authorities = settings.tls_client_ca
            credentials = grpc.ssl_server_credentials(
                [((root / settings.tls_key).read_bytes(), (root / settings.tls_cert).read_bytes())],
                (root / authorities).read_bytes() if authorities else None,
                require_client_auth=bool(authorities),
            )
            server.add_secure_port(address, credentials)
        else:
            server.add_insecure_port(address)
        await server.start()
        return server

    def _tick(self, counter: int) -> None:
        if counter % 5 == 0:
            self._metrics.look(self._models)
            if self._writer is not None:
                self._metrics.gauge("trivet_log_queue_rows", self._writer.queued)
        if counter % round(BEAT_SECONDS * 10) == 0:
            if select.select([], [self._parent], [], 0)[1]:  # or it would wait for its parent
                self._tell(BEAT)
            connections = tuple(self._server.server_state.connections)
            self._sweeper.sweep(connections, time.monotonic())

    def _tell(self, message: bytes) -> None:
        try:
            self._parent.send_bytes(message)
        except OSError:
            self._orphaned()

    def _orphaned(self) -> None:
        """End as after a stop signal: nobody would replace or stop this process any more."""
        if self._orphan:
            return
        self._orphan = True
        asyncio.get_running_loop().remove_reader(self._parent.fileno())
        log.error("the service's parent process is gone; process %d ends too", os.getpid())
        self._stop()

    def _stop(self) -> None:
        """Say that no more requests are wanted; a little later, take none."""
        if self._stopping:
            return
        self._stopping = True
        self._app.ready = False
        self._app.closing = True
        delay = self._plan.settings.stop_delay.total_seconds()
        asyncio.get_running_loop().call_later(delay, self._end)

    def _end(self) -> None:
        self._server.should_exit = True


def work(plan: Plan, number: int, sock: socket.socket, grpc_port: int, parent: Pipe) -> None:
    """Be a process of the service; what the parent starts."""
    set_up_logging(json=plan.json, level=plan.level)
    if plan.level >= logging.CRITICAL and not sys.warnoptions:
        warnings.simplefilter("ignore")  # whoever wants no line of the log wants none of libraries
    try:
        hangs = Worker(plan, number, sock, grpc_port, parent).run()
    except Exception as error:
        if isinstance(error, TrivetError):
            log.debug("process %d ends", os.getpid(), exc_info=True)
        else:
            log.exception("process %d ends", os.getpid())
        parent.send_bytes(failed(error))
        sys.exit(2)
    logging.shutdown()
    if hangs:
        # A thread sits in foreign code for ever, and would not let the interpreter end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def grpc_is_there() -> bool:
    """Say whether the library for gRPC is installed."""
    try:
        found = [find_spec(name) for name in ("grpc", "google.protobuf")]
    except ModuleNotFoundError:  # nothing of google's
        return False
    return None not in found


def check_tls(settings: ServiceSettings, root: Path) -> None:
    """Make sure that the certificates can be used.

    Raises:
        SettingsError: One cannot be read, or key and certificate do not belong together; names
            the one that is wrong.
    """
    if not settings.tls_cert:
        return
    cert, key = root / settings.tls_cert, root / settings.tls_key
    files = {"tls_cert": cert, "tls_key": key}
    if settings.tls_client_ca:
        files["tls_client_ca"] = root / settings.tls_client_ca
    for name, path in files.items():
        try:
            path.read_bytes()
            if name != "tls_key":
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
        except ssl.SSLError as error:
            raise SettingsError(
                f"[service] {name}: {path} has no certificate; name a file of PEM"
            ) from error
        except OSError as error:
            raise SettingsError(
                f"[service] {name}: {path} cannot be read: {error.strerror}; name a file of PEM"
            ) from error
    try:
        # An encrypted key would have its password asked for at each start, of whoever is there.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except OSError as error:
        foreign = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        what = f"is not the key of {cert}" if foreign else "has no private key, or an encrypted one"
        raise SettingsError(
            f"[service] tls_key: {key} {what}; name the certificate's own, PEM, without a password"
        ) from error
