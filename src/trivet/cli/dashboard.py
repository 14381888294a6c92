"""``trivet dashboard`` and ``trivet report``."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime as dt
from contextlib import closing
from pathlib import Path

import click

from trivet.cli import wiring
from trivet.cli.alerts import limits_of
from trivet.cli.reporting import reporting

_M_ARENA_MAX = -8


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

    project = wiring.project_of(context)
    _keep_small()
    try:
        from trivet.dashboard.app import Surroundings
        from trivet.dashboard.bundle import bundle
        from trivet.dashboard.server import bind, run
        from trivet.dashboard.source import Source
    except ImportError as error:
        raise MissingExtra("the dashboard", "dashboard") from error

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
        alerts=project.alerts,
        limits=limits_of(project),
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


def _keep_small() -> None:
    """Have threads share one heap: with one each, what pages needed once stays in all of them."""
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    if hasattr(tune := ctypes.CDLL(None), "mallopt"):  # of glibc
        tune.mallopt(_M_ARENA_MAX, 1)


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


@click.command()
@click.argument("name")
@click.option("--interval", metavar="INTERVAL", help="By default the newest one.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file, .html or .png; by default NAME-INTERVAL.html here.",
)
@click.pass_context
def report(context: click.Context, name: str, interval: str | None, output: Path | None) -> None:
    """Write what the dashboard shows of one interval of NAME into one file.

    Of a service or a stream, an interval is a day.
    """
    from trivet.errors import MissingExtra

    try:
        from trivet.dashboard.ask import Ask, NotThere
        from trivet.dashboard.report import make
        from trivet.dashboard.source import Source
    except ImportError as error:
        raise MissingExtra("a report", "dashboard") from error

    project = wiring.project_of(context)
    if output is not None and output.suffix not in (".html", ".png"):
        raise click.BadParameter(
            f"{output} ends neither in .html nor in .png", param_hint="--output"
        )
    settings = project.dashboard
    source = Source(project.results.url, project.root, settings.query_limit.total_seconds())
    with closing(source):
        ask = Ask(source, settings, dt.datetime.now(dt.UTC))
        try:
            made = make(ask, project.project.name, name, interval or "")
        except NotThere as error:
            raise click.UsageError(str(error)) from None
    target = output or Path(f"{name}-{made.label.replace(':', '')}.html")
    if target.suffix == ".png":
        target.write_bytes(made.png())
    else:
        target.write_text(made.html(), encoding="utf-8")
    click.echo(f"wrote {target}")
