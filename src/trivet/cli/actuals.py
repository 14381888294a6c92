"""``trivet actuals``: true values pulled, and what they tell."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from trivet.cli import wiring
from trivet.cli.exits import FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

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
    bounds: list[Bounds] | None,
    stop: Callable[[], bool],
) -> None:
    from trivet.results.layout import open_results
    from trivet.results.measuring import Round, pull_and_measure

    def work() -> Round:
        with open_results(project.results.url, root=project.root) as db:
            now = dt.datetime.now(dt.UTC)
            return pull_and_measure(
                db, settings, root=project.root, now=now, stop=stop, bounds=bounds
            )

    done = wiring.aside(work)
    left_out = f", {done.unusable:,} without a key or a value left out" if done.unusable else ""
    click.echo(
        f"{settings.name}: {done.rows:,} true value{'s'[done.rows == 1 :]} pulled{left_out}, "
        f"{done.periods:,} period{'s'[done.periods == 1 :]} measured"
    )


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
