"""What a model answered, as the declared outputs, and formats by name."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from trivet import formats
from trivet.errors import InvalidModel, MissingExtra, PredictionError
from trivet.formats._outputs import Classification, Regression, class_names, plain_classes
from trivet.schema import Field, Schema

BOTH = Schema([Field(name="label", type="string"), Field(name="probability_b", type="float64")])


def test_a_regression_of_another_shape() -> None:
    served = Regression(Schema([Field(name="p", type="float64")]), 1, "it")
    for values in (np.zeros(3), np.zeros((2, 2)), np.zeros((1, 2, 1))):
        with pytest.raises(PredictionError, match=r"expected answers of shape \(2, 1\), got"):
            served.batch(values, 2)
    with pytest.raises(InvalidModel, match="'p' is string; the model offers one number a row"):
        Regression(Schema([Field(name="p", type="string")]), 1, "it")


def test_a_classification_of_another_shape() -> None:
    served = Classification(BOTH, ("a", "b"), "it")
    with pytest.raises(PredictionError, match=r"\(2, 2\), got \(2, 3\)"):
        served.batch(2, np.zeros((2, 3)))
    with pytest.raises(PredictionError, match=r"\(2,\), got \(1,\)"):
        served.batch(2, np.zeros((2, 2)), np.zeros(1, dtype=np.int64))
    got = served.batch(2, np.array([[0.9, 0.1], [0.5, 0.5]]))
    assert got.to_pydict() == {"label": ["a", "a"], "probability_b": [0.1, 0.5]}


def test_classes_become_plain_values() -> None:
    assert plain_classes([0.0, 1.0]) == (0, 1)
    assert plain_classes([0.5, 1.0]) == (0.5, 1.0)
    assert class_names((False, True)) == ["false", "true"]


def test_only_a_binary_classifier_has_one_probability() -> None:
    one = Schema([Field(name="churns", type="float32")])
    assert Classification(one, ("a", "b"), "it").batch(1, np.array([[0.25, 0.75]])).to_pydict() == {
        "churns": [0.75]
    }
    with pytest.raises(InvalidModel, match=r"'churns'.*the model offers label, probability_a"):
        Classification(one, ("a", "b", "c"), "it")
    two = Schema([*one, Field(name="stays", type="float32")])
    with pytest.raises(InvalidModel, match="'churns'"):
        Classification(two, ("a", "b"), "it")


def test_formats_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert formats.by_name("python").EXTRA == "python"
    with pytest.raises(InvalidModel, match="unknown model format 'pmml'; this Trivet reads onnx"):
        formats.by_name("pmml")
    monkeypatch.delitem(sys.modules, "trivet.formats.python")
    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(MissingExtra, match=r"trivet\[python\]"):
        formats.by_name("python")


def refuse(name: str) -> None:
    raise ModuleNotFoundError(name, name="something")
