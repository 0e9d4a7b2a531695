"""What labels drawn by a coin leave of the labels: two models on the same pairs, from their PRODUCTS tables.

A coin for each of p pairs leaves p^-1/2 of the mean difference on average, and a vector is scaled to the norm of that of the
true labels, which is more than what chance leaves of p differences; so some of what the labels say stays in it. Where
exactly half of the pairs are exchanged, nothing does.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from companion.tan import pairs
from companion.tan.pairs import Pairs
from companion.tan.ranks import by_column, correlated

DRAWS = 99
COIN, HALF = "a coin for each pair", "half of the pairs exchanged"


def signs(count: int, labels: str, draws: int = DRAWS) -> np.ndarray:
    """Whether each of `count` pairs keeps its label, 1 or -1, [draws, count]; the same for every set of a size."""
    rng, half = np.random.default_rng(0), np.where(np.arange(count) < count // 2, 1, -1)
    if labels == COIN:
        return rng.choice([-1, 1], size=(draws, count))
    return rng.permuted(np.tile(half, (draws, 1)), axis=1)


def moved(found: Pairs, signs: np.ndarray) -> np.ndarray:
    """Mean slope of a set's tests under vectors of pairs with these signs [v, p], each scaled to the norm of their mean
    difference, [v]; no pair tests a vector that it is in."""
    count, product = len(found.ids), found.product
    column = (found.slope.sum(axis=0) - np.diag(found.slope)) / (count * (count - 1))
    return signs @ column * np.sqrt(product.sum() / np.einsum("vp,pq,vq->v", signs, product, signs))


def agreement(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rank correlations within kinds of how far vectors move the sets in two models, a row a way of drawing labels.

    Columns labels, first, second, sets, vector (of the true labels), agree, low and high (one drawn vector a set, whichever
    way it moves it, the same labels in both models: median and nine in ten), size_agree (of the mean over draws of how
    far), size (that mean over the vector's own, median over sets and models), and kept (share of the variance over draws
    that the share of true labels explains, mean over sets and models).
    """
    every = [pairs.sets(table) for table in tables.values()]
    kinds, rows = pd.Series({one.dataset: one.kind for one in every[0]}), []
    own = ({one.dataset: moved(one, np.ones((1, len(one.ids))))[0] for one in sets} for sets in every)
    true = [*map(pd.Series, own)]
    for labels in (COIN, HALF):
        drawn, kept = [], []
        for sets in every:
            ways = [signs(len(one.ids), labels) for one in sets]
            far = {one.dataset: moved(one, way) for one, way in zip(sets, ways, strict=True)}
            drawn.append(pd.DataFrame(far).T.abs())
            both = zip((way.mean(axis=1) for way in ways), far.values(), strict=True)
            kept += [np.corrcoef(x, y)[0, 1] ** 2 if np.ptp(x) > 0 else 0.0 for x, y in both]
        sizes = [each.mean(axis=1) for each in drawn]
        row = dict(zip(("labels", "first", "second"), (labels, *tables), strict=True)) | {"sets": len(kinds)}
        row["vector"] = correlated(*true, kinds, draws=0)["estimate"]
        found = np.quantile(by_column(*drawn, kinds), [0.5, 0.05, 0.95])
        row |= dict(zip(("agree", "low", "high"), found, strict=True))
        row["size_agree"] = correlated(*sizes, kinds, draws=0)["estimate"]
        row["size"] = pd.concat([far / own.abs() for far, own in zip(sizes, true, strict=True)]).median()
        rows.append(row | {"kept": float(np.mean(kept))})
    return pd.DataFrame(rows)
