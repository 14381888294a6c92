"""Quality, drift and alerts: what the pages say, and what a visitor sees of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from support.browser import Visit
from support.dashboards import Dash
from support.postgres import PostgresServer
from support.truths import CLASSES, TREE, Truths, day
from trivet.alerts.ledger import record
from trivet.alerts.rules import Alert
from trivet.alerts.settings import AlertSettings
from trivet.databases import connect
from trivet.monitoring import Profile, Reference

NOW = day(20) + dt.timedelta(hours=2)
RIDES, CHURN, SERVICE = "rides", "churn-daily", "service-tip"


def fill(truths: Truths) -> None:
    """Twenty days of rides whose truth changes on the fifteenth, one of churn, a service."""
    random = np.random.default_rng(3)
    sample = pa.array(random.gamma(4, 3, 1000))
    zones = pa.array(["a", "b", "c"] * 100)
    truths.now = NOW
    references: dict[str, Any] = {
        "input__x": Reference.of(sample),
        "input__zone": Reference.of(zones),
        "output__minutes": Reference.of(sample),
    }
    truths.register(RIDES, TREE, keep=("zone",), version="1", **references)
    frames = []
    for number in range(20):
        minutes = random.gamma(4, 3, 120)
        late = number >= 15
        x = pa.array(random.gamma(4, 3, 120) * (0.5 if late else 1.0))
        zone = pa.array(["a", "b", "d" if late else "c"] * 40)
        outcome = pa.array(minutes)
        profiles = {
            ("input", "x"): Profile.of(x, references["input__x"]),
            ("input", "zone"): Profile.of(zone, references["input__zone"]),
            ("output", "minutes"): Profile.of(outcome, references["output__minutes"]),
        }
        ride = pa.array(range(1000 * number, 1000 * number + 120))
        truths.score(
            number, RIDES, "1" if number < 10 else "2", profiles, ride=ride, zone=zone,
            minutes=outcome,
        )  # fmt: skip
        truth = minutes - (4 if late else 0) + random.normal(0, 1, 120)
        frames.append((number, ride.to_pylist(), truth.tolist()))
    truths.register(RIDES, TREE, keep=("zone",), version="2", **references)
    with connect(truths.source, root=truths.root, write=True) as db, db.transaction():
        db.execute("CREATE TABLE truth (ride, minutes, at)")
        at = [f"2026-01-{number + 1:02}" for number, rides, _ in frames for _ in rides]
        db.append("truth", pa.record_batch({
            "ride": pa.array([ride for _, rides, _ in frames for ride in rides]),
            "minutes": pa.array([value for _, _, values in frames for value in values]),
            "at": pa.array(at),
        }))  # fmt: skip
    by_day = "SELECT * FROM truth WHERE at >= $interval_start AND at < $interval_end"
    truths.pull(truths.settings(by_day, name=RIDES))
    _churn(truths, random)
    truths.register(SERVICE, TREE, kind="service", keep=(), input__x=Reference.of(sample))
    last = NOW - dt.timedelta(hours=1)
    inputs = pa.record_batch({"x": pa.array(random.gamma(4, 3, 50))})
    truths.serve(last, [str(i) for i in range(50)], inputs, SERVICE, minutes=pa.array([1.0] * 50))


def _churn(truths: Truths, random: np.random.Generator) -> None:
    truths.register(CHURN, CLASSES, keep=("zone",))
    score = 1 / (1 + np.exp(-random.normal(0, 2, 400)))
    truths.score(
        0, CHURN, ride=pa.array(range(400)), zone=pa.array(["a", "b"] * 200),
        label=pa.array(np.where(score > 0.5, "yes", "no")),
        probability_no=pa.array(1 - score), probability_yes=pa.array(score),
    )  # fmt: skip
    left = np.where(random.random(400) < score, "yes", "no").tolist()
    truths.arrive("gone", ride=range(400), left=left)
    query = 'SELECT ride, "left" FROM gone'
    truths.pull(truths.settings(query, name=CHURN, value="left"))


@contextmanager
def telling(url: str, root: Path, vega: Path) -> Iterator[Dash]:
    with Truths.open(url, root) as truths:
        fill(truths)
        record(truths.db, [Alert(RIDES, "rejects", "many rows are rejected")], NOW)
        record(truths.db, [], NOW)
    made = Dash(
        url, vega, now=NOW, alerts=AlertSettings(webhook="https://example.com/hook"),
        limits={CHURN: [("roc_auc", False, 0.5)]},
    )  # fmt: skip
    with made.serving():
        yield made


@pytest.fixture(scope="module")
def told_sqlite(tmp_path_factory: pytest.TempPathFactory, vega: Path) -> Iterator[Dash]:
    root = tmp_path_factory.mktemp("quality")
    with telling(f"sqlite:///{root / 'results.db'}", root, vega) as made:
        yield made


@pytest.fixture(scope="module")
def told_postgres(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory, vega: Path
) -> Iterator[Dash]:
    with telling(postgres.new_database(), tmp_path_factory.mktemp("quality"), vega) as made:
        yield made


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def told(request: pytest.FixtureRequest) -> Dash:
    made: Dash = request.getfixturevalue(f"told_{request.param}")
    return made


@pytest.mark.parametrize("path", ["/quality", "/drift"])
def test_what_needs_attention_is_shown_first(path: str, told: Dash) -> None:
    assert told.page(path).charts == told.page(path, deployment=RIDES).charts
    assert told.page(path).charts != told.page(path, deployment=CHURN).charts


class TestQuality:
    def test_the_story_of_a_changed_truth(self, told: Dash) -> None:
        shown = told.page("/quality", deployment=RIDES)
        rows = shown.rows("over-time")
        assert len(rows) == 20
        assert rows[0]["value"] < 1.2 < 3 < rows[-1]["value"]
        assert {row["version"] for row in rows} == {"1", "2"}
        assert "in training 1" in shown.text
        assert "MAE, 2026-01-20" in shown.text
        assert len(shown.rows("bias")) == 20
        assert {row["what"] for row in shown.rows("means")} == {"predicted", "true"}
        assert "120 rows" in shown.text

    def test_another_measure_and_segment(self, told: Dash) -> None:
        shown = told.page("/quality", deployment=RIDES, metric="bias", by="zone")
        assert shown.rows("over-time")[-1]["value"] > 3
        assert {row["value"] for row in shown.rows("by-segment")} == {"a", "b", "c", "d"}
        shown = told.page("/quality", deployment=RIDES, metric="beauty", by="nothing")
        assert "MAE over time" in shown.text

    def test_a_span_of_time(self, told: Dash) -> None:
        shown = told.page("/quality", deployment=RIDES, range="7d")
        assert len(shown.rows("over-time")) == 7
        shown = told.page(f"/quality?deployment={RIDES}&from=2026-01-05&to=2026-01-06")
        assert len(shown.rows("over-time")) == 2
        assert "No true value" in told.page("/quality", deployment=RIDES, to="2020-01-01").text

    def test_a_classifier_has_calibration_and_lift(self, told: Dash) -> None:
        shown = told.page("/quality", deployment=CHURN)
        assert len(shown.rows("calibration")) == 10
        assert shown.rows("lift")[0]["lift"] > 1.5
        assert "ROC-AUC" in shown.text
        assert "Positive is yes" in shown.text

    def test_by_version(self, told: Dash) -> None:
        text = told.page("/quality", deployment=RIDES).text
        assert "By version" in text
        assert "1,200" in text

    def test_nothing_yet(self, empty: Dash, tmp_path: Path) -> None:
        with Truths.open(empty.url, tmp_path) as truths:
            truths.register(RIDES)
        shown = empty.page("/quality")
        assert "No true values yet" in shown.text
        assert "trivet actuals" in shown.text


class TestDrift:
    def test_columns_are_ranked_and_laid_over(self, told: Dash) -> None:
        shown = told.page("/drift", deployment=RIDES)
        assert "2026-01-20 against the training sample of version 2" in shown.text
        assert shown.text.index(" zone ") < shown.text.index(" minutes ")
        shares = shown.rows("laid-over")
        assert {row["sample"] for row in shares} == {"training sample", "2026-01-20"}
        for sample in ("training sample", "2026-01-20"):
            assert sum(r["share"] for r in shares if r["sample"] == sample) == pytest.approx(1)
        history = shown.rows("over-time")
        moved = [row["psi"] for row in history if row["column"] == "x (input)"]
        assert max(moved[:15]) < 0.25 < min(moved[15:])

    def test_a_period_a_column_and_another_reference(self, told: Dash) -> None:
        shown = told.page(
            "/drift", deployment=RIDES, period="2026-01-18", against="2026-01-17",
            column="output.minutes",
        )  # fmt: skip
        assert "2026-01-18 against 2026-01-17" in shown.text
        assert "minutes (output): 2026-01-17 and 2026-01-18" in shown.text
        x = next(row for row in shown.rows("over-time")[::-1] if row["column"] == "x (input)")
        assert x["psi"] < 0.25

    def test_new_values_are_told(self, told: Dash) -> None:
        assert "33.3 %" in told.page("/drift", deployment=RIDES).text

    def test_a_service_is_shown_by_day(self, told: Dash) -> None:
        shown = told.page("/drift", deployment=SERVICE)
        assert "2026-01-21 against the training sample" in shown.text

    def test_a_model_without_a_sample(self, told: Dash) -> None:
        assert "saved without a sample" in told.page("/drift", deployment=CHURN).text

    def test_nothing_yet(self, empty: Dash, tmp_path: Path) -> None:
        with Truths.open(empty.url, tmp_path) as truths:
            truths.register(RIDES)
        assert "Nothing to compare yet" in empty.page("/drift").text


class TestAlerts:
    def test_what_is_wrong_now_and_what_was(self, told: Dash) -> None:
        shown = told.page("/alerts")
        assert "Predictions got worse" in shown.text
        assert "Inputs or predictions have moved" in shown.text
        assert "many rows are rejected" in shown.text
        assert "quality of churn-daily" in shown.text
        assert "trivet alerts --send" in shown.text
        assert "example.com" not in shown.text  # its address may be a secret

    def test_the_overview_tells_of_it(self, told: Dash) -> None:
        shown = told.page("/")
        assert "Predictions got worse" in shown.text
        assert "largest drift" in shown.text
        assert any(link.startswith("/quality?deployment=rides") for link in shown.links)

    def test_nothing_is_wrong(self, empty: Dash, tmp_path: Path) -> None:
        with Truths.open(empty.url, tmp_path) as truths:
            truths.register(RIDES, schedule="")
        shown = empty.page("/alerts")
        assert "Nothing is wrong" in shown.text
        assert "Nobody yet" in shown.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawn_accessible_and_at_home_on_a_phone(
    told_sqlite: Dash, visit: Callable[..., Visit], scheme: str
) -> None:
    axe_api = pytest.importorskip("axe_playwright_python.sync_playwright")
    width = 1300 if scheme == "light" else 360
    seen = visit(told_sqlite, color_scheme=scheme, viewport={"width": width, "height": 800})
    for path in (
        f"/quality?deployment={RIDES}",
        f"/quality?deployment={CHURN}",
        "/drift",
        "/alerts",
    ):
        tab = seen.go(path)
        assert not tab.query_selector(".chart-failed"), path
        found = axe_api.Axe().run(tab).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, (path, [(v["id"], [n["html"] for n in v["nodes"]]) for v in serious])
        wide = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} pixels too wide"


def test_every_filter_works_and_is_in_the_address(
    told_sqlite: Dash, visit: Callable[..., Visit]
) -> None:
    tab: Any = visit(told_sqlite).go(f"/quality?deployment={RIDES}")
    tab.select_option("select[name=metric]", "rmse")
    tab.wait_for_url("**metric=rmse*")
    tab.click("text=7 days")
    tab.wait_for_url("**range=7d*")
    assert "metric=rmse" in tab.url
    tab.select_option("select[name=deployment]", CHURN)
    tab.wait_for_url(f"**deployment={CHURN}*")
    tab = visit(told_sqlite).go(f"/drift?deployment={RIDES}")
    tab.select_option("select[name=against]", "2026-01-02")
    tab.wait_for_url("**against=2026-01-02*")
    tab.click("#ranked >> text=minutes")
    tab.wait_for_url("**column=output.minutes*")
    assert "against=2026-01-02" in tab.url
