"""Layout, tables and retention of the results, on both databases that can hold them."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from support.ledgers import DAY, DEPLOYMENT, NOW, Scene, interval
from trivet.databases import connect
from trivet.errors import QueryError, ResultsError, ResultsOutdated, ResultsTooNew
from trivet.monitoring import Profile
from trivet.results import history, ledger, retention, tables
from trivet.results.layout import open_results, upgrade_results, version_of
from trivet.results.ledger import Tally
from trivet.results.statements import identifier, migrations
from trivet.schema import TYPES

TABLE = tables.table_of(DEPLOYMENT)
VIEW = tables.view_of(DEPLOYMENT)


@pytest.fixture
def scene(results_url: str) -> Iterator[Scene]:
    with Scene.open(results_url) as scene:
        yield scene


def together(count: int, act: object) -> list[BaseException]:
    """Run something in several threads that start at the same time; return what failed."""
    assert callable(act)
    barrier = threading.Barrier(count)
    broken: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(60)
            act(number)
        except BaseException as error:  # noqa: BLE001
            broken.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return broken


class TestLayout:
    def known(self, url: str, *more: str) -> list[list[str]]:
        kind = "sqlite" if url.startswith("sqlite") else "postgresql"
        return [*migrations(kind), list(more)]

    def test_many_open_an_empty_database_at_once(self, results_url: str) -> None:
        assert together(6, lambda _: open_results(results_url).close()) == []
        with open_results(results_url) as db:
            assert version_of(db) == len(migrations(db.dialect.name))
            assert db.rows("SELECT version FROM trivet_schema").num_rows == version_of(db)

    def test_an_upgrade_keeps_the_rows(self, results_url: str) -> None:
        with Scene.open(results_url) as scene:
            scene.run(0, 1, 2)
        known = self.known(
            results_url,
            "ALTER TABLE trivet_runs ADD COLUMN note TEXT",
            "UPDATE trivet_runs SET note = 'n'",
        )
        latest = len(known)
        with pytest.raises(ResultsOutdated, match="trivet results upgrade"):
            open_results(results_url, known=known)
        assert upgrade_results(results_url, known=known) == (latest - 1, latest)
        assert upgrade_results(results_url, known=known) == (latest, latest)
        with open_results(results_url, known=known) as db:
            assert Scene(db).published_keys() == [1, 2]
            assert db.rows("SELECT note FROM trivet_runs")["note"].to_pylist() == ["n"]
        for act in (open_results, upgrade_results):
            with pytest.raises(ResultsTooNew, match=f"layout {latest}"):
                act(results_url)

    def test_a_failed_upgrade_changes_nothing(self, results_url: str) -> None:
        with Scene.open(results_url) as scene:
            scene.run(0, 1)
            before = version_of(scene.db)
        add = "ALTER TABLE trivet_runs ADD COLUMN note TEXT"
        broken = self.known(results_url, add, "INSERT INTO nowhere VALUES (1)")
        with pytest.raises(QueryError, match="nowhere"):
            upgrade_results(results_url, known=broken)
        with open_results(results_url) as db:
            assert version_of(db) == before
            assert "note" not in tables.columns_of(db, "trivet_runs")
        assert upgrade_results(results_url, known=self.known(results_url, add))[1] == before + 1

    def test_only_some_databases_hold_results(self, tmp_path: Path) -> None:
        with pytest.raises(ResultsError, match="results are kept in sqlite"):
            open_results("duckdb:///x.duckdb", root=tmp_path)

    def test_in_postgresql_they_live_in_the_current_schema(self, postgres_url: str) -> None:
        with connect(postgres_url, write=True) as db:
            db.execute("CREATE SCHEMA mine")
        url = f"{postgres_url}?options=-csearch_path%3Dmine"
        for where in (url, postgres_url):
            with Scene.open(where) as scene:
                scene.run(0, 1)
        with connect(postgres_url) as db:
            for schema in ("mine", "public"):
                found = db.rows(f"SELECT key FROM {schema}.{VIEW}")
                assert found["key"].to_pylist() == [1]

    def test_names_are_checked(self) -> None:
        assert identifier("select") == '"select"'
        for name in ('a"b', "", "1a", "x" * 64, "a;b", "{x}", "é"):
            with pytest.raises(ResultsError, match="cannot be the name"):
                identifier(name)


class TestTables:
    def prepare(self, scene: Scene, **kinds: str) -> None:
        tables.prepare(scene.db, DEPLOYMENT, pa.schema([(n, TYPES[k]) for n, k in kinds.items()]))

    def test_new_columns_are_added_and_old_ones_stay(self, scene: Scene) -> None:
        scene.run(0, 1)
        self.prepare(scene, key="int64", extra="string")
        self.prepare(scene, key="int64", extra="string")
        scene.run(1, 2)
        rows = scene.read(f"SELECT key, score, extra FROM {VIEW} ORDER BY key")
        assert [row["extra"] for row in rows] == [None, None]
        assert [row["score"] for row in rows] == [0.5, 1.0]
        assert set(tables.LINEAGE) < set(tables.columns_of(scene.db, VIEW))

    def test_widening_keeps_grants_and_dependents(self, postgres_url: str) -> None:
        with Scene.open(postgres_url) as scene:
            scene.run(0, 1)
            scene.db.execute(f"CREATE VIEW mine AS SELECT key FROM {VIEW}")
            scene.db.execute(f"GRANT SELECT ON {VIEW} TO public")
            self.prepare(scene, key="int64", extra="string")
            granted = "SELECT has_table_privilege('pg_monitor', '" + VIEW + "', 'SELECT') AS ok"
            assert scene.db.rows(granted)["ok"].to_pylist() == [True]
            assert scene.db.rows("SELECT key FROM mine")["key"].to_pylist() == [1]

    def test_a_changed_type_is_refused(self, scene: Scene) -> None:
        with pytest.raises(ResultsError, match=rf"column 'score' of {TABLE} is .* now it would be"):
            self.prepare(scene, key="int64", new="bool", score="string")
        assert "new" not in tables.columns_of(scene.db, TABLE)

    def test_weird_but_fine_names(self, scene: Scene) -> None:
        names = ("select", "two words", "a-b", "dot.ted", "UPPER", "rowid")
        self.prepare(scene, key="int64", **dict.fromkeys(names, "int64"))
        attempt = scene.claim(0)
        columns = {"attempt": [attempt.id], "key": [1]} | {name: [7] for name in names}
        batch = pa.record_batch({n: pa.array(v, pa.int64()) for n, v in columns.items()})
        tables.append(scene.db, attempt, batch, pa.RecordBatch.from_pylist([], tables.REJECTS))
        ledger.publish(scene.db, attempt, Tally(), NOW)
        (row,) = scene.read(f"SELECT * FROM {VIEW}")
        assert all(row[name] == 7 for name in names)

    @pytest.mark.parametrize("name", ["order", "select", "a-b"])
    def test_a_deployment_of_any_name(self, scene: Scene, name: str) -> None:
        tables.prepare(scene.db, name, pa.schema([("key", pa.int64())]))
        view = identifier(tables.view_of(name))
        assert scene.db.rows(f"SELECT * FROM {view}").num_rows == 0

    def test_columns_that_cannot_be_kept(self) -> None:
        for bad, words in (
            (pa.field("x", pa.list_(pa.int8())), "cannot keep"),
            (pa.field("Attempt", pa.int64()), "lineage"),
        ):
            with pytest.raises(ResultsError, match=words):
                tables.plain_columns(pa.schema([bad]))

    def test_every_type_comes_back_from_the_view(self, scene: Scene) -> None:
        values = {
            "bool": True, "int8": -5, "int16": 300, "int32": 70_000, "int64": 2**62,
            "float32": 0.5, "float64": 0.1, "string": "é", "timestamp": NOW,
            "date": dt.date(2026, 2, 3),
        }  # fmt: skip
        kinds = {f"c_{kind}": kind for kind in values}
        self.prepare(scene, **kinds)
        attempt = scene.claim(0)
        row = pa.record_batch(
            {f"c_{kind}": pa.array([value, None], TYPES[kind]) for kind, value in values.items()}
        )
        none = pa.RecordBatch.from_pylist([], tables.REJECTS)
        tables.append(scene.db, attempt, tables.stamped(attempt, [row]), none)
        ledger.publish(scene.db, attempt, Tally(), NOW)
        query = f"SELECT {', '.join(kinds)} FROM {VIEW} ORDER BY c_int8 IS NULL"
        first, last = scene.read(query, **kinds)
        assert first == {f"c_{kind}": value for kind, value in values.items()}
        assert set(last.values()) == {None}

    def test_nul_in_a_reason_is_escaped(self, scene: Scene) -> None:
        from support.ledgers import rejects

        attempt = scene.claim(0)
        empty = pa.record_batch({"attempt": pa.array([], pa.int64())})
        tables.append(scene.db, attempt, empty, rejects(attempt, 1, reason="a\0b"))
        ledger.abandon(scene.db, attempt, "failed", Tally(), NOW, "")
        (found,) = history.rejects(scene.db, DEPLOYMENT, None, 10)
        assert found["reason"] == "a\\0b"

    def test_profiles(self, scene: Scene) -> None:
        attempt = scene.claim(0)
        tables.append_profiles(scene.db, attempt, {})
        profile = Profile.of(pa.array([1.0, 2.0, None]), None)
        tables.append_profiles(scene.db, attempt, {("input", "x"): profile})
        found = scene.db.rows(
            "SELECT side, column_name, row_count, null_count FROM trivet_profiles"
        )
        assert found.to_pylist() == [
            {"side": "input", "column_name": "x", "row_count": 3, "null_count": 1}
        ]

    def test_the_view_shows_old_or_new_but_never_a_mixture(
        self, scene: Scene, results_url: str
    ) -> None:
        done = threading.Event()
        seen: set[tuple[int, ...]] = set()
        versions = [tuple(range(100 * i, 100 * i + 50)) for i in range(12)]
        scene.run(0, *versions[0])

        def act(number: int) -> None:
            if number:
                with open_results(results_url) as db:
                    while not done.is_set():
                        seen.add(tuple(Scene(db).published_keys()))
                return
            try:
                with open_results(results_url) as db:
                    for keys in versions[1:]:
                        Scene(db).run(0, *keys)
                        retention.sweep(db, DEPLOYMENT)
            finally:
                done.set()

        assert together(3, act) == []
        assert seen <= set(versions)
        assert scene.published_keys() == list(versions[-1])
        assert scene.count(TABLE) == 50


class TestRetention:
    def test_superseded_rows_go_in_short_transactions(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "SWEEP_ROWS", 4)
        scene.run(0, *range(10), reject=(1, 2))
        scene.run(0, *range(20, 25), reject=(3,))
        asked: list[int] = []

        def stop() -> bool:
            asked.append(scene.count(TABLE))
            return len(asked) > 2

        assert retention.sweep(scene.db, DEPLOYMENT, stop) == 8
        assert asked == [15, 11, 7]
        assert retention.sweep(scene.db, DEPLOYMENT) == 2 + 2
        assert (scene.count(TABLE), scene.count("trivet_rejects")) == (5, 1)
        assert scene.published_keys() == list(range(20, 25))
        assert retention.sweep(scene.db, DEPLOYMENT, lambda: pytest.fail("nothing to do")) == 0

    def test_rejects_of_a_failure_stay_until_the_next_attempt_ended(self, scene: Scene) -> None:
        scene.fail(0, 1, reject=(1, 2))
        retention.sweep(scene.db, DEPLOYMENT)
        assert (scene.count(TABLE), scene.count("trivet_rejects")) == (0, 2)
        stopped = scene.claim(0)
        scene.append(stopped, 5, reject=(9,))
        ledger.abandon(scene.db, stopped, "stopped", Tally(), NOW, "")
        retention.sweep(scene.db, DEPLOYMENT)
        assert scene.count("trivet_rejects") == 2
        scene.fail(0, 1, reject=(3,))
        retention.sweep(scene.db, DEPLOYMENT)
        assert scene.count("trivet_rejects") == 1
        scene.run(0, 1)
        retention.sweep(scene.db, DEPLOYMENT)
        assert scene.count("trivet_rejects") == 0

    def test_a_running_attempt_is_left_alone(self, scene: Scene) -> None:
        attempt = scene.claim(0)
        scene.append(attempt, 1, 2, reject=(3,))
        assert retention.sweep(scene.db, DEPLOYMENT) == 0
        ledger.publish(scene.db, attempt, Tally(), NOW)
        assert scene.published_keys() == [1, 2]

    def test_an_attempt_that_failed_before_there_was_a_table(self, scene: Scene) -> None:
        scene.db.execute("UPDATE trivet_runs SET deployment = 'x'")
        attempt = scene.claim(0)
        ledger.abandon(scene.db, attempt, "failed", Tally(), NOW, "")
        scene.db.execute("UPDATE trivet_runs SET deployment = 'no-table'")
        assert retention.sweep(scene.db, "no-table") == 0

    def test_sweeping_twice_at_once(
        self, scene: Scene, results_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "SWEEP_ROWS", 7)
        for _ in range(4):
            scene.run(0, *range(200), reject=tuple(range(20)))

        def act(_: int) -> None:
            with open_results(results_url) as db:
                retention.sweep(db, DEPLOYMENT)

        assert together(3, act) == []
        retention.sweep(scene.db, DEPLOYMENT)
        assert (scene.count(TABLE), scene.count("trivet_rejects")) == (200, 20)
        assert scene.count("trivet_runs", "NOT has_predictions AND NOT has_rejects") == 3

    def test_a_column_named_rowid_hides_nothing(self, sqlite_url: str) -> None:
        with Scene.open(sqlite_url) as scene:
            columns = pa.schema([("key", pa.int64()), ("rowid", pa.int64()), ("oid", pa.int64())])
            tables.prepare(scene.db, DEPLOYMENT, columns)
            for _ in range(2):
                attempt = scene.run(0, 1, 2)
                scene.db.execute(f"UPDATE {TABLE} SET rowid = 1, oid = 1")
            assert retention.sweep(scene.db, DEPLOYMENT) == 2
            assert scene.published_keys() == [1, 2]
            assert scene.count(TABLE, f"attempt = {attempt.id}") == 2

    def test_prune_forgets_old_intervals(self, scene: Scene) -> None:
        for day in range(4):
            scene.run(day, day, reject=(day,))
        scene.fail(9, 5, reject=(5,))
        scene.fail(1, 6, reject=(6,))
        assert retention.prune(scene.db, DEPLOYMENT, interval(1)[1]) == 2
        assert scene.published_keys() == [2, 3]
        assert scene.count("trivet_rejects") == 3
        assert len(ledger.runs(scene.db)) == 6
        assert retention.prune(scene.db, DEPLOYMENT, interval(20)[1]) == 2
        assert (scene.count(TABLE), scene.count("trivet_rejects")) == (0, 0)
        assert retention.prune(scene.db, DEPLOYMENT, interval(20)[1]) == 0

    def test_sqlite_deletes_by_an_index(self, sqlite_url: str) -> None:
        with Scene.open(sqlite_url) as scene:
            for table in (TABLE, "trivet_rejects"):
                plan = scene.db.rows(f"EXPLAIN QUERY PLAN DELETE FROM {table} WHERE attempt = 1")
                assert "USING" in str(plan["detail"].to_pylist())
                assert "INDEX" in str(plan["detail"].to_pylist())


class TestHistory:
    def test_rejects_of_the_attempts_that_count(self, scene: Scene) -> None:
        scene.run(0, 1, reject=(1, 2))
        scene.run(0, 1, reject=(3,))
        scene.fail(1, 1, reject=(4,))
        running = scene.claim(2)
        scene.append(running, 1, reject=(5,))
        found = history.rejects(scene.db, DEPLOYMENT, None, 10)
        assert [row["row_key"] for row in found] == ['{"key":4}', '{"key":3}']
        assert (found[0]["interval_start"], found[0]["interval_end"]) == interval(1)
        assert history.reject_counts(scene.db, DEPLOYMENT, None) == [
            {"code": "null", "field": "score", "n": 2}
        ]
        only = (interval(1)[0], interval(1)[0] + DAY)
        assert len(history.rejects(scene.db, DEPLOYMENT, only, 10)) == 1
        assert history.reject_counts(scene.db, DEPLOYMENT, only)[0]["n"] == 1
        assert len(history.rejects(scene.db, DEPLOYMENT, None, 1)) == 1

    def test_none(self, scene: Scene) -> None:
        assert history.rejects(scene.db, DEPLOYMENT, None, 10) == []
        assert history.reject_counts(scene.db, DEPLOYMENT, None) == []
