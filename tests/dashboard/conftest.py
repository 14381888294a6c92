"""Dashboards over filled results, of each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browser import Visit, launched
from support.dashboards import NOW, Dash, filled
from support.once import made_once
from support.postgres import PostgresServer
from trivet.dashboard.bundle import bundle


@pytest.fixture(scope="session")
def vega(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the charts' script, made once."""
    return bundle(made_once(tmp_path_factory, "vega", bundle))


@pytest.fixture(scope="session")
def filled_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return filled(f"sqlite:///{tmp_path_factory.mktemp('results') / 'results.db'}")


@pytest.fixture(scope="session")
def filled_postgres(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.new_database()
    yield filled(url)
    postgres.drop_database(url)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, vega: Path) -> Iterator[Dash]:
    with Dash(request.getfixturevalue(f"filled_{request.param}"), vega).serving() as made:
        yield made


@pytest.fixture
def dash(shared: Dash) -> Iterator[Dash]:
    """Give a dashboard over filled results that no test writes to, judged by `NOW`."""
    yield shared
    shared.now = NOW


@pytest.fixture
def empty(tmp_path: Path, vega: Path) -> Iterator[Dash]:
    """Give a dashboard whose results do not exist yet."""
    with Dash(f"sqlite:///{tmp_path / 'results.db'}", vega).serving() as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Give a browser; its event loop runs in this thread until the module ends."""
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Give tabs; at the end none has said anything or asked another host."""
    made: list[Visit] = []

    def open_visit(dash: Dash, **options: Any) -> Visit:
        made.append(Visit(browser, dash, **options))
        return made[-1]

    yield open_visit
    for each in made:
        each.context.close()
        assert not each.said
        assert not each.strangers
