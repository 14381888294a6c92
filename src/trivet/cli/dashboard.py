"""``trivet dashboard``."""

from __future__ import annotations

import dataclasses
import datetime as dt

import click

from trivet.cli import wiring
from trivet.cli.reporting import reporting


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Instead of port in [dashboard].")
@click.option(
    "--as-of",
    metavar="MOMENT",
    help="Judge what is due and late by this moment instead of now, such as 2020-07-01.",
)
@click.pass_context
def dashboard(context: click.Context, port: int | None, as_of: str | None) -> None:
    """Show what came out, on pages over the results database, until told to stop."""
    from trivet.errors import MissingExtra

    try:
        from trivet.dashboard.app import Surroundings
        from trivet.dashboard.bundle import bundle
        from trivet.dashboard.server import bind, run
        from trivet.dashboard.source import Source
    except ImportError as error:
        raise MissingExtra("the dashboard", "dashboard") from error

    project = wiring.project_of(context)
    settings = project.dashboard
    if port is not None:
        settings = dataclasses.replace(settings, port=port)
    moment = _moment(as_of)
    source = Source(project.results.url, project.root, settings.query_limit.total_seconds())
    around = Surroundings(
        project=project.project.name,
        source=source,
        settings=settings,
        bundle=bundle(),
        clock=lambda: moment or dt.datetime.now(dt.UTC),
    )
    try:
        listening = bind(settings.host, settings.port)
    except OSError as error:
        raise click.UsageError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another port with --port"
        ) from None
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"http://{host}:{listening.getsockname()[1]}/"
    with reporting(context), wiring.stopping_on_signals():
        run(around, listening, lambda: click.echo(f"the dashboard is at {where}"))


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no date or moment; write it such as 2020-07-01 or 2020-07-01T06:00",
            param_hint="--as-of",
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
