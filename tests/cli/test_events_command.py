from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trivet.brokers import connect
from trivet.cli import trivet as command
from trivet.events import CloudEvents

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "trivet.toml").write_text(
        '[models.tip]\nuri = "models/tip"\n'
        '[stream.tip]\nmodel = "tip"\ntopic = "rides"\nkey = ["ride_id"]\n'
    )

    def call(*words: str, given: str = "") -> Result:
        return CliRunner().invoke(command, ["-f", str(tmp_path), *words], input=given)

    return call


LINES = "".join(f'{{"ride_id": "r{n}", "at": "2026-01-0{n}T00:00:00Z"}}\n' for n in range(1, 4))


def test_lines_are_published_shown_and_counted(run: Run, tmp_path: Path) -> None:
    done = run(
        "events",
        "publish",
        "rides",
        "-",
        "--key",
        "ride_id",
        "--id",
        "ride_id",
        "--time",
        "at",
        "--type",
        "ride.ended",
        given=LINES + "\n",
    )
    assert done.output == "3 events sent to rides\n"
    broker = connect(f"sqlite:///{tmp_path / 'data/events.db'}")
    found = [CloudEvents().decode(broker.read("rides", p, 0, 9), "rides") for p in range(4)]
    broker.close()
    assert sorted(each for batch in found for each in batch.ids) == ["r1", "r2", "r3"]
    assert {each for batch in found for each in batch.types} == {"ride.ended"}
    assert {each.day for batch in found for each in batch.times if each} == {1, 2, 3}
    shown = run("events", "tail", "rides", "--no-follow")
    assert shown.output.count("ride.ended") == 3
    rows = [
        json.loads(line)
        for line in run("events", "tail", "rides", "--no-follow", "--json").output.splitlines()
    ]
    assert {row["key"] for row in rows} == {"r1", "r2", "r3"}
    assert "application/cloudevents" in rows[0]["headers"]["content-type"]
    assert run("events", "tail", "rides", "--no-follow", "--last", "0").output == ""
    lag = run("lag").output
    assert "behind" in lag
    told = [json.loads(line) for line in run("lag", "--json").output.splitlines()]
    assert sum(row["events"] for row in told) == 3
    assert {row["committed"] for row in told} == {None}


def test_plain_lines_stay_as_they_are(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rides.jsonl"
    file.write_text('{"a": 1}\n{"a": 2}\n')
    assert run("events", "publish", "rides", str(file), "--format", "json").exit_code == 0
    shown = run("events", "tail", "rides", "--no-follow", "--json").output.splitlines()
    assert sorted(json.loads(line)["value"] for line in shown) == ['{"a": 1}', '{"a": 2}']


@pytest.mark.parametrize(
    ("line", "options", "told"),
    [
        ("{", [], "not valid JSON"),
        ("[1]", [], "one JSON object a line"),
        ("{}", ["--key", "k"], "it has no 'k', which is to be the key"),
        ('{"t": "noon"}', ["--time", "t"], "'t': "),
    ],
)
def test_a_bad_line_is_named(run: Run, line: str, options: list[str], told: str) -> None:
    done = run("events", "publish", "rides", "-", *options, given=line)
    assert done.exit_code == 1
    assert "-:1: " in done.output
    assert told in done.output


def test_more_lines_than_the_buffer_takes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from trivet import producer

    monkeypatch.setattr(
        producer.Producer.__init__,
        "__kwdefaults__",
        {**(producer.Producer.__init__.__kwdefaults__ or {}), "buffer": 5},
    )
    done = run("events", "publish", "rides", "-", given='{"a": 1}\n' * 50)
    assert done.output == "50 events sent to rides\n"


def test_a_file_that_is_not_there_is_named(run: Run) -> None:
    done = run("events", "publish", "rides", "no.jsonl")
    assert done.exit_code == 1
    assert "no.jsonl" in done.output


def test_lag_of_no_topic_yet_is_no_error(run: Run) -> None:
    assert run("lag", "--json").output == ""


def test_lag_needs_a_stream(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trivet.toml").write_text("")
    done = run("lag")
    assert done.exit_code == 2
    assert "no [stream.NAME] section" in done.output
