"""Which items train a vector and which test it.

What must not be torn apart moves as one group: the two items of a minimal pair, and items that ask the same
question (some of the papers' files repeat up to a fifth of theirs). A group is in one part of a split or in
none.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from companion.data.datasets import Dataset
from steerkit.errors import SteerkitError
from steerkit.items import Item

NAMES = ("clean", "as-released", "sweep")


@dataclass(frozen=True)
class Split:
    """Item indices of the three parts.

    Attributes
    ----------
    name : str
    train, val, test : tuple of int
        Indices into `Dataset.items`, in the shuffled order. `val` may be empty.
    group_of : tuple of int
        Group number of every item of the data set; empty where each item is its own group.

    Raises
    ------
    SteerkitError
        An empty training or test part; two parts that share a group, unless the name is "as-released".
    """

    name: str
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    group_of: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            if not getattr(self, part):
                raise SteerkitError(
                    f"items in every part of the split {self.name!r}",
                    f"none in {part}",
                    done="No split was made.",
                    next_step="use a larger data set or larger parts.",
                )
        shared = _overlap(self)
        if shared and self.name != "as-released":
            raise SteerkitError(
                f"parts of the split {self.name!r} without common items",
                f"{len(shared)} item groups in two parts",
                done="No split was made.",
                next_step="take each group once; only the split named as-released overlaps, on purpose.",
            )

    def groups(self, indices: Iterable[int]) -> list[int]:
        """Group number of each of the item `indices`."""
        return [self.group_of[i] if self.group_of else i for i in indices]


def _overlap(split: Split) -> set[int]:
    train, val, test = (set(split.groups(part)) for part in (split.train, split.val, split.test))
    return (train & val) | (train & test) | (val & test)


def make_split(dataset: Dataset, name: str = "clean", seed: int = 0) -> Split:
    """Split a data set.

    Parameters
    ----------
    dataset : Dataset
    name : str
        * "clean": 40% of the groups train, 10% val, 50% test, as the text of Tan et al. 2024 says.
        * "as-released": what their code did. The items, not groups, are shuffled with seed 0; train is the
          first half, test the items from the 50th on (its "50:100%" lacks a percent sign), so 450 of 950 test
          items were trained on. For comparison with the published numbers only.
        * "sweep": the layer sweep of their code, 0-10% train and 20-30% test, here of the groups.
    seed : int
        Of the shuffle. ``random.Random`` as in Tan et al.'s code, so a set without repeated questions is cut
        where theirs is.

    Returns
    -------
    Split

    Raises
    ------
    SteerkitError
        Unknown name; a seed other than 0 for "as-released"; too few items for every part.
    """
    if name not in NAMES:
        raise SteerkitError(f"a split ({', '.join(NAMES)})", repr(name), next_step="choose one of these.")
    if name == "as-released":
        return _as_released(len(dataset.items), seed)
    group_of = group_items(dataset.items)
    groups = _members(group_of)
    random.Random(seed).shuffle(groups)
    percent = {"clean": ((0, 40), (40, 50), (50, 100)), "sweep": ((0, 10), (0, 0), (20, 30))}[name]
    parts = [groups[start * len(groups) // 100 : end * len(groups) // 100] for start, end in percent]
    train, val, test = (tuple(index for group in part for index in group) for part in parts)
    return Split(name, train, val, test, group_of)


def _as_released(n_items: int, seed: int) -> Split:
    if seed != 0:
        raise SteerkitError("seed 0 for the split as-released", str(seed), next_step="leave the seed out.")
    order = list(range(n_items))
    random.Random(0).shuffle(order)
    return Split("as-released", tuple(order[: n_items * 50 // 100]), (), tuple(order[50:]))


def group_items(items: Sequence[Item]) -> tuple[int, ...]:
    """Group number of each item: items of one pair, or with the same question, share it.

    Numbers count from 0 in the order of the first item of each group. Whitespace, case and the order of the
    options do not make a question another one.
    """
    leader: dict[object, int] = {}  # key of a pair or a question -> first item that had it
    parent = list(range(len(items)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, item in enumerate(items):
        for key in (item.same_question_key, item.pair):
            if key is not None:
                first, second = sorted((root(leader.setdefault(key, i)), root(i)))
                parent[second] = first
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(root(i), len(numbers)) for i in range(len(items)))


def _members(group_of: Sequence[int]) -> list[list[int]]:
    members: list[list[int]] = [[] for _ in range(max(group_of, default=-1) + 1)]
    for index, group in enumerate(group_of):
        members[group].append(index)
    return members


def limit(split: Split, train: int | None = None, test: int | None = None) -> Split:
    """Keep at most the first `train` and `test` groups of a split (None: all); val stays.

    Raises
    ------
    SteerkitError
        When nothing would be left.
    """
    return replace(
        split, train=_first_groups(split, split.train, train), test=_first_groups(split, split.test, test)
    )


def _first_groups(split: Split, indices: tuple[int, ...], count: int | None) -> tuple[int, ...]:
    if count is None:
        return indices
    groups = split.groups(indices)
    kept = set(list(dict.fromkeys(groups))[: max(count, 0)])
    return tuple(index for index, group in zip(indices, groups, strict=True) if group in kept)
