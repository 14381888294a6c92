"""How good predictions were: measures over rows, and over sums that can be added up.

`Errors` and `Scores` hold what a group of rows (an interval, a version, a segment) comes to.
Groups add up, so any span of time is measured without its rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NAN = float("nan")

LOWER_IS_BETTER = frozenset({"mae", "rmse", "log_loss", "brier"})
HIGHER_IS_BETTER = frozenset({"roc_auc", "accuracy", "precision", "recall", "f1"})
METRICS = ("mae", "rmse", "bias", *sorted(HIGHER_IS_BETTER), "log_loss", "brier")
"""Every measure by name; of ``bias`` neither more nor less is better."""

BINS_A_LOGIT = 20
"""Scores are counted by their log-odds, in steps of 1/20: fine near 0 and 1 too, where the scores
of rare events lie, and at most 553 bins."""

SMALLEST_SCORE = 1e-6
"""Scores below it, or as close to 1, share the outer bins."""


def regression_metrics(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, float]:
    """Return MAE, RMSE and bias (mean of predicted minus actual), in the units of the target.

    NaN with no row.
    """
    return Errors.of(actual, predicted).metrics()


def roc_auc(positive: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Return the area under the ROC curve, from the ranks (Mann-Whitney U); NaN with one class.

    Args:
        positive: Whether each row is of the positive class, shape (n,).
        probability: The score of the positive class, shape (n,); ties count half.
    """
    truth = np.asarray(positive, bool)
    _, place = np.unique(np.asarray(probability, np.float64), return_inverse=True)
    if not truth.size:
        return NAN
    positives = np.bincount(place, weights=truth).astype(np.float64)
    return _area(positives, np.bincount(place).astype(np.float64) - positives)


@dataclass(frozen=True, slots=True)
class Errors:
    """Sums over rows with a predicted and an actual number.

    Attributes:
        rows: Rows.
        error: Sum of predicted minus actual.
        absolute: Sum of its absolute value.
        squared: Sum of its square.
        actual: Sum of the actual values.
    """

    rows: int = 0
    error: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0
    actual: float = 0.0

    @classmethod
    def of(cls, actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Self:
        """Sum up rows, each array of shape (n,)."""
        truth = np.asarray(actual, np.float64)
        error = np.asarray(predicted, np.float64) - truth
        return cls(
            len(error),
            float(error.sum()),
            float(np.abs(error).sum()),
            float(np.square(error).sum()),
            float(truth.sum()),
        )

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.rows + other.rows,
            self.error + other.error,
            self.absolute + other.absolute,
            self.squared + other.squared,
            self.actual + other.actual,
        )

    def metrics(self) -> dict[str, float]:
        """Return ``mae``, ``rmse`` and ``bias``; NaN without a row."""
        if not self.rows:
            return dict.fromkeys(("mae", "rmse", "bias"), NAN)
        return {
            "mae": self.absolute / self.rows,
            "rmse": math.sqrt(self.squared / self.rows),
            "bias": self.error / self.rows,
        }


class Bin(NamedTuple):
    """Rows whose scores lie close together."""

    rows: int
    positives: int
    total: float


class Point(NamedTuple):
    """A point of a calibration curve: what was said, what came true, and of how many rows."""

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Sums over rows with a score of the positive class and their true class.

    Attributes:
        rows: Rows.
        positives: Rows of the positive class.
        true_positives: Of those, rows that were predicted so at the threshold.
        false_positives: Rows predicted positive that are not.
        log_loss: Sum of the log losses, in nats.
        brier: Sum of the squared differences of score and truth.
        bins: Rows by `score_bin` of their score.
    """

    rows: int = 0
    positives: int = 0
    true_positives: int = 0
    false_positives: int = 0
    log_loss: float = 0.0
    brier: float = 0.0
    bins: Mapping[int, Bin] = field(default_factory=dict)

    @classmethod
    def of(cls, positive: npt.ArrayLike, score: npt.ArrayLike, threshold: float = 0.5) -> Self:
        """Sum up rows, each array of shape (n,)."""
        truth, p = np.asarray(positive, bool), np.asarray(score, np.float64)
        tiny = np.finfo(np.float64).eps
        sure = np.clip(np.where(truth, p, 1 - p), tiny, 1 - tiny)
        places, where = np.unique(score_bin(p), return_inverse=True)
        counted = zip(
            np.bincount(where).tolist(),
            np.bincount(where, weights=truth).astype(int).tolist(),
            np.bincount(where, weights=p).tolist(),
            strict=True,
        )
        return cls(
            rows=len(p),
            positives=int(truth.sum()),
            true_positives=int((truth & (p >= threshold)).sum()),
            false_positives=int((~truth & (p >= threshold)).sum()),
            log_loss=float(-np.log(sure).sum()),
            brier=float(np.square(p - truth).sum()),
            bins=dict(zip(places.tolist(), map(Bin._make, counted), strict=True)),
        )

    def __add__(self, other: Scores) -> Scores:
        return Scores.summed((self, other))

    @classmethod
    def summed(cls, parts: Iterable[Scores]) -> Scores:
        """Return the sum of any number of groups, in one pass over their bins."""
        known = list(parts)
        rows: Counter[int] = Counter()
        positives: Counter[int] = Counter()
        totals: dict[int, float] = {}
        for part in known:
            for place, (n, positive, total) in part.bins.items():
                rows[place] += n
                positives[place] += positive
                totals[place] = totals.get(place, 0.0) + total
        return cls(
            sum(part.rows for part in known),
            sum(part.positives for part in known),
            sum(part.true_positives for part in known),
            sum(part.false_positives for part in known),
            sum(part.log_loss for part in known),
            sum(part.brier for part in known),
            {place: Bin(n, positives[place], totals[place]) for place, n in rows.items()},
        )

    def metrics(self) -> dict[str, float]:
        """Return every measure of a classifier; NaN where the rows do not tell it.

        ``roc_auc`` counts scores in one bin as ties.
        """
        said = self.true_positives + self.false_positives
        wrong = self.false_positives + self.positives - self.true_positives
        return {
            "roc_auc": self.roc_auc(),
            "accuracy": _share(self.rows - wrong, self.rows),
            "precision": _share(self.true_positives, said),
            "recall": _share(self.true_positives, self.positives),
            "f1": _share(2 * self.true_positives, said + self.positives),
            "log_loss": _share(self.log_loss, self.rows),
            "brier": _share(self.brier, self.rows),
        }

    def roc_auc(self) -> float:
        """Return the area under the ROC curve of the bins."""
        ranked = self._ascending()
        positives = np.array([each.positives for each in ranked], float)
        return _area(positives, np.array([each.rows for each in ranked], float) - positives)

    def calibration(self, points: int = 10) -> list[Point]:
        """Return the calibration curve, on groups of about as many rows each, by rising score."""
        curve = []
        for group in _grouped(self._ascending(), points):
            rows = sum(each.rows for each in group)
            curve.append(
                Point(
                    sum(each.total for each in group) / rows,
                    sum(each.positives for each in group) / rows,
                    rows,
                )
            )
        return curve

    def lift(self, points: int = 10) -> list[tuple[float, float]]:
        """Return the cumulative lift: of the best-scored share of rows, how many times the base.

        Rows of one bin count as equally good.
        """
        if not self.positives:
            return []
        ranked = self._ascending()[::-1]
        rows = np.cumsum([0, *(each.rows for each in ranked)]) / self.rows
        found = np.cumsum([0, *(each.positives for each in ranked)]) / self.positives
        shares = np.arange(1, points + 1) / points
        gains = np.interp(shares, rows, found)
        return [(float(s), float(g / s)) for s, g in zip(shares, gains, strict=True)]

    def _ascending(self) -> list[Bin]:
        return [self.bins[place] for place in sorted(self.bins)]


@dataclass(frozen=True, slots=True)
class Labels:
    """Rows with a predicted and a true class, and how many of them agree."""

    rows: int = 0
    right: int = 0

    def __add__(self, other: Labels) -> Labels:
        return Labels(self.rows + other.rows, self.right + other.right)

    def metrics(self) -> dict[str, float]:
        """Return ``accuracy``; NaN without a row."""
        return {"accuracy": _share(self.right, self.rows)}


Measure = Errors | Scores | Labels


def score_bin(score: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the bins that scores from 0 to 1 are counted in; they rise with the score."""
    p = np.clip(np.asarray(score, np.float64), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    places: npt.NDArray[np.int64] = np.floor(BINS_A_LOGIT * np.log(p / (1 - p))).astype(np.int64)
    return places


def is_worse(metric: str, value: float, than: float) -> bool:
    """Say whether a figure is worse than another one; NaN is not, ``bias`` by its size."""
    if metric == "bias":
        return abs(value) > abs(than)
    return value < than if metric in HIGHER_IS_BETTER else value > than


def _area(positives: Floats, negatives: Floats) -> float:
    """Return the area under the ROC curve of classes by ascending score, ties together."""
    ones, zeros = positives.sum(), negatives.sum()
    if not ones or not zeros:
        return NAN
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (ones * zeros))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def _grouped(bins: list[Bin], groups: int) -> Iterable[list[Bin]]:
    """Cut bins into at most so many runs of about as many rows."""
    whole, held, done = sum(each.rows for each in bins), list[Bin](), 0
    cut = 1
    for each in bins:
        held.append(each)
        done += each.rows
        if done * groups >= cut * whole:
            yield held
            held, cut = [], done * groups // whole + 1
    if held:
        yield held
