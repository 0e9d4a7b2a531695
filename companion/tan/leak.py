"""How much a test item gains by having been trained on, on a model that steers.

The released split tests what it trained (`companion.data.splits.make_split`, "as-released"). Of its test items as many
are taken whose question was trained on (seen) as whose was not (fresh), and each half makes a vector. So every item is
steered by the vector that it is part of and by one that no item with its question is part of, and what the halves differ
in cancels. In a vector, a mean of n differences, an item has the weight 1 / n.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from companion.data.datasets import Dataset
from companion.data.splits import group_items, make_split
from steerkit.errors import need
from steerkit.stats import mean_interval

SPLIT = "as-released"
LETTERS = 12  # items of each half whose positive letter is A, and as many B
SIZES = (2 * LETTERS, 4 * LETTERS)  # items that a vector is of, and all that are tested
MULTIPLIERS = (-1.5, 0.0, 1.5)
TRAINED = 500  # training items of the released split in a file of a thousand
DATASETS = ("self-awareness-training-web-gpt", "self-awareness-general-ai", "myopic-reward")


def among(datasets: Sequence[str]) -> tuple[str, ...]:
    """Those of some data sets that are looked at."""
    found = tuple(name for name in DATASETS if name in datasets)
    need(found, f"one of {', '.join(DATASETS)}", ", ".join(datasets), "take one of these data sets.")
    return found


def halves(dataset: Dataset) -> dict[str, list[int]]:
    """Test items of the released split, indices: "seen" are training items, "fresh" ask no question of any.

    The first of each in the order of the split, as many with the positive letter A as with B.
    """
    split, group = make_split(dataset, SPLIT), group_items(dataset.items)
    train, trained = set(split.train), {group[i] for i in split.train}
    seen = [i for i in split.test if i in train]
    fresh = [i for i in split.test if group[i] not in trained]
    return {"seen": _balanced(dataset, seen), "fresh": _balanced(dataset, fresh)}


def _balanced(dataset: Dataset, part: list[int]) -> list[int]:
    by_letter = [[i for i in part if dataset.items[i].positive_letter == letter] for letter in "AB"]
    return [i for each in by_letter for i in each[:LETTERS]]


def half_of(grid: pd.DataFrame) -> dict[str, str]:
    """The half of every item of the record, "seen" or "fresh"."""
    halves = [made["inputs"]["halves"] for made in grid.attrs["manifests"]]
    return {name: half for each in halves for half, ids in each.items() for name in ids}


def effect(slopes: pd.DataFrame, half: Mapping[str, str]) -> pd.DataFrame:
    """What items gain by being part of a vector, from a SLOPES table with the column `group`: a row a data set.

    Columns dataset, n; released, the mean slope of the seen items less that of the fresh ones under the vector of the
    seen, which trained on these only, and null, the same of the same items under the other vector; gain, half of what the
    first has more, which is the mean slope of an item under its own vector less that under the other; low and high
    (95% interval over groups, the vectors given); gain_500, that of an item among `TRAINED`, whose weight is less.
    """
    rows = []
    for name, part in slopes.groupby("dataset", sort=False):
        index = ["example_id", "group"]
        wide = part.pivot(index=index, columns="vector", values="steerability").reset_index()
        seen = wide["example_id"].map(half) == "seen"
        means = wide.groupby(seen)[["seen", "fresh"]].mean()
        released, null = means.loc[True] - means.loc[False]
        gain, more = (released - null) / 2, wide["seen"] - wide["fresh"]
        around = more - more.groupby(seen).transform("mean")  # one vector may be longer than the other
        found = mean_interval(gain + around.where(seen, -around), wide["group"])
        in_500 = gain * seen.sum() / TRAINED
        rows.append((name, len(wide), released, null, gain, found.low, found.high, in_500))
    return pd.DataFrame(rows, columns="dataset n released null gain low high gain_500".split())
