"""The table of flaws: every number in it is computed again here, from the grids and by hand."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from companion import published
from companion.data.datasets import load_dataset, personas
from companion.profiles import override
from companion.tan import experiment, flaws
from companion.tan.flaws import SWAPPED, groups, overview

NAME = "openness"
SWITCHES = ("split=as-released", "fidelity=paper", "spelling=as-released")


@pytest.fixture(scope="module")
def found(smoke_store, tmp_path_factory):
    """Settings with one data set, the SLOPES tables that `overview` is given, the grids behind them, and its table."""
    folder = shutil.copytree(smoke_store.folder, tmp_path_factory.mktemp("flaws") / "artifacts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(folder))
        layer = experiment.layer_of(smoke_store.settings, "letter")
        plain = replace(override(smoke_store.settings, datasets=NAME), layer={"letter": layer})
        sides = {
            "clean": plain,
            "released": replace(plain, split="as-released"),
            "bracket": replace(plain, fidelity="paper"),
            "newlines": replace(plain, spelling="as-released"),
        }
        slopes = {side: experiment.slopes(sides[side], "letter") for side in ("clean", "released", "bracket")}
        table = overview(plain, *slopes.values()).set_index("switch")
        grids = {side: experiment.grid(settings, "letter") for side, settings in sides.items()}
        chosen = {each: replace(plain, sweep=replace(plain.sweep, template=each)) for each in ("qwen", "")}
        sweeps = {template: experiment.sweep(settings, "letter") for template, settings in chosen.items()}
    return plain, grids, sweeps, table


def fits(grid, column: str = "propensity") -> dict[tuple, float]:
    """Slope of a line through the cells of each example, layer and vector."""
    return {
        key: np.polyfit(part["multiplier"], part[column], 1)[0]
        for key, part in grid.groupby(["vector", "layer", "example_id"])
    }


def full_mean(grid) -> float:
    return float(np.mean([slope for key, slope in fits(grid).items() if key[0] == "full"]))


def number(text: str, after: str = "mean steerability") -> float:
    return float(re.search(rf"{after} (-?[\d.]+)", text)[1])


class TestOverview:
    def test_every_flaw_has_a_row_and_a_switch(self, found):
        table = found[-1]
        assert list(table.reset_index().columns) == ["switch", "flaw", "released", "corrected"]
        assert table.index.tolist() == [
            *SWITCHES,
            "flaws.half_precision",
            "sweep.template=qwen",
            "companion.data.splits.group_items",
            "source=bundled",
        ]
        assert (table.map(len) > 10).all(axis=None)

    @pytest.mark.parametrize(
        ("switch", "side"),
        list(zip(SWITCHES, ("released", "bracket", "newlines"), strict=True)),
    )
    def test_both_sides_are_means_over_the_examples_of_the_full_vector(self, found, switch, side):
        _, grids, _, table = found
        row = table.loc[switch]
        assert number(row["corrected"]) == pytest.approx(full_mean(grids["clean"]), abs=6e-5)
        assert number(row["released"]) == pytest.approx(full_mean(grids[side]), abs=6e-5)
        # Each switch does something; only the tiny model's template has no last newline to lose.
        assert (row["released"] == row["corrected"]) == (side == "newlines")

    def test_the_lost_newlines_are_those_of_another_spelling(self, smoke_store, monkeypatch):
        def slopes(settings, answer_format):
            found = [{"template": 1.0, "as-released": 7.0}[settings.spelling], 99.0]
            return pd.DataFrame({"dataset": "a", "vector": ["full", "random-00"], "steerability": found})

        for part in ("half_precision", "sweep_templates", "repeated"):
            monkeypatch.setattr(flaws, f"_{part}", lambda _: ("a", "b"))
        monkeypatch.setattr(experiment, "slopes", slopes)
        clean = slopes(smoke_store.settings, "letter")
        table = overview(smoke_store.settings, clean, clean, clean).set_index("switch")
        row = table.loc["spelling=as-released"]
        assert (number(row["released"]), number(row["corrected"])) == (7.0, 1.0)

    def test_half_precision_rounds_both_sides_before_they_are_subtracted(self, found):
        """Of all vectors of the grid: the slopes that the released code would have had."""
        _, grids, _, table = found
        grid = grids["clean"]
        sides = (grid[side].astype(np.float16).astype(float) for side in ("matching", "not_matching"))
        exact, rounded = fits(grid), fits(grid.assign(half=np.subtract(*sides)), "half")
        change = max(abs(exact[key] - rounded[key]) for key in exact)
        row = table.loc["flaws.half_precision"]
        by_vector = {v: np.mean([s for k, s in exact.items() if k[0] == v]) for v in grid["vector"].unique()}
        assert number(row["corrected"]) == pytest.approx(np.mean(list(by_vector.values())), abs=6e-5)
        assert number(row["released"], "largest change of a slope") == pytest.approx(change, abs=6e-5)
        assert change > 1e-4

    @pytest.mark.parametrize(("side", "template"), [("released", "qwen"), ("corrected", "")])
    def test_the_sweep_names_its_best_layer(self, found, side, template):
        _, _, sweeps, table = found
        slopes = fits(sweeps[template])
        by_layer = [np.mean([s for k, s in slopes.items() if k[1] == layer]) for layer in range(4)]
        text = table.loc["sweep.template=qwen", side]
        assert text.startswith(f"layer {int(np.argmax(by_layer))}, mean steerability there ")
        assert number(text, "there") == pytest.approx(max(by_layer), abs=6e-5)

    def test_repeated_questions_are_counted_over_the_data_sets(self, found):
        row = found[-1].loc["companion.data.splits.group_items"]
        words = r"(\d+) of (\d+) test items repeat a training question"
        repeated, count = map(int, re.fullmatch(words, row["corrected"]).groups())
        assert (repeated, count) == (0, 60)  # half of the items of one bundled set, in pairs
        assert re.fullmatch(words, row["released"])[2] == "60"

    def test_the_swapped_sentences_are_those_of_the_paper_and_ours(self, found):
        row = found[-1].loc["source=bundled"]
        assert row["released"] == f"positive: {published.personas(SWAPPED)[0]}"
        assert row["corrected"] == f"positive: {personas(SWAPPED)[0]}"


class TestDuplicates:
    def test_a_repeated_question_is_found_by_rows_and_never_by_groups(self, found):
        """A choice set lists each question twice; rows that are shuffled singly tear the two apart."""
        plain = override(found[0], datasets="myopic-reward,openness")
        by_rows, by_groups = flaws._repeated(plain)
        assert int(by_rows.split()[0]) > 5 and " of 120 " in by_rows
        assert by_groups.startswith("0 of 120 ")


class TestGroups:
    def test_every_item_has_one_and_only_the_two_of_a_pair_share_it(self, smoke, smoke_store):
        found = groups(smoke_store.settings)
        items = [item for name in smoke_store.settings.datasets for item in load_dataset(name).items]
        assert set(found) == {item.id for item in items} and len(items) == 3 * 120
        pairs = {}
        for item in items:
            pairs.setdefault((item.id.rpartition("/")[0], item.pair), set()).add(found[item.id])
        labels = [label for pair in pairs.values() for label in pair]
        assert len(pairs) == len(labels) == len(set(labels)) == 3 * 60
        assert set(experiment.grid(smoke.settings, "letter")["example_id"]) <= set(found)
        assert groups(replace(smoke_store.settings, datasets=())) == {}
