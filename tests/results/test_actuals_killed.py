"""kill -9 while true values are pulled and measured: the next pull does the rest."""

from __future__ import annotations

import random
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from support.deployments import Project, trips

DAYS = 4
MEASURED = (
    "SELECT period_start, segment, row_count, absolute_sum FROM trivet_quality "
    "ORDER BY period_start, segment"
)
TRUTH = (
    "SELECT trip_id, 2 * a + n - 1 AS truth FROM trips "
    "WHERE at >= $interval_start AND at < $interval_end"
)


@pytest.fixture
def project(tmp_path: Path, results_url: str) -> Project:
    project = Project(tmp_path, results=results_url)
    project.add(*(trips(number, 300) for number in range(1, DAYS + 1)))
    project.write(keep=[])
    span = ("--from", "2020-01-01", "--to", f"2020-01-0{DAYS}")
    assert project.invoke("backfill", project.name, *span).exit_code == 0
    section: dict[str, Any] = {"source": project.source, "query": TRUTH, "value": "truth"}
    with (tmp_path / "trivet.toml").open("a", encoding="utf-8") as toml:
        toml.write("\n" + tomli_w.dumps({"actuals": {project.name: section}}))
    return project


def test_nothing_is_lost_and_nothing_counted_twice(project: Project) -> None:
    chance = random.Random(5)
    span = ("--from", "2020-01-01", "--to", f"2020-01-0{DAYS}")
    for _ in range(5):
        with project.start("actuals", project.name, *span) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.4, 1.6))
            process.send_signal(signal.SIGKILL)
    code, _, told = project.run("actuals")
    assert code == 0, told
    found = project.rows(MEASURED)
    assert [(row["segment"], row["row_count"], row["absolute_sum"]) for row in found] == [
        ("", 300, 300.0)
    ] * DAYS
    assert project.rows("SELECT count(*) AS n FROM trivet_actuals") == [{"n": 300 * DAYS}]
