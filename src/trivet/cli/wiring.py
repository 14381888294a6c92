"""From a project file to jobs that can run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trivet.cli.exits import INTERRUPTED

if TYPE_CHECKING:
    from trivet.actions.action import Action
    from trivet.brokers.base import Broker
    from trivet.current import Source
    from trivet.hosts.batch.job import Job
    from trivet.hosts.batch.run import Progress
    from trivet.hosts.service.settings import ServiceSettings
    from trivet.hosts.service.worker import Plan
    from trivet.hosts.stream.settings import StreamSettings
    from trivet.hosts.stream.worker import Plan as StreamPlan
    from trivet.settings import ModelSettings, Project

T = TypeVar("T")

STOP_SECONDS = 30.0
"""How long a command that was told to stop may wait for what is under way: a model, a query."""


def project_of(context: click.Context) -> Project:
    """Read the project file that the command line names."""
    from trivet.late_pandas import put_off
    from trivet.settings import load_project

    put_off()
    project = load_project(context.obj["file"])
    context.obj["file"] = project.file
    return project


def pick(names: Mapping[str, Any], name: str, what: str) -> str:
    """Return a deployment's name, or say which there are.

    Raises:
        click.UsageError: There is none of that name.
    """
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise click.UsageError(
        f"there is no {what} {name!r}{hint} (there are: {', '.join(names) or 'none'})"
    )


def job_of(
    project: Project, name: str, stop: threading.Event, progress: Callable[[Progress], None]
) -> Job:
    """Wire a batch deployment to its model and its databases."""
    from trivet.current import InUse
    from trivet.hosts.batch.job import Job
    from trivet.hosts.batch.run import Surroundings

    settings = project.batch[pick(project.batch, name, "batch deployment")]
    around = Surroundings(
        root=project.root,
        results=project.results.url,
        clock=lambda: dt.datetime.now(dt.UTC),
        stop=stop,
        keep_for=project.results.keep_for,
        progress=progress,
    )
    return Job(settings, InUse(source_of(project.models[settings.model]), project.root), around)


def action_of(project: Project, name: str, stop: threading.Event) -> Action:
    """Wire an action to the deployment that it follows and to its databases."""
    from trivet.actions.action import Action, Surroundings

    settings = project.action[pick(project.action, name, "action")]
    batch = project.batch[settings.after]
    around = Surroundings(
        root=project.root,
        project=project.project.name,
        results=project.results.url,
        source=settings.source or batch.source,
        calendar=batch.calendar,
        delay=batch.delay,
        clock=lambda: dt.datetime.now(dt.UTC),
        stop=stop,
        broker=lambda: broker_of(project),
    )
    return Action(settings, around)


def broker_of(project: Project) -> Broker:
    """Connect to the project's broker."""
    from trivet import brokers

    return brokers.connect(project.broker.url, project.root)


def source_of(settings: ModelSettings, version: str | None = None) -> Source:
    """Return where a model of the project comes from."""
    from trivet.current import Source

    where = f"[models.{settings.name}] uri"
    return Source(settings.name, settings.uri, version, settings.trust, settings.threads, where)


def versioned(settings: ModelSettings, version: str) -> Source:
    """Return where a version of a model of the project comes from, whichever one its uri names."""
    uri, registry = settings.uri, settings.uri.startswith("models:/")
    if registry and "@" not in uri:  # models:/NAME/VERSION
        uri = uri.rpartition("/")[0] + "@"
    elif not registry:
        uri = uri.partition("@")[0]
    return dataclasses.replace(source_of(dataclasses.replace(settings, uri=uri), version), where="")


def service_plan(project: Project, settings: ServiceSettings, counts: Path, *, json: bool) -> Plan:
    """Return what each process of the service is started with."""
    from trivet.hosts.service.worker import Plan

    sources = []
    for name, version in settings.pinned():
        source = source_of(project.models[name], version)
        where = source.where if version is None else f"[service] models: '{name}@{version}'"
        source = dataclasses.replace(source, where=where, beside=settings.beside)
        if not source.asked.startswith("models:/"):  # a registry is asked when it is loaded
            source.place(project.root)
        sources.append(source)
    return Plan(
        settings=settings,
        sources=tuple(sources),
        root=project.root.absolute(),
        results=project.results.url,
        counts=counts,
        json=json,
    )


def stream_plan(
    project: Project, settings: StreamSettings, counts: Path, *, accept_loss: bool, json: bool
) -> StreamPlan:
    """Return what each process of a stream is started with."""
    from trivet.hosts.stream.worker import Plan

    source = source_of(project.models[settings.model])
    return Plan(
        settings=settings,
        source=dataclasses.replace(source, beside=settings.beside),
        broker=project.broker.url,
        results=project.results.url,
        root=project.root.absolute(),
        counts=counts,
        accept_loss=accept_loss,
        json=json,
    )


def check_results(project: Project, settings: ServiceSettings) -> None:
    """Have the results database ready for the prediction log; that it is away is no hindrance.

    Raises:
        TrivetError: It has another layout, or cannot hold results.
    """
    from trivet.errors import TransientError
    from trivet.results.layout import open_results

    if settings.log != "results":
        return
    try:
        open_results(project.results.url, root=project.root).close()
    except TransientError as error:
        log = logging.getLogger("trivet.service")
        log.warning("the prediction log waits for its database: %s", error)


def aside(work: Callable[[], T]) -> T:
    """Do the work in another thread: this one, which gets the signals, must not sit in a driver."""
    with ThreadPoolExecutor(1, "work") as pool:
        return pool.submit(work).result()


@contextmanager
def stopping_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set; a second SIGINT ends the process at once.

    A command that was stopped before its work was done ends with 128 plus the signal's number;
    so does one that is still at work `STOP_SECONDS` later, whatever it waits for.
    """
    from trivet.errors import RunStopped

    stop, done = threading.Event(), threading.Event()
    signals: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and signals:
            os._exit(INTERRUPTED)  # threads may be deep in a driver: nothing gentler is sure
        is_first = not signals  # asked before: the next signal may come within this call
        signals.append(number)
        if is_first:  # and must not wait for the event's own lock
            stop.set()
            logging.getLogger("trivet").warning("%s: stopping", signal.Signals(number).name)

    def watch() -> None:
        stop.wait()
        if not done.wait(STOP_SECONDS):
            name = signal.Signals(signals[0]).name
            log = logging.getLogger("trivet")
            log.warning("%s: not stopped after %g s; ending at once", name, STOP_SECONDS)
            os._exit(128 + signals[0])

    # Begun now: a handler that starts a thread may interrupt the start of another.
    watcher = threading.Thread(target=watch, name="deadline", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except RunStopped as stopped:
        logging.getLogger("trivet").warning("%s", stopped)
        raise click.exceptions.Exit(128 + (signals or [signal.SIGTERM])[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        done.set()
        stop.set()
        watcher.join()


@contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """Have SIGINT end the process as SIGTERM does, while there is nothing yet to be cleaned up.

    The exception that Python raises instead may be lost in the import of a library.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGINT end the command by an exception, so that it can clean up.

    A second SIGTERM changes nothing; a second SIGINT cuts the cleaning short. The exceptions are
    whole objects: what Python's own handler and `sys.exit` raise, a type and a number that
    become one later, a Kafka client makes into another error if it comes in one of its callbacks.
    """

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("interrupted")

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
        signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_signals(*, stop: Callable[[], object], reload: Callable[[], object]) -> Iterator[None]:
    """Have a supervisor told by SIGTERM and SIGINT to stop, by SIGHUP to look for new versions."""
    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {
        number: signal.signal(number, lambda *_, act=act: act()) for number, act in handlers.items()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
