"""``trivet up`` and ``trivet status``."""

from __future__ import annotations

import datetime as dt
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trivet.cli import beforehand, wiring
from trivet.cli.exits import FAILED
from trivet.cli.history import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from trivet.settings import Project
    from trivet.up.board import State, Status, Word
    from trivet.up.supervisor import Supervisor

_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")
_LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
_STATES = {"ready": "green", "done": "green", "restarting": "red", "stopped": "dim"}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.pass_context
def up(context: click.Context, names: tuple[str, ...]) -> None:
    """Run everything of the project together, or the processes NAME and what they need.

    The service, the scheduler, the streams, the dashboard and the commands of [up.NAME], each a
    process that is started again when it dies. SIGTERM or Ctrl-C ends them all, a second Ctrl-C
    at once.
    """
    with wiring.ended_by_interrupts():
        _up(context, names)


def _up(context: click.Context, names: tuple[str, ...]) -> None:
    from trivet import settings
    from trivet.up.board import claimed
    from trivet.up.plan import planned
    from trivet.up.ports import taken
    from trivet.up.supervisor import Around, Supervisor

    project = wiring.project_of(context)
    has_dashboard = beforehand.installed("dashboard")
    start = (sys.executable, "-P", "-m", "trivet")
    plan = planned(project, names, trivet=start, dashboard=has_dashboard)
    if not has_dashboard:
        click.echo("no dashboard: pip install 'trivet[dashboard]'", err=True)
    variables = settings.environment()
    path = (str(Path(sys.executable).parent), variables.get("PATH", os.defpath))
    # `python` in a command is the one that has Trivet, also where its environment is not active.
    variables |= {"PYTHONUNBUFFERED": "1", "PATH": os.pathsep.join(path)}
    with claimed(project.root, waits=partial(click.echo, err=True)) as board:
        mistakes = [*beforehand.lacking(project, plan, variables["PATH"]), *taken(plan)]
        if mistakes:
            from trivet.errors import SettingsError

            raise SettingsError(*(f"{project.file}: {mistake}" for mistake in mistakes))
        _prepare(project)
        with _screen(context, [process.name for process in plan]) as screen:
            supervisor = Supervisor(
                plan,
                Around(
                    project=project.project.name,
                    root=project.root.absolute(),
                    environment=variables,
                    board=board,
                    listener=screen,
                ),
            )
            screen.watch(supervisor)
            with wiring.on_signals(stop=supervisor.stop, reload=supervisor.stop):
                supervisor.run()


def _prepare(project: Project) -> None:
    """Make the tables of the results once, before several processes would."""
    from trivet.errors import TransientError
    from trivet.results.layout import open_results

    try:
        open_results(project.results.url, root=project.root).close()
    except TransientError as error:
        click.echo(f"the results database cannot be reached yet: {error}", err=True)


@contextmanager
def _screen(context: click.Context, names: list[str]) -> Iterator[_Lines]:
    """Give what shows lines and states, in the form that fits where standard error goes."""
    from rich.console import Console
    from rich.live import Live

    wanted = context.obj["log"]
    if wanted == "json" or (wanted == "auto" and not sys.stderr.isatty()):
        yield _Lines(None, names)
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    screen = _Lines(console, names)
    if not console.is_terminal:
        yield screen
        return
    with Live(
        get_renderable=screen.table,
        console=console,
        refresh_per_second=2,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield screen


class _Lines:
    """Shows what the processes write, as lines with their names before them or as JSON lines."""

    def __init__(self, console: Console | None, names: list[str]) -> None:
        self._console = console
        self._width = max(map(len, names))
        self._colours = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(names)}
        self._supervisor: Supervisor | None = None
        self._lock = threading.Lock()

    def watch(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def line(self, name: str, text: str) -> None:
        said = _said(text)
        if self._console is None:
            self._write(_as_json(name, text, said))
            return
        message = text if said is None else str(said["message"])
        level = "" if said is None else str(said.get("level", ""))
        for part in message.splitlines():
            self._print(name, part, _LEVELS.get(level, ""))

    def changed(self, state: State, before: Word) -> None:
        words: str = state.state
        if state.state == "restarting":
            words = f"ended ({state.last_end}) and is started again"
        elif state.state == "starting":
            words = f"starting (process {state.pid})"
        elif state.state == "ready" and state.url:
            words = f"ready on {state.url}"
        if self._console is None:
            fields = {"event": state.state, **msgspec.to_builtins(state)}
            fields |= {"time": _moment(state.since), "process": state.name, "message": words}
            self._write(msgspec.json.encode(fields).decode())
            return
        self._print(state.name, words, _STATES.get(state.state, "dim"))

    def table(self) -> Table | str:
        """Return the states as a table."""
        if self._supervisor is None:
            return ""
        return _as_table(self._supervisor.status.processes, time.time())

    def _print(self, name: str, text: str, style: str) -> None:
        from rich.text import Text

        assert self._console is not None  # who has none writes JSON
        line = Text(f"{dt.datetime.now().astimezone():%H:%M:%S} ", style="dim")
        line.append(f"{name:<{self._width}} ", style=self._colours[name])
        line.append("| ", style="dim")
        line.append_text(Text.from_ansi(text, style=style))
        with suppress(OSError):  # the terminal is gone; the processes end all the same
            self._console.print(line)

    def _write(self, line: str) -> None:
        with self._lock, suppress(OSError):
            click.echo(line, err=True)


def _said(text: str) -> dict[str, Any] | None:
    """Return a line of Trivet's own log, or None for a line of another form."""
    if not text.startswith("{"):
        return None
    try:
        said = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return said if isinstance(said, dict) and "message" in said else None


def _as_json(name: str, text: str, said: dict[str, Any] | None) -> str:
    said = said or {"time": _moment(time.time()), "message": text}
    return msgspec.json.encode(said | {"process": name}).decode()


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")


def _as_table(states: Sequence[State], now: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for header in _HEADERS:
        made.add_column(header)
    for state in states:
        cells = _cells(state, now)
        style = _STATES.get(state.state, "yellow")
        made.add_row(cells[0], Text(cells[1], style=style), *cells[2:])
    return made


_HEADERS = ("process", "state", "for", "pid", "restarts", "last end", "on")


def _cells(state: State, now: float) -> tuple[str, ...]:
    return (
        state.name,
        state.state,
        _span(now - state.since),
        "" if state.pid is None else str(state.pid),
        str(state.restarts),
        state.last_end,
        state.url,
    )


def _span(seconds: float) -> str:
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show the processes of a project that is up.

    It ends with 0 if all are ready, with 1 if one is not or the project is not up.
    """
    from trivet.up.board import read

    project = wiring.project_of(context)
    found = read(project.root)
    if as_json:
        click.echo(msgspec.json.encode(_told(project, found)).decode())
    elif found is None:
        click.echo(f"{project.project.name} is not up; start it with: trivet up")
    else:
        click.echo(
            f"{found.project} is up for {_span(time.time() - found.started)} (process {found.pid})"
        )
        now = time.time()
        rows = [
            (*_cells(state, now), f"{_memory(state.pid):,} MB" if state.pid else "")
            for state in found.processes
        ]
        table((*_HEADERS, "memory"), rows, numbers=(3, 4, 7))
    if found is None or not found.is_ready:
        raise click.exceptions.Exit(FAILED)


def _told(project: Project, found: Status | None) -> dict[str, Any]:
    if found is None:
        return {"project": project.project.name, "up": False, "ready": False, "processes": []}
    told = msgspec.to_builtins(found)
    for process in told["processes"]:
        process["memory_mb"] = _memory(process["pid"])
    return {**told, "up": True, "ready": found.is_ready}


def _memory(pid: int | None) -> int:
    """Return the megabytes of a process and of those below it, 0 if it is gone."""
    import psutil

    if pid is None:
        return 0
    total = 0
    with suppress(psutil.Error):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total // 2**20
