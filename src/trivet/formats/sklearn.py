"""scikit-learn estimators and pipelines, kept as skops files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trivet.errors import InvalidModel, MissingExtra, ModelError
from trivet.formats import Predictor, Signature, Spec, _linear, _sidecar
from trivet.formats._arrays import Matrix, numbers
from trivet.formats._dicts import Learnt, Vectorizer
from trivet.formats._frames import framer
from trivet.formats._kinds import is_a
from trivet.formats._outputs import (
    Array,
    Classification,
    Regression,
    classifier_schema,
    plain_classes,
    regression_schema,
)
from trivet.schema import Field, Schema

EXTRA = "sklearn"
LIBRARIES = ("scikit-learn", "skops")

_FILE = "model.skops"

_SAFE = frozenset(
    {
        "collections.OrderedDict",
        "numpy.dtype",
        "numpy.mean",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRanker",
        "lightgbm.sklearn.LGBMRegressor",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRanker",
        "xgboost.sklearn.XGBRegressor",
        "xgboost.sklearn.XGBRFClassifier",
        "xgboost.sklearn.XGBRFRegressor",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
"""Types and functions that skops leaves to its caller and that scikit-learn's own estimators need.

Written in Python, or restored from a library's own text or JSON. The trees of forests, of
histogram boosting and of nearest neighbours are left out on purpose: compiled code follows the
node numbers in them without a check, so a made-up file reads memory out of bounds (skops says so
of its own accord). Files that hold them need trust.
"""

_PARALLEL = (
    "sklearn.ensemble._forest.BaseForest",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.BaseHistGradientBoosting",
    "sklearn.tree._classes.BaseDecisionTree",
)


def recognises(model: object) -> bool:
    """Say whether it is an estimator, and not one of LightGBM's or XGBoost's own."""
    return is_a(model, "sklearn.base.BaseEstimator") and not is_a(
        model, "lightgbm.sklearn.LGBMModel", "xgboost.sklearn.XGBModel"
    )


def signature(model: object) -> Signature:
    """Read the outputs off a trained estimator, and the inputs if a DictVectorizer is first.

    Other estimators know their inputs' names but not their types: give a sample or a schema.
    """
    estimator: Any = model
    steps = _steps(estimator)
    inputs = None
    if is_a(steps[0], "sklearn.feature_extraction._dict_vectorizer.DictVectorizer"):
        kinds = _trained(steps[0], "vocabulary_") and Vectorizer.guess(steps[0])
        inputs = Schema(Field(name=name, type=kind, nullable=True) for name, kind in kinds.items())
    classes = _classes(estimator)
    if classes is not None:
        return Signature(
            inputs, classifier_schema(classes, probabilities=_has_probabilities(estimator))
        )
    return Signature(
        inputs, regression_schema(_targets(estimator), "int64" if _whole(estimator) else "float64")
    )


def write(model: object, directory: Path) -> str:
    """Write a skops file; beside it the numbers of a model that is nothing but numbers."""
    if not hasattr(model, "predict"):
        raise ModelError(
            f"a {type(model).__name__} does not predict; end the pipeline in one that does"
        )
    io = _skops()
    path, artifact = _sidecar.write(directory, _FILE, _linear.numbers(model))
    try:
        io.dump(model, path)
    except Exception as error:  # skops raises whatever an object's reduction raises
        raise ModelError(f"skops cannot save this {type(model).__name__}: {error}") from error
    return artifact


def read(artifact: Path, spec: Spec) -> Predictor:
    """Load a skops file, with the types in it that were vouched for, or the numbers beside it.

    Raises:
        InvalidModel: It is no skops file, or does not fit the inputs or outputs.
        MissingExtra: skops or scikit-learn is not installed.
    """
    if artifact.is_dir():
        _, told = _sidecar.read(artifact, _FILE)
        return Predictor(_linear.predictor(told, spec, str(artifact)), parallel=False)
    io = _skops()
    try:
        model: Any = io.load(artifact, trusted=io.get_untrusted_types(file=artifact))
    except Exception as error:  # a zip of JSON and arrays: many ways to be broken
        raise InvalidModel(
            f"{artifact}: skops cannot read it: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(model, "predict"):
        raise InvalidModel(
            f"{artifact}: a {type(model).__name__} does not predict; save one that does"
        )
    _set_threads(model, spec.threads)
    feed, rest = _feed(model, spec.inputs, str(artifact))
    answer = _answer(rest, spec.outputs, str(artifact))

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        return answer(feed(batch), batch.num_rows)

    # 20 000 rows on two threads of two cores: forests, trees and histogram boosting score 1.5 times
    # as many rows a second; linear models half as many, for they hold the GIL between short calls.
    return Predictor(predict, parallel=is_a(_steps(model)[-1], *_PARALLEL))


def runs_code(artifact: Path) -> bool:
    """Say whether the file names types that neither skops nor Trivet vouches for.

    That is code, or compiled trees that a made-up file could lead astray. Where there are numbers
    beside the file, it is not read at all.

    Raises:
        InvalidModel: It is no skops file.
    """
    if artifact.is_dir():
        return False
    io = _skops()
    try:
        unknown = set(io.get_untrusted_types(file=artifact))
    except Exception as error:
        raise InvalidModel(
            f"{artifact}: skops cannot read it: {type(error).__name__}: {error}"
        ) from error
    return bool(unknown - _SAFE)


def _skops() -> Any:
    try:
        import skops.io  # noqa: PLC0415 - brings scikit-learn
    except ImportError as error:
        raise MissingExtra("a model of scikit-learn", EXTRA) from error
    return skops.io


def _steps(model: Any) -> list[Any]:
    """Return the steps of a pipeline, nested ones included, or the estimator itself."""
    if not is_a(model, "sklearn.pipeline.Pipeline"):
        return [model]
    return [inner for _, step in model.steps for inner in _steps(step)]


def _trained(model: Any, attribute: str) -> Any:
    try:
        return getattr(model, attribute)
    except AttributeError as error:
        raise ModelError(
            f"the {type(model).__name__} is not trained; call fit before saving it"
        ) from error


def _classes(model: Any) -> tuple[Any, ...] | None:
    if getattr(model, "_estimator_type", None) != "classifier" and not _tagged(model, "classifier"):
        return None
    classes = _trained(model, "classes_")
    if isinstance(classes, list):
        raise InvalidModel(
            "a classifier of several targets cannot be served; train one for each target"
        )
    return plain_classes(classes)


def _tagged(model: Any, kind: str) -> bool:
    from sklearn.utils import get_tags  # noqa: PLC0415 - heavy

    return bool(get_tags(model).estimator_type == kind)


def _has_probabilities(model: Any) -> bool:
    return hasattr(model, "predict_proba")


def _whole(model: Any) -> bool:
    return _tagged(model, "clusterer") or _tagged(model, "outlier_detector")


def _targets(model: Any) -> int:
    """Return how many numbers a row gets; scikit-learn says so in no single place."""
    last = _steps(model)[-1]
    if is_a(last, "sklearn.compose._target.TransformedTargetRegressor"):
        return 1 if last._training_dim == 1 else _targets(last.regressor_)
    for attribute in ("n_outputs_", "coef_", "dual_coef_", "_y"):
        found = getattr(last, attribute, None)
        if isinstance(found, int):
            return found
        if found is not None:
            return found.shape[0] if attribute == "coef_" and found.ndim == 2 else 1
    return len(last.estimators_) if is_a(last, "sklearn.multioutput.MultiOutputRegressor") else 1


def _set_threads(model: Any, threads: int) -> None:
    """Let every step use so many threads: one process a row is far slower than one thread."""
    if hasattr(model, "get_params"):
        jobs = {
            key: threads
            for key in model.get_params()
            if key == "n_jobs" or key.endswith("__n_jobs")
        }
        model.set_params(**jobs)


def _feed(model: Any, inputs: Schema, who: str) -> tuple[Callable[[pa.RecordBatch], Any], Any]:
    """Return what turns a batch into what the estimator reads, and the estimator left to ask."""
    first = _steps(model)[0]
    if is_a(first, "sklearn.feature_extraction._dict_vectorizer.DictVectorizer"):
        return Vectorizer(Learnt.of(first), inputs, who), _after_first(model)
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        lacking = [str(name) for name in names if name not in inputs.names]
        if lacking:
            raise InvalidModel(f"{who}: the model reads {', '.join(lacking)}, not among the inputs")
        return framer(inputs, [str(name) for name in names], EXTRA), model
    texts = [field.name for field in inputs if field.type == "string"]
    if len(inputs) == 1 and texts and _reads_text(first):
        return lambda batch: batch.column(0).to_numpy(zero_copy_only=False), model
    count = getattr(model, "n_features_in_", len(inputs))
    if count != len(inputs):
        raise InvalidModel(f"{who}: the model reads {count} features, the inputs are {len(inputs)}")
    if texts:
        return _objects, model
    return Matrix(inputs, range(len(inputs)), {}, who), model


def _after_first(model: Any) -> Any:
    """Return a pipeline without its first step, going into a pipeline that is the first step."""
    _, first = model.steps[0]
    if not is_a(first, "sklearn.pipeline.Pipeline"):
        return model[1:] if len(model.steps) > 2 else model.steps[-1][1]
    if len(first.steps) == 1:
        return _after_first(type(model)([first.steps[0], *model.steps[1:]]))
    return type(model)([("first", _after_first(first)), *model.steps[1:]])


def _reads_text(step: Any) -> bool:
    from sklearn.utils import get_tags  # noqa: PLC0415 - heavy

    tags = get_tags(step).input_tags
    return bool(tags.string and not tags.two_d_array)


def _objects(batch: pa.RecordBatch) -> Array:
    """Return a matrix of objects, as an encoder fitted on a bare array of texts reads it."""
    matrix = np.empty((batch.num_rows, batch.num_columns), dtype=object)
    for place, column in enumerate(batch.columns):
        matrix[:, place] = numbers(column)
    return matrix


def _answer(model: Any, outputs: Schema, who: str) -> Callable[[Any, int], pa.RecordBatch]:
    classes = _classes(model)
    if classes is None:
        served = Regression(outputs, _targets(model), who, whole=_whole(model))
        return lambda rows, count: served.batch(np.asarray(model.predict(rows)), count)
    return _classifier(
        model, Classification(outputs, classes, who, probabilities=_has_probabilities(model))
    )


def _classifier(model: Any, served: Classification) -> Callable[[Any, int], pa.RecordBatch]:
    # A forest's own predict takes the class of the largest probability: no need to ask it twice.
    twice = not is_a(_steps(model)[-1], "sklearn.ensemble._forest.ForestClassifier")
    ordered = np.asarray(model.classes_)

    def answer(rows: Any, count: int) -> pa.RecordBatch:
        probabilities = codes = None
        if served.wants_probabilities or not twice:
            probabilities = model.predict_proba(rows)
        if served.wants_label and twice:
            codes = np.searchsorted(ordered, model.predict(rows))
        return served.batch(count, probabilities, codes)

    return answer
