"""A linear regression on dicts: little more than a list of numbers, and served from it.

scikit-learn takes 130 MB and seconds to import, and a product of a sparse row and some weights
needs none of it (docs/decisions/0014-linear-models-without-scikit-learn.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from trivet.errors import InvalidModel, PredictionError
from trivet.formats import Spec
from trivet.formats._dicts import Learnt, Vectorizer
from trivet.formats._kinds import is_a
from trivet.formats._outputs import Array, Regression

_METHODS = frozenset(
    {
        "_base.LinearModel.predict",
        "_base.LinearModel._decision_function",
        "_base.MultiOutputLinearModel.predict",
        "_ridge.Ridge.predict",
    }
)


def numbers(model: Any) -> dict[str, Any]:
    """Return a pipeline's numbers, as JSON takes them; nothing if they are not all that it is.

    They are all of a `DictVectorizer` with a sparse matrix and a linear regression right behind
    it, both scikit-learn's own and with nothing overridden.
    """
    if f"{type(model).__module__}.{type(model).__qualname__}" != "sklearn.pipeline.Pipeline":
        return {}
    first, *rest = (step for _, step in model.steps)
    if len(rest) != 1 or type(first).__qualname__ != "DictVectorizer" or not _is_linear(rest[0]):
        return {}
    learnt = Learnt.of(first)
    features = sorted(learnt.vocabulary, key=learnt.vocabulary.__getitem__)
    if learnt.container is None or list(map(learnt.vocabulary.get, features)) != [
        *range(len(features))
    ]:
        return {}
    weights, intercept = rest[0].coef_.T, rest[0].intercept_
    if not isinstance(intercept, np.generic | np.ndarray):  # a bare 0.0, of no type of its own
        intercept = np.asarray(intercept, weights.dtype)
    return {
        "features": features,
        "separator": learnt.separator,
        "dtype": learnt.dtype.name,
        "weights": _plain(weights),
        "intercept": _plain(intercept),
    }


def predictor(
    told: Mapping[str, Any], spec: Spec, who: str
) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Return what answers as the pipeline would that the numbers are of, bit for bit.

    Raises:
        InvalidModel: They are no such numbers, or do not fit the inputs or outputs.
    """
    import scipy.sparse  # noqa: PLC0415 - heavy

    try:
        features, separator = told["features"], str(told["separator"])
        weights, intercept = _array(told["weights"]), _array(told["intercept"])
        learnt = Learnt(
            {str(name): place for place, name in enumerate(features)},
            separator,
            np.dtype(told["dtype"]),
            scipy.sparse.csr_array,
        )
        fits = len(learnt.vocabulary) == len(features) == len(weights) and weights.ndim in (1, 2)
        targets = 1 if weights.ndim == 1 else weights.shape[1]
        if not fits or intercept.shape not in ((), (targets,)):
            raise InvalidModel(f"{who}: its numbers do not fit each other; save the model again")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidModel(f"{who}: its numbers cannot be read: {error!r}") from error
    vectorizer = Vectorizer(learnt, spec.inputs, who)
    served = Regression(spec.outputs, targets, who)

    def predict(batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = vectorizer(batch)
        values = np.asarray(rows @ weights + intercept)
        if not np.isfinite(values).all() and not np.isfinite(rows.data).all():
            raise PredictionError(
                f"{who}: an input is not finite, or too large for {learnt.dtype.name}"
            )
        return served.batch(values, batch.num_rows)

    return predict


def _is_linear(model: Any) -> bool:
    """Say whether it predicts as scikit-learn's linear regressions do, with nothing overridden."""
    kind = type(model)
    if not is_a(model, "sklearn.linear_model._base.LinearModel"):
        return False
    methods = {f"{m.__module__}.{m.__qualname__}" for m in (kind.predict, kind._decision_function)}
    return (
        {name.removeprefix("sklearn.linear_model.") for name in methods} <= _METHODS
        and not {"predict", "_decision_function"} & set(vars(model))
        and isinstance(getattr(model, "coef_", None), np.ndarray)
    )


def _plain(values: Any) -> dict[str, Any]:
    return {"dtype": values.dtype.name, "values": values.tolist()}


def _array(told: Mapping[str, Any]) -> Array:
    return np.array(told["values"], np.dtype(told["dtype"]))
