"""``trivet events`` and ``trivet lag``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from trivet.cli import wiring
from trivet.cli.history import table

if TYPE_CHECKING:
    from trivet.brokers.base import Broker, Fetched

TAIL_ROWS = 500


@click.group()
def events() -> None:
    """Write events into the broker's topics, and look at them."""


@events.command()
@click.argument("topic")
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--key", "key_field", default="", help="The member of each object that is its key.")
@click.option("--id", "id_field", default="", help="The member of each object that is its id.")
@click.option("--type", "kind", default="", help="The events' type. By default TOPIC.")
@click.option("--source", default="trivet", show_default=True, help="Who makes the events.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["cloudevents", "json"]),
    default="cloudevents",
    show_default=True,
    help="What is written around the data: an event, or nothing.",
)
@click.option(
    "--partitions", type=click.IntRange(1), help="Create the topic with so many if it is missing."
)
@click.pass_context
def publish(
    context: click.Context,
    topic: str,
    file: str,
    key_field: str,
    id_field: str,
    kind: str,
    source: str,
    form: str,
    partitions: int | None,
) -> None:
    """Send each line of FILE (- for standard input), a JSON object, as an event to TOPIC."""
    from trivet.errors import BufferFull
    from trivet.producer import Producer

    if file != "-" and not Path(file).is_file():
        raise click.UsageError(f"there is no file {file}")
    project = wiring.project_of(context)
    if partitions is not None:
        with closing(wiring.broker_of(project)) as broker:
            broker.create(topic, partitions)
    sent = 0
    plain: Literal["json", "cloudevents"] = "json" if form == "json" else "cloudevents"
    with (
        click.open_file(file, "rb") as lines,
        Producer(project.broker.url, source, format=plain, root=project.root) as producer,
    ):
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            key, name = _named(file, number, line, key_field, id_field)
            while True:
                try:
                    producer.send(topic, key, line.strip(), id=name, type=kind, subject=key)
                    break
                except BufferFull:
                    producer.flush()
            sent += 1
    click.echo(f"{topic}: {sent:,} events sent")


def _named(
    file: str, number: int, line: bytes, key_field: str, id_field: str
) -> tuple[str | None, str]:
    """Return a line's key and id, or say what is wrong with the line."""
    where = f"{file} line {number}"
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{where} is not JSON: {error}; nothing after it is sent") from None
    if not isinstance(found, dict):
        raise click.UsageError(f"{where} is not a JSON object; nothing after it is sent")
    for field in filter(None, (key_field, id_field)):
        if field not in found:
            raise click.UsageError(f"{where} has no {field!r}; nothing after it is sent")
    return (
        str(found[key_field]) if key_field else None,
        str(found[id_field]) if id_field else "",
    )


@events.command()
@click.argument("topic")
@click.option(
    "--last", type=click.IntRange(0), default=10, show_default=True, help="Begin so far back."
)
@click.option("--follow/--no-follow", default=True, help="Wait for new events.")
@click.pass_context
def tail(context: click.Context, topic: str, last: int, follow: bool) -> None:
    """Print the events of TOPIC as JSON lines, each with its partition, offset, key and time."""
    from trivet.errors import TopicNotFound

    project = wiring.project_of(context)
    with closing(wiring.broker_of(project)) as broker, wiring.stopping_on_signals() as stop:
        if topic not in broker.topics():
            raise TopicNotFound(_missing(topic, broker))
        bounds = broker.bounds(topic)
        places = {p: max(oldest, end - last) for p, (oldest, end) in bounds.items()}
        while not stop.is_set():
            more = False
            for partition, offset in places.items():
                fetched = broker.read(topic, partition, offset, TAIL_ROWS)
                if fetched.offsets:
                    places[partition], more = fetched.offsets[-1] + 1, True
                    for line in _lines(fetched):
                        click.echo(line)
            if not more:
                if not follow:
                    break
                stop.wait(0.2)


def _lines(fetched: Fetched) -> Iterator[str]:
    for offset, key, value, time in zip(
        fetched.offsets, fetched.keys, fetched.values, fetched.times, strict=True
    ):
        told = {
            "partition": fetched.partition,
            "offset": offset,
            "key": None if key is None else key.decode(errors="replace"),
            "time": time,
        }
        yield msgspec.json.encode(told | {"value": _readable(value)}).decode()


def _readable(value: bytes | None) -> object:
    """Return a value as JSON if it is, as text otherwise."""
    if value is None:
        return None
    try:
        msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return value.decode(errors="replace")
    return msgspec.Raw(value)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_context
def lag(context: click.Context, as_json: bool) -> None:
    """Show how many events each stream of the project is behind, by partition."""
    from trivet.errors import TopicNotFound

    project = wiring.project_of(context)
    if not project.stream:
        raise click.UsageError(
            f"{project.file} has no [stream.NAME] section; write one with model and topic"
        )
    rows = []
    with closing(wiring.broker_of(project)) as broker:
        topics = broker.topics()
        for name, settings in project.stream.items():
            if settings.topic not in topics:
                raise TopicNotFound(f"[stream.{name}] topic: {_missing(settings.topic, broker)}")
            group = settings.member_group
            rows += [
                {"stream": name, "topic": settings.topic, "group": group}
                | dataclasses.asdict(partition)
                for partition in broker.lag(settings.topic, group)
            ]
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(row).decode())
        return
    cells = [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    headers = ("stream", "topic", "group", "partition", "committed", "end", "behind")
    table(headers, cells, numbers=(3, 4, 5, 6))


def _missing(topic: str, broker: Broker) -> str:
    there = ", ".join(sorted(broker.topics())) or "none"
    return (
        f"there is no topic {topic!r} (there are: {there}); "
        f"create it: trivet events publish {topic} FILE --partitions 1"
    )
