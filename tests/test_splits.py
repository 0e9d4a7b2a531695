"""Splits: sizes, groups that stay together, the released overlap, and refusals."""

import random

import pytest
from conftest import refused

from companion.data.datasets import Dataset
from companion.data.splits import Split, group_items, limit, make_split
from steerkit.items import Item


def persona(i: int, question: str | None = None, pair: int | None = None) -> Item:
    return Item(f"d/{i:04d}", question or f"question {i}", " Yes", " No", statement=str(i), pair=pair)


def choice(i: int, stem: str, *options: str) -> Item:
    listed = tuple(zip("AB", options, strict=True))
    return Item(f"d/{i:04d}", "as listed", "(A)", "(B)", stem=stem, options=listed)


def dataset(items) -> Dataset:
    return Dataset("d", tuple(items), "made here", "", "none")


def singles(n: int) -> Dataset:
    return dataset(persona(i) for i in range(n))


def pairs(n: int) -> Dataset:
    return dataset(persona(i, pair=i // 2) for i in range(2 * n))


class TestClean:
    @pytest.mark.parametrize("sizes", [(400, 100, 500), (187, 47, 234), (326, 82, 409)])
    def test_the_parts_are_40_10_and_50_percent_with_floor_division(self, sizes):
        split = make_split(singles(n := sum(sizes)))
        assert tuple(map(len, (split.train, split.val, split.test))) == sizes
        order = list(range(n))  # without repeats that of the paper's shuffle
        random.Random(0).shuffle(order)
        assert split.train + split.val + split.test == tuple(order)
        assert make_split(singles(n), seed=1) != split == make_split(singles(n))

    @pytest.mark.parametrize("name", ["clean", "sweep"])
    def test_a_pair_and_a_repeated_question_are_never_torn_apart(self, name):
        split = make_split(pairs(60), name)
        assert name == "sweep" or [len(split.train), len(split.val), len(split.test)] == [48, 12, 60]
        for part in (split.train, split.val, split.test):
            assert {i ^ 1 for i in part} == set(part)  # items 2p and 2p+1 are partners
        questions = [f"question {i % 70}" for i in range(200)]
        items = [persona(i, q if i % 2 else f" {q.title()} ") for i, q in enumerate(questions)]
        split = make_split(dataset(items), name)
        train, val, test = ({questions[i] for i in part} for part in (split.train, split.val, split.test))
        assert not (train & val or train & test or val & test)


class TestAsReleased:
    def test_450_of_950_test_items_were_also_trained_on_and_groups_are_ignored(self):
        split = make_split(singles(1000), "as-released")
        assert (len(split.train), len(split.val), len(split.test)) == (500, 0, 950)
        assert len(set(split.train) & set(split.test)) == 450
        order = list(range(120))
        random.Random(0).shuffle(order)
        split = make_split(pairs(60), "as-released")
        assert split.train == tuple(order[:60]) and split.test == tuple(order[50:])

    @pytest.mark.parametrize(("n", "tested"), [(468, 418), (934, 884), (817, 767), (1080, 1030), (120, 70)])
    def test_the_published_test_sizes_come_out(self, n, tested):
        assert len(make_split(singles(n), "as-released").test) == tested


def test_for_the_sweep_a_tenth_trains_and_a_tenth_after_a_gap_tests():
    order = list(range(1000))
    random.Random(0).shuffle(order)
    split = make_split(singles(1000), "sweep")
    assert (split.train, split.val, split.test) == (tuple(order[:100]), (), tuple(order[200:300]))


def test_a_limit_counts_groups_and_keeps_the_first():
    split, released = make_split(pairs(60)), make_split(pairs(60), "as-released")
    cut = limit(split, train=5, test=7)
    assert cut.train == split.train[:10] and cut.test == split.test[:14] and cut.val == split.val
    assert limit(split) == split == limit(split, train=999, test=999)
    assert limit(released, train=5, test=7).train == released.train[:5]  # which knows no groups


SHARED = ["q0", "same", "q2", "same", "q4", "q5"]


@pytest.mark.parametrize(
    ("items", "groups"),
    [
        ([persona(0, "Why  not?"), persona(1, "who?"), persona(2, "why\nNOT? ")], (0, 1, 0)),
        ([choice(0, "x?", "a", "b"), choice(1, "X?", "b", "A"), choice(2, "x?", "a", "c")], (0, 0, 1)),
        ([persona(i, q, i // 2) for i, q in enumerate(SHARED)], (0, 0, 0, 0, 1, 1)),
        ([persona(i, q, p) for i, (q, p) in enumerate(zip("abccb", (0, 1, 2, 0, 2), strict=True))], (0,) * 5),
    ],
    ids="spaces and case,order of options,pairs that share a question,links found late".split(","),
)
def test_what_does_not_make_another_question_makes_no_other_group(items, groups):
    assert group_items(items) == groups


@pytest.mark.parametrize(
    ("call", "expected", "found"),
    [
        (lambda: make_split(singles(9), "sweep"), "every part of the split 'sweep'", "none in train"),
        (lambda: make_split(singles(0)), "every part of the split 'clean'", "none in train"),
        (lambda: make_split(singles(50), "as-released"), "every part", "none in test"),
        (lambda: make_split(singles(100), "as-released", 1), "seed 0 for the split as-released", "1"),
        (lambda: limit(make_split(pairs(60)), train=0), "every part", "none in train"),
        (lambda: limit(make_split(pairs(60)), test=0), "every part", "none in test"),
        (lambda: Split("m", (0,), (), (1,), group_of=(0, 0)), "'m' without", "1 item groups in two parts"),
    ],
)
def test_what_is_no_split_is_refused(call, expected, found):
    error = refused(call)
    assert expected in error.expected and error.found == found
