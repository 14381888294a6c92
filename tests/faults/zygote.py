"""Runs the command line in forked children and kills them; a program of its own, one thread.

    python -m faults.zygote

Everything is imported before the first fork, so an attempt costs no start of Python. Reads orders
from standard input, one JSON object a line, and answers each with one line when the child is gone;
see `faults.attempts`. Ends, and ends its child, when its standard input is closed.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import trivet.cli
import trivet.cli.reporting
import trivet.cli.wiring
import trivet.databases
import trivet.formats.python
import trivet.hosts.batch.job
import trivet.hosts.batch.scheduler
import trivet.settings
from trivet.results import ledger, retention, tables

LIMIT_SECONDS = 120.0
"""No child lives longer."""

PHASES = ("start", "claim", "score", "prepare", "append", "profiles", "publish", "sweep", "between")
"""What a child is doing: its work on the ledger and the tables by name, ``score`` for reading and
scoring between two appends, ``between`` after a sweep."""

_WRAPPED = (
    (ledger, "claim", "claim", "score"),
    (tables, "prepare", "prepare", "score"),
    (tables, "append", "append", "score"),
    (tables, "append_profiles", "profiles", "publish"),
    (ledger, "publish", "publish", "sweep"),
    (retention, "sweep", "sweep", "between"),
)


class Board:
    """What a child writes down as it goes, in memory that outlives it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)

    @property
    def phase(self) -> str:
        return PHASES[struct.unpack_from("q", self._memory, 0)[0]]

    @phase.setter
    def phase(self, name: str) -> None:
        struct.pack_into("q", self._memory, 0, PHASES.index(name))

    @property
    def moments(self) -> int:
        """Moments before and after statements that have passed."""
        return int(struct.unpack_from("q", self._memory, 8)[0])

    @moments.setter
    def moments(self, count: int) -> None:
        struct.pack_into("q", self._memory, 8, count)


def main() -> None:
    board = Board()
    while line := sys.stdin.readline():
        order = json.loads(line)
        board.phase, board.moments = "start", 0
        began = time.monotonic()
        ours, childs = os.pipe()
        child = os.fork()
        if not child:
            os.close(ours)
            _run(order, board)
        os.close(childs)
        killed = _wait_or_kill(child, ours, order["kill_after"])
        status = os.waitpid(child, 0)[1]
        os.close(ours)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "overdue": killed and order["kill_after"] is None,
            "phase": board.phase,
            "moments": board.moments,
            "seconds": time.monotonic() - began,
        }
        print(json.dumps(answer), flush=True)


def _wait_or_kill(child: int, pipe: int, after: float | None) -> bool:
    """Wait for the child's end of the pipe to close; kill it in time, or when we are left alone."""
    seconds = LIMIT_SECONDS if after is None else after
    ended = select.select([pipe, sys.stdin], [], [], seconds)[0]
    if pipe in ended:
        return False
    os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is still its own
    return True


def _run(order: dict[str, Any], board: Board) -> NoReturn:
    """Be the child: run the command, and leave without cleaning up what the parent owns."""
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ |= order["environment"]
        sys.argv = ["trivet", *order["argv"]]
        for name, value in order["knobs"].items():
            module, _, attribute = name.rpartition(".")
            assert hasattr(sys.modules[module], attribute), name
            setattr(sys.modules[module], attribute, value)
        _watch_phases(board, order["aim"])
        _watch_statements(board, order["kill_at"])
        trivet.cli.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - told in the log; this process must end here
        traceback.print_exc()
    finally:
        for file in (sys.stdout, sys.stderr):
            file.flush()
        os._exit(code)


def _watch_phases(board: Board, aim: list[Any] | None) -> None:
    """Keep the phase on the board; die a moment after entering the phase that is aimed at."""
    target, left, seconds = aim or ("", 0, 0.0)

    def die_soon() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    def enter(phase: str) -> None:
        nonlocal left
        board.phase = phase
        if phase == target:
            left -= 1
            if not left:
                threading.Thread(target=die_soon, daemon=True).start()

    def watched(function: Callable[..., Any], during: str, after: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            enter(during)
            result = function(*args, **kwargs)
            board.phase = after
            return result

        return call

    for module, name, during, after in _WRAPPED:
        setattr(module, name, watched(getattr(module, name), during, after))


def _watch_statements(board: Board, kill_at: int | None) -> None:
    def moment() -> None:
        board.moments += 1
        if board.moments == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            moment()
            result = method(*args, **kwargs)
            moment()
            return result

        return call

    connection = trivet.databases.Connection
    for name in ("execute", "rows", "append"):
        setattr(connection, name, watched(getattr(connection, name)))


if __name__ == "__main__":
    for lazy in ("adbc_driver_manager", "adbc_driver_postgresql", "adbc_driver_sqlite"):
        importlib.import_module(lazy)
    print("ready", flush=True)
    main()
