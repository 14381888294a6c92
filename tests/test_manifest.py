from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.errors import InvalidModel
from trivet.manifest import FILE_NAME, LAYOUT, BatchDependence, Manifest, checksum
from trivet.monitoring import Reference
from trivet.schema import TYPES, Field, Schema

ZONES = st.one_of(st.none(), st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-5))]))
LITERALS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int8": st.integers(-128, 127),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.one_of(
        st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70)
    ),
    "string": st.text(max_size=8),
    "timestamp": st.datetimes(
        dt.datetime(2, 1, 1),  # noqa: DTZ001
        dt.datetime(9998, 1, 1),  # noqa: DTZ001
        timezones=ZONES,  # type: ignore[arg-type]
    ),
    "date": st.dates(),
}
names = st.text(min_size=1, max_size=8)


@st.composite
def fields(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(sorted(TYPES)))
    parts: dict[str, Any] = {
        "values": draw(st.one_of(st.none(), st.lists(LITERALS[kind], min_size=1)))
    }
    if kind not in ("bool", "string"):
        low, high = (
            Field(name="x", type=kind, min=draw(LITERALS[kind])).min for _ in ("min", "max")
        )
        if low is not None and high is not None and high >= low:  # type: ignore[operator]
            parts |= draw(st.sampled_from([{}, {"min": low}, {"min": low, "max": high}]))
    return Field(name=name, type=kind, nullable=draw(st.booleans()), **parts)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    return Schema([draw(fields(name)) for name in draw(st.lists(names, max_size=4, unique=True))])


references = st.dictionaries(
    names,
    st.one_of(
        st.builds(
            Reference,
            st.lists(st.floats(allow_nan=False), max_size=9).map(tuple),
            st.none(),
            st.lists(st.integers(0, 2**60)).map(tuple),
            st.integers(0, 9),
        ),
        st.builds(
            Reference,
            st.none(),
            st.lists(st.text(max_size=5), max_size=5).map(tuple),
            st.lists(st.integers(0, 9)).map(tuple),
            st.integers(0, 9),
        ),
    ),
    max_size=2,
)
manifests = st.builds(
    Manifest,
    name=st.text(max_size=8),
    version=st.text(max_size=8),
    format=st.text(max_size=8),
    artifact=st.just("model"),
    sha256=st.text(max_size=8),
    inputs=schemas(),
    outputs=schemas(),
    libraries=st.dictionaries(names, st.text(max_size=5), max_size=2),
    created=st.text(max_size=5),
    description=st.text(max_size=30),
    batch_dependence=st.one_of(
        st.none(),
        st.builds(
            BatchDependence,
            max_ulps=st.integers(0, 2**63 - 1),
            rows=st.integers(0, 9),
            source=st.just("sample"),
            compared=st.integers(0, 9),
        ),
    ),
    metrics=st.dictionaries(names, st.floats(allow_nan=False), max_size=2),
    example=st.dictionaries(names, st.one_of(*LITERALS.values()), max_size=2),
    input_references=references,
    output_references=references,
)


@settings(deadline=None)
@given(manifests)
def test_a_manifest_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, m: Manifest
) -> None:
    directory = tmp_path_factory.mktemp("manifest")
    (directory / FILE_NAME).write_text(m.to_toml(), encoding="utf-8")
    back = Manifest.read(directory)
    assert back == m
    assert back.digest == m.digest
    assert back.to_toml() == m.to_toml()
    shutil.rmtree(directory)


def small(**parts: Any) -> Manifest:
    schema = Schema([Field(name="a", type="int8", min=1)])
    known: dict[str, Any] = {
        "name": "m",
        "version": "1",
        "format": "onnx",
        "artifact": "model.onnx",
        "sha256": "ab",
        "inputs": schema,
        "outputs": schema,
    }
    return Manifest(**known | parts)


def test_figures_of_numpy_are_written_as_numbers() -> None:
    written = tomllib.loads(
        small(metrics={"a": np.float32(0.5), "b": 1, "c": np.int64(2)}).to_toml()
    )
    assert written["metrics"] == {"a": 0.5, "b": 1.0, "c": 2.0}


def test_the_digest_tells_what_decides_an_answer() -> None:
    wider = Schema([Field(name="a", type="int8", min=0)])
    changed = [
        small(sha256="cd"),
        small(format="sklearn"),
        small(inputs=wider),
        small(outputs=wider),
    ]
    assert len({m.digest for m in (small(), *changed)}) == 5
    same = [small(name="n"), small(version="2"), small(metrics={"a": 1}), small(description="x")]
    assert {m.digest for m in same} == {small().digest}
    assert len(small().digest) == 64


def test_bounds_that_are_equal_give_equal_digests() -> None:
    one, other = (
        Schema(
            [Field(name="a", type="float64", min=bound), Field(name="b", type="timestamp", min=at)]
        )
        for bound, at in (
            (1, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
            (1.0, dt.datetime(2019, 12, 31, 19, tzinfo=dt.timezone(dt.timedelta(hours=-5)))),
        )
    )
    assert one == other
    assert small(inputs=one).digest == small(inputs=other).digest


def written(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    parts = tomllib.loads(small().to_toml())
    change(parts)
    (tmp_path / FILE_NAME).write_text(tomli_w.dumps(parts), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.pop("sha256"), "the key 'sha256' is missing"),
        (lambda p: p.pop("inputs"), "the key 'inputs' is missing"),
        (lambda p: p.update(layout=LAYOUT + 1), "layout 2, this Trivet reads 1.*upgrade Trivet"),
        (lambda p: p.pop("layout"), "layout None, this Trivet reads 1"),
        (lambda p: p.update(version=3), "version = 3 is no text"),
        (lambda p: p.update(inputs="abc"), "inputs = 'abc' is no list"),
        (lambda p: p.update(inputs=["a"]), "str"),
        (lambda p: p.update(outputs=[{"name": "a", "type": "text"}]), "unknown type 'text'"),
        (lambda p: p.update(metrics="good"), "metrics = 'good' is no table"),
        (lambda p: p.update(batch_dependence={"ulps": 1}), "ulps"),
        (lambda p: p.update(reference={"inputs": {"a": {"edges": []}}}), "'counts' is missing"),
        (lambda p: p.update(reference={"inputs": 3}), "int"),
        (lambda p: p.update(artifact="../elsewhere"), "'../elsewhere' is no name beside"),
        (lambda p: p.update(artifact="/etc/passwd"), "'/etc/passwd' is no name beside"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    with pytest.raises(InvalidModel, match=words) as caught:
        Manifest.read(written(tmp_path, change))
    assert str(tmp_path / FILE_NAME) in str(caught.value)
    assert "save the model again" in str(caught.value)


def test_what_is_optional_may_be_left_out(tmp_path: Path) -> None:
    optional = ("description", "created", "libraries", "metrics", "example", "reference")

    def change(parts: dict[str, Any]) -> None:
        for key in optional:
            parts.pop(key)

    assert Manifest.read(written(tmp_path, change)) == small()


@pytest.mark.parametrize("content", [b"layout = ", b"\xff\xfe", None])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(InvalidModel, match=r"model\.toml: cannot be read"):
        Manifest.read(tmp_path)


def test_a_manifest_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().name = "x"  # type: ignore[misc]


def test_the_checksum_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert checksum(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_the_checksum_of_a_folder_tells_names_and_contents(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return checksum(tmp_path / name)

    one = tree("one", {"a": "1", "b/c": "2"})
    assert one == tree("same", {"b/c": "2", "a": "1"})
    assert one == tree(
        "run", {"a": "1", "b/c": "2", "__pycache__/a.pyc": "x", "b/__pycache__/c": "y"}
    )
    others = [
        {"a": "1", "b/c": "3"},
        {"a": "1", "bc": "2"},
        {"a": "1"},
        {"a": "1", "d/c": "2"},
        {"a": "2", "b/c": "1"},
    ]
    assert len({one, *(tree(f"other{i}", files) for i, files in enumerate(others))}) == 6
