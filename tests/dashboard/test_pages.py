"""Each page over real results, in both kinds of database: what it says, and where it leads."""

from __future__ import annotations

import datetime as dt
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from support.dashboards import BATCH, NOW, SERVICE, STREAM, Dash

EVERY = ("/", f"/deployments/{BATCH}", f"/deployments/{SERVICE}", f"/deployments/{STREAM}",
         "/runs", "/runs/1", "/rejects", "/charts/Campaign")  # fmt: skip


def test_every_page_is_whole_and_leads_to_pages_that_are(dash: Dash) -> None:
    links: dict[str, str] = {}
    for path in EVERY:
        shown = dash.page(path)
        assert "</html>" in shown.html
        # One link of each kind: the runs are many.
        links |= {re.sub(r"\d+", "0", link): link for link in shown.links if link[:1] == "/"}
    for link in links.values():
        assert dash.client.get(link).status_code == 200, link


def test_the_overview_tells_of_each_deployment(dash: Dash) -> None:
    text = dash.page("/").text
    for name in (BATCH, SERVICE, STREAM):
        assert name in text
    assert "newest interval 2026-02-09" in text
    assert re.search(r"rows that day \d+", text)


def test_the_overview_tells_first_what_needs_a_look_with_its_repair(dash: Dash) -> None:
    text = dash.page("/").text
    assert text.index("2026-01-13 failed") < text.index("2 intervals are missing")
    assert f"trivet score {BATCH} --interval 2026-01-13" in text
    assert f"trivet backfill {BATCH} --from 2026-01-21 --to 2026-01-22" in text
    assert "the source <refused> the query" in text  # escaped in the page, whole in its text


def test_overdue_is_judged_by_the_moment_given(dash: Dash) -> None:
    dash.now = NOW + dt.timedelta(days=3)
    text = dash.page("/").text
    assert "overdue for 6.0 h" in text or "overdue for 6 h" in text
    assert "5 intervals are missing" in text


def test_predictions_over_time_come_from_the_profiles(dash: Dash) -> None:
    rows = dash.page(f"/deployments/{BATCH}").rows("over-time")
    assert len(rows) == 37  # of 40 days, one failed and two are missing
    assert all(row["p10"] <= row["median"] <= row["p90"] for row in rows)
    assert rows[0]["mean"] < rows[-1]["mean"]
    assert {row["version"] for row in rows} == {"1", "2"}


def test_the_distribution_of_each_period_adds_up(dash: Dash) -> None:
    shares: dict[str, float] = {}
    for row in dash.page(f"/deployments/{BATCH}").rows("distribution"):
        shares[row["start"]] = shares.get(row["start"], 0) + row["share"]
    assert len(shares) == 37
    assert all(total == pytest.approx(1) for total in shares.values())


@pytest.mark.parametrize(
    ("by", "values"),
    [
        ("plan", {"basic", "family", "premium"}),
        ("joined_at: weekday", {"1 Mon", "2 Tue", "3 Wed", "4 Thu", "5 Fri", "6 Sat", "7 Sun"}),
        ("joined_at: month", {"2026-01", "2026-02"}),
    ],
)
def test_predictions_are_broken_down_by_kept_columns(dash: Dash, by: str, values: set[str]) -> None:
    rows = dash.page(f"/deployments/{BATCH}", by=by).rows("breakdown")
    assert {row["value"] for row in rows} == values
    assert sum(row["rows"] for row in rows) == 37 * 50


def test_a_breakdown_that_is_none_is_left_out(dash: Dash) -> None:
    assert "breakdown" not in dash.page(f"/deployments/{BATCH}?by=nothing").charts


@pytest.mark.parametrize(
    ("query", "periods"),
    [("range=7d", 6), ("range=30d", 27), ("from=2026-01-01&to=2026-01-05", 5), ("range=odd", 37)],
)
def test_the_span_of_time_is_in_the_address(dash: Dash, query: str, periods: int) -> None:
    rows = dash.page(f"/deployments/{BATCH}?{query}").rows("over-time")
    assert len(rows) in (periods, periods + 1)


def test_links_keep_the_other_filters(dash: Dash) -> None:
    shown = dash.page(f"/deployments/{BATCH}?by=plan&search=1001")
    link = next(link for link in shown.links if "range=7d" in link)
    assert parse_qs(urlsplit(link).query) == {"by": ["plan"], "search": ["1001"], "range": ["7d"]}


def test_a_key_is_found_with_its_lineage(dash: Dash) -> None:
    text = dash.page(f"/deployments/{BATCH}?search=39001").text
    assert "Predictions about 39001" in text
    assert "version 2" in text
    assert "b2" * 32 in text
    assert "No prediction about nobody" in dash.page(f"/deployments/{BATCH}?search=nobody").text


@pytest.mark.parametrize("name", [SERVICE, STREAM])
def test_a_key_is_found_in_a_log(dash: Dash, name: str) -> None:
    text = dash.page(f"/deployments/{name}?search={name}-3-7").text
    assert f"{name}-3-7" in text.partition("Predictions about")[2]
    assert "No prediction about" not in text


@pytest.mark.parametrize("name", [SERVICE, STREAM])
def test_a_log_tells_rate_latency_and_errors(dash: Dash, name: str) -> None:
    shown = dash.page(f"/deployments/{name}?range=all")
    assert sum(row["rows"] for row in shown.rows("rate")) == 30 * 50
    latencies = [row["ms"] for row in shown.rows("latency") if row["percentile"] == "p99"]
    assert all(0 < ms < 200 for ms in latencies)
    assert {row["code"] for row in shown.rows("errors")} == {"type", "undecodable"}
    assert "latency p50" in shown.text


def test_a_log_shows_its_last_day_unless_asked_otherwise(dash: Dash) -> None:
    rows = dash.page(f"/deployments/{SERVICE}").rows("rate")
    assert sum(row["rows"] for row in rows) == 24 * 50


def test_versions_tell_when_they_took_over(dash: Dash) -> None:
    text = dash.page(f"/deployments/{BATCH}").text
    assert re.search(r"2 b2b2b2b2b2b2 2026-01-27 01:00 2026-01-26 2026-02-10 15 750", text)


def test_runs_show_every_interval_and_how_it_stands(dash: Dash) -> None:
    text = dash.page("/runs").text
    assert "37 done" in text
    assert "1 failed" in text
    assert "2 missing" in text
    assert "2026-01-13: failed" in text
    assert "2026-01-22: missing" in text


def test_attempts_are_filtered_by_state(dash: Dash) -> None:
    text = dash.page("/runs?state=failed").text
    attempts = text.partition("Attempts attempt")[2]
    assert "2026-01-13" in attempts
    assert "published" not in attempts
    assert "No attempt is stopped" in dash.page("/runs?state=stopped").text


def test_a_run_tells_its_error_its_rejects_and_its_repair(dash: Dash) -> None:
    text = dash.page("/runs/13").text
    assert "the source <refused> the query" in text
    assert f"trivet score {BATCH} --interval 2026-01-13" in text
    assert "<b>7</b> is above the maximum 1" in text
    assert "1 null in a" in text


@pytest.mark.parametrize("path", ["/runs/999", "/runs/x", "/deployments/none", "/charts/none"])
def test_what_is_not_there_is_told_so(dash: Dash, path: str) -> None:
    assert "Not there" in dash.page(path, 404).text
    assert "no such" in dash.page("/nowhere", 404).text.lower()


def test_rejects_are_counted_by_code_and_field(dash: Dash) -> None:
    shown = dash.page(f"/rejects?deployment={BATCH}")
    assert re.search(r"null a 13", shown.text)
    assert sum(row["n"] for row in shown.rows(f"rejects-{BATCH}")) == 26


@pytest.mark.parametrize(("query", "n"), [("code=null", 13), ("field=a", 26), ("code=type", 0)])
def test_rejects_are_filtered(dash: Dash, query: str, n: int) -> None:
    shown = dash.page(f"/rejects?deployment={BATCH}&{query}")
    rows = shown.rows(f"rejects-{BATCH}") if n else []
    assert sum(row["n"] for row in rows) == n
    assert n or "No reject fits these filters" in shown.text


def test_rejects_of_a_log_have_their_moment_and_id(dash: Dash) -> None:
    text = dash.page(f"/rejects?deployment={SERVICE}").text
    assert "no JSON" in text
    assert "r-2" in text
    assert "the whole row" in text


def test_own_charts_are_drawn_and_a_wrong_one_hurts_no_other(dash: Dash) -> None:
    shown = dash.page("/charts/Campaign")
    assert {row["plan"] for row in shown.rows("own-by-plan")} == {"basic", "family", "premium"}
    assert "nowhere" in shown.text
    tile = dash.page("/").text
    assert "Customers 1,200 +20.0 % from 1,000" in tile
