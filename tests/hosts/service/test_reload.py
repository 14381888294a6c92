"""New versions of models while the service runs."""

from __future__ import annotations

import errno
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

import trivet
from support.service_server import counted, wait_until
from support.service_toys import Broken, Doubling, Tripling
from trivet.artifacts import set_current
from trivet.current import Source
from trivet.errors import InvalidModel, ModelNotFound
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.reload import Library
from trivet.hosts.service.serving import Models

RIDE = Source("ride", "models/ride", trust=True)


class Shelf:
    """A store with some versions of one model, and what is loaded of it."""

    def __init__(self, root: Path, *sources: Source, versions: int = 4) -> None:
        self.root, self.home = root, root / "models" / "ride"
        for number in range(1, versions + 1):
            self.save(str(number), Tripling if number % 2 == 0 else Doubling)
        self.models, self.metrics = Models((), 256, 1000), Metrics()
        self.library = Library(sources or (RIDE,), self.models, root, self.metrics)

    def save(self, version: str, kind: type[Doubling]) -> None:
        sample = {"x": [1.0, 2.0], "note": ["a", None]}
        trivet.save(kind(), self.root / "models", name="ride", version=version, sample=sample)

    @property
    def versions(self) -> list[str]:
        return list(self.models.families["ride"].versions)

    @property
    def default(self) -> str:
        return self.models.families["ride"].default

    def turn(self, version: str) -> None:
        set_current(self.home, version)
        self.library.look()

    def loads(self, outcome: str) -> float:
        text = self.metrics.render()[0].decode()
        return counted(text, "trivet_model_loads_total", outcome=outcome)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    shelf.library.load_all()
    return shelf


def test_the_current_version_is_followed_and_the_last_one_kept(shelf: Shelf) -> None:
    assert (shelf.default, shelf.versions) == ("1", ["1"])
    shelf.turn("2")
    assert (shelf.default, shelf.versions) == ("2", ["1", "2"])
    shelf.turn("3")
    assert (shelf.default, shelf.versions) == ("3", ["2", "3"])
    shelf.turn("2")
    assert (shelf.default, sorted(shelf.versions)) == ("2", ["2", "3"])
    assert shelf.models.find("ride").example["x"] == 1.0
    assert shelf.models.find("ride").summary["version"] == "2"


def test_what_did_not_change_is_not_loaded(shelf: Shelf) -> None:
    shelf.library.look()
    shelf.library.look(forced=True)
    shelf.turn("1")
    assert shelf.loads("loaded") == 1


def test_a_broken_version_is_refused_and_the_old_one_goes_on(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.save("9", Broken)
    artifact = next(p for p in (shelf.home / "9").rglob("*") if p.suffix == ".py")
    artifact.write_text(artifact.read_text() + "\n# changed")
    with caplog.at_level(logging.ERROR, "trivet.service"):
        shelf.turn("9")
    assert "the new version of model ride is refused, 1 goes on" in caplog.text
    assert (shelf.default, shelf.loads("refused")) == ("1", 1)
    shelf.library.look()
    assert shelf.loads("refused") == 1  # not again and again
    shelf.turn("2")
    assert shelf.default == "2"


def test_the_pointer_may_be_away_for_a_while(shelf: Shelf) -> None:
    (shelf.home / "current").unlink()
    shelf.library.look()
    assert (shelf.default, shelf.loads("refused")) == ("1", 1)
    shelf.turn("2")
    assert shelf.default == "2"


def test_versions_that_are_named_stay(tmp_path: Path) -> None:
    pinned = Source("ride", "models/ride", "3", trust=True)
    shelf = Shelf(tmp_path, pinned, RIDE)
    shelf.library.load_all()
    assert (shelf.default, sorted(shelf.versions)) == ("1", ["1", "3"])
    for version in ("3", "2", "4"):
        shelf.turn(version)
        assert shelf.default == version
        assert "3" in shelf.versions


def test_a_class_beside_the_project_file(tmp_path: Path) -> None:
    (tmp_path / "ride_beside.py").write_text(
        "from support.service_toys import Doubling\nclass Ride(Doubling): version = '7'\n"
    )
    models = Models((), 256, 1000)
    library = Library([Source("ride", "ride_beside:Ride")], models, tmp_path, Metrics())
    library.load_all()
    library.look(forced=True)
    assert models.find("ride", "7").name == "ride"


def test_what_is_not_there_ends_the_start(tmp_path: Path) -> None:
    library = Library([RIDE], Models((), 256, 1000), tmp_path, Metrics())
    with pytest.raises(ModelNotFound):
        library.load_all()


def test_looking_by_itself_and_when_told(shelf: Shelf) -> None:
    shelf.library.watch(0.01)
    set_current(shelf.home, "2")
    wait_until(lambda: shelf.default == "2")
    shelf.library.end()


def test_told_to_look(shelf: Shelf) -> None:
    shelf.library.watch(3600)
    set_current(shelf.home, "2")
    shelf.library.look_now()
    wait_until(lambda: shelf.default == "2")
    shelf.library.end()


class Fails:
    """A model's loading that fails for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        self.error, self.tries = error, 0
        real = Source.load

        def load(source: Source, root: Path) -> Any:
            self.tries += 1
            if self.error is not None:
                raise self.error
            return real(source, root)

        monkeypatch.setattr(Source, "load", load)


def wrapped(cause: Exception) -> InvalidModel:
    error = InvalidModel("an artifact cannot be read")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (OSError(errno.EIO, "Input/output error"), 4),
        (wrapped(OSError(errno.ESTALE, "Stale file handle")), 4),
        (MemoryError(), 4),
        (wrapped(FileNotFoundError("manifest")), 1),
        (wrapped(ValueError("no JSON")), 1),
        (RuntimeError("in the model's own code"), 1),
    ],
)
def test_what_may_pass_is_tried_again_and_what_is_broken_is_not(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int
) -> None:
    fails = Fails(monkeypatch, error)
    shelf.turn("2")
    shelf.library.look()
    shelf.library.look()
    fails.error = None
    shelf.library.look()
    assert fails.tries == tries
    assert shelf.default == ("2" if tries > 1 else "1")
    shelf.library.look()
    assert fails.tries == tries


def test_a_file_system_that_is_away_ends_nothing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, away = Path.stat, threading.Event()

    def stat(path: Path, **more: Any) -> Any:
        if path.name == "current":
            away.set()
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    shelf.library.watch(0.001)
    wait_until(away.is_set)
    monkeypatch.undo()
    assert shelf.loads("refused") == 0
    set_current(shelf.home, "2")
    wait_until(lambda: shelf.default == "2")
    shelf.library.end()


def test_a_look_that_fails_is_not_the_last_one(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def look(_: Library, **more: Any) -> None:
        raise RuntimeError("whatever it is")

    monkeypatch.setattr(Library, "look", look)
    shelf.library.watch(0.001)
    wait_until(lambda: "the look for new versions of models failed" in caplog.text)
    monkeypatch.undo()
    set_current(shelf.home, "2")
    wait_until(lambda: shelf.default == "2")
    shelf.library.end()
