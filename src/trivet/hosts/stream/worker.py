"""One process of a stream: a member of its group, from its start to its last commit."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from trivet import brokers
from trivet.brokers.base import Broker, Member
from trivet.current import InUse, Ready, Source
from trivet.errors import BrokerUnavailable, TrivetError
from trivet.hosts.stream.consumer import Consumer
from trivet.hosts.stream.intake import Intake
from trivet.hosts.stream.metrics import Metrics
from trivet.hosts.stream.pipeline import Pipeline
from trivet.hosts.stream.places import GroupPlaces, Places, ResultsPlaces
from trivet.hosts.stream.scoring import Scorer
from trivet.hosts.stream.sending import Sender
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.sinks import ResultsSink, Sink, TopicSink, TransactionSink
from trivet.hosts.stream.store import Store
from trivet.logs import set_up_logging
from trivet.workers import READY, failed

SWITCH_SECONDS = 0.001
"""How long one thread may keep the others from their next step."""

log = logging.getLogger("trivet.stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a process of a stream is started with.

    Attributes:
        settings: ``[stream.NAME]``.
        source: Where its model comes from.
        broker: Url of the broker.
        results: Url of the results database.
        root: The project's folder.
        counts: The folder where all processes count; None for a count of its own.
        accept_loss: Whether to go on behind events that fell out of retention unscored.
        json: Whether the log is written as JSON lines.
    """

    settings: StreamSettings
    source: Source
    broker: str
    results: str
    root: Path
    counts: Path | None = None
    accept_loss: bool = False
    json: bool = True


class Worker:
    """One member at work.

    Args:
        plan: What it was started with.
        number: Its number, which no other process of the stream ever had.
        place: Its place among the processes that there are at a time, from 0.
        in_use: Gives the model instead of the plan's source.

    Attributes:
        metrics: What it counts.

    Raises:
        TrivetError: The model cannot be loaded, or the broker's url is none.
    """

    def __init__(
        self,
        plan: Plan,
        number: int = 1,
        place: int = 0,
        *,
        in_use: Callable[[], Ready] | None = None,
    ) -> None:
        self._plan = plan
        self._place = place
        settings = plan.settings
        with suppress(BrokerUnavailable):  # what is wrong with the url is told before all else
            brokers.connect(plan.broker, plan.root).close()
        self.metrics = Metrics(settings.name, plan.counts, number)
        self._scorer = Scorer(settings, in_use or InUse(plan.source, plan.root), self.metrics)
        self._consumer: Consumer | None = None
        self._stopping = threading.Event()

    @property
    def model(self) -> str:
        """The model that it begins with."""
        model = self._scorer.ready.model
        return f"{model.name} {model.version}"

    @property
    def partitions(self) -> list[int]:
        """The partitions that are its own."""
        return [] if self._consumer is None else self._consumer.partitions

    def stop(self) -> None:
        """End when the events under way are kept; from a signal handler, say."""
        self._stopping.set()
        if self._consumer is not None:
            self._consumer.stop()

    def look(self) -> None:
        """Look for a new version of the model before the next batch."""
        self._scorer.look()

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            TrivetError: It cannot go on.
        """
        plan, settings = self._plan, self._plan.settings
        with ExitStack() as stack:
            broker = stack.enter_context(closing(brokers.connect(plan.broker, plan.root)))
            make_topics(broker, settings)
            self._consumer = Consumer(
                settings,
                broker,
                self._places(broker),
                self.metrics,
                mirrored=not _in_transaction(settings),
                make=lambda member, intake: self._pipeline(broker, member, intake, stack),
                accept_loss=plan.accept_loss,
            )
            if self._stopping.is_set():
                self._consumer.stop()
            self._consumer.run()

    def _places(self, broker: Broker) -> Places:
        plan, settings = self._plan, self._plan.settings
        begin, group = settings.begin, settings.member_group
        if not settings.results:
            return GroupPlaces(broker, settings.topic, group, accept_loss=plan.accept_loss)
        return ResultsPlaces(
            plan.results,
            plan.root,
            settings.name,
            broker,
            settings.topic,
            group,
            begin,
            accept_loss=plan.accept_loss,
        )

    def _pipeline(
        self, broker: Broker, member: Member, intake: Intake, stack: ExitStack
    ) -> Pipeline:
        sink = self._sink(broker, member, stack)
        return Pipeline(self._plan.settings, intake, self._scorer, sink, self.metrics)

    def _sink(self, broker: Broker, member: Member, stack: ExitStack) -> Sink:
        plan, settings = self._plan, self._plan.settings
        store = Store(settings, plan.results, plan.root)
        if _in_transaction(settings):
            # Who takes a dead process's place shuts its open transaction out at once.
            name = f"trivet-{settings.name}-{platform.node()}-{self._place}"
            appender = stack.enter_context(closing(broker.appender(transaction=name)))
            sender = Sender(settings, appender)
            return TransactionSink(store, sender, appender, member, self.metrics)
        if not settings.output and settings.dead_topic is None:
            return ResultsSink(store, None, self.metrics)
        sender = Sender(settings, stack.enter_context(closing(broker.appender())))
        kind = ResultsSink if settings.results else TopicSink
        return kind(store, sender, self.metrics)


def make_topics(broker: Broker, settings: StreamSettings) -> None:
    """Create the topics that a deployment sends to, if they are lacking.

    Raises:
        TopicNotFound: There is no topic to read from, and the broker makes none by itself.
    """
    there = broker.topics()
    partitions = there.get(settings.topic, 1)
    for topic, count in ((settings.output, partitions), (settings.dead_topic, 1)):
        if topic and topic not in there:
            broker.create(topic, count)


def _in_transaction(settings: StreamSettings) -> bool:
    return not settings.results and settings.delivery == "transaction"


def work(plan: Plan, number: int, place: int, parent: Connection) -> None:
    """Be a process of the stream; what the parent starts."""
    set_up_logging(json=plan.json)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        worker = Worker(plan, number, place)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        signal.signal(signal.SIGHUP, lambda *_: worker.look())
        threading.Thread(target=_watch, args=(parent, worker), daemon=True).start()
        parent.send_bytes(READY + worker.model.encode())
        worker.run()
    except Exception as error:
        if isinstance(error, TrivetError):
            log.error("process %d ends: %s", os.getpid(), error)  # noqa: TRY400 - told in full
        else:
            log.exception("process %d ends", os.getpid())
        parent.send_bytes(failed(error))
        sys.exit(2)
    logging.shutdown()


def _watch(parent: Connection, worker: Worker) -> None:
    """End with the parent: nobody would replace or stop this process any more."""
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        log.error("the stream's parent process is gone; process %d ends too", os.getpid())  # noqa: TRY400
        worker.stop()
