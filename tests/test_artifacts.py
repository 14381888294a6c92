from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import trivet
from support.toy import Toy
from trivet import parity
from trivet.artifacts import locate, require, set_current, versions
from trivet.contract import Model
from trivet.errors import (
    ChecksumMismatch,
    IncompatibleModel,
    InvalidModel,
    ModelError,
    ModelNotFound,
    PredictionError,
    SchemaError,
    UntrustedModel,
)
from trivet.manifest import FILE_NAME, Manifest, checksum
from trivet.monitoring import Reference
from trivet.schema import Field, Schema

SCALER = '''
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trivet import Field, Schema

Path(__file__).with_name("imported").touch()


class Scaler:
    """Multiplies its input by a number kept beside it."""

    inputs = Schema([Field(name="x", type="float64", min=-100, max=100)])
    outputs = Schema([Field(name="prediction", type="float64", min=-1000, max=1000)])
    version = "7"

    def __init__(self, by=2.0):
        self.by = by

    def predict(self, batch):
        if self.by == 13.0:
            raise ValueError("unlucky")
        if self.by == 99.0:
            return {"prediction": pc.multiply(batch.column("x"), float("inf"))}
        return {"prediction": pc.multiply(batch.column("x"), self.by)}

    def save(self, directory):
        (directory / "by").write_text(str(self.by))
        if self.by == 66.0:
            raise OSError("the disk is full")

    @classmethod
    def load(cls, directory):
        return cls(float((directory / "by").read_text()))


class NoModel:
    pass
'''

SAMPLE = {"x": [1.0, 2.0, 3.0]}


@pytest.fixture
def scaler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give a class in a module `scaling` of its own folder."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "scaling.py").write_text(SCALER)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "scaling", raising=False)
    import scaling  # type: ignore[import-not-found]

    monkeypatch.delitem(sys.modules, "scaling")
    sys.modules["scaling"] = scaling
    return scaling.Scaler  # type: ignore[no-any-return]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


def linear() -> LinearRegression:
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
    return LinearRegression().fit(rows, [1.0, 3.0, 5.0, 7.0])


def doubled(model: trivet.LoadedModel) -> list[float]:
    batch = pa.record_batch({"x": [1.0, 5.0]})
    return model.predict(batch).column(0).to_pylist()  # type: ignore[no-any-return]


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# Saving and finding.


def test_a_saved_model_is_loaded_by_name(scaler: Any, store: Path) -> None:
    place = trivet.save(scaler(3.0), store, name="scale", version="1.0", description="times three")
    assert place == store / "scale" / "1.0"
    model = trivet.load("models/scale", root=store.parent, trust=True)
    assert isinstance(model, Model)
    assert (model.name, model.version) == ("scale", "1.0")
    assert model.inputs == scaler.inputs
    assert model.outputs == scaler.outputs
    assert model.digest == model.manifest.digest
    assert model.manifest.description == "times three"
    assert model.parallel is False
    assert doubled(model) == [3.0, 15.0]


def test_uris(scaler: Any, store: Path) -> None:
    for version, times in (("1", 1.0), ("2", 2.0)):
        trivet.save(scaler(times), store, name="scale", version=version)

    def by(uri: str, root: Path = store.parent) -> float:
        return doubled(trivet.load(uri, root=root, trust=True))[0]

    assert by("models/scale") == 1.0
    assert by("models/scale@2") == 2.0
    assert by("models/scale/2") == 2.0
    assert by(str(store / "scale")) == 1.0
    assert by(str(store / "scale" / "2")) == 2.0
    assert by("scale@2", store) == 2.0
    set_current(store / "scale", "2")
    assert by("models/scale") == 2.0
    assert (store / "scale" / "current").read_text() == "2\n"


def test_the_first_version_is_the_current_one_until_told_otherwise(
    scaler: Any, store: Path
) -> None:
    for version in ("b", "a"):
        trivet.save(scaler(), store, name="scale", version=version)
    assert locate("models/scale", store.parent) == store / "scale" / "b"


def test_versions_are_in_the_order_of_their_making(scaler: Any, store: Path) -> None:
    made = ["9", "10", "2", "b", "a"]
    for version in made:
        trivet.save(scaler(), store, name="scale", version=version)
    assert versions(store / "scale") == made
    assert versions(store / "nothing") == []


def test_the_pointer_never_shows_half_a_version(scaler: Any, store: Path) -> None:
    names = ["1", "a-rather-long-version-name"]
    for version in names:
        trivet.save(scaler(), store, name="scale", version=version)
    done = threading.Event()
    seen = set()

    def look() -> None:
        while not done.is_set():
            seen.add((store / "scale" / "current").read_text())

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(100):
        set_current(store / "scale", names[i % 2])
    done.set()
    reader.join()
    assert seen <= {f"{version}\n" for version in names}
    assert everything_in(store / "scale")[-1] == "current"
    assert not list((store / "scale").glob(".*"))


def test_a_pointer_that_cannot_be_written_leaves_the_old_one(
    scaler: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in "12":
        trivet.save(scaler(), store, name="scale", version=version)

    def full(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk is full"):
        set_current(store / "scale", "2")
    assert (store / "scale" / "current").read_text() == "1\n"
    assert not list((store / "scale").glob(".*"))


def test_the_pointer_leads_to_a_version_that_exists(scaler: Any, store: Path) -> None:
    trivet.save(scaler(), store, name="scale", version="1")
    with pytest.raises(ModelNotFound, match="scale has no version '2'; it has 1"):
        set_current(store / "scale", "2")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("models/nothing", r"no model at .*models/nothing; train one, or correct the uri"),
        ("models/scale@3", r"has no version '3'; it has 1, 2"),
        ("models/scale@", r"has no version ''; it has 1, 2"),
        ("models/scale@../scale/1", r"has no version '\.\./scale/1'"),
        ("models", r"models has no current version|holds no model"),
        ("models/nothing@1", "no model at"),
        ("models/lost", r"has no version '9'; it has none"),
        ("models/unset", r"has no current version; name one, such as models/unset@1"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    scaler: Any, store: Path, uri: str, words: str
) -> None:
    for version in "12":
        trivet.save(scaler(), store, name="scale", version=version)
    (store / "lost").mkdir()
    (store / "lost" / "current").write_text("9\n")
    trivet.save(scaler(), store, name="unset", version="1")
    (store / "unset" / "current").unlink()
    with pytest.raises(ModelNotFound, match=words):
        trivet.load(uri, root=store.parent, trust=True)
    with pytest.raises(ModelNotFound, match=words):
        require(uri, store.parent)


def test_a_broken_neighbour_does_no_harm(scaler: Any, store: Path) -> None:
    for version in "12":
        trivet.save(scaler(), store, name="scale", version=version)
    (store / "scale" / "2" / FILE_NAME).write_text("no toml")
    assert doubled(trivet.load("models/scale@1", root=store.parent, trust=True)) == [2.0, 10.0]
    with pytest.raises(InvalidModel, match=r"2/model\.toml"):
        trivet.load("models/scale@2", root=store.parent, trust=True)
    with pytest.raises(InvalidModel, match=r"2/model\.toml"):
        require("models/scale@2", store.parent)
    require("models/scale", store.parent)
    require("scaling:Scaler", store.parent)


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("", "1", "name ''"),
        ("../x", "1", r"name '\.\./x'"),
        (".x", "1", r"name '\.x'"),
        ("a b", "1", "name 'a b'"),
        ("a\n", "1", "name"),
        ("a", "v/1", "version 'v/1'"),
        ("a", "1@2", "version '1@2'"),
        ("a", 1, "version 1: write a text"),
        ("a", "current", "'current' is the pointer's name"),
        ("a", "Current", "pointer's name"),
    ],
)
def test_names_that_make_no_place_are_refused(
    scaler: Any, store: Path, name: str, version: Any, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        trivet.save(scaler(), store, name=name, version=version)
    assert not store.exists()


def test_a_version_is_never_written_twice(scaler: Any, store: Path) -> None:
    place = trivet.save(scaler(2.0), store, name="scale", version="1")
    before = checksum(place)
    with pytest.raises(ModelError, match="scale/1 exists, and a version is never changed"):
        trivet.save(scaler(3.0), store, name="scale", version="1")
    assert checksum(place) == before


def test_of_two_saves_at_once_one_wins(
    scaler: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = Path.exists

    def not_yet(self: Path, **options: Any) -> bool:
        return self.name != "1" and exists(self, **options)

    trivet.save(scaler(2.0), store, name="scale", version="1")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", not_yet)
        with pytest.raises(ModelError, match="scale/1: cannot be saved"):
            trivet.save(scaler(3.0), store, name="scale", version="1")
    assert doubled(trivet.load("models/scale@1", root=store.parent, trust=True)) == [2.0, 10.0]
    assert not list((store / "scale").glob(".*"))


@pytest.mark.parametrize(
    ("by", "kind", "words"),
    [
        (66.0, ModelError, "scale/2: cannot be saved: the disk is full"),
        (
            13.0,
            PredictionError,
            r"sample, row 0: ValueError: unlucky.*3 such problems.*correct the model",
        ),
        (99.0, PredictionError, r"sample, row 0, prediction: the model's answer: inf"),
        (900.0, PredictionError, r"row 1, prediction: the model's answer: 1800 is above"),
    ],
)
@pytest.mark.parametrize("others", [False, True])
def test_a_save_that_fails_leaves_nothing_behind(
    scaler: Any, store: Path, by: float, kind: type[ModelError], words: str, others: bool
) -> None:
    if others:
        trivet.save(scaler(), store, name="scale", version="1")
    before = everything_in(store.parent)
    with pytest.raises(kind, match=words):
        trivet.save(
            scaler(by),
            store / "deep" if not others else store,
            name="scale",
            version="2",
            sample=SAMPLE,
        )
    assert everything_in(store.parent) == before


def test_a_store_that_is_a_file_is_named(scaler: Any, store: Path) -> None:
    store.write_text("")
    with pytest.raises(ModelError, match="models/scale/1: cannot be saved"):
        trivet.save(scaler(), store, name="scale", version="1")


def test_an_object_of_no_format_is_refused(store: Path) -> None:
    with pytest.raises(ModelError, match=r"no format can save a builtins\.object"):
        trivet.save(object(), store, name="a", version="1")
    assert not store.exists()


# Checks before anything is loaded.


def test_a_changed_artifact_is_refused(scaler: Any, store: Path) -> None:
    place = trivet.save(scaler(), store, name="scale", version="1")
    source = next(place.rglob("scaling.py"))
    source.write_text(source.read_text() + "\n# changed\n")
    with pytest.raises(ChecksumMismatch, match="it was changed after it was saved: restore it"):
        trivet.load(str(place), trust=True)


def test_a_missing_artifact_is_named(scaler: Any, store: Path) -> None:
    place = trivet.save(scaler(), store, name="scale", version="1")
    shutil.rmtree(place / "model")
    with pytest.raises(ModelNotFound, match=r"1/model is missing, though model\.toml names it"):
        trivet.load(str(place), trust=True)


def test_an_unknown_format_is_named(scaler: Any, store: Path) -> None:
    place = trivet.save(scaler(), store, name="scale", version="1")
    text = (place / FILE_NAME).read_text()
    (place / FILE_NAME).write_text(text.replace('format = "python"', 'format = "paper"'))
    with pytest.raises(InvalidModel, match="unknown model format 'paper'"):
        trivet.load(str(place), trust=True)


def test_code_runs_only_once_it_is_trusted(scaler: Any, store: Path) -> None:
    place = trivet.save(scaler(), store, name="scale", version="1")
    for mark in place.rglob("imported"):
        mark.unlink()
    manifest = Manifest.read(place)
    text = (place / FILE_NAME).read_text()
    (place / FILE_NAME).write_text(text.replace(manifest.sha256, checksum(place / "model")))
    with pytest.raises(UntrustedModel, match=r"models/scale would run code .*set trust = true"):
        trivet.load("models/scale", root=store.parent)
    assert not list(place.rglob("imported"))
    assert doubled(trivet.load("models/scale", root=store.parent, trust=True)) == [2.0, 10.0]
    assert list(place.rglob("imported"))


PICKLED = """
artifact_path: model
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}
"""
SIGNED = """
signature:
  inputs: '[{"type": "double", "name": "a"}]'
  outputs: '[{"type": "double", "name": "prediction"}]'
"""


def test_an_mlflow_pickle_is_not_opened_untrusted(tmp_path: Path) -> None:
    """A pickle that would leave a mark: nothing runs before `trust`."""
    import pickle

    mark = tmp_path / "mark"

    class Mark:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    folder = tmp_path / "logged"
    folder.mkdir()
    (folder / "MLmodel").write_text(PICKLED + SIGNED)
    (folder / "model.pkl").write_bytes(pickle.dumps(Mark()))
    with pytest.raises(UntrustedModel, match=r"logged carries \(a pickle or a module\)"):
        trivet.load("logged", root=tmp_path)
    assert not mark.exists()
    require("logged", tmp_path)


@pytest.mark.parametrize("signed", [False, True])
def test_an_mlflow_directory_needs_a_signature(tmp_path: Path, signed: bool) -> None:
    folder = tmp_path / "logged"
    folder.mkdir()
    signature = SIGNED.rsplit("  outputs", 1)[0] if signed else ""
    (folder / "MLmodel").write_text(PICKLED + signature)
    what = "outputs" if signed else "inputs"
    with pytest.raises(InvalidModel, match=f"logged: its signature has no {what}; log the model"):
        trivet.load(str(folder), trust=True)


def test_an_mlflow_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading one with MLflow itself is a matter of its format, and tested there."""
    from trivet.formats import Predictor, Spec, mlflow

    folder = tmp_path / "logged"
    folder.mkdir()
    (folder / "MLmodel").write_text(PICKLED + SIGNED)
    told = []

    def read(artifact: Path, spec: Spec) -> Predictor:
        told.append((artifact, spec.inputs.names, spec.outputs.names, spec.threads))
        return Predictor(lambda batch: batch, parallel=True)

    monkeypatch.setattr(mlflow, "read", read)
    model = trivet.load("logged", root=tmp_path, trust=True, threads=2)
    assert (model.name, model.version, model.parallel) == ("logged", "0", True)
    assert trivet.load("logged", root=tmp_path, trust=True, name="named").name == "named"
    assert told[0] == (folder, ("a",), ("prediction",), 2)


def test_a_model_of_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trivet.formats import mlflow

    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "MLmodel").write_text(PICKLED + SIGNED)
    asked = []

    def resolve(uri: str) -> tuple[Path, str, str]:
        asked.append(uri)
        return folder, "registered", "4"

    monkeypatch.setattr(mlflow, "resolve", resolve)
    with pytest.raises(UntrustedModel, match="models:/registered@champion would run code"):
        trivet.load("models:/registered@champion")
    require("models:/registered@champion", tmp_path)
    assert asked == ["models:/registered@champion"]


def test_a_library_that_is_too_far_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = trivet.save(linear(), store, name="m", version="1", sample=frames()["dict"])
    saved = Manifest.read(place).libraries
    assert set(saved) == {"scikit-learn", "skops"}
    real = importlib.metadata.version
    here: dict[str, str | None] = {}

    def version(name: str) -> str:
        told = here.get(name, real(name))
        if told is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return told

    monkeypatch.setattr(importlib.metadata, "version", version)
    major, minor = saved["scikit-learn"].split(".")[:2]
    here["scikit-learn"] = f"{major}.{int(minor) + 1}.0"
    with pytest.raises(IncompatibleModel) as caught:
        trivet.load(str(place))
    for part in (str(place), saved["scikit-learn"], f"'scikit-learn=={major}.{minor}.*'"):
        assert part in str(caught.value)
    here["scikit-learn"] = f"{major}.{minor}.99"
    here["skops"] = saved["skops"].split(".")[0] + ".999"
    trivet.load(str(place))
    here["skops"] = "99.0"
    with pytest.raises(IncompatibleModel, match="skops"):
        trivet.load(str(place))
    here["skops"] = None
    trivet.load(str(place))  # its import would say which extra is missing


# Classes.


def test_a_class_by_its_name(scaler: Any) -> None:
    model = trivet.load("scaling:Scaler")
    assert (model.name, model.version) == ("Scaler", "7")
    assert model.manifest.format == "python"
    assert doubled(model) == [2.0, 10.0]
    assert trivet.load("scaling:Scaler", name="mine").name == "mine"


@pytest.mark.parametrize(
    ("uri", "kind", "words"),
    [
        ("nowhere:Model", ModelNotFound, "no module 'nowhere'"),
        ("scaling:Scalar", ModelNotFound, "did you mean Scaler"),
        ("scaling:NoModel", InvalidModel, "NoModel lacks inputs, outputs, predict"),
    ],
)
def test_a_class_that_is_no_model(
    scaler: Any, uri: str, kind: type[ModelError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        trivet.load(uri)


# What a sample tells.


def frames() -> dict[str, Any]:
    columns = {"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]}
    return {
        "pandas": pd.DataFrame(columns, index=[7, 8, 9]),
        "table": pa.table(columns).replace_schema_metadata({"k": "v"}),
        "batch": pa.record_batch(columns),
        "dict": columns,
        "chunked": pa.concat_tables([pa.table(columns).slice(0, 1), pa.table(columns).slice(1)]),
    }


@pytest.mark.parametrize("kind", sorted(frames()))
def test_a_sample_of_any_kind_is_learnt_from(store: Path, kind: str) -> None:
    place = trivet.save(
        linear(),
        store,
        name="m",
        version="1",
        sample=frames()[kind],
        target=[1.0, 3.0, 6.0],
        metrics={"rmse": np.float64(0.25), "r2": 0.5},
    )
    manifest = Manifest.read(place)
    assert manifest.inputs == Schema([Field(name=n, type="float64") for n in "ab"])
    assert manifest.example == {"a": 0.0, "b": 1.0}
    assert manifest.input_references == {
        "a": Reference.of(pa.array([0.0, 1.0, 2.0])),
        "b": Reference.of(pa.array([1.0, 0.0, 1.0])),
    }
    assert sum(manifest.output_references["prediction"].counts) == 3
    assert manifest.metrics == {
        "mae": pytest.approx(1 / 3),
        "bias": pytest.approx(-1 / 3),
        "rmse": 0.25,
        "r2": 0.5,
    }
    assert manifest.batch_dependence is not None
    assert manifest.batch_dependence.source == "sample"
    assert manifest.batch_dependence.rows == parity.MAX_ROWS  # three, and others made up
    tomllib.loads((place / FILE_NAME).read_text())


@pytest.mark.parametrize(
    "labels", [[0, 1, 1, 0], ["no", "yes", "yes", "no"], [False, True, True, False]]
)
def test_a_classifier_gets_accuracy_and_area(store: Path, labels: list[Any]) -> None:
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 0.5]})
    model = LogisticRegression().fit(rows, labels)
    place = trivet.save(model, store, name="m", version="1", sample=rows, target=labels)
    manifest = Manifest.read(place)
    assert manifest.outputs.names[0] == "label"
    right = np.mean(model.predict(rows) == np.array(labels))
    assert manifest.metrics == {"accuracy": pytest.approx(right), "roc_auc": 1.0}


def test_three_classes_have_no_area(store: Path) -> None:
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0]})
    model = LogisticRegression().fit(rows, [0, 1, 2])
    place = trivet.save(model, store, name="m", version="1", sample=rows, target=[0, 1, 2])
    assert Manifest.read(place).metrics.keys() == {"accuracy"}


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (pa.table({"x": pa.array([], pa.float64())}), "has no row"),
        (pa.record_batch({"x": pa.array([], pa.float64())}), "has no row"),
        (5, "a int, cannot be read.*pass a frame"),
        (pd.Series([1.0]), "a Series, cannot be read"),
        ({"x": [1, "a"]}, "a dict, cannot be read"),
        ([{"x": 1.0}], "a list, cannot be read"),
    ],
)
def test_a_sample_that_is_none_is_refused(
    scaler: Any, store: Path, sample: Any, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        trivet.save(scaler(), store, name="m", version="1", sample=sample)
    assert not store.exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ([1.0, 2.0], "the target has 2 values, the sample 3 rows"),
        ([1.0, float("nan"), 2.0], "the target has 2 values, the sample 3 rows"),
        (["a", "b", "c"], "the target cannot be held against the predictions"),
        ([[1.0], [2.0], [3.0]], "the target cannot be held against the predictions"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(
    scaler: Any, store: Path, target: Any, words: str
) -> None:
    with pytest.raises(ModelError, match=f"{words}.*pass one value a row"):
        trivet.save(scaler(), store, name="m", version="1", sample=SAMPLE, target=target)
    assert not store.exists()


def test_a_target_needs_its_rows(scaler: Any, store: Path) -> None:
    with pytest.raises(ModelError, match="pass sample="):
        trivet.save(scaler(), store, name="m", version="1", target=[1.0])


@pytest.mark.parametrize(
    ("inputs", "values", "words"),
    [
        (
            [Field(name="x", type="float64", max=2)],
            [1.0, 3.0, 4.0],
            r"row 1, x: 3 is above the maximum 2 \(2 such",
        ),
        (
            [Field(name="x", type="float64")],
            [1.0, None],
            "row 1, x: null is not allowed; leave such",
        ),
        ([Field(name="x", type="int8")], [1, 1000], "row 1, x: 1000 does not fit int8"),
        ([Field(name="y", type="float64")], [1.0], "missing column y"),
    ],
)
def test_a_sample_that_breaks_the_inputs_is_refused(
    scaler: Any, store: Path, inputs: list[Field], values: list[Any], words: str
) -> None:
    with pytest.raises(SchemaError, match=words):
        trivet.save(scaler(), store, name="m", version="1", inputs=inputs, sample={"x": values})
    assert not store.exists()


def test_schemas_that_nobody_tells_are_asked_for(store: Path) -> None:
    model = LinearRegression().fit(np.eye(2), [1.0, 2.0])
    with pytest.raises(ModelError, match=r"does not tell its inputs; pass inputs=.* or sample="):
        trivet.save(model, store, name="m", version="1")
    with pytest.raises(ModelError, match="does not tell its inputs"):
        trivet.save(model, store, name="m", version="1", inputs=[])
    with pytest.raises(ModelError, match="does not tell its outputs; pass outputs="):
        trivet.save(model, store, name="m", version="1", sample=frames()["dict"], outputs=[])


def test_columns_that_the_model_does_not_know_are_left_out(scaler: Any, store: Path) -> None:
    sample = {"key": [1, 2], "x": [0, 1]}
    place = trivet.save(scaler(), store, name="m", version="1", sample=sample)
    assert Manifest.read(place).inputs == scaler.inputs


def test_what_a_class_says_of_its_inputs_no_sample_tells_better(store: Path) -> None:
    """Not its ranges nor its values get lost because a sample came along."""
    sample = {"a": [1.0, 2.0], "n": [1, 2], "city": ["nice", "lyon"]}
    place = trivet.save(Toy(), store, name="m", version="1", sample=sample)
    assert Manifest.read(place).inputs == Toy.inputs
    with pytest.raises(SchemaError, match="sample, row 1, a: -2"):
        trivet.save(Toy(), store, name="m", version="2", sample=sample | {"a": [1.0, -2.0]})


def test_without_a_sample_the_model_is_measured_on_rows_made_up(scaler: Any, store: Path) -> None:
    place = trivet.save(scaler(), store, name="m", version="1")
    manifest = Manifest.read(place)
    assert manifest.batch_dependence is not None
    assert manifest.batch_dependence.source == "synthetic"
    assert manifest.batch_dependence.max_ulps == 0
    assert manifest.metrics == manifest.example == manifest.input_references == {}
    refusing = trivet.save(scaler(13.0), store, name="m", version="2")
    assert Manifest.read(refusing).batch_dependence is None


CENTRED = """
import pyarrow as pa
from trivet import Field, Schema


class Centred:
    inputs = Schema([Field(name="x", type="float64")])
    outputs = Schema([Field(name="prediction", type="float64")])

    def predict(self, batch):
        values = batch.column("x").to_numpy()
        return {"prediction": pa.array(values * (1 + 1e-15 * len(values)))}
"""


def test_a_model_that_depends_on_its_batch_is_found(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "centring.py").write_text(CENTRED)
    monkeypatch.syspath_prepend(tmp_path)
    sample = {"x": np.random.default_rng(0).normal(size=300)}
    place = trivet.save("centring:Centred", store, name="m", version="1", sample=sample)
    measured = Manifest.read(place).batch_dependence
    assert measured is not None
    assert 100 < measured.max_ulps < parity.ANOTHER_ANSWER


def test_the_manifest_is_valid_json_too(scaler: Any, store: Path) -> None:
    """Other hosts hand it on: nothing in it may be of a type of its own."""
    place = trivet.save(
        scaler(), store, name="m", version="1", sample=SAMPLE, target=[2.0, 4.0, 7.0]
    )
    parts = tomllib.loads((place / FILE_NAME).read_text())
    assert json.loads(json.dumps(parts)) == parts


def test_nothing_is_left_in_the_temporary_folder(
    scaler: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    trivet.save(scaler(), store, name="m", version="1", sample=SAMPLE)
    assert everything_in(elsewhere) == []
