"""SIGKILL at any moment of a backfill, restarted each time: as if nothing had happened."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from faults.attempts import Ended, Zygote
from faults.conftest import NewDatabase
from faults.places import AIMS, Kills, Place, aimed, check, short_or_soak, spread
from faults.watching import Watcher

SEED = 20200106

KILLS_A_STAGE = 8
"""A forced backfill begins anew with each restart: after so many kills it is left alone."""


@short_or_soak(8, 200)
def test_killed_at_random_times(
    new_database: NewDatabase, zygote: Zygote, tmp_path: Path, count: int
) -> None:
    soak = count > 100
    place = Place.make(
        new_database, zygote, tmp_path, days=7 if soak else 4, rows=3000 if soak else 2000
    )
    done = _killed(place, count, random.Random(SEED))
    print(f"\nseed {SEED}: {done}")
    if soak:
        assert not {"start", "score", *AIMS} - done.phases.keys()


def _killed(place: Place, kills: int, draw: random.Random) -> Kills:
    """Kill the command so many times, in rounds: on empty results, then over published ones."""
    done = Kills()
    moments, aims = spread(draw, 12), aimed(draw, place.project.days)
    expected, quiet = place.undisturbed()
    for number in itertools.count():
        url = place.new_results()
        parallel = 2 if number % 3 == 2 else 1
        history: list[Ended] = []
        for force in ([], ["--force"]):
            options = ["--parallel", str(parallel), *force]
            before = done.total
            with Watcher(url, expected.sums, full=bool(force)) as seen:
                while True:
                    after = aim = None
                    if done.total in (kills, before + KILLS_A_STAGE):
                        pass
                    elif draw.random() < 0.5:
                        after = next(moments) * quiet.seconds * 1.1
                    else:
                        aim = next(aims)
                    history.append(place.run(url, *options, after=after, aim=aim))
                    done.add(history[-1])
                    if not history[-1].killed:
                        break
            done.add_seen(seen)
            assert not seen.wrong, seen.wrong
            assert seen.polls
            check(url, expected, history, parallel=parallel)
        if done.total == kills:
            return done
    raise AssertionError("rounds without end")


@short_or_soak(6, 10_000)
def test_killed_between_any_two_statements(
    new_database: NewDatabase, zygote: Zygote, tmp_path: Path, count: int
) -> None:
    """By place instead of time: after each statement, on empty results and over published ones."""
    place = Place.make(new_database, zygote, tmp_path, days=2, rows=1000)
    expected, quiet = place.undisturbed()
    if new_database().startswith("postgresql"):  # takes ten times as long
        count = min(count // 3, 60)
    draw, done = random.Random(SEED), Kills()
    moments = range(2, quiet.moments + 40, 2)  # a forced run has a few more, for its sweep
    for moment in draw.sample(moments, min(count, len(moments))):
        url, history = place.new_results(), []
        for force in ([], ["--force"]):
            with Watcher(url, expected.sums, full=bool(force)) as seen:
                ended = [place.run(url, *force, at=moment), place.run(url, *force)]
            history += ended
            for each in ended:
                done.add(each)
            done.add_seen(seen)
            try:
                assert not seen.wrong, seen.wrong
                check(url, expected, history)
            except AssertionError as error:
                told = f"killed at moment {moment} {force} ({ended[0].phase}): {error}"
                raise AssertionError(told) from error
    print(f"\n{done}")
