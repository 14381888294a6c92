"""The daemon: what is due is run, once, by one process at a time, until it is told to stop."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import Any

import pytest

from support.deployments import NOW, Project, day, interval, trips
from trivet import errors
from trivet.hosts.batch.job import Job, Result
from trivet.hosts.batch.scheduler import run_schedule
from trivet.results import ledger


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class Told:
    """What a scheduler tells, in words."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, job: Job, result: Result) -> None:
        how = "failed" if result.error else "scored" if result.outcome else "skipped"
        self.lines.append(f"{result.interval.start:%d} {how}")


class Nights(threading.Event):
    """A stop on whose waits the days pass; set when the last one is over."""

    def __init__(self, project: Project, days: int) -> None:
        super().__init__()
        self.project = project
        self.days = days
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        if timeout and threading.current_thread().name.startswith("schedule"):
            self.waits.append(timeout)
            self.days -= 1
            self.project.now += dt.timedelta(days=1)
            if self.days < 0:
                self.set()
        return self.is_set() or super().wait(0)


def run(project: Project, told: Told, *, once: bool = True, **more: Any) -> int:
    job = project.job(**more)
    job.register()
    return run_schedule([job], since=NOW, stop=project.stop, once=once, told=told)


def test_once_runs_what_is_due_and_ends(project: Project) -> None:
    project.add(*(trips(n, 1) for n in range(1, 11)))
    told = Told()
    assert run(project, told) == 0
    assert told.lines == [f"{n:02d} scored" for n in range(1, 11)]
    assert run(project, told) == 0
    assert len(told.lines) == 10
    assert {r.cause for r in project.runs()} == {"schedule"}


def test_once_goes_on_past_the_limit_of_one_look(project: Project) -> None:
    told = Told()
    run(project, told, catchup_limit=4)
    assert len(told.lines) == 10


def test_a_daemon_runs_each_interval_when_it_is_over(project: Project) -> None:
    project.add(*(trips(n, 1) for n in range(1, 20)))
    project.stop = stop = Nights(project, 3)
    told = Told()
    assert run(project, told, once=False, catchup="none") == 0
    assert told.lines == ["11 scored", "12 scored", "13 scored"]
    assert all(0 < pause <= 60 for pause in stop.waits)


def test_a_failure_is_counted_and_not_repeated_at_once(project: Project) -> None:
    project.add(trips(9, 1, a=-1.0), trips(10, 1))
    told = Told()
    assert run(project, told, retries=5, retry_delay="0s", start=dt.date(2020, 1, 9)) == 2
    # Tried again once, since the second interval was news; then nothing had changed.
    assert told.lines == ["09 failed", "10 scored", "09 failed"]


@pytest.mark.parametrize("once", [True, False])
def test_a_model_that_cannot_be_loaded_fails_the_interval_not_the_scheduler(
    project: Project, once: bool
) -> None:
    loads = [project.load]

    def load() -> Any:
        if loads:
            return loads.pop()()
        raise errors.ChecksumMismatch("models/toy: it was changed after it was saved")

    job = project.job(load_model=load, start=dt.date(2020, 1, 10))
    job.register()
    told = Told()
    project.stop = Nights(project, 1)
    failed = run_schedule([job], since=NOW, stop=project.stop, once=once, told=told)
    assert failed == len(told.lines) == (1 if once else 2)
    assert project.states() == ["failed"] * failed
    assert "it was changed" in str(project.runs()[0].error)


def test_results_that_cannot_be_written_do_not_make_it_spin(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise errors.QueryError("attempt to write a readonly database")

    monkeypatch.setattr(ledger, "claim", refuse)
    project.stop = stop = Nights(project, 2)
    told = Told()
    failed = run(project, told, once=False, start=dt.date(2020, 1, 10))
    assert failed == len(told.lines) == 1 + 2 + 3
    assert len(stop.waits) == 3


@pytest.mark.parametrize("error", [errors.TransientError, errors.ResultsTooNew])
def test_results_that_are_away_are_looked_for_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    project.add(trips(10, 1))
    failures, away = ledger.failures, [True, True]

    def flaky(*arguments: Any) -> Any:
        if away:
            away.pop()
            raise error("away")
        return failures(*arguments)

    monkeypatch.setattr(ledger, "failures", flaky)
    project.stop = Nights(project, 2)
    told = Told()
    assert run(project, told, once=False, start=dt.date(2020, 1, 10), catchup="latest") == 2
    assert told.lines == ["12 scored"]


def test_once_fails_if_the_results_are_away(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise errors.TransientError("away")

    job = project.job()
    job.register()
    monkeypatch.setattr(ledger, "failures", away)
    assert run_schedule([job], since=NOW, stop=project.stop, once=True) == 1


def test_an_interval_that_another_process_runs_is_left_to_it(project: Project) -> None:
    project.job().register()
    with project.open_results() as db:
        ledger.claim(
            db,
            project.name,
            (day(3), day(4)),
            project.load().model,
            owner='{"host": "elsewhere"}',
            cause="manual",
            now=NOW,
        )
    told = Told()
    assert run(project, told) == 0
    assert told.lines == []  # one run of a deployment at a time, manual ones included
    with project.open_results() as db:
        ledger.abandon(
            db, ledger.Attempt(1, 1, "", day(3), day(4)), "stopped", ledger.Tally(), NOW, ""
        )
    run(project, told)
    assert len(told.lines) == 10


def test_a_stop_gives_the_interval_back(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 2)
    project.add(*(trips(n, 5) for n in (1, 2, 3)))
    project.progress = lambda p: project.stop.set() if p.interval == interval(2) else None
    told = Told()
    with pytest.raises(errors.RunStopped, match="due again"):
        run(project, told)
    assert told.lines == ["01 scored"]
    assert project.states() == ["succeeded", "stopped"]
    project.stop.clear()
    project.progress = lambda _: None
    run(project, told)
    assert told.lines[1:] == [f"{n:02d} scored" for n in range(2, 11)]


def test_a_daemon_that_is_stopped_just_ends(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 2)
    project.add(trips(1, 5))
    project.progress = lambda _: project.stop.set()
    told = Told()
    assert run(project, told, once=False) == 0
    assert told.lines == []
    assert project.states() == ["stopped"]


def test_deployments_run_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    projects = [Project(tmp_path / "a"), Project(tmp_path / "b")]
    meeting = threading.Barrier(2, timeout=60)
    jobs = []
    for project in projects:
        project.add(trips(10, 1))
        project.progress = lambda _: print(meeting.wait())
        jobs.append(project.job(start=dt.date(2020, 1, 10)))
        jobs[-1].register()
    assert run_schedule(jobs, since=NOW, stop=threading.Event(), once=True) == 0


def test_a_mistake_of_ours_ends_all_of_it(project: Project) -> None:
    def broken(_: Job, __: Result) -> None:
        raise ZeroDivisionError

    job = project.job(start=dt.date(2020, 1, 10))
    job.register()
    with pytest.raises(ZeroDivisionError):
        run_schedule([job], since=NOW, stop=project.stop, told=broken)
    assert project.stop.is_set()


# --- daylight saving -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "date", "hours"),
    [
        ("America/New_York", dt.date(2019, 3, 10), 23),
        ("America/New_York", dt.date(2019, 11, 3), 25),
        ("Europe/Berlin", dt.date(2019, 3, 31), 23),
        ("Europe/Berlin", dt.date(2019, 10, 27), 25),
    ],
)
def test_an_hourly_deployment_across_a_change_of_the_clock(
    project: Project, zone: str, date: dt.date, hours: int
) -> None:
    calendar = project.job(schedule="@hourly", timezone=zone).settings.calendar
    start, end = calendar.start_of(date), calendar.start_of(date + dt.timedelta(days=1))
    assert end - start == dt.timedelta(hours=hours)
    minutes = [start + dt.timedelta(minutes=10 * i) for i in range(6 * hours)]
    project.add([row | {"at": at} for row, at in zip(trips(1, len(minutes)), minutes, strict=True)])
    project.now = end
    told = Told()
    run(project, told, schedule="@hourly", timezone=zone, start=date)

    runs = project.runs()
    assert len(runs) == len(told.lines) == hours
    assert {(r.state, r.rows_scored) for r in runs} == {("succeeded", 6)}
    assert [r.interval_start for r in runs] == [start + dt.timedelta(hours=i) for i in range(hours)]
    assert all(r.interval_end - r.interval_start == dt.timedelta(hours=1) for r in runs)
    assert project.scores("trip_id") == [(1000 + i,) for i in range(1, 6 * hours + 1)]
