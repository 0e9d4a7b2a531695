"""Do vectors carry over to another prompt setting, and to another model? (Tan et al. 2024, arXiv 2407.12404)

A vector trained in one prompt setting is tested in every other; training and test in BASE is in distribution.
Settings, and the OOD SLOPES table that comes in, are those of `companion.tan.ood`, whose tables `relative` and
`cosines` belong here too. Steerability is in the unit of its answer format per unit multiplier.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from companion import published
from companion.tan.ood import CELL, MEAN, SETTINGS, checked, cosines, pairwise, refusal, relative, some
from steerkit.stats import bootstrap_mean, rank_correlation

__all__ = [
    "MEAN", "MOVED", "SAME", "SETTINGS", "between_models", "common_sets", "correlate", "correlations",
    "cosines", "paired", "pairwise", "relative", "shift_table",
]  # fmt: skip

Measure = Literal["mean", "variance"]

SAME = ("BASE", "BASE")  # in distribution
# (train, test) of figure 5; the first of the published shifts is none.
MOVED: tuple[tuple[str, ...], ...] = tuple(tuple(s.split("->")) for s in published.tan()["shifts"][1:])
MEASURES: tuple[Measure, ...] = ("mean", "variance")
KEY = ["dataset", "model", "train", "test"]
SHIFTS = [*KEY, "mean", "low", "high", "variance", "n", "format"]
CORRELATION = [
    "n", "spearman", "spearman_low", "spearman_high", "pearson", "pearson_low", "pearson_high", "reason",
]  # fmt: skip


def shift_table(slopes: pd.DataFrame, model: str, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Describe every pair of training and test setting of every data set in one row: the SHIFTS table.

    Parameters
    ----------
    slopes : DataFrame
        OOD SLOPES of one model in one answer format, one layer for each data set. Rows of random vectors are
        kept; their ``train`` is the name of the vector. Where there is a column ``group`` (minimal pairs),
        the examples of a group are drawn together.
    model : str
        Its registry name, e.g. "smollm2-135m".
    draws, seed : int
        Of the bootstrap over test examples. Every cell starts from the seed, so that cells with the same
        examples draw the same ones.

    Returns
    -------
    DataFrame
        dataset, model, train, test, mean with its 95% interval low and high (NaN with a single example or
        group), variance (divided by n), n (examples) and format.

    Raises
    ------
    SteerkitError
        Missing columns, no rows, unknown settings or vectors, several formats or layers, repeated examples, a
        slope that is not finite.
    """
    table = []
    for (dataset, train, test), part in checked(slopes).groupby(CELL, sort=False):
        part = part.sort_values("example_id")
        values = part["steerability"].to_numpy(dtype=np.float64)
        groups = part["group" if "group" in part else "example_id"].to_numpy()
        low = high = np.nan
        if len(set(groups)) > 1:
            interval = bootstrap_mean(values, np.random.default_rng(seed), draws, groups=groups)
            low, high = interval.low, interval.high
        row = (dataset, model, train, test, values.mean(), low, high, values.var(), len(values))
        table.append((*row, part["format"].iloc[0]))
    return pd.DataFrame(table, columns=SHIFTS)


def correlations(shifts: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Correlate steerability in distribution with that under each published shift, over data sets (figure 5).

    Parameters
    ----------
    shifts : DataFrame
        A SHIFTS table of one or more models; that of `companion.published.shifts` will do.
    draws, seed : int
        Of the bootstrap over data sets.

    Returns
    -------
    DataFrame
        One row for each model, shift and measure ("mean" and "variance" of the slopes of a data set): model,
        train, test, measure, n (data sets with both values), spearman, spearman_low, spearman_high, pearson,
        pearson_low, pearson_high (95% intervals), and reason: why they are NaN (one side constant, or nothing
        measured), else empty.

    Raises
    ------
    SteerkitError
        One or two data sets; no model with BASE->BASE and a published shift; repeated or infinite values.
    """
    rows = []
    for model, measure, shift in ((m, k, s) for m in _models(shifts) for k in MEASURES for s in MOVED):
        both = paired(shifts, (model, *SAME), (model, *shift), measure)
        if 0 < len(both) < 3:
            raise refusal(
                "three data sets or more for a correlation",
                f"{len(both)} with {measure}s of {model} in BASE->BASE and in {'->'.join(shift)}",
                "run more data sets, or leave this model out.",
            )
        rows.append((model, *shift, measure, *correlate(both, draws, seed)))
    table = pd.DataFrame(rows, columns=["model", "train", "test", "measure", *CORRELATION])
    if not table["n"].any():
        found = f"only {some(shifts['train'] + '->' + shifts['test'])}"
        raise refusal("BASE->BASE and one of the published shifts", found, "run the prompt settings first.")
    return table


def between_models(
    shifts: pd.DataFrame, train: str, test: str, measure: Measure = "mean", draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Rank-correlate the steerability of every two models over the data sets that all models have (figure 6).

    Parameters
    ----------
    shifts : DataFrame
        A SHIFTS table of two or more models, whatever their units: ranks do not depend on them.
    train, test : str
        The shift, e.g. "BASE" and "BASE".
    measure : {"mean", "variance"}
        Of the slopes of a data set.
    draws, seed : int
        Of the bootstrap over data sets.

    Returns
    -------
    DataFrame
        One row a pair, in the order of the table: first, second, spearman, low, high (95% interval), n, and
        reason (why they are NaN, else empty). ``attrs["left_out"]`` lists models without a value for the
        shift.

    Raises
    ------
    SteerkitError
        Fewer than two models with values, fewer than three common data sets, repeated or infinite values.
    """
    wide = common_sets(shifts, train, test, measure)
    rows = []
    for first, second in combinations(wide.columns, 2):
        found = correlate(wide[[first, second]].set_axis(["x", "y"], axis=1), draws, seed)
        rows.append((first, second, *found[["spearman", "spearman_low", "spearman_high", "n", "reason"]]))
    table = pd.DataFrame(rows, columns=["first", "second", "spearman", "low", "high", "n", "reason"])
    table.attrs["left_out"] = [model for model in _models(shifts) if model not in wide]
    return table


def common_sets(shifts: pd.DataFrame, train: str, test: str, measure: Measure = "mean") -> pd.DataFrame:
    """One column a model, one row a data set that all of them have; errors as :func:`between_models`."""
    rows = _unique(shifts).query("train == @train and test == @test")
    wide = rows.pivot(index="dataset", columns="model", values=measure).dropna(axis=1, how="all")
    wide = wide[[model for model in _models(shifts) if model in wide]].dropna()
    if len(wide.columns) < 2 or len(wide) < 3:
        raise refusal(
            f"two models or more with {measure}s for {train}->{test} on three common data sets or more",
            f"{len(wide.columns)} ({', '.join(wide.columns) or 'none'}) on {len(wide)}",
            "run another model, or add the published rows (companion.published.shifts).",
        )
    return wide


def correlate(both: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.Series:
    """Spearman and Pearson of the columns x and y over data sets: one row of :func:`correlations`.

    Returns
    -------
    Series
        n, spearman, spearman_low, spearman_high, pearson, pearson_low, pearson_high (95% intervals), reason
        (why all are NaN: fewer than three data sets, or a constant side; else empty).
    """
    x, y = both["x"].to_numpy(), both["y"].to_numpy()
    flat = [side for side, values in (("first", x), ("second", y)) if len(values) and np.ptp(values) == 0]
    reason = f"{' and '.join(flat)} side constant" if flat else ""
    if len(both) < 3:
        reason = "fewer than three data sets" if len(both) else "not measured"
    if reason:
        return pd.Series(dict(zip(CORRELATION, (len(both), *[np.nan] * 6, reason), strict=True)))
    ranks = rank_correlation(x, y, np.random.default_rng(seed), draws)
    sample = np.random.default_rng(seed).integers(len(x), size=(len(x), draws))
    low, high = np.nanquantile(_pearson(x[sample], y[sample]), [0.025, 0.975])
    pearson = (float(_pearson(x[:, None], y[:, None])[0]), float(low), float(high))
    values = (len(both), ranks.estimate, ranks.low, ranks.high, *pearson, "")
    return pd.Series(dict(zip(CORRELATION, values, strict=True)))


def paired(
    shifts: pd.DataFrame, first: tuple[str, str, str], second: tuple[str, str, str], measure: Measure
) -> pd.DataFrame:
    """The data sets that have both values: index dataset (sorted), columns x (first) and y (second).

    ``first`` and ``second`` are (model, train, test). Either side may be empty, and then all is.
    """
    values = _unique(shifts).set_index(["model", "train", "test", "dataset"])[measure].dropna()
    sides = []
    for key in (first, second):
        chosen = np.all([values.index.get_level_values(i) == name for i, name in enumerate(key)], axis=0)
        sides.append(values[chosen].droplevel([0, 1, 2]))
    return pd.concat(sides, axis=1, keys=["x", "y"], join="inner").sort_index()


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation of each column of x and y [n, draws]; NaN where a column is constant."""
    varies = (np.ptp(x, axis=0) > 0) & (np.ptp(y, axis=0) > 0)  # centred, a constant may be 1e-17 and not 0
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.divide((x * y).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=varies)


def _models(shifts: pd.DataFrame) -> list[str]:
    return list(shifts["model"].unique())


def _unique(shifts: pd.DataFrame) -> pd.DataFrame:
    """The table itself, when it has the columns, each key once and no infinite values."""
    missing = [name for name in (*KEY, *MEASURES) if name not in shifts]
    if missing:
        raise refusal("a SHIFTS table", f"no {', '.join(missing)}", "make it with shift_table.")
    twice = shifts.duplicated(KEY)
    infinite = np.isinf(shifts[list(MEASURES)].to_numpy(dtype=np.float64)).any(axis=1)
    if twice.any() or infinite.any():
        row = "/".join(shifts.loc[twice | infinite, KEY].iloc[0])
        found = f"{twice.sum()} repeated and {infinite.sum()} infinite rows, first {row}"
        raise refusal(f"each {', '.join(KEY)} once, with finite values", found, "rename one of the models.")
    return shifts
