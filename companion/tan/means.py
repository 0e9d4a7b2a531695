"""Mean steerability of any block of slopes, with its interval; and how far it depends on the range of multipliers.

The check is from the appendix of Tan et al. 2024 (arXiv 2407.12404): the mean refitted on the multipliers within +-0.5,
+-1 and +-1.5. Slopes that shrink as the range widens mean that the effect saturates.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from steerkit import stats, steerability
from steerkit.errors import need
from steerkit.steerability import BLOCK

WIDTHS = (0.5, 1.0, 1.5)  # the three of the paper
NEAR = 1e-9  # two multipliers closer than this are one: 0.1 + 0.2 is not 0.3


def means(slopes: pd.DataFrame, by: Sequence[str], groups: str = "", *, alone: bool = False) -> pd.DataFrame:
    """Mean steerability of every block with its 95% t interval (`steerkit.stats.mean_interval`).

    `slopes` is a SLOPES table of one vector with each example once a block, `by` the columns that tell blocks apart.
    Examples with one label in the column `groups` (minimal pairs) are not independent. With `alone` a block of one example
    or group has a mean without an interval (NaN), else it is refused. Columns: those of `by`, n (examples), mean, low,
    high; blocks in order of first appearance.
    """
    rows = []
    for names, part in slopes.groupby(list(by), sort=False, observed=True):
        values, labels = part["steerability"].to_numpy(), part[groups].to_numpy() if groups else None
        if alone and (len(values) if labels is None else len(set(labels))) < 2:
            rows.append((*names, len(values), values.mean(), np.nan, np.nan))
            continue
        found = stats.mean_interval(values, labels)
        rows.append((*names, len(values), found.estimate, found.low, found.high))
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "low", "high"])


def by_range(grid: pd.DataFrame, widths: Sequence[float] = WIDTHS) -> pd.DataFrame:
    """Refit the steerability on the multipliers from -width to width, for each of several half widths above 0.

    Each block of the GRID table has -width and width themselves among its multipliers, else the slope would belong to a
    narrower range than its name says. As in the paper's appendix the fit is a least squares line on the points inside the
    range, not a chord between its ends. Columns dataset, format, vector, layer, width, n, mean, low, high (`means`);
    blocks in order of first appearance, widths as given.
    """
    parts = []
    for width in map(float, widths):
        for (dataset, _, vector, layer), block in grid.groupby(BLOCK, sort=False, observed=True):
            swept = np.unique(block["multiplier"].to_numpy(dtype=np.float64))
            reaches = all(np.abs(swept - end).min() <= NEAR for end in (-width, width))
            expected = f"the multipliers {-width:g} and {width:g} to fit slopes within ±{width:g}"
            known = ", ".join(f"{m:g}" for m in swept)
            found = f"only {known} for {dataset} (vector {vector}, layer {layer})"
            step = "sweep these multipliers, ask for another width, or keep the rows of the vector 'full'."
            need(reaches, expected, found, step, done="Nothing was fitted.")
        inside = grid[grid["multiplier"].abs() <= width + NEAR]
        parts.append(means(steerability.slopes(inside), BLOCK).assign(width=width))
    table = pd.concat(parts, ignore_index=True)[[*BLOCK, "width", "n", "mean", "low", "high"]]
    block = table.groupby(BLOCK, sort=False, observed=True).ngroup()
    return table.iloc[np.argsort(block, kind="stable")].reset_index(drop=True)
