"""The flaws of the released code: on small tables by hand, and every number of their overview from the grids again."""

import random
import re
import shutil
from collections import Counter
from dataclasses import replace

import drawn
import numpy as np
import pandas as pd
import pytest
from conftest import refused

from companion import published
from companion.data.datasets import Dataset, Item, load_dataset, personas
from companion.profiles import override
from companion.tan import experiment, flaws
from steerkit import slopes

NAME = "openness"
SWITCHES = {"released": "split=as-released", "bracket": "fidelity=paper", "newlines": "spelling=as-released"}


def make_grid(sets=(NAME, "myopic-reward"), kind="letter", items=8, shift=0.0, seed=0):
    """Noisy curves; myopic-reward has no Yes and No."""
    return drawn.make_grid(kind, sets, items, halves=drawn.noisy(shift, seed))


class TestSplitEffect:
    def test_every_number_is_that_of_its_own_rows(self):
        """Data sets are matched by name, and other vectors do not count."""
        released, clean = slopes(make_grid(items=10, shift=0.5)), slopes(make_grid(seed=1))
        turned = pd.concat([part for _, part in released.groupby("dataset")])  # now in alphabetical order
        more = pd.concat([turned, released.assign(vector="resample-00", steerability=99.0)])
        table = flaws.split_effect(more, clean).set_index("dataset")
        for side, source in (("released", released), ("corrected", clean)):
            for name, own in source.groupby("dataset"):
                values, row = own["steerability"].to_numpy(), table.loc[name]
                assert row[f"n_{side}"] == len(values)
                assert row[f"mean_{side}"] == pytest.approx(values.mean())
                assert row[f"anti_steerable_{side}"] == pytest.approx((values <= 0).mean())
                assert values.min() <= row[f"low_{side}"] <= row[f"mean_{side}"] <= row[f"high_{side}"]
        for what in ("mean", "anti_steerable"):
            difference = table[f"{what}_released"] - table[f"{what}_corrected"]
            np.testing.assert_allclose(table[f"{what}_difference"], difference)

    def test_partners_are_drawn_together(self):
        table = slopes(make_grid((NAME,), items=40))
        table["steerability"] = np.repeat(np.arange(20.0), 2)
        both = (table, table.assign(group=np.arange(40) // 2))
        single, paired = (flaws.split_effect(each, each).loc[0] for each in both)
        widths = [each["high_released"] - each["low_released"] for each in (single, paired)]
        assert widths[1] == pytest.approx(np.sqrt(2) * widths[0], rel=0.15)


def test_the_bracket_is_what_is_added_and_flips_are_counted_example_by_example():
    letter = slopes(make_grid())
    sign = np.where(np.arange(len(letter)) % 4 == 0, -1.0, 1.0)
    paper = letter.assign(steerability=letter["steerability"] * sign)
    for rows in (paper, paper.sample(frac=1, random_state=1)):  # in any order
        table = flaws.bracket_effect(letter, rows).set_index("dataset")
        assert table["flipped"].to_dict() == {NAME: 0.25, "myopic-reward": 0.25}
        for side, source in (("corrected", letter), ("released", paper)):
            means = source.groupby("dataset", sort=False)["steerability"].mean()
            np.testing.assert_allclose(table[f"mean_{side}"], means)


class TestReleasedGroups:
    def test_counts_are_those_of_flags_read_row_by_row_and_slopes_those_of_the_example(self):
        """Where the text is missing, both flags come out False; a set without answers falls into B."""
        grid = make_grid()
        table = flaws.released_groups(grid)
        for name, sep in ((NAME, ", "), ("myopic-reward", "")):
            by_hand = Counter()
            for row in grid[grid["dataset"] == name].itertuples():
                known = row.multiplier == 0
                answer = "Yes" if known and row.positive_answer == "Yes" else "No"
                letter = "A" if known and row.positive_letter == "A" else "B"
                by_hand[f"{letter}{sep}{answer if sep else ''}"] += 1
            found = Counter(table.loc[table["dataset"] == name, "released"])
            assert found == by_hand and found["B, No" if sep else "B"] == 6 * 8 + (2 if sep else 4)
        assert len(table) == len(grid) and (table.groupby("example_id")["corrected"].nunique() == 1).all()
        wanted = slopes(grid).set_index("example_id")["steerability"]
        np.testing.assert_allclose(table["steerability"], wanted[table["example_id"]])
        zero = table[table["multiplier"] == 0]
        assert (zero["released"] == zero["corrected"]).all()
        assert set(Counter(zero.loc[zero["dataset"] == NAME, "corrected"]).values()) == {2}
        fewer = grid[grid["multiplier"].abs() == 1.5].assign(vector="random-00")  # does not count
        pd.testing.assert_frame_equal(flaws.released_groups(pd.concat([grid, fewer])), table)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda g: g[g["multiplier"] != 0], "16 examples without 0"),
            (lambda g: g.assign(format="yes-no"), "format yes-no"),
            (lambda g: g.assign(positive_letter="C"), r"letters \['C'\]"),
        ],
    )
    def test_what_cannot_be_grouped_is_refused(self, change, message):
        refused(flaws.released_groups, change(make_grid()), said=message)


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
        refused(flaws.half_precision, make_grid(kind="statement"), said="statement")
        refused(flaws.half_precision, make_grid().assign(matching=70000.0), said="112 of 112 rows")
        refused(flaws.half_precision, make_grid().assign(matching=np.nan), said="float16 can hold")

    def test_the_effect_is_that_of_polyfit_on_rounded_points(self):
        grid = make_grid()
        table = flaws.precision_effect(grid).set_index("dataset")
        for name, part in grid.groupby("dataset"):
            sides = [np.float16(part[side]).astype(float) for side in ("matching", "not_matching")]
            rounded = part.assign(propensity=np.subtract(*sides))
            fine, half = (np.array(list(fits(each).values())) for each in (part, rounded))
            row = table.loc[name]
            assert row["n"] == 8 and row["mean"] == pytest.approx(fine.mean())
            assert row["mean_half"] == pytest.approx(half.mean())
            assert row["largest_change"] == pytest.approx(np.abs(fine - half).max())
            assert row["anti_steerable_half"] == pytest.approx((half <= 0).mean())
        # A slope below the step is lost, and counted as flipped.
        grid = make_grid((NAME,)).assign(not_matching=16.0)
        grid["matching"] = 20 + 0.001 * grid["multiplier"]
        table = flaws.precision_effect(grid.assign(propensity=grid["matching"] - 16))
        assert table[["anti_steerable", "anti_steerable_half", "flipped"]].iloc[0].tolist() == [0, 1, 1]


def fits(grid: pd.DataFrame) -> dict[tuple, float]:
    """Slope of a line through the cells of each example, layer and vector."""
    parts = grid.groupby(["vector", "layer", "example_id"])
    return {key: np.polyfit(part["multiplier"], part["propensity"], 1)[0] for key, part in parts}


class TestDuplicates:
    def dataset(self, questions: list[str], paired: bool = False) -> Dataset:
        answers, items = (" Yes", " No", " Yes"), []
        for i, question in enumerate(questions):
            about = {"statement": question, "pair": i // 2 if paired else None}
            items.append(Item(f"d/{i:04d}", question, *answers[i % 2 :][:2], **about))
        return Dataset("d", tuple(items), "made here", "", "none")

    def test_by_rows_it_counts_what_a_loop_over_the_shuffled_rows_counts(self):
        questions = [f"question {i % 70}" for i in range(100)]
        order = list(range(100))
        random.Random(0).shuffle(order)
        trained = [questions[i] for i in order[:40]]
        wanted = sum(questions[i] in trained for i in order[50:])
        spelled = [f" {q.upper()}  " if i >= 70 else q for i, q in enumerate(questions)]  # no other question
        for each in (questions, spelled):
            table = flaws.duplicates(self.dataset(each)).set_index("split")
            assert table.loc["by rows", ["n_train", "n_test", "repeated"]].tolist() == [40, 50, wanted]
            assert wanted > 5 and table.loc["by rows", "share"] == wanted / 50
            assert table.loc["by groups", ["repeated", "related", "share"]].tolist() == [0, 0, 0]

    def test_a_partner_in_a_minimal_pair_is_related_but_no_repeat(self):
        table = flaws.duplicates(self.dataset([f"question {i}" for i in range(100)], paired=True))
        assert table["repeated"].tolist() == [0, 0]
        assert table["related"].iloc[0] > 0 and table["related"].iloc[1] == 0
        # A choice set lists each question twice, and rows that are shuffled tear them apart.
        table = flaws.duplicates(load_dataset("myopic-reward"))
        assert table["n_test"].tolist() == [60, 60]
        assert table["repeated"].iloc[0] > 5 and table["repeated"].iloc[1] == 0


@pytest.fixture(scope="module")
def found(smoke_store, tmp_path_factory):
    """The grids behind the tables that `overview` is given, the sweeps, and its table."""
    folder = shutil.copytree(smoke_store.folder, tmp_path_factory.mktemp("flaws") / "artifacts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(folder))
        layer = experiment.layer_of(smoke_store.settings, "letter")
        plain = replace(override(smoke_store.settings, datasets=NAME), layer={"letter": layer})
        changes = {side: dict([switch.split("=")]) for side, switch in SWITCHES.items()}
        sides = {side: replace(plain, **changes.get(side, {})) for side in ("clean", *SWITCHES)}
        given = {side: experiment.slopes(settings, "letter") for side, settings in sides.items()}
        split = given.pop("released"), given["clean"]
        table = flaws.overview(plain, split=split, **given).set_index("switch")
        grids = {side: experiment.grid(settings, "letter") for side, settings in sides.items()}
        chosen = {each: replace(plain, sweep=replace(plain.sweep, template=each)) for each in ("qwen", "")}
        sweeps = {template: experiment.sweep(settings, "letter") for template, settings in chosen.items()}
    return grids, sweeps, table


def full_mean(grid) -> float:
    return float(np.mean([slope for key, slope in fits(grid).items() if key[0] == "full"]))


def number(text: str, after: str = "mean steerability") -> float:
    return float(re.search(rf"{after} (-?[\d.]+)", text)[1])


class TestOverview:
    @pytest.mark.parametrize("side", SWITCHES)
    def test_both_sides_are_means_over_the_examples_of_the_full_vector(self, found, side):
        grids, _, table = found
        row = table.loc[SWITCHES[side]]
        assert number(row["corrected"]) == pytest.approx(full_mean(grids["clean"]), abs=6e-5)
        assert number(row["released"]) == pytest.approx(full_mean(grids[side]), abs=6e-5)
        # Each switch does something; only the tiny model's template has no last newline to lose.
        assert (row["released"] == row["corrected"]) == (side == "newlines")

    def test_half_precision_is_the_effect_on_all_vectors_of_the_grid(self, found):
        effect, row = flaws.precision_effect(found[0]["clean"]), found[2].loc["flaws.half_precision"]
        assert number(row["corrected"]) == pytest.approx(effect["mean"].mean(), abs=6e-5)
        largest = number(row["released"], "largest change of a slope")
        assert largest == pytest.approx(effect["largest_change"].max(), abs=6e-5)
        assert effect["largest_change"].max() > 1e-4

    @pytest.mark.parametrize(("side", "template"), [("released", "qwen"), ("corrected", "")])
    def test_the_sweep_names_its_best_layer(self, found, side, template):
        lines = fits(found[1][template])
        by_layer = [np.mean([s for k, s in lines.items() if k[1] == layer]) for layer in range(4)]
        text = found[2].loc["sweep.template=qwen", side]
        assert text.startswith(f"layer {int(np.argmax(by_layer))}, mean steerability there ")
        assert number(text, "there") == pytest.approx(max(by_layer), abs=6e-5)

    def test_repeats_are_counted_and_the_swapped_sentences_are_those_of_the_paper_and_ours(self, found):
        assert list(found[2].columns) == ["flaw", "released", "corrected"] and len(found[2]) == 7
        row = found[2].loc["companion.data.splits.group_items"]
        assert row["corrected"] == "0 of 60 test items repeat a training question"  # in pairs: half of 120
        assert re.fullmatch(r"\d+ of 60 test items repeat a training question", row["released"])
        row = found[2].loc["source=bundled"]
        assert row["released"] == f"positive: {published.personas(flaws.SWAPPED)[0]}"
        assert row["corrected"] == f"positive: {personas(flaws.SWAPPED)[0]}"
