"""Real processes: stopped, killed, racing; and a server that is restarted under a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.deployments import Project, interval, trips
from support.postgres import PostgresServer
from support.toy import Gated


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Give the folder of the pipes at which a `Gated` model waits."""
    os.mkfifo(tmp_path / "asked")
    os.mkfifo(tmp_path / "go")
    return tmp_path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.save(Gated(), "2")
    (tmp_path / "models" / "toy" / "current").write_text("2\n")
    project.add(*(trips(n, 3) for n in (1, 2, 3)))
    return project


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, err


def stop(process: subprocess.Popen[str], gate: Path, number: signal.Signals) -> None:
    """Send a signal while the model is being asked, and let it answer once that was noticed."""
    (gate / "asked").read_text()
    process.send_signal(number)
    assert process.stderr is not None
    for line in process.stderr:
        if "stopping" in line:
            break
    (gate / "go").write_text("")


SPAN = ("--from", "2020-01-01", "--to", "2020-01-03")


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        (("score", "toy-scores", "--interval", "2020-01-01"), signal.SIGTERM, 143),
        (("score", "toy-scores", "--interval", "2020-01-01"), signal.SIGINT, 130),
        (("backfill", "toy-scores", *SPAN), signal.SIGTERM, 143),
        (("schedule",), signal.SIGTERM, 0),
        (("schedule",), signal.SIGINT, 0),
        (("schedule", "--once"), signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_a_command_cleanly(
    project: Project, gate: Path, command: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    process = project.start(*command, GATE=str(gate))
    stop(process, gate, number)
    assert end(process)[0] == code
    assert project.states() == ["stopped"]
    assert project.run("backfill", "toy-scores", *SPAN)[0] == 0
    assert project.states() == ["stopped", "succeeded", "succeeded", "succeeded"]
    assert len(project.scores()) == 9


def test_a_second_interrupt_ends_it_at_once(project: Project, gate: Path) -> None:
    process = project.start("score", "toy-scores", "--interval", "2020-01-01", GATE=str(gate))
    (gate / "asked").read_text()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "stopping" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130
    project.write()
    assert project.run("score", "toy-scores", "--interval", "2020-01-01")[0] == 0
    assert project.states() == ["killed", "succeeded"]


HASTY = """
import sys
from trivet.cli import main, wiring
wiring.STOP_SECONDS = 0.2
sys.argv = ["trivet", "--file", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("times", [1, 20])
def test_a_signal_ends_a_run_whose_model_never_answers(
    project: Project, gate: Path, times: int
) -> None:
    command = (str(project.root), "score", "toy-scores", "--interval", "2020-01-01")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HASTY, *command],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"GATE": str(gate)},
    )
    (gate / "asked").read_text()
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
    code, err = end(process)
    assert code == 143
    assert "not stopped after 0.2 s" in err
    project.write()
    assert project.run("score", "toy-scores", "--interval", "2020-01-01")[0] == 0
    assert project.states() == ["killed", "succeeded"]


def test_a_signal_ends_a_run_that_waits_for_another(project: Project, gate: Path) -> None:
    project.write(overlap="queue")
    first = project.start("score", "toy-scores", "--interval", "2020-01-01", GATE=str(gate))
    (gate / "asked").read_text()
    moments = (0.0, 0.3, 0.6, 1.0, 1.5, 2.5)  # while it imports, looks, and waits in the queue
    waiting = [
        project.start("score", "toy-scores", "--interval", "2020-01-01", GATE=str(gate))
        for _ in moments
    ]
    began = time.monotonic()
    for process, moment in zip(waiting, moments, strict=True):
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, began + moment - time.monotonic()))
        process.send_signal(signal.SIGTERM)
    for process in waiting:  # before it listens for signals, the system's own way of ending
        assert end(process)[0] in (143, -signal.SIGTERM)
    (gate / "go").write_text("")
    assert end(first)[0] == 0
    assert project.states() == ["succeeded"]


def test_a_killed_run_is_found_marked_and_run_again(project: Project, gate: Path) -> None:
    process = project.start("backfill", "toy-scores", *SPAN, GATE=str(gate))
    for _ in range(2):
        (gate / "asked").read_text()
        (gate / "go").write_text("")
    (gate / "asked").read_text()
    assert project.states() == ["succeeded", "succeeded", "running"]
    process.kill()
    process.communicate(timeout=60)

    code, out, _ = project.run("backfill", "toy-scores", *SPAN)
    assert (code, out.strip()) == (
        0,
        "toy-scores: 1 intervals scored, 2 published already, 0 failed",
    )
    assert project.states() == ["succeeded", "succeeded", "killed", "succeeded"]
    assert [run.number for run in project.runs()] == [1, 1, 1, 2]
    assert len(project.scores()) == 9


def test_a_manual_run_meets_one_under_way(project: Project, gate: Path) -> None:
    process = project.start("score", "toy-scores", "--interval", "2020-01-01", GATE=str(gate))
    (gate / "asked").read_text()
    code, _, err = project.run("score", "toy-scores", "--interval", "2020-01-01")
    assert code == 3
    assert f"process {process.pid} on" in err
    code, _, err = project.run("score", "toy-scores", "--interval", "2020-01-02")
    assert code == 0  # a manual run of another interval may go on beside it
    (gate / "go").write_text("")
    assert end(process)[0] == 0


@pytest.mark.parametrize(
    "command",
    [
        (
            "backfill",
            "toy-scores",
            "--from",
            "2020-01-01T00",
            "--to",
            "2020-01-01T07",
            "--parallel",
            "2",
        ),
        ("schedule", "--once"),
    ],
)
def test_two_processes_never_run_one_interval_at_once(
    tmp_path: Path, results_url: str, command: tuple[str, ...]
) -> None:
    project = Project(tmp_path, results=results_url)
    project.add(trips(1, 5))
    project.write(schedule="@hourly", overlap="queue", catchup_limit=8)
    project.job().register()
    if command[0] == "schedule":  # bounded: the real clock is years ahead
        project.write(catchup="latest", lookback=5)
    processes = [project.start(*command) for _ in range(2)]
    for process in processes:
        assert end(process)[0] == 0
    runs = project.runs()
    assert {run.state for run in runs} == {"succeeded"}
    assert sum(run.is_published for run in runs) == len({run.interval_start for run in runs})
    if command[0] == "backfill":  # and none was run twice
        assert sorted(run.interval_start.hour for run in runs) == list(range(8))
        assert len(project.scores()) == 5


def test_a_server_that_is_restarted_in_the_middle(
    tmp_path: Path, own_postgres: Callable[[], PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 2)
    server = own_postgres()
    url = server.new_database()
    project = Project(
        tmp_path, source=url, results=url.replace(url[url.rindex("/") :], "/postgres")
    )
    project.add(trips(1, 11))
    expected = [(1000 + i, 3.0 * i) for i in range(1, 12)]
    restarts = [3, 6]

    def restart(progress: Any) -> None:
        if restarts and progress.rows > restarts[0]:
            restarts.pop(0)
            server.restart()

    project.progress = restart
    job = project.job(retry_for="1m")
    job.register()
    assert job.run(interval(1), cause="manual") is not None
    assert project.states() == ["failed", "failed", "succeeded"]
    assert project.scores() == expected
    assert project.rows("SELECT count(*) AS n FROM predictions_toy_scores") == [{"n": 11}]
