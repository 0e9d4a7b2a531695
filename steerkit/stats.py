"""How sure a number is: intervals of means of grouped items, of shares, and of rank correlations.

Percentile bootstraps of few groups are too narrow (with 4 groups the "95%" interval covers 80%), so a mean has a t
interval with a sandwich variance over groups. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from steerkit.errors import need


@dataclass(frozen=True)
class Interval:
    """A point estimate with its interval; `error` is its standard error and `freedom` its degrees of freedom."""

    estimate: float
    low: float
    high: float
    level: float = 0.95
    error: float = np.nan
    freedom: float = np.inf

    @property
    def p_above(self) -> float:
        """One-sided p-value of "not above 0"; 0.5 where there is no spread and no effect."""
        if self.error == 0:
            return 0.5 if self.estimate == 0 else float(self.estimate < 0)
        return float(scipy_stats.t.sf(self.estimate / self.error, self.freedom))


def mean_interval(
    values: Sequence[float] | np.ndarray | pd.Series,
    groups: Sequence[object] | None = None,
    training: Sequence[float] | np.ndarray | None = None,
    level: float = 0.95,
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
    expected = f"one group label for each of {p} items, and at least two groups"
    shown = f"labels of shape {labels.shape} in {count} groups"
    fits = labels.shape == (p,) and count >= 2
    need(fits, expected, shown, "pass one label per item, or more items.")
    _check_level(level)
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
    return t_interval(estimate, float(np.sqrt(variance)), freedom, level)


def t_interval(estimate: float, error: float, freedom: float, level: float = 0.95) -> Interval:
    """An estimate with the t interval of its standard error."""
    half = float(scipy_stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(estimate, estimate - half, estimate + half, level, error, freedom)


def share_interval(count: int, of: int, level: float = 0.95) -> Interval:
    """A share with its Wilson interval (Wilson 1927)."""
    found = scipy_stats.binomtest(count, of).proportion_ci(level, "wilson")
    return Interval(count / of, float(found.low), float(found.high), level)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (Holm 1979): below 0.05 in any of many tests with probability 0.05 when none is true."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order, count = np.argsort(p_values, kind="stable"), len(p_values)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(count, 0, -1)))
    return adjusted


def max_t(observed: Sequence[float] | np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Adjusted one-sided p-values [s] of permutation tests, any of many (Westfall and Young 1993, single step).

    `observed` are statistics [s], `drawn` those of the same under permutations [draws, s]; each is divided by its own
    spread over permutations.
    """
    observed, drawn = finite("observed", observed), finite("drawn", drawn, 2)
    scale = drawn.std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    highest = (drawn / scale).max(axis=1)
    return (1 + (highest[:, None] >= observed / scale).sum(axis=0)) / (1 + len(highest))


def rank_correlation(
    x: np.ndarray, y: np.ndarray, seed: int | np.random.Generator = 0, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Spearman's rank correlation of two arrays [n] with a bootstrap interval over the points.

    Draws in which one side is constant have no correlation and are left out.
    """
    x, y = finite("x", x), finite("y", y)
    _check_draws(draws, level)
    sound = len(x) == len(y) and len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0
    expected = "as many x as y, at least three, with different values on each side"
    found = f"{len(x)} x ({len(np.unique(x))} different) and {len(y)} y ({len(np.unique(y))} different)"
    need(sound, expected, found, "add data sets, or leave this correlation out.")
    sample = np.random.default_rng(seed).integers(len(x), size=(len(x), draws))
    values = _spearman(x[sample], y[sample])
    estimate = float(_spearman(x[:, None], y[:, None])[0])
    return _percentiles(estimate, values[np.isfinite(values)], level)


def stratified_rank_correlation(
    x: np.ndarray,
    y: np.ndarray,
    strata: Sequence[object],
    seed: int | np.random.Generator = 0,
    draws: int = 2000,
    level: float = 0.95,
    given: np.ndarray | None = None,
) -> Interval:
    """Spearman's rank correlation of x and y [n] within strata: their mean, weighted by points, with a bootstrap interval.

    Over all points at once a difference between strata can make, hide or turn round a correlation that holds in each of
    them (Simpson 1951); here it counts for nothing. `strata` are n labels, `given` n values to hold constant: with them
    it is the partial correlation of ranks, stratum by stratum. Sides [n, k] are k measurements of the same points, of which
    the mean correlation counts. Points are drawn with replacement within their stratum; a stratum whose draw has
    no correlation, because a side is constant or follows from `given`, is left out of that draw.
    """
    columns = [_columns("x", x), _columns("y", y), *([] if given is None else [_columns("given", given)])]
    _check_draws(draws, level)
    labels, sizes = np.asarray(strata), {len(strata), *map(len, columns)}
    need(len(sizes) == 1, "as many y, strata and given as x", f"{sizes}", "give one of each for every point.")
    parts = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    sound = all(len(part) >= 3 and np.ptp(side[part]) > 0 for part in parts for side in columns[:2])
    expected = "at least three points in each stratum, with different values on each side"
    found = f"strata of {', '.join(str(len(part)) for part in parts)} points, or a constant side"
    need(sound, expected, found, "add points, or leave that stratum out.")
    rng, total = np.random.default_rng(seed), 0.0
    weighed = np.zeros((2, draws))  # sums of correlations, and of their weights
    for part in parts:
        sample, share = part[rng.integers(len(part), size=(len(part), draws))], len(part) / len(labels)
        total += share * _partial(*(side[part] for side in columns)).mean()
        drawn = _partial(*(side[sample].reshape(len(part), -1) for side in columns))  # [draws * k]
        drawn = drawn.reshape(draws, -1).mean(axis=1)
        weighed += share * np.where(np.isfinite(drawn), [drawn, np.ones(draws)], 0.0)
    kept = weighed[:, weighed[1] > 0]
    found = "none: the given values decide the ranks of a side"
    need(np.isfinite(total) and kept.size, "a correlation that is defined", found, "leave `given` out.")
    return _percentiles(float(total), kept[0] / kept[1], level)


def quick_rank_correlation(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, strata: Sequence[object]
) -> Interval:
    """`stratified_rank_correlation` in closed form, for rules that are put to hundreds of worlds.

    Correlations are averaged as Fisher's z with weights n - 3; the standard error is that of Bonett and Wright (2000).
    Strata of fewer than five points, or without variation, are left out.
    """
    x, y, strata = finite("x", x), finite("y", y), np.array(list(strata))
    parts = []
    for each in pd.unique(strata):
        own, other = x[strata == each], y[strata == each]
        if len(own) >= 5 and np.ptp(own) > 0 and np.ptp(other) > 0:
            rho = float(_spearman(own[:, None], other[:, None])[0])
            parts.append((np.arctanh(np.clip(rho, -0.999, 0.999)), len(own) - 3, 1 + rho**2 / 2))
    expected = "five points with different values on each side in at least one stratum"
    need(bool(parts), expected, f"{len(x)} points in {len(set(strata))}", "add data sets.")
    z, weight, inflation = map(np.array, zip(*parts, strict=True))
    centre, error = (z @ weight) / weight.sum(), np.sqrt(weight @ inflation) / weight.sum()
    low, middle, high = np.tanh([centre - 1.96 * error, centre, centre + 1.96 * error])
    return Interval(float(middle), float(low), float(high))


def finite(name: str, values: Any, *dimensions: int) -> np.ndarray:
    """The values in float64, when all are finite, there is one, and they have one of these dimensions (default 1)."""
    array, allowed = np.asarray(values, dtype=np.float64), dimensions or (1,)
    bad = int((~np.isfinite(array)).sum())
    expected = f"finite {name} in {' or '.join(map(str, allowed))} dimension(s), at least one"
    found = f"shape {array.shape} with {bad} values that are not finite"
    mend = "drop or repair these values before computing statistics."
    need(array.ndim in allowed and array.size > bad == 0, expected, found, mend)
    return array


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation of each column of x and y [n, draws]; NaN where a column is constant."""
    rank_x, rank_y = (pd.DataFrame(side).rank().to_numpy() - (len(side) + 1) / 2 for side in (x, y))
    scale = np.sqrt((rank_x**2).sum(axis=0) * (rank_y**2).sum(axis=0))
    return np.divide((rank_x * rank_y).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=scale > 0)


def _columns(name: str, values: Any) -> np.ndarray:
    found = finite(name, values, 1, 2)
    return found[:, None] if found.ndim == 1 else found


def _partial(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """`_spearman` of x and y, with the ranks of a third side held constant."""
    direct = _spearman(x, y)
    if given is None:
        return direct
    first, second = (np.nan_to_num(_spearman(side, given)) for side in (x, y))  # a constant holds nothing
    free, none = (1 - first**2) * (1 - second**2), np.full(len(direct), np.nan)
    return np.divide(direct - first * second, np.sqrt(free), out=none, where=free > 1e-12)


def _check_level(level: float) -> None:
    need(0 < level < 1, "a level between 0 and 1", str(level), "use e.g. level=0.95.")


def _check_draws(draws: int, level: float) -> None:
    need(draws >= 1, "draws of at least 1", f"draws {draws}", "use e.g. draws=2000.")
    _check_level(level)


def _percentiles(estimate: float, values: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)
