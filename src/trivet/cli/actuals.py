"""``trivet actuals``: true values pulled, and what they tell."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from trivet.cli import wiring
from trivet.cli.exits import FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

    from trivet.databases import Connection
    from trivet.results.actuals import Bounds
    from trivet.results.actuals_settings import ActualsSettings
    from trivet.settings import Project


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--from", "first", metavar="INTERVAL", help="Pull from this interval on, again too.")
@click.option("--to", "last", metavar="INTERVAL", help="Up to this one, included.")
@click.pass_context
def actuals(
    context: click.Context, names: tuple[str, ...], first: str | None, last: str | None
) -> None:
    """Pull the true values of all [actuals.NAME], or of those named, and measure the quality.

    Pulls what is not there yet; what is there and has changed is replaced. With --from and --to,
    what these intervals have is pulled again.
    """
    from trivet.errors import TrivetError

    with wiring.stopping_on_signals() as stop:
        project = wiring.project_of(context)
        chosen = [wiring.pick(project.actuals, name, "section of [actuals]") for name in names]
        chosen = chosen or list(project.actuals)
        if not chosen:
            raise click.UsageError(f"{project.file} has no [actuals.NAME] section to pull")
        if (first or last) and len(chosen) > 1:
            raise click.UsageError("--from and --to want the NAME of one section")
        failed = 0
        for name in chosen:
            settings = project.actuals[name]
            try:
                span = _named(project, settings, first, last) if first or last else None
                _pull(project, settings, span, stop.is_set)
            except TrivetError as error:
                if len(chosen) == 1:
                    raise
                failed += 1
                click.secho(f"error: {error}", fg="red", err=True)
    if failed:
        raise click.exceptions.Exit(FAILED)


def _pull(
    project: Project,
    settings: ActualsSettings,
    span: list[Bounds] | None,
    stop: Callable[[], bool],
) -> None:
    from trivet.results.layout import open_results

    def work() -> tuple[int, int, int]:
        with open_results(project.results.url, root=project.root) as db:
            return pulled(db, project, settings, span, stop)

    rows, unusable, periods = wiring.aside(work)
    left_out = f", {unusable:,} without a key or a value left out" if unusable else ""
    click.echo(
        f"{settings.name}: {rows:,} true values pulled{left_out}, {periods:,} periods measured"
    )


def pulled(
    db: Connection,
    project: Project,
    settings: ActualsSettings,
    span: list[Bounds] | None,
    stop: Callable[[], bool],
) -> tuple[int, int, int]:
    """Pull and measure; return rows, those left out, and the periods that were measured."""
    from trivet.results import measuring
    from trivet.results.actuals import pull, registered, spans

    now = dt.datetime.now(dt.UTC)
    measuring.target_of(settings, registered(db, settings.of))  # before anything is read
    rows = unusable = 0
    for bounds in spans(db, settings, now) if span is None else span:
        if stop():
            break
        part = pull(db, settings, bounds, root=project.root, now=now)
        rows, unusable = rows + part.rows, unusable + part.unusable
    return rows, unusable, measuring.refresh(db, settings, now, stop)


def _named(
    project: Project, settings: ActualsSettings, first: str | None, last: str | None
) -> list[Bounds]:
    """Return what --from and --to name, in the calendar of the deployment."""
    from trivet.hosts.schedule import Schedule

    batch = project.batch.get(settings.of)
    calendar = batch.calendar if batch else Schedule("@daily")
    start, end = first or last, last or first
    assert start is not None
    assert end is not None
    intervals = calendar.named_range(start, end)
    if settings.by_interval:
        return [(each.start, each.end) for each in intervals]
    return [(intervals[0].start, intervals[-1].end)]
