"""The whole journey in a browser: everything of the project up, from the request to the end."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import launched
from support.taxi_app import Company
from support.up_process import Up

Until = Callable[[Callable[[], bool]], None]
SECONDS = 60_000


@pytest.fixture
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def opened(browser: Browser, company: Company) -> tuple[Page, list[str]]:
    """Open the page as a new user; what the console complains about is gathered."""
    page = browser.new_context().new_page()
    page.set_default_timeout(SECONDS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(company.backend)
    expect(page.locator("#link")).to_have_attribute("data-state", "live", timeout=SECONDS)
    return page, complaints


def test_a_ride_from_the_request_to_the_dashboard(
    tmp_path: Path, quick_models: Path, browser: Browser, until: Until
) -> None:
    company = Company(tmp_path / "taxi", quick_models)
    with Up(company.folder, until) as up:
        up.wait_ready()
        page, complaints = opened(browser, company)
        page.locator('[data-zone="230"]').click()
        page.locator('[data-zone="132"]').click()
        expect(page.locator("#pickup")).to_have_value("230")
        expect(page.locator("#dropoff")).to_have_value("132")
        page.locator("#request").click()
        card = page.locator(".ride")
        expect(card.locator("h2")).to_have_text("Times Square → JFK Airport", timeout=SECONDS)
        expect(card.locator(".price strong")).to_have_text(re.compile(r"\$\d+\.\d\d"))
        expect(card.locator(".later.here")).to_have_count(3, timeout=SECONDS)
        card.locator(".chips button").nth(1).click()

        other, _ = opened(browser, company)  # another user sees nothing of it
        expect(other.locator(".ride")).to_have_count(0)

        # By keyboard, from the form to a second ride.
        other.locator("#pickup").select_option("237")
        other.locator("#dropoff").select_option("236")
        other.locator("#request").focus()
        other.keyboard.press("Enter")
        expect(other.locator(".ride")).to_have_count(1, timeout=SECONDS)

        told = float(card.locator(".minutes strong").get_attribute("data-value") or "nan")
        ride_id = str(card.get_attribute("data-ride"))
        card.locator(".end").click()
        expect(card.locator(".state")).to_have_text("Arrived", timeout=SECONDS)
        assert not complaints

        with closing(sqlite3.connect(company.folder / "data" / "results.db")) as results:

            def value(column: str, view: str) -> float | None:
                query = f"SELECT {column} FROM {view} WHERE ride_id = ?"
                row = results.execute(query, (ride_id,)).fetchone()
                return None if row is None else float(row[0])

            until(lambda: value("duration_minutes", "service_trip_duration") is not None)
            assert value("duration_minutes", "service_trip_duration") == told
            assert value("first_duration", "better_duration") == told

        dashboard = browser.new_context().new_page()
        dashboard.set_default_timeout(SECONDS)
        dashboard.goto(f"{company.dashboard}/deployments/tip")
        expect(dashboard.get_by_text(ride_id).first).to_be_visible(timeout=SECONDS)
