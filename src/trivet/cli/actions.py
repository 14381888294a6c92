"""``trivet act`` and ``trivet actions``."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import click
import msgspec

from trivet.cli import wiring
from trivet.cli.exits import FAILED
from trivet.cli.history import table
from trivet.cli.reporting import reporting

if TYPE_CHECKING:
    from trivet.actions.action import Action, Preview
    from trivet.actions.delivery import Tally
    from trivet.actions.following import Follower
    from trivet.hosts.schedule import Interval
    from trivet.settings import Project

_PREVIEWS = 3


@click.command()
@click.argument("name")
@click.option(
    "--interval",
    metavar="INTERVAL",
    help="Which one, as trivet score names them. Without it, the latest that is over.",
)
@click.option("--dry-run", is_flag=True, help="Show who would get what; write and send nothing.")
@click.option("--send-past", is_flag=True, help="Act on the interval even if it is past.")
@click.pass_context
def act(
    context: click.Context, name: str, interval: str | None, dry_run: bool, send_past: bool
) -> None:
    """Act on one published interval with the action NAME, then send what waits.

    An interval is decided on once: naming it again only sends what is not sent yet. On a past
    interval nothing is done, unless --send-past says so.
    """
    with reporting(context), wiring.stopping_on_signals() as stop:
        project = wiring.project_of(context)
        action = wiring.action_of(project, name, stop)
        named = action.around.calendar.named(interval) if interval else None
        if dry_run:
            _show(action, wiring.aside(lambda: _preview(action, named)))
            return
        tally = wiring.aside(lambda: _act(action, named, send_past))
    if tally.down:
        raise click.exceptions.Exit(FAILED)


def _act(action: Action, named: Interval | None, send_past: bool) -> Tally:
    from trivet.actions.action import described

    action.register()
    interval = named or action.latest()
    name = action.settings.name
    if interval is None:
        click.echo(f"{name}: the latest interval of {action.settings.after} is not published yet")
    elif action.is_past(interval) and not send_past:
        click.echo(f"{action.label(interval)}: past, nothing is sent for it (--send-past does)")
    else:
        groups = action.decide(interval, cause="manual")
        told = "decided before" if groups is None else described(groups)
        click.echo(f"{action.label(interval)}: {told}")
    tally = action.deliver()
    for state, count in sorted(tally.states.items()):
        click.echo(f"{name}: {count:,} {'given up for now' if state == 'pending' else state}")
    if tally.down:
        click.echo(f"{name}: nothing gets through; what waits is sent by the next trivet act")
    return tally


def _preview(action: Action, named: Interval | None) -> Preview | None:
    interval = named or action.latest()
    return None if interval is None else action.preview(interval, _PREVIEWS)


def _show(action: Action, preview: Preview | None) -> None:
    from trivet.actions.action import described

    if preview is None:
        click.echo(f"the latest interval of {action.settings.after} is not published yet")
        return
    before = "decided before, nothing more is chosen; decided now it " if preview.decided else ""
    click.echo(f"{action.settings.name}: {before}would be {described(preview.groups)}")
    for message in preview.messages:
        click.echo(f"\n--- {message.id}")
        if message.words is None:
            click.echo(message.payload().decode())
            continue
        if action.settings.target.channel == "smtp":
            click.echo(f"To: {message.contact.get(action.settings.address)}")
        click.echo(f"Subject: {message.words.subject}\n\n{message.words.text}")
        click.echo(f"{message.words.html}")


@click.command()
@click.argument("name")
@click.option("--approve", is_flag=True, help="Let proposed deliveries go.")
@click.option("--interval", metavar="INTERVAL", help="With --approve: those of this interval only.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines with everything known of each.")
@click.pass_context
def actions(
    context: click.Context,
    name: str,
    approve: bool,
    interval: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the newest decisions of the action NAME, with the states of their deliveries."""
    project = wiring.project_of(context)
    action = wiring.action_of(project, name, threading.Event())
    if approve:
        named = action.around.calendar.named(interval) if interval else None
        count = action.approve(named)
        click.echo(f"{name}: {count:,} approved; send them with: trivet act {name}")
        return
    found = action.history(limit)
    if as_json:
        for each in found:
            click.echo(msgspec.json.encode(dataclasses.asdict(each)).decode())
        return
    if not found:
        click.echo(f"{name}: nothing was decided yet; begin with: trivet act {name}")
        return
    from trivet.hosts.schedule import Interval

    calendar = action.around.calendar
    headers = ("interval", "treated", "control", "over limit", "cooldown", "suppressed")
    rows = [
        (
            calendar.label(Interval(each.interval_start, each.interval_end)),
            f"{each.treated:,}",
            f"{each.control:,}",
            f"{each.over_limit:,}",
            f"{each.cooldown:,}",
            f"{each.suppressed:,}",
            "pruned" if each.pruned else _counts(each.deliveries),
            _counts(each.reasons),
        )
        for each in found
    ]
    table((*headers, "deliveries", ""), rows, numbers=(1, 2, 3, 4, 5))


def followers_of(
    project: Project, deployments: Collection[str], stop: threading.Event
) -> list[Follower]:
    """Return the actions that follow some deployments, ready to."""
    from trivet.actions.following import Follower

    return [
        Follower(wiring.action_of(project, name, stop), stop)
        for name, settings in project.action.items()
        if settings.after in deployments
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in sorted(counts.items()))
