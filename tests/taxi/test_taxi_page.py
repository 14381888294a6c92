"""The passenger's page in a real browser: accessible, at home on a phone, each user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from backend.storage import Answer, Database
from playwright.sync_api import Browser, Page, expect

from support.browser import launched
from support.taxi_app import Company

axe_api = pytest.importorskip("axe_playwright_python.sync_playwright")

SECONDS = 60_000
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
ANSWERS = {
    "better-duration": {"duration_minutes": 41.0, "duration_low": 33.0, "duration_high": 52.0},
    "tip": {"tip": 9.0, "tip_low": 7.5, "tip_high": 11.0},
    "final-cost": {"cost": 68.0, "cost_low": 61.0, "cost_high": 76.0},
}
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Give the backend alone: the models' service is away, and so are the streams."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "no-models").mkdir()
    company = Company(folder / "taxi", folder / "no-models")
    with company.running_backend():
        yield company


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, company: Company) -> Iterator[Visit]:
    """Open the page as new users; what any of their consoles complains about fails the test."""
    complaints: list[str] = []
    contexts = []

    def opened(**look: Any) -> Page:
        context = browser.new_context(reduced_motion="reduce", **look)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        arrive(page, company)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def arrive(page: Page, company: Company) -> None:
    page.goto(company.backend)
    expect(page.locator("#link")).to_have_attribute("data-state", "live", timeout=SECONDS)


def ride(page: Page, pickup: str = "230", dropoff: str = "132") -> str:
    """Request a ride and return its id."""
    page.locator("#pickup").select_option(pickup)
    page.locator("#dropoff").select_option(dropoff)
    page.locator("#request").click()
    card = page.locator(".ride").first
    expect(card.locator(".price strong")).to_have_text("$52.00")
    return str(card.get_attribute("data-ride"))


def answer(company: Company, ride_id: str) -> None:
    """Keep what the streams would say of a ride; its passenger sees it with the next connection."""
    database = Database(company.folder / "data" / "rides.db")
    try:
        said = [Answer(ride_id, kind, answer) for kind, answer in ANSWERS.items()]
        database.answered(said, lambda user: False)
    finally:
        database.close()


def accessible(page: Page, when: str) -> None:
    found = axe_api.Axe().run(page).response["violations"]
    assert not found, (when, [(v["id"], [n["html"] for n in v["nodes"]]) for v in found])
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{when}: {wide} pixels too wide"


@pytest.mark.parametrize(
    ("look", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"]
)
def test_every_state_is_accessible_and_fits(
    company: Company, visit: Visit, look: dict[str, Any], scheme: str
) -> None:
    page = visit(color_scheme=scheme, **look)
    accessible(page, "at first")
    page.locator("#request").click()
    expect(page.locator("#problem")).to_have_text("Choose where the ride starts.")
    accessible(page, "nothing chosen")
    ride_id = ride(page)
    accessible(page, "on the way")
    answer(company, ride_id)
    arrive(page, company)
    expect(page.locator(".later.here")).to_have_count(3)
    expect(page.locator(".fallback")).to_be_visible()
    page.locator(".chips button").nth(2).click()
    accessible(page, "all answers")
    page.locator(".end").click()
    expect(page.locator(".state")).to_have_text("Arrived")
    accessible(page, "arrived")
    ride(page)
    page.locator("#past summary").click()
    accessible(page, "earlier rides")


def test_a_ride_by_keyboard_alone(visit: Visit) -> None:
    page = visit(**DESK)

    def focused(script: str) -> Any:
        return page.evaluate(f"document.activeElement.{script}")

    def tab_to(what: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if focused(f"matches('{what}')"):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none" or what == ".zone", what
                return
        raise AssertionError(f"{what} is not in the order of the Tab key")

    tab_to(".zone")
    first = focused("dataset.zone")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    second = focused("dataset.zone")
    assert first != second
    page.keyboard.press(" ")
    expect(page.locator("#pickup")).to_have_value(first)
    expect(page.locator("#dropoff")).to_have_value(second)
    page.locator("#pickup").focus()
    tab_to("#request")
    page.keyboard.press("Enter")
    expect(page.locator(".ride")).to_have_count(1)
    tab_to(".end")
    page.keyboard.press("Enter")
    expect(page.locator(".state")).to_have_text("Arrived")


def test_two_users_at_once_see_their_own_rides_only(company: Company, visit: Visit) -> None:
    one, other = visit(), visit()
    mine, theirs = ride(one), ride(other)
    for page, own, foreign in ((one, mine, theirs), (other, theirs, mine)):
        expect(page.locator(".ride")).to_have_count(1)
        expect(page.locator(f'[data-ride="{own}"]')).to_be_visible()
        told = page.evaluate("fetch('/api/rides').then(reply => reply.json())")
        assert [each["ride_id"] for each in told] == [own]
        assert page.request.get(f"{company.backend}/api/rides/{foreign}").status == 404
        stolen = page.request.post(f"{company.backend}/api/rides/{foreign}/end", data={})
        assert stolen.status == 404
    one.locator(".end").click()
    expect(one.locator(".state")).to_have_text("Arrived")
    expect(other.locator(".end")).to_be_visible()
