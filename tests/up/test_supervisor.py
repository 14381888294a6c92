"""Processes started in order, kept running, and ended, with tiny commands."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.tiny import Start
from trivet.up import guard, supervisor
from trivet.up.board import read
from trivet.up.plan import FROM_LOG, Process
from trivet.up.watchman import Watchman

Until = Callable[[Callable[[], bool]], None]

READY = """echo '{"event": "ready", "message": "here"}'"""


def sh(name: str, script: str, **rest: Any) -> Process:
    return Process(**{"name": name, "command": ("sh", "-c", script), "ready": FROM_LOG, **rest})


def sleeper(name: str, **rest: Any) -> Process:
    return sh(name, f"{READY}; exec sleep 600", **rest)


def test_each_starts_when_what_it_comes_after_is_ready(start: Start, until: Until) -> None:
    running = start(
        sh("seed", "echo sown; exit 0", once=True),
        sleeper("a"),
        sleeper("b", after=("a", "seed")),
    )
    until(lambda: running.status.is_ready)
    order = running.changes
    assert order.index(("a", "ready")) < order.index(("b", "starting"))
    assert order.index(("seed", "done")) < order.index(("b", "starting"))
    assert ("seed", "sown") in running.lines
    running.stop()
    order = running.changes
    assert order.index(("b", "stopped")) < order.index(("a", "stopping"))
    assert [state.state for state in running.status.processes] == ["done", "stopped", "stopped"]


def test_one_that_waits_is_stopped_as_well(start: Start, until: Until) -> None:
    running = start(sh("a", "exec sleep 600"), sleeper("b", after=("a",)))
    until(lambda: running.state("a").state == "starting")
    running.stop()
    assert [state.state for state in running.status.processes] == ["stopped", "stopped"]


def test_what_says_nothing_is_ready_when_it_has_lived(start: Start, until: Until) -> None:
    running = start(sh("a", "exec sleep 600", ready=""))
    until(lambda: running.status.is_ready)


def test_a_port_that_answers(start: Start, until: Until) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        running = start(sh("a", "exec sleep 600", ready=f"tcp://127.0.0.1:{port}"))
        until(lambda: running.status.is_ready)


def test_one_that_dies_is_started_again(start: Start, until: Until, tmp_path: Path) -> None:
    running = start(sleeper("a"))
    for times in (1, 2):
        until(lambda: running.status.is_ready)
        pid = running.state("a").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda n=times: running.state("a").restarts == n)  # type: ignore[misc]
    until(lambda: running.status.is_ready)
    assert running.state("a").last_end == "SIGKILL"
    until(lambda: read(tmp_path) == running.status)  # the file is written after


def test_it_waits_longer_each_time(
    start: Start, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(supervisor, "BACKOFF", (0.001, 0.01))
    original = supervisor.Supervisor.wait

    def wait(self: supervisor.Supervisor, seconds: float) -> None:
        pauses.append(seconds)
        original(self, seconds)

    monkeypatch.setattr(supervisor.Supervisor, "wait", wait)
    running = start(sh("a", "exit 3", once=True))
    until(lambda: running.state("a").restarts >= 6)
    running.stop()
    assert running.state("a").last_end == "exit code 3"
    assert 0 < max(pauses) <= 0.01
    assert max(pauses) > 0.005


def test_one_that_was_healthy_dies_for_the_first_time_again(
    start: Start, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "HEALTHY_SECONDS", -1.0)
    monkeypatch.setattr(supervisor, "BACKOFF", (600.0, 600.0))
    running = start(sh("a", "exit 3"))
    until(lambda: running.state("a").restarts >= 3)


def test_one_that_cannot_start_ends_all(start: Start, until: Until) -> None:
    running = start(sleeper("b"), sh("a", "echo no such file; exit 2", after=("b",)))
    until(lambda: running.over)
    assert str(running.failed) == "a cannot start (exit code 2): no such file"
    assert ("a", "no such file") in running.lines


def test_why_it_cannot_start_is_what_its_log_calls_an_error(start: Start, until: Until) -> None:
    lines = ('{"level":"error","message":"no model"}', '{"level":"info","message":"bye"}')
    running = start(sh("a", f"echo '{lines[0]}'; echo '{lines[1]}'; exit 2"))
    until(lambda: running.over)
    assert str(running.failed) == "a cannot start (exit code 2): no model"


def test_one_that_once_started_does_not(start: Start, until: Until) -> None:
    running = start(
        sh("a", f"if [ -e again ]; then {READY}; exec sleep 600; fi; touch again; {READY}; exit 2")
    )
    until(lambda: running.state("a").restarts == 1 or running.over)
    assert not running.over or running.failed is not None  # it died before it was seen ready


def test_what_a_dead_one_leaves_is_ended_first(start: Start, until: Until, tmp_path: Path) -> None:
    running = start(sh("a", f"sleep 600 & echo $! >> left; {READY}; wait"))
    until(lambda: running.status.is_ready)
    pid = running.state("a").pid
    assert pid is not None
    left = int((tmp_path / "left").read_text())
    os.kill(pid, signal.SIGKILL)
    until(lambda: running.state("a").restarts == 1 and running.status.is_ready)
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


DEAF = f"trap '' TERM; {READY}; while :; do sleep 0.05; done"


def test_one_that_does_not_end_is_killed(start: Start, until: Until) -> None:
    running = start(sh("a", DEAF, grace=0.2))
    until(lambda: running.status.is_ready)
    running.stop()
    assert running.state("a").last_end == "SIGKILL"
    assert ("a", "does not end in 0 s: it is killed") in running.lines


def test_a_second_stop_kills(start: Start, until: Until) -> None:
    running = start(sh("a", DEAF, grace=600))
    until(lambda: running.status.is_ready)
    running.supervisor.stop()
    until(lambda: running.state("a").state == "stopping")
    running.stop()
    assert running.state("a").last_end == "SIGKILL"


def test_it_ends_when_all_is_done(start: Start, until: Until) -> None:
    running = start(sh("a", "exit 0", once=True), sh("b", "exit 0", once=True, after=("a",)))
    until(lambda: running.over)
    assert running.failed is None
    assert running.status.is_ready


def test_a_process_that_cannot_be_made(
    start: Start, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Watchman, "spawn", refuse)
    running = start(sleeper("a"))
    until(lambda: running.over)
    assert "a cannot be started: [Errno 11]" in str(running.failed)


def test_the_environment_and_the_lines(start: Start, until: Until) -> None:
    script = 'printf "%s\\n" "$GREETING" \'{"event": no JSON\' "[\\"event\\"]"; echo last >&2'
    running = start(sh("a", script, once=True, env={"GREETING": "grüß"}))
    until(lambda: running.over)
    assert running.lines == [
        ("a", "grüß"),
        ("a", '{"event": no JSON'),
        ("a", '["event"]'),
        ("a", "last"),
    ]


def test_words_for_an_end() -> None:
    assert supervisor._words(3) == "exit code 3"
    assert supervisor._words(-9) == "SIGKILL"
    assert supervisor._words(-99) == "signal 99"


def test_no_group_is_taken_for_one() -> None:
    assert not guard.tell(2**22 + 1, 0)
