"""Two versions of a model over one interval, as the library and as ``trivet compare``."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner, Result

import trivet
from support.deployments import QUERY, Project, trips
from support.toy import Tripled
from trivet.cli import trivet as command
from trivet.databases import connect
from trivet.errors import QueryError, SchemaError
from trivet.schema import Field, Schema

INPUTS = Schema([Field(name="a", type="float64"), Field(name="n", type="int64", nullable=True)])


class Late:
    """Says how likely it is, and the class; sure of itself."""

    inputs = INPUTS
    outputs = Schema(
        [
            Field(name="label", type="string"),
            Field(name="probability_no", type="float64"),
            Field(name="probability_yes", type="float64"),
        ]
    )
    limit = 10.0

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        yes = pc.if_else(pc.greater(batch["a"], self.limit), 0.9, 0.1)
        return pa.record_batch(
            {
                "label": pc.if_else(pc.greater(yes, 0.5), "yes", "no"),
                "probability_no": pc.subtract(1.0, yes),
                "probability_yes": yes,
            }
        )


class Later(Late):
    """Of another opinion about some."""

    limit = 15.0


class Named(Late):
    """Names the class only."""

    outputs = Schema([Field(name="kind", type="string"), Field(name="extra", type="bool")])

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        answers = super().predict(batch)
        return pa.record_batch({"kind": answers["label"], "extra": pc.is_valid(batch["a"])})


class NamedLater(Named):
    """Of another opinion about some."""

    outputs = Schema([Field(name="kind", type="string")])
    limit = 15.0

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return super().predict(batch).select(["kind"])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.add(trips(1, 20), trips(2, 20))
    project.save(Tripled(), "2")
    return project


ACTUALS = """
[actuals.toy-scores]
source = "sqlite:///truth.db"
query = "SELECT 1"
value = "v"
"""


def compare(project: Project, *options: str, more: str = "", **changes: Any) -> Result:
    file = project.write(**changes)
    file.write_text(file.read_text() + more)
    arguments = ("toy-scores", "1", "2", "--interval", "2020-01-01", *options)
    return CliRunner().invoke(command, ["--file", str(file), "compare", *arguments])


def told(project: Project, more: str = "", code: int = 0) -> dict[str, Any]:
    result = compare(project, "--json", more=more)
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def know(project: Project, truths: dict[int, Any]) -> None:
    """Write true values of rows of the first day into the results."""
    now = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
    rows = [
        {
            "deployment": "toy-scores",
            "row_key": str(1000 + n),
            "interval_start": dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
            "number": value if isinstance(value, float) else None,
            "label": value if isinstance(value, str) else None,
            "pulled_at": now,
        }
        for n, value in truths.items()
    ]
    moment = pa.timestamp("us", "UTC")
    types = {"interval_start": moment, "pulled_at": moment, "number": pa.float64()}
    names = list(rows[0])
    schema = pa.schema([pa.field(n, types.get(n, pa.string())) for n in names])
    with project.open_results() as db, db.transaction():
        db.append("trivet_actuals", pa.RecordBatch.from_pylist(rows, schema))


def test_what_would_change(project: Project) -> None:
    # Version 1: 2a + n = 3a for these rows; version 2: 3a. One row is spoilt, another rejected.
    project.change("UPDATE trips SET n = 100 WHERE trip_id = 1004")
    project.change("UPDATE trips SET a = -1 WHERE trip_id = 1005")
    project.change("UPDATE trips SET a = 913 WHERE trip_id = 1006")  # version 1 raises
    found = told(project)
    first, second = found["sides"]
    assert (first["version"], first["read"], first["scored"]) == ("1", 20, 18)
    assert (second["version"], second["scored"]) == ("2", 19)
    assert first["rejects"] == {"model_error": 1, "range": 1}
    assert second["rejects"] == {"range": 1}
    assert (found["both"], found["only_first"], found["only_second"]) == (18, 0, 1)
    [change] = found["changes"]
    assert (change["output"], change["rows"], change["changed"]) == ("score", 18, 1)
    assert change["quantiles"]["0"] == -96.0
    assert change["quantiles"]["0.5"] == 0.0
    assert change["mean"] == pytest.approx(-96 / 18)
    assert found["truth"] is None
    assert not (project.root / "results.db").exists()  # nothing was published, not even tables


def test_it_is_written_for_people_too(project: Project) -> None:
    project.change("UPDATE trips SET n = 100 WHERE trip_id = 1004")
    text = compare(project).output
    assert text.startswith("toy-scores 2020-01-01, version 1 against 2\n")
    assert "second minus first, over 20 rows" in text
    assert "5.0%" in text


def test_with_true_values_it_says_which_one_is_better(project: Project) -> None:
    project.change("UPDATE trips SET n = n + 5 WHERE trip_id < 2000")
    know(project, {n: 3.0 * n + 0.25 * (n % 3) for n in range(1, 16)})
    found = told(project, ACTUALS)
    truth = found["truth"]
    assert (truth["output"], truth["kind"], truth["rows"]) == ("score", "regression", 15)
    assert truth["second"]["mae"] == pytest.approx(0.25)
    assert truth["second_is"] == "better"
    assert truth["loss"] == pytest.approx(truth["second"]["mae"] - truth["first"]["mae"])
    assert (
        "2 is better: the error of a row changes by -4.5" in compare(project, more=ACTUALS).output
    )


def test_a_worse_one_is_an_exit_code(project: Project) -> None:
    project.change("UPDATE trips SET n = n + 5 WHERE trip_id < 2000")
    know(project, {n: 3.0 * n + 5 + 0.25 * (n % 3) for n in range(1, 16)})
    result = compare(project, more=ACTUALS)
    assert (result.exit_code, "2 is worse" in result.output) == (1, True)


@pytest.mark.parametrize("truths", [{1: 3.0}, {n: 3.0 * n for n in range(1, 10)}])
def test_some_rows_do_not_tell(project: Project, truths: dict[int, float]) -> None:
    know(project, truths)
    result = compare(project, more=ACTUALS)
    assert (result.exit_code, "do not tell which one is better" in result.output) == (0, True)


def test_without_a_true_value_of_these_rows(project: Project) -> None:
    assert "no true value of these rows is known yet" in compare(project, more=ACTUALS).output
    know(project, {999: 1.0})
    assert "no true value of these rows is known yet" in compare(project, more=ACTUALS).output


def late(tmp_path: Path, first: object, second: object) -> Project:
    project = Project(tmp_path)
    project.add(trips(1, 20))
    for version, model in (("1", first), ("2", second)):
        trivet.save(model, tmp_path / "late", name="toy", version=version)
    (tmp_path / "models").rename(tmp_path / "other")
    (tmp_path / "late").rename(tmp_path / "models")
    return project


def test_a_classifier(tmp_path: Path) -> None:
    project = late(tmp_path, Late(), Later())
    know(project, {n: "yes" if n > 15 or n == 3 else "no" for n in range(1, 21)})
    found = told(project, ACTUALS)
    label, no, yes = found["changes"]
    assert (label["output"], label["changed"]) == ("label", 5)
    assert label["switches"] == [["yes", "no", 5]]
    assert yes["quantiles"]["0"] == pytest.approx(-0.8)
    assert no["quantiles"]["1"] == pytest.approx(0.8)
    truth = found["truth"]
    assert (truth["kind"], truth["output"]) == ("binary", "probability_yes")
    assert truth["second"]["accuracy"] == pytest.approx(0.95)
    assert truth["second_is"] == "better"
    text = compare(project, more=ACTUALS).output
    assert "label: 25.0% changed" in text
    assert "the log loss of a row" in text


def test_classes_without_probabilities(tmp_path: Path) -> None:
    project = late(tmp_path, Named(), NamedLater())
    know(project, {n: "yes" if n > 15 else "no" for n in range(1, 21)})
    more = ACTUALS + 'output = "kind"\n'
    found = told(project, more)
    assert found["truth"]["kind"] == "classes"
    assert found["truth"]["second"] == {"accuracy": 1.0}
    assert found["lacking"] == ["extra"]
    assert "output extra: only one version has it" in compare(project, more=more).output


def test_an_output_that_one_of_them_lacks_is_not_measured(tmp_path: Path) -> None:
    project = late(tmp_path, Named(), NamedLater())
    know(project, {1: "no"})
    assert told(project, ACTUALS + 'output = "extra"\n')["truth"] is None


def test_duplicate_keys_count_once(project: Project) -> None:
    project.change("UPDATE trips SET trip_id = 1001 WHERE trip_id = 1002")
    found = told(project)
    assert found["both"] == 19
    assert found["sides"][0]["rejects"] == {"duplicate_key": 1}


def test_an_interval_without_rows(project: Project) -> None:
    project.change("DELETE FROM trips WHERE trip_id < 2000")
    result = compare(project)
    assert (result.exit_code, "over 0 rows" in result.output) == (0, False)
    assert told(project)["both"] == 0


def test_a_query_that_is_refused(project: Project) -> None:
    result = compare(project, query="SELECT nothing FROM nowhere")
    assert isinstance(result.exception, QueryError)
    assert str(result.exception).startswith("[batch.toy-scores] query: ")


def test_a_version_that_reads_more_than_the_query_gives(project: Project) -> None:
    result = compare(project, query="SELECT trip_id, a, note FROM trips")
    assert isinstance(result.exception, SchemaError)


def test_over_a_server(tmp_path: Path, postgres_url: str) -> None:
    project = Project(tmp_path, source=postgres_url, results=postgres_url + "")
    project.results = "sqlite:///results.db"
    project.add(trips(1, 20))
    project.save(Tripled(), "2")
    assert told(project)["both"] == 20
    with connect(postgres_url) as db:
        assert "predictions_toy_scores" not in str(db.rows("SELECT tablename FROM pg_tables"))


def test_many_rows_are_paired_by_key_not_by_place(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.save(Tripled(), "2")
    rng = np.random.default_rng(3)
    project.add({**row, "n": int(row["a"])} for row in trips(1, 900) if rng.random() < 0.9)
    query = QUERY.partition("ORDER")[0] + "ORDER BY random()"
    found = compare(project, "--json", query=query)
    assert json.loads(found.output)["changes"][0]["changed"] == 0
