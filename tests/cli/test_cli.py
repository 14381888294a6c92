"""The command line: what it says, what it ends with, and never a traceback."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from support.deployments import Project, day, trips
from trivet import errors
from trivet.cli import main, reporting, wiring
from trivet.cli.exits import exit_code
from trivet.results import ledger
from trivet.results.statements import migrations


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.add(*(trips(n, 20) for n in (1, 2, 3)))
    return project


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the whole program in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["trivet", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


SPAN = ("--from", "2020-01-01", "--to", "2020-01-03")

# --- exit codes, in processes of their own -------------------------------------------------------


def test_a_whole_story_in_processes_of_its_own(project: Project) -> None:
    code, out, err = project.run("score", "toy-scores", "--interval", "2020-01-01")
    assert (code, out) == (0, "")
    [event] = lines(err)
    assert event | {"time": "", "process": 0, "seconds": {}} == {
        "time": "",
        "level": "info",
        "logger": "trivet.run",
        "process": 0,
        "message": event["message"],
        "event": "published",
        "deployment": "toy-scores",
        "interval_start": "2020-01-01T00:00:00Z",
        "interval_end": "2020-01-02T00:00:00Z",
        "attempt": 1,
        "read": 20,
        "scored": 20,
        "rejected": 0,
        "seconds": {},
    }
    project.change("UPDATE trips SET a = -1 WHERE trip_id BETWEEN 3000 AND 3999")
    code, out, err = project.run("backfill", "toy-scores", *SPAN)
    assert code == 1
    assert out.splitlines() == [
        "toy-scores: 1 intervals scored, 1 published already, 1 failed",
        "the same command runs only the failed ones again; see: trivet runs toy-scores",
    ]
    assert [event["event"] for event in lines(err)] == ["published", "failed"]
    assert lines(err)[1]["error"] == "TooManyRejects"


def test_a_mistake_of_the_user_is_one_message(project: Project, tmp_path: Path) -> None:
    code, _, err = project.run("score", "toy-score")
    assert (code, "did you mean 'toy-scores'?" in err, "Traceback" in err) == (2, True, False)
    (tmp_path / "trivet.toml").write_text("[batch")
    code, _, err = project.run("runs")
    assert (code, err.count("\n"), "not valid TOML" in err) == (2, 1, True)


def test_a_pipe_that_nobody_reads_is_no_traceback(project: Project) -> None:
    project.run("backfill", "toy-scores", *SPAN)
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "trivet", "-f", str(project.root), "runs", "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writing)
        assert "Traceback" not in process.communicate(timeout=60)[1]


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys, runpy; sys.argv = ['trivet', '--help']\n"
        "try: runpy.run_module('trivet', run_name='__main__')\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'pyarrow', 'numpy', 'adbc_driver_manager', 'rich', 'psutil', 'tenacity'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Put one trained model to work" in done.stdout


def test_bars_on_a_terminal(project: Project) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trivet", "-f", str(project.root)]
    with subprocess.Popen(
        [*command, "score", "toy-scores", "--interval", "2020-01-01"],
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:
            pass  # Linux says so when the other side is closed
        assert process.wait(60) == 0
    os.close(ours)
    assert b"toy-scores 2020-01-01: 20 scored, 0 rejected (0.0%) in " in seen


# --- exit codes, in this process -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TooManyRejects(""), 1),
        (errors.PredictionError(""), 1),
        (errors.QueryError(""), 1),
        (errors.SettingsError(""), 2),
        (errors.UntrustedModel(""), 2),
        (errors.SchemaError(""), 2),
        (errors.ResultsOutdated(""), 2),
        (errors.IntervalBusy(""), 3),
        (errors.TransientError(""), 4),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "toy-score"), "no batch deployment 'toy-score'; did you mean 'toy-scores'?"),
        (("score", "x", "--interval", "2020"), "(there are: toy-scores)"),
        (("score",), "Missing argument 'NAME'"),
        (("scroe",), "No such command 'scroe'"),
        (("backfill", "toy-scores", "--from", "2020-01-01"), "Missing option '--to'"),
        (("backfill", "toy-scores", *SPAN, "--parallel", "0"), "0 is not in the range"),
        (("backfill", "toy-scores", "--from", "2020-01", "--to", "2999"), "is not over before"),
        (("score", "toy-scores", "--interval", "2999-01-01"), "is not over before 2999-01-02"),
        (("schedule", "nothing"), "there is no batch deployment 'nothing'"),
        (("runs", "toy_scores"), "did you mean 'toy-scores'?"),
        (("rejects", "nothing"), "there is no batch deployment 'nothing'"),
        (("results", "prune"), 'set keep_for = "400d" in [results]'),
        (("results", "prune", "--keep-for", "5"), "'5' is no length of time"),
        (("results", "prune", "nothing", "--keep-for", "5d"), "there is no deployment 'nothing'"),
    ],
)
def test_a_command_that_makes_no_sense(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert run_main(monkeypatch, "-f", str(project.root), *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "toy-scores", "--interval", "April"), "'April' does not name an interval"),
        (("score", "toy-scores", "--interval", "2020"), "2020 names 366 intervals"),
        (("backfill", "toy-scores", "--from", "2020-02", "--to", "2020-01"), "lies after --to"),
        (("rejects", "toy-scores", "--interval", "x"), "'x' does not name an interval"),
    ],
)
def test_an_interval_that_cannot_be_understood(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert run_main(monkeypatch, "-f", str(project.root), *arguments) == 2
    assert words in capsys.readouterr().err


def test_no_project_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "runs") == 2
    assert capsys.readouterr().err == (
        "error: trivet.toml: there is no such file; "
        "go to your project's folder or name it with --file\n"
    )
    assert run_main(monkeypatch, "--log", "text", "score", "x") == 2
    assert capsys.readouterr().err.startswith("error: trivet.toml: there is no such file")
    assert run_main(monkeypatch, "--log", "json", "score", "x") == 2
    [event] = lines(capsys.readouterr().err)
    assert (event["level"], event["error"]) == ("error", "SettingsError")


def test_interrupted(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "runs", interrupted)
    assert run_main(monkeypatch, "-f", str(project.root), "runs") == 130


def test_nothing_to_schedule(project: Project) -> None:
    (project.root / "trivet.toml").write_text("")
    done = project.invoke("schedule")
    assert done.exit_code == 2
    assert "has no [batch.NAME] section to schedule" in done.output


def test_nothing_is_over_yet(project: Project) -> None:
    project.write(start=day(1).replace(year=2999), catchup="latest")
    done = project.invoke("score", "toy-scores")
    assert done.exit_code == 2
    assert "no interval of toy-scores is over since its start (2999-01-01" in done.output


def test_a_model_that_is_not_trusted(project: Project) -> None:
    file = project.root / "trivet.toml"
    file.write_text(file.read_text().replace("trust = true", "trust = false"))
    done = project.invoke("score", "toy-scores", "--interval", "2020-01-01")
    assert done.exit_code == 2
    assert "set trust = true in its [models] section" in lines(done.stderr)[0]["message"]


# --- score, backfill, schedule -------------------------------------------------------------------


def test_score_without_an_interval_takes_the_latest_once(project: Project) -> None:
    project.write(lookback=1)
    first = lines(project.invoke("score", "toy-scores").stderr)
    assert [event["event"] for event in first] == ["published", "published"]
    [again] = lines(project.invoke("score", "toy-scores").stderr)
    assert again["event"] == "skipped"
    assert "published already (--force runs it again)" in again["message"]
    forced = lines(project.invoke("score", "toy-scores", "--force").stderr)
    assert [event["event"] for event in forced] == ["published", "published"]
    assert len(project.runs()) == 4


def test_score_tells_a_failure_and_a_warning(project: Project) -> None:
    done = project.invoke("--log", "text", "score", "toy-scores", "--interval", "2020-01-09")
    assert done.exit_code == 0
    assert "0 scored, 0 rejected in" in done.stderr
    assert "warning: the query returned no row" in " ".join(done.stderr.split())
    project.write(allow_empty=False)
    done = project.invoke("--log", "text", "score", "toy-scores", "--interval", "2020-01-09")
    assert done.exit_code == 1
    assert "toy-scores 2020-01-09: failed: the query returned no row" in done.stderr


def test_an_interval_held_by_another_process(project: Project) -> None:
    project.job().register()
    with project.open_results() as db:
        ledger.claim(
            db,
            project.name,
            (day(1), day(2)),
            project.load().model,
            owner='{"pid": 7, "host": "elsewhere/x"}',
            cause="manual",
            now=project.now,
        )
    done = project.invoke("score", "toy-scores", "--interval", "2020-01-01")
    assert done.exit_code == 3
    [event] = lines(done.stderr)
    assert event["event"] == "busy"
    assert "is being run by process 7 on elsewhere" in event["message"]


def test_backfill_in_parallel_and_forced(project: Project) -> None:
    done = project.invoke("backfill", "toy-scores", *SPAN, "--parallel", "2")
    assert done.exit_code == 0
    assert done.stdout == "toy-scores: 3 intervals scored, 0 published already, 0 failed\n"
    done = project.invoke("backfill", "toy-scores", *SPAN, "--force")
    assert done.stdout == "toy-scores: 3 intervals scored, 0 published already, 0 failed\n"
    done = project.invoke("backfill", "toy-scores", *SPAN)
    assert done.stdout == "toy-scores: 0 intervals scored, 3 published already, 0 failed\n"


def test_schedule_once(project: Project) -> None:
    project.write(catchup="latest")
    assert project.invoke("schedule", "--once").exit_code == 0
    assert project.states() == ["succeeded"]
    project.write(allow_empty=False)
    with project.open_results() as db:
        db.execute("DELETE FROM trivet_published")
    assert project.invoke("schedule", "--once", "toy-scores").exit_code == 1


@pytest.mark.parametrize("log", ["json", "text"])
def test_progress(project: Project, monkeypatch: pytest.MonkeyPatch, log: str) -> None:
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 5)
    monkeypatch.setattr(reporting, "LINE_SECONDS", 0.0)
    done = project.invoke("--log", log, "score", "toy-scores", "--interval", "2020-01-01")
    assert done.exit_code == 0
    if log == "json":
        rows = [e["rows"] for e in lines(done.stderr) if e["event"] == "progress"]
        assert rows == [5, 10, 15, 20]
    else:
        assert "toy-scores 2020-01-01: 20 scored" in done.stderr


# --- runs, rejects, results ----------------------------------------------------------------------


def test_runs(project: Project) -> None:
    done = project.invoke("runs")
    assert done.output == "no runs yet; begin with: trivet score NAME\n"
    project.invoke("backfill", "toy-scores", *SPAN)
    project.change("UPDATE trips SET a = -1")
    project.invoke("score", "toy-scores", "--interval", "2020-01-02")
    table = project.invoke("runs", "toy-scores").output.splitlines()
    assert [line.split()[:4] for line in table[1:]] == [
        ["4", "toy-scores", "2020-01-02", "failed"],
        ["3", "toy-scores", "2020-01-03", "published"],
        ["2", "toy-scores", "2020-01-02", "published"],
        ["1", "toy-scores", "2020-01-01", "published"],
    ]
    assert "20 of 20 rows were rejected" in table[1]
    newest, _ = lines(project.invoke("runs", "--json", "--limit", "2").output)
    assert newest["attempt"] == 4
    assert newest["interval_start"] == "2020-01-02T00:00:00Z"
    assert newest["model_digest"] == project.load().model.digest
    assert newest["rows_rejected"] == 20


def test_runs_of_a_deployment_or_a_schedule_that_is_no_more(project: Project) -> None:
    project.invoke("score", "toy-scores", "--interval", "2020-01-01")
    project.write(schedule="@monthly")
    assert " 2020-01-01T00:00:00+00:00 " in project.invoke("runs").output
    project.name = "renamed"
    project.write()
    assert " 2020-01-01T00:00Z " in project.invoke("runs").output


def test_rejects(project: Project) -> None:
    assert project.invoke("rejects", "toy-scores").output == "toy-scores: no rejects\n"
    project.change("UPDATE trips SET city = 'rome' WHERE trip_id = 1007")
    project.change("UPDATE trips SET a = -1 WHERE trip_id IN (2001, 2002)")
    project.invoke("backfill", "toy-scores", *SPAN)
    output = project.invoke("rejects", "toy-scores").output
    assert [line.split()[:3] for line in output.splitlines()[1:3]] == [
        ["2", "a", "range"],
        ["1", "city", "not_allowed"],
    ]
    assert '2020-01-01  {"trip_id":1007}  city   not_allowed' in output
    found = lines(
        project.invoke("rejects", "toy-scores", "--json", "--interval", "2020-01-01").output
    )
    assert [(r["row_key"], r["code"]) for r in found] == [('{"trip_id":1007}', "not_allowed")]


def test_results_upgrade(project: Project) -> None:
    newest = len(migrations("sqlite"))
    assert project.invoke("results", "upgrade").output == (
        f"upgraded the results database from layout 0 to {newest}\n"
    )
    assert project.invoke("results", "upgrade").output == (
        f"the results database has layout {newest} already\n"
    )


def test_a_results_database_of_a_newer_program(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.invoke("results", "upgrade")
    with project.open_results() as db:
        db.execute("INSERT INTO trivet_schema (version) VALUES (99)")
    assert run_main(monkeypatch, "-f", str(project.root), "runs") == 2
    assert "upgrade Trivet: pip install --upgrade trivet" in capsys.readouterr().err


def test_results_prune(project: Project) -> None:
    project.invoke("backfill", "toy-scores", *SPAN)
    assert "0 intervals" in project.invoke("results", "prune", "--keep-for", "36500d").output
    done = project.invoke("results", "prune", "toy-scores", "--keep-for", "1d")
    assert done.output.startswith("toy-scores: 3 intervals that ended before ")
    assert project.scores() == []
    file = project.root / "trivet.toml"
    file.write_text(file.read_text().replace("[results]", '[results]\nkeep_for = "1d"'))
    assert "0 intervals" in project.invoke("results", "prune").output


def test_version() -> None:
    project = subprocess.run(
        [sys.executable, "-m", "trivet", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "trivet" in project.stdout


@pytest.mark.parametrize(
    ("number", "command", "code"),
    [
        (signal.SIGTERM, ("score", "toy-scores", "--interval", "2020-01-01"), 143),
        (signal.SIGINT, ("backfill", "toy-scores", *SPAN), 130),
        (signal.SIGTERM, ("schedule",), 0),
    ],
)
def test_signals(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    command: tuple[str, ...],
    code: int,
) -> None:
    """As in tests/hosts/test_batch_processes.py, here in this process."""
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 5)
    stops: list[threading.Event] = []
    job_of = wiring.job_of

    def remembered(project: Any, name: str, stop: threading.Event, progress: Any) -> Any:
        stops.append(stop)
        return job_of(project, name, stop, progress)

    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), number)
        assert stops[0].wait(60)

    before = signal.getsignal(number)
    monkeypatch.setattr(wiring, "job_of", remembered)
    monkeypatch.setattr(reporting._Log, "progress", interrupt)
    done = project.invoke(*command)
    assert done.exit_code == code
    assert f"{number.name}: stopping" in [event["message"] for event in lines(done.stderr)]
    assert project.states() == ["stopped"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("number", "ended"),
    [(signal.SIGTERM, SystemExit(143)), (signal.SIGINT, KeyboardInterrupt("interrupted"))],
)
def test_a_signal_in_a_callback_of_kafka_still_ends_the_command(
    number: signal.Signals, ended: BaseException
) -> None:
    before = signal.getsignal(number)
    told: list[object] = []

    def once(error: object) -> None:
        told.append(error)
        if len(told) == 1:  # later there is no handler any more
            os.kill(os.getpid(), number)

    consumer = Consumer(
        {"bootstrap.servers": "127.0.0.1:1", "group.id": "group", "error_cb": once},
        logger=logging.getLogger("quiet"),
    )

    def look() -> None:
        while True:
            consumer.poll(1.0)

    with pytest.raises(type(ended)) as raised, wiring.unwound_by_signals():
        look()
    assert raised.value.args == ended.args
    assert signal.getsignal(number) is before
    consumer.close()


def test_a_class_beside_the_project_file(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    source = Path(sys.modules["support.toy"].__file__ or "").read_text(encoding="utf-8")
    (project.root / "toy_beside_project.py").write_text(source, encoding="utf-8")
    file = project.root / "trivet.toml"
    file.write_text(file.read_text().replace('"models/toy"', '"toy_beside_project:Tripled"'))
    done = project.invoke("backfill", "toy-scores", *SPAN)
    assert done.exit_code == 0
    assert len(project.scores()) == 60
