"""Topics and groups of a check's own on the project's broker: made, deleted, and swept.

Their names tell what they are and when they were made: what a killed check left is known by it.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

from trivet import brokers
from trivet.brokers.base import Broker
from trivet.check.findings import BROKER, Finding
from trivet.errors import BrokerError, NotAuthorized
from trivet.settings import Project

PREFIX = "trivet-check-"
OUTPUT, DEAD = ".output", ".dead"
PARTITIONS = 2

OLD = dt.timedelta(hours=1)
"""What is older is no running check's: each of its topics lives for minutes at most."""

OTHERWISE = "or check with --embedded-broker, which proves streams on an embedded broker only"
RIGHTS = (
    "grant the account all operations on topics, groups and transactional ids "
    f"that begin with {PREFIX!r}, {OTHERWISE}"
)

_STAMP = "%Y%m%dt%H%M%S"
_NAME = re.compile(rf"({PREFIX}(\d{{8}}t\d{{6}})-[0-9a-f]{{8}})(?:\{OUTPUT}|\{DEAD})?")


def new_name(now: dt.datetime) -> str:
    """Return the name of a topic and a group that nobody else has."""
    return f"{PREFIX}{now:{_STAMP}}-{uuid.uuid4().hex[:8]}"


@contextmanager
def own_topics(broker: Broker, group: str, topics: Iterable[str]) -> Iterator[None]:
    """Create topics; delete them and the group that reads them, whatever happens.

    Raises:
        NotAuthorized: The account may not; the message tells what to do.
    """
    topics = tuple(topics)
    try:
        for topic in topics:
            broker.create(topic, PARTITIONS)
        yield
    except BaseException as error:
        with suppress(BrokerError):  # what went wrong before says more
            _clear(broker, group, topics)
        if isinstance(error, NotAuthorized):
            raise NotAuthorized(f"{error}; {RIGHTS}") from None
        raise
    try:
        _clear(broker, group, topics)
    except NotAuthorized as error:
        left = f"{', '.join(topics)} may be left: delete them"
        raise NotAuthorized(f"{error}; {left}, and {RIGHTS}") from None


def _clear(broker: Broker, group: str, topics: Iterable[str]) -> None:
    with ExitStack() as last_first:
        # What a transaction committed may reach the group after its end was told.
        last_first.callback(broker.delete_group, group)
        for topic in topics:
            last_first.callback(broker.delete, topic)
        last_first.callback(broker.delete_group, group)  # a topic that is left tells of it


def sweep(broker: Broker, now: dt.datetime) -> list[str]:
    """Delete what checks left that were killed, and return its topics.

    Raises:
        BrokerError: Something cannot be deleted.
    """
    left: dict[str, list[str]] = {}
    for topic in broker.topics():
        named = _NAME.fullmatch(topic)
        if named and now - _moment(named[2]) > OLD:
            left.setdefault(named[1], []).append(topic)
    for group, topics in left.items():
        _clear(broker, group, topics)
    return [topic for topics in left.values() for topic in topics]


def _moment(stamp: str) -> dt.datetime:
    try:
        return dt.datetime.strptime(stamp, _STAMP).replace(tzinfo=dt.UTC)
    except ValueError:  # no name that a check gave
        return dt.datetime.max.replace(tzinfo=dt.UTC)


def is_shared(url: str) -> bool:
    """Say whether a broker is a server, with rights and settings of its own."""
    return not url.startswith("sqlite:")


def try_broker(
    project: Project, now: dt.datetime, *, embedded_broker: bool = False
) -> Iterator[Finding]:
    """Find out whether a check may have topics and groups of its own, and sweep.

    Args:
        project: The project; nothing is to be found out if it has no broker that is a server.
        now: The moment.
        embedded_broker: Whether streams are proven on an embedded broker only.
    """
    url = project.broker.url
    if not project.stream or not is_shared(url):
        return
    if embedded_broker:
        told = "streams are proven on an embedded broker only, as --embedded-broker says"
        yield Finding(BROKER, "warning", told)
        return
    name = new_name(now)
    try:
        with closing(brokers.connect(url, project.root)) as broker:
            with own_topics(broker, name, [name]):
                broker.lag(name, name)  # the first group of a cluster waits for its coordinator
            yield Finding(BROKER, "ok", "streams are proven on it, in topics of the check's own")
            if swept := sweep(broker, now):
                told = f"deleted what a check left that was killed: {', '.join(swept)}"
                yield Finding(BROKER, "ok", told)
    except NotAuthorized as error:
        yield Finding(BROKER, "error", str(error))
    except BrokerError as error:
        told = f"a topic of the check's own: {error}; mend it, {OTHERWISE}"
        yield Finding(BROKER, "error", told)
