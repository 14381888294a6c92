"""``trivet events`` and ``trivet lag``: the topics of the project's broker."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from trivet.cli import wiring
from trivet.cli.history import table

if TYPE_CHECKING:
    from trivet.brokers.base import Broker, Fetched
    from trivet.producer import Producer

_TAIL_SECONDS = 0.05
_AT_ONCE = 500


@click.group()
def events() -> None:
    """Send events to topics, and look at them."""


@events.command()
@click.argument("topic")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--key", metavar="FIELD", help="The member of each object that is the event's key.")
@click.option("--id", "id_field", metavar="FIELD", help="The member that is the event's id.")
@click.option("--time", "time_field", metavar="FIELD", help="The member that is its time.")
@click.option("--type", "kind", metavar="TYPE", help="The events' type; by default the topic.")
@click.option(
    "--source", default="/trivet/publish", show_default=True, help="Who sends: a URI reference."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["cloudevents", "cloudevents-binary", "json"]),
    default="cloudevents",
    show_default=True,
    help="How events are written; json: each line as it is.",
)
@click.pass_context
def publish(
    context: click.Context,
    topic: str,
    file: str,
    key: str | None,
    id_field: str | None,
    time_field: str | None,
    kind: str | None,
    source: str,
    format_: Any,
) -> None:
    """Send the lines of FILE (JSON objects; - is standard input) to TOPIC.

    It ends when every event is durable.
    """
    from trivet.producer import Producer

    project = wiring.project_of(context)
    fields = {"key": key, "id": id_field, "time": time_field}
    sent = 0
    with (
        _opened(file) as lines,
        Producer(project.broker.url, source, format=format_, root=project.root) as producer,
    ):
        for number, line in enumerate(lines, 1):
            if line.strip():
                found = _members(f"{file}:{number}", line, fields)
                _send(producer, topic, line.strip(), kind or topic, found)
                sent += 1
    click.echo(f"{sent:,} events sent to {topic}")


def _opened(file: str) -> AbstractContextManager[IO[bytes]]:
    try:
        return click.open_file(file, "rb")
    except OSError as error:
        raise click.FileError(file, error.strerror) from None


def _members(where: str, line: bytes, fields: dict[str, str | None]) -> dict[str, Any]:
    """Return the members of a line's object that have a part in its event."""
    try:
        row = msgspec.json.decode(line)
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{where}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise click.ClickException(f"{where}: write one JSON object a line")
    found: dict[str, Any] = {}
    for part, field in fields.items():
        if field is None:
            continue
        if row.get(field) is None:
            raise click.ClickException(f"{where}: it has no {field!r}, which is to be the {part}")
        found[part] = row[field]
    if "time" in found:
        try:
            found["time"] = msgspec.convert(found["time"], dt.datetime)
        except msgspec.ValidationError as error:
            raise click.ClickException(f"{where}: {fields['time']!r}: {error}") from None
    return found


def _send(producer: Producer, topic: str, line: bytes, kind: str, found: dict[str, Any]) -> None:
    """Send one event, after those before it if too many wait."""
    from trivet.errors import BufferFull

    key = None if "key" not in found else str(found["key"])
    identity, moment = str(found.get("id", "")), found.get("time")
    try:
        producer.send(topic, key, line, type=kind, id=identity, time=moment)
    except BufferFull:
        producer.flush()
        producer.send(topic, key, line, type=kind, id=identity, time=moment)


@events.command()
@click.argument("topic")
@click.option(
    "--last",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Begin with so many events of each partition that are there already.",
)
@click.option(
    "--follow/--no-follow", default=True, show_default=True, help="Wait for more, until Ctrl-C."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines with everything of each event.")
@click.pass_context
def tail(context: click.Context, topic: str, last: int, follow: bool, as_json: bool) -> None:
    """Show the events of TOPIC as they come."""
    project = wiring.project_of(context)
    with (
        closing(wiring.broker_of(project)) as broker,
        wiring.stopping_on_signals() as stop,
    ):
        bounds = broker.bounds(topic)
        places = {p: max(first, end - last) for p, (first, end) in bounds.items()}
        while True:
            quiet = True
            for fetched in _new(broker, topic, places):
                quiet = False
                for row in _rows(fetched):
                    click.echo(_line(row, as_json))
            sys.stdout.flush()
            if stop.is_set() or (quiet and not follow):
                return
            if quiet:
                time.sleep(_TAIL_SECONDS)


def _new(broker: Broker, topic: str, places: dict[int, int]) -> Iterator[Fetched]:
    """Give what there is from some places on, and move them."""
    ends = broker.bounds(topic)
    for partition, offset in places.items():
        if offset < ends[partition][1]:
            fetched = broker.read(topic, partition, offset, _AT_ONCE)
            if fetched.offsets:
                places[partition] = fetched.offsets[-1] + 1
                yield fetched


def _rows(fetched: Fetched) -> Iterator[dict[str, Any]]:
    headers = fetched.headers or [()] * len(fetched.offsets)
    columns = (fetched.offsets, fetched.times, fetched.keys, fetched.values, headers)
    for offset, moment, key, value, its in zip(*columns, strict=True):
        yield {
            "partition": fetched.partition,
            "offset": offset,
            "time": dt.datetime.fromtimestamp(moment / 1000, dt.UTC),
            "key": _text(key),
            "value": _text(value),
            "headers": {name: _text(each) for name, each in its},
        }


def _line(row: dict[str, Any], as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(row).decode()
    place = click.style(f"{row['partition']}/{row['offset']}", dim=True)
    return f"{place} {row['time']:%Y-%m-%d %H:%M:%S} {row['key'] or '-'} {row['value'] or ''}"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_context
def lag(context: click.Context, as_json: bool) -> None:
    """Show how far the project's streams are behind, by partition."""
    project = wiring.project_of(context)
    if not project.stream:
        raise click.UsageError(f"{project.file} has no [stream.NAME] section")
    found = []
    with closing(wiring.broker_of(project)) as broker:
        known = broker.topics()
        for name, settings in project.stream.items():
            group = settings.member_group
            for each in broker.lag(settings.topic, group) if settings.topic in known else ():
                found.append((name, settings.topic, group, each))
    if as_json:
        for name, topic, group, each in found:
            row = {"stream": name, "topic": topic, "group": group, **_lag(each)}
            click.echo(msgspec.json.encode(row).decode())
        return
    rows = [
        (
            name,
            topic,
            str(each.partition),
            "-" if each.committed is None else f"{each.committed:,}",
            f"{each.end:,}",
            f"{each.events:,}",
        )
        for name, topic, _, each in found
    ]
    table(("stream", "topic", "partition", "committed", "end", "behind"), rows, (2, 3, 4, 5))


def _lag(each: Any) -> dict[str, Any]:
    return {
        "partition": each.partition,
        "committed": each.committed,
        "end": each.end,
        "events": each.events,
    }
