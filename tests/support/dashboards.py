"""Results as the hosts would leave them: a batch deployment, a service and a stream."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import pyarrow as pa
import uvicorn

from trivet import owners
from trivet.alerts.facts import Limits
from trivet.alerts.settings import AlertSettings
from trivet.dashboard.app import Surroundings, create_app
from trivet.dashboard.server import bind
from trivet.dashboard.settings import ChartSettings, DashboardSettings
from trivet.dashboard.source import Source
from trivet.databases import Connection
from trivet.monitoring import Profile, Reference
from trivet.results import ledger, rows, tables
from trivet.results.layout import open_results

UTC = dt.UTC
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
FIRST = dt.datetime(2026, 1, 1, tzinfo=UTC)
NOW = dt.datetime(2026, 2, 10, 6, tzinfo=UTC)
BATCH, SERVICE, STREAM = "churn-daily", "service-duration", "tip"
PLANS = ("basic", "family", "premium")


@dataclass(frozen=True)
class Lineage:
    name: str = "churn"
    version: str = "1"
    digest: str = "a1" * 32


def manifest(output: str, sample: Any, version: str = "1") -> dict[str, Any]:
    reference = Reference.of(pa.array(sample))
    kind = "string" if reference.edges is None else "float64"
    return {
        "name": "churn",
        "version": version,
        "description": "Who is about to leave",
        "inputs": [{"name": "a", "type": "float64"}],
        "outputs": [{"name": output, "type": kind}],
        "metrics": {"roc_auc": 0.83},
        "references": {f"output.{output}": reference.to_dict()},
    }


def fill(
    db: Connection,
    *,
    days: int = 40,
    each: int = 50,
    failed: tuple[int, ...] = (12,),
    missing: tuple[int, ...] = (20, 21),
    logs: bool = True,
) -> None:
    """Fill an empty results database."""
    random = np.random.default_rng(7)
    sample = random.beta(2, 5, 500)
    deployment = ledger.Deployment(
        name=BATCH, kind="batch", model="churn", view="churn_daily", key=("customer_id",),
        keep=("plan", "joined_at"), manifest=manifest("probability", sample),
        schedule="@daily", timezone="UTC", start=FIRST,
    )  # fmt: skip
    ledger.register(db, deployment, NOW)
    for number in range(days):
        if number not in missing:
            score_day(db, number, each, random, fails=number in failed)
    if logs:
        log(db, SERVICE, "service", each, random, sample)
        log(db, STREAM, "stream", each, random, sample)


def score_day(
    db: Connection, number: int, each: int, random: np.random.Generator, *, fails: bool = False
) -> int:
    """Score one day of the batch deployment, as its host would."""
    start = FIRST + number * DAY
    lineage = Lineage(
        version="1" if number < 25 else "2", digest=("a1" if number < 25 else "b2") * 32
    )
    attempt = ledger.claim(
        db, BATCH, (start, start + DAY), lineage, owner=owners.me(f"day {number}"),
        cause="schedule", now=start + DAY + HOUR,
    )  # fmt: skip
    assert attempt is not None
    probability = np.clip(random.beta(2, 5, each) + number / 200, 0, 1)
    columns = pa.record_batch(
        {
            "customer_id": pa.array(np.arange(each) + 1000 * number, pa.int64()),
            "plan": pa.array([PLANS[i % 3] for i in range(each)]),
            "joined_at": pa.array(
                [start + i * HOUR for i in range(each)], pa.timestamp("us", "UTC")
            ),
            "probability": pa.array(probability),
        }
    )
    tables.prepare(db, BATCH, columns.schema)
    rejected = 2 if number % 3 == 0 else 0
    rejects = pa.RecordBatch.from_arrays(
        [
            pa.array([BATCH] * rejected, pa.string()),
            pa.array([attempt.id] * rejected, pa.int64()),
            pa.array([f'{{"customer_id":{900_000 + i}}}' for i in range(rejected)], pa.string()),
            pa.array(["a"] * rejected, pa.string()),
            pa.array(["null", "range"][:rejected], pa.string()),
            pa.array(["is null", "<b>7</b> is above the maximum 1"][:rejected], pa.string()),
        ],
        schema=tables.REJECTS,
    )
    tables.append(db, attempt, tables.stamped(attempt, [columns]), rejects)
    reference = Reference.from_dict(
        manifest("probability", np.random.default_rng(7).beta(2, 5, 500))["references"][
            "output.probability"
        ]
    )
    profile = Profile.of(columns.column("probability"), reference)
    tables.append_profiles(db, attempt, {("output", "probability"): profile})
    tally = ledger.Tally(
        each + rejected, each, rejected, {"read": 0.1, "score": 0.5, "write": 0.2, "total": 0.7}
    )
    ended = start + DAY + HOUR + dt.timedelta(seconds=1)
    if fails:
        ledger.abandon(db, attempt, "failed", tally, ended, "the source <refused> the query")
    else:
        ledger.publish(db, attempt, tally, ended)
    return attempt.id


def log(
    db: Connection, name: str, kind: str, each: int, random: np.random.Generator, sample: Any,
    hours: int = 30,
) -> None:  # fmt: skip
    """Fill the prediction log of a service or a stream: so many rows an hour."""
    view = tables.view_of(name)
    deployment = ledger.Deployment(
        name=name, kind=kind, model="churn", view=view, key=("ride_id",), keep=(),
        manifest=manifest("minutes", sample * 40),
    )  # fmt: skip
    ledger.register(db, deployment, NOW)
    host = rows.SERVICE if kind == "service" else rows.STREAM
    own = pa.schema([("ride_id", pa.string()), ("minutes", pa.float64())])
    rows.prepare(db, name, host, own)
    number = rows.lineage(db, name, Lineage(), NOW)
    reference = Reference.of(pa.array(sample * 40))
    for hour in range(hours):
        start = NOW - (hours - hour) * HOUR
        at = [start + i * HOUR / each for i in range(each)]
        ids = [f"{name}-{hour}-{i}" for i in range(each)]
        minutes = pa.array(random.gamma(3, 4, each))
        columns: dict[str, Any] = {
            "lineage": pa.array([number] * each, pa.int64()),
            "source": pa.array([f'{{"ride_id":"{i}"}}' for i in ids]),
            "id": pa.array(ids),
            "scored_at": pa.array(at, pa.timestamp("us", "UTC")),
        }
        if kind == "service":
            columns["seconds"] = pa.array(random.gamma(2, 0.002, each))
            columns["inputs"] = pa.array(['{"a":1.0}'] * each)
        else:
            late = dt.timedelta(milliseconds=40)
            columns["event_at"] = pa.array([a - late for a in at], pa.timestamp("us", "UTC"))
        columns |= {"ride_id": pa.array(ids), "minutes": minutes}
        db.append(tables.table_of(name), pa.record_batch(columns))
        profile = Profile.of(minutes, reference)
        db.append(
            "trivet_hourly_profiles",
            pa.record_batch(
                {
                    "deployment": pa.array([name]),
                    "hour": pa.array([start], pa.timestamp("us", "UTC")),
                    "lineage": pa.array([number], pa.int64()),
                    "side": pa.array(["output"]),
                    "column_name": pa.array(["minutes"]),
                    "row_count": pa.array([each], pa.int64()),
                    "null_count": pa.array([0], pa.int64()),
                    "counts": pa.array([json.dumps(profile.counts)]),
                    "total": pa.array([profile.total]),
                    "low": pa.array([profile.low]),
                    "high": pa.array([profile.high]),
                }
            ),
        )
    at_last = pa.array([NOW - HOUR, NOW - 2 * HOUR], pa.timestamp("us", "UTC"))
    rejected = pa.RecordBatch.from_arrays(
        [
            pa.array([name] * 2),
            pa.array([0, 0], pa.int64()),
            pa.array(['{"ride_id":"x"}'] * 2),
            pa.array(["a", ""]),
            pa.array(["type", "undecodable"]),
            pa.array(["'x' is not float64", "no JSON"]),
            pa.array(["r-1", "r-2"]),
            at_last,
        ],
        schema=rows.REJECTS,
    )
    db.append("trivet_rejects", rejected)


CHARTS = {
    "customers": ChartSettings(
        name="customers", kind="number", title="Customers", format="count", better="up",
        query="SELECT 1200 AS n, 1000 AS before",
    ),
    "by-plan": ChartSettings(
        name="by-plan", kind="bar", page="Campaign",
        query="SELECT plan, avg(probability) AS risk FROM churn_daily GROUP BY plan ORDER BY plan",
    ),
    "wrong": ChartSettings(name="wrong", page="Campaign", query="SELECT 1 FROM nowhere"),
}  # fmt: skip


@dataclass
class Dash:
    """The application over a results database, with a client that asks it."""

    url: str
    bundle: Path
    settings: DashboardSettings = field(
        default_factory=lambda: DashboardSettings(charts=CHARTS, refresh=dt.timedelta(seconds=1))
    )
    project: str = "shop"
    now: dt.datetime = NOW
    root: Path = Path()
    alerts: AlertSettings = field(default_factory=AlertSettings)
    limits: Limits = field(default_factory=dict)

    def __post_init__(self) -> None:
        limit = self.settings.query_limit.total_seconds()
        self.source = Source(self.url, self.root, limit)
        self.app = create_app(
            Surroundings(
                project=self.project,
                source=self.source,
                settings=self.settings,
                bundle=self.bundle,
                clock=lambda: self.now,
                alerts=self.alerts,
                limits=self.limits,
            )
        )
        self.address = ""
        self.client = httpx.Client()

    def page(self, path: str, status: Any = 200, **query: str) -> Shown:
        answer = self.client.get(path, params=query or None)
        assert answer.status_code == status, answer.text
        return Shown(answer.text)

    @contextmanager
    def serving(self) -> Iterator[Self]:
        """Serve it on a port of its own."""
        listening = bind("127.0.0.1", 0)
        config = uvicorn.Config(
            self.app, log_config=None, lifespan="on", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        accept = {"Accept": "text/html"}
        try:
            with httpx.Client(base_url=self.address, headers=accept, timeout=60) as self.client:
                yield self
        finally:
            self.app.state.watch.stop()
            server.should_exit = True
            thread.join()
            listening.close()


class Shown(HTMLParser):
    """A page as it is read: its text, its links, the specifications of its charts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.text = ""
        self.links: list[str] = []
        self.charts: dict[str, Mapping[str, Any]] = {}
        self._chart = ""
        self._is_spec = False
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given.get("href") or "")
        if (given.get("id") or "").startswith("chart-"):
            self._chart = str(given["id"]).removeprefix("chart-")
        self._is_spec = tag == "script" and given.get("type") == "application/json"

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._is_spec = False

    def handle_data(self, data: str) -> None:
        if self._is_spec:
            self.charts[self._chart] = json.loads(data)
        else:
            self.text += data + " "

    def rows(self, chart: str) -> list[dict[str, Any]]:
        """Return the figures of a chart."""
        found: list[dict[str, Any]] = self.charts[chart]["datasets"]["rows"]
        return found


def filled(url: str, **more: Any) -> str:
    """Fill the results at a url and return it."""
    with open_results(url) as db:
        fill(db, **more)
    return url
