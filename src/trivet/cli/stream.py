"""``trivet consume``, ``trivet dead`` and ``trivet asyncapi``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click
import msgspec

from trivet.cli import wiring
from trivet.cli.history import table
from trivet.cli.reporting import reporting

if TYPE_CHECKING:
    from trivet.results.dead_letters import Place
    from trivet.settings import Project


@click.command()
@click.argument("name")
@click.option("--workers", type=click.IntRange(1), help="Instead of workers of the section.")
@click.option(
    "--from",
    "start",
    metavar="earliest|latest|TIMESTAMP",
    help="Where to begin if nothing was consumed yet, instead of start of the section.",
)
@click.option(
    "--accept-loss", is_flag=True, help="Go on behind events that fell out of retention unscored."
)
@click.pass_context
def consume(
    context: click.Context, name: str, workers: int | None, start: str | None, accept_loss: bool
) -> None:
    """Score the events of the stream NAME, until told to stop.

    SIGTERM or Ctrl-C ends it after the batch under way; a second Ctrl-C ends it at once. SIGHUP
    has it look for a new version of its model.
    """
    from trivet.counts import CountsFolder
    from trivet.hosts.stream.supervisor import Supervisor, metrics_served

    project = wiring.project_of(context)
    settings = project.stream[wiring.pick(project.stream, name, "stream")]
    given = {"workers": workers, "start": start}
    changed = {key: value for key, value in given.items() if value is not None}
    try:
        settings = dataclasses.replace(settings, **changed)  # type: ignore[arg-type]
    except ValueError as error:
        raise click.UsageError(f"--from: {str(error).removeprefix('start: ')}") from None
    with reporting(context) as reporter, CountsFolder() as counts:
        plan = wiring.stream_plan(
            project, settings, counts, accept_loss=accept_loss, json=reporter.json
        )
        with metrics_served(settings, counts):
            supervisor = Supervisor(plan)
            with wiring.on_signals(stop=supervisor.stop, reload=supervisor.reload):
                supervisor.run()


@click.group()
def dead() -> None:
    """Look at events that a stream could not score, and send them again."""


@dead.command("list")
@click.argument("name")
@click.option("--code", default="", help="Only those with a problem of this reject code.")
@click.option("--replayed", is_flag=True, help="Also those that were sent again.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_context
def list_(
    context: click.Context, name: str, code: str, replayed: bool, limit: int, as_json: bool
) -> None:
    """List the dead letters of the stream NAME, a line a problem, the newest first."""
    from trivet.results import dead_letters
    from trivet.results.layout import open_results

    project = _project(context, name)
    with open_results(project.results.url, root=project.root) as db:
        found = dead_letters.dead_letters(db, name, code=code, replayed=replayed, limit=limit)
    if as_json:
        for row in found:
            click.echo(msgspec.json.encode(row).decode())
        return
    if not found:
        click.echo(f"{name}: no dead letters")
        return
    rows = [
        (
            f"{r['topic']}/{r['partition_number']}/{r['event_offset']}",
            r["id"],
            r["field"],
            r["code"],
            r["reason"][:80],
            f"{r['rejected_at']:%Y-%m-%d %H:%M}",
            "replayed" if r["replayed_at"] else "",
        )
        for r in found
    ]
    table(("event", "id", "field", "code", "reason", "rejected", ""), rows)


@dead.command()
@click.argument("name")
@click.argument("event")
@click.pass_context
def show(context: click.Context, name: str, event: str) -> None:
    """Write the bytes of one dead letter to standard output, what is wrong to standard error.

    EVENT is TOPIC/PARTITION/OFFSET, as `trivet dead list` shows.
    """
    from trivet.hosts.stream.replay import whole
    from trivet.results import dead_letters
    from trivet.results.layout import open_results

    project = _project(context, name)
    with open_results(project.results.url, root=project.root) as db:
        letter = dead_letters.dead_letter(db, name, dead_letters.Place.parse(event))
    for problem in letter.problems:
        field = f"{problem['field']}: " if problem["field"] else ""
        click.echo(f"{field}{problem['code']}: {problem['reason']}", err=True)
    if letter.value is None:
        with closing(wiring.broker_of(project)) as broker:
            letter = whole(broker, letter)
    sys.stdout.buffer.write(letter.value or b"")
    sys.stdout.buffer.flush()


@dead.command()
@click.argument("name")
@click.argument("events", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that were not sent again yet.")
@click.option("--code", default="", help="All of these with a problem of this reject code.")
@click.pass_context
def replay(
    context: click.Context, name: str, events: tuple[str, ...], every: bool, code: str
) -> None:
    """Send dead letters of the stream NAME to the end of their topic again, as they came.

    Each of EVENTS is TOPIC/PARTITION/OFFSET, as `trivet dead list` shows.
    """
    from trivet.hosts.stream import replay as module
    from trivet.results import dead_letters
    from trivet.results.layout import open_results

    project = _project(context, name)
    if bool(events) == (every or bool(code)):
        raise click.UsageError("name events, or give --all or --code")
    with (
        open_results(project.results.url, root=project.root) as db,
        closing(wiring.broker_of(project)) as broker,
    ):
        places: list[Place]
        if events:
            places = [dead_letters.Place.parse(event) for event in events]
        else:
            found = dead_letters.dead_letters(db, name, code=code, limit=1_000_000)
            keys = [(r["topic"], r["partition_number"], r["event_offset"]) for r in found]
            places = [dead_letters.Place(*key) for key in sorted(set(keys))]
        sent = module.replay(db, broker, name, places, dt.datetime.now(dt.UTC))
    click.echo(f"{name}: {sent} events sent again")


@click.command()
@click.pass_context
def asyncapi(context: click.Context) -> None:
    """Describe the topics and messages of the project's streams: an AsyncAPI 3 document, JSON."""
    from trivet import brokers
    from trivet.hosts.stream.asyncapi import document

    project = wiring.project_of(context)
    if not project.stream:
        raise click.UsageError(f"{project.file} has no [stream.NAME] section")
    names = {settings.model for settings in project.stream.values()}
    models = {name: wiring.source_of(project.models[name]).load(project.root) for name in names}
    place = brokers.place(project.broker.url)
    made = document(project.project.name, list(project.stream.values()), models, place)
    click.echo(msgspec.json.format(msgspec.json.encode(made), indent=2).decode())


def _project(context: click.Context, name: str) -> Project:
    project = wiring.project_of(context)
    wiring.pick(project.stream, name, "stream")
    return project
