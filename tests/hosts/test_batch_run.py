"""One run: what it publishes, what it rejects, and what it leaves alone when it fails."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import trivet.databases
from support.deployments import Project, day, interval, trips
from support.toy import Broken, Toy, Tripled
from trivet import artifacts, errors
from trivet.current import InUse, Ready, Source
from trivet.schema import Schema


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_project(
    request: pytest.FixtureRequest, tmp_path: Path, results_url: str
) -> Iterator[Project]:
    """Give a project over every pair of source and results."""
    if request.param == "sqlite":
        yield Project(tmp_path, results=results_url)
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database()
    yield Project(tmp_path, source=url, results=results_url)
    server.drop_database(url)


def one(project: Project, **changes: Any) -> list[tuple[str, str, str]]:
    """Score a day of 20 good rows and one changed; return the rejects."""
    project.add(trips(1, 20), [trips(1, 30)[-1] | changes])
    tally = project.score(1)
    assert (tally.read, tally.scored, tally.rejected) == (21, 20, 1)
    return project.rejects()


# --- what is published -----------------------------------------------------------------------


def test_a_run_publishes_predictions_rejects_profiles_and_one_ledger_row(
    any_project: Project,
) -> None:
    project = any_project
    project.add(trips(1), trips(1, 1, trip_id=1, a=-1.0, n=None), trips(2))
    tally = project.score(1, max_rejects=0.5)

    assert project.scores("trip_id, note, score") == [
        (1000 + i, f"row {i}", 3.0 * i) for i in range(1, 6)
    ]
    assert project.rejects() == [('{"trip_id":1}', "a", "range")]
    [run] = project.runs()
    assert (run.state, run.is_published, run.cause, run.number) == ("succeeded", True, "manual", 1)
    assert (run.rows_read, run.rows_scored, run.rows_rejected) == (6, 5, 1)
    assert (tally.read, tally.scored, tally.rejected) == (6, 5, 1)
    assert (run.interval_start, run.interval_end) == (day(1), day(2))
    assert run.seconds.keys() == {"read", "score", "write", "total"}
    assert (run.error, run.warning) == (None, None)
    profiles = project.rows("SELECT * FROM trivet_profiles ORDER BY side, column_name")
    assert [(p["side"], p["column_name"], p["row_count"]) for p in profiles] == [
        ("input", "a", 5),
        ("input", "city", 5),
        ("input", "n", 5),
        ("output", "score", 5),
    ]
    assert profiles[0]["total"] == 15.0
    assert (profiles[0]["low"], profiles[0]["high"]) == (1.0, 5.0)


def test_every_published_row_tells_its_lineage(project: Project) -> None:
    project.add(trips(1, 1))
    project.score(1)
    [row] = project.rows("SELECT * FROM toy_scores")
    [run] = project.runs()
    digest = project.load().model.digest
    assert list(row) == [
        "trip_id",
        "note",
        "score",
        "interval_start",
        "interval_end",
        "attempt",
        "model_name",
        "model_version",
        "model_digest",
        "scored_at",
    ]
    assert (row["model_name"], row["model_version"], row["model_digest"]) == ("toy", "1", digest)
    assert row["attempt"] == run.attempt


def test_profiles_are_counted_on_the_references_of_the_manifest(project: Project) -> None:
    sample = {"a": [1.0, 2.0, 3.0, 4.0], "n": [1, 2, 3, 4], "city": ["nice"] * 4}
    trivet.save(
        Toy(),
        project.root / "models",
        name="toy",
        version="2",
        sample=pa.table(sample),
    )
    source = Source(name="toy", uri="models/toy@2", trust=True)
    project.add(trips(1, 5))
    job = project.job(load_model=InUse(source, project.root))
    job.register()
    job.run(interval(1), cause="manual")
    profiles = project.rows("SELECT side, column_name, row_count, counts FROM trivet_profiles")
    assert len(profiles) == 4
    for profile in profiles:
        assert sum(json.loads(profile["counts"])) == profile["row_count"] == 5
    [deployment] = project.rows("SELECT * FROM trivet_deployments")
    manifest = json.loads(deployment["manifest"])
    assert manifest["version"] == "2"
    assert set(manifest["references"]) == {"input.a", "input.n", "input.city", "output.score"}


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("trip_id", 1001),
        ("'t' || trip_id", "t1001"),
        ("'9b2f0c1e-0000-4000-8000-00000000' || trip_id", "9b2f0c1e-0000-4000-8000-000000001001"),
        ("at", "2020-01-01 00:01:00"),
    ],
)
def test_keys_of_many_types(project: Project, expression: str, key: object) -> None:
    project.add(trips(1, 1))
    project.score(1, query=f"SELECT {expression} AS k, a, n, city FROM trips", key=["k"], keep=[])
    [row] = project.rows("SELECT k, score FROM toy_scores")
    assert row == {"k": key, "score": 3.0}


@pytest.mark.parametrize(
    ("expression", "stored"),
    [
        ("trip_id::smallint", 1001),
        ("'t' || trip_id", "t1001"),
        (
            "CAST('9b2f0c1e-0000-4000-8000-00000000' || trip_id AS uuid)",
            "9b2f0c1e-0000-4000-8000-000000001001",
        ),
        ("at", day(1).replace(minute=1)),
        ("at::date", day(1).date()),
    ],
)
def test_keys_of_many_types_from_postgresql(
    tmp_path: Path, postgres_url: str, expression: str, stored: object
) -> None:
    project = Project(tmp_path, source=postgres_url, results="sqlite:///results.db")
    project.add(trips(1, 1), trips(1, 1))
    tally = project.score(
        1,
        query=f"SELECT {expression} AS k, a, n, city FROM trips",
        key=["k"],
        keep=[],
        max_rejects=1,
    )
    assert (tally.scored, tally.rejected) == (1, 1)
    [row] = project.rows("SELECT k FROM toy_scores")
    assert str(row["k"])[:19] == str(stored)[:19]
    [[key, field, code]] = project.rejects()
    assert (field, code) == ("k", "duplicate_key")
    assert str(json.loads(key)["k"])[:10] == str(stored)[:10]


def test_a_composite_key_is_unique_as_a_whole(project: Project) -> None:
    project.add(trips(1, 2, trip_id=1), trips(1, 1, trip_id=2, note="row 1"))
    tally = project.score(1, key=["trip_id", "note"], keep=[], max_rejects=0)
    assert tally.scored == 3
    assert project.scores("trip_id, note") == [(1, "row 1"), (1, "row 2"), (2, "row 1")]


def test_a_key_may_be_an_input_of_the_model(project: Project) -> None:
    project.add(trips(1, 3))
    project.score(1, key=["n"], keep=["city"])
    assert [tuple(r.values()) for r in project.rows("SELECT n, city, score FROM toy_scores")] == [
        (i, "nice", 3.0 * i) for i in (1, 2, 3)
    ]


def test_columns_are_added_when_the_deployment_keeps_more(project: Project) -> None:
    project.add(trips(1, 1), trips(2, 1))
    project.score(1, keep=[])
    project.score(2, keep=["note", "city"])
    assert project.scores("trip_id, note, city") == [(1001, None, None), (2001, "row 1", "nice")]


@pytest.mark.parametrize("chunk", [2, 3, 100])
def test_of_rows_with_one_key_the_first_counts(
    project: Project, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(trivet.databases, "BATCH_ROWS", chunk)
    keys = [9, 3, 7, 3, 9, 1, 5, 7, 3, 2, 8]
    rows = trips(1, len(keys))
    project.add([row | {"trip_id": key} for row, key in zip(rows, keys, strict=True)])
    tally = project.score(1, max_rejects=1)
    assert (tally.read, tally.scored, tally.rejected) == (11, 7, 4)
    first = {key: 3.0 * (keys.index(key) + 1) for key in keys}
    assert project.scores() == sorted(first.items())
    assert sorted(project.rejects()) == sorted(
        (f'{{"trip_id":{key}}}', "trip_id", "duplicate_key") for key in (3, 3, 7, 9)
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_neither_bits_nor_rows(
    project: Project, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(trivet.databases, "BATCH_ROWS", 16)
    rows = trips(1, 200)
    for row in rows:
        row["a"] = math.sqrt(row["trip_id"])
    rows[50]["a"], rows[90]["trip_id"], rows[150]["city"] = 913.0, rows[3]["trip_id"], "rome"
    project.add(rows)
    tally = project.score(1, workers=workers)
    assert (tally.scored, tally.rejected) == (197, 3)
    expected = {
        r["trip_id"]: 2 * r["a"] + r["n"] for i, r in enumerate(rows) if i not in (50, 90, 150)
    }
    assert project.scores() == sorted(expected.items())
    assert sorted(code for _, _, code in project.rejects()) == [
        "duplicate_key",
        "model_error",
        "not_allowed",
    ]


# --- rejects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"a": None}, "a", "null"),
        ({"city": None}, "city", "null"),
        ({"trip_id": None}, "trip_id", "null"),
        ({"a": "far"}, "a", "type"),
        ({"n": 1.5}, "n", "type"),
        ({"city": 7}, "city", "type"),
        ({"a": -0.5}, "a", "range"),
        ({"a": 1000.5}, "a", "range"),
        ({"city": "rome"}, "city", "not_allowed"),
        ({"a": float("inf")}, "a", "not_finite"),
        ({"a": float("-inf")}, "a", "not_finite"),
        ({"trip_id": 1003}, "trip_id", "duplicate_key"),
        ({"a": 913.0}, "", "model_error"),
        ({"a": 914.0}, "score", "model_error"),
    ],
)
def test_a_bad_row_is_rejected_and_the_others_are_scored(
    project: Project, changes: dict[str, Any], field: str, code: str
) -> None:
    [[key, *reject]] = one(project, **changes)
    assert reject == [field, code]
    assert json.loads(key) == {"trip_id": changes.get("trip_id", 1030)}
    assert len(project.scores()) == 20


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"a": float("nan")}, "a", "not_finite"),
        ({"a": float("inf")}, "a", "not_finite"),
        ({"a": None}, "a", "null"),
        ({"trip_id": None}, "trip_id", "null"),
    ],
)
def test_a_bad_row_of_postgresql_is_rejected(
    tmp_path: Path, postgres_url: str, changes: dict[str, Any], field: str, code: str
) -> None:
    [[_, *reject]] = one(Project(tmp_path, source=postgres_url), **changes)
    assert reject == [field, code]


def test_each_problem_of_a_row_is_told_but_the_row_counts_once(project: Project) -> None:
    assert one(project, a=-1.0, city="rome", trip_id=1001) == [
        ('{"trip_id":1001}', "a", "range"),
        ('{"trip_id":1001}', "city", "not_allowed"),
        ('{"trip_id":1001}', "trip_id", "duplicate_key"),
    ]


def test_a_key_of_a_wrong_type_has_one_problem(project: Project) -> None:
    project.add(trips(1, 20), trips(1, 1, n="x"))
    project.score(1, key=["n"], keep=[])
    assert project.rejects() == [('{"n":null}', "n", "type")]


def test_too_many_rejects_publish_nothing_and_leave_the_old(project: Project) -> None:
    project.add(trips(1, 4))
    project.score(1, max_rejects=0.25)
    project.change("UPDATE trips SET a = -1 WHERE trip_id < 1003")
    with pytest.raises(errors.TooManyRejects, match=r"2 of 4 rows were rejected \(50.0%\).*25.0%"):
        project.score(1)
    assert project.scores() == [(1000 + i, 3.0 * i) for i in range(1, 5)]
    assert project.states() == ["succeeded", "failed"]
    failed = project.runs()[-1]
    assert (failed.rows_read, failed.rows_scored, failed.rows_rejected) == (4, 2, 2)
    assert "trivet rejects toy-scores" in str(failed.error)
    assert len(project.rejects()) == 2
    project.score(1, max_rejects=0.5)
    assert len(project.scores()) == 2


def test_a_model_that_raises_on_every_row_is_blamed_itself(project: Project) -> None:
    project.add(trips(1, 50))
    project.score(1)
    model = project.root / "models" / "toy" / "1" / "model" / "toy.py"
    assert model.exists()
    broken = Ready(_Wrapped(project.load().model, Broken().predict))
    with pytest.raises(errors.PredictionError, match="toy 1 raised on more than 20 rows"):
        project.job(load_model=lambda: broken).run(interval(1), cause="manual")
    assert len(project.scores()) == 50
    assert project.states() == ["succeeded", "failed"]


class _Wrapped:
    """A model with another `predict`."""

    def __init__(self, model: Any, predict: Any) -> None:
        self.name, self.version, self.digest = model.name, model.version, model.digest
        self.inputs: Schema = model.inputs
        self.outputs: Schema = model.outputs
        self.parallel = False
        self.predict = predict


# --- what fails as a whole ---------------------------------------------------------------------


def fails(project: Project, error: type[Exception], words: str, **more: Any) -> None:
    """Publish a good run, then expect a failure that leaves it as it was."""
    project.add(trips(1, 3))
    project.score(1)
    before = project.scores()
    with pytest.raises(error, match=words):
        project.score(1, **more)
    assert project.scores() == before
    assert project.states() == ["succeeded", "failed"]
    assert project.runs()[-1].error
    assert project.runs()[0].is_published


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT trip_id, a, n, note FROM trips", "no column city, which the model reads.*trip_id"),
        ("SELECT a, n, city, note FROM trips", "no column trip_id, which key names; it has a, n"),
        ("SELECT trip_id, a, n, city FROM trips", "no column note, which keep names"),
        ("SELECT trip_id + 0.5 AS trip_id, a, n, city, note FROM trips", "floating-point"),
        ("SELECT trip_id, a, n, city, note, 1 AS score FROM trips", ""),
    ],
)
def test_a_query_with_the_wrong_columns(project: Project, query: str, words: str) -> None:
    if words:
        fails(project, errors.SchemaError, r"\[batch.toy-scores\].*" + words, query=query)
    else:
        fails(
            project,
            errors.SchemaError,
            "score is a key or kept column and an output of the model",
            query=query,
            keep=["note", "score"],
        )


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELEC 1", "syntax"),
        ("SELECT $tomorrow", r"unknown parameter \$tomorrow.*\$interval_start"),
    ],
)
def test_a_query_that_the_database_refuses(project: Project, query: str, words: str) -> None:
    fails(project, errors.QueryError, words, query=query)


def test_a_query_that_fails_in_the_middle(tmp_path: Path, postgres_url: str) -> None:
    project = Project(tmp_path, source=postgres_url)
    query = "SELECT trip_id, a, n, city, note, 1 / (3 - n) AS x FROM trips ORDER BY trip_id"
    fails(project, errors.QueryError, "division by zero", query=query)


def test_a_query_with_two_columns_of_a_name(tmp_path: Path, postgres_url: str) -> None:
    project = Project(tmp_path, source=postgres_url)
    query = "SELECT trip_id, a, n, city, note, 1 AS x, 2 AS x FROM trips"
    fails(project, errors.SchemaError, "it has two columns x; name them apart with AS", query=query)


def test_a_kept_column_with_a_lineage_name(project: Project) -> None:
    query = "SELECT trip_id, a, n, city, 1 AS attempt FROM trips"
    fails(project, errors.ResultsError, "attempt", query=query, keep=["attempt"])


def test_a_column_that_changes_its_type(project: Project) -> None:
    fails(
        project,
        errors.ResultsError,
        "note.*text.*cast it in the query",
        query="SELECT trip_id, a, n, city, 1 AS note FROM trips",
    )


def test_an_interval_without_rows_is_a_success_with_a_warning(project: Project) -> None:
    project.add(trips(1, 1))
    project.score(1)
    tally = project.score(2)
    assert tally.warning == project.runs()[-1].warning == "the query returned no row"
    project.change("DELETE FROM trips")
    project.score(1)
    assert project.scores() == []
    assert project.states() == ["succeeded"] * 3


def test_an_interval_without_rows_is_a_failure_if_asked(project: Project) -> None:
    project.add(trips(1, 1))
    project.score(1)
    project.change("DELETE FROM trips")
    with pytest.raises(errors.EmptyInterval, match="is the source up to date"):
        project.score(1, allow_empty=False)
    assert len(project.scores()) == 1


def test_a_source_that_is_missing(project: Project) -> None:
    fails(project, errors.QueryError, "there is no file", source="sqlite:///gone.db")


@pytest.mark.parametrize("how", ["changed", "untrusted", "gone"])
def test_a_model_that_must_not_be_loaded(project: Project, how: str) -> None:
    project.add(trips(1, 3))
    project.score(1)
    source = Source(name="toy", uri="models/toy", trust=how != "untrusted")
    place = project.root / "models" / "toy" / "1"
    if how == "changed":
        with (place / "model" / "toy.py").open("a") as file:
            file.write("\n# a change\n")
    elif how == "gone":
        (place / "model.toml").unlink()
    expected = {
        "changed": errors.ChecksumMismatch,
        "untrusted": errors.UntrustedModel,
        "gone": errors.ModelNotFound,
    }[how]
    job = project.job(load_model=InUse(source, project.root))
    with pytest.raises(expected):
        job.run(interval(1), cause="manual")
    assert len(project.scores()) == 3
    failed = project.runs()[-1]
    assert (failed.state, failed.model_name, failed.model_version) == ("failed", "toy", "")
    assert failed.error
    assert job.run(interval(1), cause="manual", force=False) is None  # it is not needed


def test_a_value_too_big_for_the_results_is_rejected_not_lost(tmp_path: Path) -> None:
    project = Project(tmp_path, source="sqlite:///source.db")
    query = (
        "SELECT CAST(x AS UBIGINT) AS trip_id, 1.0::DOUBLE AS a, 1::BIGINT AS n, 'nice' AS city "
        "FROM (VALUES (1), (18446744073709551615)) AS t(x)"
    )
    tally = project.score(1, source="duckdb://", query=query, keep=[], max_rejects=0.5)
    assert (tally.scored, tally.rejected) == (1, 1)
    [[_, field, code]] = project.rejects()
    assert (field, code) == ("trip_id", "type")
    assert project.scores() == [(1, 3.0)]


# --- once more ---------------------------------------------------------------------------------


def test_a_second_run_replaces_the_first(any_project: Project) -> None:
    project = any_project
    project.add(trips(1, 3), trips(2, 2))
    project.score(1)
    project.score(2)
    project.change("UPDATE trips SET a = a + 1 WHERE trip_id = 1002")
    project.change("DELETE FROM trips WHERE trip_id = 1003")
    project.score(1)
    assert project.scores() == [(1001, 3.0), (1002, 8.0), (2001, 3.0), (2002, 6.0)]
    assert [run.number for run in project.runs()] == [1, 1, 2]
    [count] = project.rows("SELECT count(*) AS n FROM predictions_toy_scores")
    assert count["n"] == 4  # what was superseded is gone
    assert project.rows("SELECT DISTINCT attempt FROM trivet_profiles ORDER BY 1") == [
        {"attempt": 2},
        {"attempt": 3},
    ]


def test_a_reader_sees_the_old_or_the_new(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trivet.databases, "BATCH_ROWS", 2)
    project.add(trips(1, 9))
    project.score(1)
    project.change("UPDATE trips SET a = 0")
    seen: list[list[tuple[Any, ...]]] = []
    project.progress = lambda _: seen.append(project.scores())
    project.score(1)
    old = [(1000 + i, 3.0 * i) for i in range(1, 10)]
    assert len(seen) > 3
    assert all(rows == old for rows in seen)
    assert project.scores() == [(1000 + i, 1.0 * i) for i in range(1, 10)]


def test_the_model_in_use_is_asked_for_with_each_run(project: Project) -> None:
    project.add(trips(1, 1), trips(2, 1))
    source = Source(name="toy", uri="models/toy", trust=True)
    job = project.job(load_model=InUse(source, project.root))
    job.register()
    job.run(interval(1), cause="manual")
    project.save(Tripled(), "2")
    artifacts.set_current(project.root / "models" / "toy", "2")
    job.run(interval(2), cause="manual")
    assert project.scores("trip_id, score, model_version") == [
        (1001, 3.0, "1"),
        (2001, 3.0, "2"),
    ]
    assert [run.model_version for run in project.runs()] == ["1", "2"]
    [deployment] = project.rows("SELECT manifest FROM trivet_deployments")
    assert json.loads(deployment["manifest"])["version"] == "2"


def test_progress_tells_how_many_rows_to_expect(project: Project) -> None:
    project.add(trips(1, 4), trips(2, 2))
    told: list[tuple[int, int | None]] = []
    project.progress = lambda p: told.append((p.rows, p.expected))
    project.score(1)
    project.score(2)
    assert told == [(4, None), (2, 4)]
