"""The ledger: who runs an interval, what happens to the dead, and which attempt counts."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from support.ledgers import DAY, DEPLOYMENT, NOW, Scene, interval, lineage
from trivet import owners
from trivet.databases import Connection
from trivet.errors import IntervalBusy, RunLost
from trivet.results import ledger, tables
from trivet.results.layout import open_results
from trivet.results.ledger import Attempt, Tally


@pytest.fixture
def scene(results_url: str) -> Iterator[Scene]:
    with Scene.open(results_url) as scene:
        yield scene


def states(db: Connection) -> list[str]:
    return [run.state for run in ledger.runs(db)][::-1]


class TestClaim:
    def test_attempts_are_numbered_within_their_interval(self, scene: Scene) -> None:
        numbers = []
        for day in (0, 0, 1, 0):
            attempt = scene.claim(day)
            numbers.append(attempt.number)
            ledger.abandon(scene.db, attempt, "failed", Tally(), NOW, "why")
        assert numbers == [1, 2, 1, 3]

    def test_a_live_owner_is_respected(self, scene: Scene) -> None:
        scene.claim(0, owner=owners.me("one"))
        with pytest.raises(IntervalBusy, match=r"2026-01-01T00:00Z.*process \d+.*attempt 1"):
            scene.claim(0, owner=owners.me("two"))
        assert scene.claim(1, owner=owners.me("two")).number == 1

    def test_alone_refuses_beside_another_interval(self, scene: Scene) -> None:
        scene.claim(0, owner=owners.me("one"))
        with pytest.raises(IntervalBusy):
            scene.claim(1, owner=owners.me("two"), alone=True)
        assert states(scene.db) == ["running"]

    def test_the_same_owner_begins_anew(self, scene: Scene) -> None:
        owner = owners.me("one")
        first = scene.claim(0, owner=owner)
        second = scene.claim(0, owner=owner)
        assert (first.number, second.number) == (1, 2)
        assert states(scene.db) == ["failed", "running"]
        assert ledger.runs(scene.db)[1].error == "the connection was lost"

    def test_a_dead_process_is_replaced_at_once(self, scene: Scene) -> None:
        code = (
            "import sys; from trivet.owners import me; print(me('x'), flush=True); sys.stdin.read()"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None
            owner = child.stdout.readline().strip()
            dead = scene.claim(0, owner=owner)
            with pytest.raises(IntervalBusy):
                scene.claim(0)
            os.kill(child.pid, signal.SIGKILL)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie is dead too
            assert not owners.is_alive(owner)
            zombies = scene.claim(0)
        finally:
            child.kill()
            child.communicate()
        ledger.abandon(scene.db, zombies, "stopped", Tally(), NOW, "")
        assert not owners.is_alive(owner)
        assert states(scene.db) == ["killed", "stopped"]
        scene.cannot_go_on(dead)

    def test_an_expired_lease_is_taken_over(self, scene: Scene) -> None:
        elsewhere = "another host's owner"
        old = scene.claim(0, owner=elsewhere)
        with pytest.raises(IntervalBusy, match="another host's owner"):
            scene.claim(0)
        scene.expire(old)
        new = scene.claim(0)
        assert new.number == 2
        assert states(scene.db) == ["killed", "running"]
        scene.cannot_go_on(old)
        scene.append(new, 1, 2)
        ledger.publish(scene.db, new, Tally(read=2, scored=2), NOW)
        assert scene.published_keys() == [1, 2]

    def test_a_heartbeat_keeps_a_lease(self, scene: Scene) -> None:
        old = scene.claim(0, owner="elsewhere")
        scene.expire(old)
        assert ledger.heartbeat(scene.db, old)
        with pytest.raises(IntervalBusy):
            scene.claim(0)

    def test_exactly_one_of_many_wins(self, scene: Scene, results_url: str) -> None:
        rounds, claimants = 15, 4
        barrier = threading.Barrier(claimants)
        won: list[tuple[int, int]] = []
        refused: list[int] = []
        broken: list[BaseException] = []

        def work(me: int) -> None:
            try:
                with open_results(results_url) as db:
                    for day in range(rounds):
                        barrier.wait(60)
                        try:
                            Scene(db).claim(day, owner=owners.me(f"{me} {day}"))
                            won.append((day, me))
                        except IntervalBusy:
                            refused.append(day)
            except BaseException as error:  # noqa: BLE001
                broken.append(error)
                barrier.abort()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(claimants)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not broken, broken[0]
        assert sorted(day for day, _ in won) == list(range(rounds))
        assert sorted(refused) == sorted(list(range(rounds)) * (claimants - 1))
        assert states(scene.db) == ["running"] * rounds

    def test_processes_race_too(self, scene: Scene, results_url: str) -> None:
        code = (
            "import sys; from support.ledgers import Scene, owners\n"
            "from trivet.errors import IntervalBusy\n"
            "with Scene.open(sys.argv[1]) as s:\n"
            "    print('ready', flush=True); sys.stdin.readline()\n"
            "    try: s.claim(0, owner=owners.me('x'))\n"
            "    except IntervalBusy: print('busy', flush=True)\n"
            "    else: print('won', flush=True)\n"
            "    sys.stdin.readline()\n"
        )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code, results_url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for _ in range(2)
        ]
        answers = []
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            answers.append(child.stdout.readline().strip())
        for child in children:
            child.communicate("\n", timeout=60)
        assert sorted(answers) == ["busy", "won"]


class TestEnds:
    def test_a_published_attempt_counts_and_is_over(self, scene: Scene) -> None:
        attempt = scene.claim(0)
        scene.append(attempt, 1)
        assert scene.published_keys() == []
        tally = Tally(read=3, scored=1, rejected=2, seconds={"read": 0.1234}, warning="hm")
        ledger.publish(scene.db, attempt, tally, NOW + DAY)
        assert scene.published_keys() == [1]
        assert ledger.published(scene.db, DEPLOYMENT) == {interval(0)[0]: 3}
        (run,) = ledger.runs(scene.db, DEPLOYMENT)
        assert (run.rows_read, run.rows_scored, run.rows_rejected) == (3, 1, 2)
        assert (run.seconds, run.warning, run.error) == ({"read": 0.123}, "hm", None)
        assert (run.interval_start, run.interval_end) == interval(0)
        assert (run.started_at, run.ended_at) == (NOW, NOW + DAY)
        assert (run.state, run.is_published) == ("succeeded", True)
        scene.cannot_go_on(attempt)

    def test_a_rerun_replaces_and_its_failure_does_not(self, scene: Scene) -> None:
        scene.run(0, 1, 2)
        attempt = scene.claim(0)
        scene.append(attempt, 3)
        ledger.abandon(scene.db, attempt, "failed", Tally(), NOW, "x" * 9000)
        assert scene.published_keys() == [1, 2]
        assert len(ledger.runs(scene.db)[0].error or "") == 4000
        scene.run(0, 4)
        assert scene.published_keys() == [4]
        assert [run.is_published for run in ledger.runs(scene.db)] == [True, False, False]
        assert ledger.failures(scene.db, DEPLOYMENT) == {}

    def test_failures_are_counted_until_one_is_published(self, scene: Scene) -> None:
        for hours in (1, 2):
            attempt = scene.claim(0, owner=owners.me(str(hours)))
            ended = NOW + dt.timedelta(hours=hours)
            ledger.abandon(scene.db, attempt, "failed", Tally(), ended, "why")
        stopped = scene.claim(1)
        ledger.abandon(scene.db, stopped, "stopped", Tally(), NOW, "")
        last = NOW + dt.timedelta(hours=2)
        assert ledger.failures(scene.db, DEPLOYMENT) == {interval(0)[0]: (2, last)}
        scene.run(0, 1)
        assert ledger.failures(scene.db, DEPLOYMENT) == {}

    def test_nothing_yet(self, scene: Scene) -> None:
        assert ledger.runs(scene.db) == []
        assert ledger.published(scene.db, DEPLOYMENT) == {}
        assert ledger.failures(scene.db, DEPLOYMENT) == {}

    def test_many_runs_whose_late_ones_alone_have_texts(self, scene: Scene) -> None:
        for day in range(3):
            scene.run(day, 1)
        scene.db.execute(
            "INSERT INTO trivet_runs (deployment, interval_start, interval_end, number, state,"
            " cause,"
            " owner, lease_until, model_name, model_version, model_digest, started_at)"
            " SELECT 'old', a.interval_start, a.interval_end, 1, 'failed', a.cause, a.owner, 0,"
            " a.model_name, a.model_version, a.model_digest, a.started_at"
            " FROM trivet_runs a, trivet_runs b, trivet_runs c, trivet_runs d, trivet_runs e,"
            " trivet_runs f, trivet_runs g"
        )
        scene.db.execute("UPDATE trivet_runs SET warning = 'w', error = 'e' WHERE attempt = 1")
        found = ledger.runs(scene.db, limit=5000)
        assert len(found) == 3 + 3**7
        assert (found[-1].warning, found[-1].error, found[0].warning) == ("w", "e", None)
        assert [run.attempt for run in ledger.runs(scene.db, DEPLOYMENT, 2)] == [3, 2]

    def test_an_attempt_that_never_was(self, scene: Scene) -> None:
        ghost = Attempt(99, 1, DEPLOYMENT, *interval(0))
        scene.cannot_go_on(ghost)
        with pytest.raises(RunLost, match="attempt 99 was declared dead"):
            ledger.publish(scene.db, ghost, Tally(), NOW)


class TestRegister:
    def test_again_refreshes(self, scene: Scene) -> None:
        for schedule in ("@daily", "@hourly"):
            ledger.register(
                scene.db,
                ledger.Deployment(
                    name="x", kind="batch", model="m", view="x", key=("a",), keep=(),
                    manifest={"v": NOW}, schedule=schedule,
                ),
                NOW,
            )  # fmt: skip
        found = scene.db.rows("SELECT name, schedule FROM trivet_deployments ORDER BY name")
        assert found.to_pylist()[-1] == {"name": "x", "schedule": "@hourly"}
        assert found.num_rows == 2


class TestOwners:
    def test_what_cannot_be_known_counts_as_alive(self) -> None:
        for owner in (
            "",
            "7",
            "null",
            "[]",
            '{"host": "x"}',
            '{"host": "x", "pid": 1, "started": 0}',
        ):
            assert owners.is_alive(owner)

    def test_described_for_people(self) -> None:
        assert owners.describe(owners.me("x")).startswith(f"process {os.getpid()} on ")
        assert owners.describe("somebody") == "somebody"

    def test_another_process_of_the_same_number_is_not_it(self) -> None:
        import json

        parts = json.loads(owners.me("x"))
        assert owners.is_alive(json.dumps(parts | {"started": parts["started"] + 1}))
        assert not owners.is_alive(json.dumps(parts | {"started": parts["started"] - 60}))
        assert not owners.is_alive(json.dumps(parts | {"pid": 2**22 + 1}))


def test_lineage_of_the_model_is_in_the_view(scene: Scene) -> None:
    scene.run(0, 7)
    view = tables.view_of(DEPLOYMENT)
    row = scene.read(f"SELECT * FROM {view}", scored_at="timestamp", interval_start="timestamp",
                     interval_end="timestamp")[0]  # fmt: skip
    model = lineage()
    assert (row["model_name"], row["model_version"], row["model_digest"]) == (
        model.name, model.version, model.digest,
    )  # fmt: skip
    assert (row["interval_start"], row["interval_end"]) == interval(0)
    assert row["scored_at"] == NOW
