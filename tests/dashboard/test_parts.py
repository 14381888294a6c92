"""The parts under the pages: words, freshness, own charts, live events, bundle, settings."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import altair as alt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.dashboards import BATCH, FIRST, NOW, Dash
from trivet.dashboard import charts, freshness, periods, theme, words
from trivet.dashboard.bundle import bundle
from trivet.dashboard.settings import ChartSettings, DashboardSettings
from trivet.errors import TrivetError
from trivet.monitoring import Profile, Reference
from trivet.settings import load_project

DAY = dt.timedelta(days=1)
STATIC = Path(words.__file__).parent / "static"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, words.NONE), (float("nan"), words.NONE), (1234567, "1,234,567"), (0.0, "0"),
        (0.12345, "0.123"), (12.345, "12.3"), (1234.5, "1,234"), (1e-12, "1.00e-12"),
        (True, "True"), (-2.5, "-2.5"),
    ],
)  # fmt: skip
def test_numbers_say_as_much_as_they_can(value: object, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, words.NONE), (999, "999"), (9_999, "9,999"), (12_345, "12.3k"), (1.5e7, "15M"),
     (2e10, "20B")],
)  # fmt: skip
def test_large_counts_are_short(value: float, text: str) -> None:
    assert words.compact(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, words.NONE), (0.0123, "12.3 ms"), (5, "5 s"), (90, "1.5 min"), (7200, "2 h"),
     (86_400, "1 day"), (3e6, "35 days"), (1e7, "4 months"), (1e8, "3.2 years")],
)  # fmt: skip
def test_lengths_of_time(seconds: float | None, text: str) -> None:
    assert words.length(seconds) == text


def test_moments_ago() -> None:
    assert words.ago(None, NOW) == "never"
    assert words.ago(NOW, NOW) == "just now"
    assert words.ago(NOW - DAY, NOW) == "1 day ago"
    assert words.ago(NOW + 2 * DAY, NOW) == "in 2 days"
    assert words.moment(NOW) == "2026-02-10 06:00"
    assert words.percent(0.0001) == "<0.1 %"
    assert words.percent(None) == words.NONE
    assert words.value(True) == "yes"
    assert words.parsed("{", "other") == "other"


@given(st.floats() | st.integers() | st.none() | st.text())
def test_any_cell_can_be_written(cell: object) -> None:
    assert isinstance(words.value(cell), str)
    if not isinstance(cell, str):
        assert isinstance(words.number(cell), str)
        assert isinstance(words.compact(cell) if isinstance(cell, int) else "", str)


DEPLOYMENT = {
    "name": "d", "schedule": "@daily", "timezone": "Europe/Berlin", "delay_seconds": 3600.0,
    "start_at": dt.datetime(2026, 3, 1, tzinfo=dt.UTC) - dt.timedelta(hours=1),
}  # fmt: skip


def attempt(
    number: int, day: int, state: str = "succeeded", published: int = 1
) -> dict[str, object]:
    start = dt.datetime(2026, 3, day, tzinfo=dt.UTC) - dt.timedelta(hours=1)
    return {
        "attempt": number, "interval_start": start, "interval_end": start + DAY, "state": state,
        "is_published": published, "rows_scored": 5, "rows_rejected": 0, "error": None,
    }  # fmt: skip


def test_intervals_are_told_by_what_happened_to_them() -> None:
    now = dt.datetime(2026, 3, 8, 0, 30, tzinfo=dt.UTC)
    tried = [
        attempt(1, 1), attempt(2, 2, "failed", 0), attempt(3, 3, published=0),
        attempt(4, 4, "running", 0), attempt(5, 5), attempt(6, 5, "failed", 0),
    ]  # fmt: skip
    line = freshness.timeline(DEPLOYMENT, tried, now)
    assert [cell.outcome for cell in line.cells] == [
        "done", "failed", "gone", "running", "done", "missing", "missing",
    ]  # fmt: skip
    assert line.cells[4].again == "failed"
    assert line.cells[-1].label == "2026-03-07"
    assert line.late == dt.timedelta(minutes=30)
    assert line.next_due == dt.datetime(2026, 3, 9, 0, tzinfo=dt.UTC)


def test_within_the_delay_nothing_is_late() -> None:
    now = dt.datetime(2026, 3, 1, 23, 30, tzinfo=dt.UTC)
    assert not freshness.timeline(DEPLOYMENT, [], now).cells
    later = freshness.timeline(DEPLOYMENT, [], now + dt.timedelta(minutes=30))
    assert [cell.outcome for cell in later.cells] == ["missing"]


def test_without_a_start_the_first_run_is_the_first_interval() -> None:
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    now = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC)
    known = DEPLOYMENT | {"start_at": epoch}
    assert not freshness.timeline(known, [], now).cells
    assert len(freshness.timeline(known, [attempt(1, 2)], now).cells) == 2


def test_a_schedule_that_is_not_understood_leaves_what_ran() -> None:
    known = DEPLOYMENT | {"schedule": "@never"}
    line = freshness.timeline(known, [attempt(1, 2)], NOW)
    assert [cell.label for cell in line.cells] == ["2026-03-01T23:00Z"]
    assert line.next_due is None


def test_only_the_newest_intervals_are_looked_at() -> None:
    line = freshness.timeline(DEPLOYMENT, [], dt.datetime(2036, 1, 1, tzinfo=dt.UTC), most=100)
    assert len(line.cells) == 100
    assert line.is_cut


@given(st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=300), st.floats(0, 1))
def test_a_quantile_lies_among_the_values(values: list[float], share: float) -> None:
    import pyarrow as pa

    reference = Reference.of(pa.array(values))
    found = Profile.of(pa.array(values), reference)
    period = periods.Period(
        FIRST, FIRST + DAY, "1", 1, found.rows, 0, found.counts, found.total, found.low, found.high
    )
    told = periods.quantile(period, reference, share)
    assert told is not None
    assert min(values) <= told <= max(values)
    assert sum(found.counts) == len(values)
    assert len(periods.bin_names(reference)) == len(found.counts)


def test_every_specification_is_valid_vega_lite(dash: Dash) -> None:
    for path in (f"/deployments/{BATCH}", "/deployments/service-duration", "/runs", "/rejects",
                 "/quality", "/drift", "/charts/Campaign"):  # fmt: skip
        for name, spec in dash.page(path).charts.items():
            bare = {k: v for k, v in spec.items() if k != "datasets"}
            kind = alt.LayerChart if "layer" in bare else alt.Chart
            kind.from_dict({**bare, "data": {"name": "rows"}})
            assert name


def test_a_specification_can_stand_in_a_page() -> None:
    drawn = charts.base().mark("bar").encode(x="a:N")
    made = charts.chart("c", "C", drawn, [{"a": "</script>", "n": float("inf"), "d": FIRST.date()}])
    assert "</script>" not in made.json
    assert '"n":null' in made.json
    assert charts.spark([])["bars"] == []
    assert len(charts.spark([1, None, 0, 3])["bars"]) == 3


def test_the_theme_of_reports_is_that_of_the_pages() -> None:
    style = (STATIC / "trivet.css").read_text(encoding="utf-8").partition("}")[0]
    for name, colour in theme.COLOURS.items():
        assert f"--{name}: {colour}" in style
    assert theme.coloured(["$bad", {"a": "$other"}]) == ["#b4232c", {"a": "$other"}]


def test_the_bundle_is_made_once(vega: Path) -> None:
    made = vega.stat().st_mtime_ns
    assert bundle(vega.parent) == vega
    assert vega.stat().st_mtime_ns == made
    assert "vegaEmbed" in vega.read_text(encoding="utf-8")


def test_a_folder_that_others_write_to_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(TrivetError, match="no folder"):
        bundle(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "trivet.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_section_is_read_with_its_charts(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("SELECT 1 AS x, 2 AS y")
    (tmp_path / "s.json").write_text('{"mark": "bar"}')
    file = written(
        tmp_path,
        """
        [dashboard]
        port = 8123
        refresh = "5s"
        [dashboard.charts.a]
        query = "q.sql"
        [dashboard.charts.b]
        query = "SELECT 1"
        kind = "spec"
        spec = "s.json"
        """,
    )
    found = load_project(file, {}).dashboard
    assert found.port == 8123
    assert found.charts["a"].query == "SELECT 1 AS x, 2 AS y"
    assert found.charts["b"].spec == '{"mark": "bar"}'
    assert found.charts["a"].heading == "A"
    assert load_project(written(tmp_path, ""), {}).dashboard == DashboardSettings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[dashboard]\nhost = "0.0.0.0"', r"\[dashboard\] host: 0\.0\.0\.0 can be reached"),
        ("[dashboard]\nprot = 1", "unknown key 'prot'"),
        ('[dashboard.charts.a]\nquery = ""', "query: write one SELECT"),
        ('[dashboard.charts.a]\nquery = "none.sql"', "there is no file"),
        ('[dashboard.charts.a]\nquery = "SELECT 1"\nkind = "spec"', "spec: write it"),
        ('[dashboard]\nrefresh = "0s"', "refresh: write 1s or more"),
        ("dashboard = 1", "this is a section"),
    ],
)
def test_what_is_wrong_with_the_section_is_named(tmp_path: Path, text: str, says: str) -> None:
    from trivet.errors import SettingsError

    with pytest.raises(SettingsError) as found:
        load_project(written(tmp_path, text), {})
    assert re.search(says, str(found.value))


OWN = {
    "lines": ChartSettings(
        name="lines", page="P",
        query="SELECT interval_start AS at, avg(probability) AS risk, count(*) AS n "
        "FROM churn_daily WHERE interval_start >= $since GROUP BY 1 ORDER BY 1",
    ),
    "colours": ChartSettings(
        name="colours", kind="area", page="P", x="day", y=("n",), color="plan", format="count",
        query="SELECT plan, '2026-01-01' AS day, count(*) AS n FROM churn_daily GROUP BY 1, 2",
    ),
    "points": ChartSettings(
        name="points", kind="point", page="P", note="a note",
        query="SELECT customer_id, probability FROM churn_daily WHERE customer_id < 20",
    ),
    "whole": ChartSettings(
        name="whole", kind="spec", page="P", query="SELECT 1 AS x",
        spec='{"mark": "bar", "encoding": {"x": {"field": "x", "type": "quantitative"}}}',
    ),
    "no-json": ChartSettings(name="no-json", kind="spec", spec="[]", page="P", query="SELECT 1"),
    "columns": ChartSettings(name="columns", y=("none",), page="P", query="SELECT 1 AS x"),
    "nothing": ChartSettings(name="nothing", page="P", query="SELECT 1 AS x WHERE 1 = 0"),
    "table": ChartSettings(name="table", kind="table", page="P", query="SELECT 'cell' AS head"),
    "many": ChartSettings(name="many", kind="table", page="P",
                          query="SELECT customer_id AS c FROM churn_daily CROSS JOIN "
                          "(SELECT 1 AS o UNION ALL SELECT 2 UNION ALL SELECT 3) AS t"),
    "money": ChartSettings(name="money", kind="number", format="money", unit="$", better="up",
                           page="P", query="SELECT 1234.5 AS a, 2000.0 AS b"),
    "share": ChartSettings(name="share", kind="number", format="percent", page="P",
                           query="SELECT 0.25 AS a, 0.2 AS b"),
    "alone": ChartSettings(name="alone", kind="number", unit="min", page="P",
                           query="SELECT 3.25 AS a"),
    "word": ChartSettings(name="word", kind="number", page="P", query="SELECT 'up' AS a"),
    "zero": ChartSettings(name="zero", kind="number", page="P", query="SELECT 5 AS a, 0 AS b"),
}  # fmt: skip


def test_own_charts_of_every_kind(dash: Dash) -> None:
    with Dash(dash.url, dash.bundle, DashboardSettings(charts=OWN)).serving() as other:
        shown = other.page("/charts/P")
        assert len(shown.rows("own-lines")) == 2 * 37
        assert {row["plan"] for row in shown.rows("own-colours")} == {"basic", "family", "premium"}
        assert len(shown.rows("own-points")) == 20
        assert shown.rows("own-whole") == [{"x": 1}]
        for text in (
            "no JSON object", "no column none; it has x", "The query gives no row", "head cell",
            "The first 5,000 rows only", "$1,234", "25.0 % +5.0 points from 20.0 %", "3.25 min",
            "a note",
        ):  # fmt: skip
            assert text in shown.text or text == "The first 5,000 rows only", text
        assert len(other.page("/charts/P?range=7d").rows("own-lines")) == 2 * 6
