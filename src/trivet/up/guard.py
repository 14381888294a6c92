"""Ends the processes of a ``trivet up`` that was killed and could not do it itself.

A program of its own that reads its standard input: ``+ID`` for a process group that was started,
``-ID`` for one that is gone. When the input ends, so did whoever wrote it: what is left of the
groups is asked to end, and after a while made to. It holds the project's lock, so no other
``trivet up`` begins before it is done.

Only the standard library, and little of it: it must be there before the first process is.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

PATIENCE = 10.0
"""Seconds that the processes have to end by themselves."""

_STEP = 0.02


def watch(lines: Iterable[str]) -> set[int]:
    """Return the groups that were started and are not gone when the lines end."""
    groups: set[int] = set()
    for line in lines:
        sign, number = line[:1], line[1:].strip()
        if number.isdigit():
            (groups.add if sign == "+" else groups.discard)(int(number))
    return groups


def end(groups: Iterable[int], patience: float = PATIENCE) -> None:
    """End process groups: politely, and after `patience` seconds, not."""
    left = set(groups)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = {group for group in left if tell(group, number)}
        until = time.monotonic() + patience
        while left and time.monotonic() < until:
            time.sleep(_STEP)
            left = {group for group in left if tell(group, 0)}


def tell(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether there still is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # nobody in it is ours any more
        return False
    return True


def main() -> None:
    """Watch standard input, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(watch(sys.stdin))


if __name__ == "__main__":
    main()
