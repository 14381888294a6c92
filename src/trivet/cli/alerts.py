"""``trivet alerts``: what is wrong, for people and for cron."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

import click
import msgspec

from trivet.cli import wiring
from trivet.cli.exits import FAILED
from trivet.cli.history import table

if TYPE_CHECKING:
    import threading

    from trivet.alerts.facts import Limits
    from trivet.alerts.watch import Watch
    from trivet.settings import Project


@click.command()
@click.option("--send", is_flag=True, help="Tell of what is new or over, as [alerts] says.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_context
def alerts(context: click.Context, send: bool, as_json: bool) -> None:
    """Show what is wrong: runs, lateness, rejects, drift, quality, lag. Ends with 1 if anything is.

    With --send each alert is told once, and once more when it is over.
    """
    from trivet.alerts.channels import channels
    from trivet.alerts.look import look, tell
    from trivet.results.layout import open_results

    project = wiring.project_of(context)
    settings = project.alerts
    if send and not settings.sends:
        raise click.UsageError(
            f"nobody is to be told: set webhook or email in [alerts] of {project.file}"
        )
    ways = channels(settings, project.project.name) if send else []
    now = dt.datetime.now(dt.UTC)
    failed = 0
    with open_results(project.results.url, root=project.root) as db:
        found = look(db, settings, limits_of(project), now)
        if send:
            sent, failed = tell(db, found, ways, now)
            click.echo(f"{sent} messages sent, {failed} failed", err=True)
    if as_json:
        for each in found:
            click.echo(msgspec.json.encode(dataclasses.asdict(each)).decode())
    elif not found:
        click.echo("nothing is wrong")
    else:
        rows = [
            (each.deployment, f"{each.kind} {each.subject}".strip(), each.message) for each in found
        ]
        table(("deployment", "alert", ""), rows)
    if found or failed:
        raise click.exceptions.Exit(FAILED)


def limits_of(project: Project) -> Limits:
    """Return the limits that the sections of true values set."""
    return {each.of: tuple(each.limits) for each in project.actuals.values()}


def watch_of(project: Project, stop: threading.Event) -> Watch:
    """Wire what the scheduler does beside its runs."""
    from trivet.alerts.channels import channels
    from trivet.alerts.watch import Watch

    return Watch(
        root=project.root,
        results=project.results.url,
        actuals=list(project.actuals.values()),
        alerts=project.alerts,
        limits=limits_of(project),
        channels=channels(project.alerts, project.project.name),
        stop=stop,
        clock=lambda: dt.datetime.now(dt.UTC),
    )
