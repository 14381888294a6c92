"""``trivet.toml``: every key, every default, and every mistake named with its place."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trivet.durations import parse_duration
from trivet.errors import SettingsError
from trivet.hosts.batch.settings import BatchSettings
from trivet.settings import ModelSettings, Project, ProjectSettings, ResultsSettings, load_project

SMALLEST: dict[str, Any] = {
    "model": "m",
    "source": "sqlite:///source.db",
    "query": "SELECT 1",
    "key": ["id"],
}


def write(folder: Path, text: str) -> Path:
    file = folder / "trivet.toml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def batch(folder: Path, environment: dict[str, str] | None = None, **changes: Any) -> BatchSettings:
    """Read a project with one deployment; None leaves a key out."""
    section = {key: value for key, value in (SMALLEST | changes).items() if value is not None}
    document = {"models": {"m": {"uri": "models/m"}}, "batch": {"b": section}}
    (folder / "trivet.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    return load_project(folder, environment or {}).batch["b"]


def findings(folder: Path, text: str, **environment: str) -> list[str]:
    file = write(folder, text)
    with pytest.raises(SettingsError) as caught:
        load_project(file, environment)
    assert all(line.startswith(f"{file}: ") for line in caught.value.findings)
    return [line.removeprefix(f"{file}: ") for line in caught.value.findings]


def finding(folder: Path, **changes: Any) -> str:
    """Return the one finding of a deployment with a mistake."""
    with pytest.raises(SettingsError) as caught:
        batch(folder, **changes)
    [line] = caught.value.findings
    start = f"{folder / 'trivet.toml'}: [batch.b]"
    assert line.startswith(start)
    return line.removeprefix(start).lstrip(": ")


# --- what is read ------------------------------------------------------------------------------


def test_every_default(tmp_path: Path) -> None:
    assert batch(tmp_path) == BatchSettings(
        name="b",
        model="m",
        source="sqlite:///source.db",
        query="SELECT 1",
        key=("id",),
        keep=(),
        schedule="@daily",
        timezone="UTC",
        start=None,
        delay=dt.timedelta(),
        catchup="latest",
        catchup_limit=1000,
        lookback=0,
        overlap="skip",
        max_rejects=0.1,
        allow_empty=True,
        retries=0,
        retry_delay=dt.timedelta(minutes=5),
        retry_for=dt.timedelta(minutes=2),
        workers=os.cpu_count() or 1,
    )
    project = load_project(tmp_path, {})
    assert project.project == ProjectSettings(name=tmp_path.name)
    assert project.results == ResultsSettings(url="sqlite:///data/results.db", keep_for=None)
    assert project.models == {"m": ModelSettings(name="m", uri="models/m", trust=False, threads=1)}
    assert project.root == tmp_path


def test_an_empty_file_is_a_project(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, ""), {})
    assert (project.batch, project.models) == ({}, {})


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "trips.sql").write_text("SELECT id, zone FROM trips\n")
    project = load_project(
        write(
            tmp_path,
            """
            [project]
            name = "taxi"
            [results]
            url = "postgresql://u:${PASSWORD}@localhost/results"
            keep_for = "400d"
            [models.m]
            uri = "models/m@3"
            trust = true
            threads = 2
            [batch.trip-duration]
            model = "m"
            source = "duckdb://"
            query = "sql/trips.sql"
            key = ["id", "leg"]
            keep = ["zone"]
            schedule = "15 6 * * 1-5"
            timezone = "America/New_York"
            start = 2019-07-01T12:00:00
            delay = "1h30m"
            catchup = "none"
            catchup_limit = 5
            lookback = 2
            overlap = "queue"
            max_rejects = 1
            allow_empty = false
            retries = 3
            retry_delay = "10m"
            retry_for = "0s"
            workers = 4
            """,
        ),
        {"PASSWORD": "secret"},
    )
    assert project.project.name == "taxi"
    assert project.results.url == "postgresql://u:secret@localhost/results"
    assert project.results.keep_for == dt.timedelta(days=400)
    assert project.models["m"] == ModelSettings(name="m", uri="models/m@3", trust=True, threads=2)
    deployment = project.batch["trip-duration"]
    assert deployment == BatchSettings(
        name="trip-duration",
        model="m",
        source="duckdb://",
        query="SELECT id, zone FROM trips\n",
        key=("id", "leg"),
        keep=("zone",),
        schedule="15 6 * * 1-5",
        timezone="America/New_York",
        start=dt.datetime(2019, 7, 1, 12),  # noqa: DTZ001 - as TOML has it
        delay=dt.timedelta(minutes=90),
        catchup="none",
        catchup_limit=5,
        lookback=2,
        overlap="queue",
        max_rejects=1.0,
        allow_empty=False,
        retries=3,
        retry_delay=dt.timedelta(minutes=10),
        retry_for=dt.timedelta(),
        workers=4,
    )
    assert deployment.first == dt.datetime(2019, 7, 1, 16, tzinfo=dt.UTC)


def test_a_key_that_no_test_knows_does_not_exist() -> None:
    """Every key of every section is written in the test above."""
    text = Path(__file__).read_text(encoding="utf-8")
    for section in (ProjectSettings, ResultsSettings, ModelSettings, BatchSettings):
        for field in dataclasses.fields(section):
            assert f"{field.name} = " in text or field.name == "name"
            assert f"{field.name}:" in str(section.__doc__)


def test_variables_become_what_their_key_wants(tmp_path: Path) -> None:
    deployment = batch(
        tmp_path,
        {"N": "3", "YES": "true", "SHARE": "0.5", "DAY": "2020-01-01", "KEY": "id", "WAIT": "90"},
        workers="${N}",
        allow_empty="${YES}",
        max_rejects="${SHARE}",
        start="${DAY}",
        key=["${KEY}", "x${KEY}"],
        delay="${WAIT}s",
    )
    assert (deployment.workers, deployment.allow_empty, deployment.max_rejects) == (3, True, 0.5)
    assert deployment.first == dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert deployment.key == ("id", "xid")
    assert deployment.delay == dt.timedelta(seconds=90)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": None}, 'model is missing; write model = a text, such as "…"'),
        ({"key": None}, 'key is missing; write key = a list of texts, such as ["…"]'),
        ({"model": "mm"}, "model: there is no [models.mm] (did you mean 'm'?); add it"),
        ({"model": 3}, 'model: write a text, such as "…", not a whole number'),
        ({"key": "id"}, 'key: write a list of texts, such as ["…"], not a text'),
        ({"key": [1]}, 'key: write a list of texts, such as ["…"], not this list'),
        (
            {"key": []},
            'key: name at least one column that tells the rows apart, such as ["trip_id"]',
        ),
        ({"key": ["a", "a"]}, "key: a is in it twice; name it once"),
        ({"keep": ["id"]}, "keep: id is in key already; leave it out of keep"),
        ({"keep": {"a": 1}}, 'keep: write a list of texts, such as ["…"], not a section'),
        ({"workers": "4"}, "workers: write a whole number, not a text"),
        ({"workers": 0}, "workers: write a number from 1 to 10000"),
        ({"lookback": -1}, "lookback: write a number from 0 to 10000"),
        ({"retries": 10**12}, "retries: write a number from 0 to 10000"),
        ({"workers": 1.5}, "workers: write a whole number, not a number"),
        ({"allow_empty": 1}, "allow_empty: write true or false, not a whole number"),
        ({"max_rejects": 1.5}, "max_rejects: write a share between 0 and 1, such as 0.05"),
        ({"max_rejects": float("nan")}, "max_rejects: write a share between 0 and 1, such as 0.05"),
        ({"catchup": "al"}, 'catchup: write "all" or "latest" or "none", not al'),
        ({"overlap": True}, 'overlap: write "skip" or "queue", not true or false'),
        (
            {"delay": 5},
            'delay: write a length of time, such as "90s", "15m", "6h" or "30d", '
            "not a whole number",
        ),
        (
            {"delay": "5 days"},
            "delay: '5 days' is no length of time; write 90s, 15m, 6h, 30d or 2w",
        ),
        ({"start": 5}, "start: write a date, such as 2026-01-01, not a whole number"),
        ({"start": dt.time(5)}, "start: write a date, such as 2026-01-01, not a date or time"),
        (
            {"start": "soon"},
            "start: Invalid isoformat string: 'soon'; write a date, such as 2026-01-01",
        ),
        (
            {"start": dt.date(1, 1, 1)},
            "start: the year of 0001-01-01T00:00:00+00:00 is not one of 1000 to 9000",
        ),
        (
            {"catchup": "all"},
            'start: it is needed with catchup = "all"; write start = 2026-01-01, for example',
        ),
        (
            {"query": " "},
            'query: it is empty; write a SELECT, or a file that has it: "sql/trips.sql"',
        ),
        (
            {"name": "other"},
            "unknown key 'name'; there are "
            + ", ".join(f.name for f in dataclasses.fields(BatchSettings) if f.name != "name"),
        ),
    ],
)
def test_a_mistake_names_its_key_and_the_next_step(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert finding(tmp_path, **changes) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "@dayly"}, "schedule: schedule '@dayly': unknown name, did you mean @daily?"),
        ({"schedule": "61 * * * *"}, "schedule: schedule '61 * * * *'"),
        ({"schedule": "0 0 30 2 *"}, "schedule: schedule '0 0 30 2 *'"),
        ({"timezone": "Europe/Berln"}, "timezone: unknown time zone 'Europe/Berln', did you mean"),
        ({"source": "trips.db"}, "source: 'trips.db' is no database url; write sqlite:///"),
        ({"source": "oracle://x"}, "source: no driver for oracle://"),
        ({"source": "sqlite://data/x.db"}, "stands where a host would; write sqlite:///"),
        ({"source": "sqlite://"}, "source: sqlite:// names no file; write sqlite:///data/trips.db"),
        ({"source": "sqlite://[x"}, "source: "),
        ({"source": "sqlite:///a\0b"}, "source: "),
        ({"query": "sql/nowhere.sql"}, "query: there is no file "),
        ({"query": "x" * 5000 + ".sql"}, "query: "),
        ({"query": "folder.sql"}, "folder.sql cannot be read"),
        ({"query": "empty.sql"}, "empty.sql is empty; write a SELECT into it"),
        ({"query": "latin.sql"}, "latin.sql cannot be read"),
        ({"source": "${SOURCE}"}, "source: the environment variable SOURCE is not set; export"),
        ({"key": ["${KEY}"]}, "key: the environment variable KEY is not set; export KEY=…"),
    ],
)
def test_a_mistake_in_what_is_referred_to(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    (tmp_path / "folder.sql").mkdir()
    (tmp_path / "empty.sql").touch()
    (tmp_path / "latin.sql").write_bytes(b"SELECT '\xe9'")
    assert words in finding(tmp_path, **changes)


def test_everything_is_found_at_once(tmp_path: Path) -> None:
    found = findings(
        tmp_path,
        """
        resluts = 1
        [project]
        nmae = "x"
        [results]
        url = "duckdb:///r.db"
        keep_for = "long"
        [models.m]
        uri = "${NOT_SET}"
        threads = 0
        [models.Big]
        uri = "x"
        [batch.b]
        model = "x"
        source = "trips.db"
        qeury = "SELECT 1"
        key = "id"
        retries = "many"
        [batch.c]
        model = "q"
        source = "trips.db"
        query = "gone.sql"
        key = ["id"]
        schedule = "never"
        timezone = "Mars"
        """,
    )
    assert [line.partition(": ")[0] for line in found] == [
        "unknown section 'resluts' (did you mean 'results'?); there are project, results, "
        "broker, models, batch, stream, actuals, up, action, service, dashboard, alerts",
        "[project]",
        "[results] keep_for",
        "[models.m] uri",
        "[models.Big]",
        "[batch.b]",
        "[batch.b]",
        "[batch.b] key",
        "[batch.b] retries",
        "[batch.c] model",
        "[batch.c] source",
        "[batch.c] schedule",
        "[batch.c] timezone",
        "[batch.c] query",
    ]
    assert "unknown key 'nmae' (did you mean 'name'?); there are name" in found[1]
    assert any("unknown key 'qeury' (did you mean 'query'?)" in line for line in found)


def test_what_refers_to_a_section_with_a_mistake_is_none(tmp_path: Path) -> None:
    """One mistake, one finding: the section is there, though it cannot be read."""
    found = findings(
        tmp_path,
        """
        [models.m]
        uri = "m"
        [batch.b]
        model = "m"
        source = "sqlite:///s.db"
        query = "SELECT 1 AS id"
        key = ["id"]
        shedule = "@daily"
        [alerts.b]
        rejects = 0.5
        [actuals.b]
        source = "sqlite:///s.db"
        query = "SELECT 1 AS id, 2 AS v"
        value = "v"
        """,
    )
    assert [line.partition(": ")[0] for line in found] == ["[batch.b]"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[batch", "not valid TOML"),
        ("x = " + "9" * 5000, "not valid TOML"),
        ("x = " + "[" * 5000, "not valid TOML"),
        ("models = 3", "[models]: write one section for each, such as [models.NAME]"),
        ("batch.b = 3", "[batch]: write one section for each, such as [batch.NAME]"),
        ("results = 3", "[results]: this is a section, not a value"),
        ("[results]\nurl = 'duckdb:///x.db'", "[results] url: duckdb:///x.db: results are kept in"),
        ("[models.m]\nuri = 'x'\nthreads = 0", "[models.m] threads: write a number from 1 to 1024"),
        ("[models.'Ünder score']\nuri = 'x'", "rename it: a name has lower-case letters"),
    ],
)
def test_a_mistake_of_the_file_as_a_whole(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in line for line in findings(tmp_path, text))


@pytest.mark.parametrize("name", ["trivet-runs", "predictions-b", "sqlite-x", "pg-class"])
def test_a_name_that_would_be_a_table_of_others(tmp_path: Path, name: str) -> None:
    sections = {"models": {"m": {"uri": "x"}}, "batch": {name: SMALLEST}}
    [line] = findings(tmp_path, tomli_w.dumps(sections))
    assert line.startswith(f"[batch.{name}]: rename it: ")


def test_two_names_of_one_view(tmp_path: Path) -> None:
    sections = {"models": {"m": {"uri": "x"}}, "batch": {"a-b": SMALLEST, "a_b": SMALLEST}}
    assert findings(tmp_path, tomli_w.dumps(sections)) == [
        "[batch.a_b]: rename it: its view would be that of [batch.a-b]"
    ]


@pytest.mark.parametrize(
    ("source", "results", "same"),
    [
        ("sqlite:///data/x.db", "sqlite:///data/x.db", True),
        ("sqlite:///data/x.db", "sqlite:///./data/../data/x.db", True),
        ("sqlite:///data/x.db", "sqlite3:///link/x.db", True),
        ("sqlite:///data/x.db", "sqlite:///{root}/data/x.db", True),
        ("sqlite:///data/x.db", "sqlite:///data/y.db", False),
        ("duckdb:///data/x.db", "sqlite:///data/x.db", False),
        ("duckdb://", "sqlite:///data/x.db", False),
        ("postgresql://a:secret@h/db", "postgres://b:secret@H:5432/db?sslmode=off", True),
        ("postgresql://h/db", "postgresql://h:5433/db", False),
        ("postgresql://h/db", "postgresql://h/other", False),
        ("postgresql://h1:1,h2:2/db", "postgresql://h1:1,h2:2/db", True),
    ],
)
def test_the_source_must_not_be_the_results(
    tmp_path: Path, source: str, results: str, same: bool
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    document = {
        "results": {"url": results.format(root=tmp_path)},
        "models": {"m": {"uri": "models/m"}},
        "batch": {"b": SMALLEST | {"source": source}},
    }
    text = tomli_w.dumps(document)
    if not same:
        assert isinstance(load_project(write(tmp_path, text), {}), Project)
        return
    [line] = findings(tmp_path, text)
    assert line.startswith("[batch.b] source: ")
    assert line.endswith("is the results database too; keep them apart")
    assert "secret" not in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "other.toml"):
        with pytest.raises(SettingsError, match="there is no such file; go to your project's"):
            load_project(path, {})
    with pytest.raises(SettingsError, match="cannot be read: Not a directory"):
        load_project(write(tmp_path, "") / "trivet.toml", {})


def test_the_environment_is_the_process_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVET_TEST_NAME", "taxi")
    project = load_project(write(tmp_path, "[project]\nname = '${TRIVET_TEST_NAME}'"))
    assert project.project.name == "taxi"


# --- anything at all -----------------------------------------------------------------------------

scalars = (
    st.text(max_size=8)
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.booleans()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.sampled_from(
        ["@daily", "a.sql", "1d", "sqlite:///x", "postgresql://[", "${X}", "9" * 30 + "d"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
keys = [f.name for f in dataclasses.fields(BatchSettings) if f.name != "name"]
sections = st.dictionaries(st.sampled_from(keys) | st.text(max_size=5), values, max_size=4)
near_misses = st.builds(
    lambda changes, rest: {
        "models": {"m": {"uri": "models/m"} | rest},
        "batch": {"b": SMALLEST | changes},
    },
    sections,
    st.dictionaries(st.sampled_from(["trust", "threads", "uri"]), values, max_size=2),
)
documents = near_misses | st.dictionaries(
    st.sampled_from(["project", "results", "models", "batch"]) | st.text(max_size=5),
    values | st.dictionaries(st.text(max_size=5), sections, max_size=2),
    max_size=3,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents)
@example({"batch": {"b": SMALLEST | {"schedule": "٣ * * * *"}}})
@example({"batch": {"b": SMALLEST | {"delay": "99999999999w"}}, "models": 3})
def test_no_document_raises_anything_but_a_settings_error(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    try:
        (tmp_path / "trivet.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    except (UnicodeError, ValueError, TypeError):
        return  # nothing that TOML can say
    assert all(line.startswith(str(tmp_path)) for line in found_in(tmp_path))


def found_in(folder: Path) -> tuple[str, ...]:
    try:
        load_project(folder, {})
    except SettingsError as error:
        return error.findings or ("an error without a finding",)
    return ()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_no_text_raises_anything_but_a_settings_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "trivet.toml").write_bytes(text)
    assert "an error without a finding" not in found_in(tmp_path)


# --- lengths of time -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", dt.timedelta(seconds=90)),
        ("1h30m", dt.timedelta(minutes=90)),
        ("2w1d", dt.timedelta(days=15)),
        ("0s", dt.timedelta()),
        ("36525d", dt.timedelta(days=36525)),
    ],
)
def test_lengths_of_time(text: str, expected: dt.timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "d", "-5d", "5 d", "1.5h", "٣d", "5d!"])
def test_no_lengths_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no length of time; write 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36526d", "999999999999w", "999999999d999999999d"])
def test_a_length_of_time_that_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="is more than a century"):
        parse_duration(text)
