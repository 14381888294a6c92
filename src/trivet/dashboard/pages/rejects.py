"""Rejects and dead letters: how many, by code and field, over time, and some of them."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trivet.dashboard import charts
from trivet.dashboard.ask import EVER, Ask, Page, Span
from trivet.dashboard.charts import Chart
from trivet.dashboard.drawing import channel
from trivet.results.reading import Row

_SHOWN = 30
_BARS = 100
_WIDTHS = (60, 300, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows."""
    deployments = ask.deployments()
    names = [d["name"] for d in deployments]
    chosen = ask.get("deployment")
    shown: dict[str, Any] = {
        "names": names,
        "chosen": chosen if chosen in names else "",
        "code": ask.get("code"),
        "field": ask.get("field"),
        "blocks": [],
    }
    codes: set[str] = set()
    fields: set[str] = set()
    for deployment in deployments:
        if not shown["chosen"] or deployment["name"] == shown["chosen"]:
            block = _block(ask, deployment)
            shown["blocks"].append(block)
            codes |= {row["code"] for row in block["counts"]}
            fields |= {row["field"] for row in block["counts"] if row["field"]}
    shown["codes"] = sorted(codes | ({shown["code"]} - {""}))
    shown["fields"] = sorted(fields | ({shown["field"]} - {""}))
    return shown


def _block(ask: Ask, deployment: Mapping[str, Any]) -> dict[str, Any]:
    batch = deployment["kind"] == "batch"
    name = deployment["name"]
    if batch:
        newest = ask.source.first("newest_interval", deployment=name)["newest"]
    else:
        ends = ask.source.first("newest_reject", deployment=name)
        newest = ends["newest"]
    span = ask.span(newest)
    given = {
        "deployment": name,
        "code": ask.get("code"),
        "field": ask.get("field"),
        **span.bounds(),
    }
    if batch:
        counted = ask.source.rows("rejects_by_interval", **given)
        samples = ask.source.rows("rejects_sampled", limit=_SHOWN, **given)
    else:
        counted = _logged(ask, given, span, ends)
        samples = ask.source.rows("rejects_logged", limit=_SHOWN, **given)
    totals: Counter[tuple[str, str]] = Counter()
    for row in counted:
        totals[row["code"], row["field"]] += row["n"]
    most = max(totals.values(), default=1)
    return {
        "deployment": deployment,
        "is_batch": batch,
        "span": span,
        "total": sum(totals.values()),
        "counts": [
            {"code": code, "field": field, "n": n, "bar": round(100 * n / most, 1)}
            for (code, field), n in totals.most_common(20)
        ],
        "chart": _chart(name, counted) if counted else None,
        "samples": samples,
        "dead": ask.source.first("dead_letters", deployment=name)
        if deployment["kind"] == "stream"
        else {},
    }


def _logged(ask: Ask, given: Mapping[str, Any], span: Span, ends: Row) -> list[Row]:
    if ends["newest"] is None:
        return []
    since = max(span.since, ends["oldest"]) if span.since != EVER[0] else ends["oldest"]
    seconds = (ends["newest"] - since).total_seconds()
    width = next((w for w in _WIDTHS if seconds / w <= _BARS), _WIDTHS[-1])
    found = ask.source.rows("rejects_by_hour", width=width, **given)
    return [
        row
        | {
            "at": _EPOCH + dt.timedelta(seconds=row["at"]),
            "ends": _EPOCH + dt.timedelta(seconds=row["at"] + width),
        }
        for row in found
    ]


def _chart(name: str, counted: Sequence[Row]) -> Chart:
    codes: dict[tuple[Any, str], int] = {}
    for row in counted:
        key = (row["at"], row["code"])
        codes[key] = codes.get(key, 0) + row["n"]
    ends = {row["at"]: row["ends"] for row in counted}
    below: dict[Any, int] = {}
    rows = []
    for (at, code), n in codes.items():
        start = below.get(at, 0)
        rows.append(
            {"at": at, "end": ends[at], "code": code, "n": n, "low": start, "high": start + n}
        )
        below[at] = start + n
    drawing = (
        charts.base()
        .mark("rect", stroke="$surface", strokeWidth=1)
        .encode(
            x=charts.time_axis("at"),
            x2="end:T",
            y=charts.value_axis("low", "problems"),
            y2="high:Q",
            color=channel("code:N"),
            tooltip=[
                charts.moment_tip("at", "from"),
                "code:N",
                channel("n:Q", format=",", title="problems"),
            ],
        )
    )
    return charts.chart(
        f"rejects-{name}",
        "Over time",
        drawing,
        rows,
        says=f"Problems of rejected rows of {name} by code over time.",
        height=200,
        table={"at": "from", "code": "code", "n": "problems"},
    )


PAGE = Page("rejects", "Rejects", "/rejects", content)
