"""``trivet serve``, as far as no process is needed; the rest is in hosts/service/test_server.py."""

from __future__ import annotations

import json
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.toy import Toy
from trivet.artifacts import save
from trivet.cli import trivet as command
from trivet.hosts.service import server
from trivet.results import layout
from trivet.results.statements import migrations

PROJECT = '[models.quick]\nuri = "support.service_toys:Doubling"\n'
SERVICE = '[service]\nmodels = ["quick"]\nport = 0\ngrpc = false\n'


def serve(root: Path, text: str, *arguments: str) -> Result:
    (root / "trivet.toml").write_text(text)
    return CliRunner().invoke(command, ["--file", str(root), "serve", *arguments])


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have the parent do nothing, and keep what it was given."""
    found: list[Any] = []

    class Quiet:
        def __init__(self, plan: Any, sock: Any) -> None:
            sock.close()
            self.plan = plan
            self.told: list[str] = []
            found.append(self)

        def stop(self) -> None:
            self.told.append("stop")

        def reload(self) -> None:
            self.told.append("reload")

        def run(self) -> None:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)

    monkeypatch.setattr(server, "Supervisor", Quiet)
    return found


def test_the_plan_and_the_signals(tmp_path: Path, supervised: list[Any]) -> None:
    result = serve(tmp_path, PROJECT + SERVICE, "--workers", "3")
    assert result.exit_code == 0, result.output
    (quiet,) = supervised
    assert quiet.told == ["reload", "stop", "stop"]
    assert quiet.plan.settings.workers == 3
    assert [s.name for s in quiet.plan.sources] == ["quick"]
    assert quiet.plan.root == tmp_path
    assert not quiet.plan.counts.exists()
    assert (tmp_path / "data" / "results.db").exists()
    assert threading.current_thread() is threading.main_thread()


def test_without_a_log_there_is_no_results_database(tmp_path: Path, supervised: list[Any]) -> None:
    assert serve(tmp_path, PROJECT + SERVICE + 'log = "none"\n').exit_code == 0
    assert not (tmp_path / "data").exists()
    assert supervised


def test_a_database_that_is_away_is_no_hindrance(tmp_path: Path, supervised: list[Any]) -> None:
    away = '[results]\nurl = "postgresql://127.0.0.1:1/away"\n'
    result = serve(tmp_path, PROJECT + SERVICE + away)
    assert result.exit_code == 0
    assert "the prediction log waits for its database" in json.loads(result.output)["message"]
    assert supervised


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ('[results]\nurl = "sqlite:///trivet.toml/results.db"\n', "[results] url: sqlite:///"),
        ('tls_cert = "c.pem"\ntls_key = "k.pem"\n', "[service] tls_cert: "),
        ('host = "192.0.2.1"\n', "[service] host: 192.0.2.1 is no address"),
    ],
)
def test_mistakes_found_later_name_the_file_and_the_key_too(
    tmp_path: Path, service: str, words: str
) -> None:
    told = json.loads(serve(tmp_path, PROJECT + SERVICE + service).output)["message"]
    assert told.startswith(f"{tmp_path / 'trivet.toml'}: {words}")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("m@9", r"\[service\] models: 'm@9': .*/models/m has no version '9'; it has 1"),
        ("lost", r"\[models.lost\] uri: no model at .*/models/lost; train one, or correct"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_its_key(
    tmp_path: Path, asked: str, words: str
) -> None:
    save(Toy(), tmp_path / "models", name="m", version="1")
    models = "".join(f'[models.{name}]\nuri = "models/{name}"\n' for name in ("m", "lost"))
    result = serve(tmp_path, f'{models}[service]\nmodels = ["{asked}"]\n')
    assert result.exit_code == 2
    told = json.loads(result.output)["message"]
    assert re.match(rf"{re.escape(str(tmp_path / 'trivet.toml'))}: {words}", told)


def test_where_each_model_comes_from_is_known_by_its_key(
    tmp_path: Path, supervised: list[Any]
) -> None:
    for version in ("1", "2"):
        save(Toy(), tmp_path / "models", name="m", version=version)
    text = '[models.m]\nuri = "models/m"\n[service]\nmodels = ["m", "m@2"]\nkey = ["ride"]\n'
    assert serve(tmp_path, text + "port = 0\n").exit_code == 0
    sources = supervised[0].plan.sources
    assert [s.where for s in sources] == ["[models.m] uri", "[service] models: 'm@2'"]
    assert [s.beside for s in sources] == [(("[service] key", "ride"),)] * 2
    serve(tmp_path, text + 'port = 0\nlog = "none"\n')
    assert supervised[1].plan.sources[0].beside == ()  # nothing that the key could be lost from


def test_options_are_held_to_what_the_file_may_say(tmp_path: Path) -> None:
    result = serve(tmp_path, PROJECT + SERVICE, "--workers", "5000")
    assert result.exit_code == 2
    assert "--workers: a number from 1 to 1024" in result.output


def test_an_older_layout_is(tmp_path: Path, supervised: list[Any]) -> None:
    url = f"sqlite:///{tmp_path / 'data' / 'results.db'}"
    layout.open_results(url, known=migrations("sqlite")[:1]).close()
    result = serve(tmp_path, PROJECT + SERVICE)
    assert result.exit_code == 2
    assert "trivet results upgrade" in result.output
    assert not supervised


def test_there_must_be_a_section(tmp_path: Path) -> None:
    result = serve(tmp_path, PROJECT)
    assert result.exit_code == 2
    assert "has no [service] section" in result.output


def test_a_version_is_named_in_one_place(tmp_path: Path) -> None:
    text = '[models.m]\nuri = "models/m@1"\n[service]\nmodels = ["m@2"]\n'
    result = serve(tmp_path, text)
    assert result.exit_code == 2
    assert "names a version, and so does" in result.output
