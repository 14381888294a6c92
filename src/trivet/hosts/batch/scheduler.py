"""The scheduler: runs what is due of every batch deployment, until it is told to stop."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from trivet.errors import IntervalBusy, RunStopped, TrivetError
from trivet.hosts.batch.job import Job, Result
from trivet.hosts.schedule import Interval

log = logging.getLogger("trivet.schedule")

LONGEST_SLEEP = dt.timedelta(minutes=1)
"""A clock that is set, or an interval that another process failed at, is noticed within this."""


def run_schedule(
    jobs: Sequence[Job],
    *,
    since: dt.datetime,
    stop: threading.Event,
    once: bool = False,
    told: Callable[[Job, Result], None] = lambda *_: None,
) -> int:
    """Run what is due, each deployment in a thread of its own, one interval at a time.

    Args:
        jobs: The deployments.
        since: When the scheduler began; with ``catchup = "none"`` only later intervals count.
        stop: Set to end it: intervals under way are given back, to be run another time.
        once: End when all that is due was tried once, instead of waiting.
        told: Told how each interval ended.

    Returns:
        The number of failures.

    Raises:
        RunStopped: It was stopped before all was done, with `once`.
    """
    with ThreadPoolExecutor(len(jobs), "schedule") as pool:
        following = [pool.submit(_Follower(job, since, stop, once, told).follow) for job in jobs]
        wait(following, return_when=FIRST_EXCEPTION)
        if not once:  # ended: by `stop`, or by a mistake of ours, of which all should hear
            stop.set()
    return sum(each.result() for each in following)


class _Follower:
    """One deployment's part of the schedule."""

    def __init__(
        self,
        job: Job,
        since: dt.datetime,
        stop: threading.Event,
        once: bool,
        told: Callable[[Job, Result], None],
    ) -> None:
        self._job = job
        self._since = since
        self._stop = stop
        self._once = once
        self._told = told
        self._failed = 0
        self._wake: dt.datetime | None = None

    def follow(self) -> int:
        """Run what is due until told to stop; return how often that failed."""
        tried: list[Interval] = []
        while not self._stop.is_set():
            try:
                due = self._job.due(self._since)
                if due and due != tried:  # else nothing has come of it: not again at once
                    self._run(due)
                    tried = due
                    continue
            except RunStopped:
                break
            except IntervalBusy as busy:
                log.info("%s", busy)
            except TrivetError as error:
                self._failed += 1
                log.warning("%s: %s; looking again soon", self._job.settings.name, error)
            if self._once:
                return self._failed
            tried = []
            self._stop.wait(self._until_next().total_seconds())
        if self._once:
            raise RunStopped(f"{self._job.settings.name}: stopped; what is left is due again")
        return self._failed

    def _run(self, due: list[Interval]) -> None:
        for interval in due:
            self._job.run_due(interval, cause="schedule", alone=True, told=self._ended)

    def _ended(self, result: Result) -> None:
        self._failed += result.error is not None
        self._told(self._job, result)

    def _until_next(self) -> dt.timedelta:
        now, settings = self._job.around.clock(), self._job.settings
        wake = settings.calendar.wake_at(now, settings.delay)
        if wake != self._wake:
            self._wake = wake
            log.info("%s: the next interval is due at %s", settings.name, f"{wake:%Y-%m-%d %H:%MZ}")
        return max(min(wake - now, LONGEST_SLEEP), dt.timedelta(milliseconds=50))
