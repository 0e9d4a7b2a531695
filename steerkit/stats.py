"""Where the spread of the slopes comes from, and how sure the numbers are.

The variance decomposition is that of Tan et al. 2024 (arXiv 2407.12404). The intervals are
percentile bootstraps (Efron and Tibshirani 1993, chapter 13) in float64; every draw takes a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from steerkit.errors import SteerkitError

Statistic = Callable[[np.ndarray], float]
Order = Literal["paper", "answer-first", "shapley"]


@dataclass(frozen=True)
class Interval:
    """A point estimate with a percentile bootstrap interval.

    ``sources`` names the noise that the interval holds: "training pairs", "test items", "test groups" or
    "points". ``draws`` is the number of bootstrap draws behind ``low`` and ``high``.
    """

    estimate: float
    low: float
    high: float
    level: float
    draws: int
    sources: tuple[str, ...]


def variance_parts(slopes: pd.DataFrame, order: Order = "paper") -> dict[str, float]:
    """Split the variance of the slopes into a letter part, a Yes/No part and the rest.

    Parameters
    ----------
    slopes : DataFrame
        The SLOPES rows of one dataset, vector and layer (columns steerability, positive_letter,
        positive_answer). The indicators are positive_letter == "A" and positive_answer == "Yes".
    order : {"paper", "answer-first", "shapley"}
        Which factor gets what both explain: the letter, the answer, or half each (the mean of the two
        orders: Lindeman, Merenda and Gold 1980). Without overlap, as in balanced data, all three agree.

    Returns
    -------
    dict
        total, letter, answer, unexplained: variances (slope squared, divided by n). The last three sum to
        the first. A factor that is constant or empty has a part of exactly 0.

    Raises
    ------
    SteerkitError
        An unknown order, no slopes, or a slope that is not finite.

    Notes
    -----
    Tan et al. 2024, variance decomposition: ordinary least squares with intercept on 0/1 indicators, without
    interaction; with r the residual, letter = Var(s) - Var(r of s on A) and answer = Var(r of s on A) -
    Var(r of s on A and Yes).
    """
    steerability = _finite("slopes", slopes["steerability"], 1)
    letter = slopes["positive_letter"].isin(["A"]).to_numpy(dtype=np.float64)
    answer = slopes["positive_answer"].isin(["Yes"]).to_numpy(dtype=np.float64)
    total = float(np.var(steerability))
    both = _explained(steerability, letter, answer)
    letter_first, answer_first = _explained(steerability, letter), _explained(steerability, answer)
    shares = {
        "paper": (letter_first, both - letter_first),
        "answer-first": (both - answer_first, answer_first),
        "shapley": ((letter_first + both - answer_first) / 2, (answer_first + both - letter_first) / 2),
    }
    if order not in shares:
        known = ", ".join(shares)
        raise SteerkitError(f"an order among {known}", repr(order), next_step="choose one of these.")
    # A part cannot be negative; where one factor determines the other, rounding leaves -1e-17.
    parts = {name: max(0.0, share) for name, share in zip(("letter", "answer"), shares[order], strict=True)}
    return {"total": total, **parts, "unexplained": max(0.0, total - both)}


def bootstrap_mean(
    per_item: np.ndarray, rng: np.random.Generator, draws: int = 2000, level: float = 0.95,
    groups: np.ndarray | None = None,
) -> Interval:  # fmt: skip
    """Return the mean over test items with a percentile interval from resampled items.

    Parameters
    ----------
    per_item : array [p]
        One number per test item.
    rng : Generator
        The source of all draws.
    groups : array [p], optional
        Group labels, e.g. of minimal pairs; the items of a group are drawn together.

    Raises
    ------
    SteerkitError
        See `joint_bootstrap`.
    """
    return joint_bootstrap(_finite("items", per_item, 1)[None], rng, draws, level, groups=groups)


def joint_bootstrap(
    slopes_by_vector: np.ndarray, rng: np.random.Generator, draws: int = 2000, level: float = 0.95,
    statistic: Statistic = np.mean, groups: np.ndarray | None = None,
) -> Interval:  # fmt: skip
    """Return a statistic of the slopes with an interval for training and test noise together.

    Parameters
    ----------
    slopes_by_vector : array [v, p]
        Row 0: slopes with the vector of all training pairs. Other rows: slopes of the same test items with
        vectors of training pairs drawn with replacement. With row 0 alone only test items are resampled.
    rng : Generator
        The source of all draws.
    statistic : callable
        From an array of slopes to a number; it must not depend on their order.
    groups : array [p], optional
        Group labels, e.g. of minimal pairs, whose two items are not independent; the items of a group are
        drawn together. Without it every item is its own group.

    Returns
    -------
    Interval
        ``sources`` is ("training pairs", "test items"), or ("test items",) with row 0 alone; "test groups"
        replaces "test items" where groups are given.

    Raises
    ------
    SteerkitError
        Slopes that are not finite or not [v, p], groups that do not label p items, fewer than two groups,
        a single resampled vector (it would pass for a vector without noise), draws < 1, level not in (0, 1).

    Notes
    -----
    Each draw takes one resampled vector at random and test groups with replacement. The estimate is the
    statistic of row 0, never the mean of the draws. Resampled vectors scatter around the full vector as the
    full vector scatters around that of infinite training data, so low and high are used as they are, without
    another shift. For the mean slope with mean-difference vectors the draws centre on the estimate to first
    order in the vector. For other statistics they need not: the noise of a draw adds to that already in
    row 0, which e.g. pulls the anti-steerable fraction towards 1/2. The estimate may then lie off the middle,
    even outside. With R resampled vectors the training part of the variance is too small by the factor
    (R - 1) / R, and its tails rest on R values.
    """
    table = _finite("slopes", slopes_by_vector, 2)
    _check_settings(draws, level)
    if len(table) == 2:
        raise SteerkitError(
            "no resampled vector, or at least two", "one",
            next_step="add resampled vectors, or pass row 0 alone for test noise only.",
        )  # fmt: skip
    member = _group_of_item(groups, table.shape[1])
    rows = rng.integers(1, len(table), size=draws) if len(table) > 1 else np.zeros(draws, dtype=int)
    times = _times_drawn(member.max() + 1, draws, rng)
    draw = _mean_of_draws if statistic is np.mean else _statistic_of_draws
    values = draw(table, rows, times, member, statistic)
    sources = ("training pairs",) * (len(table) > 1) + ("test items" if groups is None else "test groups",)
    return _percentiles(float(statistic(table[0])), values, level, sources)


def bootstrap(
    values: pd.DataFrame | np.ndarray,
    *,
    groups: Sequence[object] | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of some slopes with an interval; see `joint_bootstrap`.

    Parameters
    ----------
    values : array [p], or table [v, p]
        Slopes of p test items; with more than one row, row 0 (of a table: the row named "full") belongs to the vector
        of all training pairs and the others, named resample-* in a table, to vectors of resampled pairs.
    groups : p labels, optional
        Items with one label are drawn together.
    """
    if isinstance(values, pd.DataFrame):
        values = values.loc[["full", *sorted(name for name in values.index if name.startswith("resample"))]]
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    labels = None if groups is None else np.asarray(groups)
    return joint_bootstrap(table, np.random.default_rng(seed), draws, level, groups=labels)


def _times_drawn(groups: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each group comes in each draw of as many groups, [draws, groups]."""
    drawn = rng.integers(groups, size=(draws, groups)) + groups * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * groups).reshape(draws, groups)


def _statistic_of_draws(
    table: np.ndarray, rows: np.ndarray, times: np.ndarray, member: np.ndarray, statistic: Statistic
) -> np.ndarray:
    """Any statistic, draw by draw."""
    return np.array([statistic(np.repeat(table[r], t[member])) for r, t in zip(rows, times, strict=True)])


def _mean_of_draws(
    table: np.ndarray, rows: np.ndarray, times: np.ndarray, member: np.ndarray, _: Statistic
) -> np.ndarray:
    """The mean, by sums over groups: the same as draw by draw, a hundred times faster."""
    indicator = np.eye(member.max() + 1)[member]  # [items, groups]
    sums = table @ indicator
    return (times * sums[rows]).sum(axis=1) / (times @ indicator.sum(axis=0))


def rank_correlation(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Return Spearman's rank correlation of two arrays [n] with a bootstrap interval over the points.

    Draws in which one side is constant have no correlation; they are left out, and ``draws`` of the result
    counts the others.

    Raises
    ------
    SteerkitError
        Fewer than three points, unequal lengths, a constant side, a value that is not finite.
    """
    x, y = _finite("x", x, 1), _finite("y", y, 1)
    _check_settings(draws, level)
    if len(x) != len(y) or len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise SteerkitError(
            "as many x as y, at least three, with different values on each side",
            f"{len(x)} x ({len(np.unique(x))} different) and {len(y)} y ({len(np.unique(y))} different)",
            next_step="add data sets, or leave this correlation out.",
        )
    sample = rng.integers(len(x), size=(len(x), draws))
    values = _spearman(x[sample], y[sample])
    estimate = float(_spearman(x[:, None], y[:, None])[0])
    return _percentiles(estimate, values[np.isfinite(values)], level, ("points",))


def _explained(values: np.ndarray, *indicators: np.ndarray) -> float:
    """Variance of values [p] that least squares on the indicators and an intercept explains."""
    # Constant columns are dropped, so that a factor without variation explains exactly 0, not 1e-17.
    columns = [column - column.mean() for column in indicators if np.ptp(column) > 0]
    if not columns:
        return 0.0
    design = np.column_stack(columns)  # centring values and columns stands for the intercept
    coefficients = np.linalg.lstsq(design, values - values.mean(), rcond=None)[0]
    return float(np.var(design @ coefficients))


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation of each column of x and y [n, draws]; NaN where a column is constant."""
    rank_x, rank_y = (pd.DataFrame(side).rank().to_numpy() - (len(side) + 1) / 2 for side in (x, y))
    scale = np.sqrt((rank_x**2).sum(axis=0) * (rank_y**2).sum(axis=0))
    return np.divide((rank_x * rank_y).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=scale > 0)


def _percentiles(estimate: float, values: np.ndarray, level: float, sources: tuple[str, ...]) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, len(values), sources)


def _group_of_item(groups: np.ndarray | None, items: int) -> np.ndarray:
    """Number the group of each item, [p]."""
    labels = np.arange(items) if groups is None else np.asarray(groups)
    found, member = np.unique(labels, return_inverse=True)
    if labels.shape != (items,) or len(found) < 2:
        raise SteerkitError(
            f"one group label for each of {items} items, and at least two groups",
            f"labels of shape {labels.shape} in {len(found)} groups",
            next_step="pass one label per item, or more items.",
        )
    return member


def _finite(name: str, values: np.ndarray, dimensions: int) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    bad = int((~np.isfinite(array)).sum())
    if array.ndim != dimensions or array.size == 0 or bad:
        raise SteerkitError(
            f"finite {name} in {dimensions} dimension(s), at least one",
            f"shape {array.shape} with {bad} values that are not finite",
            next_step="drop or repair these values before computing statistics.",
        )
    return array


def _check_settings(draws: int, level: float) -> None:
    if draws < 1 or not 0 < level < 1:
        raise SteerkitError(
            "draws of at least 1 and a level between 0 and 1", f"draws {draws} and level {level}",
            next_step="use e.g. draws=2000, level=0.95.",
        )  # fmt: skip
