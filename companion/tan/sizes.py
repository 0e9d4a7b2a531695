"""How many training and test pairs a steerability needs, as registered in `how-many.yaml`.

The slope of test pair i under the difference of training pair j is a mean of the set, an effect of i, one of j and a rest,
all random: a two-way design, from which the error of any number of either follows (generalisability theory, Cronbach et
al. 1972). Mean products of two entries that share a row, a column, both or neither estimate the components without bias.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from companion.tan import pairs
from steerkit.errors import need

SIZES = (5, 10, 20, 40, 80, 160, 320)
ENOUGH, WITHIN = 0.9, 1.5
PARTS = ("training", "test", "rest")


def components(slope: np.ndarray) -> dict[str, float]:
    """Variance components of slopes [test, training pair] off the diagonal: training, test, rest; and the squared mean."""
    n = len(slope)
    need(n > 3, "four pairs or more", str(n), "use more pairs.")
    off = np.where(np.eye(n, dtype=bool), 0.0, slope)
    rows, columns, squares = off.sum(axis=1), off.sum(axis=0), (off**2).sum()
    same_test = ((rows**2).sum() - squares) / (n * (n - 1) * (n - 2))
    same_training = ((columns**2).sum() - squares) / (n * (n - 1) * (n - 2))
    apart = off.sum() ** 2 - (rows**2).sum() - (columns**2).sum() - 2 * (rows @ columns)
    apart = (apart + squares + (off * off.T).sum()) / (n * (n - 1) * (n - 2) * (n - 3))
    rest = squares / (n * (n - 1)) - same_test - same_training + apart
    return {"training": same_training - apart, "test": same_test - apart, "rest": rest, "square": apart}


def error(parts: Mapping[str, float] | pd.DataFrame, train: Any, test: Any) -> Any:
    """Variance of a mean over `train` training and `test` other test pairs."""
    return parts["training"] / train + parts["test"] / test + parts["rest"] / (train * test)


def of_sets(table: pd.DataFrame) -> pd.DataFrame:
    """`components` of every set of a PRODUCTS table, with dataset, kind and mean; and from ten-by-ten quarters of the
    pairs, shown (half the squared difference of two means that share no pair), and one and other, those means."""
    rows = []
    for each in pairs.sets(table):
        blocks = ((np.ix_(a, b), np.ix_(c, d)) for a, b, c, d in each.quarters())  # [test, training pair]
        means = np.array([[each.slope[one].mean() for one in both] for both in blocks])
        row = {"dataset": each.dataset, "kind": each.kind, "mean": pairs.by_others(each.slope).mean()}
        row |= components(each.slope) | {"shown": (np.diff(means) ** 2).mean() / 2}
        rows.append(row | {"one": means[:, 0], "other": means[:, 1]})
    return pd.DataFrame(rows)


def between(found: pd.DataFrame) -> float:
    """Variance of the sets' true means within kinds: the covariance of two measurements that share no pair."""
    one, other = (np.stack(found[side].to_list()) for side in ("one", "other"))
    total = 0.0
    for _, index in found.groupby("kind").indices.items():
        for x, y in zip(one[index].T, other[index].T, strict=True):
            total += np.cov(x, y)[0, 1] * len(index)
    return total / len(found) / one.shape[1]


def reliability(found: pd.DataFrame) -> pd.DataFrame:
    """Reliability of the order of sets by numbers of training and test pairs, from `of_sets` of one model.

    Columns train, test, reliability (the square of a measured order's correlation with the true one) and error (standard
    error of a set's mean, nats per token, root mean square over sets).
    """
    true, parts = between(found), found[[*PARTS]].mean()
    sizes = pd.DataFrame(product(SIZES, SIZES), columns=["train", "test"])
    noise = error(parts, sizes["train"], sizes["test"])
    return sizes.assign(reliability=true / (true + noise), error=np.sqrt(noise.clip(lower=0)))


def check(found: pd.DataFrame, size: int = 10) -> float:
    """The error of quarters over the one that the components say, as the ratio of their sums over sets."""
    return float(found["shown"].sum() / error(found, size, size).sum())


def shares(table: pd.DataFrame, sizes: Sequence[int] = (5, 10, 20)) -> pd.DataFrame:
    """The error of the anti-steerable share, by as many training as other test pairs: size, error (standard deviation
    over draws, root mean square over sets) and error_all (the same where the vector is that of all other pairs)."""
    rows = []
    for size in sizes:
        squares = []
        for found in pairs.sets(table):
            rng, count = np.random.default_rng(0), len(found.ids)
            need(2 * size <= count, f"{2 * size} pairs in {found.dataset}", str(count), "ask for fewer.")
            backwards, drawn = pairs.by_others(found.slope) < 0, []
            for train, test in (np.split(rng.permutation(count)[: 2 * size], 2) for _ in range(100)):
                moved = found.slope[np.ix_(test, train)].mean(axis=1)
                drawn.append(((moved < 0).mean(), backwards[test].mean()))
            squares.append(np.var(drawn, axis=0))
        rows.append((size, *np.sqrt(np.mean(squares, axis=0))))
    return pd.DataFrame(rows, columns=["size", "error", "error_all"])


def enough(tables: Sequence[pd.DataFrame]) -> int | None:
    """The least number of training and of test pairs at which every model's `reliability` is above `ENOUGH`."""
    same = [table[table["train"] == table["test"]].set_index("train")["reliability"] for table in tables]
    return next((size for size in SIZES if all(one[size] > ENOUGH for one in same)), None)
