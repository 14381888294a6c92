"""The pages in a real browser: drawn, live, readable, at home on a phone and in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from support.browser import DRAWN, Visit
from support.dashboards import BATCH, SERVICE, Dash, filled, score_day
from trivet.results.layout import open_results

axe_api = pytest.importorskip("axe_playwright_python.sync_playwright")

PAGES = ("/", f"/deployments/{BATCH}", f"/deployments/{SERVICE}", "/runs", "/runs/13", "/rejects",
         "/charts/Campaign", "/quality", "/drift", "/alerts")  # fmt: skip


@pytest.fixture(scope="session")
def sqlite_dash(filled_sqlite: str, vega: Any) -> Iterator[Dash]:
    with Dash(filled_sqlite, vega).serving() as dash:
        yield dash


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_drawn_and_accessible(
    sqlite_dash: Dash, visit: Callable[..., Visit], scheme: str
) -> None:
    seen = visit(sqlite_dash, color_scheme=scheme)
    for path in PAGES:
        tab = seen.go(path)
        assert not tab.query_selector(".chart-failed"), path
        for chart in tab.query_selector_all("[data-chart]"):
            assert chart.query_selector("svg"), path
        found = axe_api.Axe().run(tab).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, (path, [(v["id"], [n["html"] for n in v["nodes"]]) for v in serious])


def test_a_phone_needs_no_sideways_scrolling(
    sqlite_dash: Dash, visit: Callable[..., Visit]
) -> None:
    seen = visit(sqlite_dash, viewport={"width": 360, "height": 740}, has_touch=True)
    for path in PAGES:
        tab = seen.go(path)
        wide = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} pixels too wide"
    assert not tab.is_visible("#menu")
    tab.click("[data-menu]")
    tab.click("#menu >> text=Runs")
    tab.wait_for_url("**/runs")


def test_the_theme_follows_the_system_and_the_button(
    sqlite_dash: Dash, visit: Callable[..., Visit]
) -> None:
    seen = visit(sqlite_dash, color_scheme="dark")
    tab = seen.go("/")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(background)
    tab.click("[data-theme-toggle]")
    light = tab.evaluate(background)
    assert light != dark
    tab = seen.go("/runs")  # the choice is kept
    assert tab.evaluate(background) == light


def test_every_filter_is_in_the_address_and_works(
    sqlite_dash: Dash, visit: Callable[..., Visit]
) -> None:
    tab = visit(sqlite_dash).go(f"/deployments/{BATCH}")
    tab.select_option("select[name=by]", "plan")
    tab.wait_for_url("**by=plan*")
    tab.click("text=7 days")
    tab.wait_for_url("**range=7d*")
    assert "by=plan" in tab.url
    tab.fill("input[name=search]", "39001")
    tab.press("input[name=search]", "Enter")
    tab.wait_for_url("**search=39001*")
    assert "range=7d" in tab.url
    assert tab.inner_text("#predictions-title") == "Predictions about 39001"
    tab.click("#predictions summary")
    assert "b2b2" in tab.inner_text("#predictions .lineage")
    tab.goto(f"{sqlite_dash.address}/runs")
    tab.select_option("select[name=state]", "failed")
    tab.wait_for_url("**state=failed*")
    assert "deployment=" not in tab.url  # what was left empty stays out of the address
    tab.goto(f"{sqlite_dash.address}/rejects")
    tab.select_option("select[name=code]", "null")
    tab.wait_for_url("**code=null*")
    tab.select_option("select[name=field]", "a")
    tab.wait_for_url("**field=a*")


def test_the_keyboard_reaches_everything(sqlite_dash: Dash, visit: Callable[..., Visit]) -> None:
    tab = visit(sqlite_dash).go("/runs")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = set()
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.getAttribute('href')"))
    assert {"/", "/rejects", f"/deployments/{BATCH}", "/runs/1"} <= reached
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_a_page_follows_a_job_that_writes(empty: Dash, visit: Callable[..., Visit]) -> None:
    filled(empty.url, days=2, logs=False, failed=(), missing=())
    seen = visit(empty)
    tab = seen.go("/runs")
    tab.wait_for_selector('[data-live-state="on"]')
    tab.evaluate("window.notReloaded = true")
    assert "2 done" in tab.inner_text(".legend")
    with open_results(empty.url) as db:
        score_day(db, 2, 20, np.random.default_rng(1))
    tab.wait_for_selector("text=3 done")
    tab.wait_for_selector("#attempts >> text=2026-01-03")
    tab.wait_for_function(DRAWN)
    assert tab.evaluate("window.notReloaded")


def test_a_page_goes_on_showing_what_it_chose(empty: Dash, visit: Callable[..., Visit]) -> None:
    filled(empty.url, days=3)
    tab = visit(empty).go("/drift")
    chosen = tab.input_value("select[name=deployment]")
    tab.wait_for_selector('[data-live-state="on"]')
    with (
        tab.expect_request(lambda asked: asked.url.endswith(f"/drift?deployment={chosen}")),
        open_results(empty.url) as db,
    ):
        score_day(db, 3, 20, np.random.default_rng(1))


def test_an_empty_page_fills_by_itself(empty: Dash, visit: Callable[..., Visit]) -> None:
    seen = visit(empty)
    tab = seen.go("/")
    assert "No results yet" in tab.inner_text("h1")
    assert "trivet score NAME" in tab.inner_text("main")
    tab.evaluate("window.notReloaded = true")
    filled(empty.url, days=2, logs=False)
    tab.wait_for_selector("text=Deployments")
    tab.wait_for_selector(f"#card-{BATCH}")
    assert tab.evaluate("window.notReloaded")


def test_what_a_visitor_opened_stays_open(empty: Dash, visit: Callable[..., Visit]) -> None:
    filled(empty.url, days=3, logs=False, failed=(), missing=())
    tab = visit(empty).go("/runs")
    tab.click(f"#chart-stages-{BATCH} summary")
    with open_results(empty.url) as db:
        score_day(db, 3, 20, np.random.default_rng(1))
    tab.wait_for_selector("text=4 done")
    tab.wait_for_function(DRAWN)
    assert tab.get_attribute(f"#chart-stages-{BATCH} details", "open") is not None
