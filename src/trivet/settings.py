"""``trivet.toml`` read into one frozen value a section; every mistake is named, all at once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from trivet.databases import dialects, redact
from trivet.durations import parse_duration
from trivet.errors import SettingsError, TrivetError
from trivet.hosts.batch.settings import BatchSettings
from trivet.hosts.schedule import Schedule
from trivet.hosts.service.settings import ServiceSettings
from trivet.results.tables import view_of

FILE_NAME = "trivet.toml"

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")

_RESERVED = ("trivet_", "predictions_", "sqlite_", "pg_")

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """``[project]``.

    Attributes:
        name: The project's name; by default that of its folder.
    """

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsSettings:
    """``[results]``.

    Attributes:
        url: The results database, sqlite or postgresql.
        keep_for: How long intervals are kept by ``trivet results prune``; without it, for ever.
    """

    url: str = "sqlite:///data/results.db"
    keep_for: dt.timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """``[models.NAME]``.

    Attributes:
        name: The name that deployments use.
        uri: Where the model is; see `trivet.load`.
        trust: Whether code that the artifact carries (a pickle, a module) may run.
        threads: Threads that the model's library may use for one call.
    """

    name: str
    uri: str
    trust: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 1024:
            raise ValueError("threads: write a number from 1 to 1024")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Everything of one ``trivet.toml``.

    Attributes:
        file: The file.
        project: ``[project]``.
        results: ``[results]``.
        models: ``[models.NAME]`` by name.
        batch: ``[batch.NAME]`` by name.
        service: ``[service]``, if there is one.
    """

    file: Path
    project: ProjectSettings = field(default_factory=ProjectSettings)
    results: ResultsSettings = field(default_factory=ResultsSettings)
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    batch: Mapping[str, BatchSettings] = field(default_factory=dict)
    service: ServiceSettings | None = None

    @property
    def root(self) -> Path:
        """The folder that relative paths start from."""
        return self.file.parent


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


class _Reader:
    """Turns the parsed file into values, and gathers what is wrong with it."""

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self.findings: list[str] = []
        self._file = file
        self._environment = environment

    def project(self, document: dict[str, Any]) -> Project:
        singles = {"project": ProjectSettings, "results": ResultsSettings}
        families = {"models": ModelSettings, "batch": BatchSettings}
        self._refuse_unknown("", document, [*singles, *families, "service"])
        found: dict[str, Any] = {"file": self._file}
        for name, kind in singles.items():
            value = self._section(f"[{name}]", kind, document.get(name, {}))
            found |= {} if value is None else {name: value}
        if "service" in document:
            found["service"] = self._section("[service]", ServiceSettings, document["service"])
        for name, kind in families.items():
            found[name] = dict(self._family(name, kind, document.get(name, {})))
        project = Project(**found)
        self._check_service(project, document.get("models"))
        name = project.project.name or self._file.absolute().parent.name
        return dataclasses.replace(
            project,
            project=dataclasses.replace(project.project, name=name),
            batch=self._checked(project, document.get("models")),
        )

    def _family(self, name: str, kind: type[S], sections: Any) -> Iterator[tuple[str, S]]:
        if not isinstance(sections, dict) or not all(
            isinstance(s, dict) for s in sections.values()
        ):
            self._find(f"[{name}]", f"write one section for each, such as [{name}.NAME]")
            return
        for each, parts in sections.items():
            where = f"[{name}.{each}]"
            if not _NAME.fullmatch(each):
                self._find(
                    where,
                    "rename it: a name has lower-case letters, digits, - and _, 41 at most, "
                    "and begins with a letter",
                )
                continue
            value = self._section(where, kind, parts, name=each)
            if value is not None:
                yield each, value

    def _section(self, where: str, kind: type[S], parts: Any, **given: Any) -> S | None:
        """Build one section; `given` are the values that the file does not write."""
        if not isinstance(parts, dict):
            self._find(where, "this is a section, not a value")
            return None
        fields = [f for f in dataclasses.fields(kind) if f.name not in given]  # type: ignore[arg-type]
        hints = get_type_hints(kind)
        before = len(self.findings)
        self._refuse_unknown(where, parts, [f.name for f in fields])
        values = dict(given)
        for f in fields:
            if f.name in parts:
                values[f.name] = self._value(f"{where} {f.name}", parts[f.name], hints[f.name])
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                self._find(
                    where, f"{f.name} is missing; write {f.name} = {_example(hints[f.name])}"
                )
        if len(self.findings) > before:
            return None
        try:
            return kind(**values)
        except ValueError as error:
            for line in str(error).splitlines():
                key, _, what = line.partition(": ")
                self._find(f"{where} {key}", what)
            return None

    def _value(self, where: str, raw: Any, hint: Any) -> Any:
        """Hold one value to the type of its attribute."""
        before = len(self.findings)
        value = self._expanded(where, raw)
        if len(self.findings) > before:
            return None
        try:
            if dt.timedelta in (hint, *get_args(hint)):
                return parse_duration(msgspec.convert(value, str))
            if dt.date in get_args(hint):  # TOML has dates of its own
                return value if isinstance(value, dt.date) else dt.datetime.fromisoformat(value)
            # What came from the environment is text, whatever it says.
            return msgspec.convert(value, hint, strict=value == raw)
        except (msgspec.ValidationError, TypeError):
            choice = get_origin(hint) is Literal and isinstance(value, str)
            self._find(where, f"write {_example(hint)}, not {value if choice else _kind(value)}")
        except ValueError as error:
            self._find(where, f"{error}; write {_example(hint)}")
        return None

    def _checked(self, project: Project, models: Any) -> dict[str, BatchSettings]:
        """Resolve what the batch sections refer to."""
        models = models if isinstance(models, dict) else {}
        results = self._database("[results] url", project.results.url, project.root)
        with_results = redact(project.results.url)
        if results is not None and results[0] not in ("sqlite", "postgresql"):
            self._find(
                "[results] url",
                f"{with_results}: results are kept in sqlite:/// or postgresql://; "
                "other databases can be sources",
            )
        checked = {}
        for name, batch in project.batch.items():
            where = f"[batch.{name}]"
            if batch.model not in models:
                hint = _nearest(batch.model, models)
                self._find(f"{where} model", f"there is no [models.{batch.model}]{hint}; add it")
            source = self._database(f"{where} source", batch.source, project.root)
            if source is not None and source == results:
                self._find(
                    f"{where} source",
                    f"{redact(batch.source)} is the results database too; keep them apart",
                )
            self._check_calendar(where, batch)
            query = self._query(f"{where} query", batch.query, project.root)
            checked[name] = dataclasses.replace(batch, query=query or batch.query)
        self._refuse_clashes(project.batch)
        return checked

    def _check_service(self, project: Project, models: Any) -> None:
        if project.service is None:
            return
        models = models if isinstance(models, dict) else {}
        for name, _ in project.service.pinned():
            if name not in models:
                hint = _nearest(name, models)
                self._find("[service] models", f"there is no [models.{name}]{hint}; add it")
            deployment = f"service-{name}"
            for batch in project.batch:
                if view_of(batch) == view_of(deployment):
                    self._find(
                        f"[batch.{batch}]",
                        f"rename it: its view would be that of {name} in [service]",
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
                self._find(f"{where} {key}", str(error))
        if len(self.findings) == before:
            try:
                _ = batch.first
            except TrivetError as error:
                self._find(f"{where} start", str(error))

    def _database(self, where: str, url: str, root: Path) -> tuple[Any, ...] | None:
        """Return what tells a database from another one, or None if the url is none."""
        try:
            return _place(url, root)
        except (TrivetError, ValueError, OSError) as error:
            self._find(where, str(error))
            return None

    def _query(self, where: str, text: str, root: Path) -> str | None:
        """Return the query, read from its file if that is what the text names."""
        if "\n" in text or not text.endswith(".sql"):
            return text
        path = root / text
        try:
            query = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._find(where, f"there is no file {path}; write it, or the SELECT itself here")
        except (OSError, ValueError) as error:
            self._find(where, f"{path} cannot be read: {error}")
        else:
            if query.strip():
                return query
            self._find(where, f"{path} is empty; write a SELECT into it")
        return None

    def _refuse_clashes(self, names: Iterable[str]) -> None:
        """Two deployments must not share one view, nor one of them a table of ours."""
        views: dict[str, str] = {}
        for name in names:
            where, view = f"[batch.{name}]", view_of(name)
            if view.startswith(_RESERVED):
                self._find(where, f"rename it: {view} could be a table of ours or the database's")
            other = views.setdefault(view, name)
            if other != name:
                self._find(where, f"rename it: its view would be that of [batch.{other}]")

    def _expanded(self, where: str, value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: self._variable(where, match[1]), value)
        if isinstance(value, list):
            return [self._expanded(where, item) for item in value]
        return value

    def _variable(self, where: str, name: str) -> str:
        if name not in self._environment:
            self._find(where, f"the environment variable {name} is not set; export {name}=…")
        return self._environment.get(name, "")

    def _refuse_unknown(self, where: str, parts: Mapping[str, Any], known: list[str]) -> None:
        for key in parts:
            if key not in known:
                what = f"unknown {'key' if where else 'section'} {key!r}{_nearest(key, known)}"
                self._find(where, f"{what}; there are {', '.join(known)}")

    def _find(self, where: str, what: str) -> None:
        self.findings.append(": ".join(part for part in (str(self._file), where, what) if part))


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


def _example(hint: Any) -> str:
    """Return a value of a type, as one writes it in TOML."""
    kinds = (hint, *get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(hint))
    for kind, example in (
        (tuple, 'a list of names, such as ["trip_id"]'),
        (dt.timedelta, 'a length of time, such as "90s", "15m", "6h" or "30d"'),
        (dt.date, "a date, such as 2026-01-01"),
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
    ):
        if kind in kinds or get_origin(hint) is kind:
            return example
    return 'a text, such as "…"'


def _kind(value: Any) -> str:
    """Name the type of a TOML value; the value itself may be a secret."""
    names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    names |= {list: "this list", dict: "a section"}
    return names.get(type(value), "a date or time")


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
