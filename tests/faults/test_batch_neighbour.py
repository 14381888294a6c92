"""While a large run goes into SQLite, another program writes into the same file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from faults.attempts import TESTS, Zygote
from faults.places import short_or_soak
from faults.project import RESULTS, VIEW, make_project
from trivet.databases import connect
from trivet.results.layout import open_results

LONGEST_WAIT = 0.5
"""Seconds that another writer waits at most: what the documentation promises."""

_MORE = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
    INSERT INTO trips SELECT 100000000 + i, 100000000 + i, '2020-01-02 12:00:00', 1.0 + i % 29, 1,
        'north', 'n', 1.5 FROM n
"""


@short_or_soak(150_000, 1_000_000)
def test_another_writer_gets_its_turn(tmp_path: Path, count: int) -> None:
    source, results = f"sqlite:///{tmp_path / 'source.db'}", tmp_path / "results.db"
    project = make_project(tmp_path / "project", source, rows=500, days=2)
    with connect(source, write=True) as db:
        db.execute(_MORE.format(count=count))
    open_results(f"sqlite:///{results}").close()
    command = [sys.executable, "-m", "faults.neighbour", str(results), "0.005"]
    with (
        Zygote(tmp_path / "log", knobs={}) as zygote,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS
        ) as neighbour,
    ):
        try:
            assert neighbour.stdout is not None
            assert neighbour.stdout.readline() == "ready\n"
            first, again = (
                zygote.run(project.backfill(*options), {RESULTS: f"sqlite:///{results}"})
                for options in ((), ("--force",))  # the second one sweeps the rows of the first
            )
            told = json.loads(neighbour.communicate(timeout=60)[0])
        finally:
            neighbour.kill()
    assert (first.code, again.code) == (0, 0), zygote.told()
    waits, longest = told["waits"], max(told["waits"])
    print(
        f"\n{count} rows in {first.seconds:.1f} s, again in {again.seconds:.1f} s; meanwhile "
        f"{len(waits)} writes of another program, the longest took {longest:.3f} s"
    )
    assert not told["errors"]
    with connect(f"sqlite:///{results}") as db:
        mine = db.rows("SELECT count(*) AS n FROM neighbours")["n"].to_pylist()
        scored = db.rows(f"SELECT count(*) AS n FROM {VIEW}")["n"][0].as_py()
    assert mine == [len(waits)]
    assert len(waits) > 20
    assert scored > count
    if count >= 1_000_000:
        assert longest <= LONGEST_WAIT
