"""Why a model answered as it did: the features that moved its score most, as further outputs.

``reason_1`` names the feature with the largest contribution by size and ``contribution_1`` tells
it, and so on; ``contribution_rest`` is the sum over all other features, ``contribution_base`` what
the model says of nobody in particular. Together the contributions are the model's raw score: the
prediction of a regression, the log-odds of a binary classifier.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from trivet.errors import InvalidModel
from trivet.formats._arrays import Floats
from trivet.schema import Field, Schema

_NAME = re.compile(r"(reason|contribution)_([1-9]\d{0,3}|rest|base)")


def fields(count: int) -> list[Field]:
    """Return the outputs that tell the first so many reasons, and what is left."""
    pairs = [
        Field(name=f"{what}_{place}", type=kind)
        for place in range(1, count + 1)
        for what, kind in (("reason", "string"), ("contribution", "float64"))
    ]
    rest = [Field(name=f"contribution_{what}", type="float64") for what in ("rest", "base")]
    return [*pairs, *rest] if count else []


def split(outputs: Schema) -> tuple[Schema, Schema]:
    """Return the outputs that are the model's answer, and those that tell why."""
    why = [field for field in outputs if _NAME.fullmatch(field.name)]
    return Schema(field for field in outputs if field not in why), Schema(why)


class Contributions:
    """Serves reasons.

    Args:
        outputs: Those of the declared outputs that tell why.
        features: The model's features, in the order of its contributions.
        columns: How many numbers the model gives for a row.
        who: The artifact, for messages.

    Raises:
        InvalidModel: The declared outputs cannot be served.
    """

    def __init__(self, outputs: Schema, features: Sequence[str], columns: int, who: str) -> None:
        self._outputs = outputs
        self._features = pa.array(features, pa.string())
        if columns != 1:
            raise InvalidModel(
                f"{who}: reasons are told of one score a row, and the model gives {columns}; "
                "save it without contributions"
            )
        count = 0
        for field in outputs:
            what, place = field.name.split("_")
            kind = "string" if what == "reason" else "float64"
            if field.type != kind or (what == "reason" and not place.isdecimal()):
                raise InvalidModel(
                    f"{who}: output {field.name!r} ({field.type}) cannot be served; the model "
                    "offers reason_1 (string), contribution_1, contribution_rest and "
                    "contribution_base (float64)"
                )
            count = max(count, int(place) if place.isdecimal() else 0)
        if count > len(features):
            raise InvalidModel(
                f"{who}: {count} reasons are asked for, and the model has {len(features)} features"
            )
        self._count = count

    def arrays(self, values: Floats) -> dict[str, pa.Array]:
        """Return the columns, by name, of contributions of shape (rows, features + 1)."""
        own, base = values[:, :-1], values[:, -1]
        # Stable, so that features that weigh the same keep their order in every batch.
        order = np.argsort(-np.abs(own), axis=1, kind="stable")[:, : self._count]
        told = np.take_along_axis(own, order, axis=1)
        # What is left is summed as such: a difference would lose digits.
        left = own.copy()
        np.put_along_axis(left, order, 0.0, axis=1)
        found = {"contribution_rest": left.sum(axis=1), "contribution_base": base}
        columns: dict[str, pa.Array] = {}
        for field in self._outputs:
            what, place = field.name.split("_")
            if not place.isdecimal():
                columns[field.name] = pa.array(np.ascontiguousarray(found[field.name]))
            elif what == "reason":
                columns[field.name] = self._features.take(pa.array(order[:, int(place) - 1]))
            else:
                columns[field.name] = pa.array(np.ascontiguousarray(told[:, int(place) - 1]))
        return columns


def joined(outputs: Schema, answer: pa.RecordBatch, why: dict[str, pa.Array]) -> pa.RecordBatch:
    """Return answer and reasons in the order in which the outputs declare them."""
    arrays = [why[name] if name in why else answer.column(name) for name in outputs.names]
    return pa.RecordBatch.from_arrays(arrays, schema=outputs.arrow)
