"""Fixtures for every folder of tests: real databases, and skips that CI does not forgive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.kafka import KafkaServer
from support.places import Place, make_place
from support.postgres import PostgresServer
from support.server import Unavailable


def _skip_is_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure: in CI a test that does not run is a test that does not pass."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"a test was skipped where CI is set: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    _skip_is_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    _skip_is_failure(report)
    return report


def _server() -> PostgresServer:
    try:
        return PostgresServer()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give the PostgreSQL server of this test process; not to be stopped or restarted."""
    with _server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Give the url of a fresh PostgreSQL database."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def own_postgres() -> Iterator[Callable[[], PostgresServer]]:
    """Give a maker of PostgreSQL servers of this test's own, to stop and restart at will."""
    with ExitStack() as servers:
        yield lambda: servers.enter_context(_server())


def _kafka() -> KafkaServer:
    try:
        return KafkaServer()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """Give the Kafka broker of this test process; not to be stopped or restarted."""
    with _kafka() as server:
        yield server


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """Give a Kafka broker of this test's own, to stop and restart at will."""
    with _kafka() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the url of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def results_url(request: pytest.FixtureRequest) -> str:
    """Give the url of an empty database that can hold results, of each kind in turn."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(name))


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Give a wait for a condition that another process or thread brings about."""

    def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition never came true"
            time.sleep(0.005)

    return wait


@pytest.fixture(params=["sqlite", "postgresql", "duckdb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Every kind of database that can be a source."""
    return make_place(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Every kind of database that can hold results."""
    return make_place(request.param, request, tmp_path)
