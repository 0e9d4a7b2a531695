"""What verdicts take beyond intervals (`steerkit.stats`): shares, many tests at once, spread and ranks of data sets."""

from collections.abc import Sequence

import numpy as np
from scipy import stats as scipy_stats
from scipy.optimize import brentq

from steerkit.errors import need
from steerkit.stats import LEVEL, Interval, finite, spearman


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


def two_means(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means [s] of the two clusters of least squares of every row [s, n], the lower and the upper one."""
    rows, count = np.sort(rows, axis=1), rows.shape[1]
    sums, below = rows.cumsum(axis=1), np.arange(1, count)
    lower, upper = sums[:, :-1] / below, (sums[:, -1:] - sums[:, :-1]) / (count - below)
    apart = (below * (count - below) * (upper - lower) ** 2).argmax(axis=1)[:, None]
    return tuple(np.take_along_axis(means, apart, axis=1)[:, 0] for means in (lower, upper))


def quick_rank_correlation(x: np.ndarray, y: np.ndarray, strata: Sequence[object]) -> Interval:
    """`companion.tan.ranks.correlated` in closed form, for rules that are put to hundreds of worlds.

    The interval is that of Bonett and Wright (2000) for one correlation of as many points, less three a stratum. Strata of
    fewer than five points, or without variation, are left out. Of sides [n, k] it is the mean over k intervals.
    """
    x, y = (finite(name, each, 1, 2) for name, each in (("x", x), ("y", y)))
    x, y, labels = x.reshape(len(x), -1), y.reshape(len(y), -1), np.array(list(strata))
    total, points, freedom = (np.zeros(x.shape[1]) for _ in range(3))
    for own in (labels == each for each in np.unique(labels)):
        rho, count = spearman(x[own], y[own]), own.sum()
        taken = np.isfinite(rho) & (count >= 5)
        total += count * np.where(taken, rho, 0.0)
        points += count * taken
        freedom += (count - 3) * taken
    expected = "five points with different values on each side in at least one stratum"
    need(bool(points.all()), expected, f"{len(x)} points in {len(np.unique(labels))}", "add data sets.")
    return _with_ends(total / points, freedom)


def _with_ends(rho: np.ndarray, freedom: np.ndarray) -> Interval:
    """The mean of rank correlations [k] and of their intervals (Bonett and Wright 2000); without freedom all is open."""
    with np.errstate(divide="ignore"):
        error = np.sqrt((1 + rho**2 / 2) / np.maximum(freedom, 0))
    z = np.arctanh(np.clip(rho, -0.999, 0.999))
    low, high = np.tanh([z - 1.96 * error, z + 1.96 * error]).mean(axis=1)
    return Interval(float(rho.mean()), float(low), float(high))


def partial_rank_correlation(
    x: np.ndarray, y: np.ndarray, given: Sequence[np.ndarray], strata: Sequence[object]
) -> Interval:
    """Spearman's within strata between what a linear fit on the ranks of `given` leaves of the ranks of x and y.

    Zero where it leaves nothing of one. The interval is that of `quick_rank_correlation`, with a point less for each of
    `given`.
    """
    columns, labels = np.column_stack([x, y, *given]), np.array(list(strata))
    parts = [scipy_stats.rankdata(columns[labels == each], axis=0) for each in np.unique(labels)]
    ranks = np.vstack([(part - part.mean(0)) / len(part) for part in parts])
    fit, *_ = np.linalg.lstsq(ranks[:, 2:], ranks[:, :2])
    left = ranks[:, :2] - ranks[:, 2:] @ fit
    sizes = np.linalg.norm(left, axis=0)
    rho = np.prod(left, axis=1).sum() / np.prod(sizes) if sizes.min() > 1e-9 else 0.0
    return _with_ends(np.array([rho]), np.array([len(x) - 3.0 * len(parts) - len(given)]))
