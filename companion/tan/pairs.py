"""A data set as matrices over its pairs, [test, training pair], from its PRODUCTS table (`companion.tan.products`)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from companion.data.ask import Texts
from companion.tan.products import MATRICES
from steerkit.errors import need

HALVINGS = 20  # random halves, or quarters, of the pairs of a set


@dataclass(frozen=True)
class Pairs:
    """One data set of one model: `slope`, `direct` and `product` [p, p], `margin` (unsteered propensity) and `surprise`
    (negative log-probability) [p], both in nats a token, and the bags of words of the two texts of each pair."""

    dataset: str
    kind: str
    ids: tuple[str, ...]
    slope: np.ndarray
    direct: np.ndarray
    product: np.ndarray
    margin: np.ndarray
    surprise: np.ndarray
    texts: list[Texts]

    def quarters(self) -> Iterator[list[np.ndarray]]:
        """Random quarters of the pairs, `HALVINGS` times, the same for every set of a size."""
        rng = np.random.default_rng(0)
        for _ in range(HALVINGS):
            yield np.array_split(rng.permutation(len(self.ids)), 4)


def sets(table: pd.DataFrame) -> list[Pairs]:
    """Every data set of a PRODUCTS table."""
    return [_pairs(name, part) for name, part in table.groupby("dataset", sort=False)]


def _pairs(name: str, part: pd.DataFrame) -> Pairs:
    one = part.drop_duplicates("example_id")
    ids, sides = tuple(one["example_id"]), one[["matching", "not_matching"]].to_numpy()
    wide = part.pivot(index="example_id", columns="by_id", values=[*MATRICES])
    matrices = [wide[each].loc[[*ids], [*ids]].to_numpy() for each in MATRICES]
    texts = [tuple(bag.split("|")) for bag in one["words"]]
    return Pairs(name, one["kind"].iloc[0], ids, *matrices, sides @ [1, -1], -sides.mean(axis=1), texts)


def by_others(matrix: np.ndarray) -> np.ndarray:
    """Mean of each row [p, p] without its diagonal: what the mean of all other pairs does to each."""
    need(matrix.shape[0] == matrix.shape[1] > 1, "two pairs or more", str(matrix.shape), "use more pairs.")
    return (matrix.sum(axis=1) - np.diag(matrix)) / (len(matrix) - 1)


def projections(product: np.ndarray) -> np.ndarray:
    """Projection of each difference on the mean of the others, from their products [p, p]."""
    own, rest = np.diag(product), len(product) - 1
    square = (product.sum() - 2 * product.sum(axis=1) + own) / rest**2  # of that mean
    return by_others(product) / np.sqrt(square)


def agreement(product: np.ndarray) -> float:
    """Mean cosine between two differences, from the products [p, p] of all."""
    norms = np.sqrt(np.diag(product))
    return float(by_others(product / np.outer(norms, norms)).mean())
