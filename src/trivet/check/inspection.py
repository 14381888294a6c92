"""A project looked through before it runs: every reference, database and query, all at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import closing

import pyarrow as pa

from trivet import brokers
from trivet.artifacts import LoadedModel
from trivet.check.actions import ActionLook
from trivet.check.findings import BROKER, Finding, failed
from trivet.current import Source, clashing
from trivet.databases import connect, redact
from trivet.errors import SchemaError, TrivetError
from trivet.hosts.batch.settings import BatchSettings
from trivet.results.layout import check_layout
from trivet.settings import Project
from trivet.validation import conform


def inspect(project: Project) -> tuple[list[Finding], dict[str, LoadedModel]]:
    """Look a project through; nothing is written.

    Returns:
        What was found, and the models that could be loaded, by their name in the project.
    """
    findings: list[Finding] = []
    models: dict[str, LoadedModel] = {}
    for name, settings in project.models.items():
        where = f"[models.{name}]"
        try:
            source = Source(name, settings.uri, None, settings.trust, settings.threads)
            models[name] = source.load(project.root)
        except Exception as error:  # noqa: BLE001 - loading runs foreign code
            findings.append(failed(where, error))
        else:
            findings += _model(where, models[name])
    findings += _clashing(project, models)
    findings.append(_results(project))
    for deployment in project.batch.values():
        findings += _batch(deployment, models, project)
    if project.stream:
        findings += _streams(project)
    for action in project.action.values():
        findings += ActionLook(action, project).all()
    return findings, models


def _clashing(project: Project, models: Mapping[str, LoadedModel]) -> Iterator[Finding]:
    """Look for columns beside a model's outputs that have the name of one."""
    placed = [(settings.model, settings.beside) for settings in project.stream.values()]
    if project.service is not None:
        names = dict.fromkeys(name for name, _ in project.service.pinned())
        placed += [(name, project.service.beside) for name in names]
    for name, beside in placed:
        if name in models:
            for where, what in clashing(name, models[name], beside):
                yield Finding(where, "error", what)


def _streams(project: Project) -> Iterator[Finding]:
    """Look at the broker, and at the topics that are read from it and sent to."""
    url = brokers.place(project.broker.url)
    try:
        with closing(brokers.connect(project.broker.url, project.root)) as broker:
            topics, made = broker.topics(), broker.first_partitions
    except TrivetError as error:
        yield failed(BROKER, error)
        return
    yield Finding(BROKER, "ok", f"{url}: {_many(len(topics), 'topic')}")
    for name, settings in project.stream.items():
        where = f"[stream.{name}]"
        read = topics.get(settings.topic)
        yield _read(f"{where} topic", settings.topic, read, made)
        sent = [("output", settings.output, read or 1), ("dead_letters", settings.dead_topic, 1)]
        for key, topic, partitions in sent:
            if topic and topic in topics:
                yield Finding(f"{where} {key}", "ok", _of_topic(topic, topics[topic]))
            elif topic:
                told = f"there is no topic {topic!r} yet: the stream makes it when it starts, with "
                yield Finding(f"{where} {key}", "ok", told + _many(partitions, "partition"))


def _read(where: str, topic: str, partitions: int | None, made: int) -> Finding:
    """Tell of a topic that a stream reads; `made` partitions it gets if it is not there."""
    if partitions is not None:
        return Finding(where, "ok", _of_topic(topic, partitions))
    lacking = f"there is no topic {topic!r} yet"
    if made:
        told = f"{lacking}: who comes first, the stream or a producer, makes it"
        return Finding(where, "ok", f"{told}, with {_many(made, 'partition')}")
    return Finding(
        where,
        "warning",
        f"{lacking}, and the stream does not start without it; have its producer make it, or "
        f"create it: trivet events publish {topic} FILE --partitions N",
    )


def _of_topic(topic: str, partitions: int) -> str:
    return f"{topic}: {_many(partitions, 'partition')}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _model(where: str, model: LoadedModel) -> Iterator[Finding]:
    manifest = model.manifest
    yield Finding(where, "ok", f"{manifest.name} {manifest.version}, {manifest.format}")
    if manifest.batch_dependence is None:
        yield Finding(
            where,
            "warning",
            "how far a prediction depends on the batch around it was never measured; "
            "save the model again with a sample",
        )


def _results(project: Project) -> Finding:
    where, url = "[results] url", project.results.url
    try:
        version = check_layout(url, root=project.root)
    except TrivetError as error:
        return failed(where, error)
    told = f"layout {version}" if version else "empty: the first command makes its tables"
    return Finding(where, "ok", f"{redact(url)}: {told}")


def _batch(
    settings: BatchSettings, models: Mapping[str, LoadedModel], project: Project
) -> Iterator[Finding]:
    where = f"[batch.{settings.name}]"
    span = settings.calendar.previous(settings.calendar.interval_at(dt.datetime.now(dt.UTC)))
    bounds = {"interval_start": span.start, "interval_end": span.end}
    try:
        with connect(settings.source, root=project.root) as db:
            found = db.described(settings.query, bounds)
    except TrivetError as error:
        yield failed(f"{where} query", error)
        return
    lacking = [name for name in (*settings.key, *settings.keep) if name not in found.names]
    if lacking:
        yield Finding(
            f"{where} key, keep",
            "error",
            f"the query gives no column {', '.join(lacking)}; it gives {', '.join(found.names)}",
        )
    model = models.get(settings.model)
    if model is None:
        return
    empty = pa.RecordBatch.from_arrays(
        [pa.array([], field.type) for field in found], names=found.names
    )
    try:
        conform(empty, model.inputs)
    except SchemaError as error:
        yield Finding(f"{where} query", "error", f"{error}; correct the query")
        return
    if not lacking:
        yield Finding(where, "ok", f"{len(found.names)} columns fit the model {settings.model}")
