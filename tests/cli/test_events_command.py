"""``trivet events`` and ``trivet lag``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.events import Remembers, take
from trivet import brokers
from trivet.cli import trivet
from trivet.errors import TopicNotFound

PROJECT = """
[models.tip]
uri = "models/tip"

[stream.tip]
model = "tip"
topic = "rides"
key = ["ride_id"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trivet.toml").write_text(PROJECT)
    (tmp_path / "data").mkdir()
    return tmp_path


def run(folder: Path, *arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(trivet, ["--file", str(folder), *arguments], input=given)


def told(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def published(folder: Path, count: int = 5) -> None:
    lines = "".join(f'{{"ride_id": {n}, "fare": 10.5}}\n' for n in range(count))
    options = ("--key", "ride_id", "--id", "ride_id", "--partitions", "1")
    result = run(folder, "events", "publish", "rides", "-", *options, given=lines + "\n")
    assert (result.exit_code, result.stdout) == (0, f"rides: {count} events sent\n")


def test_lines_become_events_that_tail_shows(folder: Path) -> None:
    published(folder)
    rows = told(run(folder, "events", "tail", "rides", "--last", "2", "--no-follow"))
    assert [(row["partition"], row["offset"], row["key"]) for row in rows] == [
        (0, 3, "3"),
        (0, 4, "4"),
    ]
    event = rows[-1]["value"]
    assert isinstance(event, dict)
    assert (event["id"], event["type"], event["subject"]) == ("4", "rides", "4")
    assert event["data"] == {"ride_id": 4, "fare": 10.5}


def test_values_that_are_no_json_are_shown_as_text(folder: Path) -> None:
    broker = brokers.connect("sqlite:///data/events.db", folder)
    broker.create("odd")
    appender = broker.appender()
    appender.append("odd", None, b"\xffhello")
    appender.append("odd", b"k", None)
    assert appender.flush(60) == 0
    appender.close()
    broker.close()
    rows = told(run(folder, "events", "tail", "odd", "--no-follow"))
    assert [row["value"] for row in rows] == ["\ufffdhello", None]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is not a JSON object"),
        ("{}", "line 2 has no 'ride_id'"),
    ],
)
def test_a_bad_line_is_named_and_what_came_before_is_sent(
    folder: Path, line: str, what: str
) -> None:
    given = f'{{"ride_id": 1}}\n{line}\n'
    options = ("--key", "ride_id", "--partitions", "1")
    result = run(folder, "events", "publish", "rides", "-", *options, given=given)
    assert result.exit_code == 2
    assert what in result.stderr
    assert len(told(run(folder, "events", "tail", "rides", "--no-follow"))) == 1


def test_a_file_may_be_named_and_must_be_there(folder: Path) -> None:
    (folder / "rides.jsonl").write_text('{"x": 1}\n')
    options = ("--partitions", "1")
    result = run(folder, "events", "publish", "rides", str(folder / "rides.jsonl"), *options)
    assert result.stdout == "rides: 1 events sent\n"
    result = run(folder, "events", "publish", "rides", "nowhere.jsonl")
    assert (result.exit_code, "nowhere.jsonl" in result.stderr) == (2, True)


def test_more_lines_than_the_buffer_holds(folder: Path) -> None:
    lines = '{"x": 1}\n' * 150_000
    options = ("--format", "json", "--partitions", "2")
    result = run(folder, "events", "publish", "many", "-", *options, given=lines)
    assert result.stdout == "many: 150,000 events sent\n"
    broker = brokers.connect("sqlite:///data/events.db", folder)
    assert sum(end for _, end in broker.bounds("many").values()) == 150_000
    broker.close()


def test_lag_is_told_by_partition(folder: Path) -> None:
    published(folder)
    rows = told(run(folder, "lag", "--json"))
    assert rows == [
        {
            "stream": "tip",
            "topic": "rides",
            "group": "tip",
            "partition": 0,
            "committed": None,
            "end": 5,
            "events": 5,
        }
    ]
    broker = brokers.connect("sqlite:///data/events.db", folder)
    member = broker.member("rides", "tip", Remembers())
    take(member, 5)
    member.commit({0: 3})
    member.close()
    broker.close()
    assert told(run(folder, "lag", "--json"))[0]["events"] == 2
    assert "behind" in run(folder, "lag").stdout


def test_topics_and_streams_that_are_missing_are_told(folder: Path) -> None:
    for arguments in (("events", "tail", "nowhere"), ("lag",)):
        result = run(folder, *arguments)
        assert isinstance(result.exception, TopicNotFound)
        assert "trivet events publish" in str(result.exception)
    (folder / "trivet.toml").write_text("")
    assert "[stream.NAME]" in run(folder, "lag").stderr
