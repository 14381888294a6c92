"""Several intervals of a deployment: backfills, retries, overlap, what is due."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.deployments import Project, day, interval, trips
from trivet import errors, owners
from trivet.databases import dialects
from trivet.hosts.batch import lease, reading
from trivet.hosts.batch.job import Result
from trivet.hosts.schedule import Interval
from trivet.results import ledger, retention


class Impatient(threading.Event):
    """A stop that nobody waits for; it keeps how long they would have."""

    def __init__(self, after: int = 1000) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._after = after

    def wait(self, timeout: float | None = None) -> bool:
        if timeout:
            self.waits.append(timeout)
            if len(self.waits) >= self._after:
                self.set()
        return self.is_set()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def other_process(project: Project, number: int, owner: str = '{"host": "elsewhere"}') -> None:
    """Let another process hold an interval."""
    project.job().register()
    with project.open_results() as db:
        ledger.claim(
            db,
            project.name,
            (day(number), day(number + 1)),
            project.load().model,
            owner=owner,
            cause="manual",
            now=project.now,
        )


# --- backfill ----------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_backfill_repeats_only_what_failed(project: Project, parallel: int) -> None:
    project.add(*(trips(n, 3) for n in range(1, 6)))
    project.change("UPDATE trips SET a = -1 WHERE trip_id BETWEEN 3000 AND 3999")
    days = [interval(n) for n in range(1, 6)]
    job = project.job()
    job.register()
    told: list[Result] = []

    def run(force: bool = False) -> list[bool | None]:
        results = job.run_all(
            days, cause="backfill", force=force, parallel=parallel, told=told.append
        )
        assert [result.interval for result in results] == days
        return [None if r.outcome is None and not r.error else r.error is None for r in results]

    assert run() == [True, True, False, True, True]
    assert len(told) == 5
    assert isinstance(next(r.error for r in told if r.error), errors.TooManyRejects)
    assert len(project.scores()) == 12
    project.change("UPDATE trips SET a = 1 WHERE a = -1")
    assert run() == [None, None, True, None, None]
    assert len(project.scores()) == 15
    assert run(force=True) == [True] * 5
    assert len(project.scores()) == 15
    assert len(project.runs()) == 11
    assert {run.cause for run in project.runs()} == {"backfill"}


def test_an_interval_that_another_process_runs_does_not_stop_a_backfill(project: Project) -> None:
    project.add(trips(1, 1), trips(2, 1))
    other_process(project, 1)
    results = project.job().run_all([interval(1), interval(2)], cause="backfill", force=False)
    assert isinstance(results[0].error, errors.IntervalBusy)
    assert results[1].outcome is not None


def test_lookback_scores_earlier_intervals_again(project: Project) -> None:
    project.add(*(trips(n, 1) for n in range(1, 5)))
    job = project.job(lookback=2)
    job.register()
    results = job.run_due(interval(2), cause="schedule")
    assert [r.interval for r in results] == [interval(1), interval(2)]  # none before the start
    assert [r.interval for r in job.run_due(interval(4), cause="schedule")] == [
        interval(2),
        interval(3),
        interval(4),
    ]
    assert [run.number for run in project.runs()] == [1, 1, 2, 1, 1]


def test_a_failed_lookback_does_not_stop_the_others(project: Project) -> None:
    project.add(trips(1, 1, a=-1.0), trips(2, 1))
    job = project.job(lookback=1)
    job.register()
    first, second = job.run_due(interval(2), cause="schedule")
    assert isinstance(first.error, errors.TooManyRejects)
    assert second.outcome is not None


# --- overlap -----------------------------------------------------------------------------------


def test_an_interval_that_another_process_holds_is_skipped(project: Project) -> None:
    other_process(project, 1)
    with pytest.raises(errors.IntervalBusy, match=r"toy-scores 2020-01-01.*is being run by"):
        project.job().run(interval(1), cause="manual")
    with pytest.raises(errors.IntervalBusy):
        project.job().run(interval(2), cause="schedule", alone=True)
    assert project.states() == ["running"]
    project.job().run(interval(2), cause="manual")
    assert project.states() == ["running", "succeeded"]


@pytest.mark.parametrize("force", [False, True])
def test_a_queued_run_waits_for_the_other(project: Project, force: bool) -> None:
    project.add(trips(1, 1))
    other_process(project, 1)

    class Waiting(Impatient):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout and len(self.waits) == 1:  # the other one publishes while this one waits
                with project.open_results() as db:
                    found = ledger.Attempt(1, 1, project.name, day(1), day(2))
                    ledger.publish(db, found, ledger.Tally(), project.now)
            return super().wait(timeout)

    project.stop = Waiting()
    outcome = project.job(overlap="queue").run(interval(1), cause="manual", force=force)
    assert (outcome is not None) is force
    assert len(project.stop.waits) == 2
    assert project.states() == ["succeeded"] * (1 + force)


def test_a_queued_run_can_be_stopped(project: Project) -> None:
    other_process(project, 1)
    project.stop = Impatient(after=3)
    with pytest.raises(errors.RunStopped, match="toy-scores: stopped"):
        project.job(overlap="queue").run(interval(1), cause="manual")
    assert project.states() == ["running"]


def test_the_interval_of_a_process_that_is_gone_is_run_again(project: Project) -> None:
    project.add(trips(1, 1))
    gone = owners.me("x").replace('"pid": ', '"pid": 99999')
    other_process(project, 1, owner=gone)
    project.job().run(interval(1), cause="manual")
    assert project.states() == ["killed", "succeeded"]


def test_no_process_runs_what_another_has_just_published(project: Project) -> None:
    """Both found it due; the one that comes second finds out in the moment of its claim."""
    project.add(trips(1, 1))
    first, second = project.job(), project.job()
    first.register()
    assert first.due(day(1)) == second.due(day(1))
    assert first.run(interval(1), cause="schedule", force=False) is not None
    assert second.run(interval(1), cause="schedule", force=False) is None
    assert project.states() == ["succeeded"]


# --- what passes by itself ---------------------------------------------------------------------


class Flaky:
    """A source that cannot be reached the first times."""

    def __init__(self, times: int, error: type[Exception] = errors.TransientError) -> None:
        self.times = times
        self.error = error
        from trivet.databases import connect

        self._connect = connect

    def __call__(self, *arguments: Any, **how: Any) -> Any:
        if self.times:
            self.times -= 1
            raise self.error("the cable is out")
        return self._connect(*arguments, **how)


def test_transient_errors_are_retried_with_backoff(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add(trips(1, 2))
    monkeypatch.setattr("trivet.hosts.batch.run.connect", Flaky(4))
    project.stop = stop = Impatient()
    job = project.job(retry_for="1m")
    job.register()
    job.run(interval(1), cause="manual")
    assert project.states() == ["failed"] * 4 + ["succeeded"]
    assert len({run.owner for run in project.runs()}) == 1
    pauses = [pause for pause in stop.waits if pause != 15.0]
    assert all(later > earlier for earlier, later in pairwise(pauses))
    assert len(project.scores()) == 2


def test_transient_errors_are_given_up_after_a_while(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add(trips(1, 2))
    monkeypatch.setattr("trivet.hosts.batch.run.connect", Flaky(1000))
    project.stop = Impatient()
    job = project.job(retry_for="5s", retries=1, retry_delay="0s")
    job.register()
    with pytest.raises(errors.TransientError, match="the cable is out"):
        job.run(interval(1), cause="manual")
    assert 3 <= len(project.runs()) <= 6
    # All attempts of that run are one failure, so the schedule still has its one retry.
    assert interval(1) in job.due(day(1))


def test_a_locked_results_database_is_waited_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add(trips(1, 2))
    job = project.job(retry_for="1m")
    job.register()
    impatient = dataclasses.replace(
        dialects.of("sqlite://"), on_connect=lambda *_: ["PRAGMA busy_timeout = 1"]
    )
    monkeypatch.setitem(dialects._KNOWN, "sqlite", impatient)
    with ExitStack() as held:
        db = held.enter_context(project.open_results())
        held.enter_context(db.transaction())

        class Releasing(Impatient):
            def wait(self, timeout: float | None = None) -> bool:
                if timeout:
                    held.pop_all().close()
                return super().wait(timeout)

        project.stop = Releasing()
        project.job(retry_for="1m").run(interval(1), cause="manual")
    assert project.states() == ["succeeded"]


def test_other_errors_are_not_retried(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.hosts.batch.run.connect", Flaky(1, errors.QueryError))
    job = project.job(retry_for="1m")
    job.register()
    with pytest.raises(errors.QueryError):
        job.run(interval(1), cause="manual")
    assert project.states() == ["failed"]


def test_a_connection_lost_when_everything_is_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add(trips(1, 2))
    publish, lost = ledger.publish, [True]

    def lose_once(*arguments: Any) -> None:
        if lost:
            lost.clear()
            raise errors.TransientError("the server was restarted")
        publish(*arguments)

    monkeypatch.setattr(ledger, "publish", lose_once)
    project.stop = Impatient()
    project.score(1, retry_for="1m")
    assert project.states() == ["failed", "succeeded"]
    assert project.rows("SELECT count(*) AS n FROM predictions_toy_scores") == [{"n": 2}]


def test_a_run_that_ends_while_the_results_are_away(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger cannot be told, so its lease runs out; the same process may go on at once."""
    project.add(trips(1, 2))
    job = project.job(retry_for="1m")
    job.register()
    project.stop = Impatient()

    def away(*_: Any) -> None:
        raise errors.TransientError("no route to host")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "abandon", away)
        patched.setattr("trivet.hosts.batch.run.connect", Flaky(1))
        project.job(retry_for="1m").run(interval(1), cause="manual")
    first, second = project.runs()
    assert (first.state, first.error) == ("failed", "the connection was lost")
    assert second.state == "succeeded"


def test_a_sweep_that_fails_does_not_fail_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise errors.QueryError("disk I/O error")

    project.add(trips(1, 2))
    monkeypatch.setattr(retention, "sweep", broken)
    project.score(1)
    assert project.states() == ["succeeded"]


def test_a_full_disk_for_duplicates_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    project.add(trips(1, 20), trips(1, 20))
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 5)
    monkeypatch.setattr(reading._Aside, "put", full)
    with pytest.raises(errors.RunError, match=r"No space left.*set TMPDIR"):
        project.score(1)
    assert project.states() == ["failed"]


# --- stops and losses ----------------------------------------------------------------------------


def test_a_stopped_run_is_given_back(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 2)
    project.add(trips(1, 10))
    project.progress = lambda _: project.stop.set()
    job = project.job()
    job.register()
    with pytest.raises(errors.RunStopped, match="toy-scores 2020-01-01: stopped"):
        job.run(interval(1), cause="schedule")
    assert project.states() == ["stopped"]
    with pytest.raises(errors.RunStopped):
        job.run(interval(1), cause="schedule")
    assert project.states() == ["stopped"]  # nothing more was begun
    project.stop.clear()
    assert job.due(day(1))[0] == interval(1)


def test_a_stop_cuts_a_slow_query(tmp_path: Path, postgres_url: str) -> None:
    project = Project(tmp_path, source=postgres_url)
    project.add(trips(1, 3))
    query = "SELECT trip_id, a, n, city, note, pg_sleep(600)::text FROM trips"
    job = project.job(query=query)
    job.register()
    caught: list[BaseException] = []

    def run() -> None:
        try:
            job.run(interval(1), cause="manual")
        except errors.RunStopped as stopped:
            caught.append(stopped)

    thread = threading.Thread(target=run)
    thread.start()
    with project.open_source() as db:
        asleep = (
            "SELECT count(*) AS n FROM pg_stat_activity "
            "WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )
        while not db.rows(asleep)["n"][0].as_py():
            pass
    project.stop.set()
    thread.join(60)
    assert caught
    assert project.states() == ["stopped"]


def test_a_run_that_was_declared_dead_publishes_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivet.databases.BATCH_ROWS", 2)
    project.add(trips(1, 10))

    def declare(_: Any) -> None:
        with project.open_results() as db:
            db.execute("UPDATE trivet_runs SET state = 'killed' WHERE state = 'running'")

    project.progress = declare
    with pytest.raises(errors.RunLost, match="declared dead"):
        project.score(1)
    assert project.states() == ["killed"]
    assert project.scores() == []


@pytest.mark.parametrize("away", [False, True])
def test_a_lease_notices_that_it_is_lost(
    project: Project, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    other_process(project, 1)
    attempt = ledger.Attempt(1, 1, project.name, day(1), day(2))
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.001)
    if away:
        monkeypatch.setattr(ledger, "LEASE_SECONDS", 0.0)
    else:
        with project.open_results() as db:
            ledger.abandon(db, attempt, "failed", ledger.Tally(), project.now, "")

    def connect() -> Any:
        if away:
            raise errors.ResultsTooNew("upgraded meanwhile")
        return project.open_results()

    with lease.Lease(attempt, connect) as held:
        held._thread.join(60)
    assert held.lost


def test_a_lease_is_prolonged(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    other_process(project, 1)
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.001)
    beats = threading.Semaphore(0)
    heartbeat = ledger.heartbeat

    def counted(*arguments: Any) -> bool:
        alive = heartbeat(*arguments)
        beats.release()
        return alive

    monkeypatch.setattr(ledger, "heartbeat", counted)
    attempt = ledger.Attempt(1, 1, project.name, day(1), day(2))
    with lease.Lease(attempt, project.open_results) as held:
        for _ in range(3):
            assert beats.acquire(timeout=60)
        assert not held.lost


# --- what is due ---------------------------------------------------------------------------------


def starts(found: list[Interval]) -> list[int]:
    return [each.start.day for each in found]


@pytest.mark.parametrize(
    ("catchup", "since", "expected"),
    [
        ("all", day(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("latest", day(5), [10]),
        ("none", day(9) + dt.timedelta(hours=3), [9, 10]),
        ("none", day(11), []),
    ],
)
def test_catchup(project: Project, catchup: str, since: dt.datetime, expected: list[int]) -> None:
    assert starts(project.job(catchup=catchup).due(since)) == expected


@pytest.mark.parametrize("catchup", ["latest", "none"])
def test_without_a_start_the_interval_under_way_is_due_when_it_ends(
    project: Project, catchup: str
) -> None:
    job = project.job(catchup=catchup, start=None)
    since = project.now + dt.timedelta(hours=5)
    project.now = since + dt.timedelta(minutes=1)
    assert starts(job.due(since)) == ([10] if catchup == "latest" else [])
    project.now += dt.timedelta(days=1)
    assert starts(job.due(since)) == [11]


def test_catchup_has_a_limit_and_a_delay(project: Project) -> None:
    assert starts(project.job(catchup_limit=3).due(day(1))) == [1, 2, 3]
    assert starts(project.job(catchup_limit=100, delay="36h").due(day(1)))[-1] == 8


def test_what_was_pruned_is_not_due_again(project: Project) -> None:
    job = project.job(catchup="all")
    kept = dataclasses.replace(job.around, keep_for=dt.timedelta(days=3))
    assert starts(dataclasses.replace(job, around=kept).due(day(1))) == starts(job.due(day(1)))[-3:]


@pytest.mark.parametrize(("retries", "due_again"), [(0, 0), (1, 1), (2, 2)])
def test_the_schedule_retries_a_failed_interval_so_often(
    project: Project, retries: int, due_again: int
) -> None:
    project.add(trips(10, 1, a=-1.0))
    job = project.job(retries=retries, retry_delay="5m", catchup="latest")
    job.register()
    for _ in range(retries + 1):
        assert starts(job.due(day(1))) == [10]
        with pytest.raises(errors.TooManyRejects):
            job.run(interval(10), cause="schedule", force=False)
        assert starts(job.due(day(1))) == []  # not before retry_delay has passed
        project.now += dt.timedelta(minutes=5)
    assert starts(job.due(day(1))) == []
    assert len(project.runs()) == due_again + 1


def test_the_latest_interval(project: Project) -> None:
    assert project.job().latest() == interval(10)
    assert project.job(delay="1h").latest() == interval(9)
    assert project.job(start=dt.date(2020, 1, 11)).latest() is None
