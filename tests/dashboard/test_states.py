"""The database empty, away, slow, of another layout: a page that says so, and comes back."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.dashboards import BATCH, CHARTS, SERVICE, STREAM, Dash, fill, filled
from support.postgres import PostgresServer
from trivet.dashboard.settings import ChartSettings, DashboardSettings
from trivet.databases import connect
from trivet.results.layout import open_results

SLOW = {
    "sqlite": "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g) "
    "SELECT max(i) FROM g",
    "postgresql": "SELECT count(*) FROM generate_series(1, 1000000000) AS a",
}


@pytest.fixture(params=["sqlite", "postgres"])
def blank(request: pytest.FixtureRequest, tmp_path: Path, vega: Path) -> Iterator[Dash]:
    """Give a dashboard over a database without results, of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'results.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    with Dash(url, vega).serving() as made:
        yield made
    made.source.close()


def test_without_results_the_page_names_the_command_and_comes_back(blank: Dash) -> None:
    shown = blank.page("/")
    assert "No results yet" in shown.text
    assert "trivet score NAME" in shown.text
    assert "data-waits" in shown.html
    filled(blank.url, days=3, logs=False)
    shown = blank.page("/")
    assert BATCH in shown.text
    assert "data-waits" not in shown.html


def test_results_without_a_run_say_what_fills_them(blank: Dash) -> None:
    open_results(blank.url).close()
    assert "No deployment has run yet" in blank.page("/").text
    assert "trivet score NAME" in blank.page("/runs").text
    assert "No deployment has run yet" in blank.page("/rejects").text


def test_a_deployment_without_a_prediction_says_what_fills_it(empty: Dash) -> None:
    with open_results(empty.url) as db:
        fill(db, days=1, failed=(0,), missing=(), logs=False)
    assert f"trivet score {BATCH}" in empty.page(f"/deployments/{BATCH}").text
    assert "failed" in empty.page("/").text


@pytest.mark.parametrize(("version", "says"), [(1, "trivet results upgrade"), (99, "pip install")])
def test_another_layout_is_told_with_the_command(blank: Dash, version: int, says: str) -> None:
    with open_results(blank.url) as db:
        db.execute("CREATE TABLE kept AS SELECT * FROM trivet_schema")
        db.execute("DELETE FROM trivet_schema")
        db.execute("INSERT INTO trivet_schema VALUES ($v)", v=version)
    shown = blank.page("/runs", 503)
    assert says in shown.text
    assert "data-waits" in shown.html
    with connect(blank.url, write=True) as db:
        db.execute("DELETE FROM trivet_schema")
        db.execute("INSERT INTO trivet_schema SELECT * FROM kept")
    blank.page("/runs")


def test_a_file_that_is_no_database_is_told(empty: Dash) -> None:
    Path(empty.url.removeprefix("sqlite:///")).write_text("no database at all, " * 200)
    assert "file is not a database" in empty.page("/", 500).text


def test_a_database_that_was_replaced_is_read_anew(empty: Dash, tmp_path: Path) -> None:
    filled(empty.url, days=2, logs=False, failed=(), missing=())
    assert "2026-01-02" in empty.page("/").text
    other = filled(f"sqlite:///{tmp_path / 'other.db'}", days=4, logs=False, failed=(), missing=())
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"results.db{suffix}").unlink(missing_ok=True)
    Path(other.removeprefix("sqlite:///")).replace(tmp_path / "results.db")
    assert "2026-01-04" in empty.page("/").text


def test_a_server_that_goes_away_is_told_and_comes_back(
    own_postgres: Callable[[], PostgresServer], vega: Path
) -> None:
    server = own_postgres()
    url = filled(server.new_database(), days=3, logs=False)
    with Dash(url, vega).serving() as dash:
        assert BATCH in dash.page("/").text
        server.stop(immediate=True)
        shown = dash.page("/", 503)
        assert "cannot be reached" in shown.text
        assert "data-waits" in shown.html
        assert "password" not in shown.text
        server.start()
        assert BATCH in dash.page("/").text


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_slow_query_ends_and_hurts_nothing_else(
    kind: str, request: pytest.FixtureRequest, vega: Path
) -> None:
    url = request.getfixturevalue("filled_sqlite" if kind == "sqlite" else "filled_postgres")
    slow = ChartSettings(name="slow", kind="table", query=SLOW[kind], page="Slow")
    settings = DashboardSettings(
        charts=CHARTS | {"slow": slow}, query_limit=dt.timedelta(seconds=1)
    )
    with Dash(url, vega, settings).serving() as dash:
        began = time.monotonic()
        text = dash.page("/charts/Slow").text
        assert "took longer than 1 s" in text
        assert time.monotonic() - began < 60
        dash.page("/")


def test_a_page_that_is_unchanged_is_not_sent_again(dash: Dash) -> None:
    first = dash.client.get("/rejects")
    again = dash.client.get("/rejects", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert not again.content


def test_static_files_are_compressed_and_kept(dash: Dash) -> None:
    page = dash.page("/").html
    for name in ("trivet.css", "trivet.js", "vega.js"):
        start = page.index(f"/static/{name}?v=")
        address = page[start : page.index('"', start)]
        answer = dash.client.get(address)
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
        plain = dash.client.get(f"/static/{name}", headers={"Accept-Encoding": "identity"})
        assert plain.content == answer.content
        assert plain.headers["cache-control"] == "no-cache"
        tag = {"If-None-Match": plain.headers["etag"]}
        assert dash.client.get(f"/static/{name}", headers=tag).status_code == 304
    assert dash.client.get("/static/none.js").status_code == 404


def test_a_page_weighs_little(dash: Dash) -> None:
    """All that a browser loads, before compression: the issue allows 1.5 MB."""
    shared = sum(
        len(dash.client.get(f"/static/{name}").content)
        for name in ("trivet.css", "trivet.js", "vega.js", "icon.svg")
    )
    for path in ("/", f"/deployments/{BATCH}", "/runs", "/rejects"):
        assert shared + len(dash.client.get(path).content) < 1_500_000, path


def test_a_change_is_told_to_open_pages(empty: Dash) -> None:
    filled(empty.url, days=2, logs=False, failed=(), missing=())
    with httpx.stream("GET", f"{empty.address}/live", timeout=60) as stream:
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data:"))
        with open_results(empty.url) as db:
            db.execute("UPDATE trivet_deployments SET model = 'another'")
        second = next(line for line in lines if line.startswith("data:"))
    assert first != second
    assert "another" in empty.page("/").text


def test_nothing_can_be_written(dash: Dash) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert dash.client.request(method, "/runs").status_code == 405
    writing = "WITH gone AS (DELETE FROM trivet_runs RETURNING 1) SELECT * FROM gone"
    for statement in ("DELETE FROM trivet_runs", "DROP TABLE trivet_runs", writing):
        chart = ChartSettings(name="bad", kind="table", query=statement)
        settings = DashboardSettings(charts={"bad": chart})
        with Dash(dash.url, dash.bundle, settings).serving() as other:
            other.page("/")
    assert "37 done" in dash.page("/runs").text


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE trivet_runs; --", "<script>alert(1)</script>", "%"]
)
def test_what_a_visitor_writes_stays_text(dash: Dash, text: str) -> None:
    for path in (f"/deployments/{BATCH}", "/rejects", "/runs"):
        for name in ("search", "by", "column", "code", "field", "deployment", "state", "range"):
            shown = dash.page(path, **{name: text})
            assert "<script>alert" not in shown.html
    assert "37 done" in dash.page("/runs").text


def test_a_manifest_that_says_little_hurts_no_page(empty: Dash) -> None:
    with open_results(empty.url) as db:
        fill(db, days=2, failed=(), missing=())
        db.execute("UPDATE trivet_deployments SET manifest = '{}'")
    for name in (BATCH, SERVICE, STREAM):
        shown = empty.page(f"/deployments/{name}")
        assert "Last predictions" in shown.text
    empty.page("/")
