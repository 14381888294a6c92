"""The guard, and that nothing outlives whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trivet.up import guard
from trivet.up.watchman import Watchman

Until = Callable[[Callable[[], bool]], None]

SLEEP = ("sh", "-c", "echo awake; exec sleep 600")


def gone(pid: int) -> bool:
    """Say whether nothing runs under a process id; a zombie does not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def lock(tmp_path: Path) -> int:
    return os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)


def test_groups_are_counted() -> None:
    assert guard.watch(["+1\n", "+2\n", "nonsense\n", "-1\n", "-7\n", "+3"]) == {2, 3}


def test_one_that_does_not_listen_is_killed() -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", deaf], stdout=subprocess.PIPE, process_group=0
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        guard.end({process.pid}, 0.05)
        assert process.wait() == -signal.SIGKILL
    assert not guard.tell(process.pid, 0)


def test_what_is_started_is_known_to_the_guard(tmp_path: Path, lock: int) -> None:
    with Watchman(lock) as watchman:
        started = watchman.spawn(("/bin/echo", "$HOME", "two words"), tmp_path, {})
        out, _ = started.communicate()
        assert out == b"$HOME two words\n"
        watchman.forget(started.pid)
    os.close(lock)


def test_a_guard_that_died_is_replaced(tmp_path: Path, lock: int, until: Until) -> None:
    with Watchman(lock) as watchman:
        process = watchman.spawn(SLEEP, tmp_path, {})
        assert process.stdout is not None
        process.stdout.readline()  # it has told the first guard
        first = watchman._guard
        assert first is not None
        first.kill()
        until(lambda: first.poll() is not None)
        watchman.forget(0)  # told to nobody
        watchman.look()
        second = watchman._guard
        assert second is not None
        assert second.pid != first.pid
        reaper = threading.Thread(target=process.wait)  # to the guard, a zombie is still there
        reaper.start()
    # Its input has ended: the second guard knows of what the first was told.
    reaper.join()
    assert process.returncode == -signal.SIGTERM
    process.stdout.close()
    os.close(lock)


KILLED = """
import os, signal, sys
from pathlib import Path
from trivet.up.watchman import Watchman
with Watchman(os.open("lock", os.O_CREAT | os.O_RDWR)) as watchman:
    for _ in range(int(sys.argv[1])):
        process = watchman.spawn(["sh", "-c", "sleep 600 & echo $$ >> pids; wait"], Path(), {})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_outlives_one_that_was_killed_while_it_started_processes(
    tmp_path: Path, until: Until
) -> None:
    """Whether they had told the guard by then or not: they do before they run."""
    ended = subprocess.run([sys.executable, "-c", KILLED, "5"], cwd=tmp_path, check=False)
    assert ended.returncode == -signal.SIGKILL

    def nothing_left() -> bool:
        return not [p for p in psutil.process_iter(["cwd", "status"]) if _here(p, tmp_path)]

    until(nothing_left)


def _here(process: psutil.Process, folder: Path) -> bool:
    return bool(
        process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE
    )
