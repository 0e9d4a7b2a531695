"""How sure a number is: intervals of means of grouped items and of rank correlations.

Percentile bootstraps of few groups are too narrow (with 4 groups the "95%" interval covers 80%), so a mean has a t
interval with a sandwich variance over groups. Everything is float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit  # what scipy.stats.t calls, without its fifty microseconds of checks
from scipy.stats import rankdata

from steerkit.errors import need

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Interval:
    """A point estimate with its interval; `error` is its standard error and `freedom` its degrees of freedom."""

    estimate: float
    low: float
    high: float
    error: float = np.nan
    freedom: float = np.inf

    @property
    def p_above(self) -> float:
        """One-sided p-value of "not above 0"; 0.5 where there is no spread and no effect."""
        if self.error == 0:
            return 0.5 if self.estimate == 0 else float(self.estimate < 0)
        return float(stdtr(self.freedom, -self.estimate / self.error))


def mean_interval(
    values: Sequence[float] | np.ndarray | pd.Series,
    groups: Sequence[object] | None = None,
    training: Sequence[float] | np.ndarray | None = None,
) -> Interval:
    """The mean of the slopes of p test items with a t interval, for test noise alone or with training noise together.

    Parameters
    ----------
    values : slopes of p test items
    groups : p labels; items with one label, e.g. of a minimal pair, are not independent
    training : means of the same items under vectors of resampled training pairs, whose variance is added

    Notes
    -----
    The variance over groups is that of a cluster-robust mean (Liang and Zeger 1986) with the factor G / (G - 1), for
    groups of one size the variance of group means over G; degrees of freedom are G - 1, or with training noise those of
    Satterthwaite (1946).
    """
    values = finite("values", values)
    labels = np.arange(len(values)) if groups is None else np.asarray(groups)
    found, member = np.unique(labels, return_inverse=True)
    count, p = len(found), len(values)
    few = f"{p} item{'s' if p != 1 else ''}"
    need(p >= 2, "at least two items, whose scatter gives the interval", few, "pass more items.")
    expected = f"one group label for each of {p} items, and at least two groups"
    shown = f"labels of shape {labels.shape} in {count} groups"
    fits = labels.shape == (p,) and count >= 2
    need(fits, expected, shown, "pass one label per item, or more items.")
    estimate = float(values.mean())
    sums = np.bincount(member, values - estimate)
    parts, freedoms = [count / (count - 1) * float(sums @ sums) / p**2], [count - 1]
    if training is not None:
        drawn = finite("training", training)
        mend = "add resampled vectors, or leave them out for test noise only."
        need(len(drawn) > 1, "at least two resampled vectors", "one", mend)
        parts.append(float(np.var(drawn, ddof=1)))
        freedoms.append(len(drawn) - 1)
    variance = sum(parts)
    spread = sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    freedom = variance**2 / spread if spread > 0 else float(count - 1)
    return t_interval(estimate, float(np.sqrt(variance)), freedom)


def t_interval(estimate: float, error: float, freedom: float) -> Interval:
    """An estimate with the t interval of its standard error."""
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Interval(estimate, estimate - half, estimate + half, error, freedom)


def rank_correlation(
    x: np.ndarray, y: np.ndarray, seed: int | np.random.Generator = 0, draws: int = 2000
) -> Interval:
    """Spearman's rank correlation of two arrays [n] with a bootstrap interval over the points.

    Draws in which one side is constant have no correlation and are left out.
    """
    x, y = finite("x", x), finite("y", y)
    check_draws(draws)
    sound = len(x) == len(y) and len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0
    expected = "as many x as y, at least three, with different values on each side"
    found = f"{len(x)} x ({len(np.unique(x))} different) and {len(y)} y ({len(np.unique(y))} different)"
    need(sound, expected, found, "add data sets, or leave this correlation out.")
    sample = np.random.default_rng(seed).integers(len(x), size=(len(x), draws))
    values = spearman(x[sample], y[sample])
    estimate = float(spearman(x[:, None], y[:, None])[0])
    return percentiles(estimate, values[np.isfinite(values)])


def finite(name: str, values: Any, *dimensions: int) -> np.ndarray:
    """The values in float64, when all are finite, there is one, and they have one of these dimensions (default 1)."""
    array, allowed = np.asarray(values, dtype=np.float64), dimensions or (1,)
    bad = int((~np.isfinite(array)).sum())
    expected = f"finite {name} in {' or '.join(map(str, allowed))} dimension(s), at least one"
    found = f"shape {array.shape} with {bad} values that are not finite"
    mend = "drop or repair these values before computing statistics."
    need(array.ndim in allowed and array.size > bad == 0, expected, found, mend)
    return array


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation of each column of x and y [n, draws]; NaN where a column is constant."""
    rank_x, rank_y = (rankdata(side, axis=0) - (len(side) + 1) / 2 for side in (x, y))
    scale = np.sqrt((rank_x**2).sum(axis=0) * (rank_y**2).sum(axis=0))
    return np.divide((rank_x * rank_y).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=scale > 0)


def check_draws(draws: int) -> None:
    """Refuse no draws."""
    need(draws >= 1, "draws of at least 1", f"draws {draws}", "use e.g. draws=2000.")


def percentiles(estimate: float, values: np.ndarray) -> Interval:
    """An estimate with the percentile interval of its bootstrap draws."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(low), float(high))
