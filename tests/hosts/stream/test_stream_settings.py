"""``[stream.NAME]`` of trivet.toml."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from trivet.errors import SettingsError
from trivet.hosts.stream.settings import StreamSettings, start_of
from trivet.settings import Project, load_project

MODEL = '[models.tip]\nuri = "models/tip"\n'
LEAST = 'model = "tip"\ntopic = "rides"\nkey = ["ride"]\n'


def load(root: Path, text: str) -> Project:
    file = root / "trivet.toml"
    file.write_text(MODEL + text)
    return load_project(file, {})


def test_the_least_and_its_defaults(tmp_path: Path) -> None:
    found = load(tmp_path, f"[stream.tips]\n{LEAST}")
    assert found.stream["tips"] == StreamSettings(
        name="tips", model="tip", topic="rides", key=("ride",)
    )
    assert found.stream["tips"].member_group == "tips"
    assert found.stream["tips"].dead_topic == "tips.dead"
    assert found.stream["tips"].max_wait == dt.timedelta(milliseconds=5)
    assert found.broker.url == "sqlite:///data/events.db"
    assert found.deployments == ["tips"]


def test_what_is_kept_beside_the_outputs_is_known_by_its_key(tmp_path: Path) -> None:
    found = load(tmp_path, f'[stream.tips]\n{LEAST}keep = ["zone"]\n').stream["tips"]
    assert found.beside == (("[stream.tips] key", "ride"), ("[stream.tips] keep", "zone"))


def test_all_of_it(tmp_path: Path) -> None:
    text = (
        f'[broker]\nurl = "kafka://host:9092"\n[stream.tips]\n{LEAST}keep = ["zone"]\n'
        'results = false\noutput = "tips"\ndead_letters = "none"\ngroup = "g"\n'
        'start = "2026-01-31T12:00Z"\nformat = "json"\nid_field = "no"\ntime_field = "at"\n'
        'delivery = "at-least-once"\nmax_batch = 10\nmax_wait = "0s"\nmax_event = 99\n'
        'max_queue = 98\nmax_queue_bytes = 97\nworkers = 2\nreload = "signal"\n'
        'reload_every = "2s"\nstop_timeout = "3s"\nstalled_after = "4s"\n'
        'metrics_host = "::1"\nmetrics_port = 0\n'
    )
    found = load(tmp_path, text).stream["tips"]
    assert found.begin == dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert found.dead_topic is None
    assert (found.member_group, found.workers, found.metrics_port) == ("g", 2, 0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("max_batch = 0", "max_batch: 1 or more"),
        ("metrics_port = 70000", "metrics_port: a number from 0 to 65535"),
        ('stalled_after = "0s"', "stalled_after: more than nothing"),
        ('keep = ["ride"]', "keep: each name once"),
        ('keep = ["event_at"]', "keep: every row has a column 'event_at' of its own"),
        ('keep = ["Source"]', "keep: every row has a column 'Source' of its own"),
        ('keep = ["model_version"]', "keep: every row has a column 'model_version'"),
        ("results = false", "results: if false, name an output topic"),
        ('output = "rides"', "output: predictions would be scored again"),
        ('dead_letters = "rides"', "dead_letters: name a topic of their own"),
        ('id_field = "no"', "id_field: CloudEvents have an id"),
        ('format = "json"\ntypes = ["a"]', "types: plain JSON has no types"),
        ('start = "soon"', "start: 'soon' is no place in a topic"),
        ("max_wiat = 5", "unknown key 'max_wiat'"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, more: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"[stream.tips]\n{LEAST}{more}\n")
    assert words in str(caught.value)
    assert "[stream.tips]" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"[stream.tips]\n{LEAST.replace('tip', 'tpi', 1)}", "there is no [models.tpi]"),
        (f"[stream.trivet-x]\n{LEAST}", "could be a table of ours"),
        (
            f'[service]\nmodels = ["tip"]\n[stream.service-tip]\n{LEAST}',
            "its view would be that of tip in [service]",
        ),
        (
            f'[stream.a]\n{LEAST}group = "g"\n[stream.b]\n{LEAST}group = "g"\n',
            "reads rides in the same group",
        ),
        (f"[broker]\nurl = 'here'\n[stream.a]\n{LEAST}", "[broker] url"),
        ('[stream.a]\nmodel = "tip"\ntopic = ""\nkey = ["a"]\n', "name the topic"),
        ('[stream.a]\nmodel = "tip"\ntopic = "t"\nkey = []\n', "name at least one member"),
    ],
)
def test_a_clash_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)


def test_a_moment_without_an_offset_is_utc() -> None:
    assert start_of("2026-01-31") == dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
    assert start_of("latest") == "latest"
