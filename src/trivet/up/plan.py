"""What ``trivet up`` runs for a project: pure, from its settings alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from trivet.dashboard.settings import DashboardSettings
from trivet.errors import SettingsError
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.stream.settings import StreamSettings
from trivet.settings import Project
from trivet.settings.reading import nearest
from trivet.up.settings import UpSettings

FROM_LOG = "log"
"""Readiness told by the process itself: a JSON line with ``"event": "ready"``."""

END_SECONDS = 30.0
"""How long a part of Trivet may take to end, on top of what its settings grant."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a process listens on.

    Attributes:
        key: The key that says so in the project file.
        host: Its address.
        number: The port.
    """

    key: str
    host: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process to run and to keep running.

    Attributes:
        name: Its name.
        command: The program and its arguments.
        after: Names of the processes that must be ready before it starts.
        ready: The url that answers when it is ready, `FROM_LOG`, or nothing: when it has lived
            for a second.
        ports: What it listens on.
        env: Variables added to its environment.
        once: Whether it is done when it ends with 0.
        grace: Seconds that it may take to end.
        url: Where a person finds it.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    ready: str = ""
    ports: tuple[Port, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    grace: float = END_SECONDS
    url: str = ""


def planned(
    project: Project,
    names: Sequence[str] = (),
    *,
    trivet: Sequence[str],
    dashboard: bool = False,
) -> tuple[Process, ...]:
    """Return the processes of a project, each behind those that it comes after.

    Args:
        project: The project.
        names: Only these, and what they come after; by default all.
        trivet: How to start Trivet itself.
        dashboard: Whether the dashboard can be run: its libraries are an extra.

    Raises:
        SettingsError: There is nothing to run, a name is unknown or taken, or processes wait for
            each other in a circle.
    """
    found: dict[str, Process] = {}
    start = (*trivet, "--file", str(project.file.absolute()), "--log", "json")
    own = list(_parts(project, start))
    if own and dashboard:
        own.append(_dashboard(project.dashboard, start))
    for process in (*own, *(_command(each) for each in project.up.values())):
        if process.name in found:
            raise SettingsError(
                f"{project.file}: [up.{process.name}]: rename it: "
                f"{process.name} is what a part of the project is called"
            )
        found[process.name] = process
    if not found:
        raise SettingsError(
            f"{project.file}: nothing to run: write a [batch.NAME], [service], [stream.NAME] "
            "or [up.NAME] section"
        )
    for name in names:
        if name not in found:
            raise SettingsError(
                f"{project.file}: there is no process {name!r}{nearest(name, found)}; "
                f"there are {', '.join(found)}"
            )
    for process in found.values():
        for name in process.after:
            if name not in found:
                raise SettingsError(
                    f"{project.file}: [up.{process.name}] after: there is no process {name!r}"
                    f"{nearest(name, found)}; there are {', '.join(found)}"
                )
    return _in_order(project, found, names or list(found))


def _parts(project: Project, trivet: tuple[str, ...]) -> Iterator[Process]:
    """Give the processes of Trivet's own parts that the project has."""
    if project.service is not None:
        yield _service(project.service, trivet)
    if project.batch:
        yield Process(name="schedule", command=(*trivet, "schedule"), ready=FROM_LOG)
    for stream in project.stream.values():
        yield _stream(stream, trivet)


def _service(settings: ServiceSettings, trivet: tuple[str, ...]) -> Process:
    ports = [Port("[service] port", settings.host, settings.port)]
    if settings.grpc:
        ports.append(Port("[service] grpc_port", settings.host, settings.grpc_port))
    address = f"{_reachable(settings.host)}:{settings.port}"
    scheme = "https" if settings.tls_cert else "http"
    ready = f"{scheme}://{address}/health/ready"
    if settings.tls_client_ca:  # without a certificate, nobody is answered
        ready = f"tcp://{address}"
    stop = (settings.stop_delay + 2 * settings.stop_timeout).total_seconds()
    return Process(
        name="service",
        command=(*trivet, "serve"),
        ready=ready if settings.port else "",
        ports=tuple(port for port in ports if port.number),
        grace=END_SECONDS + stop,
        url=f"{scheme}://{address}" if settings.port else "",
    )


def _stream(settings: StreamSettings, trivet: tuple[str, ...]) -> Process:
    where = f"[stream.{settings.name}] metrics_port"
    port = settings.metrics_port
    return Process(
        name=f"stream-{settings.name}",
        command=(*trivet, "consume", settings.name),
        ready=FROM_LOG,
        ports=(Port(where, settings.metrics_host, port),) if port else (),
        grace=END_SECONDS + settings.stop_timeout.total_seconds(),
    )


def _dashboard(settings: DashboardSettings, trivet: tuple[str, ...]) -> Process:
    address = f"{_reachable(settings.host)}:{settings.port}"
    return Process(
        name="dashboard",
        command=(*trivet, "dashboard"),
        ready=f"http://{address}/health" if settings.port else "",
        ports=(Port("[dashboard] port", settings.host, settings.port),) if settings.port else (),
        url=f"http://{address}" if settings.port else "",
    )


def _command(settings: UpSettings) -> Process:
    parts = urlsplit(settings.ready)
    ports = []
    if settings.ready:
        number = parts.port or {"https": 443}.get(parts.scheme, 80)
        ports.append(Port(f"[up.{settings.name}] ready", parts.hostname or "", number))
    return Process(
        name=settings.name,
        command=tuple(shlex.split(settings.command)),
        after=settings.after,
        ready=settings.ready,
        ports=tuple(ports),
        env=settings.env,
        once=settings.once,
        grace=settings.stop_timeout.total_seconds(),
        url=f"{parts.scheme}://{parts.netloc}" if parts.scheme.startswith("http") else "",
    )


def _reachable(host: str) -> str:
    """Return the address under which this machine reaches what listens on a host."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _in_order(
    project: Project, found: Mapping[str, Process], names: Sequence[str]
) -> tuple[Process, ...]:
    ordered: dict[str, Process] = {}

    def put(name: str, behind: tuple[str, ...]) -> None:
        if name in behind:
            circle = " after ".join((*behind[behind.index(name) :], name))
            raise SettingsError(f"{project.file}: {circle}: none of them can start first")
        if name in ordered:
            return
        for other in found[name].after:
            put(other, (*behind, name))
        ordered[name] = found[name]

    for name in names:
        put(name, ())
    return tuple(ordered.values())
