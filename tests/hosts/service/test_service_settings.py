"""``[service]`` of trivet.toml."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from trivet.errors import SettingsError
from trivet.hosts.service.settings import ServiceSettings
from trivet.settings import load_project


def load(root: Path, service: str) -> ServiceSettings | None:
    file = root / "trivet.toml"
    models = '[models.fare]\nuri = "models/fare"\n[models.tip]\nuri = "models/tip"\n'
    file.write_text(service + models)
    return load_project(file, {"KEY": "k"}).service


def test_all_of_it(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        '[service]\nmodels = ["fare@1", "fare", "tip"]\nport = 9000\nworkers = 2\n'
        'key = ["ride_id"]\nlog = "results"\nlog_sample = 0.1\nlog_durability = "block"\n'
        'api_keys = ["${KEY}"]\ntimeout = "5s"\ncors_origins = ["*"]\naccess_log = "all"\n',
    )
    assert found is not None
    assert found.pinned() == [("fare", "1"), ("fare", None), ("tip", None)]
    assert found.api_keys == ("k",)
    assert found.timeout == dt.timedelta(seconds=5)


def test_there_need_not_be_one(tmp_path: Path) -> None:
    assert load(tmp_path, "") is None


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("[service]\n", "models is missing"),
        ("service = 3\n", "this is a section, not a value"),
        ('[service]\nmodels = ["fair"]\n', r"no \[models.fair\] \(did you mean 'fare'\?\)"),
        ('[service]\nmodels = ["fare"]\nprot = 1\n', "unknown key 'prot'"),
        ('[service]\nmodels = ["fare"]\nlog = "all"\n', 'write "results" or "none"'),
        (
            '[service]\nmodels = ["fare"]\n[batch.service_fare]\nmodel = "fare"\nkey = ["a"]\n'
            'source = "sqlite:///s.db"\nquery = "SELECT 1"\n',
            r"\[batch.service_fare\]: rename it: its view would be that of fare in \[service\]",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, service: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(tmp_path, service)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"models": ()}, "models: name at least one"),
        ({"models": ("m", "m")}, "models: each name and version once"),
        ({"port": 70_000}, "port: a number from 0 to 65535"),
        ({"workers": 0}, "workers: a number from 1 to 1024"),
        ({"max_queue": 0}, "max_queue: 1 or more"),
        ({"key": ("Seconds",)}, "key: every row has a column 'Seconds' of its own"),
        ({"timeout": dt.timedelta()}, "timeout: more than nothing"),
        ({"log_sample": 0.0}, "log_sample: a share above 0"),
        ({"api_keys": ("",)}, "api_keys: an empty key would let everyone in"),
        ({"tls_cert": "c"}, "tls_cert: a certificate and its key go together"),
        ({"tls_client_ca": "c"}, "tls_client_ca: clients can show certificates only"),
        ({"cors_origins": ("example.com",)}, "cors_origins: no browser sends the origin 'example"),
        ({"cors_origins": ("https://example.com/",)}, "without a path"),
    ],
)
def test_values_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServiceSettings(**{"models": ("m",), **given})


def test_origins_as_browsers_send_them() -> None:
    origins = ("*", "null", "https://example.com", "http://localhost:3000")
    assert ServiceSettings(models=("m",), cors_origins=origins).cors_origins == origins


def test_all_mistakes_are_told_at_once_and_each_once(tmp_path: Path) -> None:
    text = (
        '[service]\nmodels = ["fare"]\ntimeout = "5x"\nlog = "all"\nworkers = 0\nmax_batch = -1\n'
        'log_sample = 2\nmax_head = 3\ntls_cert = "c"\ntls_key = "${NOWHERE}"\n'
    )
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    keys = [line.partition("[service] ")[2].partition(":")[0] for line in caught.value.findings]
    told = ["timeout", "tls_key", "log", "workers", "max_batch", "max_head", "log_sample"]
    assert keys == told


def test_a_key_may_have_any_name_where_nothing_is_logged() -> None:
    assert ServiceSettings(models=("m",), key=("id",), log="none").key == ("id",)
