"""How far a column has moved from its reference: measures over counts on the same bins.

None of them needs the rows. PSI is the usual one and the one that thresholds are about; see
Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk
Model Validation 14 (2020), also for what it comes to by chance alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trivet.monitoring.profiles import Profile, Reference

Floats = npt.NDArray[np.float64]

PSI_WATCH, PSI_ACT = 0.1, 0.25
"""Below the first a column counts as stable; from the second on as moved (Siddiqi, "Credit risk
scorecards", 2006)."""

_PSEUDO = 0.5
"""Rows added to each bin, so that an empty one does not make PSI infinite (Jeffreys' prior)."""

_Z95 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Drift:
    """A column's move from its reference.

    Attributes:
        psi: Population stability index over the bins, nulls left out.
        noise: What `psi` stays below in 95 of 100 samples of this size that have not moved.
        jensen_shannon: Jensen-Shannon distance to base 2, from 0 to 1.
        wasserstein: Earth mover's distance in the column's unit, between the outer edges; None for
            categories.
        missing: Share of nulls, and of the reference.
        new: Share of values that have no bin of their own, and of the reference; None for numbers.
        rows: Rows that were compared.
    """

    psi: float
    noise: float
    jensen_shannon: float
    wasserstein: float | None
    missing: tuple[float, float]
    new: tuple[float, float] | None
    rows: int

    @property
    def is_certain(self) -> bool:
        """Whether it is more than chance would do."""
        return self.psi > self.noise


def compare(reference: Reference, profile: Profile) -> Drift | None:
    """Compare a profile with its reference; None if the two are not on the same bins or empty."""
    before, after = np.asarray(reference.counts, float), np.asarray(profile.counts, float)
    if before.shape != after.shape or not before.sum() or not after.sum():
        return None
    moved = None
    if reference.edges is not None:
        moved = wasserstein(reference.edges, before, after)
    new = None
    if reference.values is not None:
        new = (float(after[-1] / after.sum()), float(before[-1] / before.sum()))
    sample = before.sum() + reference.nulls
    return Drift(
        psi=psi(before, after),
        noise=psi_by_chance(before, after),
        jensen_shannon=jensen_shannon(before, after),
        wasserstein=moved,
        missing=(profile.nulls / profile.rows, float(reference.nulls / sample)),
        new=new,
        rows=profile.rows,
    )


def psi(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Return the population stability index of two rows of counts on the same bins.

    It is the sum of both Kullback-Leibler divergences, in nats. Bins that neither has are left
    out; half a row is added to each of the others.

    Args:
        before: Rows by bin of the reference, shape (bins,).
        after: Rows by bin of what is compared, shape (bins,).
    """
    p, q = _shares(before, after)
    return float(((q - p) * np.log(q / p)).sum())


def psi_by_chance(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Return what PSI stays below in 95 of 100 pairs of samples of one population.

    PSI is then about (1/n + 1/m) times chi-squared with a degree of freedom less than bins; its
    quantile is that of Wilson and Hilferty.
    """
    first, second = np.asarray(before, float), np.asarray(after, float)
    free = int(((first + second) > 0).sum()) - 1
    if free < 1 or not first.sum() or not second.sum():
        return 0.0
    quantile = free * (1 - 2 / (9 * free) + _Z95 * math.sqrt(2 / (9 * free))) ** 3
    return float(quantile * (1 / first.sum() + 1 / second.sum()))


def jensen_shannon(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Return the Jensen-Shannon distance of two rows of counts: 0 the same, 1 nothing in common."""
    p, q = (np.asarray(counts, float) / np.sum(counts) for counts in (before, after))
    middle = (p + q) / 2
    divergence = sum(
        float((share[share > 0] * np.log2(share[share > 0] / middle[share > 0])).sum())
        for share in (p, q)
    )
    return math.sqrt(min(max(divergence / 2, 0.0), 1.0))


def wasserstein(edges: Sequence[float], before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Return the earth mover's distance of binned numbers, in their unit.

    How far the outer bins reach is not known, so it is the distance of the values clipped to the
    first and the last edge: never more than that of the values themselves. Within a bin the rows
    count as spread evenly; where the reference has none below its first edge, its bins are single
    values, and the rows count as lying on them.

    Args:
        edges: Inner edges, ascending, shape (bins - 1,).
        before: Rows by bin of the reference, shape (bins,).
        after: Rows by bin of what is compared, shape (bins,).
    """
    first, second = np.asarray(before, float), np.asarray(after, float)
    gap = np.cumsum(first)[:-1] / first.sum() - np.cumsum(second)[:-1] / second.sum()
    widths = np.diff(np.asarray(edges, float))
    if not first[0]:  # the share at or below each value holds up to the next one
        return float((np.abs(gap[1:]) * widths).sum())
    left, right = gap[:-1], gap[1:]
    total = np.abs(left) + np.abs(right)
    crossing = (left * right < 0) & (total > 0)
    area = np.where(crossing, (left**2 + right**2) / np.where(total > 0, 2 * total, 1.0), total / 2)
    return float((area * widths).sum())


def _shares(before: npt.ArrayLike, after: npt.ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(before, float), np.asarray(after, float)
    seen = (first + second) > 0
    first, second = first[seen] + _PSEUDO, second[seen] + _PSEUDO
    return first / first.sum(), second / second.sum()
