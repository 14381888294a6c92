"""``trivet score``, ``backfill`` and ``schedule``."""

from __future__ import annotations

import datetime as dt
import logging
from functools import partial
from typing import TYPE_CHECKING

import click

from trivet.cli import wiring
from trivet.cli.exits import FAILED, exit_code
from trivet.cli.reporting import Reporter, reporting

if TYPE_CHECKING:
    from trivet.hosts.batch.job import Job, Result
    from trivet.hosts.schedule import Interval


@click.command()
@click.argument("name")
@click.option(
    "--interval",
    metavar="INTERVAL",
    help="Which one: 2020-04, 2020-04-01, 2020-04-01T05, or any moment in it. "
    "Without it, the latest that is over.",
)
@click.option("--force", is_flag=True, help="Score the latest interval even if it is published.")
@click.pass_context
def score(context: click.Context, name: str, interval: str | None, force: bool) -> None:
    """Score one interval of the batch deployment NAME.

    Naming an interval scores it again if it is published; the new predictions replace the old
    ones at once when they are complete. Without --interval, for cron: the latest interval that is
    over, unless it is published already.
    """
    with reporting(context) as reporter, wiring.stopping_on_signals() as stop:
        project = wiring.project_of(context)
        job = wiring.job_of(project, name, stop, reporter.progress)
        results = wiring.aside(lambda: _score(job, interval, force, reporter))
    failed = [result.error for result in results if result.error is not None]
    if failed:
        raise click.exceptions.Exit(exit_code(failed[0]))


def _score(job: Job, interval: str | None, force: bool, reporter: Reporter) -> list[Result]:
    from trivet.hosts.batch.job import Result

    chosen = _over(job, job.settings.calendar.named(interval)) if interval else _latest(job)
    job.register()
    if interval:
        return job.run_all([chosen], cause="manual", force=True, told=partial(reporter.ended, job))
    if not force and chosen.start in job.published():
        reporter.ended(job, Result(chosen))
        return []
    return job.run_due(chosen, cause="manual", force=force, told=partial(reporter.ended, job))


@click.command()
@click.argument("name")
@click.option("--from", "first", required=True, metavar="INTERVAL", help="The first, included.")
@click.option("--to", "last", required=True, metavar="INTERVAL", help="The last, included.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Intervals at a time.",
)
@click.option("--force", is_flag=True, help="Score published intervals again too.")
@click.pass_context
def backfill(
    context: click.Context, name: str, first: str, last: str, parallel: int, force: bool
) -> None:
    """Score a span of intervals of the batch deployment NAME that are not published.

    An interval that fails does not stop the others; running the same command again repeats only
    what failed. Works while the schedule is not running.
    """
    with reporting(context) as reporter, wiring.stopping_on_signals() as stop:
        project = wiring.project_of(context)
        job = wiring.job_of(project, name, stop, reporter.progress)
        calendar = job.settings.calendar
        _over(job, calendar.named_range(last, last)[-1])  # before all of a long span are made
        intervals = calendar.named_range(first, last)

        def run() -> list[Result]:
            job.register()
            done = () if force else job.published()
            return job.run_all(
                [interval for interval in intervals if interval.start not in done],
                cause="backfill",
                force=force,
                parallel=parallel,
                told=partial(reporter.ended, job),
            )

        results = wiring.aside(run)
    failed = sum(result.error is not None for result in results)
    scored = sum(result.outcome is not None for result in results)
    skipped = len(intervals) - scored - failed
    click.echo(f"{name}: {scored} intervals scored, {skipped} published already, {failed} failed")
    if failed:
        click.echo(f"the same command runs only the failed ones again; see: trivet runs {name}")
        raise click.exceptions.Exit(FAILED)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--once", is_flag=True, help="Run what is due and end, instead of waiting.")
@click.pass_context
def schedule(context: click.Context, names: tuple[str, ...], once: bool) -> None:
    """Run what is due of all batch deployments, or of those named, until told to stop.

    The actions that follow them act on each interval that is published. True values are pulled
    and alerts are sent as their sections say.

    SIGTERM or Ctrl-C ends it cleanly: an interval under way is given back and runs again at the
    next start.
    """
    from trivet.actions.following import following
    from trivet.alerts.watch import watching
    from trivet.cli.actions import followers_of
    from trivet.cli.alerts import watch_of
    from trivet.hosts.batch.scheduler import run_schedule

    with reporting(context) as reporter, wiring.stopping_on_signals() as stop:
        project = wiring.project_of(context)
        chosen = dict.fromkeys(names or project.batch)
        if not chosen:
            raise click.UsageError(f"{project.file} has no [batch.NAME] section to schedule")
        jobs = [wiring.job_of(project, name, stop, reporter.progress) for name in chosen]
        acting = followers_of(project, chosen, stop)
        watch = watch_of(project, stop)

        def ended(job: Job, result: Result) -> None:
            reporter.ended(job, result)
            for each in acting:
                if each.after == job.settings.name:
                    each.wake()
            watch.wake(job.settings.name)

        def run() -> int:
            since = dt.datetime.now(dt.UTC)
            for job in jobs:
                job.register()
            if not once:
                _say_ready(jobs)
            if once:
                failed = run_schedule(jobs, since=since, stop=stop, once=True, told=ended)
                failed += sum(not each.look() for each in acting)
                return failed + (watch.has_work and not watch.round())
            with following(acting, stop), watching(watch):
                return run_schedule(jobs, since=since, stop=stop, told=ended)

        failed = wiring.aside(run)
    if once and failed:
        raise click.exceptions.Exit(FAILED)


def _say_ready(jobs: list[Job]) -> None:
    """Tell whoever watches the log that the daemon is at work."""
    names = ", ".join(job.settings.name for job in jobs)
    log = logging.getLogger("trivet.run")
    log.info("scheduling %s", names, extra={"fields": {"event": "ready"}})


def _latest(job: Job) -> Interval:
    latest = job.latest()
    if latest is None:
        raise click.UsageError(
            f"no interval of {job.settings.name} is over since its start ({job.settings.first})"
        )
    return latest


def _over(job: Job, interval: Interval) -> Interval:
    if not interval.ended(job.around.clock(), job.settings.delay):
        label = job.settings.calendar.label(interval)
        raise click.UsageError(
            f"{job.settings.name} {label} is not over before {interval.end:%Y-%m-%d %H:%M} UTC"
            + (f" plus a delay of {job.settings.delay}" if job.settings.delay else "")
        )
    return interval
