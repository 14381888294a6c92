"""scikit-learn's DictVectorizer, evaluated in columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.errors import InvalidModel
from trivet.schema import Schema


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a trained DictVectorizer knows.

    Attributes:
        vocabulary: Each feature's column of the matrix.
        separator: What stands between a key and a text.
        dtype: Of the matrix.
        container: Makes it of data, indices and pointers; None: it is a dense one.
    """

    vocabulary: dict[str, int]
    separator: str
    dtype: np.dtype[Any]
    container: Callable[..., Any] | None

    @classmethod
    def of(cls, vectorizer: Any) -> Self:
        """Read it off a trained ``sklearn.feature_extraction.DictVectorizer``."""
        # csr_matrix or csr_array: scikit-learn's version and its settings decide.
        container = type(vectorizer.transform([{}])) if vectorizer.sparse else None
        dtype = np.dtype(vectorizer.dtype)
        return cls(vectorizer.vocabulary_, vectorizer.separator, dtype, container)


class Vectorizer:
    """Makes of a batch the matrix that a DictVectorizer makes of its rows as dicts, bit for bit.

    A null is a key that the dict lacks. A text is the feature ``KEY=TEXT`` with the value 1, a
    number or boolean the feature ``KEY`` with that value; features never seen are left out.

    Args:
        learnt: What the DictVectorizer knows.
        inputs: The columns of the batches.
        who: The artifact, for messages.

    Raises:
        InvalidModel: A column is of a type that a DictVectorizer does not take.
    """

    def __init__(self, learnt: Learnt, inputs: Schema, who: str) -> None:
        timely = [field.name for field in inputs if field.type in ("timestamp", "date")]
        if timely:
            raise InvalidModel(
                f"{who}: a DictVectorizer takes text and numbers, not the times {', '.join(timely)}"
            )
        self._dtype = learnt.dtype
        self._vocabulary = learnt.vocabulary
        self._shape = len(self._vocabulary)
        self._dense = learnt.container is None
        self._container: Callable[..., Any]
        if learnt.container is None:
            import scipy.sparse  # noqa: PLC0415 - heavy, and scikit-learn has imported it

            self._container = scipy.sparse.csr_array
        else:
            self._container = learnt.container
        self._prefixes = [
            f"{field.name}{learnt.separator}" if field.type == "string" else None
            for field in inputs
        ]
        self._places = [self._vocabulary.get(name, -1) for name in inputs.names]
        self._texts = [None if prefix is None else self._known(prefix) for prefix in self._prefixes]

    @staticmethod
    def guess(vectorizer: Any) -> dict[str, str]:
        """Return the columns that a vocabulary speaks of, and their types."""
        kinds: dict[str, str] = {}
        for feature in vectorizer.feature_names_:
            name, separator, _ = feature.partition(vectorizer.separator)
            kinds[name] = "string" if separator else "float64"
        return kinds

    def __call__(self, batch: pa.RecordBatch) -> Any:
        """Return the matrix of a batch."""
        entries = self._one(batch) if batch.num_rows == 1 else self._many(batch)
        matrix = self._container(entries, shape=(batch.num_rows, self._shape))
        if self._dense:
            return matrix.toarray()
        matrix.sort_indices()
        return matrix

    def _one(self, batch: pa.RecordBatch) -> tuple[Any, Any, Any]:
        values: list[Any] = []
        indices = []
        for column, prefix, place in zip(batch.columns, self._prefixes, self._places, strict=True):
            value = column[0].as_py()
            if value is None:
                continue
            found = place if prefix is None else self._vocabulary.get(prefix + value, -1)
            if found >= 0:
                indices.append(found)
                values.append(value if prefix is None else 1)
        data = np.array(values, dtype=np.float64).astype(self._dtype, copy=False)
        return data, np.array(indices, dtype=np.int32), np.array([0, len(indices)], dtype=np.int32)

    def _many(self, batch: pa.RecordBatch) -> tuple[Any, Any, Any]:
        shape = (batch.num_rows, batch.num_columns)
        places = np.empty(shape, dtype=np.int32)
        values = np.empty(shape, dtype=np.float64)
        for i, (column, place, text) in enumerate(
            zip(batch.columns, self._places, self._texts, strict=True)
        ):
            if text is None:
                places[:, i] = np.where(column.is_valid().to_numpy(zero_copy_only=False), place, -1)
                filled = column.cast(pa.float64(), safe=False).fill_null(0.0)
                values[:, i] = filled.to_numpy(zero_copy_only=False)
            else:
                known, indices = text
                found = pc.index_in(column, value_set=known, skip_nulls=True).fill_null(len(known))
                places[:, i] = indices[found.to_numpy(zero_copy_only=False)]
                values[:, i] = 1.0
        mask = places >= 0
        ends = np.zeros(len(places) + 1, dtype=np.int32)
        np.cumsum(mask.sum(axis=1), out=ends[1:])
        return values[mask].astype(self._dtype, copy=False), places[mask], ends

    def _known(self, prefix: str) -> tuple[pa.Array, np.ndarray[Any, np.dtype[np.int32]]]:
        """Return a column's texts in the vocabulary, and their indices; -1 is last: unseen."""
        found = {
            feature.removeprefix(prefix): index
            for feature, index in self._vocabulary.items()
            if feature.startswith(prefix)
        }
        return pa.array(list(found), pa.string()), np.array([*found.values(), -1], dtype=np.int32)
