"""One process from its start to its end: time, CPU and memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took.

    Attributes:
        wall: Seconds from its start to its end, the interpreter's start included.
        cpu: Its CPU seconds, user and system.
        server: CPU seconds of the database server meanwhile.
        peak: Its largest resident memory, in MB.
        output: What it printed.
    """

    wall: float
    cpu: float
    server: float
    peak: float
    output: str


def whole_process(
    command: Sequence[str | Path],
    *,
    server_cpu: Callable[[], float] = lambda: 0.0,
    environment: Mapping[str, str] | None = None,
) -> Cost:
    """Run a command to its end.

    Raises:
        SystemExit: It failed.
    """
    served = server_cpu()
    began = time.perf_counter()
    # The children's peak begins with the size of this process, which therefore imports nothing.
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**_plain(), **(environment or {})},
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}:\n{output}")
    return Cost(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        server=server_cpu() - served,
        peak=usage.ru_maxrss / 1024,
        output=output,
    )


def _plain() -> dict[str, str]:
    """Return this environment as a user has it: modules are compiled once, not at every start."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
