"""A data set in products: what each of its pairs, as a training pair, does to each other one as a test.

Format *statement*. The slope at multiplier 0 is the product of the gradient of the test pair and the difference of the
training pair, and a vector is a mean of differences. So a few matrices [test, train] of a data set answer for every vector
that can be made of its pairs, for every test, and for all halves of both, without another run of the model:

    slope    gradient at the steered block times difference: what is measured when one steers
    direct   gradient at the last block times difference: what the unembedding alone would make of it (the logit lens,
             nostalgebraist 2020), through the final norm
    product  difference times difference: how alike the pairs are before anything is steered
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pandas as pd

from companion.data.ask import short, statement_pairs, texts_of, words, yes_no
from companion.data.datasets import load_dataset
from steerkit.errors import need
from steerkit.items import Item
from steerkit.vectors import Vectors

if TYPE_CHECKING:
    import torch

PAIRS = 40  # of each data set
MATRICES = ("slope", "direct", "product")
SIDES = ("matching", "not_matching")


@cache
def pairs_of(dataset: str, source: str, seed: int = 0) -> list[tuple[Item, Item]]:
    """At most `PAIRS` pairs (matching, other) of a data set that are `written_out`, drawn at random; three at least."""
    kept, every = written_out(load_dataset(dataset, source).items, crc32(f"{seed} {dataset}".encode()))
    step = "give more pairs whose two texts are longer than a word or two."
    need(len(kept) > 2, f"three pairs or more in {dataset}", f"{len(kept)} of {len(every)}", step)
    return random.Random(seed).sample(kept, min(PAIRS, len(kept)))


def written_out(items: Sequence[Item], seed: int) -> tuple[list[tuple[Item, Item]], list[tuple[Item, Item]]]:
    """Pairs of items without those of which an option is one or two words, or both begin with Yes or No: they differ by a
    word. And all pairs."""
    every = statement_pairs(items, np.random.default_rng(seed))
    return [pair for pair in every if not (short(texts_of(*pair)) or yes_no(texts_of(*pair)))], every


def bag(pair: tuple[Item, Item]) -> str:
    """The words of both texts of a pair, sorted, those of four letters and more as hashes: enough to count, not to read."""
    sides = [sorted(words(text)) for text in texts_of(*pair)]
    hashed = ((w if len(w) < 4 else f"{crc32(w.encode()):08x}" for w in side) for side in sides)
    return " | ".join(map(" ".join, hashed))


def table(
    differences: Vectors,
    tests: dict[str, str],
    gradients: torch.Tensor,
    last: torch.Tensor,
    scores: np.ndarray,
) -> pd.DataFrame:
    """PRODUCTS table of a data set: a row a (test pair example_id, training pair by_id), with the three products.

    `differences` [p, 1, d] are those of all pairs; of the pairs `tests`, by id with their `bag` (column words), are the
    gradients at the steered block and at the `last` one [t, d], and the unsteered scores [t, 2], columns matching and
    not_matching (nats per token).
    """
    rows, ids = differences.values[:, 0].double(), differences.names
    own = rows[[ids.index(each) for each in tests]]
    columns = {"example_id": np.repeat(list(tests), len(ids)), "by_id": np.tile(ids, len(tests))}
    for name, left in zip(MATRICES, (gradients, last, own), strict=True):
        columns[name] = (left.double() @ rows.T).numpy().ravel()
    columns |= {side: np.repeat(scores[:, i], len(ids)) for i, side in enumerate(SIDES)}
    return pd.DataFrame(columns | {"words": np.repeat(np.array(list(tests.values()), object), len(ids))})
