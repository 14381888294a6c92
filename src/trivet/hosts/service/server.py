"""The service as a whole: one parent that owns the port, and the processes that serve."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess

import msgspec

from trivet.counts import retire
from trivet.errors import SettingsError
from trivet.hosts.service import worker
from trivet.hosts.service.metrics import HELP, Metrics
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.service.worker import BEAT, FAILED, READY, Plan

BACKOFF = (0.1, 30.0)
"""The shortest and the longest wait before a process that died is replaced."""

HEALTHY_SECONDS = 60.0
"""A process that lived so long was healthy: its death is the first one again."""

SILENCE_SECONDS = 10.0
"""So much longer than a request may take, a process may go without a sign of life."""

END_SECONDS = 5.0
"""So much longer than it should, a process may take to end."""

log = logging.getLogger("trivet.service")


def bind(settings: ServiceSettings) -> socket.socket:
    """Bind the service's port, without listening yet.

    Raises:
        SettingsError: It is in use, or the address is not one of this machine.
    """
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
        raise SettingsError(
            f"[service] {key}: {host}:{port} cannot be bound: {error.strerror}; "
            f"stop what is using it or write another {key}"
        ) from error
    return found


@dataclass(slots=True, eq=False)
class _Process:
    """One process that serves, as its parent sees it."""

    process: SpawnProcess
    pipe: connection.Connection
    number: int
    began: float
    beat: float
    ready: bool = False
    reason: str = ""


@dataclass(slots=True)
class _Place:
    """A process that there should be, and how often it died lately."""

    process: _Process | None = None
    deaths: int = 0
    due: float = 0.0


class Supervisor:
    """Starts the processes, replaces one that dies, and ends them all.

    `stop` and `reload` may be called from signal handlers and other threads.

    Args:
        plan: What each process is started with, but for the folder of the counts.
        sock: The bound socket that they share.
    """

    def __init__(self, plan: Plan, sock: socket.socket) -> None:
        self._plan = plan
        self._sock = sock
        self._settings = plan.settings
        self._context = multiprocessing.get_context("spawn")
        self._places = [_Place() for _ in range(plan.settings.workers)]
        self._number = 0
        self._was_ready = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._stopping = self._reloading = self._killing = False
        self._metrics = Metrics(plan.counts, 0)
        self._grpc: socket.socket | None = None

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
        found = [place.process for place in self._places]
        return [p.process.pid for p in found if p is not None and p.ready and p.process.pid]

    @property
    def is_ready(self) -> bool:
        """Whether every process serves."""
        return len(self.pids) == len(self._places)

    def stop(self) -> None:
        """Have all processes end; a second time, at once."""
        self._killing = self._stopping
        self._stopping = True
        self._poke()

    def reload(self) -> None:
        """Have all processes look for new versions of their models."""
        self._reloading = True
        self._poke()

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            SettingsError: The service cannot start; the message says why.
        """
        self._open_grpc()
        try:
            with closing(self._sock):
                while not self._stopping:
                    self._start_due()
                    self._look(self._patience())
                    if self._reloading:
                        self._reloading = False
                        for pid in self.pids:
                            _send(pid, signal.SIGHUP)
        finally:
            self._end()
            if self._grpc is not None:
                self._grpc.close()
            self._wake.close()
            self._waker.close()

    def _poke(self) -> None:
        with suppress(OSError):
            self._waker.send(b"!")

    def _open_grpc(self) -> None:
        """Bind the port for gRPC, which every process then binds too."""
        settings = self._settings
        if not settings.grpc:
            return
        if not worker.grpc_is_there():
            log.info("no gRPC: its library is not installed: pip install 'trivet[grpc]'")
            return
        _bound(settings.host, settings.grpc_port, "grpc_port").close()  # nobody else's
        self._grpc = _bound(settings.host, settings.grpc_port, "grpc_port", shared=True)

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.process is None and place.due <= now:
                self._start(place, now)

    def _start(self, place: _Place, now: float) -> None:
        mine, theirs = self._context.Pipe()
        self._number += 1
        process = self._context.Process(
            target=worker.work,
            args=(self._plan, self._number, self._sock, self.grpc_port, theirs),
            name=f"trivet-service-{self._number}",
            daemon=True,
        )
        # Ctrl-C goes to all processes of a terminal; what to make of it is the parent's to say.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        place.process = _Process(process, mine, self._number, now, now)

    def _patience(self) -> float:
        now = time.monotonic()
        due = [place.due - now for place in self._places if place.process is None]
        return max(0.0, min([1.0, *due]))

    def _look(self, patience: float) -> None:
        """Wait for news of the processes, and take them."""
        alive = [place.process for place in self._places if place.process is not None]
        pipes = {p.pipe: p for p in alive if not p.pipe.closed}
        found = connection.wait(
            [self._wake, *pipes, *(p.process.sentinel for p in alive)], patience
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
            elif place.process is not None:
                self._listen_for(place.process)

    def _hear(self, process: _Process) -> None:
        try:
            while process.pipe.poll():
                message = process.pipe.recv_bytes()
                process.beat = time.monotonic()
                if message.startswith(READY):
                    process.ready = True
                    self._tell(process, message.removeprefix(READY))
                elif message.startswith(FAILED):
                    process.reason = message.removeprefix(FAILED).decode(errors="replace")
                else:
                    assert message == BEAT
        except (EOFError, OSError):
            process.pipe.close()

    def _tell(self, process: _Process, served: bytes) -> None:
        if not self._was_ready:
            self._was_ready = True
            models = msgspec.json.decode(served, type=dict[str, list[str]])
            listed = ", ".join(f"{name} {' '.join(versions)}" for name, versions in models.items())
            scheme = "https" if self._settings.tls_cert else "http"
            host = self._settings.host
            where = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"
            grpc = f", gRPC on {self.grpc_port}" if self.grpc_port else ""
            log.info("serving %s on %s%s", listed, where, grpc)
            if not self._settings.api_keys:
                log.warning("the service is open: no api_keys are set, so anyone may ask it")
        log.info("process %d is ready (number %d)", process.process.pid, process.number)

    def _listen_for(self, process: _Process) -> None:
        """Kill a process whose event loop stands still: a model hangs in it."""
        limit = self._settings.timeout.total_seconds() + SILENCE_SECONDS
        if process.ready and time.monotonic() - process.beat > limit:
            log.error(
                "process %d gave no sign of life for %.0f s; it is killed",
                process.process.pid,
                limit,
            )
            process.process.kill()
            process.beat = time.monotonic()

    def _bury(self, place: _Place) -> None:
        process = place.process
        assert process is not None  # it has just died
        if not process.pipe.closed:
            self._hear(process)
            process.pipe.close()
        process.process.join()
        code = process.process.exitcode
        retire(self._plan.counts, process.number, HELP)
        place.process = None
        if process.reason and not self._was_ready:
            self._stopping = True
            raise SettingsError(process.reason)
        now = time.monotonic()
        place.deaths = 1 if now - process.began > HEALTHY_SECONDS else place.deaths + 1
        wait = 0.0 if place.deaths == 1 else min(BACKOFF[0] * 2**place.deaths, BACKOFF[1])
        place.due = now + wait
        self._metrics.count("trivet_worker_restarts", 1)
        why = process.reason or (
            f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        )
        log.error(
            "process %d died (%s); another one starts in %.1f s", process.process.pid, why, wait
        )

    def _end(self) -> None:
        """End all processes: politely, and after their time is up, not."""
        settings = self._settings
        alive = [place.process for place in self._places if place.process is not None]
        for process in alive:
            if process.ready:
                _send(process.process.pid, signal.SIGTERM)
            else:
                process.process.kill()
        until = time.monotonic() + END_SECONDS + worker.LOG_PATIENCE
        until += (settings.stop_delay + 2 * settings.stop_timeout).total_seconds()
        while alive and time.monotonic() < until and not self._killing:
            connection.wait([self._wake, *(p.process.sentinel for p in alive)], 1.0)
            with suppress(BlockingIOError):
                while self._wake.recv(64):
                    pass
            for process in alive:
                if not process.pipe.closed:
                    self._hear(process)
            alive = [p for p in alive if p.process.is_alive()]
        for process in alive:
            log.error("process %d does not end; it is killed", process.process.pid)
            process.process.kill()
        for place in self._places:
            if place.process is not None:
                place.process.process.join()
                place.process.pipe.close()
                place.process = None


def _send(pid: int | None, number: int) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
