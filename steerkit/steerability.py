"""Per-sample steerability: the slope of propensity on the multiplier (Tan et al. 2024, arXiv 2407.12404).

For one example with propensities ``y_k`` at multipliers ``m_k`` the ordinary least squares slope is
``sum_k w_k y_k`` with ``w_k = (m_k - mean(m)) / sum_k (m_k - mean(m))**2``. The weights depend on the
multipliers only, so all examples that share a set of multipliers are fitted by one matrix product.
"""

import numpy as np
import pandas as pd

from steerkit.errors import need

BLOCK = ["dataset", "format", "vector", "layer"]  # the rows of `summary`; one set of multipliers in each
ITEM = [*BLOCK, "example_id"]  # one fitted line
LABELS = ["positive_letter", "positive_answer"]
SCORES = ["propensity", "matching", "not_matching"]
FITTED = ["steerability", "residual", "matching_slope", "not_matching_slope", "baseline"]
SLOPES = ["dataset", "example_id", "format", *LABELS, "vector", "layer", *FITTED]


def slopes(grid: pd.DataFrame) -> pd.DataFrame:
    """Fit one line per example, vector and layer: the SLOPES table of a GRID table.

    `grid` is `Grid.table`, or several of them; within one dataset, format, vector and layer all examples have the same
    multipliers. Each example, vector and layer is one row, in the order of first appearance. ``steerability``,
    ``matching_slope`` and ``not_matching_slope`` are score (logits, or nats per token) per unit multiplier, the first
    being the difference of the other two; ``residual`` is the sum of squared residuals of the propensity; ``baseline``
    is the propensity at multiplier 0, NaN where there is none.
    """
    _check_values(grid)
    ordered = grid.assign(item=_codes(grid, ITEM)).sort_values(["item", "multiplier"], ignore_index=True)
    block = _codes(ordered, BLOCK)
    sets = [tuple(np.sort(found)) for found in ordered["multiplier"].groupby(block).unique()]
    fits = [_fit(part) for _, part in ordered.groupby(pd.factorize(pd.Series(sets))[0][block])]
    return pd.concat(fits).sort_values("item")[SLOPES].reset_index(drop=True)


def anti_steerable_fraction(steerability: np.ndarray) -> float:
    """The share of slopes [p] that are zero or negative; a NaN, which would pass for steerable, is refused."""
    values = np.asarray(steerability, dtype=np.float64)
    missing = int(np.isnan(values).sum())
    found = f"{values.size} slopes, {missing} of them NaN"
    mend = "compute the slopes with steerkit.steerability.slopes, which refuses NaN propensities."
    need(values.size > missing == 0, "at least one slope and no NaN among them", found, mend)
    return float(np.mean(values <= 0))


def summary(slopes: pd.DataFrame) -> pd.DataFrame:
    """Describe the slopes of each dataset, format, vector and layer in one row.

    n, mean, median, variance (divided by n, not n - 1), anti_steerable (share with slope <= 0) and mean_residual.
    ``mean`` is the steerability of the data set: by linearity it equals the slope of the mean propensity curve (Tan et
    al. 2024).
    """
    expected, step = "a table of slopes", "make it of a grid's table with steerkit.slopes."
    need("steerability" in slopes, expected, f"columns {', '.join(map(str, slopes.columns))}", step)
    blocks = slopes.groupby(BLOCK, sort=False, dropna=False, observed=True)
    table = blocks.agg(
        n=("steerability", "size"),
        mean=("steerability", "mean"),
        median=("steerability", "median"),
        variance=("steerability", lambda values: np.var(values.to_numpy(dtype=np.float64))),
        anti_steerable=("steerability", anti_steerable_fraction),
        mean_residual=("residual", "mean"),
    )
    return table.reset_index()


def _codes(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Number the distinct values of the columns by first appearance (examples need not be sortable)."""
    return table.groupby(columns, sort=False, dropna=False, observed=True).ngroup().to_numpy()


def _fit(part: pd.DataFrame) -> pd.DataFrame:
    """Fit all lines that share one set of multipliers; rows sorted by item, then multiplier."""
    multipliers = np.unique(part["multiplier"].to_numpy(dtype=np.float64))
    _check_multipliers(part, multipliers)
    k = len(multipliers)
    scores = {name: part[name].to_numpy(dtype=np.float64).reshape(-1, k) for name in SCORES}  # each [p, k]
    centred = multipliers - multipliers.mean()
    weights = centred / (centred @ centred)
    # The rows are centred before the fit: a large offset would cost digits in the squared residuals.
    propensity = scores["propensity"] - scores["propensity"].mean(axis=1, keepdims=True)
    slope = propensity @ weights
    zero = np.flatnonzero(multipliers == 0)
    return part.iloc[::k].assign(
        steerability=slope,
        residual=np.square(propensity - np.outer(slope, centred)).sum(axis=1),
        matching_slope=scores["matching"] @ weights,
        not_matching_slope=scores["not_matching"] @ weights,
        baseline=scores["propensity"][:, zero[0]] if zero.size else np.nan,
    )


def _check_values(grid: pd.DataFrame) -> None:
    missing = [name for name in [*ITEM, *LABELS, "multiplier", *SCORES] if name not in grid.columns]
    found = f"{len(grid)} rows, missing columns: {', '.join(missing) or 'none'}"
    whole, expected = not missing and not grid.empty, "a grid with at least one row and all GRID columns"
    need(whole, expected, found, "pass the table that steerkit sweep writes.")
    bad = grid[~np.isfinite(grid[["multiplier", "propensity"]].to_numpy(dtype=np.float64)).all(axis=1)]
    first = (bad if len(bad) else grid).iloc[:1]
    propensity, multiplier = first[["propensity", "multiplier"]].to_numpy(dtype=np.float64)[0]
    found = f"propensity {propensity:g} at multiplier {multiplier:g} for {_name(first)}"
    mend = "run the model in bfloat16 or float32 (float16 overflows), or lower the multipliers."
    need(bad.empty, "a finite propensity at every multiplier", f"{found} ({len(bad)} such rows)", mend)


def _check_multipliers(part: pd.DataFrame, multipliers: np.ndarray) -> None:
    """The same multipliers for every item, at least two, and labels that do not change between them."""
    shown, first = _listed(multipliers), part[part["item"] == part["item"].iloc[0]]
    amount = "one multiplier" if len(first) == 1 else f"{len(first)} equal multipliers"
    found = f"{amount} ({shown}) for {_name(first)}"
    mend = "sweep at least two multipliers, e.g. -1.5 and 1.5."
    need(len(multipliers) > 1, "at least two different multipliers to fit a slope", found, mend)
    counts = part.groupby("item")["multiplier"].agg(["size", "nunique"])
    uneven = counts.index[(counts != len(multipliers)).any(axis=1)]
    rows = part[part["item"].isin(uneven[:1])] if len(uneven) else first
    found = f"multipliers {_listed(rows['multiplier'])} for {_name(rows)} ({len(uneven)} such examples)"
    mend = "sweep the missing multipliers, or drop the repeated rows before fitting."
    need(not len(uneven), f"each of the multipliers {shown} once per example", found, mend)
    labelled = part.drop_duplicates(["item", *LABELS])
    changing = labelled[labelled["item"].duplicated(keep=False)]
    found = f"labels that change between multipliers for {_name(changing if len(changing) else first)}"
    mend = "give the two presentations of an example different example_ids."
    need(changing.empty, "one positive letter and one positive answer per example", found, mend)


def _listed(multipliers: np.ndarray | pd.Series) -> str:
    return ", ".join(f"{each:g}" for each in multipliers)


def _name(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    return f"example {row['example_id']} of {row['dataset']} (vector {row['vector']}, layer {row['layer']})"
