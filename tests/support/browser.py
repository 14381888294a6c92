"""A real browser, and a tab in it that minds what it says and whom it asks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.dashboards import Dash

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DRAWN = (
    "[...document.querySelectorAll('[data-chart]')]"
    ".every(c => c.dataset.drawn !== undefined || c.classList.contains('chart-failed'))"
)


@contextmanager
def launched() -> Iterator[Any]:
    """Give a browser, or skip the test; its event loop runs in this thread until the block ends."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A tab that minds what it says on its console and whom it asks."""

    def __init__(self, browser: Any, dash: Dash, **options: Any) -> None:
        self.address = dash.address
        self.context = browser.new_context(**options)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(60_000)
        self.said: list[str] = []
        self.strangers: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", self._ask)

    def _ask(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.strangers.append(request.url)

    def go(self, path: str) -> Any:
        self.tab.goto(self.address + path)
        self.tab.wait_for_function(DRAWN)
        return self.tab
