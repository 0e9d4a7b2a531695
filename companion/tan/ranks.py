"""Rank correlations over data sets, within kinds of set: estimate, interval, p-value, and what noise leaves of them.

A gap between two kinds of set can make, hide or turn round a correlation over all of them (Simpson 1951), so ranks are
taken within strata. How high a correlation can be, when each side is a mean over few test items, follows from the
correlation of two halves of them (Spearman 1910, Brown 1910).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from steerkit import stats
from steerkit.errors import need

KINDS = ("persona", "choice")  # of the items of a set: statements, written-out options
WITHIN = "within kinds"
FEWEST = 3  # sets of a kind, or items of a set, for a rank correlation
DRAWS, SPLITS = 2000, 20  # of a bootstrap and permutations; of the test groups into random halves
NONE = dict.fromkeys(("estimate", "low", "high", "p"), np.nan)
Side = pd.DataFrame | pd.Series


def choices(kinds: pd.Series) -> dict[str, pd.Series]:
    """Strata of the sets: all in one, each kind by itself, and one kind alone."""
    there = [kind for kind in KINDS if (kinds == kind).any()]
    return {"all": kinds.map(lambda _: "all"), WITHIN: kinds} | {kind: kinds[kinds == kind] for kind in there}


def correlated(
    x: Side, y: Side, strata: Side, given: Side | None = None, draws: int = DRAWS, by_stratum: bool = False
) -> dict[str, float]:
    """Spearman's rank correlation within strata, over the entries that both sides and `strata` have: the mean over strata,
    weighted by entries.

    Of a side with several columns, measurements of the same entries, the mean correlation counts; with `given` it is the
    partial correlation of ranks, stratum by stratum. Keys n, estimate, low, high (95%: a bootstrap of entries within strata,
    with `by_stratum` a t interval over whole strata) and p, the share of permutations within strata that correlate as
    strongly, on either side. Left out are strata with fewer than three entries; where none is left, or a side is
    constant, there are NaN; without `draws`, and where a side is constant in one stratum, there is the estimate alone.
    """
    sides, names = _common([each for each in (x, y, given) if each is not None], strata)
    found = {"n": len(names), **NONE}
    if not len(names) or any((side == side[:1]).all() for side in sides[:2]):
        return found
    units = [_aligned(side, names, *sides[2:]) for side in sides[:2]]
    first, second = map(np.nan_to_num, units)
    products = (first * second).mean(axis=1)
    found["estimate"] = float(products.sum())
    if not draws or not (len({*names}) > 1 if by_stratum else np.isfinite(units).all()):
        return found
    ends = stats.mean_interval(products * len(names), names) if by_stratum else _drawn(sides, names, draws)
    home, orders = shuffles(names, draws)
    shuffled = np.abs(np.einsum("nk,dnk->d", first[home], second[orders]) / first.shape[1])
    p = (1 + (shuffled >= abs(found["estimate"]) - 1e-12).sum()) / (draws + 1)
    # A t interval over few strata may reach beyond what a correlation can be.
    low, high = np.clip([ends.low, ends.high], -1, 1)
    return found | {"low": float(low), "high": float(high), "p": float(p)}


def _drawn(sides: Sequence[np.ndarray], strata: np.ndarray, draws: int) -> stats.Interval:
    """The bootstrap: entries are drawn with replacement within strata. A stratum whose draw has no correlation, because a
    side is constant or follows from what is given, is left out of that draw."""
    rng = np.random.default_rng(0)
    weighed = np.zeros((2, draws))  # sums of correlations, and of their weights
    for label in dict.fromkeys(strata):
        part = np.flatnonzero(strata == label)
        sample = part[rng.integers(len(part), size=(len(part), draws))]
        x, y, *given = (side[sample] for side in sides)
        rho = (_units(x, *given) * _units(y, *given)).sum(axis=0).mean(axis=1)
        weighed += len(part) / len(strata) * np.where(np.isfinite(rho), [rho, np.ones(draws)], 0.0)
    sums, weights = weighed[:, weighed[1] > 0]
    return stats.percentiles(np.nan, sums / weights)


def by_column(x: Side, y: Side, strata: pd.Series) -> np.ndarray:
    """The estimates of `correlated` for columns [k] of y and those of x, or its only one; NaN where a side is constant."""
    sides, names = _common([x, y], strata)
    if not len(names):
        return np.full(sides[1].shape[1], np.nan)
    varies = np.logical_and(*(np.ptp(side, axis=0) > 0 for side in sides))
    first, second = (np.nan_to_num(_aligned(side, names)) for side in sides)
    return np.where(varies, (first * second).sum(axis=0), np.nan)


def _common(sides: Sequence[Side], strata: pd.Series) -> tuple[list[np.ndarray], np.ndarray]:
    """Values [n, k] of sides and the stratum of each of the n entries that all of them have, in strata of enough."""
    frames, labels = [pd.DataFrame(side).dropna() for side in sides], strata
    for side in frames:
        labels = labels[labels.index.isin(side.index)]
    labels = labels[labels.groupby(labels).transform("size") >= FEWEST]
    return [side.loc[labels.index].to_numpy() for side in frames], labels.to_numpy()


def _aligned(values: np.ndarray, strata: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """`_units` within strata [n, k], scaled: summed products of two sides are their stratified correlations."""
    found = np.empty(values.shape)
    for label in np.unique(strata):
        part = strata == label
        found[part] = _units(values[part], None if given is None else given[part]) * np.sqrt(part.mean())
    return found


def _units(values: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """Ranks along the first axis, without what those of `given` explain, centred and of length 1; NaN where none is left."""
    ranks = rankdata(values, axis=0) - (len(values) + 1) / 2
    if given is not None:
        held = rankdata(given, axis=0) - (len(values) + 1) / 2
        ranks = ranks - held * (held * ranks).sum(axis=0) / np.maximum((held**2).sum(axis=0), 1)
    size = np.sqrt((ranks**2).sum(axis=0))
    return np.divide(ranks, size, out=np.full(ranks.shape, np.nan), where=size > 1e-6)


def shuffles(strata: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of all entries by stratum [n], and as many orders [draws, n] in which each stratum is shuffled."""
    codes = pd.factorize(strata)[0]
    keys = codes + np.random.default_rng(0).random((draws, len(codes)))
    return np.argsort(codes, kind="stable"), np.argsort(keys, axis=1)


def halves(items: pd.DataFrame, seed: int = 0) -> tuple[dict, dict]:
    """Means of two random halves of the test groups of every set, several times.

    `items` has an index with levels dataset and group, and a column a measurement; the two dictionaries have a table
    [set, split] for each column. A set with one group only is refused.
    """
    rng, found = np.random.default_rng(seed), ({name: {} for name in items}, {name: {} for name in items})
    for dataset, part in items.groupby(level="dataset", sort=False):
        sums, sizes = part.groupby(level="group").sum(), part.groupby(level="group").size().to_numpy()
        step = "test on more groups, or leave the set out."
        need(len(sums) > 1, f"two test groups or more in {dataset}, to make halves of", "one", step)
        first = rng.permuted(np.tile(np.arange(len(sums)) < len(sums) // 2, (SPLITS, 1)), axis=1)
        for half, chosen in zip(found, (first, ~first), strict=True):
            for name in items:
                half[name][dataset] = chosen @ sums[name].to_numpy() / (chosen @ sizes)
    return tuple({name: pd.DataFrame(sets).T for name, sets in half.items()} for half in found)


def doubled(reliability: float) -> float:
    """The reliability of all items from the correlation of two halves of them (Spearman and Brown); a negative one stays."""
    return 2 * reliability / (1 + reliability) if reliability > 0 else reliability


def ceiling(*reliabilities: float) -> float:
    """The highest correlation that two noisy sides can be expected to show; 0 where one has no reliability."""
    return float(np.sqrt(np.prod(np.clip(reliabilities, 0, None))))


def ratio(values: np.ndarray) -> tuple[float, float, float]:
    """The sum of the first column over that of the second, of values [set, 2], with its interval over sets."""
    drawn = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    sums = values[drawn].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    return values[:, 0].sum() / values[:, 1].sum(), low, high
