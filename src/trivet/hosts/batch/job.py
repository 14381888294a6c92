"""A batch deployment at work: one interval with its retries, what is due, a backfill."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import tenacity

from trivet import owners
from trivet.current import Ready
from trivet.errors import IntervalBusy, RunStopped, TransientError, TrivetError
from trivet.hosts.batch.run import Outcome, Surroundings, Task, attempt
from trivet.hosts.batch.settings import BatchSettings
from trivet.hosts.schedule import Interval
from trivet.results import ledger, retention, tables

log = logging.getLogger("trivet.batch")

QUEUE_POLL_SECONDS = 1.0

_LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Result:
    """How one interval of several ended: a published outcome, an error, or neither (skipped)."""

    interval: Interval
    outcome: Outcome | None = None
    error: TrivetError | None = None


class _Unloaded(NamedTuple):
    """What is known of a model that cannot be loaded."""

    name: str
    version: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A batch deployment.

    Attributes:
        settings: Its section of ``trivet.toml``.
        load: Gives the model in use at the moment.
        around: The process it runs in.
    """

    settings: BatchSettings
    load: Callable[[], Ready]
    around: Surroundings

    def register(self) -> None:
        """Make the deployment known in the results database."""
        self._register(self.load())

    def run(
        self, interval: Interval, *, cause: str, force: bool = True, alone: bool = False
    ) -> Outcome | None:
        """Score an interval and publish it, retrying what passes by itself.

        Args:
            interval: What to score.
            cause: ``manual``, ``schedule`` or ``backfill``.
            force: Run it even if it is published already.
            alone: Refuse while another interval of the deployment runs.

        Returns:
            None if it was published already, perhaps by another process in this very moment.

        Raises:
            IntervalBusy: Another process runs it, and ``overlap`` is ``skip``.
            RunStopped: The process was asked to end.
            TrivetError: It failed.
        """
        while True:
            self._pause(0)
            try:
                return self._persistently(interval, cause, alone, force)
            except IntervalBusy:
                if self.settings.overlap == "skip":
                    raise
                self._pause(QUEUE_POLL_SECONDS)

    def run_due(
        self,
        interval: Interval,
        *,
        cause: str,
        force: bool = False,
        alone: bool = False,
        told: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """Run an interval after the earlier ones that ``lookback`` scores again with it.

        One that fails does not stop the others.

        Raises:
            IntervalBusy: Another process runs one of them, and ``overlap`` is ``skip``.
            RunStopped: The process was asked to end.
        """
        return [
            self._told(part, told, cause=cause, force=force or part != interval, alone=alone)
            for part in self._with_lookback(interval)
        ]

    def run_all(
        self,
        intervals: Iterable[Interval],
        *,
        cause: str,
        force: bool,
        parallel: int = 1,
        told: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """Run intervals, some at a time; one that fails does not stop the others.

        Raises:
            RunStopped: The process was asked to end.
        """

        def one(interval: Interval) -> Result:
            try:
                return self._told(interval, told, cause=cause, force=force)
            except IntervalBusy as error:
                result = Result(interval, error=error)
                told(result)
                return result

        with ThreadPoolExecutor(parallel, "interval") as pool:
            return list(pool.map(one, intervals))

    def published(self) -> dict[dt.datetime, int]:
        """Return the published intervals' starts with their numbers of rows."""
        with self.around.open_results() as db:
            return ledger.published(db, self.settings.name)

    def latest(self) -> Interval | None:
        """Return the newest interval that is over, or None if none is since ``start``."""
        settings, now = self.settings, self.around.clock()
        calendar = settings.calendar
        interval = calendar.interval_at(now - settings.delay)
        interval = calendar.previous(interval)
        first = settings.first
        return interval if first is None or interval.start >= first else None

    def due(self, since: dt.datetime) -> list[Interval]:
        """Return the intervals that the schedule wants now, the oldest first."""
        settings, now = self.settings, self.around.clock()
        with self.around.open_results() as db:
            done = set(ledger.published(db, settings.name))
            failed = ledger.failures(db, settings.name)
        for start, (times, ended) in failed.items():
            if times > settings.retries or ended + settings.retry_delay > now:
                done.add(start)
        start = settings.first or _LONG_AGO
        if self.around.keep_for is not None:  # what was pruned is not missing
            kept = settings.calendar.interval_at(now - self.around.keep_for)
            start = max(start, kept.start)
        return settings.calendar.due(
            now,
            start=start,
            delay=settings.delay,
            catchup=settings.catchup,
            since=since,
            done=frozenset(done),
            limit=settings.catchup_limit,
        )

    def _told(self, interval: Interval, told: Callable[[Result], None], **how: Any) -> Result:
        try:
            result = Result(interval, self.run(interval, **how))
        except (IntervalBusy, RunStopped):
            raise
        except TrivetError as error:
            result = Result(interval, error=error)
        told(result)
        return result

    def _with_lookback(self, interval: Interval) -> list[Interval]:
        calendar, first = self.settings.calendar, self.settings.first
        chain = [interval]
        for _ in range(self.settings.lookback):
            before = calendar.previous(chain[0])
            if first is not None and before.start < first:
                break
            chain.insert(0, before)
        return chain

    def _persistently(
        self, interval: Interval, cause: str, alone: bool, again: bool
    ) -> Outcome | None:
        settings, owner = self.settings, owners.me(uuid.uuid4().hex)
        label = f"{settings.name} {settings.calendar.label(interval)}"

        def once() -> Outcome | None:
            ready = self._loaded(interval, owner, cause=cause, alone=alone, again=again)
            if ready is None:
                return None
            expected = self._register(ready)
            task = Task(
                settings=settings,
                model=ready.model,
                references=ready.references,
                interval=interval,
                owner=owner,
                cause=cause,
                alone=alone,
                again=again,
                expected=expected,
            )
            return attempt(task, self.around)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=tenacity.wait_exponential(multiplier=0.25, max=10) + tenacity.wait_random(0, 0.25),
            # Not the time since the run began: a long run may lose its connection too.
            stop=lambda state: (
                state.idle_for + state.upcoming_sleep > settings.retry_for.total_seconds()
            ),
            sleep=self._pause,
            before_sleep=lambda state: log.warning(
                "%s: %s; trying again", label, state.outcome and state.outcome.exception()
            ),
            reraise=True,
        )
        outcome = retrying(once)
        if outcome is not None:
            self._sweep()
        return outcome

    def _loaded(self, interval: Interval, owner: str, **how: Any) -> Ready | None:
        """Load the model; if it cannot be, let the ledger have a failed attempt that says why."""
        try:
            return self.load()
        except TrivetError as error:
            now, settings = self.around.clock(), self.settings
            with self.around.open_results() as db:
                claimed = ledger.claim(
                    db,
                    settings.name,
                    (interval.start, interval.end),
                    _Unloaded(settings.model),
                    owner=owner,
                    now=now,
                    **how,
                )
                if claimed is None:
                    return None
                ledger.abandon(db, claimed, "failed", ledger.Tally(), now, str(error))
            raise

    def _register(self, ready: Ready) -> int | None:
        """Make the deployment known; return how many rows its newest published interval had."""
        settings = self.settings
        deployment = ledger.Deployment(
            name=settings.name,
            kind="batch",
            model=settings.model,
            view=tables.view_of(settings.name),
            key=settings.key,
            keep=settings.keep,
            manifest=ready.summary,
            schedule=settings.schedule,
            timezone=settings.timezone,
            start=settings.first,
            delay=settings.delay,
        )
        with self.around.open_results() as db:
            ledger.register(db, deployment, self.around.clock())
            rows = ledger.published(db, settings.name)
        return rows[max(rows)] if rows else None

    def _pause(self, seconds: float) -> None:
        if self.around.stop.wait(seconds):
            raise RunStopped(f"{self.settings.name}: stopped; what is left will run again")

    def _sweep(self) -> None:
        try:
            with self.around.open_results() as db:
                db.execute(db.dialect.relaxed)  # a row that comes back is swept another time
                retention.sweep(db, self.settings.name, self.around.stop.is_set)
        except TrivetError as error:  # what was published counts all the same
            log.warning("%s: superseded rows are left for later: %s", self.settings.name, error)


__all__ = ["Job", "Result"]
