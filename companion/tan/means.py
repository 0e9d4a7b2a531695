"""Mean steerability of any block of slopes, with its interval; and how far it depends on the range of multipliers.

Two checks are from the appendix of Tan et al. 2024 (arXiv 2407.12404): the mean refitted on the multipliers within
+-0.5, +-1 and +-1.5, and the residual of each example's line beside its slope. Slopes that shrink as the range widens
mean that the effect saturates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from steerkit import stats, steerability
from steerkit.errors import need
from steerkit.steerability import BLOCK

WIDTHS = (0.5, 1.0, 1.5)  # the three of the paper
POINTS = 7  # multipliers -1.5, -1, .., 1.5: those of the paper
NEAR = 1e-9  # two multipliers closer than this are one: 0.1 + 0.2 is not 0.3


def means(
    slopes: pd.DataFrame,
    by: Sequence[str],
    groups: str = "",
    *,
    vectors: bool = False,
    alone: bool = False,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean steerability of every block with its 95% bootstrap interval.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table, each example once a block (and vector).
    by : sequence of str
        The columns that tell blocks apart.
    groups : str
        A column: examples with one label (minimal pairs) are drawn together. Without it each is drawn alone.
    vectors : bool
        Whether a block has rows of `full` and `resample-*`, and the interval is to hold the noise of training pairs too.
    alone : bool
        Whether a block of one example or group has a mean without an interval (NaN); else it is refused.
    draws, seed : int
        Of the bootstrap. Every block starts from the seed, so that blocks with the same examples draw the same ones.

    Returns
    -------
    DataFrame
        The columns of `by`, n (examples), mean, low, high, sources (what noise the interval holds). Blocks in order of
        first appearance.
    """
    rows = []
    for names, part in slopes.groupby(list(by), sort=False, observed=True):
        values, labels = part["steerability"].to_numpy(), part[groups].to_numpy() if groups else None
        if vectors:
            values = part.pivot(index="vector", columns="example_id", values="steerability")
            own = part.drop_duplicates("example_id").set_index("example_id").loc[values.columns]
            labels = own[groups].to_numpy() if groups else None
        count = values.shape[-1]
        if alone and (count if labels is None else len(set(labels))) < 2:
            rows.append((*names, count, values.mean(), np.nan, np.nan, ""))
            continue
        found = stats.bootstrap(values, groups=labels, draws=draws, seed=seed)
        rows.append((*names, count, found.estimate, found.low, found.high, " and ".join(found.sources)))
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "low", "high", "sources"])


def by_range(
    grid: pd.DataFrame, widths: Sequence[float] = WIDTHS, *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Refit the steerability on the multipliers from -width to width, for each of several half widths above 0.

    Each block of the GRID table has -width and width themselves among its multipliers, for every width; otherwise the
    slope would belong to a narrower range than its name says. As in the paper's appendix the fit is a least squares
    line on the points inside the range, not a chord between its ends.

    Returns
    -------
    DataFrame
        Columns dataset, format, vector, layer, width, n, mean, low, high, the mean in score per unit multiplier, with
        the interval of `means`. Blocks in order of first appearance, widths as given.
    """
    parts = []
    for width in map(float, widths):
        _check_ends(grid, width)
        inside = grid[grid["multiplier"].abs() <= width + NEAR]
        found = means(steerability.slopes(inside), BLOCK, draws=draws, seed=seed)
        parts.append(found.drop(columns="sources").assign(width=width))
    table = pd.concat(parts, ignore_index=True)[[*BLOCK, "width", "n", "mean", "low", "high"]]
    block = table.groupby(BLOCK, sort=False, observed=True).ngroup()
    return table.iloc[np.argsort(block, kind="stable")].reset_index(drop=True)


def _check_ends(grid: pd.DataFrame, width: float) -> None:
    """Refuse blocks whose multipliers do not reach exactly to -width and width."""
    for (dataset, _, vector, layer), block in grid.groupby(BLOCK, sort=False, observed=True):
        swept = np.unique(block["multiplier"].to_numpy(dtype=np.float64))
        need(
            all(np.abs(swept - end).min() <= NEAR for end in (-width, width)),
            f"the multipliers {-width:g} and {width:g} to fit slopes within ±{width:g}",
            f"only {', '.join(f'{m:g}' for m in swept)} for {dataset} (vector {vector}, layer {layer})",
            "sweep these multipliers, ask for another width, or keep the rows of the vector "
            "'full' (resampled and random vectors run at fewer multipliers).",
            done="Nothing was fitted.",
        )


def fit_quality(slopes: pd.DataFrame, points: int = POINTS) -> pd.DataFrame:
    """The slope and the residual of every example's line, the residual in two normalisations.

    `points` counts the multipliers behind each line, which a SLOPES table does not hold. Vectors that were run at fewer
    multipliers (resampled and random ones) need a call of their own.

    Returns
    -------
    DataFrame
        Columns dataset, format, vector, layer, example_id, steerability, rmse, true_rmse. ``rmse`` is what
        the paper plots under that name: the root of the SUM of squared residuals. ``true_rmse`` is the root
        of their mean, smaller by sqrt(points). Both in units of the propensity.
    """
    residual = slopes["residual"].to_numpy(dtype=np.float64)
    found = slopes[[*BLOCK, "example_id", "steerability"]]
    found = found.assign(rmse=np.sqrt(residual), true_rmse=np.sqrt(residual / points))
    return found.reset_index(drop=True)
