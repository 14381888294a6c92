"""Take the pictures of the dashboard that the documentation shows, over the demo's results.

    make demo
    python screenshots.py [FOLDER]

It needs Chromium (apt-get install chromium) and playwright (pip install playwright).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
IMAGES = HERE.parents[1] / "docs" / "images"
DEPLOYMENT = "/deployments/trip-duration"
NARROW = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 860}

PICTURES: dict[str, dict[str, Any]] = {
    "overview": {"path": "/"},
    "overview-dark": {"path": "/", "dark": True},
    "deployment": {"path": DEPLOYMENT, "height": 1500},
    "runs": {"path": "/runs"},
    "run": {"path": "/runs/10"},
    "rejects": {"path": "/rejects"},
    "quality": {"path": "/quality", "height": 1300},
    "drift": {"path": "/drift", "height": 1300},
    "alerts": {"path": "/alerts"},
    "phone": {"path": "/runs", "dark": True, "phone": True},
}
DRAWN = (
    "[...document.querySelectorAll('[data-chart]')]"
    ".every(c => c.dataset.drawn !== undefined || c.classList.contains('chart-failed'))"
)


def main() -> int:
    """Take the pictures; return the exit code."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("there is no Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with dashboard() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, picture in PICTURES.items():
            take(browser, address, folder / f"dashboard-{name}.png", **picture)
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
    address: str,
    file: Path,
    *,
    path: str,
    dark: bool = False,
    phone: bool = False,
    height: int = 0,
) -> None:
    """Take one picture, of what fits into the window."""
    size = dict(NARROW if phone else WIDE)
    size["height"] = height or size["height"]
    context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light")  # type: ignore[arg-type]
    page = context.new_page()
    answer = page.goto(address + path)
    if answer is None or not answer.ok:
        print(f"{path}: there is no such page")
    else:
        page.wait_for_function(DRAWN)
        page.wait_for_selector('[data-live-state="on"]')
        page.screenshot(path=file)
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} KB")
    context.close()


if __name__ == "__main__":
    sys.exit(main())
