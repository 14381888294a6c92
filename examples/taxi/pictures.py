"""Take the documentation's pictures of the page and the dashboard, while `make demo-live` is up.

    python pictures.py [FOLDER]

It needs Chromium (apt-get install chromium) and playwright (pip install playwright).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

HERE = Path(__file__).parent
IMAGES = HERE.parents[1] / "docs" / "images"
BACKEND = "http://127.0.0.1:8000"
PHONE = {"width": 390, "height": 844, "touch": True}
PAGE: dict[str, dict[str, Any]] = {
    "taxi-page": {"height": 900},
    "taxi-page-dark": {"height": 900, "dark": True},
    "taxi-page-phone": PHONE,
}
DASHBOARD: dict[str, tuple[str, dict[str, Any]]] = {
    "overview": ("/", {}),
    "overview-dark": ("/", {"dark": True}),
    "deployment": ("/deployments/trip-duration", {"height": 1500}),
    "runs": ("/runs", {}),
    "run": ("/runs/10", {}),
    "rejects": ("/rejects", {}),
    "quality": ("/quality", {"height": 1300}),
    "drift": ("/drift", {"height": 1300}),
    "alerts": ("/alerts", {}),
    "phone": ("/runs", {"width": 390, "height": 844, "dark": True}),
}
DRAWN = (
    "[...document.querySelectorAll('[data-chart]')]"
    ".every(c => c.dataset.drawn !== undefined || c.classList.contains('chart-failed'))"
)
SECONDS = 60_000


def main() -> int:
    """Take the pictures; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=IMAGES)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("there is no Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with dashboard() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, look in PAGE.items():
            take(browser, folder / f"{name}.png", ride, **look)
        for name, (path, look) in DASHBOARD.items():
            take(browser, folder / f"dashboard-{name}.png", at(address + path), **look)
        browser.close()
    return 0


@contextmanager
def dashboard() -> Iterator[str]:
    """Run the dashboard as of the day after the last month; give its address."""
    command = [sys.executable, "-m", "trivet", "--file", str(HERE), "dashboard"]
    command += ["--port", "0", "--as-of", "2020-07-02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1].rstrip("/")
        finally:
            process.terminate()


def take(
    browser: Browser,
    file: Path,
    show: Callable[[Page], None],
    *,
    width: int = 1280,
    height: int = 860,
    dark: bool = False,
    touch: bool = False,
) -> None:
    """Take one picture, of what fits into the window."""
    page = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        is_mobile=touch,
    ).new_page()
    page.set_default_timeout(SECONDS)
    show(page)
    page.screenshot(path=file, animations="disabled")
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} KB", flush=True)
    page.context.close()


def ride(page: Page) -> None:
    """Request a ride as a new user, and wait for all that is said of it."""
    page.goto(BACKEND)
    page.locator('[data-zone="230"]').click()
    page.locator('[data-zone="138"]').click()
    page.locator("#request").click()
    expect(page.locator(".later.here")).to_have_count(3, timeout=SECONDS)
    page.locator(".chips button").nth(2).click()
    page.evaluate("scrollTo(0, 0)")


def at(address: str) -> Callable[[Page], None]:
    """Return what opens a page of the dashboard and waits for its charts."""

    def show(page: Page) -> None:
        page.goto(address)
        page.wait_for_function(DRAWN)
        page.wait_for_selector('[data-live-state="on"]')

    return show


if __name__ == "__main__":
    sys.exit(main())
