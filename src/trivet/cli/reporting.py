"""Progress and outcomes: live on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from trivet.cli.exits import exit_code
from trivet.errors import IntervalBusy, TrivetError
from trivet.logs import JsonLines

if TYPE_CHECKING:
    from pathlib import Path

    from trivet.hosts.batch.job import Job, Result
    from trivet.hosts.batch.run import Progress

LINE_SECONDS = 5.0
"""The least time between two progress lines of a run in a log."""


class Reporter(Protocol):
    """Tells a person or a log how a command goes."""

    json: bool

    def progress(self, progress: Progress) -> None: ...
    def ended(self, job: Job, result: Result) -> None: ...


def located(error: TrivetError, file: Path) -> str:
    """Return what an error says, with the project file before a section that it names."""
    lines = str(error).splitlines()
    return "\n".join(f"{file}: {line}" if line.startswith("[") else line for line in lines)


@contextmanager
def reporting(context: click.Context) -> Iterator[Reporter]:
    """Set up logging and give the reporter that fits the place where standard error goes."""
    wanted = context.obj["log"]
    live = sys.stderr.isatty() if wanted == "auto" else wanted == "text"
    handler = _OnStandardError()
    handler.setFormatter(logging.Formatter("%(message)s") if live else JsonLines())
    log = logging.getLogger("trivet")
    before = log.handlers, log.propagate, log.level
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    try:
        if live:
            with _Live() as reporter:
                yield reporter
        else:
            yield _Log()
    except TrivetError as error:
        if live:
            raise
        fields = {"event": "error", "error": type(error).__name__}
        told = located(error, context.obj["file"])
        log.log(logging.ERROR, "%s", told, extra={"fields": fields})
        raise click.exceptions.Exit(exit_code(error)) from None
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])


@contextmanager
def silent_unless_asked(context: click.Context) -> Iterator[None]:
    """Log as ``--log`` says, and nothing at all if it says nothing: a table tells the outcome."""
    if context.obj["log"] != "auto":
        with reporting(context):
            yield
        return
    log = logging.getLogger("trivet")
    before = log.handlers, log.propagate, log.level
    log.handlers, log.propagate = [logging.NullHandler()], False
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")  # of models, at values that are sent on purpose
            yield
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])


def describe(job: Job, result: Result) -> str:
    """Return how an interval ended, in one line."""
    label = f"{job.settings.name} {job.settings.calendar.label(result.interval)}"
    if result.error is not None:
        word = "not run" if isinstance(result.error, IntervalBusy) else "failed"
        return f"{label}: {word}: {str(result.error).removeprefix(f'{label}: ')}"
    if result.outcome is None:
        return f"{label}: published already (--force runs it again)"
    tally = result.outcome.tally
    seconds = tally.seconds.get("total", 0.0)
    rate = f", {tally.read / seconds:,.0f} rows/s" if seconds else ""
    warning = f"; warning: {tally.warning}" if tally.warning else ""
    share = f" ({tally.rejected / tally.read:.1%})" if tally.read else ""
    return (
        f"{label}: {tally.scored:,} scored, {tally.rejected:,} rejected{share} "
        f"in {seconds:.1f} s{rate}{warning}"
    )


def _event(result: Result) -> str:
    if result.error is not None:
        return "busy" if isinstance(result.error, IntervalBusy) else "failed"
    return "skipped" if result.outcome is None else "published"


class _OnStandardError(logging.Handler):
    """Writes to what standard error is at the moment: the live bars put themselves there."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


class _Log:
    json = True

    def __init__(self) -> None:
        self._log = logging.getLogger("trivet.run")
        self._last: dict[object, float] = {}  # moments of the latest progress lines, by run

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        key = (progress.deployment, progress.interval)
        if now - self._last.setdefault(key, now) < LINE_SECONDS:
            return
        self._last[key] = now
        fields = {
            "event": "progress",
            "deployment": progress.deployment,
            "interval_start": progress.interval.start,
            "interval_end": progress.interval.end,
            "rows": progress.rows,
            "rejected": progress.rejected,
            "expected": progress.expected,
        }
        self._log.info("%s: %d rows", progress.deployment, progress.rows, extra={"fields": fields})

    def ended(self, job: Job, result: Result) -> None:
        self._last.pop((job.settings.name, result.interval), None)
        fields: dict[str, Any] = {
            "event": _event(result),
            "deployment": job.settings.name,
            "interval_start": result.interval.start,
            "interval_end": result.interval.end,
        }
        if result.error is not None:
            fields["error"] = type(result.error).__name__
        if result.outcome is not None:
            tally = result.outcome.tally
            fields |= {
                "attempt": result.outcome.attempt.id,
                "read": tally.read,
                "scored": tally.scored,
                "rejected": tally.rejected,
                "seconds": {stage: round(s, 3) for stage, s in tally.seconds.items()},
            }
        level = logging.ERROR if result.error else logging.INFO
        self._log.log(level, "%s", describe(job, result), extra={"fields": fields})


class _Live:
    """Bars on a terminal, one for each interval under way."""

    json = False

    def __enter__(self) -> _Live:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} rows"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[object, Any] = {}
        self._began: dict[object, float] = {}
        self._lock = threading.Lock()
        return self

    def __exit__(self, *_: object) -> None:
        if self._began:
            self._bars.stop()

    def progress(self, progress: Progress) -> None:
        key = (progress.deployment, progress.interval)
        with self._lock:
            if key not in self._tasks:
                self._bars.start()
                self._began[key] = time.monotonic()
                name = f"{progress.deployment} {progress.interval.start:%Y-%m-%d %H:%M}"
                self._tasks[key] = self._bars.add_task(name, total=progress.expected, rate="")
            seconds = time.monotonic() - self._began[key]
            rate = f"{progress.rows / seconds:,.0f} rows/s" if seconds > 0.2 else ""
            total = None if progress.expected is None else max(progress.expected, progress.rows)
            self._bars.update(self._tasks[key], completed=progress.rows, total=total, rate=rate)

    def ended(self, job: Job, result: Result) -> None:
        with self._lock:
            task = self._tasks.pop((job.settings.name, result.interval), None)
            if task is not None:
                self._bars.remove_task(task)
            self._bars.console.print(
                describe(job, result), style="red" if result.error else None, highlight=False
            )
