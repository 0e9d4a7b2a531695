"""How sure a number is: one bootstrap, and rank correlations over all points or within strata.

The intervals are percentile bootstraps (Efron and Tibshirani 1993, chapter 13) in float64. A `seed` is a number or a
numpy generator, which several calls may share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steerkit.errors import need


@dataclass(frozen=True)
class Interval:
    """A point estimate with a percentile bootstrap interval."""

    estimate: float
    low: float
    high: float
    level: float
    draws: int  # behind low and high
    sources: tuple[str, ...]  # of the noise in it: "training pairs", "test items", "test groups" or "points"


def bootstrap(
    values: pd.DataFrame | pd.Series | np.ndarray,
    *,
    groups: Sequence[object] | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """The mean of some slopes with an interval, for test noise alone or with training noise together.

    Parameters
    ----------
    values : slopes of p test items, [p] or [v, p]; with more than one row, row 0 (of a table: the row named "full")
        belongs to the vector of all training pairs and the others, named resample-* in a table, to vectors of pairs
        drawn with replacement
    groups : p labels; items with one label, e.g. of a minimal pair, are not independent and are drawn together

    Notes
    -----
    Each draw takes one resampled vector at random and test groups with replacement. Resampled vectors scatter around
    the full vector as the full vector scatters around that of infinite training data, so low and high are used as they
    are. For a share, e.g. of slopes <= 0, the draws need not centre on the estimate: their noise adds to that already in
    row 0 and pulls a share towards 1/2. With R resampled vectors the training part of the variance is too small by the
    factor (R - 1) / R, and its tails rest on R values.
    """
    if isinstance(values, pd.DataFrame):
        names, mend = list(values.index), "pivot with index='vector'."
        need("full" in names, "a row named full", str(names), mend)
        values = values.loc[["full", *sorted(name for name in names if name.startswith("resample"))]]
    table = np.atleast_2d(finite("values", values, 1, 2))
    _check_settings(draws, level)
    mend = "add resampled vectors, or pass row 0 alone for test noise only."
    need(len(table) != 2, "no resampled vector, or at least two", "one", mend)
    labels = np.arange(table.shape[1]) if groups is None else np.asarray(groups)
    found, member = np.unique(labels, return_inverse=True)  # the groups, and that of each item
    count, p = len(found), table.shape[1]
    expected = f"one group label for each of {p} items, and at least two groups"
    shown = f"labels of shape {labels.shape} in {count} groups"
    mend = "pass one label per item, or more items."
    need(labels.shape == (p,) and count >= 2, expected, shown, mend)
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, len(table), size=draws) if len(table) > 1 else np.zeros(draws, dtype=int)
    groups_of = np.eye(count)[member]  # [items, groups]
    drawn = rng.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
    # How often each group comes in each draw.
    times = np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)
    means = (times * (table @ groups_of)[rows]).sum(axis=1) / (times @ groups_of.sum(axis=0))
    sources = ("training pairs",) * (len(table) > 1) + ("test items" if groups is None else "test groups",)
    return _percentiles(float(table[0].mean()), means, level, sources)


def rank_correlation(
    x: np.ndarray, y: np.ndarray, seed: int | np.random.Generator = 0, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Spearman's rank correlation of two arrays [n] with a bootstrap interval over the points.

    Draws in which one side is constant have no correlation; they are left out, and ``draws`` of the result
    counts the others.
    """
    x, y = finite("x", x), finite("y", y)
    _check_settings(draws, level)
    sound = len(x) == len(y) and len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0
    expected = "as many x as y, at least three, with different values on each side"
    found = f"{len(x)} x ({len(np.unique(x))} different) and {len(y)} y ({len(np.unique(y))} different)"
    need(sound, expected, found, "add data sets, or leave this correlation out.")
    sample = np.random.default_rng(seed).integers(len(x), size=(len(x), draws))
    values = _spearman(x[sample], y[sample])
    estimate = float(_spearman(x[:, None], y[:, None])[0])
    return _percentiles(estimate, values[np.isfinite(values)], level, ("points",))


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
    _check_settings(draws, level)
    labels, sizes = np.asarray(strata), {len(strata), *map(len, columns)}
    need(len(sizes) == 1, "as many y, strata and given as x", f"{sizes}", "give one of each for every point.")
    parts = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    sound = all(len(part) >= 3 and np.ptp(side[part]) > 0 for part in parts for side in columns[:2])
    expected = "at least three points in each stratum, with different values on each side"
    found = f"strata of {', '.join(str(len(part)) for part in parts)} points, or a constant side"
    need(sound, expected, found, "add points, or leave that stratum out.")
    rng, weighed = (
        np.random.default_rng(seed),
        np.zeros((2, draws)),
    )  # sums of correlations, and of their weights
    total = 0.0
    for part in parts:
        sample, share = part[rng.integers(len(part), size=(len(part), draws))], len(part) / len(labels)
        total += share * _partial(*(side[part] for side in columns)).mean()
        drawn = _partial(*(side[sample].reshape(len(part), -1) for side in columns))  # [draws * k]
        drawn = drawn.reshape(draws, -1).mean(axis=1)
        weighed += share * np.where(np.isfinite(drawn), [drawn, np.ones(draws)], 0.0)
    kept = weighed[:, weighed[1] > 0]
    found = "none: the given values decide the ranks of a side"
    need(np.isfinite(total) and kept.size, "a correlation that is defined", found, "leave `given` out.")
    return _percentiles(float(total), kept[0] / kept[1], level, ("points",))


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


def _percentiles(estimate: float, values: np.ndarray, level: float, sources: tuple[str, ...]) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, len(values), sources)


def _check_settings(draws: int, level: float) -> None:
    sound, expected = draws >= 1 and 0 < level < 1, "draws of at least 1 and a level between 0 and 1"
    need(sound, expected, f"draws {draws} and level {level}", "use e.g. draws=2000, level=0.95.")
