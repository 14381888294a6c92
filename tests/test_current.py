"""The model that a uri leads to, now and when it leads elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.toy import Toy
from trivet.artifacts import load as load_model
from trivet.artifacts import save
from trivet.current import InUse, Source
from trivet.errors import ModelNotFound, SettingsError


def test_the_uri_with_the_version() -> None:
    assert Source("m", "models/m").asked == "models/m"
    assert Source("m", "models/m", "3").asked == "models/m@3"
    assert Source("m", "models:/m@live", "3").asked == "models:/m/3"
    with pytest.raises(SettingsError, match=r"m@3 names a version, and so"):
        _ = Source("m", "models/m@2", "3").asked


def test_what_leads_to_nothing_is_named(tmp_path: Path) -> None:
    save(Toy(), tmp_path / "models", name="toy", version="1")
    lost = Source("lost", "models/lost", where="[models.lost] uri")
    with pytest.raises(ModelNotFound, match=r"^\[models.lost\] uri: no model at"):
        lost.place(tmp_path)
    with pytest.raises(ModelNotFound, match=r"^\[models.lost\] uri: no model at"):
        lost.load(tmp_path)
    pinned = Source("toy", "models/toy", "9", where="[service] models: 'toy@9'")
    with pytest.raises(ModelNotFound, match=r"^\[service\] models: 'toy@9': .* has no version '9'"):
        pinned.load(tmp_path)


def test_a_column_beside_the_outputs_has_a_name_of_its_own(tmp_path: Path) -> None:
    save(Toy(), tmp_path / "models", name="toy", version="1")
    taken = Toy().outputs.names[0]
    beside = (("[service] key", "ride"), ("[service] key", taken.upper()))
    source = Source("toy", "models/toy", trust=True, beside=beside)
    with pytest.raises(SettingsError, match=rf"^\[service\] key: '{taken.upper()}' is an output"):
        source.load(tmp_path)
    assert Source("toy", "models/toy", trust=True, beside=beside[:1]).load(tmp_path)


def test_a_model_of_a_registry_is_loaded_again_when_its_alias_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ["1"]
    loads: list[str] = []
    save(Toy(), tmp_path / "models", name="toy", version="1")
    home = tmp_path / "models" / "toy" / "1"
    monkeypatch.setattr(
        "trivet.formats.mlflow.resolve", lambda uri: (home, uri.partition("@")[0], version[0])
    )
    loaded = load_model("models/toy", root=tmp_path, trust=True)

    def load(uri: str, **_: Any) -> Any:
        loads.append(uri)
        return loaded

    monkeypatch.setattr("trivet.current.load", load)
    in_use = InUse(Source("toy", "models:/toy@champion"), tmp_path)
    assert in_use() is in_use()
    assert len(loads) == 1
    version[0] = "2"
    in_use()
    assert len(loads) == 2
