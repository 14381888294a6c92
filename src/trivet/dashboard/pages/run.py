"""One run: its interval, its counts, its error, its rejects, and what repairs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trivet.dashboard import freshness, words
from trivet.dashboard.ask import Ask, NotThere, Page

_SHOWN = 20


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows.

    Raises:
        NotThere: There is no such attempt.
    """
    text = ask.path["attempt"]
    run = ask.source.first("run", attempt=int(text)) if text.isascii() and text.isdigit() else {}
    if not run:
        raise NotThere(f"there is no attempt {text}")
    deployment = ask.deployment(run["deployment"])
    label = freshness.label_of(deployment, run["interval_start"], run["interval_end"])
    tries = ask.source.rows(
        "attempts_at", deployment=run["deployment"], interval_start=run["interval_start"]
    )
    is_newest = tries[0]["attempt"] == run["attempt"]
    again = "" if not run["is_published"] else " --force"
    given = {"deployment": run["deployment"], "attempt": run["attempt"]}
    seconds = words.parsed(run["seconds"], {})
    total = seconds.get("total")
    if total is None and run["ended_at"]:
        total = (run["ended_at"] - run["started_at"]).total_seconds()
    owner = words.parsed(run["owner"], {}) or {}
    return {
        "run": run,
        "deployment": deployment,
        "label": label,
        "tries": tries,
        "total": total,
        "seconds": {k: v for k, v in seconds.items() if k != "total"},
        "owner": f"process {owner.get('pid')} on {str(owner.get('host', '')).partition('/')[0]}"
        if owner
        else run["owner"],
        "command": f"trivet score {run['deployment']} --interval {label}{again}"
        if is_newest and run["state"] != "running"
        else "",
        "counts": ask.source.rows("reject_counts_of_run", **given),
        "rejects": ask.source.rows("rejects_of_run", limit=_SHOWN, **given),
        "most": _SHOWN,
    }


PAGE = Page("run", "Run", "/runs/{attempt}", content, menu=False)
