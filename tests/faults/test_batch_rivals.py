"""Two of them at the same work, and both killed: no interval is run by two at once, or lost."""

from __future__ import annotations

import random
from pathlib import Path

from faults.attempts import Ended, Zygote
from faults.conftest import NewDatabase
from faults.places import Kills, Place, short_or_soak, spread
from faults.project import RESULTS
from faults.watching import Snapshot, Watcher, orphans_after_sweep, states
from trivet.databases import connect
from trivet.errors import DatabaseError

SEED = 20200108

KILLS_A_ROUND = 6


@short_or_soak(4, 60)
def test_two_backfills(
    new_database: NewDatabase, zygote: Zygote, tmp_path: Path, count: int
) -> None:
    place = Place.make(new_database, zygote, tmp_path, days=3, rows=2000)
    _rivals(place, place.project.backfill(), tmp_path, count)


@short_or_soak(2, 60)
def test_two_schedulers(
    new_database: NewDatabase, zygote: Zygote, tmp_path: Path, count: int
) -> None:
    place = Place.make(new_database, zygote, tmp_path, days=3, rows=2000)
    _rivals(place, place.project.schedule(), tmp_path, count)


def _race(
    zygotes: list[Zygote], argv: list[str], url: str, kills: int, after: list[float]
) -> list[Ended]:
    """Run the command twice at the same time, to be killed as long as there are kills left."""
    for number, zygote in enumerate(zygotes):
        zygote.begin(argv, {RESULTS: url}, kill_after=after[number] if number < kills else None)
    ended = [zygote.end() for zygote in zygotes]
    for each, zygote in zip(ended, zygotes, strict=True):
        assert each.killed or not each.code, f"exit code {each.code}\n{zygote.told()}"
    return ended


def _all_published(url: str, days: int) -> bool:
    try:
        with connect(url) as db:
            found = db.rows("SELECT count(*) AS n FROM trivet_published")
    except DatabaseError:
        return False
    return bool(found["n"].to_pylist() == [days])


def _rivals(place: Place, argv: list[str], folder: Path, kills: int) -> None:
    expected, quiet = place.undisturbed()
    moments, done = spread(random.Random(SEED), 8), Kills()
    with Zygote(folder / "rival.log") as rival:
        while done.total < kills:
            url = place.new_results()
            enough = min(kills, done.total + KILLS_A_ROUND)
            with Watcher(url, expected.sums) as seen:
                while not _all_published(url, place.project.days):
                    after = [next(moments) * quiet.seconds * 1.5 for _ in range(2)]
                    for each in _race([place.zygote, rival], argv, url, enough - done.total, after):
                        done.add(each)
            done.add_seen(seen)
            assert not seen.wrong, (SEED, seen.wrong)
            Snapshot.of(url).assert_equals(expected)
            found = states(url)
            assert found.keys() <= {"succeeded", "killed"}, found
            assert found["succeeded"] == place.project.days, "an interval was scored twice"
            assert not orphans_after_sweep(url)
            Snapshot.of(url).assert_equals(expected)
    print(f"\nseed {SEED}: {done}")
