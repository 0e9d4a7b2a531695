"""How far the slope depends on the multipliers it is fitted on, and how well a line fits at all.

Two checks from the appendix of Tan et al. 2024 (arXiv 2407.12404): the mean steerability refitted on the
multipliers within +-0.5, +-1 and +-1.5, and the residual of each example's line beside its slope. Slopes that
shrink as the range widens mean that the effect saturates.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd

from steerkit import stats, steerability
from steerkit.errors import SteerkitError

WIDTHS = (0.5, 1.0, 1.5)  # the three of the paper
POINTS = 7  # multipliers -1.5, -1, .., 1.5: those of the paper
NEAR = 1e-9  # two multipliers closer than this are one: 0.1 + 0.2 is not 0.3
Groups = Mapping[Hashable, Hashable]  # example_id -> label of what is not independent, e.g. a minimal pair


def by_range(
    grid: pd.DataFrame, widths: Sequence[float] = WIDTHS, *, groups: Groups | None = None, draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Refit the steerability on the multipliers from -width to width, for each of several widths.

    Parameters
    ----------
    grid : DataFrame
        A GRID table. Each data set, format, vector and layer has -width and width themselves among its
        multipliers, for every width; otherwise the slope would belong to a narrower range than its name says.
    widths : sequence of float
        Half widths of the range, above 0, each once.
    groups : mapping from example_id to label, optional
        Examples with one label are resampled together.
    draws, seed : int
        Of the bootstrap over examples. All widths of a block see the same resampled examples.

    Returns
    -------
    DataFrame
        Columns dataset, format, vector, layer, width, n, mean, low, high: the mean slope over n examples,
        score per unit multiplier, with its 95% interval. Blocks in order of first appearance, widths as given.

    Raises
    ------
    SteerkitError
        No width, one that is not above 0 or comes twice, a block without -width or width, a single example,
        an example that `groups` lacks, and everything that `steerability.slopes` refuses.

    Notes
    -----
    Tan et al. 2024, appendix: the fit is an ordinary least squares line on the points inside the range, the
    same as over the full range, not a chord between its ends.
    """
    _check_widths(widths)
    steerability.slopes(grid)  # refuses a broken table before it is cut
    parts = [_within(grid, width, groups, draws, seed) for width in widths]
    found = pd.concat(parts, ignore_index=True)
    block = found.groupby(steerability.BLOCK, sort=False, observed=True).ngroup()
    return found.iloc[np.argsort(block, kind="stable")].reset_index(drop=True)


def fit_quality(slopes: pd.DataFrame, points: int = POINTS) -> pd.DataFrame:
    """Return the slope and the residual of every example's line, the residual in two normalisations.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table.
    points : int
        Multipliers behind each line, which a SLOPES table does not hold. Vectors that were run at fewer
        multipliers (resampled and random ones) need a call of their own.

    Returns
    -------
    DataFrame
        Columns dataset, format, vector, layer, example_id, steerability, rmse, true_rmse. ``rmse`` is what
        the paper plots under that name: the root of the SUM of squared residuals. ``true_rmse`` is the root
        of their mean, smaller by sqrt(points). Both in units of the propensity.

    Raises
    ------
    SteerkitError
        Missing columns, a residual that is negative or not finite, fewer than two points.
    """
    columns = [*steerability.BLOCK, "example_id", "steerability", "residual"]
    missing = [name for name in columns if name not in slopes.columns]
    if missing or slopes.empty:
        raise SteerkitError(
            "a SLOPES table with rows",
            f"{len(slopes)} rows, missing columns: {', '.join(missing) or 'none'}",
            next_step="pass the table of steerkit.steerability.slopes.",
        )
    residual = slopes["residual"].to_numpy(dtype=np.float64)
    bad = int((~(np.isfinite(residual) & (residual >= 0))).sum())
    if bad or points < 2:
        raise SteerkitError(
            "sums of squared residuals of lines through at least two points",
            f"{bad} of {len(residual)} that are negative or not finite, and {points} points",
            next_step="pass the table of steerkit.steerability.slopes and the number of multipliers.",
        )
    found = slopes[columns[:-1]].assign(rmse=np.sqrt(residual), true_rmse=np.sqrt(residual / points))
    return found.reset_index(drop=True)


def mean_interval(
    slopes: pd.DataFrame, groups: Groups | None = None, draws: int = 2000, seed: int = 0
) -> stats.Interval:
    """Return the mean steerability of the examples in the table with its 95% bootstrap interval.

    Parameters
    ----------
    slopes : DataFrame
        Columns example_id and steerability, each example once.
    groups : mapping from example_id to label, optional
        Examples with one label are drawn together.

    Raises
    ------
    SteerkitError
        An example that `groups` lacks; a single example or group (it has no interval).
    """
    labels = None
    if groups is not None:
        unknown = [example for example in slopes["example_id"] if example not in groups]
        if unknown:
            raise SteerkitError(
                "a group for every example",
                f"none for {len(unknown)}, the first of them {unknown[0]}",
                next_step="make the groups from the whole data set (companion.data.splits.group_items).",
            )
        labels = pd.factorize(slopes["example_id"].map(groups))[0]
    return stats.bootstrap_mean(
        slopes["steerability"].to_numpy(), np.random.default_rng(seed), draws, groups=labels
    )


def _within(grid: pd.DataFrame, width: float, groups: Groups | None, draws: int, seed: int) -> pd.DataFrame:
    """One row a block: the mean slope on the multipliers up to `width` on either side."""
    part = grid[grid["multiplier"].abs() <= width + NEAR]
    _check_ends(grid, width)
    rows = []
    blocks = steerability.slopes(part).groupby(steerability.BLOCK, sort=False, observed=True)
    for names, slopes in blocks:
        found = mean_interval(slopes, groups, draws, seed)
        rows.append((*names, float(width), len(slopes), found.estimate, found.low, found.high))
    return pd.DataFrame(rows, columns=[*steerability.BLOCK, "width", "n", "mean", "low", "high"])


def _check_widths(widths: Sequence[float]) -> None:
    values = [float(width) for width in widths]
    fine = all(np.isfinite(value) and value > 0 for value in values) and len(set(values)) == len(values)
    if not values or not fine:
        raise SteerkitError(
            "different widths above 0, at least one", f"{values}", next_step="pass e.g. (0.5, 1.0, 1.5)."
        )


def _check_ends(grid: pd.DataFrame, width: float) -> None:
    """Refuse blocks whose multipliers do not reach exactly to -width and width."""
    for names, block in grid.groupby(steerability.BLOCK, sort=False, observed=True):
        swept = np.unique(block["multiplier"].to_numpy(dtype=np.float64))
        absent = [end for end in (-width, width) if np.abs(swept - end).min() > NEAR]
        if absent:
            dataset, _, vector, layer = names
            raise SteerkitError(
                f"the multipliers {-width:g} and {width:g} to fit slopes within ±{width:g}",
                f"only {', '.join(f'{m:g}' for m in swept)} for {dataset} (vector {vector}, layer {layer})",
                done="Nothing was fitted.",
                next_step="sweep these multipliers, ask for another width, or keep the rows of the vector "
                "'full' (resampled and random vectors run at fewer multipliers).",
            )
