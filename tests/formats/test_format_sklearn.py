"""scikit-learn: what a batch becomes for each kind of first step."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import (
    BayesianRidge,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import SVR

import trivet
from formats.format_cases import (
    MIXED,
    NUMERIC,
    Case,
    columns,
    dicts,
    frame,
    matrix,
    mixed,
    numeric,
    target,
)
from trivet.errors import InvalidModel, ModelError, PredictionError
from trivet.formats import Spec
from trivet.formats import sklearn as format_
from trivet.formats._dicts import Learnt, Vectorizer
from trivet.formats._frames import framer
from trivet.schema import Field, Schema

ONE = Schema([Field(name="prediction", type="float64")])
FIELDS = Schema(
    [
        Field(name="city", type="string", nullable=True),
        Field(name="n", type="int64", nullable=True),
        Field(name="x", type="float64", nullable=True),
        Field(name="flag", type="bool", nullable=True),
        Field(name="unseen", type="float64", nullable=True),
        Field(name="city=b", type="float64", nullable=True),
    ]
)
texts = st.sampled_from(["a", "b", "=", "", "é"]) | st.text(max_size=3)
rows = st.lists(
    st.tuples(
        st.none() | texts,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(),
        st.none() | st.booleans(),
        st.none() | st.floats(),
        st.none() | st.floats(allow_nan=False),
    ),
    min_size=1,
    max_size=8,
)


def fitted(**options: Any) -> DictVectorizer:
    seen = [{"city": city, "n": 1, "x": 2.0, "flag": True} for city in ("b", "a", "", "=", "é")]
    return DictVectorizer(**options).fit(seen)


def drawn_batch(drawn: list[tuple[Any, ...]]) -> pa.RecordBatch:
    arrays = [
        pa.array(c, f.arrow.type) for c, f in zip(zip(*drawn, strict=True), FIELDS, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, names=list(FIELDS.names))


@settings(deadline=None)
@given(
    rows,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["=", "::"]),
    st.sampled_from([np.float64, np.float32]),
)
def test_a_dict_vectorizer_in_columns(
    drawn: list[tuple[Any, ...]], sparse: bool, sort: bool, separator: str, dtype: type
) -> None:
    vectorizer = fitted(sparse=sparse, sort=sort, separator=separator, dtype=dtype)
    ours = Vectorizer(Learnt.of(vectorizer), FIELDS, "it")
    batch = drawn_batch(drawn)
    for part in [batch, *(batch.slice(i, 1) for i in range(batch.num_rows))]:
        with np.errstate(over="ignore"):
            expected, got = vectorizer.transform(dicts(part)), ours(part)
        assert type(got) is type(expected)
        assert got.dtype == expected.dtype
        if sparse:
            np.testing.assert_array_equal(got.indices, expected.indices)
            np.testing.assert_array_equal(got.indptr, expected.indptr)
            got, expected = got.data, expected.data
        np.testing.assert_array_equal(got, expected)


def test_a_dict_vectorizer_takes_no_times() -> None:
    with pytest.raises(InvalidModel, match="not the times day"):
        Vectorizer(Learnt.of(fitted()), Schema([Field(name="day", type="date")]), "it")


def test_dicts_give_the_same_bits_and_the_inputs(
    trained: Callable[[str], Case], tmp_path: Path
) -> None:
    case = trained("sklearn_dicts")
    found = format_.signature(case.model)
    assert found.inputs is not None
    assert {(f.name, f.type) for f in found.inputs} == {
        ("a", "float64"), ("b", "float64"), ("n", "float64"), ("city", "string"),
    }  # fmt: skip
    artifact = tmp_path / format_.write(case.model, tmp_path)
    predictor = format_.read(artifact, Spec(MIXED, ONE))
    model: Any = case.model
    for i in range(20):
        row = mixed().slice(i, 1)
        assert predictor.predict(row)[0][0].as_py() == model.predict(dicts(row))[0]


def test_a_pipeline_in_a_pipeline_that_starts_with_dicts(tmp_path: Path) -> None:
    inner = make_pipeline(DictVectorizer(), FunctionTransformer())
    model = make_pipeline(inner, FunctionTransformer(), LinearRegression())
    model.fit(dicts(mixed()), target(mixed()))
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(MIXED, ONE)).predict(mixed())
    np.testing.assert_array_equal(columns(got)[:, 0], model.predict(dicts(mixed())))


linear_models = st.sampled_from(
    [
        LinearRegression(),
        LinearRegression(fit_intercept=False),
        Ridge(),
        Lasso(alpha=0.01),
        BayesianRidge(),  # has a predict of its own
    ]
)
MILES = Field(name="miles", type="float64")


@settings(deadline=None, max_examples=25)
@given(linear_models, st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_a_linear_regression_on_dicts_gives_the_same_bits(
    last: Any, sparse: bool, single: bool, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    data = pa.table(
        {"zones": [f"{n}" for n in draw.integers(0, 9, 40)], "miles": draw.normal(0, 9, 40)}
    ).to_batches()[0]
    dense = not sparse or isinstance(last, BayesianRidge | Lasso)  # which takes no long indices
    vectorizer = DictVectorizer(sparse=not dense, dtype=np.float32 if single else np.float64)
    model = make_pipeline(vectorizer, clone(last)).fit(dicts(data), draw.normal(0, 9, 40))
    spec = Spec(Schema([Field(name="zones", type="string"), MILES]), ONE)
    with TemporaryDirectory() as folder:
        predictor = format_.read(Path(folder) / format_.write(model, Path(folder)), spec)
    for part in (data, data.slice(7, 1), data.slice(3, 16)):
        got = columns(predictor.predict(part))[:, 0]
        np.testing.assert_array_equal(got, model.predict(dicts(part)))


def test_a_linear_regression_of_several_targets_on_dicts(tmp_path: Path) -> None:
    several = np.stack((target(mixed()), -target(mixed())), axis=1)
    model = make_pipeline(DictVectorizer(), LinearRegression()).fit(dicts(mixed()), several)
    outputs = format_.signature(model).outputs
    assert outputs is not None
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(MIXED, outputs)).predict(mixed())
    np.testing.assert_array_equal(columns(got), model.predict(dicts(mixed())))


def test_a_linear_regression_refuses_what_is_not_finite(tmp_path: Path) -> None:
    data = pa.record_batch({"miles": [1.0, 2.0, 4.0]})
    vectorizer = DictVectorizer(dtype=np.float32)
    model = make_pipeline(vectorizer, LinearRegression()).fit(dicts(data), [1.0, 2.0, 3.0])
    artifact = tmp_path / format_.write(model, tmp_path)
    predictor = format_.read(artifact, Spec(Schema([MILES]), ONE))
    for bad in (float("nan"), float("inf"), 1e300):
        batch = pa.record_batch({"miles": [1.0, bad]})
        with np.errstate(over="ignore"), pytest.raises(ValueError, match="Input"):
            model.predict(dicts(batch))
        with np.errstate(over="ignore"), pytest.raises(PredictionError, match="not finite, or too"):
            predictor.predict(batch)


def test_a_linear_regression_that_overflows_is_answered(tmp_path: Path) -> None:
    data = pa.record_batch({"miles": [1.0, 2.0, 4.0]})
    model = make_pipeline(DictVectorizer(), LinearRegression()).fit(dicts(data), [9.0, 19.0, 39.0])
    artifact = tmp_path / format_.write(model, tmp_path)
    batch = pa.record_batch({"miles": [1e308]})
    got = format_.read(artifact, Spec(Schema([MILES]), ONE)).predict(batch)
    assert columns(got)[:, 0].tolist() == model.predict(dicts(batch)).tolist() == [math.inf]


SERVED = """
import sys
import pyarrow as pa
import trivet
model = trivet.load(sys.argv[1])
answer = model.predict(pa.record_batch({"city": ["b", "?"], "miles": [2.0, 0.1]}))
print(answer["prediction"].to_pylist(), {"sklearn", "skops"} & set(sys.modules))
"""


def test_a_linear_regression_on_dicts_needs_no_scikit_learn(tmp_path: Path) -> None:
    data = pa.record_batch({"city": ["a", "b", "a", "b"], "miles": [1.0, 2.0, 4.0, 3.0]})
    model = make_pipeline(DictVectorizer(), Ridge()).fit(dicts(data), [1.0, 2.0, 3.0, 5.0])
    trivet.save(model, tmp_path, name="line", version="1")
    done = subprocess.run(
        [sys.executable, "-c", SERVED, tmp_path / "line"],
        check=True,
        capture_output=True,
        text=True,
    )
    expected = model.predict([{"city": "b", "miles": 2.0}, {"city": "?", "miles": 0.1}]).tolist()
    assert done.stdout == f"{expected} set()\n"


class Own(LinearRegression):  # type: ignore[misc]
    """Predicts in a way of its own."""

    def predict(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        return -super().predict(X)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(DictVectorizer(sparse=False), LinearRegression()),
        make_pipeline(DictVectorizer(), FunctionTransformer(), LinearRegression()),
        make_pipeline(make_pipeline(DictVectorizer()), LinearRegression()),
        make_pipeline(DictVectorizer(), Own()),
        make_pipeline(DictVectorizer(), BayesianRidge()),
    ],
)
def test_a_model_that_is_more_than_numbers_is_a_file(model: Any, tmp_path: Path) -> None:
    dense = isinstance(model[-1], BayesianRidge)
    model = clone(model).set_params(**{"dictvectorizer__sparse": False} if dense else {})
    model.fit(dicts(mixed()), target(mixed()))
    artifact = tmp_path / format_.write(model, tmp_path)
    assert artifact.name == "model.skops"
    got = format_.read(artifact, Spec(MIXED, ONE)).predict(mixed())
    np.testing.assert_array_equal(columns(got)[:, 0], model.predict(dicts(mixed())))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": ["miles", "miles"]}, "do not fit each other"),
        ({"weights": {"dtype": "float64", "values": [1.0, 2.0]}}, "do not fit each other"),
        ({"weights": {"dtype": "float64", "values": [[[1.0]]]}}, "do not fit each other"),
        ({"intercept": {"dtype": "float64", "values": [1.0, 2.0]}}, "do not fit each other"),
        ({"weights": {"dtype": "float64", "values": ["x"]}}, "cannot be read"),
        ({"dtype": "nonsense"}, "cannot be read"),
        ({"features": 7}, "cannot be read"),
        ({"separator": None, "intercept": None}, "cannot be read"),
    ],
)
def test_numbers_that_are_none(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    data = pa.record_batch({"miles": [1.0, 2.0, 4.0]})
    model = make_pipeline(DictVectorizer(), LinearRegression()).fit(dicts(data), [1.0, 2.0, 3.0])
    artifact = tmp_path / format_.write(model, tmp_path)
    extra = artifact / "extra.json"
    extra.write_text(json.dumps(json.loads(extra.read_text()) | changes))
    assert not format_.runs_code(artifact)
    with pytest.raises(InvalidModel, match=words):
        format_.read(artifact, Spec(Schema([MILES]), ONE))


def test_text_goes_to_a_text_vectorizer(tmp_path: Path) -> None:
    words = ["cheap ride", "long ride", "cheap", "long"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
        words, [True, False, True, False]
    )
    outputs = format_.signature(model).outputs
    assert outputs is not None
    assert outputs.names == ("label", "probability_false", "probability_true")
    assert outputs.fields[0].type == "bool"
    artifact = tmp_path / format_.write(model, tmp_path)
    inputs = Schema([Field(name="text", type="string")])
    got = format_.read(artifact, Spec(inputs, outputs)).predict(pa.record_batch({"text": words}))
    assert got["label"].to_pylist() == [True, False, True, False]
    np.testing.assert_array_equal(columns(got), model.predict_proba(words))


def test_a_bare_array_of_objects(tmp_path: Path) -> None:
    x = np.array([["a", 1], ["b", 2], ["a", 2]], dtype=object)
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LinearRegression()).fit(
        x, [1.0, 2.0, 3.0]
    )
    artifact = tmp_path / format_.write(model, tmp_path)
    inputs = Schema([Field(name="s", type="string"), Field(name="n", type="int64")])
    batch = pa.record_batch({"s": ["a", "b", "a"], "n": [1, 2, 2]})
    got = format_.read(artifact, Spec(inputs, ONE)).predict(batch)
    np.testing.assert_allclose(columns(got)[:, 0], model.predict(x))


def test_frames_do_not_depend_on_the_neighbours() -> None:
    fields = [
        Field(name="i", type="int64", nullable=True),
        Field(name="b", type="bool", nullable=True),
        Field(name="t", type="timestamp", nullable=True),
        Field(name="d", type="date"),
        Field(name="f", type="float32"),
    ]
    schema = Schema(fields)
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([True if f.type == "bool" else 1, v], f.arrow.type)
            for f, v in zip(fields, [None, None, None, 2, 2], strict=True)
        ],
        names=list(schema.names),
    )
    make = framer(schema, schema.names, "sklearn")
    assert (make(batch).dtypes == make(batch.slice(0, 1)).dtypes).all()
    assert make(batch).dtypes.astype(str).tolist()[:2] == ["float64", "float64"]
    checked = framer(schema, schema.names, "mlflow", checked=True)(batch.slice(0, 1))
    assert checked.dtypes.astype(str).tolist()[:2] == ["int64", "bool"]
    assert checked["t"].dt.tz is None


def test_labels_without_probabilities(tmp_path: Path) -> None:
    x, y = np.nan_to_num(matrix(numeric())), np.where(target(numeric()) > 2, 1.0, 0.0)
    model = RidgeClassifier().fit(x, y)
    assert format_.signature(model).outputs == Schema([Field(name="label", type="int64")])
    artifact = tmp_path / format_.write(model, tmp_path)
    batch = numeric(nulls=False)
    outputs = Schema([Field(name="label", type="string")])
    got = format_.read(artifact, Spec(NUMERIC, outputs)).predict(batch)
    assert got[0].to_pylist() == [str(int(label)) for label in model.predict(matrix(batch))]
    with pytest.raises(InvalidModel, match="'label' is timestamp"):
        format_.read(artifact, Spec(NUMERIC, Schema([Field(name="label", type="timestamp")])))
    with pytest.raises(InvalidModel, match=r"the model offers label$"):
        format_.read(artifact, Spec(NUMERIC, Schema([Field(name="p", type="float64")])))


def test_a_forest_is_asked_once_and_for_the_label_alone(tmp_path: Path) -> None:
    x, y = matrix(numeric(nulls=False)), np.digitize(target(numeric(nulls=False)), [1, 4])
    model = RandomForestClassifier(4, n_jobs=2, random_state=0).fit(x, y)
    artifact = tmp_path / format_.write(model, tmp_path)
    predictor = format_.read(artifact, Spec(NUMERIC, Schema([Field(name="label", type="int64")])))
    np.testing.assert_array_equal(predictor.predict(numeric(nulls=False))[0], model.predict(x))
    assert predictor.parallel


@pytest.mark.parametrize(
    ("make", "targets"),
    [
        (LinearRegression, 2),
        (LinearRegression, 1),
        (lambda: TransformedTargetRegressor(LinearRegression()), 1),
        (lambda: TransformedTargetRegressor(LinearRegression()), 2),
        (lambda: MultiOutputRegressor(LinearRegression()), 2),
        (SVR, 1),
    ],
)
def test_targets_are_counted(make: Callable[[], Any], targets: int, tmp_path: Path) -> None:
    x = matrix(numeric(nulls=False))
    y = np.stack([x[:, 0], -x[:, 1]], axis=1)[:, :targets]
    model = make().fit(x, y if targets > 1 else y.ravel())
    outputs = format_.signature(model).outputs
    assert outputs is not None
    assert len(outputs) == targets
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(NUMERIC, outputs)).predict(numeric(nulls=False))
    np.testing.assert_allclose(columns(got), model.predict(x).reshape(-1, targets))


def test_clusters_are_whole_numbers(tmp_path: Path) -> None:
    x = matrix(numeric(nulls=False))
    model = KMeans(2, n_init=1, random_state=0).fit(x)
    outputs = format_.signature(model).outputs
    assert outputs == Schema([Field(name="prediction", type="int64")])
    artifact = tmp_path / format_.write(model, tmp_path)
    got = format_.read(artifact, Spec(NUMERIC, outputs)).predict(numeric(nulls=False))
    assert got[0].to_pylist() == model.predict(x).tolist()


def test_inputs_that_do_not_fit(trained: Callable[[str], Case], tmp_path: Path) -> None:
    few = Schema([Field(name="a", type="float64")])
    for name, words in (("sklearn_frame", "reads n, b, city"), ("sklearn_matrix", "3 features")):
        artifact = tmp_path / format_.write(trained(name).model, tmp_path)
        with pytest.raises(InvalidModel, match=words):
            format_.read(artifact, Spec(few, trained(name).outputs))


def test_a_type_of_ones_own_needs_trust(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(double), LinearRegression())
    model.fit(matrix(numeric(nulls=False)), target(numeric(nulls=False)))
    artifact = tmp_path / format_.write(model, tmp_path)
    assert format_.runs_code(artifact)
    got = format_.read(artifact, Spec(NUMERIC, ONE)).predict(numeric(nulls=False))
    np.testing.assert_allclose(columns(got)[:, 0], model.predict(matrix(numeric(nulls=False))))


def test_what_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="does not predict"):
        format_.write(OneHotEncoder(), tmp_path)
    with pytest.raises(ModelError, match="not trained"):
        format_.signature(LogisticRegression())
    x = matrix(numeric(nulls=False))
    several = RandomForestClassifier(2).fit(x, x[:, :2] > 0)
    with pytest.raises(InvalidModel, match="several targets"):
        format_.signature(several)
    model = LinearRegression().fit(x, x[:, 0])
    model.extra = (i for i in range(3))
    with pytest.raises(ModelError, match="skops cannot save"):
        format_.write(model, tmp_path)
    import skops.io

    skops.io.dump(BaseEstimator(), tmp_path / "model.skops")
    with pytest.raises(InvalidModel, match="does not predict"):
        format_.read(tmp_path / "model.skops", Spec(NUMERIC, ONE))
    (tmp_path / "model.skops").write_text("nothing")
    with pytest.raises(InvalidModel, match="skops cannot read"):
        format_.runs_code(tmp_path / "model.skops")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert frame is not None


def double(x: Any) -> Any:
    return x * 2
