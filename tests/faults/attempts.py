"""Orders to the process that forks and kills; see `faults.zygote`."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

Aim = tuple[str, int, float]
"""A phase, which entry into it, and how many seconds after it to die."""

TESTS = Path(__file__).parents[1]

KNOBS: Mapping[str, float] = {
    "trivet.databases.BATCH_ROWS": 800,
    "trivet.results.retention.SWEEP_ROWS": 500,
    "trivet.hosts.batch.job.QUEUE_POLL_SECONDS": 0.02,
}
"""Small chunks and short waits, so that a small backfill has many moments to be killed at."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt at a command ended.

    Attributes:
        code: Its exit code, -9 if it was killed.
        overdue: It was killed because it did not end by itself.
        phase: What it was doing last; one of `faults.zygote.PHASES`.
        moments: Moments before and after statements that it came past.
        seconds: How long it ran.
    """

    code: int
    overdue: bool
    phase: str
    moments: int
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -9


class Zygote:
    """One process that runs one command at a time; a context manager."""

    def __init__(self, log: Path, knobs: Mapping[str, float] = KNOBS) -> None:
        self.log = log
        self._knobs = dict(knobs)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=TESTS,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        assert self._line(60) == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def begin(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        *,
        kill_after: float | None = None,
        kill_at: int | None = None,
        aim: Aim | None = None,
    ) -> None:
        """Start the command; to be killed after so many seconds or at such a moment, or not."""
        order = {
            "argv": argv,
            "environment": dict(environment),
            "knobs": self._knobs,
            "log": str(self.log),
            "kill_after": kill_after,
            "kill_at": kill_at,
            "aim": aim,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def end(self, within: float = 150) -> Ended:
        """Wait for the command that was begun last."""
        ended = Ended(**json.loads(self._line(within)))
        assert not ended.overdue, f"the command did not end by itself\n{self.told()}"
        return ended

    def ready(self, within: float) -> bool:
        """Wait until the command has ended, or for so many seconds; say whether it has."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], within)[0])

    def run(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        *,
        kill_after: float | None = None,
        kill_at: int | None = None,
        aim: Aim | None = None,
    ) -> Ended:
        self.begin(argv, environment, kill_after=kill_after, kill_at=kill_at, aim=aim)
        return self.end()

    def told(self) -> str:
        """Return the end of what the commands printed."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def _line(self, within: float) -> str:
        assert self.ready(within), f"no answer within {within} s\n{self.told()}"
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the forking process has ended\n{self.told()}"
        return line
