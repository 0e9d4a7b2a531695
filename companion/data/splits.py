"""Which items train a vector and which test it.

The two items of a minimal pair, and items that ask the same question, are one group, in one part of a split or in none.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from companion.data.datasets import Dataset
from companion.data.forms import OTHER
from steerkit.errors import need, one_of
from steerkit.items import Item

NAMES = ("clean", "as-released", "sweep")


@dataclass(frozen=True)
class Split:
    """Item indices of the three parts, in the shuffled order; `val` may be empty.

    `group_of` is the group number of every item; empty where each item is its own group. An empty training or test part
    is refused, and so are two parts that share a group, unless the name is "as-released".
    """

    name: str
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    group_of: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        step, done = "use a larger data set or larger parts.", "No split was made."
        for part in ("train", "test"):
            expected = f"items in every part of the split {self.name!r}"
            need(getattr(self, part), expected, f"none in {part}", step, done)
        train, val, test = (set(self.groups(part)) for part in (self.train, self.val, self.test))
        shared = (train & val) | (train & test) | (val & test)
        expected = f"parts of the split {self.name!r} without common items"
        found = f"{len(shared)} item groups in two parts"
        step = "take each group once; only the split named as-released overlaps, on purpose."
        need(not shared or self.name == "as-released", expected, found, step, done)

    def groups(self, indices: Iterable[int]) -> list[int]:
        """Group number of each of the item `indices`."""
        return [self.group_of[i] if self.group_of else i for i in indices]

    def turns(self, labels: Sequence[Hashable]) -> dict[int, int]:
        """How many groups with the same labels stand before each group, within its part."""
        found = {}
        for part in (self.train, self.val, self.test):
            of, seen = defaultdict(set), Counter()
            for index, group in zip(part, self.groups(part), strict=True):
                of[group].add(labels[index])
            for group, kinds in of.items():
                found[group] = seen[frozenset(kinds)]
                seen[frozenset(kinds)] += 1
        return found


def make_split(dataset: Dataset, name: str = "clean", seed: int = 0) -> Split:
    """Split a data set; `seed` is of the shuffle (``random.Random``, as in Tan et al.'s code).

    * "clean": 40% of the groups train, 10% val, 50% test, as the text of Tan et al. 2024 says.
    * "as-released": what their code did. The items, not groups, are shuffled with seed 0; train is the first half, test
      the items from the 50th on (its "50:100%" lacks a percent sign), so 450 of 950 test items were trained on.
    * "sweep": the layer sweep of their code, 0-10% train and 20-30% test, here of the groups.
    """
    one_of("a split", name, NAMES)
    if name == "as-released":
        need(seed == 0, "seed 0 for the split as-released", str(seed), "leave the seed out.")
        order = list(range(len(dataset.items)))
        random.Random(0).shuffle(order)
        return Split(name, tuple(order[: len(order) * 50 // 100]), (), tuple(order[50:]))
    group_of, members = group_items(dataset.items), defaultdict(list)
    for index, group in enumerate(group_of):
        members[group].append(index)
    groups = list(members.values())
    random.Random(seed).shuffle(groups)
    percent = {"clean": ((0, 40), (40, 50), (50, 100)), "sweep": ((0, 10), (0, 0), (20, 30))}[name]
    parts = [groups[start * len(groups) // 100 : end * len(groups) // 100] for start, end in percent]
    train, val, test = (tuple(index for group in part for index in group) for part in parts)
    return Split(name, train, val, test, group_of)


def group_items(items: Sequence[Item]) -> tuple[int, ...]:
    """Group number of each item, from 0: items of one pair, or with the same question, share it.

    Whitespace, case and the order of the options do not make a question another one.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first: dict[object, int] = {}  # key of a pair or a question -> first item that had it
    keys = [(i, key) for i, item in enumerate(items) for key in (item.same_question_key, item.pair)]
    links = [(i, first.setdefault(key, i)) for i, key in keys if key is not None]
    ends = np.reshape(links, (-1, 2)).T.astype(int)
    graph = coo_array((np.ones(len(links)), ends), (len(items), len(items)))
    return tuple(connected_components(graph, directed=False)[1].tolist())


def groups_of(dataset: Dataset, example_ids: Sequence[str]) -> list[int]:
    """Group of each example: two items of one pair, or of one question, are not independent."""
    numbers = dict(zip((item.id for item in dataset.items), group_items(dataset.items), strict=True))
    return [numbers[item_id(example_id)] for example_id in example_ids]


def item_id(example_id: str) -> str:
    """The item that an example asks."""
    return example_id.removesuffix(OTHER)


def limit(
    split: Split, train: int | None = None, test: int | None = None, labels: Sequence[Hashable] | None = None
) -> Split:
    """Keep at most the first `train` and `test` groups of a split (None: all); val stays.

    With `labels`, one an item, the kept groups take turns: as many of one label as of another while there are any. The
    first of a file can be Yes far more often than No, and then a vector points to the word.
    """
    turns = split.turns(labels) if labels else {}

    def first(indices: tuple[int, ...], count: int | None) -> tuple[int, ...]:
        groups = split.groups(indices)
        order = sorted(dict.fromkeys(groups), key=lambda group: turns.get(group, 0))
        kept = set(order[: None if count is None else max(count, 0)])
        return tuple(index for index, group in zip(indices, groups, strict=True) if group in kept)

    return replace(split, train=first(split.train, train), test=first(split.test, test))
