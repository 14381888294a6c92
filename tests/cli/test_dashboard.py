"""``trivet dashboard`` and ``trivet report`` as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.dashboards import BATCH, SERVICE
from trivet.cli import trivet as command

pytest.importorskip("vl_convert")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.dashboards import filled

    root = tmp_path_factory.mktemp("project")
    url = filled(f"sqlite:///{root / 'results.db'}")
    (root / "trivet.toml").write_text(f"[results]\nurl = {json.dumps(url)}\n")
    return root


def invoke(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--file", str(project), *arguments])


def run(project: Path, *arguments: str) -> tuple[int, str]:
    """Run a command in a process of its own: that of the dashboard leaves pandas out."""
    command = [sys.executable, "-m", "trivet", "--file", str(project), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(project: Path, number: int) -> None:
    arguments = ["dashboard", "--port", "0", "--as-of", "2026-02-10T06:00"]
    with subprocess.Popen(
        [sys.executable, "-m", "trivet", "--file", str(project), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(address) as answer:
            assert BATCH in answer.read().decode()
        with urllib.request.urlopen(f"{address}live") as stream:
            stream.readline()
            process.send_signal(number)
            assert process.wait(60) == 0


def test_a_port_that_is_taken_is_named(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = run(project, "dashboard", "--port", port)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said


def test_a_moment_that_is_none_is_refused(project: Path) -> None:
    code, said = run(project, "dashboard", "--as-of", "soon")
    assert code == 2
    assert "'soon' is no date or moment" in said


def test_a_report_is_one_file_without_script(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    done = invoke(project, "report", BATCH, "--interval", "2026-01-20", "--output", str(file))
    assert done.exit_code == 0, done.output
    text = file.read_text(encoding="utf-8")
    assert text.count("<svg") >= 4
    assert "<script" not in text
    assert "2026-01-20" in text
    assert "churn 1" in text
    assert 'src="' not in text


def test_a_report_of_a_failed_interval_tells_why(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    invoke(project, "report", BATCH, "--interval", "2026-01-13", "--output", str(file))
    assert "the source &lt;refused&gt; the query" in file.read_text(encoding="utf-8")


def test_a_report_can_be_a_picture(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.png"
    done = invoke(project, "report", SERVICE, "--interval", "2026-02-09", "--output", str(file))
    assert done.exit_code == 0, done.output
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_report_is_of_the_newest_interval_and_named_by_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(project, "report", BATCH).exit_code == 0
    assert (tmp_path / f"{BATCH}-2026-02-09.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none",), "there is no deployment 'none'"),
        ((BATCH, "--interval", "2026-01-21"), f"trivet score {BATCH} --interval 2026-01-21"),
        ((BATCH, "--interval", "soon"), "does not name an interval"),
        ((BATCH, "--output", "r.pdf"), "neither in .html nor in .png"),
    ],
)
def test_what_cannot_be_reported_is_told(
    project: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = invoke(project, "report", *arguments)
    assert done.exit_code != 0
    assert says in done.output + str(done.exception)


def test_it_is_run_and_stopped_within_a_process(
    project: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    done = invoke(project, "dashboard", "--as-of", "2026-02-10T06:00+00:00", "--port", "65536")
    assert done.exit_code == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = invoke(project, "dashboard", "--port", port)
        assert "cannot listen" in done.output
        assert "is no date or moment" in invoke(project, "dashboard", "--as-of", "x").output

    said: list[str] = []

    def answers() -> bool:
        where = f"http://127.0.0.1:{port}/"
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(where) as answer:
            said.append(answer.read().decode())
        return bool(said)

    def stop() -> None:
        try:
            until(answers)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    done = invoke(project, "dashboard", "--port", port, "--as-of", "2026-02-10")
    thread.join()
    assert done.exit_code == 0, done.output
    assert BATCH in said[0]
