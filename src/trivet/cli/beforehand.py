"""What a project lacks, found before anything of it starts."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trivet.errors import MissingExtra
    from trivet.settings import Project
    from trivet.up.plan import Process

MODULES = {
    "dashboard": ("httptools", "jinja2", "starlette", "uvicorn", "vl_convert"),
    "kafka": ("confluent_kafka",),
    "metrics": ("prometheus_client",),
    "service": ("httptools", "prometheus_client", "uvicorn", "uvloop"),
}
"""What an extra brings, by its name, or a part of one."""


def installed(extra: str) -> bool:
    """Say whether an extra is installed, without importing it."""
    return all(find_spec(name) is not None for name in MODULES[extra])


def lacking(project: Project, plan: Iterable[Process], path: str) -> list[str]:
    """Return one line for each program, library and model of a plan that is not there.

    Args:
        project: The project.
        plan: What is to be run.
        path: Where programs are looked up.
    """
    plan = tuple(plan)
    found = [*_programs(plan, project.root, path), *_libraries(project, plan)]
    if not any(process.once for process in plan):  # it may be there to make the models
        found += _models(project, plan)
    return found


def _programs(plan: Iterable[Process], root: Path, path: str) -> Iterator[str]:
    for process in plan:
        program = process.command[0]
        if shutil.which(program if "/" not in program else str(root / program), path=path) is None:
            yield (
                f"[up.{process.name}] command: there is no program {program!r}; "
                "install it, or correct the command"
            )


def libraries(project: Project) -> Iterator[tuple[str, MissingExtra]]:
    """Give each part of a project whose library is not installed, and what to install.

    Not of the models, which name theirs in their manifests.
    """
    from trivet.errors import MissingExtra

    if project.service is not None and not installed("service"):
        yield "[service]", MissingExtra("the service", "service")
    if project.stream and project.broker.url.startswith("kafka") and not installed("kafka"):
        yield "[broker] url", MissingExtra("a kafka:// broker", "kafka")
    for name, stream in project.stream.items():
        if stream.metrics_port is not None and not installed("metrics"):
            yield f"[stream.{name}] metrics_port", MissingExtra("it", "service")


def _libraries(project: Project, plan: Iterable[Process]) -> Iterator[str]:
    names = {process.name for process in plan}
    streams = [name for name in project.stream if f"stream-{name}" in names]
    needed = {f"[stream.{name}] metrics_port" for name in streams}
    if "service" in names:
        needed.add("[service]")
    if streams:
        needed.add("[broker] url")
    yield from (f"{where}: {error}" for where, error in libraries(project) if where in needed)


def _models(project: Project, plan: Iterable[Process]) -> Iterator[str]:
    """Look whether the models are there and their libraries too, without loading one."""
    from trivet import artifacts, formats
    from trivet.cli import wiring
    from trivet.errors import MissingExtra, TrivetError

    names = {process.name for process in plan}
    used: set[tuple[str, str | None]] = set()
    if "schedule" in names:
        used |= {(settings.model, None) for settings in project.batch.values()}
    if project.service is not None and "service" in names:
        used |= set(project.service.pinned())
    used |= {(s.model, None) for s in project.stream.values() if f"stream-{s.name}" in names}
    for name, version in sorted(used, key=str):
        try:
            uri = wiring.source_of(project.models[name], version).asked
            manifest = artifacts.require(uri, project.root)
            if manifest is None:
                continue
            module = formats.by_name(manifest.format)
            try:
                for library in module.LIBRARIES:
                    importlib.metadata.version(library)
            except importlib.metadata.PackageNotFoundError:
                raise MissingExtra(
                    f"a model of the format {manifest.format!r}", module.EXTRA
                ) from None
        except TrivetError as error:
            yield f"[models.{name}]: {error}"
