"""The pages, in the order of the menu: a module each, with a template of the same name."""

from __future__ import annotations

from trivet.dashboard.ask import Page
from trivet.dashboard.pages import (
    alerts,
    charts,
    deployment,
    drift,
    overview,
    quality,
    rejects,
    run,
    runs,
)

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    deployment.PAGE,
    runs.PAGE,
    run.PAGE,
    quality.PAGE,
    drift.PAGE,
    rejects.PAGE,
    alerts.PAGE,
    charts.PAGE,
)
