"""The flaws of the released code, redone by hand on small tables."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from companion import published
from companion.data.datasets import Dataset, Item
from companion.tan import flaws
from steerkit.errors import SteerkitError
from steerkit.steerability import slopes

MULTIPLIERS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)


def make_grid(sets=("openness", "myopic-reward"), kind="letter", items=8, shift=0.0, seed=0):
    """Noisy curves; myopic-reward has no Yes and No. `shift` is added to every slope."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in sets:
        for i in range(items):
            letter = "AB"[i % 2] if kind == "letter" else ""
            answer = "" if name == "myopic-reward" or kind == "statement" else ("Yes", "No")[i // 2 % 2]
            slope = rng.normal(0.3, 1) + shift
            for m in MULTIPLIERS:
                value = 24 + slope * m + rng.normal(0, 0.05)
                rows.append((name, f"{name}/{i}", kind, letter, answer, "full", 13, m, value, 17.0))
    columns = "dataset example_id format positive_letter positive_answer vector layer multiplier".split()
    grid = pd.DataFrame(rows, columns=[*columns, "matching", "not_matching"])
    return grid.assign(propensity=grid["matching"] - grid["not_matching"])


class TestSplitEffect:
    def test_every_number_is_that_of_its_own_rows(self):
        released, clean = slopes(make_grid(items=10, shift=0.5)), slopes(make_grid(seed=1))
        table = flaws.split_effect(released, clean, draws=200).set_index("dataset")
        for side, source in (("released", released), ("corrected", clean)):
            for name, own in source.groupby("dataset"):
                values = own["steerability"].to_numpy()
                row = table.loc[name]
                assert row[f"n_{side}"] == len(values)
                assert row[f"mean_{side}"] == pytest.approx(values.mean())
                assert row[f"anti_steerable_{side}"] == pytest.approx((values <= 0).mean())
                assert values.min() <= row[f"low_{side}"] <= row[f"mean_{side}"] <= row[f"high_{side}"]
        difference = table["mean_released"] - table["mean_corrected"]
        np.testing.assert_allclose(table["mean_difference"], difference)
        share = table["anti_steerable_released"] - table["anti_steerable_corrected"]
        np.testing.assert_allclose(table["anti_steerable_difference"], share)

    def test_data_sets_are_matched_by_name_and_not_by_place(self):
        clean, released = slopes(make_grid()), slopes(make_grid(shift=2.0))
        turned = pd.concat([part for _, part in released.groupby("dataset")])  # now in alphabetical order
        one, other = (flaws.split_effect(table, clean, draws=10) for table in (turned, released))
        pd.testing.assert_frame_equal(one, other)

    def test_other_vectors_do_not_count(self):
        table = slopes(make_grid())
        more = pd.concat([table, table.assign(vector="resample-00", steerability=99.0)])
        one, other = (flaws.split_effect(released, table, draws=10) for released in (more, table))
        pd.testing.assert_frame_equal(one, other)

    def test_partners_are_drawn_together_and_everyone_needs_a_label(self):
        table = slopes(make_grid(("openness",), items=40))
        table["steerability"] = np.repeat(np.arange(20.0), 2)
        labels = {name: number // 2 for number, name in enumerate(table["example_id"])}
        single, paired = (flaws.split_effect(table, table, groups=each).loc[0] for each in (None, labels))
        widths = [each["high_released"] - each["low_released"] for each in (single, paired)]
        assert widths[1] == pytest.approx(np.sqrt(2) * widths[0], rel=0.15)
        del labels["openness/39"]
        with pytest.raises(SteerkitError, match="none for 1, the first of them openness/39"):
            flaws.split_effect(table, table, groups=labels)


class TestBracketEffect:
    def test_the_bracket_is_what_is_added_and_flips_are_counted_example_by_example(self):
        letter = slopes(make_grid())
        sign = np.where(np.arange(len(letter)) % 4 == 0, -1.0, 1.0)
        paper = letter.assign(steerability=letter["steerability"] * sign)
        table = flaws.bracket_effect(letter, paper, draws=10).set_index("dataset")
        assert table["flipped"].to_dict() == {"openness": 0.25, "myopic-reward": 0.25}
        for side, source in (("corrected", letter), ("released", paper)):
            means = source.groupby("dataset", sort=False)["steerability"].mean()
            np.testing.assert_allclose(table[f"mean_{side}"], means)

    def test_the_order_of_the_examples_does_not_matter(self):
        letter, paper = slopes(make_grid()), slopes(make_grid(shift=0.4))
        both = (paper, paper.sample(frac=1, random_state=1))
        one, other = (flaws.bracket_effect(letter, each, draws=10)["flipped"] for each in both)
        assert one.sum() > 0
        pd.testing.assert_series_equal(one, other)


def released_by_hand(grid: pd.DataFrame, name: str) -> Counter:
    """Flags read row by row: where the text is missing, both come out False."""
    own, found = grid[grid["dataset"] == name], Counter()
    for row in own.itertuples():
        known = row.multiplier == 0
        letter = "A" if known and row.positive_letter == "A" else "B"
        found[f"{letter}, {'Yes' if known and row.positive_answer == 'Yes' else 'No'}"] += 1
    return found


class TestReleasedGroups:
    def test_counts_are_those_of_flags_read_row_by_row(self):
        grid = make_grid()
        table = flaws.released_groups(grid)
        openness = table[table["dataset"] == "openness"]
        assert Counter(openness["released"]) == released_by_hand(grid, "openness")
        assert Counter(openness["released"])["B, No"] == 6 * 8 + 2

    def test_a_set_without_answers_falls_into_B(self):
        grid = make_grid()
        counts = Counter(flaws.released_groups(grid).query("dataset == 'myopic-reward'")["released"])
        by_hand = released_by_hand(grid, "myopic-reward")
        assert counts == {"A": by_hand["A, No"], "B": by_hand["B, No"]} == {"A": 4, "B": 6 * 8 + 4}

    def test_slope_and_corrected_group_are_those_of_the_example_at_every_multiplier(self):
        grid = make_grid()
        table = flaws.released_groups(grid)
        assert len(table) == len(grid) and (table.groupby("example_id")["corrected"].nunique() == 1).all()
        wanted = slopes(grid).set_index("example_id")["steerability"]
        np.testing.assert_allclose(table["steerability"], wanted[table["example_id"]])
        zero = table[table["multiplier"] == 0]
        assert (zero["released"] == zero["corrected"]).all()
        assert set(Counter(zero.query("dataset == 'openness'")["corrected"]).values()) == {2}

    def test_the_contaminated_box_shows_the_whole_set_as_in_the_published_figure(self):
        """In myopic-reward the published 'B and No' box is near the whole set: so is ours, not so the true one."""
        grid = make_grid(("myopic-reward",), items=200)
        grid.loc[grid["positive_letter"] == "A", "propensity"] += 4 * grid["multiplier"]
        table = flaws.released_groups(grid)
        fallen, true = (table.loc[table[side] == "B", "steerability"].median() for side in flaws.SIDES)
        whole = slopes(grid)["steerability"].median()
        assert abs(fallen - whole) < 0.8 and abs(true - whole) > 1.2
        entry, boxes = published.dataset("myopic-reward"), published.boxes()
        box = boxes[(boxes["dataset"] == "myopic-reward") & boxes["contaminated"]].iloc[0]
        for edge in ("q1", "q3"):
            assert box[edge] == pytest.approx(entry[f"{edge}_llama2-7b"], abs=0.12)

    def test_vectors_at_fewer_multipliers_do_not_count(self):
        grid = make_grid()
        fewer = grid[grid["multiplier"].abs() == 1.5].assign(vector="random-00")
        found = flaws.released_groups(pd.concat([grid, fewer]))
        pd.testing.assert_frame_equal(found, flaws.released_groups(grid))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda g: g[g["multiplier"] != 0], "16 examples without 0"),
            (lambda g: g.assign(format="yes-no"), "format yes-no"),
            (lambda g: g.assign(positive_letter="C"), r"letters \['C'\]"),
        ],
    )
    def test_what_cannot_be_grouped_is_refused(self, change, message):
        with pytest.raises(SteerkitError, match=message):
            flaws.released_groups(change(make_grid()))


class TestHalfPrecision:
    def test_logits_near_twenty_come_in_steps_of_a_64th_rounded_to_the_nearest(self):
        grid = make_grid()
        before, found = grid.copy(), flaws.half_precision(grid)
        np.testing.assert_array_equal(found["matching"] * 64, (found["matching"] * 64).round())
        np.testing.assert_array_equal(found["propensity"], found["matching"] - found["not_matching"])
        assert 0 < (found["matching"] - grid["matching"]).abs().max() <= 1 / 128
        pd.testing.assert_frame_equal(flaws.half_precision(found), found)
        pd.testing.assert_frame_equal(grid, before)

    def test_log_probabilities_overflows_and_gaps_are_refused(self):
        with pytest.raises(SteerkitError, match="statement"):
            flaws.half_precision(make_grid(kind="statement"))
        with pytest.raises(SteerkitError, match="112 of 112 rows"):
            flaws.half_precision(make_grid().assign(matching=70000.0))
        with pytest.raises(SteerkitError, match="float16 can hold"):
            flaws.half_precision(make_grid().assign(matching=np.nan))

    def test_the_effect_is_that_of_polyfit_on_rounded_points(self):
        grid = make_grid()
        table = flaws.precision_effect(grid).set_index("dataset")
        for name, part in grid.groupby("dataset"):
            fine, half = [], []
            for _, own in part.groupby("example_id"):
                fine.append(np.polyfit(own["multiplier"], own["propensity"], 1)[0])
                sides = (np.float16(own[side]).astype(float) for side in ("matching", "not_matching"))
                half.append(np.polyfit(own["multiplier"], np.subtract(*sides), 1)[0])
            fine, half = np.array(fine), np.array(half)
            row = table.loc[name]
            assert row["n"] == 8 and row["mean"] == pytest.approx(fine.mean())
            assert row["mean_half"] == pytest.approx(half.mean())
            assert row["largest_change"] == pytest.approx(np.abs(fine - half).max())
            assert row["anti_steerable_half"] == pytest.approx((half <= 0).mean())

    def test_a_slope_below_the_step_is_lost_and_counted_as_flipped(self):
        grid = make_grid(("openness",)).assign(not_matching=16.0)
        grid["matching"] = 20 + 0.001 * grid["multiplier"]
        table = flaws.precision_effect(grid.assign(propensity=grid["matching"] - 16))
        assert table[["anti_steerable", "anti_steerable_half", "flipped"]].iloc[0].tolist() == [0, 1, 1]


def dataset(questions: list[str], pairs: list[int | None] | None = None) -> Dataset:
    pairs = pairs or [None] * len(questions)
    answers = (" Yes", " No")
    items = [
        Item(f"d/{i:04d}", question, answers[i % 2], answers[1 - i % 2], statement=question, pair=pair)
        for i, (question, pair) in enumerate(zip(questions, pairs, strict=True))
    ]
    return Dataset("d", tuple(items), "made here", "", "none")


class TestDuplicates:
    def test_by_rows_it_counts_what_a_loop_over_the_shuffled_rows_counts(self):
        questions = [f"question {i % 70}" for i in range(100)]
        order = list(range(100))
        random.Random(0).shuffle(order)
        trained = [questions[i] for i in order[:40]]
        wanted = sum(questions[i] in trained for i in order[50:])
        table = flaws.duplicates(dataset(questions)).set_index("split")
        assert wanted > 5 and table.loc["by rows", "repeated"] == wanted
        assert table.loc["by rows", ["n_train", "n_test"]].tolist() == [40, 50]
        assert table.loc["by rows", "share"] == wanted / 50
        assert table.loc["by groups", ["repeated", "related", "share"]].tolist() == [0, 0, 0]

    def test_case_and_whitespace_do_not_make_a_question_another_one(self):
        same = ["Same  question"] * 10 + ["same question"] * 10
        table = flaws.duplicates(dataset(same + [f"question {i}" for i in range(80)]))
        order = list(range(100))
        random.Random(0).shuffle(order)
        assert min(order[:40]) < 20  # at least one of them trains
        assert table["repeated"].iloc[0] == sum(i < 20 for i in order[50:]) > 0

    def test_a_partner_in_a_minimal_pair_is_related_but_no_repeat(self):
        table = flaws.duplicates(dataset([f"question {i}" for i in range(100)], [i // 2 for i in range(100)]))
        assert table["repeated"].tolist() == [0, 0]
        assert table["related"].iloc[0] > 0 and table["related"].iloc[1] == 0

    def test_too_few_items_are_refused(self):
        with pytest.raises(SteerkitError, match="none in train"):
            flaws.duplicates(dataset(["one", "two"]))
