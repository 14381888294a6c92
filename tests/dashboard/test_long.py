"""Long spans of time and classifiers: what is added up in SQL, what is cut, what is shown first."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from support.dashboards import DAY, HOUR, NOW, Dash, Lineage, log, manifest
from support.postgres import PostgresServer
from trivet.dashboard import drawing, periods
from trivet.dashboard.ask import EVER, Ask, Span
from trivet.dashboard.columns import Columns
from trivet.dashboard.settings import DashboardSettings
from trivet.dashboard.source import Source
from trivet.monitoring.quality import Bin, Scores
from trivet.results import ledger, rows
from trivet.results.layout import open_results
from trivet.results.quality import by_value, groups

NAME = "service-duration"
HOURS = 24 * 9 + 5
EACH = 4


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('long') / 'results.db'}"
        fill(url)
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    fill(url)
    yield url
    server.drop_database(url)


def fill(url: str) -> None:
    """Fill a service's log of nine days, its last hour by another version with other bins."""
    random = np.random.default_rng(3)
    with open_results(url) as db:
        log(db, NAME, "service", EACH, random, random.beta(2, 5, 500), hours=HOURS)
        second = rows.lineage(db, NAME, Lineage(version="2", digest="b2" * 32), NOW)
        profile = {
            "deployment": pa.array([NAME]),
            "hour": pa.array([NOW - HOUR], pa.timestamp("us", "UTC")),
            "lineage": pa.array([second], pa.int64()),
            "side": pa.array(["output"]),
            "column_name": pa.array(["minutes"]),
            "row_count": pa.array([3], pa.int64()),
            "null_count": pa.array([1], pa.int64()),
            "counts": pa.array(["[1, 1]"]),
            "total": pa.array([9.0]),
            "low": pa.array([-5.0]),
            "high": pa.array([500.0]),
        }
        db.append("trivet_hourly_profiles", pa.record_batch(profile))
        measured = [
            {
                "deployment": NAME, "period_start": NOW - n * HOUR, "period_end": NOW, "kind": kind,
                "model_version": "1", "segment": segment, "value": value, "positive": "true",
                "threshold": 0.5, "row_count": 10, "error_sum": 1.0, "absolute_sum": 2.0,
                "squared_sum": 3.0, "actual_sum": 4.0, "right_count": 5, "positive_count": 4,
                "true_positives": 2, "false_positives": 1, "log_loss_sum": 1.5, "brier_sum": 0.5,
                "scores": json.dumps([[n % 3, 6, 3, 1.5], [7, 4, 1, 2.5]]),
            }
            for n in range(1, 41)
            for segment, value, kind in (
                ("", "", "binary"), ("zone", "soho", "binary"), ("zone", "city", "binary"),
                ("zone", "mixed", "binary" if n % 2 else "classes"),
            )
        ]  # fmt: skip
        table = pa.Table.from_pylist(measured)
        for name in ("period_start", "period_end"):
            place = table.schema.get_field_index(name)
            moments = table[name].cast(pa.timestamp("us", "UTC"))
            table = table.set_column(place, name, moments)
        db.append("trivet_quality", table.combine_chunks().to_batches()[0])


@pytest.fixture
def ask(url: str) -> Iterator[Ask]:
    source = Source(url, Path())
    yield Ask(source, DashboardSettings(), NOW)
    source.close()


def test_many_hours_are_days(ask: Ask) -> None:
    deployment = ask.deployment(NAME)
    found = periods.read(ask, deployment, "output", "minutes", Span(*EVER, "all"))
    assert len(found) == len({p.start for p in found}) == 10
    assert all(p.end - p.start == DAY for p in found)
    assert sum(p.rows for p in found) == HOURS * EACH + 3
    assert sum(p.nulls for p in found) == 1
    full = found[3]
    assert (full.rows, sum(full.counts)) == (24 * EACH, 24 * EACH)
    last = found[-1]
    assert last.version == "1, 2"
    assert (last.low, last.high) == (-5.0, 500.0)
    assert periods.quantile(last, None, 0.5) is None


def test_few_hours_stay_hours(ask: Ask) -> None:
    deployment = ask.deployment(NAME)
    span = Span(NOW - 8 * HOUR, NOW, "")
    found = periods.read(ask, deployment, "output", "minutes", span)
    assert len(found) == 8
    assert all(p.end - p.start == HOUR for p in found)


def test_days_add_up_to_what_their_hours_do(ask: Ask) -> None:
    since = NOW - 3 * DAY
    hours = ask.source.rows(
        "hour_profiles", limit=1000, deployment=NAME, side="output", column="minutes",
        since=since, until=NOW,
    )  # fmt: skip
    days = ask.source.rows(
        "day_profiles", deployment=NAME, side="output", column="minutes", since=since, until=NOW
    )
    for version, bins in (("1", None), ("2", 2)):
        one = [h for h in hours if h["model_version"] == version]
        whole = [d for d in days if d["model_version"] == version]
        counts = np.sum([json.loads(h["counts"]) for h in one], axis=0).tolist()
        added = np.sum([periods.counts_of_day(d) for d in whole], axis=0).tolist()
        assert added == counts
        assert bins is None or len(added) == bins
        assert sum(d["total"] for d in whole) == pytest.approx(sum(h["total"] for h in one))


def test_every_page_over_a_long_log(url: str, vega: Path) -> None:
    with Dash(url, vega).serving() as dash:
        for path in (
            f"/deployments/{NAME}?range=all",
            f"/drift?deployment={NAME}&range=all",
            f"/quality?deployment={NAME}&by=zone",
            "/alerts",
            "/",
        ):
            assert dash.page(path).text
        shown = dash.page(f"/drift?deployment={NAME}&range=all").charts["over-time"]
        starts = {row["start"] for row in shown["datasets"]["rows"]}
        assert len(starts) == 10
        segments = dash.page(f"/quality?deployment={NAME}&by=zone")
        drawn = segments.charts["by-segment"]["datasets"]["rows"]
        assert {row["value"] for row in drawn} == {"soho", "city"}
        assert "Over the newest 30 periods." in segments.text
        assert all(row["rows"] == 300 for row in drawn)


def test_segments_are_added_up_by_the_database(ask: Ask) -> None:
    found, known = by_value(ask.results, NAME, *EVER, "zone", 1)
    assert known == 2  # the mixed one is of two kinds
    ((value, measure),) = found
    assert value == "city"
    assert isinstance(measure, Scores)
    parts = [g.measure for g in groups(ask.results, NAME, *EVER, "zone") if g.value == value]
    assert measure == Scores.summed(p for p in parts if isinstance(p, Scores))
    assert measure.bins[7] == Bin(160, 40, 100.0)
    assert by_value(ask.results, NAME, *EVER, "nothing", 5) == ([], 0)


def test_what_was_asked_is_kept_within_bounds(ask: Ask) -> None:
    ask.source.marker()
    since, until = EVER
    for limit in range(1, 200):
        ask.source.rows(
            "hour_profiles", deployment=NAME, side="output", column="minutes", limit=limit,
            since=since, until=until,
        )  # fmt: skip
    assert ask.source.kept_rows <= 8_000
    one = ask.source.rows("deployments")
    assert ask.source.rows("deployments") is one


@pytest.mark.parametrize(
    ("outputs", "main"),
    [
        (("label", "probability_no", "probability_yes"), "probability_yes"),
        (("label", "probability_a", "probability_b", "probability_c"), "label"),
        (("minutes",), "minutes"),
    ],
)
def test_the_score_of_the_second_of_two_classes_is_shown_first(
    outputs: tuple[str, ...], main: str
) -> None:
    assert Columns({}, (), (), outputs, {}).main == main


def test_a_drawing_is_a_specification() -> None:
    bars = drawing.Drawing({"name": "rows"}).mark("bar", size=3)
    bars = bars.encode(x="a:N", x2="b:Q", y=drawing.channel("c:d:Q", title="C"), tooltip=["a:N"])
    assert bars.spec() == {
        "data": {"name": "rows"},
        "mark": {"type": "bar", "size": 3},
        "encoding": {
            "x": {"field": "a", "type": "nominal"},
            "x2": {"field": "b"},
            "y": {"field": "c:d", "type": "quantitative", "title": "C"},
            "tooltip": [{"field": "a", "type": "nominal"}],
        },
    }
    rule = drawing.Drawing.over([{"at": 1}]).mark("rule").encode(y="at:Q", x={"value": 0})
    layers = (bars + rule + rule).spec()["layer"]
    assert [layer["mark"]["type"] for layer in layers] == ["bar", "rule", "rule"]
    assert layers[1]["data"] == {"values": [{"at": 1}]}


def test_a_stream_that_nobody_consumes_is_told_on_its_card(tmp_path: Path, vega: Path) -> None:
    from trivet.results.offsets import Standing, consumed

    url = f"sqlite:///{tmp_path / 'results.db'}"
    with open_results(url) as db:
        deployment = ledger.Deployment(
            name="tip", kind="stream", model="churn", view="tip", key=("ride_id",), keep=(),
            manifest=manifest("minutes", np.arange(9.0)),
        )  # fmt: skip
        ledger.register(db, deployment, NOW)
        seen = NOW - dt.timedelta(minutes=9)
        consumed(db, "tip", "rides", [Standing(0, 3, seen, seen)])
    with Dash(url, vega, now=NOW).serving() as dash:
        page = dash.page("/")
        assert "Nobody consumes the stream" in page.text
        assert "trivet consume tip" in page.text
        assert "no consumer for" in dash.page("/alerts").text
