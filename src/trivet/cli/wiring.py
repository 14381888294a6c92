"""From a project file to jobs that can run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import logging
import os
import signal
import sys
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
    from trivet.artifacts import LoadedModel
    from trivet.hosts.batch.job import Job, Ready
    from trivet.hosts.batch.run import Progress
    from trivet.hosts.service.settings import ServiceSettings
    from trivet.hosts.service.worker import Plan
    from trivet.settings import ModelSettings, Project

T = TypeVar("T")


def project_of(context: click.Context) -> Project:
    """Read the project file that the command line names."""
    from trivet.settings import load_project

    return load_project(context.obj["file"])


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
    return Job(settings, _ModelInUse(project.models[settings.model], project.root), around)


class _ModelInUse:
    """The model behind a uri, loaded again when the uri leads elsewhere than before."""

    def __init__(self, settings: ModelSettings, root: Path) -> None:
        self._settings = settings
        self._root = root
        self._lock = threading.Lock()
        self._place: object = None
        self._ready: Ready | None = None

    def __call__(self) -> Ready:
        from trivet.artifacts import load

        settings = self._settings
        with self._lock:
            place = self._where()
            if self._ready is not None and place == self._place:
                return self._ready
            if place is None and str(self._root) not in sys.path:
                sys.path.insert(0, str(self._root))  # module:Class lies beside the project file
            loaded = load(
                settings.uri,
                root=self._root,
                trust=settings.trust,
                name=settings.name,
                threads=settings.threads,
            )
            self._place, self._ready = place, _ready(loaded)
            return self._ready

    def _where(self) -> object:
        """Return what changes when the uri leads elsewhere; None for a class."""
        from trivet.artifacts import locate

        uri = self._settings.uri
        if not uri.startswith("models:/"):
            return locate(uri, self._root)
        from trivet.formats import mlflow

        return mlflow.resolve(uri)[1:]


def _ready(loaded: LoadedModel) -> Ready:
    from trivet.hosts.batch.job import Ready

    manifest = loaded.manifest
    references = {("input", n): ref for n, ref in manifest.input_references.items()}
    references |= {("output", n): ref for n, ref in manifest.output_references.items()}
    dependence = manifest.batch_dependence
    summary = {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "format": manifest.format,
        "description": manifest.description,
        "created": manifest.created,
        "inputs": manifest.inputs.to_list(),
        "outputs": manifest.outputs.to_list(),
        "metrics": dict(manifest.metrics),
        "batch_dependence": dataclasses.asdict(dependence) if dependence else None,
        "references": {f"{side}.{n}": ref.to_dict() for (side, n), ref in references.items()},
    }
    return Ready(loaded, references, summary)


def service_plan(project: Project, settings: ServiceSettings, counts: Path, *, json: bool) -> Plan:
    """Return what each process of the service is started with."""
    from trivet.hosts.service.reload import Source
    from trivet.hosts.service.worker import Plan

    sources = []
    for name, version in settings.pinned():
        model = project.models[name]
        source = Source(name, model.uri, version, model.trust, model.threads)
        _ = source.asked  # one place names the version
        sources.append(source)
    return Plan(
        settings=settings,
        sources=tuple(sources),
        root=project.root.absolute(),
        results=project.results.url,
        counts=counts,
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
        click.echo(f"the prediction log waits for its database: {error}", err=True)


def aside(work: Callable[[], T]) -> T:
    """Do the work in another thread: this one, which gets the signals, must not sit in a driver."""
    with ThreadPoolExecutor(1, "work") as pool:
        return pool.submit(work).result()


@contextmanager
def stopping_on_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set; a second SIGINT ends the process at once.

    A command that was stopped before its work was done ends with 128 plus the signal's number.
    """
    from trivet.errors import RunStopped

    stop = threading.Event()
    signals: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and stop.is_set():
            os._exit(INTERRUPTED)  # threads may be deep in a driver: nothing gentler is sure
        signals.append(number)
        stop.set()
        logging.getLogger("trivet").warning("%s: stopping", signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except RunStopped as stopped:
        logging.getLogger("trivet").warning("%s", stopped)
        raise click.exceptions.Exit(128 + (signals or [signal.SIGTERM])[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
