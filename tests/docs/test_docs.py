"""The documentation held against the code: complete, true where it can be run, and well linked."""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from xml.etree import ElementTree

import click
import pyarrow as pa
import pytest

import trivet
from support.up_process import free_ports
from trivet import cli, errors
from trivet.alerts.settings import AlertSettings
from trivet.cli.exits import exit_code
from trivet.counts import Help
from trivet.dashboard.settings import ChartSettings, DashboardSettings
from trivet.durations import parse_duration
from trivet.hosts.service.faults import HTTP
from trivet.hosts.service.metrics import HELP
from trivet.hosts.service.protocols.mlflow import CODES as MLFLOW_CODES
from trivet.hosts.stream.metrics import HELP as STREAM_HELP
from trivet.manifest import BatchDependence, Manifest
from trivet.results import rows as service_rows
from trivet.results.layout import open_results
from trivet.results.tables import LINEAGE
from trivet.schema import TYPES, Field, Schema
from trivet.settings import Project, load_project
from trivet.validation import CODES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
TUTORIAL = DOCS / "tutorial" / "score-on-a-schedule.md"
THREE_WAYS = DOCS / "tutorial" / "from-a-notebook-to-three-deployments.md"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
MINE = [page for page in PAGES if "decisions" not in page.parts]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
my_pages = pytest.mark.parametrize("page", MINE, ids=lambda p: str(p.relative_to(ROOT)))


# Reading Markdown


@dataclass(frozen=True)
class Block:
    """A fenced block; its marks are the HTML comments right above it."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        names = [mark.removeprefix("file: ") for mark in self.marks if mark.startswith("file: ")]
        return names[0] if names else None


def blocks(page: Path, *languages: str) -> list[Block]:
    return [block for block in _blocks(page) if not languages or block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    marks: list[str] = []
    language, start, inside = "", 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if start:
            if line.startswith("```"):
                yield Block(page, start, language, "\n".join(inside) + "\n", tuple(marks))
                marks, start, inside = [], 0, []
            else:
                inside.append(line)
        elif line.startswith("```"):
            language, start = line[3:].strip(), number
        elif comment := re.fullmatch(r"<!-- (.*) -->", line):
            marks.append(comment[1])
        else:
            marks = []


def prose(page: Path) -> list[str]:
    """The lines outside fenced blocks."""
    lines, fenced = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            lines.append(line)
    return lines


def sections(page: Path) -> dict[str, list[list[str]]]:
    """The rows of the tables under each heading, cell by cell."""
    found: dict[str, list[list[str]]] = {"": []}
    title = ""
    for line in prose(page):
        if line.startswith("#"):
            title = line.lstrip("#").strip()
            found[title] = []
        elif line.startswith("|") and not re.match(r"\|[-| ]+\|$", line):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found[title].append([cell.strip() for cell in cells])
    return found


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def first_cells(rows: Iterable[list[str]]) -> list[str]:
    return [name for row in rows for name in code_in(row[0])]


def same(documented: Iterable[str], real: Iterable[str], where: str) -> None:
    """Fail with the names that are on one side only."""
    have, want = set(documented), set(real)
    assert not want - have, f"{where} does not tell of {', '.join(sorted(want - have))}"
    assert not have - want, f"{where} tells of {', '.join(sorted(have - want))}, which is not"


# Complete


def _settings() -> dict[str, type]:
    found: dict[str, type] = {}
    for name, hint in get_type_hints(Project).items():
        if name == "file":
            continue
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if get_origin(hint) is None:
            found[f"`[{name}]`"] = hint
        elif get_origin(hint) in (Union, UnionType):  # a section that may be left out
            found[f"`[{name}]`"] = kinds[0]
        else:
            found[f"`[{name}.NAME]`"] = kinds[1]
    found["`[dashboard.charts.NAME]`"] = ChartSettings
    return found


@pytest.mark.parametrize(("section", "kind"), list(_settings().items()))
def test_every_setting_is_documented_with_its_default(section: str, kind: Any) -> None:
    tables = sections(REFERENCE / "trivet-toml.md")
    assert section in tables, f"trivet-toml.md has no section {section}"
    rows = {code_in(row[0])[0]: row for row in tables[section] if len(row) == 4 and code_in(row[0])}
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if section.endswith(".NAME]`"):
        del fields["name"]
    if kind is DashboardSettings:
        del fields["charts"]  # a section for each
    if kind is AlertSettings:
        del fields["deployments"]  # likewise
    same(rows, fields, f"trivet-toml.md, {section},")
    for name, setting in fields.items():
        told = rows[name][2].strip("`")
        assert _agrees(told, setting), (
            f"trivet-toml.md: {section} {name}: the default is not {told}"
        )


def _agrees(told: str, field: dataclasses.Field[Any]) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        if field.default_factory is dict:
            return told == "{}"
        return told == "number of cores" and field.default_factory() == os.cpu_count()
    default = field.default
    if default is dataclasses.MISSING:
        return told == "required"
    if default is None:
        return told == "none"
    if isinstance(default, dt.timedelta):
        return bool(parse_duration(told.strip('"')) == default)
    return bool(json.loads(told) == (list(default) if isinstance(default, tuple) else default))


def _commands(
    command: click.Command = cli.trivet, path: str = "trivet"
) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group) or command is cli.trivet:
        yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _commands(inner, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(_commands()))
def test_every_command_and_option_is_documented(path: str, command: click.Command) -> None:
    tables = sections(REFERENCE / "command-line.md")
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    names = [p.make_metavar(click.Context(command)) for p in arguments]
    title = f"`{' '.join([path, *names])}`" if path != "trivet" else "Command line"
    assert title in tables, f"command-line.md has no heading {title}"
    options = [p for p in command.params if isinstance(p, click.Option)]
    real = {opt for option in options for opt in option.opts}
    if path == "trivet":
        real |= set(command.context_settings["help_option_names"])
    same(first_cells(row for row in tables[title] if row[0] != "option"), real, f"{title}")
    rows = {name: row for row in tables[title] for name in code_in(row[0])}
    for option in options:
        if option.show_default:
            told = rows[option.opts[0]][1].strip("`")
            assert told == str(option.default), f"{title} {option.opts[0]}: default {told}"


def test_every_reject_code_is_documented() -> None:
    rows = sections(REFERENCE / "errors.md")["Reject codes"]
    same(first_cells(rows), CODES, "errors.md, reject codes,")


def test_every_exception_is_documented_with_its_exit_code() -> None:
    rows = {code_in(row[0])[0]: row for row in sections(REFERENCE / "errors.md")["Exceptions"][1:]}
    real = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.TrivetError)
    }
    same(rows, real, "errors.md, exceptions,")
    for name, kind in real.items():
        if kind is not errors.RunStopped:  # its code is the signal's
            code = str(exit_code(kind.__new__(kind)))
            assert rows[name][2] == code, f"errors.md: {name} ends with {code}"


def test_every_exit_code_is_documented() -> None:
    rows = sections(REFERENCE / "command-line.md")["Exit codes"]
    told = {row[0] for row in rows[1:]}
    assert told == set(re.findall(r"\b\d+\b", (cli.__doc__ or "").partition("Exit codes:")[2]))


def test_every_column_of_the_results_is_documented(tmp_path: Path) -> None:
    tables = sections(REFERENCE / "results-tables.md")
    with open_results(f"sqlite:///{tmp_path / 'results.db'}") as db:
        every = db.rows("SELECT name FROM sqlite_master WHERE type = 'table'")["name"].to_pylist()
        for name in (name for name in every if name.startswith("trivet_")):
            assert f"`{name}`" in tables, f"results-tables.md has no section {name}"
            columns = db.rows("SELECT name FROM pragma_table_info($t)", t=name)["name"].to_pylist()
            same(first_cells(tables[f"`{name}`"]), columns, f"results-tables.md, {name},")
    view = first_cells(tables["The view of a deployment"])
    same(view, LINEAGE, "results-tables.md, the view,")
    logged = first_cells(tables["`predictions_service_NAME`"])
    fixed = service_rows.FIXED.names
    same(logged, [*fixed, *service_rows.SERVICE.names], "results-tables.md, the prediction log,")
    streamed = first_cells(tables["`predictions_NAME` of a stream"])
    same(streamed, [*fixed, *service_rows.STREAM.names], "results-tables.md, a stream,")
    types = first_cells(tables["`predictions_NAME`"])
    same(types, TYPES, "results-tables.md, the types,")


@pytest.mark.parametrize(("page", "known"), [("service.md", HELP), ("stream.md", STREAM_HELP)])
def test_every_metric_is_documented(page: str, known: Help) -> None:
    rows = sections(REFERENCE / page)["Metrics"]
    real = {f"{name}_total" if kind == "counter" else name for name, (kind, _) in known.items()}
    same(first_cells(row[:1] for row in rows[1:]), real, f"{page}, metrics,")
    for row in rows[1:]:
        name, kind = row[0].strip("`"), known[row[0].strip("`").removesuffix("_total")][0]
        assert row[2].startswith("Histogram") == (kind == "histogram"), f"{page}: {name}"


def test_every_fault_of_the_service_is_documented_with_its_statuses() -> None:
    oip_grpc = pytest.importorskip("trivet.hosts.service.protocols.oip_grpc")
    rows = {code_in(row[0])[0]: row for row in sections(REFERENCE / "service.md")["Faults"][1:]}
    same(rows, HTTP, "service.md, faults,")
    for kind, row in rows.items():
        assert row[1] == str(HTTP[kind][0]), f"service.md: {kind} over HTTP"
        assert code_in(row[2]) == [oip_grpc.STATUS[kind].name], f"service.md: {kind} over gRPC"
        assert code_in(row[3]) == [MLFLOW_CODES.get(kind, "BAD_REQUEST")], f"service.md: {kind}"


def test_every_key_of_the_manifest_is_documented() -> None:
    manifest = Manifest(
        name="n",
        version="1",
        format="python",
        artifact="model",
        sha256="0",
        inputs=Schema([]),
        outputs=Schema([]),
        batch_dependence=BatchDependence(max_ulps=0, rows=1, source="sample"),
    )
    told = first_cells(sections(REFERENCE / "model-directory.md")["`model.toml`"])
    heads = {re.split(r"[.\]]", name.lstrip("["))[0] for name in told}
    real = tomllib.loads(manifest.to_toml()).keys()
    assert not real - heads, f"model-directory.md does not tell of {', '.join(real - heads)}"


def test_every_field_key_and_type_is_documented() -> None:
    tables = sections(REFERENCE / "field-types.md")
    same(
        first_cells(tables["Fields"]), [f.name for f in dataclasses.fields(Field)], "field-types.md"
    )
    same(first_cells(tables["Types and conversion"]), TYPES, "field-types.md")


def _extras() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])


@pytest.mark.parametrize("page", [README, REFERENCE / "installed-size.md"], ids=lambda p: p.name)
def test_every_extra_is_documented(page: Path) -> None:
    rows = [row for table in sections(page).values() for row in table]
    found = (re.fullmatch(r"trivet\[(\w+)]", name) for name in first_cells(rows))
    told = [match[1] for match in found if match]
    same(told, _extras(), page.name)


def test_the_index_leads_to_every_page() -> None:
    linked = {(DOCS / target).resolve() for target, _ in _links(DOCS / "README.md")}
    lost = [page for page in PAGES if DOCS in page.parents and page not in linked]
    lost = [page for page in lost if page.name != "README.md" and "decisions" not in page.parts]
    assert not lost, f"docs/README.md does not lead to {', '.join(page.name for page in lost)}"


# True


@my_pages
def test_blocks_are_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text, block.where)
        if block.language == "toml":
            try:
                tomllib.loads(block.text)
            except tomllib.TOMLDecodeError as error:
                pytest.fail(f"{block.where}: {error}")
        if "complete" in block.marks:
            _load(block, tmp_path)


def _load(block: Block, folder: Path) -> None:
    (folder / "trivet.toml").write_text(block.text, encoding="utf-8")
    for path in re.findall(r'"([\w/-]+\.sql)"', block.text):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("SELECT 1 AS order_id", encoding="utf-8")
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)}", block.text), "postgresql://db/results")
    project = load_project(folder, environment)
    assert project.batch or project.service, f"{block.where}: no deployment"


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it prints."""
    command, printed = "", list[str]()
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, printed
            command, printed = line[2:], []
        else:
            printed.append(line)
    yield command, printed


@my_pages
def test_documented_commands_exist(page: Path) -> None:
    for block in blocks(page, "console"):
        for command, _ in commands(block):
            words = shlex.split(command, comments=True)
            if words[0] == "make":
                assert words[1] in _targets(), f"{block.where}: no make target {words[1]}"
            elif words[0] == "trivet":
                _parse(words[1:], f"{block.where}: {command}")


def _parse(words: list[str], where: str) -> None:
    """Hold a command line against the options that there are, without running it."""
    command: click.Command = cli.trivet
    while isinstance(command, click.Group):
        while words[0].startswith("-"):
            assert words[0] in {opt for param in command.params for opt in param.opts}, where
            words = words[2:]
        assert words[0] in command.commands, f"{where}: no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    try:
        command.make_context(command.name, list(words))
    except click.UsageError as error:
        pytest.fail(f"{where}: {error.format_message()}")


def _targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@dataclass(frozen=True)
class Sandbox:
    """A folder in which commands of the documentation run as in a terminal."""

    folder: Path
    environment: Mapping[str, str]
    done: set[tuple[str, ...]] = field(default_factory=set)

    def follow(self, page: Path) -> None:
        """Do what a page says, in order: write its files, run its commands, look at the output."""
        for block in blocks(page):
            if block.file:
                self.write(block.file, block.text)
            if block.language == "console":
                for command, expected in commands(block):
                    self.run(command, expected, block.where)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, command: str, expected: list[str], where: str) -> None:
        if command.startswith("pip install"):
            same(set(re.findall(r"\[(\w+)]", command)) - set(_extras()), (), where)
        if command.startswith(("make ", "pip install", "python -m venv", ". .venv")):
            return
        words = tuple(shlex.split(command, comments=True))
        if words in self.done and not expected:  # one page repeats what another has shown
            return
        self.done.add(words)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{where}: {command}\n{done.stdout}"
        printed = [_loosely(line) for line in done.stdout.splitlines()]
        for line in expected:
            assert _loosely(line) in printed, f"{where}: {command}: no line {line!r}\n{done.stdout}"


@dataclass(frozen=True)
class Terminals(Sandbox):
    """Two terminals: `trivet up` runs in the first, whatever comes then in the second.

    Ports of the page are replaced by free ones. What looks at the work of another process is run
    again until it is there, as a reader does.
    """

    ports: Mapping[str, int] = field(default_factory=dict)
    up: list[subprocess.Popen[bytes]] = field(default_factory=list)
    patience: float = 90.0
    looking: tuple[str, ...] = (
        "trivet status",
        "trivet runs",
        "trivet rejects",
        "trivet dead",
        "curl",
        "python same",
    )

    def write(self, name: str, text: str) -> None:
        super().write(name, self._ported(text))

    def run(self, command: str, expected: list[str], where: str) -> None:
        if command == "trivet up":
            with self.log.open("wb") as log:
                self.up.append(
                    subprocess.Popen(
                        ["trivet", "up"],
                        cwd=self.folder,
                        env=dict(self.environment),
                        stdout=log,
                        stderr=log,
                    )
                )
            return None
        looks = command.startswith(self.looking)
        deadline = time.monotonic() + (self.patience if looks else 0.0)
        while True:
            try:
                return super().run(self._ported(command), expected, where)
            except AssertionError as error:
                if not looks or time.monotonic() > deadline:
                    raise AssertionError(f"{error}\n{self._told()}") from None
                assert self._runs(), f"{where}: trivet up has ended\n{self._told()}"

    def stop(self) -> None:
        """Press Ctrl-C in the first terminal."""
        for up in self.up:
            up.send_signal(signal.SIGINT)
            assert up.wait(120) in (0, 130), self._told()

    @property
    def log(self) -> Path:
        return self.folder / "up.log"

    def _ported(self, text: str) -> str:
        told = re.compile("|".join(self.ports))  # at once: a free port may hold another's digits
        return told.sub(lambda match: str(self.ports[match[0]]), text)

    def _runs(self) -> bool:
        return all(up.poll() is None for up in self.up)

    def _told(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


def _loosely(line: str) -> str:
    """A line without its numbers and its spacing."""
    return " ".join(re.sub(r"\d[\d,.]*", "0", line).split())


def _sandbox(folder: Path, programs: Path) -> Sandbox:
    """Give a folder in which `python` and `trivet` are those under test."""
    starts = {"python": '"$@"', "trivet": '-m trivet --log text "$@"'}
    for name, arguments in starts.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n', encoding="utf-8")
        program.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    code = str(Path(trivet.__file__).parents[1])  # what is tested, wherever a command runs
    return Sandbox(folder, os.environ | {"PATH": path, "PYTHONPATH": code, "COLUMNS": "200"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Give the project that the tutorial makes, after following it to its end."""
    sandbox = _sandbox(tmp_path_factory.mktemp("shop"), tmp_path_factory.mktemp("bin"))
    sandbox.follow(TUTORIAL)
    return sandbox


def test_the_tutorial_works(shop: Sandbox) -> None:
    results = shop.folder / "data" / "results.db"
    with open_results(f"sqlite:///{results}") as db:
        rows = db.rows("SELECT count(DISTINCT interval_start) AS days FROM late_orders")
    assert rows["days"][0].as_py() == 6  # five of March, and yesterday


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl")
def test_the_tutorial_from_a_notebook_works(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    folder, programs = tmp_path / "shop", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    plain = _sandbox(folder, programs)
    ports = dict(zip(("8080", "8090", "8081"), free_ports(3), strict=True))
    terminals = Terminals(folder, plain.environment, ports=ports)
    try:
        terminals.follow(THREE_WAYS)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['8090']}/", timeout=60) as answer:
            page = answer.read().decode()
        assert "delivery-time" in page
        assert "live-delivery-time" in page
    finally:
        terminals.stop()
    with open_results(f"sqlite:///{folder / 'data' / 'results.db'}") as db:
        for view, least in (
            ("delivery_time", 100),
            ("service_delivery_time", 6),
            ("live_delivery_time", 7),
        ):
            rows = db.rows(f"SELECT count(*) AS n FROM {view}")["n"][0].as_py()
            assert rows >= least, f"{view} has {rows} rows"


def test_the_tutorial_on_a_world_that_changes_works(tmp_path: Path) -> None:
    folder, programs = tmp_path / "taxi", tmp_path / "bin"
    made = shutil.ignore_patterns("*.db*", "models", "__pycache__")
    shutil.copytree(ROOT / "examples" / "taxi", folder, ignore=made)
    programs.mkdir()
    script = folder / "train.py"
    whole, share = script.read_text(encoding="utf-8"), '"--trees", type=float, default='
    assert f"{share}1.0" in whole
    script.write_text(whole.replace(f"{share}1.0", f"{share}0.2"), encoding="utf-8")
    _sandbox(folder, programs).follow(DOCS / "tutorial" / "when-the-world-changes.md")
    with open_results(f"sqlite:///{folder / 'data' / 'results.db'}") as db:
        found = db.rows(
            "SELECT model_version, absolute_sum / row_count AS mae FROM trivet_quality "
            "WHERE segment = '' ORDER BY period_start"
        ).to_pylist()
    april, june = found[9], found[11]
    assert april["mae"] > 1.5 * found[0]["mae"]
    assert june["model_version"] == "2"
    assert june["mae"] < 0.7 * april["mae"]


def test_the_readme_works_on_the_project_of_the_tutorial(shop: Sandbox) -> None:
    shop.follow(README)


def test_the_statements_of_the_guide_work(shop: Sandbox) -> None:
    page = DOCS / "how-to" / "read-the-predictions.md"
    with open_results(f"sqlite:///{shop.folder / 'data' / 'results.db'}") as db:
        statements = [block for block in blocks(page, "sql") if "churn" not in block.text]
        assert len(statements) >= 5
        for block in statements:
            assert db.rows(block.text).num_rows, f"{block.where}: no row"


def test_the_class_of_the_guide_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = DOCS / "how-to" / "save-a-model.md"
    source = next(block.text for block in blocks(page, "python") if "class Fare" in block.text)
    (tmp_path / "guide_fares.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    trivet.save("guide_fares:Fare", tmp_path / "models", name="fare", version="1")
    model = trivet.load("models/fare", root=tmp_path, trust=True)
    batch = pa.record_batch({"miles": [2.0], "zone": ["JFK"]})
    assert model.predict(batch).to_pylist() == [{"fare": 25.0}]


def test_the_readme_shows_the_demo() -> None:
    demo = (ROOT / "examples" / "taxi" / "demo.py").read_text(encoding="utf-8")
    shown = next(block.text for block in blocks(README, "text"))
    for words in ("predictions with a true duration", "rejects.", "month", "rides", "MAE", "bias"):
        assert words in demo, f"the demo does not print {words!r} any more"
        assert words in shown, f"README.md does not show {words!r}"


# Linked


def _links(page: Path) -> list[tuple[str, str]]:
    """Targets of relative links: path and anchor."""
    text = re.sub(r"`[^`]*`", "", "\n".join(prose(page)))
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\[!\[[^]]*]\([^)]*\)]", "[]", text))
    outside = ("http://", "https://", "mailto:")
    return [
        (path, anchor)
        for path, _, anchor in (t.partition("#") for t in targets if not t.startswith(outside))
    ]


def _anchors(page: Path) -> set[str]:
    """Headings as GitHub names them."""
    titles = [line.lstrip("#").strip() for line in prose(page) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_relative_links_resolve(page: Path) -> None:
    for path, anchor in _links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {path} does not exist"
        assert target.is_relative_to(ROOT), f"{page.name}: {path} leads out of the repository"
        if anchor:
            assert anchor in _anchors(target), f"{page.name}: {path}#{anchor} has no such heading"


@pytest.mark.parametrize("picture", sorted(DOCS.rglob("*.svg")), ids=lambda p: p.name)
def test_pictures_stand_alone(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
    assert {"title", "desc"} <= names, f"{picture.name} has no words for who cannot see it"
    assert not names & {"script", "image", "foreignObject"}
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


# Clean


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():  # an unpacked archive: all of it is what was tracked
        return [path for top in ("src", "tests", "examples") for path in (ROOT / top).rglob("*.py")]
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_tracked_file_names_a_machine_or_an_index() -> None:
    unwanted = re.compile(
        r"(?<![\w.*/-])/(?:work|home|root|Users|tmp)/[\w.]"  # somebody's machine
        r"|(?<!emit)-index-url|INDEX_URL|find-links"
        r"|://[\w.:-]*/(?:[\w./-]*/)?simple\b|pythonhosted\.org",
    )
    found = []
    for path in {*_tracked(), *PAGES} - {Path(__file__)}:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if match := unwanted.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def test_the_lock_has_no_download_address() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "==" in lock
    for sign in ("://", "@ file", "@ git", "-url", "--trusted-host"):
        lines = [line for line in lock.splitlines() if sign in line and "no-emit" not in line]
        assert not lines, f"requirements.lock: {lines}"
