"""``trivet up`` and ``trivet status``: a service, a scheduler and commands, as users have them."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import trivet
from support.toy import Toy
from support.up_process import Up, free_ports, here, run
from trivet.cli import beforehand
from trivet.cli import trivet as command
from trivet.cli import up as shown
from trivet.formats import sklearn
from trivet.up.board import State, Status, claimed

Until = Callable[[Callable[[], bool]], None]

PROJECT = """
[results]
url = "sqlite:///results.db"
[models.double]
uri = "support.service_toys:Doubling"
[batch.doubled]
model = "double"
source = "sqlite:///numbers.db"
query = "SELECT id, x, note FROM numbers WHERE at >= $interval_start AND at < $interval_end"
key = ["id"]
schedule = "@daily"
[service]
models = ["double"]
port = {port}
grpc = false
stop_delay = "0s"
[dashboard]
port = {pages}
[up.client]
command = "sh -c 'echo $GREETING; exec sleep 600'"
after = ["service"]
env = {{ GREETING = "good day" }}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    port, pages = free_ports(2)
    (tmp_path / "trivet.toml").write_text(PROJECT.format(port=port, pages=pages))
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    with sqlite3.connect(tmp_path / "numbers.db") as db:
        db.execute("CREATE TABLE numbers (id INTEGER, x REAL, note TEXT, at TEXT)")
        rows = [(n, float(n), None, f"{yesterday:%Y-%m-%d} 12:00:00") for n in range(10)]
        db.executemany("INSERT INTO numbers VALUES (?, ?, ?, ?)", rows)
    db.close()
    return tmp_path


@pytest.fixture
def up(project: Path, until: Until) -> Iterator[Up]:
    with Up(project, until) as up:
        yield up


def scored(project: Path) -> int:
    db = sqlite3.connect(project / "results.db")
    try:
        [(count,)] = db.execute("SELECT count(*) FROM doubled")
    except sqlite3.OperationalError:  # the view is not there yet
        return 0
    finally:
        db.close()
    return int(count)


def test_a_project_comes_up_survives_its_children_and_ends(
    project: Path, up: Up, until: Until
) -> None:
    up.wait_ready()
    status = json.loads(run(project, "status", "--json").stdout)
    assert status["up"]
    told = {process["name"]: process for process in status["processes"]}
    assert told.keys() == {"service", "schedule", "dashboard", "client"}
    assert told["service"]["memory_mb"] > 10
    url = told["service"]["url"]
    assert httpx.post(f"{url}/predict/double", json={"x": 4}).json()["prediction"] == {"y": 8.0}
    until(lambda: scored(project) == 10)
    again = run(project, "up")
    assert again.returncode == 3
    assert f"up already (process {up.process.pid})" in again.stderr
    for name in ("service", "schedule", "dashboard", "client"):
        pid = up.state(name).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda n=name: up.state(n).restarts == 1)  # type: ignore[misc]
        up.wait_ready()
    assert httpx.post(f"{url}/predict/double", json={"x": 5}).json()["prediction"] == {"y": 10.0}
    table = run(project, "status")
    assert table.returncode == 0
    assert ["service", "ready"] in [line.split()[:2] for line in table.stdout.splitlines()]
    assert up.stop(signal.SIGINT) == 0
    ended = run(project, "status")
    assert (ended.returncode, "is not up; start it with: trivet up" in ended.stdout) == (1, True)
    events = [(line["process"], line.get("event")) for line in up.log]
    assert events.index(("service", "ready")) < events.index(("client", "starting"))
    assert events.index(("client", "stopped")) < events.index(("service", "stopping"))
    assert ("client", "good day") in [(line["process"], line["message"]) for line in up.log]
    assert scored(project) == 10


def test_nothing_outlives_one_that_is_killed(project: Path, up: Up, until: Until) -> None:
    up.wait_ready()
    assert len(here(project)) >= 4
    up.process.kill()
    up.process.wait()
    with Up(project, until, "client") as second:  # with what it needs; it waits for the others
        second.wait_ready()
        assert second.names == {"service", "client"}
        assert second.stop() == 0


def invoke(root: Path, text: str, *arguments: str) -> Result:
    (root / "trivet.toml").write_text(text)
    return CliRunner().invoke(command, ["--file", str(root), *arguments])


def test_what_is_wrong_is_found_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f'[up.web]\ncommand = "no-such-program"\nready = "tcp://127.0.0.1:{port}"\n'
        result = invoke(tmp_path, text, "up")
    assert result.exception is not None
    first, second = str(result.exception).splitlines()
    assert "[up.web] command: there is no program 'no-such-program'; install it" in first
    assert f"[up.web] ready: 127.0.0.1:{port} cannot be bound" in second


def test_libraries_and_models_that_are_lacking_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for extra in ("service", "kafka"):
        monkeypatch.setitem(beforehand.MODULES, extra, ("no_such_module",))
    [port] = free_ports(1)
    text = PROJECT.format(port=port, pages=port).partition("[dashboard]")[0]
    text = text.replace("support.service_toys:Doubling", "models/double")
    text += '[broker]\nurl = "kafka://localhost"\n[stream.s]\nmodel = "double"\ntopic = "t"\n'
    result = invoke(tmp_path, text + 'key = ["ride"]\n', "up")
    first, second, third = str(result.exception).splitlines()
    assert "[service]: the service needs a library" in first
    assert "pip install 'trivet[service]'" in first
    assert "[broker] url: a kafka:// broker needs" in second
    assert "[models.double]: no model at" in third


def test_a_library_of_a_model_that_is_lacking(tmp_path: Path) -> None:
    """Found in its manifest; one that a command makes first is not looked for."""
    manifest = tmp_path / "models" / "m" / "1" / "model.toml"
    text = '[models.m]\nuri = "models/m"\n[stream.s]\nmodel = "m"\ntopic = "t"\nkey = ["ride"]\n'
    trivet.save(Toy(), tmp_path / "models", name="m", version="1")
    broken = manifest.read_text().replace('format = "python"', 'format = "sklearn"')
    manifest.write_text(broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn, "LIBRARIES", ("no-such-distribution",))
        result = invoke(tmp_path, text, "up")
    assert "pip install 'trivet[sklearn]'" in str(result.exception)
    made = '[up.make]\ncommand = "true"\nonce = true\n'
    (tmp_path / "models" / "m" / "current").unlink()
    result = invoke(tmp_path, made + text, "--log", "text", "up")
    assert "stream-s cannot start (exit code 2): " in str(result.exception)
    assert "has no current version; name one" in str(result.exception)


def test_a_program_beside_the_project_file(tmp_path: Path) -> None:
    (tmp_path / "go").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "go").chmod(0o755)
    result = invoke(tmp_path, '[up.a]\ncommand = "./go"\nonce = true\n', "--log", "text", "up")
    assert result.exit_code == 0, result.output
    assert "a | done" in result.stderr


def test_results_that_are_away_are_no_hindrance(tmp_path: Path) -> None:
    text = (
        '[results]\nurl = "postgresql://127.0.0.1:1/away"\n[up.a]\ncommand = "true"\nonce = true\n'
    )
    result = invoke(tmp_path, text, "--log", "json", "up")
    assert result.exit_code == 0, result.output
    assert "cannot be reached yet" in result.stderr


def test_json_lines_pass_through_with_the_name(tmp_path: Path) -> None:
    script = """#!/bin/sh
echo '{"message": "hi", "level": "info"}'
echo '{"no": "message"}'
echo '{broken'
"""
    (tmp_path / "go").write_text(script)
    (tmp_path / "go").chmod(0o755)
    result = invoke(tmp_path, '[up.a]\ncommand = "./go"\nonce = true\n', "--log", "json", "up")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert {"message": "hi", "level": "info", "process": "a"} in lines
    assert [line["message"] for line in lines if "state" not in line] == [
        "hi",
        '{"no": "message"}',
        "{broken",
    ]
    assert [line["event"] for line in lines if "state" in line] == ["starting", "done"]


def screen() -> tuple[shown._Lines, io.StringIO]:
    out = io.StringIO()
    return shown._Lines(Console(file=out, width=120, force_terminal=True), ["a", "bb"]), out


def test_lines_on_a_terminal() -> None:
    lines, out = screen()
    lines.line("a", '{"message": "two\\nlines", "level": "error"}')
    lines.line("bb", "\x1b[1mbold\x1b[0m and [brackets]")
    lines.changed(State(name="a", state="restarting", last_end="SIGKILL"), "ready")
    lines.changed(State(name="a", state="ready", url="http://here"), "starting")
    text = out.getvalue()
    for words in ("two", "lines", "and [brackets]", "ended (SIGKILL) and is started again"):
        assert words in text
    assert "ready on http://here" in text
    out.close()
    lines.table()


class Standing:
    """A supervisor that only tells."""

    status = Status(
        project="p",
        pid=1,
        started=0.0,
        processes=(
            State(name="a", state="ready", pid=7, url="http://here"),
            State(name="bb", state="waiting"),
        ),
    )


def test_the_live_table() -> None:
    lines, out = screen()
    assert lines.table() == ""
    lines.watch(Standing())  # type: ignore[arg-type]
    Console(file=out, width=120).print(lines.table())
    assert "http://here" in out.getvalue()
    assert "waiting" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1.0, "0 s"), (59.9, "59 s"), (60, "1 m"), (7200, "2 h"), (200_000, "2 d")],
)
def test_spans(seconds: float, words: str) -> None:
    assert shown._span(seconds) == words


def test_the_status_of_one_that_is_not_ready(tmp_path: Path) -> None:
    status = Status(
        project="tiny", pid=os.getpid(), started=0.0, processes=(State(name="a", pid=2**22 + 1),)
    )
    with claimed(tmp_path) as board:
        board.show(status)
        result = invoke(tmp_path, "", "status")
        assert (result.exit_code, "tiny is up for" in result.output) == (1, True)
        result = invoke(tmp_path, "", "status", "--json")
    told: dict[str, Any] = json.loads(result.output)
    assert (told["up"], told["ready"], told["processes"][0]["state"]) == (True, False, "waiting")


def test_the_status_of_one_that_is_not_up(tmp_path: Path) -> None:
    result = invoke(tmp_path, "", "status", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output) == {
        "project": tmp_path.name,
        "up": False,
        "ready": False,
        "processes": [],
    }
