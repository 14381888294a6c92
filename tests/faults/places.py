"""Where a command is run, killed and checked, and what came of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from faults.attempts import Aim, Ended, Zygote
from faults.project import RESULTS, Project, make_project
from faults.watching import Snapshot, Watcher, orphans_after_sweep, states

SURELY_CLAIMED = ("score", "prepare", "append", "profiles")
PERHAPS_CLAIMED = (*SURELY_CLAIMED, "claim", "publish")

AIMS = ("claim", "prepare", "append", "profiles", "publish", "sweep")


@dataclass(slots=True)
class Kills:
    """Which kills there were, and what was seen meanwhile."""

    phases: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    seconds: float = 0.0
    polls: int = 0
    partly: int = 0

    @property
    def total(self) -> int:
        return self.phases.total()

    def add(self, ended: Ended) -> None:
        self.runs += 1
        self.seconds += ended.seconds
        if ended.killed:
            self.phases[ended.phase] += 1

    def add_seen(self, seen: Watcher) -> None:
        self.polls += seen.polls
        self.partly += seen.partly

    def __str__(self) -> str:
        return (
            f"{self.total} kills in {self.runs} runs ({self.seconds:.0f} s), "
            f"{dict(self.phases.most_common())}; {self.polls} polls of the view, "
            f"{self.partly} of them in the middle of a backfill"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A project, and as many results databases as are asked for."""

    project: Project
    new_results: Callable[[], str]
    zygote: Zygote

    @classmethod
    def make(
        cls, new_database: Callable[[], str], zygote: Zygote, folder: Path, *, days: int, rows: int
    ) -> Self:
        project = make_project(folder / "project", new_database(), days=days, rows=rows)
        return cls(project, new_database, zygote)

    def run(
        self,
        url: str,
        *options: str,
        after: float | None = None,
        at: int | None = None,
        aim: Aim | None = None,
    ) -> Ended:
        """Run the backfill until it ends well or is killed; see `Zygote.begin`."""
        argv = self.project.backfill(*options)
        ended = self.zygote.run(argv, {RESULTS: url}, kill_after=after, kill_at=at, aim=aim)
        assert ended.killed or not ended.code, f"exit code {ended.code}\n{self.zygote.told()}"
        return ended

    def undisturbed(self) -> tuple[Snapshot, Ended]:
        """Return what a backfill gives that nobody disturbs, and how it went."""
        url = self.new_results()
        ended = self.run(url)
        expected = Snapshot.of(url)
        assert expected.rows.num_rows > 500
        assert expected.rejects.num_rows > 10
        assert expected.runs.num_rows == self.project.days
        assert states(url) == {"succeeded": self.project.days}
        return expected, ended


def check(url: str, expected: Snapshot, ended: list[Ended], *, parallel: int = 1) -> None:
    """Hold everything in a results database against that of an undisturbed backfill."""
    Snapshot.of(url).assert_equals(expected)
    found = states(url)
    assert found.keys() <= {"succeeded", "killed"}, found
    surely = sum(e.killed and e.phase in SURELY_CLAIMED for e in ended)
    perhaps = sum(e.killed and e.phase in PERHAPS_CLAIMED for e in ended)
    if parallel == 1:
        assert surely <= found.get("killed", 0) <= perhaps, (found, ended)
    assert found.get("killed", 0) <= parallel * sum(e.killed for e in ended), (found, ended)
    assert not orphans_after_sweep(url)
    Snapshot.of(url).assert_equals(expected)


def spread(draw: random.Random, parts: int) -> Iterator[float]:
    """Yield numbers between 0 and 1 for ever, so many times one from each of so many parts."""
    while True:
        for part in draw.sample(range(parts), parts):
            yield (part + draw.random()) / parts


def aimed(draw: random.Random, days: int) -> Iterator[Aim]:
    """Yield moments within the phases that are too short to be met by time alone."""
    while True:
        for phase in draw.sample(AIMS, len(AIMS)):
            yield phase, draw.randint(1, days), draw.uniform(0.0, 0.005)


def short_or_soak(short: int, soak: int) -> pytest.MarkDecorator:
    """Run a test with a small count, and in the soak with a large one."""
    large = pytest.param(soak, id="soak", marks=pytest.mark.soak)
    return pytest.mark.parametrize("count", [pytest.param(short, id="short"), large])
