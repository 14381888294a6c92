"""ONNX graphs of the shapes that converters write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from formats.format_cases import NUMERIC, Case, columns, matrix, mixed, numeric, target
from trivet import formats
from trivet.errors import InvalidModel, ModelError, PredictionError
from trivet.formats import Spec
from trivet.formats import onnx as format_
from trivet.schema import Field, Schema

ONE = Schema([Field(name="prediction", type="float64")])
X = np.nan_to_num(matrix(numeric())).astype(np.float32)
PLAIN = {"zipmap": False}


def graph(
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, int, list[Any]]],
    nodes: list[tuple[str, list[str], list[str]]],
) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node(kind, takes, gives) for kind, takes, gives in nodes],
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def loaded(model: object, directory: Path, inputs: Schema, outputs: Schema) -> formats.Predictor:
    return format_.read(directory / format_.write(model, directory), Spec(inputs, outputs))


@pytest.mark.parametrize("make", [LogisticRegression, GaussianNB])
@pytest.mark.parametrize("options", [None, PLAIN])
@pytest.mark.parametrize("names", [(3, 7), ("no", "yes")])
def test_classes_are_found(
    make: Callable[[], Any], options: dict[str, Any] | None, names: tuple[Any, Any], tmp_path: Path
) -> None:
    model = make().fit(X, np.where(X[:, 0] > 0, names[1], names[0]))
    proto = to_onnx(model, X[:1], options={id(model): options} if options else None)
    outputs = format_.signature(proto).outputs
    assert outputs is not None
    assert outputs.names == ("label", *(f"probability_{name}" for name in names))
    before = proto.SerializeToString()
    batch = numeric(nulls=False)
    got = loaded(proto, tmp_path, NUMERIC, outputs).predict(batch)
    assert proto.SerializeToString() == before
    assert got["label"].to_pylist() == model.predict(matrix(batch)).tolist()
    np.testing.assert_allclose(columns(got), model.predict_proba(matrix(batch)), atol=1e-3)


def test_classes_may_be_a_constant_of_the_graph() -> None:
    model = KNeighborsClassifier(3).fit(X, np.where(X[:, 0] > 0, 7, 3))
    found = format_.signature(to_onnx(model, X[:1], options={id(model): PLAIN})).outputs
    assert found is not None
    assert found.names == ("label", "probability_3", "probability_7")


def test_a_label_that_is_no_known_class(tmp_path: Path) -> None:
    proto = graph(
        [("n", TensorProto.INT64, [None]), ("x", TensorProto.FLOAT, [None, 2])],
        [("label", TensorProto.INT64, [None]), ("p", TensorProto.FLOAT, [None, 2])],
        [("Identity", ["n"], ["label"]), ("Identity", ["x"], ["p"])],
    )
    onnx.save(proto, tmp_path / "plain.onnx")
    found = format_.signature(tmp_path / "plain.onnx").outputs
    assert found is not None
    assert found.names == ("label", "probability_0", "probability_1")
    answer = format_._classifier([0, 1], found, "it")
    given = np.array([[0.1, 0.9]], dtype=np.float32)
    assert answer([np.array([1]), given], 1)["label"].to_pylist() == [1]
    with pytest.raises(PredictionError, match=r"expected one of the classes \[0, 1\]"):
        answer([np.array([5]), given], 1)
    only = Schema([Field(name="probability_1", type="float64")])
    assert format_._classifier([0, 1], only, "it")([np.array([5]), given], 1).num_columns == 1


def test_a_path_is_a_model(tmp_path: Path) -> None:
    model = LinearRegression().fit(X, target(numeric()))
    path = tmp_path / "linear.onnx"
    onnx.save(to_onnx(model, X[:1]), path)
    assert formats.of(path)[0] == "onnx"
    assert format_.signature(path) == formats.Signature(None, ONE)
    (tmp_path / "out").mkdir()
    got = loaded(path, tmp_path / "out", NUMERIC, ONE).predict(numeric(nulls=False))
    np.testing.assert_allclose(
        columns(got)[:, 0], model.predict(matrix(numeric(nulls=False))), rtol=1e-4
    )
    path.write_text("nothing")
    with pytest.raises(InvalidModel, match="no ONNX model"):
        format_.signature(path)


def test_columns_and_their_types_are_read_off(trained: Callable[[str], Case]) -> None:
    found = format_.signature(trained("onnx_columns").model).inputs
    assert found is not None
    assert [(f.name, f.type) for f in found] == [
        ("a", "float32"), ("n", "float32"), ("b", "float32"), ("city", "string"),
    ]  # fmt: skip


def test_several_outputs_and_ranks(tmp_path: Path) -> None:
    proto = graph(
        [("n", TensorProto.INT64, [None]), ("x", TensorProto.DOUBLE, [None, 1])],
        [("twice", TensorProto.INT64, [None]), ("root", TensorProto.DOUBLE, [None, 1])],
        [("Add", ["n", "n"], ["twice"]), ("Sqrt", ["x"], ["root"])],
    )
    found = format_.signature(proto)
    assert found.inputs is not None
    assert found.outputs is not None
    assert [(f.name, f.type) for f in found.outputs] == [("twice", "int64"), ("root", "float64")]
    predictor = loaded(proto, tmp_path, found.inputs, found.outputs)
    got = predictor.predict(pa.record_batch({"n": [1, 2], "x": [4.0, 9.0]}))
    assert got.to_pydict() == {"twice": [2, 4], "root": [2.0, 3.0]}


def test_one_tensor_of_whole_numbers_or_text(tmp_path: Path) -> None:
    for kind, element, values in (
        ("int64", TensorProto.INT64, ([1, 2], [3, 4])),
        ("string", TensorProto.STRING, (["a", "b"], ["c", "d"])),
    ):
        place = tmp_path / kind
        place.mkdir()
        proto = graph(
            [("all", element, [None, 2])],
            [("same", element, [None, 2])],
            [("Identity", ["all"], ["same"])],
        )
        both = Schema([Field(name="p", type=kind), Field(name="q", type=kind)])
        batch = pa.record_batch({"p": values[0], "q": values[1]})
        assert loaded(proto, place, both, both).predict(batch).to_pydict() == batch.to_pydict()


def test_a_label_alone(tmp_path: Path) -> None:
    column: list[Any] = [None, 1]
    proto = graph(
        [("n", TensorProto.INT64, column)],
        [("same", TensorProto.INT64, column)],
        [("Identity", ["n"], ["same"])],
    )
    found = format_.signature(proto)
    assert found.outputs == Schema([Field(name="label", type="int64")])
    assert found.inputs is not None
    got = loaded(proto, tmp_path, found.inputs, found.outputs).predict(
        pa.record_batch({"n": [5, 6]})
    )
    assert got["label"].to_pylist() == [5, 6]


@pytest.mark.parametrize(
    ("kind", "shape", "field", "words"),
    [
        (TensorProto.FLOAT, [1, 1], Field(name="x", type="float64"), "1 rows at a time"),
        (TensorProto.FLOAT, [None, 4], Field(name="x", type="float64"), "reads 4 columns"),
        (
            TensorProto.FLOAT,
            [None, 1],
            Field(name="x", type="string"),
            "is string, the graph reads float32",
        ),
        (TensorProto.INT64, [None, 1], Field(name="x", type="float64"), "the graph reads int64"),
        (TensorProto.BOOL, [None, 1], Field(name="x", type="int8"), "the graph reads bool"),
        (TensorProto.STRING, [None, 1], Field(name="x", type="string", nullable=True), "no room"),
        (TensorProto.FLOAT16, [None, 1], Field(name="x", type="float64"), "use a tensor"),
    ],
)
def test_inputs_that_do_not_fit(
    kind: int, shape: list[Any], field: Field, words: str, tmp_path: Path
) -> None:
    proto = graph([("x", kind, shape)], [("y", kind, shape)], [("Identity", ["x"], ["y"])])
    onnx.save(proto, tmp_path / "model.onnx")
    inputs = Schema([field, Field(name="z", type="float64")] if shape[1] == 4 else [field])
    with pytest.raises(InvalidModel, match=words):
        format_.read(tmp_path / "model.onnx", Spec(inputs, ONE))


def test_what_cannot_be_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    value: list[tuple[str, int, list[Any]]] = [("x", TensorProto.FLOAT16, [None, 1])]
    with pytest.raises(InvalidModel, match="no tensor of numbers"):
        format_.signature(graph(value, value, [("Identity", ["x"], ["x"])]))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="pip install onnx"):
        format_.signature(Path("any.onnx"))
    assert mixed().num_rows
