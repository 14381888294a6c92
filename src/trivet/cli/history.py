"""``trivet runs``, ``rejects`` and ``results``: what the results database tells."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trivet.cli import wiring

if TYPE_CHECKING:
    from trivet.databases import Connection
    from trivet.settings import Project


WIDTH = 200
"""Of a table that is not printed on a terminal."""


@click.command()
@click.argument("name", required=False)
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines with everything known of each.")
@click.pass_context
def runs(context: click.Context, name: str | None, limit: int, as_json: bool) -> None:
    """List the newest runs, of all deployments or of NAME."""
    from trivet.results import ledger

    project = wiring.project_of(context)
    if name:
        wiring.pick(project.batch, name, "deployment")
    with _results(project) as db:
        found = ledger.runs(db, name or "", limit)
    if as_json:
        _json_lines(dataclasses.asdict(run) for run in found)
        return
    if not found:
        click.echo(f"no runs yet; begin with: trivet score {name or 'NAME'}")
        return
    headers = (
        "attempt",
        "deployment",
        "interval",
        "state",
        "scored",
        "rejected",
        "seconds",
        "model",
        "",
    )
    rows = [
        (
            str(run.attempt),
            run.deployment,
            _label(project, run.deployment, run.interval_start, run.interval_end),
            "published" if run.is_published else run.state,
            f"{run.rows_scored:,}",
            f"{run.rows_rejected:,}",
            f"{run.seconds.get('total', 0):.1f}",
            f"{run.model_name} {run.model_version}",
            (run.error or run.warning or "")[:80],
        )
        for run in found
    ]
    table(headers, rows, numbers=(0, 4, 5, 6))


@click.command()
@click.argument("name")
@click.option("--interval", metavar="INTERVAL", help="Of this interval only.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_context
def rejects(
    context: click.Context, name: str, interval: str | None, limit: int, as_json: bool
) -> None:
    """Show the rejected rows of the deployment NAME, with field, code and reason."""
    from trivet.results import history

    project = wiring.project_of(context)
    calendar = project.batch[wiring.pick(project.batch, name, "batch deployment")].calendar
    span = calendar.named(interval) if interval else None
    bounds = (span.start, span.end) if span else None
    with _results(project) as db:
        found = history.rejects(db, name, bounds, limit)
        counts = history.reject_counts(db, name, bounds)
    if as_json:
        _json_lines(found)
        return
    if not counts:
        click.echo(f"{name}: no rejects")
        return
    table(
        ("problems", "field", "code"),
        [(f"{c['n']:,}", c["field"], c["code"]) for c in counts],
        numbers=(0,),
    )
    rows = [
        (
            _label(project, name, r["interval_start"], r["interval_end"]),
            r["row_key"],
            r["field"],
            r["code"],
            r["reason"],
        )
        for r in found
    ]
    table(("interval", "key", "field", "code", "reason"), rows)


@click.group()
def results() -> None:
    """Look after the results database."""


@results.command()
@click.pass_context
def upgrade(context: click.Context) -> None:
    """Bring the results database to the layout of this program."""
    from trivet.results.layout import upgrade_results

    project = wiring.project_of(context)
    before, after = upgrade_results(project.results.url, root=project.root)
    if before == after:
        click.echo(f"the results database has layout {after} already")
    else:
        click.echo(f"upgraded the results database from layout {before} to {after}")


@results.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--keep-for", metavar="DURATION", help="Instead of keep_for in [results], such as 90d."
)
@click.pass_context
def prune(context: click.Context, names: tuple[str, ...], keep_for: str | None) -> None:
    """Delete the intervals that ended longer ago than keep_for.

    With them goes who was chosen for actions on them, once no cooldown and no delivery needs it.
    """
    from trivet.actions.retention import prune as prune_actions
    from trivet.durations import parse_duration
    from trivet.results.retention import prune as prune_deployment

    project = wiring.project_of(context)
    try:
        kept = parse_duration(keep_for) if keep_for else project.results.keep_for
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--keep-for") from None
    if kept is None:
        raise click.UsageError(
            f'nothing says how long to keep: set keep_for = "400d" in [results] of {project.file}, '
            "or pass --keep-for"
        )
    chosen = [wiring.pick(project.batch, name, "deployment") for name in names or project.batch]
    now = dt.datetime.now(dt.UTC)
    before = now - kept
    cooldowns = {name: action.cooldown for name, action in project.action.items()}
    with _results(project) as db:
        for name in chosen:
            gone = prune_deployment(db, name, before)
            click.echo(
                f"{name}: {gone} intervals that ended before {before:%Y-%m-%d %H:%M} UTC deleted"
            )
            for action, decisions in prune_actions(db, name, before, now, cooldowns).items():
                click.echo(f"{action}: who was chosen on {decisions} of its intervals deleted")


def _results(project: Project) -> Connection:
    from trivet.results.layout import open_results

    return open_results(project.results.url, root=project.root)


def _label(project: Project, deployment: str, start: dt.datetime, end: dt.datetime) -> str:
    """Name an interval as its deployment's schedule does, if there still is such a one."""
    from trivet.hosts.schedule import Interval

    if deployment not in project.batch:
        return f"{start:%Y-%m-%dT%H:%MZ}"
    return project.batch[deployment].calendar.label(Interval(start, end))


def _json_lines(rows: Any) -> None:
    for row in rows:
        click.echo(msgspec.json.encode(row).decode())


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()
) -> None:
    """Print a table; `numbers` are the columns that are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for place, header in enumerate(headers):
        made.add_column(header, justify="right" if place in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    width = None if sys.stdout.isatty() else WIDTH
    Console(width=width).print(made)
