"""What verdicts take beyond intervals (`steerkit.stats`): shares, many tests at once, spread and ranks of data sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats as scipy_stats
from scipy.optimize import brentq

from steerkit.errors import need
from steerkit.stats import LEVEL, Interval, check_draws, finite, percentiles, spearman


def share_interval(count: int, of: int) -> Interval:
    """A share with its Wilson interval (Wilson 1927)."""
    found = scipy_stats.binomtest(count, of).proportion_ci(LEVEL, "wilson")
    return Interval(count / of, float(found.low), float(found.high))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (Holm 1979): below 0.05 in any of many tests with probability 0.05 when none is true.

    What is NaN was not tested, and stays.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    count, adjusted = np.isfinite(p_values).sum(), np.full(len(p_values), np.nan)
    order = np.argsort(p_values, kind="stable")[:count]  # NaN is last
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


def spread_between(means: np.ndarray, noise: np.ndarray) -> Interval:
    """Standard deviation of true means over their average, from Cochran's Q (Paule and Mandel; Viechtbauer 2007)."""
    freedom = len(means) - 1

    def statistic(between: float) -> float:
        weights = 1 / (noise + between)
        centre = weights @ means / weights.sum()
        return float(weights @ (means - centre) ** 2)

    def root(wanted: float) -> float:
        most = 100 * means.var() + noise.max()
        return 0.0 if statistic(0.0) <= wanted else brentq(lambda b: statistic(b) - wanted, 0, most)

    points = [root(float(wanted)) for wanted in (freedom, *scipy_stats.chi2.ppf([0.975, 0.025], freedom))]
    return Interval(*(np.sqrt(points) / abs(means.mean())))


def stratified_rank_correlation(
    x: np.ndarray,
    y: np.ndarray,
    strata: Sequence[object],
    seed: int | np.random.Generator = 0,
    draws: int = 2000,
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
    check_draws(draws)
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
    return percentiles(float(total), kept[0] / kept[1])


def quick_rank_correlation(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, strata: Sequence[object]
) -> Interval:
    """`stratified_rank_correlation` in closed form, for rules that are put to hundreds of worlds.

    The interval is that of Bonett and Wright (2000) for one correlation of as many points, less three a stratum. Strata of
    fewer than five points, or without variation, are left out. Of sides [n, k] it is the mean over k intervals.
    """
    x, y, labels = _columns("x", x), _columns("y", y), np.array(list(strata))
    total, points, freedom = (np.zeros(x.shape[1]) for _ in range(3))
    for own in (labels == each for each in np.unique(labels)):
        rho, count = spearman(x[own], y[own]), own.sum()
        taken = np.isfinite(rho) & (count >= 5)
        total += count * np.where(taken, rho, 0.0)
        points += count * taken
        freedom += (count - 3) * taken
    expected = "five points with different values on each side in at least one stratum"
    need(bool(points.all()), expected, f"{len(x)} points in {len(np.unique(labels))}", "add data sets.")
    rho = total / points
    z, error = np.arctanh(np.clip(rho, -0.999, 0.999)), np.sqrt((1 + rho**2 / 2) / freedom)
    low, high = np.tanh([z - 1.96 * error, z + 1.96 * error]).mean(axis=1)
    return Interval(float(rho.mean()), float(low), float(high))


def _columns(name: str, values: Any) -> np.ndarray:
    found = finite(name, values, 1, 2)
    return found[:, None] if found.ndim == 1 else found


def _partial(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """`spearman` of x and y, with the ranks of a third side held constant."""
    direct = spearman(x, y)
    if given is None:
        return direct
    first, second = (np.nan_to_num(spearman(side, given)) for side in (x, y))  # a constant holds nothing
    free, none = (1 - first**2) * (1 - second**2), np.full(len(direct), np.nan)
    return np.divide(direct - first * second, np.sqrt(free), out=none, where=free > 1e-12)
