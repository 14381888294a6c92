"""A page of the user's own charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trivet.dashboard import own
from trivet.dashboard.ask import Ask, NotThere, Page
from trivet.results.reading import names_in


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows.

    Raises:
        NotThere: No chart of the project names such a page.
    """
    name = ask.path["page"]
    charts = [chart for chart in ask.settings.charts.values() if chart.page == name]
    if not charts:
        raise NotThere(f"no section of [dashboard.charts] has page = {name!r}")
    bound = any({"since", "until"} & set(names_in(chart.query)) for chart in charts)
    return {
        "heading": name,
        "own": own.shown(ask, name),
        "span": ask.span() if bound else None,
    }


PAGE = Page("charts", "Charts", "/charts/{page}", content, menu=False)
