"""``trivet.toml`` read into one frozen value a section; every mistake is named, all at once."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trivet.actions.settings import ActionSettings
from trivet.alerts.settings import AlertSettings, Thresholds
from trivet.dashboard.settings import ChartSettings, DashboardSettings
from trivet.databases import dialects, redact
from trivet.errors import SettingsError, TrivetError
from trivet.hosts.batch.settings import BatchSettings
from trivet.hosts.schedule import Schedule
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.stream.settings import StreamSettings
from trivet.results.actuals_settings import ActualsSettings
from trivet.results.rows import deployment_of
from trivet.results.tables import view_of
from trivet.settings.reading import SectionReader, names_in, nearest
from trivet.settings.sections import (
    BrokerSettings,
    ModelSettings,
    ProjectSettings,
    ResultsSettings,
)
from trivet.up.settings import UpSettings

FILE_NAME = "trivet.toml"

_RESERVED = ("trivet_", "predictions_", "sqlite_", "pg_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Everything of one ``trivet.toml``.

    Attributes:
        file: The file.
        project: ``[project]``.
        results: ``[results]``.
        broker: ``[broker]``.
        models: ``[models.NAME]`` by name.
        batch: ``[batch.NAME]`` by name.
        service: ``[service]``, if there is one.
        stream: ``[stream.NAME]`` by name.
        action: ``[action.NAME]`` by name.
        actuals: ``[actuals.NAME]`` by name.
        alerts: ``[alerts]``.
        dashboard: ``[dashboard]`` with its charts.
        up: ``[up.NAME]`` by name.
    """

    file: Path
    project: ProjectSettings = field(default_factory=ProjectSettings)
    results: ResultsSettings = field(default_factory=ResultsSettings)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    batch: Mapping[str, BatchSettings] = field(default_factory=dict)
    service: ServiceSettings | None = None
    stream: Mapping[str, StreamSettings] = field(default_factory=dict)
    action: Mapping[str, ActionSettings] = field(default_factory=dict)
    actuals: Mapping[str, ActualsSettings] = field(default_factory=dict)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)
    up: Mapping[str, UpSettings] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder that relative paths start from."""
        return self.file.parent

    @property
    def deployments(self) -> list[str]:
        """The names of all deployments, as the results have them."""
        served = [] if self.service is None else [name for name, _ in self.service.pinned()]
        return [*self.batch, *(deployment_of(name) for name in served), *self.stream]


def load_project(path: Path, environment: Mapping[str, str] | None = None) -> Project:
    """Read a project file.

    Args:
        path: ``trivet.toml`` or the folder it is in.
        environment: Where ``${NAME}`` is looked up; by default the process's own.

    Raises:
        SettingsError: With one finding a mistake, each naming the file, the key and the next step.
    """
    file = path / FILE_NAME if path.is_dir() else path
    reader = _Reader(file, dict(os.environ if environment is None else environment))
    project = reader.project(_document(file))
    if reader.findings:
        raise SettingsError(*reader.findings)
    return project


def environment() -> dict[str, str]:
    """Return the process's environment, for processes that are started with it."""
    return dict(os.environ)


def _document(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{file}: there is no such file; go to your project's folder or name it with --file"
        ) from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of the syntax, the encoding, a huge number
        raise SettingsError(f"{file}: not valid TOML: {error}; correct it there") from None


class _Reader(SectionReader):
    """Turns the parsed file into values, and checks what they say of each other."""

    def project(self, document: dict[str, Any]) -> Project:
        singles = {
            "project": ProjectSettings,
            "results": ResultsSettings,
            "broker": BrokerSettings,
        }
        families = {
            "models": ModelSettings,
            "batch": BatchSettings,
            "stream": StreamSettings,
            "actuals": ActualsSettings,
            "up": UpSettings,
            "action": ActionSettings,
        }
        self.refuse_unknown("", document, [*singles, *families, "service", "dashboard", "alerts"])
        found: dict[str, Any] = {"file": self._file}
        for name, kind in singles.items():
            value = self.section(f"[{name}]", kind, document.get(name, {}))
            found |= {} if value is None else {name: value}
        if "service" in document:
            found["service"] = self.section("[service]", ServiceSettings, document["service"])
        for name, kind in families.items():
            found[name] = dict(self.family(name, kind, document.get(name, {})))
        if dashboard := self._dashboard(document.get("dashboard", {})):
            found["dashboard"] = dashboard
        if alerts := self._alerts(document.get("alerts", {})):
            found["alerts"] = alerts
        project = Project(**found)
        known = project.deployments + names_in(document, "batch", "stream")
        for name in project.alerts.deployments:
            if name not in known:
                hint = nearest(name, known)
                self.find(f"[alerts.{name}]", f"there is no deployment {name!r}{hint}; name one")
        self._check_service(project, document.get("models"))
        self._check_streams(project, document.get("models"))
        name = project.project.name or self._file.absolute().parent.name
        return dataclasses.replace(
            project,
            project=dataclasses.replace(project.project, name=name),
            batch=self._checked(project, document.get("models")),
            action=self._checked_actions(project, document.get("batch")),
            actuals=self._checked_actuals(project, known),
        )

    def _alerts(self, parts: Any) -> AlertSettings | None:
        """Read the section of alerts, and those of single deployments, which take it over."""
        if not isinstance(parts, dict):
            return self.section("[alerts]", AlertSettings, parts)
        single = {name: each for name, each in parts.items() if isinstance(each, dict)}
        own = {key: value for key, value in parts.items() if key not in single}
        names = {each.name for each in dataclasses.fields(Thresholds)}
        shared = {key: value for key, value in own.items() if key in names}
        found = self.section("[alerts]", AlertSettings, own, deployments={})
        if found is None:
            return None
        made = {
            name: self.section(f"[alerts.{name}]", Thresholds, shared | each)
            for name, each in single.items()
        }
        kept = {name: each for name, each in made.items() if each is not None}
        return dataclasses.replace(found, deployments=kept)

    def _dashboard(self, parts: Any) -> DashboardSettings | None:
        """Read the section of the dashboard, and those of its charts with their queries."""
        own = (
            {k: v for k, v in parts.items() if k != "charts"} if isinstance(parts, dict) else parts
        )
        written = parts.get("charts", {}) if isinstance(parts, dict) else {}
        charts = {}
        for name, chart in self.family("dashboard.charts", ChartSettings, written):
            where, root = f"[dashboard.charts.{name}]", self._file.parent
            query = self._query(f"{where} query", chart.query, root)
            spec = self._text(f"{where} spec", chart.spec, root, ".json", "a specification")
            charts[name] = dataclasses.replace(
                chart, query=query or chart.query, spec=chart.spec if spec is None else spec
            )
        return self.section("[dashboard]", DashboardSettings, own, charts=charts)

    def _checked(self, project: Project, models: Any) -> dict[str, BatchSettings]:
        """Resolve what the batch sections refer to."""
        models = models if isinstance(models, dict) else {}
        results = self._database("[results] url", project.results.url, project.root)
        with_results = redact(project.results.url)
        if results is not None and results[0] not in ("sqlite", "postgresql"):
            self.find(
                "[results] url",
                f"{with_results}: results are kept in sqlite:/// or postgresql://; "
                "other databases can be sources",
            )
        checked = {}
        for name, batch in project.batch.items():
            where = f"[batch.{name}]"
            if batch.model not in models:
                hint = nearest(batch.model, models)
                self.find(f"{where} model", f"there is no [models.{batch.model}]{hint}; add it")
            source = self._database(f"{where} source", batch.source, project.root)
            if source is not None and source == results:
                self.find(
                    f"{where} source",
                    f"{redact(batch.source)} is the results database too; keep them apart",
                )
            self._check_calendar(where, batch)
            query = self._query(f"{where} query", batch.query, project.root)
            checked[name] = dataclasses.replace(batch, query=query or batch.query)
        self._refuse_clashes(project.batch)
        return checked

    def _checked_actions(self, project: Project, batches: Any) -> dict[str, ActionSettings]:
        """Resolve what the action sections refer to."""
        batches = batches if isinstance(batches, dict) else {}
        checked = {}
        for name, action in project.action.items():
            where = f"[action.{name}]"
            if action.after not in batches:
                hint = nearest(action.after, batches)
                self.find(f"{where} after", f"there is no [batch.{action.after}]{hint}; add it")
            if action.target.channel == "topic" and "://" not in project.broker.url:
                self.find(f"{where} deliver", "a topic needs a broker; write [broker] url")
            if action.source:
                self._database(f"{where} source", action.source, project.root)
            texts = {
                key: self._query(f"{where} {key}", getattr(action, key), project.root)
                for key in ("select", "contacts", "suppress")
            }
            texts["template"] = self._text(
                f"{where} template", action.template, project.root, ".md", "a text"
            )
            found: dict[str, Any] = {key: text for key, text in texts.items() if text}
            checked[name] = dataclasses.replace(action, **found)
        return checked

    def _checked_actuals(self, project: Project, known: list[str]) -> dict[str, ActualsSettings]:
        """Resolve what the sections of true values refer to."""
        checked, taken = {}, dict[str, str]()
        for name, actuals in project.actuals.items():
            where = f"[actuals.{name}]"
            if actuals.of not in known:
                hint = nearest(actuals.of, known)
                self.find(
                    f"{where} deployment", f"there is no deployment {actuals.of!r}{hint}; name one"
                )
            if taken.setdefault(actuals.of, name) != name:
                self.find(where, f"{actuals.of} has its true values from {taken[actuals.of]}")
            self._database(f"{where} source", actuals.source, project.root)
            query = self._query(f"{where} query", actuals.query, project.root)
            checked[name] = dataclasses.replace(actuals, query=query or actuals.query)
        return checked

    def _check_service(self, project: Project, models: Any) -> None:
        if project.service is None:
            return
        models = models if isinstance(models, dict) else {}
        for name, _ in project.service.pinned():
            if name not in models:
                hint = nearest(name, models)
                self.find("[service] models", f"there is no [models.{name}]{hint}; add it")
            deployment = f"service-{name}"
            for batch in project.batch:
                if view_of(batch) == view_of(deployment):
                    self.find(
                        f"[batch.{batch}]",
                        f"rename it: its view would be that of {name} in [service]",
                    )

    def _check_streams(self, project: Project, models: Any) -> None:
        models = models if isinstance(models, dict) else {}
        if project.stream and "://" not in project.broker.url:
            self.find(
                "[broker] url", "write sqlite:///data/events.db or kafka://host:9092, as it is none"
            )
        served = [] if project.service is None else [name for name, _ in project.service.pinned()]
        taken = {view_of(name): f"[batch.{name}]" for name in project.batch}
        taken |= {view_of(deployment_of(name)): f"{name} in [service]" for name in served}
        groups: dict[tuple[str, str], str] = {}
        for name, stream in project.stream.items():
            where, view = f"[stream.{name}]", view_of(name)
            if stream.model not in models:
                hint = nearest(stream.model, models)
                self.find(f"{where} model", f"there is no [models.{stream.model}]{hint}; add it")
            if view.startswith(_RESERVED):
                self.find(where, f"rename it: {view} could be a table of ours or the database's")
            if taken.setdefault(view, where) != where:
                self.find(where, f"rename it: its view would be that of {taken[view]}")
            group = (stream.topic, stream.member_group)
            if groups.setdefault(group, where) != where:
                self.find(
                    f"{where} group",
                    f"{groups[group]} reads {stream.topic} in the same group, so each would see a "
                    "part of the events; name another",
                )

    def _check_calendar(self, where: str, batch: BatchSettings) -> None:
        before = len(self.findings)
        for key, parts in (
            ("schedule", (batch.schedule, "UTC")),
            ("timezone", ("@daily", batch.timezone)),
        ):
            try:
                Schedule(*parts)
            except TrivetError as error:
                self.find(f"{where} {key}", str(error))
        if len(self.findings) == before:
            try:
                _ = batch.first
            except TrivetError as error:
                self.find(f"{where} start", str(error))

    def _database(self, where: str, url: str, root: Path) -> tuple[Any, ...] | None:
        """Return what tells a database from another one, or None if the url is none."""
        try:
            return _place(url, root)
        except (TrivetError, ValueError, OSError) as error:
            self.find(where, str(error))
            return None

    def _query(self, where: str, text: str, root: Path) -> str | None:
        """Return the query, read from its file if that is what the text names."""
        return self._text(where, text, root, ".sql", "a SELECT")

    def _text(self, where: str, text: str, root: Path, suffix: str, what: str) -> str | None:
        """Return a text, read from its file if that is what it names."""
        if "\n" in text or not text.endswith(suffix):
            return text
        path = root / text
        try:
            found = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self.find(where, f"there is no file {path}; write it, or {what} here")
        except (OSError, ValueError) as error:
            self.find(where, f"{path} cannot be read: {error}")
        else:
            if found.strip():
                return found
            self.find(where, f"{path} is empty; write {what} into it")
        return None

    def _refuse_clashes(self, names: Iterable[str]) -> None:
        """Two deployments must not share one view, nor one of them a table of ours."""
        views: dict[str, str] = {}
        for name in names:
            where, view = f"[batch.{name}]", view_of(name)
            if view.startswith(_RESERVED):
                self.find(where, f"rename it: {view} could be a table of ours or the database's")
            other = views.setdefault(view, name)
            if other != name:
                self.find(where, f"rename it: its view would be that of [batch.{other}]")


def _place(url: str, root: Path) -> tuple[Any, ...]:
    """Return what tells a database from another one: its kind and its file, or server and name."""
    kind = dialects.of(url).name
    if kind in ("sqlite", "duckdb"):
        path = dialects.path_of(url, root)
        if path is None and kind == "sqlite":
            raise ValueError(f"{url} names no file; write sqlite:///data/trips.db")
        return kind, path and path.resolve()
    try:
        parts = urlsplit(url)
        port = parts.port or {"postgresql": 5432}.get(kind)
        return kind, parts.hostname or "localhost", port, parts.path.strip("/")
    except ValueError:  # several hosts, or a form of the driver's own
        return kind, url


__all__ = [
    "FILE_NAME",
    "BrokerSettings",
    "ModelSettings",
    "Project",
    "ProjectSettings",
    "ResultsSettings",
    "environment",
    "load_project",
]
