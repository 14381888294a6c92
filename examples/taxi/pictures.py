"""Take the pictures of the page that the documentation shows, while `make demo-live` is up.

    python pictures.py ../../docs/images

Needs Playwright and a Chromium: CHROMIUM names the program, /usr/bin/chromium by default.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
}
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
LOOKS = {
    "taxi-page": DESK,
    "taxi-page-dark": {**DESK, "color_scheme": "dark"},
    "taxi-page-phone": PHONE,
}
SECONDS = 60_000


def take(browser: Browser, address: str, look: dict[str, Any], target: Path) -> None:
    """Request a ride as a new user, and take the picture when all answers are there."""
    page = browser.new_context(**look).new_page()
    page.goto(address)
    page.locator('[data-zone="230"]').click()
    page.locator('[data-zone="138"]').click()
    page.locator("#request").click()
    expect(page.locator(".later.here")).to_have_count(3, timeout=SECONDS)
    page.locator(".chips button").nth(2).click()
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=target, animations="disabled")
    page.context.close()


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", default="http://127.0.0.1:8000")
    chosen = parser.parse_args()
    program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, look in LOOKS.items():
            take(browser, chosen.backend, look, chosen.folder / f"{name}.png")
            print(chosen.folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
