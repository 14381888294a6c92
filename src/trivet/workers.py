"""Worker processes of a host: started, replaced when one dies, and ended together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any

from trivet.errors import TrivetError
from trivet.late_pandas import put_off

READY, BEAT, FAILED = b"ready:", b"beat:", b"failed:"
"""What a process says to its parent: that it works, that it lives, and as ``KIND:REASON``, why it
could not."""

BACKOFF = (0.1, 30.0)
"""The shortest and the longest wait before a process that died is replaced."""

HEALTHY_SECONDS = 60.0
"""A process that lived so long was healthy: its death is the first one again."""


def failed(error: Exception) -> bytes:
    """Return what a process says of the error that ends it."""
    kind = type(error).__name__
    reason = str(error) if isinstance(error, TrivetError) else f"{kind}: {error}"
    return FAILED + f"{kind}:{reason}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the processes are for, and what their host makes of the news of them.

    Attributes:
        name: What the processes are named after.
        target: Runs in a process, with the arguments below and the way to its parent.
        arguments: What it is called with, by the process's number, which no other one ever had,
            and its place, which the one that replaces it has too.
        ready: Takes what a process says when it is ready.
        died: Takes the number of a process that is no more.
        error: Makes the error that ends them all from the name and the words of a process's own.
        fatal: Names of errors that a process started again would only meet again.
        end_seconds: How long a process may take to end.
        silence: After how many seconds without a sign of life a process is killed; None: never.
        log: Where it is told.
    """

    name: str
    target: Callable[..., None]
    arguments: Callable[[int, int], tuple[Any, ...]]
    ready: Callable[[bytes], None]
    died: Callable[[int], None]
    error: Callable[[str, str], Exception]
    fatal: Collection[str] = ()
    end_seconds: float
    silence: float | None = None
    log: logging.Logger


@dataclass(slots=True, eq=False)
class _Process:
    """One process, as its parent sees it."""

    process: SpawnProcess
    pipe: connection.Connection
    number: int
    began: float
    beat: float
    ready: bool = False
    kind: str = ""
    reason: str = ""

    def send(self, number: int) -> None:
        if self.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


@dataclass(slots=True)
class _Place:
    """A process that there should be, and how often it died lately."""

    number: int
    process: _Process | None = None
    deaths: int = 0
    due: float = 0.0


class Workers:
    """Starts the processes, replaces one that dies, and ends them all.

    An error of the first process before any was ready ends them: it would be that of all.
    `stop` and `reload` may be called from signal handlers and other threads.

    Args:
        job: What they are for.
        size: How many there should be.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._job = job
        self._context = multiprocessing.get_context("spawn")
        self._places = [_Place(number) for number in range(size)]
        self._number = 0
        self._was_ready = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._stopping = self._reloading = self._killing = False

    @property
    def pids(self) -> list[int]:
        """The processes that are ready."""
        return [p.process.pid for p in self._alive() if p.ready and p.process.pid]

    @property
    def is_ready(self) -> bool:
        """Whether every process is."""
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
        """Keep the processes up until told to stop.

        Raises:
            Exception: They cannot start, or cannot go on; what the job makes of a process's error.
        """
        try:
            while not self._stopping:
                for place in self._places:
                    if place.process is None and place.due <= time.monotonic():
                        self._start(place)
                self._look()
                if self._reloading:
                    self._reloading = False
                    for process in self._alive():
                        if process.ready:
                            process.send(signal.SIGHUP)
        finally:
            self._end()
            self._wake.close()
            self._waker.close()

    def _alive(self) -> list[_Process]:
        return [place.process for place in self._places if place.process is not None]

    def _poke(self) -> None:
        with suppress(OSError):
            self._waker.send(b"!")

    def _start(self, place: _Place) -> None:
        mine, theirs = self._context.Pipe()
        self._number += 1
        process = self._context.Process(
            target=_begin,
            args=(self._job.target, *self._job.arguments(self._number, place.number), theirs),
            name=f"trivet-{self._job.name}-{self._number}",
            daemon=True,
        )
        # Ctrl-C goes to all processes of a terminal; what to make of it is the parent's to say.
        resource_tracker.ensure_running()  # it would take the block away when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        now = time.monotonic()
        place.process = _Process(process, mine, self._number, now, now)

    def _look(self) -> None:
        """Wait for news of the processes, and take them."""
        now = time.monotonic()
        due = [place.due - now for place in self._places if place.process is None]
        found = self._wait(max(0.0, min([1.0, *due])))
        for place in self._places:
            process = place.process
            if process is None:
                continue
            if process.pipe in found:
                self._hear(process)
            if process.process.sentinel in found:
                self._bury(place, process)
            else:
                self._listen_for(process)

    def _wait(self, patience: float) -> list[Any]:
        """Wait until one of the processes says something or ends, or somebody wakes us."""
        alive = self._alive()
        pipes = [p.pipe for p in alive if not p.pipe.closed]
        ends = [p.process.sentinel for p in alive]
        found = connection.wait([self._wake, *pipes, *ends], patience)
        with suppress(BlockingIOError):
            while self._wake.recv(64):
                pass
        return found

    def _hear(self, process: _Process) -> None:
        try:
            while process.pipe.poll():
                message = process.pipe.recv_bytes()
                process.beat = time.monotonic()
                if message.startswith(READY):
                    process.ready = self._was_ready = True
                    self._job.ready(message.removeprefix(READY))
                    self._job.log.info(
                        "process %d is ready (number %d)", process.process.pid, process.number
                    )
                elif message.startswith(FAILED):
                    told = message.removeprefix(FAILED).decode(errors="replace")
                    process.kind, _, process.reason = told.partition(":")
        except (EOFError, OSError):
            process.pipe.close()

    def _listen_for(self, process: _Process) -> None:
        """Kill a process that stands still: a model hangs in it."""
        limit = self._job.silence
        if limit is not None and process.ready and time.monotonic() - process.beat > limit:
            self._job.log.error(
                "process %d gave no sign of life for %.0f s; it is killed",
                process.process.pid,
                limit,
            )
            process.process.kill()
            process.beat = time.monotonic()

    def _bury(self, place: _Place, process: _Process) -> None:
        if not process.pipe.closed:
            self._hear(process)
            process.pipe.close()
        process.process.join()
        place.process = None
        if process.kind and (process.kind in self._job.fatal or not self._was_ready):
            self._stopping = True
            raise self._job.error(process.kind, process.reason)
        now = time.monotonic()
        place.deaths = 1 if now - process.began > HEALTHY_SECONDS else place.deaths + 1
        wait = 0.0 if place.deaths == 1 else min(BACKOFF[0] * 2**place.deaths, BACKOFF[1])
        place.due = now + wait
        self._job.died(process.number)
        self._job.log.error(
            "process %d died (%s); another one starts in %.1f s",
            process.process.pid,
            process.reason or _ended(process.process.exitcode),
            wait,
        )

    def _end(self) -> None:
        """End all processes: politely, and after their time is up, not."""
        for process in self._alive():
            if process.ready:
                process.send(signal.SIGTERM)
            else:
                process.process.kill()
        until = time.monotonic() + self._job.end_seconds
        while self._ending() and time.monotonic() < until and not self._killing:
            found = self._wait(1.0)
            for process in self._alive():
                if process.pipe in found:
                    self._hear(process)  # a full pipe would keep it
        for process in self._ending():
            self._job.log.error("process %d does not end; it is killed", process.process.pid)
            process.process.kill()
        for process in self._alive():
            process.process.join()
            process.pipe.close()
        for place in self._places:
            place.process = None

    def _ending(self) -> list[_Process]:
        return [p for p in self._alive() if p.process.is_alive()]


def _begin(target: Callable[..., None], *arguments: Any) -> None:
    put_off()
    target(*arguments)


def _ended(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
