"""Take the pictures of the campaign's dashboard that the documentation shows.

    python campaign_pictures.py --browser /usr/bin/chromium

Needs what `campaign.py` has made, and Playwright (`pip install playwright`).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
PICTURES = {
    "churn-overview": "/",
    "churn-campaign": "/charts/Campaign",
    "churn-quality": "/quality",
}


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--browser", help="the path of a Chromium")
    parser.add_argument("--output", type=Path, default=HERE.parents[1] / "docs" / "images")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "trivet", "--file", str(HERE), "dashboard", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dashboard:
        assert dashboard.stdout is not None
        found = next(
            filter(None, (re.search(r"http://[\w.:]+", line) for line in dashboard.stdout))
        )
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=arguments.browser, args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                for name, path in PICTURES.items():
                    page.goto(found[0] + path)
                    page.wait_for_timeout(5000)  # the charts draw themselves
                    page.screenshot(path=arguments.output / f"{name}.png", full_page=True)
                browser.close()
        finally:
            dashboard.terminate()


if __name__ == "__main__":
    main()
