"""The service as a whole: one parent that owns the port, and the processes that serve."""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import ExitStack, closing
from typing import Any

import msgspec

from trivet.counts import retire
from trivet.errors import SettingsError
from trivet.hosts.service import worker
from trivet.hosts.service.metrics import HELP, Metrics
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.service.worker import Plan
from trivet.workers import Job, Workers

SILENCE_SECONDS = 10.0
"""So much longer than a request may take, a process may go without a sign of life."""

END_SECONDS = 5.0
"""So much longer than it should, a process may take to end."""

log = logging.getLogger("trivet.service")


def bind(settings: ServiceSettings) -> socket.socket:
    """Bind the service's port, without listening yet.

    Raises:
        SettingsError: It is in use, or that of gRPC too, or the address is not one of this machine.
    """
    port = settings.port
    if port and settings.grpc and settings.grpc_port == port and worker.grpc_is_there():
        raise SettingsError(
            f"[service] grpc_port: {port} is the port of HTTP already; write another grpc_port, "
            "or grpc = false"
        )
    return _bound(settings.host, settings.port, "port")


def _bound(host: str, port: int, key: str, *, shared: bool = False) -> socket.socket:
    try:
        kind, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsError(f"[service] host: {host}: {error.strerror}") from error
    try:
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise SettingsError(
                f"[service] host: {host} is no address of this machine; write one that is, "
                "127.0.0.1 or 0.0.0.0"
            ) from error
        stop = "stop what is using it or " if error.errno == errno.EADDRINUSE else ""
        raise SettingsError(
            f"[service] {key}: {host}:{port} cannot be bound: {error.strerror}; "
            f"{stop}write another {key}"
        ) from error
    return found


class Supervisor:
    """Keeps the processes up that serve.

    `stop` and `reload` may be called from signal handlers and other threads.

    Args:
        plan: What each process is started with, but for the folder of the counts.
        sock: The bound socket that they share.
    """

    def __init__(self, plan: Plan, sock: socket.socket) -> None:
        self._plan = plan
        self._sock = sock
        self._grpc: socket.socket | None = None
        self._told = False
        self._metrics = Metrics(plan.counts, 0)
        self._metrics.count("trivet_worker_restarts", 0)
        settings = plan.settings
        ending = END_SECONDS + worker.LOG_PATIENCE
        job = Job(
            name="service",
            target=worker.work,
            arguments=self._arguments,
            ready=self._tell,
            died=self._count,
            error=lambda _, reason: SettingsError(reason),
            end_seconds=ending + (settings.stop_delay + 2 * settings.stop_timeout).total_seconds(),
            silence=settings.timeout.total_seconds() + SILENCE_SECONDS,
            log=log,
        )
        self._workers = Workers(job, settings.workers)

    @property
    def port(self) -> int:
        """The port that requests come to."""
        return int(self._sock.getsockname()[1])

    @property
    def grpc_port(self) -> int:
        """The port that gRPC comes to; 0 for none."""
        return 0 if self._grpc is None else int(self._grpc.getsockname()[1])

    @property
    def pids(self) -> list[int]:
        """The processes that are ready."""
        return self._workers.pids

    @property
    def is_ready(self) -> bool:
        """Whether every process serves."""
        return self._workers.is_ready

    def stop(self) -> None:
        """Have all processes end; a second time, at once."""
        self._workers.stop()

    def reload(self) -> None:
        """Have all processes look for new versions of their models."""
        self._workers.reload()

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            SettingsError: The service cannot start; the message says why.
        """
        with ExitStack() as stack:
            stack.enter_context(closing(self._sock))
            self._grpc = self._open_grpc()
            if self._grpc is not None:
                stack.enter_context(closing(self._grpc))
            self._workers.run()

    def _open_grpc(self) -> socket.socket | None:
        """Bind the port for gRPC, which every process then binds too."""
        settings = self._plan.settings
        if not settings.grpc:
            return None
        if not worker.grpc_is_there():
            log.info("no gRPC: its library is not installed: pip install 'trivet[grpc]'")
            return None
        _bound(settings.host, settings.grpc_port, "grpc_port").close()  # nobody else's
        return _bound(settings.host, settings.grpc_port, "grpc_port", shared=True)

    def _arguments(self, number: int, _: int) -> tuple[Any, ...]:
        return self._plan, number, self._sock, self.grpc_port

    def _tell(self, served: bytes) -> None:
        if self._told:
            return
        self._told = True
        settings = self._plan.settings
        models = msgspec.json.decode(served, type=dict[str, list[str]])
        listed = ", ".join(f"{name} {' '.join(versions)}" for name, versions in models.items())
        scheme = "https" if settings.tls_cert else "http"
        host = settings.host
        where = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"
        grpc = f", gRPC on {self.grpc_port}" if self.grpc_port else ""
        log.info("serving %s on %s%s", listed, where, grpc)
        if not settings.api_keys and not settings.tls_client_ca:
            log.warning("the service is open: no api_keys are set, so anyone may ask it")

    def _count(self, number: int) -> None:
        retire(self._plan.counts, number, HELP)
        self._metrics.count("trivet_worker_restarts", 1)
