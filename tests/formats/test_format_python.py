"""Plain Python classes as models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from formats.format_cases import NUMERIC, Doubler
from trivet import formats
from trivet.errors import InvalidModel, ModelError, ModelNotFound, PredictionError
from trivet.formats import Spec, python
from trivet.schema import Field, Schema

XY = Schema([Field(name="x", type="float64"), Field(name="y", type="int64")])
INPUTS = Schema([Field(name="v", type="int64")])
BATCH = pa.record_batch({"v": [1, 2, 3]})

SOURCE = """
from trivet.schema import Field, Schema

class Adder:
    inputs = Schema([Field(name="v", type="int64")])
    outputs = Schema([Field(name="w", type="int64")])
    def predict(self, batch):
        return [value + 1 for value in batch.column(0).to_pylist()]

class Bare:
    pass

class Untyped(Adder):
    outputs = ["w"]

class Raises(Adder):
    def __init__(self):
        raise ValueError("no luck")
"""


class Answers:
    inputs = INPUTS
    outputs = XY

    def __init__(self, given: Any) -> None:
        self.given = given

    def predict(self, batch: pa.RecordBatch) -> Any:
        return self.given


@pytest.mark.parametrize(
    "given",
    [
        pa.record_batch({"y": [1, 2, 3], "x": [0.5, 1.5, 2.5]}),
        pa.table({"x": [0.5, 1.5, 2.5], "y": pa.array([1, 2, 3], pa.int8())}),
        {"x": np.array([0.5, 1.5, 2.5]), "y": [1, 2, 3], "more": None},
        np.array([[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]]),
    ],
)
def test_what_predict_may_return(given: Any) -> None:
    got = python.predictor(Answers(given), Spec(INPUTS, XY)).predict(BATCH)
    assert got.schema.equals(XY.arrow)
    assert got.to_pydict() == {"x": [0.5, 1.5, 2.5], "y": [1, 2, 3]}


@pytest.mark.parametrize(
    "given", [pa.array([1, 2, 3]), pa.chunked_array([[1], [2, 3]]), np.arange(1, 4), [1, 2, 3]]
)
def test_a_single_output_may_be_bare(given: Any) -> None:
    one = Schema([Field(name="y", type="int64")])
    instance = Answers(given)
    instance.outputs = one
    assert python.predictor(instance, Spec(INPUTS, one)).predict(BATCH)["y"].to_pylist() == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": [1.0]}, "expected the columns x, y, got x"),
        ({"x": [1.0], "y": [1]}, "expected 3 rows, got 1"),
        ({"x": ["a", "b", "c"], "y": [1, 2, 3]}, "output 'x': expected double"),
        (np.zeros((3, 5)), r"expected 2 columns \(x, y\), got a ndarray of shape \(3, 5\)"),
        (None, "got a NoneType"),
    ],
)
def test_what_predict_may_not_return(given: Any, words: str) -> None:
    with pytest.raises(PredictionError, match=words):
        python.predictor(Answers(given), Spec(INPUTS, XY)).predict(BATCH)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_adder.py").write_text(SOURCE)
    (tmp_path / "my_broken.py").write_text("1 / 0")
    (tmp_path / "my_needy.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_adder", raising=False)
    return "my_adder"


def test_a_reference_is_imported(module: str, tmp_path: Path) -> None:
    assert formats.of("my_adder:Adder")[0] == "python"
    instance = python.from_reference("my_adder:Adder")
    assert python.source_file(instance) == tmp_path / "my_adder.py"
    assert python.signature("my_adder:Adder").inputs == INPUTS
    got = python.predictor(instance, Spec(instance.inputs, instance.outputs)).predict(BATCH)
    assert got["w"].to_pylist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        ("my_none:Adder", ModelNotFound, "no module 'my_none'"),
        ("my_adder.deep:Adder", ModelNotFound, "no module 'my_adder.deep'"),
        ("my_adder:Ader", ModelNotFound, "did you mean Adder"),
        ("my_adder:zzz", ModelNotFound, "it has Field, Schema, Adder"),
        ("my_adder:Bare", InvalidModel, "lacks inputs, outputs, predict"),
        ("my_adder:Untyped", InvalidModel, "outputs is no trivet.Schema"),
        ("my_adder:Raises", InvalidModel, "raises ValueError: no luck"),
        ("my_broken:Adder", InvalidModel, "division by zero"),
        ("my_needy:Adder", InvalidModel, "not_there_at_all"),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_reference_that_leads_nowhere(
    reference: str, error: type[ModelError], words: str
) -> None:
    with pytest.raises(error, match=words):
        python.from_reference(reference)


def test_two_versions_of_a_file_live_side_by_side(module: str, tmp_path: Path) -> None:
    predictors = []
    for version, step in (("1", "+ 1"), ("2", "+ 5")):
        place = tmp_path / version
        place.mkdir()
        artifact = place / python.write("my_adder:Adder", place)
        source = artifact / "my_adder.py"
        source.write_text(source.read_text().replace("+ 1", step))
        predictors.append(
            python.read(artifact, Spec(INPUTS, Schema([Field(name="w", type="int64")])))
        )
    assert [p.predict(BATCH)["w"].to_pylist() for p in predictors] == [[2, 3, 4], [6, 7, 8]]


def test_data_is_saved_beside_the_code(tmp_path: Path) -> None:
    artifact = tmp_path / python.write(Doubler(4.0), tmp_path)
    assert (artifact / "data" / "factor.txt").read_text() == "4.0"
    assert json.loads((artifact / "entry.json").read_text()) == {
        "module_file": "format_cases.py",
        "class": "Doubler",
    }
    predictor = python.read(artifact, Spec(NUMERIC, Doubler.outputs))
    assert predictor.parallel


@pytest.mark.parametrize(("name", "text"), [("my_adder.py", "1 / 0"), ("my_adder.txt", "")])
def test_a_file_that_is_no_code(module: str, tmp_path: Path, name: str, text: str) -> None:
    artifact = tmp_path / python.write("my_adder:Adder", tmp_path)
    (artifact / name).write_text(text)
    (artifact / "entry.json").write_text(json.dumps({"module_file": name, "class": "Adder"}))
    with pytest.raises(InvalidModel, match="cannot load Adder"):
        python.read(artifact, Spec(INPUTS, XY))


def test_a_class_of_an_interactive_session() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "INPUTS": INPUTS}
    exec(
        "class Typed:\n  inputs = outputs = INPUTS\n  def predict(self, batch): return batch", scope
    )
    model = type("Typed", (scope["Typed"],), {"__module__": "nowhere_at_all"})
    assert python.recognises(model)
    with pytest.raises(ModelError, match="interactive session"):
        python.source_file(model())


def test_what_is_no_class_of_ours() -> None:
    assert not python.recognises("no reference")
    assert not python.recognises(3)
