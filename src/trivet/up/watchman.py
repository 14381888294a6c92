"""Starts processes such that none of them outlives this one, not even if it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from trivet.up import guard

_START = 'echo "+$$" >&0; exec "$@" </dev/null'
"""Tells the guard of itself before it becomes the command. Whoever started it may be dead by
then: it holds the guard's input open until it has told."""


class Watchman:
    """Starts processes in groups of their own, and the guard that ends them if nobody else can.

    Args:
        lock: A descriptor that the guard keeps open until it is done.
    """

    def __init__(self, lock: int) -> None:
        self._inherited = lock
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._guard: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def __enter__(self) -> Self:
        with self._lock:
            self._stand()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            assert self._guard is not None  # it was entered
            os.close(self._pipe)
            self._guard.wait()

    def spawn(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a command.

        Raises:
            OSError: There is no more room for processes.
        """
        with self._lock:
            self._stand()
            started = subprocess.Popen(  # noqa: S603 - the user's own command
                ["/bin/sh", "-c", _START, "sh", *command],
                stdin=self._pipe,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                process_group=0,
            )
            self._groups.add(started.pid)
        return started

    def forget(self, group: int) -> None:
        """Say that nothing is left of a group: its number may be another's from now on."""
        with self._lock:
            self._groups.discard(group)
            with suppress(OSError):  # the guard died; the next one is not told of this group
                os.write(self._pipe, f"-{group}\n".encode())

    def look(self) -> None:
        """Have another guard stand in for one that died."""
        with self._lock:
            self._stand()

    def _stand(self) -> None:
        if self._guard is not None:
            if self._guard.poll() is None:
                return
            os.close(self._pipe)
        reading, self._pipe = os.pipe()
        try:
            self._guard = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-I", "-S", guard.__file__],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._inherited,),
                start_new_session=True,
            )
        finally:
            os.close(reading)
        with suppress(OSError):  # this one died as well: the next look makes another
            os.write(self._pipe, "".join(f"+{group}\n" for group in self._groups).encode())
