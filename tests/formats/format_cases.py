"""Small models of every format, trained once a session."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trivet import formats
from trivet.formats import Format, Predictor, Spec
from trivet.schema import Field, Schema

ROWS = 200
CITIES = ("lyon", "nice", "paris")


@dataclass(frozen=True)
class Case:
    """A trained model, what it reads, and how the library itself answers for the same rows."""

    model: object
    inputs: Schema
    outputs: Schema
    expected: Callable[[pa.RecordBatch], Any] | None = None
    exact: bool = True


def numeric(rows: int = ROWS, *, nulls: bool = True) -> pa.RecordBatch:
    rng = np.random.default_rng(7)
    mask = rng.random(rows) < 0.1 if nulls else None
    return pa.record_batch(
        {
            "a": pa.array(rng.normal(size=rows), mask=mask),
            "n": pa.array(rng.integers(0, 50, rows), mask=None if mask is None else mask[::-1]),
            "b": pa.array(rng.normal(size=rows).astype(np.float32)),
        }
    )


def mixed(rows: int = ROWS) -> pa.RecordBatch:
    rng = np.random.default_rng(8)
    cities = pa.array([CITIES[i] for i in rng.integers(0, 3, rows)], mask=rng.random(rows) < 0.1)
    return numeric(rows).append_column("city", cities)


NUMERIC = Schema(
    [
        Field(name="a", type="float64", nullable=True),
        Field(name="n", type="int64", nullable=True),
        Field(name="b", type="float32"),
    ]
)
MIXED = Schema([*NUMERIC, Field(name="city", type="string", nullable=True)])


def matrix(batch: pa.RecordBatch) -> Any:
    return np.column_stack(
        [
            batch.column(name).to_numpy(zero_copy_only=False).astype(float)
            for name in ("a", "n", "b")
        ]
    )


def frame(batch: pa.RecordBatch) -> Any:
    import pandas as pd

    out = pd.DataFrame(matrix(batch), columns=["a", "n", "b"])
    if "city" in batch.schema.names:
        known = [city if city in CITIES else None for city in batch.column("city").to_pylist()]
        out["city"] = pd.Categorical(known, categories=list(CITIES))
    return out


def target(batch: pa.RecordBatch) -> Any:
    x = np.nan_to_num(matrix(batch))
    return x[:, 0] + 0.1 * x[:, 1] + x[:, 2]


def dicts(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if v is not None} for row in batch.to_pylist()]


def saved(case: Case, directory: Path) -> tuple[Format, Path, Predictor]:
    """Write a case's model and read it again."""
    _, module = formats.of(case.model)
    artifact = directory / module.write(case.model, directory)
    return module, artifact, module.read(artifact, Spec(case.inputs, case.outputs))


def columns(batch: pa.RecordBatch, prefix: str = "") -> Any:
    """Return the float columns of a batch as one matrix."""
    chosen = [
        column.to_numpy(zero_copy_only=False)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if name.startswith(prefix) and pa.types.is_floating(column.type)
    ]
    return np.stack(chosen, axis=1)


def regression() -> Schema:
    return Schema([Field(name="prediction", type="float64")])


def classes(*names: object) -> Schema:
    kind = "string" if isinstance(names[0], str) else "int64"
    rest = (Field(name=f"probability_{name}", type="float64") for name in names)
    return Schema([Field(name="label", type=kind), *rest])


def lightgbm_regressor() -> Case:
    import lightgbm

    model = lightgbm.LGBMRegressor(n_estimators=20, min_child_samples=5, verbose=-1)
    model.fit(frame(mixed()), target(mixed()))
    return Case(model, MIXED, regression(), lambda batch: model.predict(frame(batch)))


def lightgbm_classifier() -> Case:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=10, min_child_samples=5, verbose=-1)
    model.fit(frame(numeric()), np.where(target(numeric()) > 2, "yes", "no"))
    return Case(
        model, NUMERIC, classes("no", "yes"), lambda batch: model.predict_proba(frame(batch))
    )


def lightgbm_multiclass() -> Case:
    import lightgbm

    data = lightgbm.Dataset(matrix(numeric()), np.digitize(target(numeric()), [1, 4]))
    model = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, data, 5)
    return Case(model, NUMERIC, classes(0, 1, 2), lambda batch: model.predict(matrix(batch)))


def xgboost_regressor() -> Case:
    import xgboost

    model = xgboost.XGBRegressor(n_estimators=10, max_depth=3, enable_categorical=True)
    model.fit(frame(mixed()), target(mixed()))
    return Case(model, MIXED, regression(), lambda batch: model.predict(frame(batch)))


def xgboost_classifier() -> Case:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=10, max_depth=3)
    model.fit(frame(numeric()), (target(numeric()) > 2).astype(int))
    return Case(model, NUMERIC, classes(0, 1), lambda batch: model.predict_proba(frame(batch)))


def xgboost_multiclass() -> Case:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3)
    model.fit(matrix(numeric()), np.digitize(target(numeric()), [1, 4]))
    return Case(model, NUMERIC, classes(0, 1, 2), lambda batch: model.predict_proba(matrix(batch)))


def xgboost_linear() -> Case:
    import xgboost

    data = xgboost.DMatrix(matrix(numeric()), target(numeric()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XGBoost deprecates its linear booster
        model = xgboost.train({"booster": "gblinear", "nthread": 1, "verbosity": 0}, data, 5)
    return Case(
        model, NUMERIC, regression(), lambda batch: model.predict(xgboost.DMatrix(matrix(batch)))
    )


def sklearn_frame() -> Case:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = frame(mixed()).assign(city=mixed().column("city").to_pandas())
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["city"]), (SimpleImputer(), ["a", "n", "b"])
        ),
        RandomForestClassifier(5, random_state=0),
    ).fit(table, np.where(target(mixed()) > 2, "yes", "no"))
    return Case(
        model,
        MIXED,
        classes("no", "yes"),
        lambda batch: model.predict_proba(
            frame(batch).assign(city=batch.column("city").to_pandas())
        ),
    )


def sklearn_dicts() -> Case:
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(DictVectorizer(), LinearRegression()).fit(dicts(mixed()), target(mixed()))
    return Case(model, MIXED, regression(), lambda batch: model.predict(dicts(batch)))


def sklearn_matrix() -> Case:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(max_iter=5).fit(matrix(numeric()), target(numeric()))
    return Case(model, NUMERIC, regression(), lambda batch: model.predict(matrix(batch)))


def sklearn_linear() -> Case:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(SimpleImputer(), LinearRegression())
    model.fit(frame(numeric()), target(numeric()))
    return Case(
        model, NUMERIC, regression(), lambda batch: model.predict(frame(batch)), exact=False
    )


def onnx_classifier() -> Case:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    x = np.nan_to_num(matrix(numeric())).astype(np.float32)
    model = RandomForestClassifier(5, random_state=0).fit(x, np.where(x[:, 0] > 0, 7, 3))
    proto = to_onnx(model, x[:1])  # with a ZipMap
    return Case(proto, NUMERIC, classes(3, 7))


def onnx_columns() -> Case:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    batch = mixed()
    table = frame(batch).fillna({"a": 0, "n": 0})
    table["city"] = [city or "none" for city in batch.column("city").to_pylist()]
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["city"]), ("passthrough", ["a", "n", "b"])
        ),
        LinearRegression(),
    ).fit(table, target(batch))
    types = [(name, FloatTensorType([None, 1])) for name in ("a", "n", "b")]
    proto = convert_sklearn(model, initial_types=[*types, ("city", StringTensorType([None, 1]))])
    inputs = Schema([*NUMERIC, Field(name="city", type="string")])
    return Case(proto, inputs, regression(), exact=False)


class Doubler:
    """A model of plain Python."""

    inputs = NUMERIC
    outputs = regression()
    parallel = True

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def transform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select(["b"])

    def predict(self, batch: pa.RecordBatch) -> Any:
        return batch.column(0).to_numpy() * self.factor

    def save(self, directory: Path) -> None:
        (directory / "factor.txt").write_text(str(self.factor))

    @classmethod
    def load(cls, directory: Path) -> Doubler:
        return cls(float((directory / "factor.txt").read_text()))


def python_class() -> Case:
    return Case(
        Doubler(3.0),
        NUMERIC,
        regression(),
        lambda batch: batch.column("b").to_numpy() * np.float32(3.0),
    )


CASES = {
    maker.__name__: maker
    for maker in (
        lightgbm_regressor,
        lightgbm_classifier,
        lightgbm_multiclass,
        xgboost_regressor,
        xgboost_classifier,
        xgboost_multiclass,
        xgboost_linear,
        sklearn_frame,
        sklearn_dicts,
        sklearn_matrix,
        sklearn_linear,
        onnx_classifier,
        onnx_columns,
        python_class,
    )
}


def save_mlflow(model: object, directory: Path, **options: Any) -> Path:
    """Save a model of three doubles with MLflow."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*type hint", UserWarning)  # while it is imported
        import mlflow.sklearn
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType
        from mlflow.types import Schema as Columns

        inputs = Columns(
            [ColSpec(DataType.double, name, required=False) for name in ("a", "n", "b")]
        )
        signature = ModelSignature(inputs, Columns([ColSpec(DataType.double, "prediction")]))
        mlflow.sklearn.save_model(
            model, directory, signature=signature, pip_requirements=[], **options
        )
    return directory


def conforming(case: Case) -> pa.RecordBatch:
    """Return rows of the columns and types that a case reads."""
    batch = mixed() if "city" in case.inputs.names else numeric()
    arrays = []
    for field in case.inputs:
        column = batch.column(field.name).cast(field.arrow.type)
        arrays.append(
            column if field.nullable or field.type != "string" else column.fill_null("none")
        )
    return pa.RecordBatch.from_arrays(arrays, names=list(case.inputs.names))
