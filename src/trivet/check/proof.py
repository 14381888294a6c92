"""The same rows through every host of a project, held against a direct call of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from trivet import parity
from trivet.artifacts import LoadedModel
from trivet.check import batch
from trivet.check.findings import failed
from trivet.check.outcome import Difference, Outcome, difference, expected
from trivet.check.sample import sample, without
from trivet.current import Ready, Source
from trivet.errors import TrivetError
from trivet.hosts.batch.settings import BatchSettings
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.stream.settings import StreamSettings
from trivet.settings import Project

_EMBEDDED = "sqlite:///"
"""Stands for databases and a broker of the check's own only."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one way through a model compares with the direct call.

    Attributes:
        deployment: The section of ``trivet.toml``, such as ``batch.trip-duration``.
        model: The model's name in the project.
        way: Databases or protocol, and the size of the batches.
        difference: What differs; None if the way could not be gone.
        tolerance: Units in the last place that the model's own arithmetic explains.
        error: Why it could not be gone.
        rows: The rows that were sent.
    """

    deployment: str
    model: str
    way: str
    difference: Difference | None
    tolerance: int
    error: str = ""
    rows: pa.RecordBatch | None = None

    @property
    def holds(self) -> bool:
        """Whether it is the same answer, as far as the model's arithmetic allows."""
        return self.difference is not None and not self.difference.breaks(self.tolerance)


@dataclass(frozen=True, slots=True)
class _Case:
    """One model's sample, and what a direct call makes of it."""

    name: str
    model: LoadedModel
    rows: pa.RecordBatch
    right: Outcome

    @property
    def tolerance(self) -> int:
        measured = self.model.manifest.batch_dependence
        return 0 if measured is None else measured.max_ulps

    def held(self, deployment: str, way: str, go: Callable[[], Outcome]) -> Verdict:
        """Go one way, and hold what came of it against the direct call."""
        try:
            found = difference(self.right, go())
        except Exception as error:  # noqa: BLE001 - one way that fails must not hide the others
            return self.told(deployment, way, None, _said(error))
        return self.told(deployment, way, found)

    def told(self, deployment: str, way: str, found: Difference | None, error: str = "") -> Verdict:
        return Verdict(deployment, self.name, way, found, self.tolerance, error, self.rows)

    def crowded(self) -> Verdict:
        """Measure whether a row's answer depends on the rows around it, on this machine."""
        where, way = f"models.{self.name}", "direct call, other batch sizes"
        _, kept = without(self.rows, set(self.right.problems))
        try:
            typed = pa.RecordBatch.from_arrays(kept.columns, schema=self.model.inputs.arrow)
            found = parity.measure(self.model.predict, typed, source="sample")
        except Exception as error:  # noqa: BLE001 - a model is foreign code
            return self.told(where, way, None, _said(error))
        assert found is not None  # a sample raises instead
        return self.told(where, way, Difference(found.rows, found.max_ulps))


def prove(
    project: Project,
    models: Mapping[str, LoadedModel],
    rows: Mapping[str, pa.RecordBatch] | None = None,
    *,
    embedded_broker: bool = False,
) -> Iterator[Verdict]:
    """Send sample rows through every host that a model is deployed on.

    Args:
        project: The project.
        models: Its models by name.
        rows: By model, rows to send instead of made-up ones.
        embedded_broker: Whether streams are proven on an embedded broker only.
    """
    broker = _EMBEDDED if embedded_broker else project.broker.url
    cases = {}
    for name, model in models.items():
        made = sample(model.manifest, (rows or {}).get(name))
        try:
            cases[name] = _Case(name, model, made, expected(model, made))
        except Exception as error:  # noqa: BLE001 - a model is foreign code
            yield Verdict(f"models.{name}", name, "direct call", None, 0, _said(error), made)
            continue
        yield cases[name].crowded()
    for deployment in project.batch.values():
        if deployment.model in cases:
            yield from _batch(project, deployment, cases[deployment.model])
    for stream in project.stream.values():
        if stream.model in cases:
            yield from _stream(project, broker, stream, cases[stream.model])
    if project.service is not None:
        yield from _service(project, project.service, cases)


def _batch(project: Project, settings: BatchSettings, case: _Case) -> Iterator[Verdict]:
    manifest = case.model.manifest
    ready = Ready(case.model, manifest.references, manifest.summary())
    where = f"batch.{settings.name}"

    def places(source: str, results: str) -> AbstractContextManager[list[batch.Place]]:
        return batch.places(source, results, project.root)

    with ExitStack() as stack:
        try:
            found = stack.enter_context(places(settings.source, project.results.url))
        except TrivetError as error:
            yield case.told(where, "its own databases", None, str(error))
            found = stack.enter_context(places(_EMBEDDED, _EMBEDDED))
        for place in found:
            go = partial(batch.run, place, ready, settings, case.rows, project.root)
            yield case.held(where, place.name, go)


def _stream(
    project: Project, broker: str, settings: StreamSettings, case: _Case
) -> Iterator[Verdict]:
    from trivet.check import stream  # noqa: PLC0415 - as for the service

    manifest = case.model.manifest
    ready = Ready(case.model, manifest.references, manifest.summary())
    where = f"stream.{settings.name}"

    def places(broker: str, results: str) -> AbstractContextManager[list[stream.Place]]:
        return stream.places(settings, broker, results, project.root)

    with ExitStack() as stack:
        try:
            found = stack.enter_context(places(broker, project.results.url))
        except TrivetError as error:
            yield case.told(where, "its own databases", None, str(error))
            found = stack.enter_context(places(_EMBEDDED, _EMBEDDED))
        for place in found:
            for size in (1, settings.max_batch):
                way = f"{place.name}, {'alone' if size == 1 else 'together'}"
                go = partial(stream.run, place, ready, settings, case.rows, project.root, size)
                yield case.held(where, way, go)


def _service(
    project: Project, settings: ServiceSettings, cases: Mapping[str, _Case]
) -> Iterator[Verdict]:
    pinned = [(name, version) for name, version in settings.pinned() if name in cases]
    sources = [
        Source(m.name, m.uri, version, m.trust, m.threads)
        for m, version in ((project.models[name], version) for name, version in pinned)
    ]
    # A version that only the service names is not the one that was asked directly.
    current = dict.fromkeys(name for name, version in pinned if version is None)
    if not current:
        return
    from trivet.check import service  # noqa: PLC0415 - an extra that not every project needs

    changed = dataclasses.replace(
        settings, models=tuple(n if v is None else f"{n}@{v}" for n, v in pinned)
    )
    with ExitStack() as stack:
        try:
            running = stack.enter_context(service.running(changed, sources, project.root))
        except Exception as error:  # noqa: BLE001 - the other hosts are told of all the same
            yield from (
                cases[name].told("service", "its start", None, _said(error)) for name in current
            )
            return
        for case in (cases[name] for name in current):
            bad = set(case.right.problems)
            for lane in running.lanes():
                for size in sorted({1, 7, case.rows.num_rows}):
                    way = f"{lane.name}, {'alone' if size == 1 else f'{size} together'}"
                    go = partial(service.send, lane, case.model, case.name, case.rows, size, bad)
                    yield case.held("service", way, go)


def _said(error: Exception) -> str:
    """Return what an exception says; of one that is not ours with its class."""
    return failed("", error).what
