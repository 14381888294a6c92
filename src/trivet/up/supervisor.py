"""Starts the processes of a plan, keeps them running and ends them, one thread for each.

All of them share one condition: what changes for one is news for those that wait for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from trivet.errors import UpError
from trivet.up import guard
from trivet.up.board import Board, State, Status, Word
from trivet.up.lines import lines_of
from trivet.up.plan import FROM_LOG, Process
from trivet.up.probe import answers
from trivet.up.watchman import Watchman

SETTLED_SECONDS = 1.0
"""A process that says nothing of its readiness is ready when it has lived so long."""

HEALTHY_SECONDS = 60.0
"""A process that lived so long was healthy: its death is the first one again."""

BACKOFF = (0.25, 30.0)
"""The shortest and the longest wait before a process that died again is started again."""

REST_SECONDS = 5.0
"""How long what a dead process leaves of its group has to end."""

_PROBE_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_STEP = 0.1
_UNUSABLE = 2


class Listener(Protocol):
    """Hears what happens; called by several threads."""

    def line(self, name: str, text: str) -> None:
        """A process wrote a line."""

    def changed(self, state: State, before: Word) -> None:
        """A process came into another state."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a supervisor works in.

    Attributes:
        project: The project's name.
        root: The folder that the processes run in.
        environment: Of the processes.
        board: Where the state is shown.
        listener: Who hears of it.
        clock: Tells the time of states, seconds since the epoch.
    """

    project: str
    root: Path
    environment: Mapping[str, str]
    board: Board
    listener: Listener
    clock: Callable[[], float] = time.time


class Supervisor:
    """Runs a plan.

    `stop` may be called from signal handlers and other threads.

    Args:
        plan: The processes, each behind those that it comes after.
        around: What they run in.
    """

    def __init__(self, plan: Sequence[Process], around: Around) -> None:
        self._around = around
        self._news = threading.Condition(threading.RLock())
        self._started = around.clock()
        self._watchman = Watchman(around.board.lock)
        self._runners = {p.name: _Runner(p, self) for p in plan}
        self._failure: UpError | None = None
        self._stopping = threading.Event()
        self._killing = threading.Event()

    @property
    def status(self) -> Status:
        """What there is to tell now."""
        states = tuple(runner.state for runner in self._runners.values())
        return Status(
            project=self._around.project,
            pid=os.getpid(),
            started=self._started,
            processes=states,
        )

    def stop(self) -> None:
        """Have all processes end, those first that come after others; a second time, at once."""
        if self._stopping.is_set():
            self._killing.set()
        self._stopping.set()

    def run(self) -> None:
        """Run the processes until told to stop, or until all are done.

        Raises:
            UpError: One cannot start: it ended with exit code 2 before it ever was ready.
        """
        with self._watchman:
            self._show()
            threads = [
                threading.Thread(target=runner.run, name=name)
                for name, runner in self._runners.items()
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_LOOK_SECONDS)
                    self._watchman.look()
        if self._failure is not None:
            raise self._failure

    # What the runners ask of it.

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def is_killing(self) -> bool:
        return self._killing.is_set()

    def allows(self, process: Process) -> bool:
        """Say whether all that a process comes after is ready."""
        words = [self._runners[name].state.state for name in process.after]
        once = [self._runners[name].process.once for name in process.after]
        return all(
            word == "done" if is_once else word == "ready"
            for word, is_once in zip(words, once, strict=True)
        )

    def dependents_ended(self, process: Process) -> bool:
        """Say whether all that comes after a process has ended."""
        return all(
            runner.ended
            for runner in self._runners.values()
            if process.name in runner.process.after
        )

    def wait(self, seconds: float) -> None:
        """Wait for news of any process, but not for longer than a step."""
        with self._news:
            self._news.wait(min(seconds, _STEP))

    def fail(self, error: UpError) -> None:
        """End everything because of one process."""
        with self._news:
            self._failure = self._failure or error
        self._stopping.set()

    def changed(self, state: State, before: Word) -> None:
        """Tell everybody of a process's new state."""
        with self._news:
            self._show()
            self._news.notify_all()
        self._around.listener.changed(state, before)

    def spawn(self, process: Process) -> subprocess.Popen[bytes]:
        """Start a process, in a group of its own that the watchman knows of before it runs."""
        return self._watchman.spawn(
            process.command, self._around.root, {**self._around.environment, **process.env}
        )

    def gone(self, group: int) -> None:
        self._watchman.forget(group)

    def heard(self, name: str, text: str) -> None:
        self._around.listener.line(name, text)

    def now(self) -> float:
        return self._around.clock()

    def _show(self) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end what runs
            self._around.board.show(self.status)


class _Runner:
    """The life of one process."""

    def __init__(self, process: Process, supervisor: Supervisor) -> None:
        self.process = process
        self.ended = False
        self.state = State(name=process.name, since=supervisor.now(), url=process.url)
        self._supervisor = supervisor
        self._was_ready = False
        self._deaths = 0
        self._last = ""

    def run(self) -> None:
        """Start the process when it may, and again when it died, until told to stop."""
        above = self._supervisor
        try:
            while not above.is_stopping and not above.allows(self.process):
                above.wait(_STEP)
            while not above.is_stopping:
                if self._once():
                    return
                self._back_off()
        except OSError as error:  # no process could be made
            above.fail(UpError(f"{self.process.name} cannot be started: {error}"))
        finally:
            self.ended = True
            if self.state.state != "done":
                self._enter("stopped", pid=None)

    def _once(self) -> bool:
        """Run the process once; return whether it is done."""
        above = self._supervisor
        popen = above.spawn(self.process)
        born = time.monotonic()
        self._enter("starting", pid=popen.pid)
        with _Life(popen, self._heard) as life:
            while not life.over and not above.is_stopping:
                self._look(life, time.monotonic() - born)
                life.wait(_STEP)
            if not life.over:
                self._end(life)
            self._sweep(popen.pid, life)
        above.gone(popen.pid)
        code = popen.returncode
        lived = time.monotonic() - born
        self._deaths = 1 if lived > HEALTHY_SECONDS else self._deaths + 1
        if self.process.once and code == 0:
            self._enter("done", pid=None, last_end=_words(code))
            return True
        self._set(pid=None, last_end=_words(code))
        if code == _UNUSABLE and not self._was_ready and not above.is_stopping:
            above.fail(
                UpError(
                    f"{self.process.name} cannot start ({_words(code)}): "
                    f"{self._last or 'it does not say why'}"
                )
            )
        return False

    def _look(self, life: _Life, lived: float) -> None:
        if self.state.state != "starting" or self.process.once:
            return
        ready = self.process.ready
        if ready == FROM_LOG:
            is_ready = life.said_ready
        elif ready:
            is_ready = answers(ready, _PROBE_SECONDS) and not life.over
        else:
            is_ready = lived >= SETTLED_SECONDS
        if is_ready:
            self._was_ready = True
            self._enter("ready")

    def _end(self, life: _Life) -> None:
        """End the process, after those that come after it."""
        above = self._supervisor
        while not (life.over or above.is_killing or above.dependents_ended(self.process)):
            life.wait(_STEP)
        self._enter("stopping")
        group = life.popen.pid
        guard.tell(group, signal.SIGTERM)
        until = time.monotonic() + self.process.grace
        while not life.over and not above.is_killing and time.monotonic() < until:
            life.wait(_STEP)
        if not life.over:
            above.heard(
                self.process.name, f"does not end in {self.process.grace:.0f} s: it is killed"
            )
            guard.tell(group, signal.SIGKILL)
            life.wait(None)

    def _sweep(self, group: int, life: _Life) -> None:
        """End what a dead process left of its group: what is started next needs its ports."""
        if guard.tell(group, 0):
            guard.end({group}, 0.0 if self._supervisor.is_killing else REST_SECONDS)

    def _back_off(self) -> None:
        above = self._supervisor
        if above.is_stopping:
            return
        low, high = BACKOFF
        pause = 0.0 if self._deaths == 1 else min(low * 2.0**self._deaths, high)
        self._enter("restarting", restarts=self.state.restarts + 1)
        until = time.monotonic() + pause
        while not above.is_stopping and time.monotonic() < until:
            above.wait(until - time.monotonic())

    def _heard(self, text: str) -> None:
        self._last = _reason(text) or self._last
        self._supervisor.heard(self.process.name, text)

    def _enter(self, word: Word, **changes: object) -> None:
        before = self.state.state
        self._set(state=word, since=self._supervisor.now(), **changes)
        self._supervisor.changed(self.state, before)

    def _set(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)


class _Life:
    """One process from its start to its end: its lines are read, its end is waited for."""

    def __init__(self, popen: subprocess.Popen[bytes], heard: Callable[[str], None]) -> None:
        self.popen = popen
        self.said_ready = False
        self._heard = heard
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"{what} {popen.pid}", daemon=True)
            for what, work in (("wait", self._wait), ("read", self._read))
        ]

    def __enter__(self) -> _Life:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        waiting, reading = self._threads
        waiting.join()
        reading.join(REST_SECONDS)  # longer only if someone who left the group holds the pipe

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def wait(self, seconds: float | None) -> None:
        """Wait for its end."""
        self._over.wait(seconds)

    def _wait(self) -> None:
        self.popen.wait()
        self._over.set()

    def _read(self) -> None:
        assert self.popen.stdout is not None  # asked for
        with self.popen.stdout as stream:
            for text in lines_of(stream):
                self.said_ready = self.said_ready or _says_ready(text)
                self._heard(text)


def _says_ready(text: str) -> bool:
    return '"event"' in text and _object(text).get("event") == "ready"


def _reason(text: str) -> str:
    """Return what a line says of an end: itself, or the message of an error of Trivet's own log."""
    if not text.startswith("{"):
        return text.strip()
    said = _object(text)
    return str(said.get("message", "")) if said.get("level") == "error" else ""


def _object(text: str) -> dict[str, object]:
    """Return the JSON object of a line, an empty one for another line."""
    try:
        said = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
