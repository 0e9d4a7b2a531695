"""Splits: sizes, groups that stay together, the released overlap, and refusals."""

from __future__ import annotations

import random

import pytest

from companion.data.datasets import Dataset
from companion.data.splits import Split, group_items, limit, make_split
from steerkit.errors import SteerkitError
from steerkit.items import Item


def refused(call) -> SteerkitError:
    """The error that a call ends with."""
    with pytest.raises(SteerkitError) as found:
        call()
    return found.value


def persona(i: int, question: str | None = None, pair: int | None = None) -> Item:
    return Item(f"d/{i:04d}", question or f"question {i}", " Yes", " No", statement=str(i), pair=pair)


def choice(i: int, stem: str, *options: str) -> Item:
    return Item(
        f"d/{i:04d}", "as listed", "(A)", "(B)", stem=stem, options=tuple(zip("AB", options, strict=True))
    )


def dataset(items) -> Dataset:
    return Dataset("d", tuple(items), "made here", "", "none")


def singles(n: int) -> Dataset:
    return dataset(persona(i) for i in range(n))


def pairs(n: int) -> Dataset:
    return dataset(persona(i, pair=i // 2) for i in range(2 * n))


class TestClean:
    @pytest.mark.parametrize(
        ("n", "sizes"), [(1000, (400, 100, 500)), (468, (187, 47, 234)), (817, (326, 82, 409))]
    )
    def test_the_parts_are_40_10_and_50_percent_with_floor_division(self, n, sizes):
        split = make_split(singles(n))
        assert tuple(map(len, (split.train, split.val, split.test))) == sizes
        assert sorted(split.train + split.val + split.test) == list(range(n))

    def test_without_repeats_the_order_is_that_of_the_papers_shuffle(self):
        order = list(range(100))
        random.Random(0).shuffle(order)
        split = make_split(singles(100))
        assert split.train + split.val + split.test == tuple(order)
        assert make_split(singles(100), seed=1) != split == make_split(singles(100))

    @pytest.mark.parametrize("name", ["clean", "sweep"])
    def test_a_pair_is_never_torn_apart(self, name):
        split = make_split(pairs(60), name)
        assert name == "sweep" or [len(split.train), len(split.val), len(split.test)] == [48, 12, 60]
        for part in (split.train, split.val, split.test):
            assert {i ^ 1 for i in part} == set(part)  # items 2p and 2p+1 are partners

    @pytest.mark.parametrize("name", ["clean", "sweep"])
    def test_repeated_questions_are_in_one_part(self, name):
        items = [persona(i, f"question {i % 70}" if i % 2 else f" Question\t{i % 70} ") for i in range(200)]
        split = make_split(dataset(items), name)
        parts = [
            {items[i].question.casefold().strip().replace("\t", " ") for i in part}
            for part in (split.train, split.val, split.test)
        ]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


class TestGroups:
    def test_whitespace_and_case_do_not_make_another_question(self):
        items = [persona(0, "Why  not?"), persona(1, "who?"), persona(2, "why\nNOT? ")]
        assert group_items(items) == (0, 1, 0)

    def test_the_order_of_the_options_does_not_make_another_question(self):
        items = [choice(0, "x?", "a", "b"), choice(1, "X?", "b", "A"), choice(2, "x?", "a", "c")]
        assert group_items(items) == (0, 0, 1)

    @pytest.mark.parametrize(
        ("rows", "groups"),
        [
            ([("q0", 0), ("same", 0), ("q2", 1), ("same", 1), ("q4", 2), ("q5", 2)], (0, 0, 0, 0, 1, 1)),
            ([("a", 0), ("b", 1), ("c", 2), ("c", 0), ("b", 2)], (0, 0, 0, 0, 0)),  # links found late
        ],
    )
    def test_pairs_that_share_a_question_become_one_group(self, rows, groups):
        assert group_items([persona(i, question, pair) for i, (question, pair) in enumerate(rows)]) == groups


class TestAsReleased:
    def test_450_of_950_test_items_were_also_trained_on(self):
        split = make_split(singles(1000), "as-released")
        assert (len(split.train), len(split.val), len(split.test)) == (500, 0, 950)
        assert len(set(split.train) & set(split.test)) == 450

    @pytest.mark.parametrize(("n", "tested"), [(468, 418), (934, 884), (817, 767), (1080, 1030), (120, 70)])
    def test_the_published_test_sizes_come_out(self, n, tested):
        assert len(make_split(singles(n), "as-released").test) == tested

    def test_it_shuffles_items_and_ignores_groups(self):
        order = list(range(120))
        random.Random(0).shuffle(order)
        split = make_split(pairs(60), "as-released")
        assert split.train == tuple(order[:60]) and split.test == tuple(order[50:])

    def test_it_knows_one_seed(self):
        error = refused(lambda: make_split(singles(100), "as-released", seed=1))
        assert error.expected == "seed 0 for the split as-released"

    def test_fifty_items_leave_nothing_to_test(self):
        error = refused(lambda: make_split(singles(50), "as-released"))
        assert error.found == "none in test"


class TestSweep:
    def test_a_tenth_trains_and_a_tenth_after_a_gap_tests(self):
        order = list(range(1000))
        random.Random(0).shuffle(order)
        split = make_split(singles(1000), "sweep")
        assert (split.train, split.val, split.test) == (tuple(order[:100]), (), tuple(order[200:300]))


class TestLimit:
    def test_it_counts_groups_and_keeps_the_first(self):
        split = make_split(pairs(60))
        cut = limit(split, train=5, test=7)
        assert cut.train == split.train[:10] and cut.test == split.test[:14] and cut.val == split.val

    def test_none_and_large_numbers_keep_everything(self):
        split = make_split(pairs(60))
        assert limit(split) == split == limit(split, train=999, test=999)

    def test_as_released_is_cut_by_items(self):
        split = make_split(pairs(60), "as-released")
        assert limit(split, train=5, test=7).train == split.train[:5]

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_nothing_left_is_an_error(self, part):
        error = refused(lambda: limit(make_split(pairs(60)), **{part: 0}))
        assert error.found == f"none in {part}" and error.done == "No split was made."


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "n", "part"), [("clean", 2, "train"), ("sweep", 9, "train"), ("clean", 0, "train")]
    )
    def test_an_empty_part_is_an_error(self, name, n, part):
        error = refused(lambda: make_split(singles(n), name))
        assert error.found == f"none in {part}"

    def test_overlapping_items_are_an_error(self):
        error = refused(lambda: Split("mine", (0, 1), (), (1, 2)))
        assert error.found == "1 item groups in two parts" and "mine" in error.expected

    def test_a_torn_group_is_an_error(self):
        with pytest.raises(SteerkitError):
            Split("mine", (0,), (), (1,), group_of=(0, 0))

    def test_an_unknown_name_lists_the_known_ones(self):
        error = refused(lambda: make_split(singles(100), "50:100%"))
        assert "clean, as-released, sweep" in error.expected and error.found == "'50:100%'"
