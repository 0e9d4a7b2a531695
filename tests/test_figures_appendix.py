"""Figures of the appendix and of the flaws: what is drawn is what the tables hold."""

import numpy as np
import pandas as pd
import pytest
from conftest import refused
from drawn import (
    SETS,
    bands,
    bent,
    boxes,
    crowded,
    markers,
    marks,
    medians_of,
    minus,
    points,
    segments,
    texts,
    ticks,
    widths,
)
from drawn import make_grid as grid_of
from scipy.stats import spearmanr
from scipy.stats import t as student_t

from companion import published
from companion.figures import flaws as drawings
from companion.figures import layers
from companion.tan import flaws
from companion.tan.means import by_range
from steerkit import slopes, summary

SYCOPHANCY = ("sycophancy_train", "sycophancy_test")


def make_grid(kind="letter", sets=SETS, layer=16, scale=1.0, seed=0) -> pd.DataFrame:
    return grid_of(kind, sets, layer=layer, halves=bent(scale, seed))


def make_sweep(sets=SETS, kind="letter") -> pd.DataFrame:
    """Every set peaks at layer 12 but narcissism, which peaks at 4."""
    heights = {4: 0.5, 8: 0.8, 12: 1.0, 16: 0.6}
    tables = []
    for layer, scale in heights.items():
        grid = make_grid(kind, sets, layer=layer, scale=scale, seed=layer)
        early = grid["dataset"] == "narcissism"
        grid.loc[early, ["matching", "propensity"]] *= 3 * (layer == 4) + 1
        tables.append(summary(slopes(grid)))
    return pd.concat(tables, ignore_index=True)


def fits(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(rmse=np.sqrt(table["residual"]))


class TestRanges:
    def test_a_marker_for_each_width_stands_at_our_and_at_the_published_mean(self):
        table = by_range(make_grid())
        left, right = layers.range_ablation(table).figure.axes
        for width in (0.5, 1.0, 1.5):
            ours = table[table["width"] == width].sort_values("mean", ascending=False)
            assert sorted(marks(left, f"multipliers within ±{width:g}")[:, 0]) == pytest.approx(
                sorted(ours["mean"])
            )
            theirs = published.datasets()[f"mean_range_{width}_llama2-7b"][list(SETS[:3])]
            found = marks(right, f"multipliers within ±{width:g}")
            assert sorted(found[:, 0]) == pytest.approx(sorted(theirs)) and {*found[:, 1].round()} == {
                0,
                1,
                2,
            }
        ends = sorted((line[0, 0], line[1, 0]) for line in segments(left))
        np.testing.assert_allclose(ends, sorted(zip(table["low"], table["high"], strict=True)))
        assert texts(right) == ["not in the paper"]
        assert left.get_xlabel().endswith("(logits per unit multiplier)")
        assert ticks(left) == [published.label(name) for name in ours["dataset"]]  # by the widest mean
        # Another unit keeps its own axis, and an empty panel is bare.
        table = by_range(make_grid("statement", ("my-own-set",)), (0.5, 1.5))
        left, right = layers.range_ablation(table).figure.axes
        assert "nats per token" in left.get_xlabel() and len(right.get_xticks()) == 0
        counts = [len(marks(left, f"multipliers within ±{width}")) for width in (0.5, 1, 1.5)]
        assert counts == [1, 0, 1]

    def test_the_words_state_means_shrinking_and_the_published_ones(self):
        table = by_range(make_grid())
        text = layers.range_ablation(table).alt
        wide = table.pivot(index="dataset", columns="width", values="mean")
        for width in (0.5, 1.0, 1.5):
            assert f"{wide[width].mean():.3g} within ±{width:g}" in text
        assert "In 4 of 4 sets the mean is closer to zero over ±1.5 than over ±0.5" in text
        theirs = published.datasets().loc[list(SETS[:3])]
        first, last = (theirs[f"mean_range_{width}_llama2-7b"].mean() for width in (0.5, 1.5))
        assert f"known for 3 of 4, fall on average from {first:.3g} to {last:.3g} logits" in text
        alone = layers.range_ablation(table[table["dataset"] == "my-own-set"]).alt
        assert alone.endswith("The paper shows no such means for them.")
        refused(layers.range_ablation, table.iloc[1:], said="1 missing means")
        refused(layers.range_ablation, pd.concat([table, table.assign(layer=20)]), said="layers 16, 20")

    def test_the_published_ones_are_the_selected_sets_and_say_that_they_are_digitised(self):
        drawn = layers.ranges_published(list(published.datasets().index))
        (axes,) = drawn.figure.axes
        theirs = published.datasets().loc[list(published.SELECTED)]
        for width in (0.5, 1.0, 1.5):
            wanted = sorted(theirs[f"mean_range_{width}_llama2-7b"])
            assert sorted(marks(axes, f"multipliers within ±{width:g}")[:, 0]) == pytest.approx(wanted)
        shrinking = (theirs["mean_range_1.5_llama2-7b"] < theirs["mean_range_0.5_llama2-7b"]).sum()
        assert f"It shrinks in {shrinking} sets, most in myopic reward" in layers.ranges_published().alt
        for words in (drawn.alt, drawn.figure.get_suptitle()):
            assert "digitised from the published figure" in words


class TestResiduals:
    def test_a_panel_a_set_has_its_points_over_grey_ones_and_the_words_name_the_extremes(self):
        table = fits(slopes(make_grid()))
        table.loc[table["dataset"] == "narcissism", "rmse"] += 5
        drawn = layers.residual_scatter(table)
        panels = drawn.figure.axes
        assert [axes.get_title() for axes in panels] == [published.label(name) for name in SETS]
        for axes, name in zip(panels, SETS, strict=True):
            own = table[table["dataset"] == name]
            grey, colored = points(axes)
            np.testing.assert_allclose(colored, own[["steerability", "rmse"]])
            assert len(grey) == len(table) - len(own)
            rho = spearmanr(own["steerability"].abs(), own["rmse"]).statistic
            assert texts(axes) == [minus(f"ρ = {rho:.2f}")]
        assert len({axes.get_xlim() for axes in panels}) == len({axes.get_ylim() for axes in panels}) == 1
        largest = table[table["dataset"] == "narcissism"]["rmse"].median()
        assert f"to {largest:.3g} logits (narcissism)" in drawn.alt
        rho = spearmanr(table["steerability"].abs(), table["rmse"]).statistic
        assert "4 data sets, 32 examples" in drawn.alt
        assert drawn.alt.endswith(f"rank correlation of {rho:.2f}.")


class TestLayers:
    def test_the_sweep_has_a_line_a_set_a_thick_mean_and_the_chosen_layer(self):
        table = make_sweep()
        random = table.assign(vector="random-00", mean=9.0)  # other vectors are left out
        drawn = layers.layer_sweep(pd.concat([table, random]), 12)
        (axes,) = drawn.figure.axes
        means = table.pivot(index="layer", columns="dataset", values="mean")
        curves = [line for line in axes.lines if line.get_marker() == "."]
        order = means.loc[12].sort_values(ascending=False).index
        np.testing.assert_allclose([line.get_ydata() for line in curves], means[order].T)
        (thick,) = (line for line in axes.lines if line.get_linewidth() == 3.2)
        np.testing.assert_allclose(thick.get_ydata(), means.mean(axis=1))
        assert any(line.get_linestyle() == ":" and set(line.get_xdata()) == {12} for line in axes.lines)
        assert set(texts(axes)) == {published.label(name) for name in SETS}
        best = means.mean(axis=1)
        assert f"peaks at layer {best.idxmax()} with {best.max():.3g} logits per unit multiplier" in drawn.alt
        near = (means.loc[12] >= 0.9 * means.max()).sum()
        assert f"it is {best[12]:.3g}, and {near} of 4 reach 90%" in drawn.alt

    def test_curves_draw_mean_and_interval_and_mark_best_and_chosen_layer_which_has_a_reason(self):
        table = make_sweep()
        panels = layers.layer_curves(table, 12).figure.axes
        order = table[table["layer"] == 12].sort_values("mean", ascending=False)["dataset"]
        for axes, name in zip(panels, order, strict=True):
            own = table[table["dataset"] == name].sort_values("layer")
            curve = next(line for line in axes.lines if line.get_marker() == ".")
            np.testing.assert_allclose(curve.get_ydata(), own["mean"])
            ((layer, height),) = markers(axes, "o")
            assert layer == own.loc[own["mean"].idxmax(), "layer"] and height == own["mean"].max()
            assert axes.get_title() == f"{published.label(name)}\nbest: {layer}"
            assert any(line.get_linestyle() == ":" and set(line.get_xdata()) == {12} for line in axes.lines)
            (band,) = bands(axes)
            half = student_t.ppf(0.975, own["n"] - 1) * np.sqrt(own["variance"] / (own["n"] - 1))
            heights = band[:, 1]
            ends = (own["mean"] - half).min(), (own["mean"] + half).max()
            assert (heights.min(), heights.max()) == pytest.approx(ends, abs=1e-4)
        table = make_sweep(("openness", "myopic-reward"))
        assert table.groupby("layer")["mean"].mean().idxmax() == 12
        best, given = (layers.layer_curves(table, chosen).figure.get_suptitle() for chosen in (12, 8))
        assert best.endswith("chosen layer 12 (0-based block output): highest mean over 2 data sets")
        assert given.endswith("output): given; the mean over 2 data sets peaks at layer 12")

    def test_best_layers_say_what_the_chosen_layer_costs(self):
        table = make_sweep()
        drawn = layers.layer_curves(table, 12)
        best = drawn.table.set_index("dataset")
        means = table.pivot(index="layer", columns="dataset", values="mean")
        for name, row in best.iterrows():
            assert row["best"] == means[name].idxmax() and row["best_mean"] == means[name].max()
            assert row["chosen_mean"] == means.loc[12, name]
        assert best.loc["narcissism", "best"] == 4 and best.loc["narcissism", "share"] < 0.9
        assert best.loc["openness", ["best", "share", "overlap"]].tolist() == [12, 1.0, True]
        assert np.isnan(best.loc["my-own-set", "share"]) == (best.loc["my-own-set", "best_mean"] <= 0)
        assert f"is the best layer of {(best['best'] == 12).sum()} of them" in drawn.alt
        loss = best.set_index("label").eval("best_mean - chosen_mean")
        assert f"{loss.idxmax()} loses most" in drawn.alt and "logits per unit multiplier" in drawn.alt
        one = make_sweep(("openness",))
        assert "loses most" not in layers.layer_curves(one, 12).alt
        tables = [layers.layer_curves(one.assign(variance=v), 8).table for v in (1e-8, 1.0)]
        assert [table["overlap"].item() for table in tables] == [False, True]

    @pytest.mark.parametrize("draw", [layers.layer_sweep, layers.layer_curves])
    def test_a_hole_and_an_unknown_layer_are_refused_and_a_single_example_is_drawn(self, draw):
        table = make_sweep()
        refused(draw, table.iloc[1:], 12, said="1 empty cells")
        refused(draw, table, 13, said="chosen layer 13")
        draw(table.assign(n=1, variance=0.0), 12)


class TestFlaws:
    def test_the_split_shows_both_sides_of_the_table_with_the_difference_beside(self):
        table = flaws.split_effect(slopes(make_grid(scale=1.3, seed=1)), slopes(make_grid()))
        drawn = drawings.split_effect(table)
        left, right = drawn.figure.axes
        most = table.loc[table["mean_difference"].abs().idxmax()]
        assert f"most in {published.label(most['dataset'])} (" in drawn.alt
        assert minus(f"moves by {table['mean_difference'].mean():+.3g}") in drawn.alt
        table = table.sort_values("mean_corrected", ascending=False, ignore_index=True)
        assert ticks(left) == [published.label(name) for name in table["dataset"]]
        for axes, what in ((left, "mean"), (right, "anti_steerable")):
            for found, side in zip(points(axes), ("released", "corrected"), strict=True):
                assert list(found[:, 0]) == pytest.approx(list(table[f"{what}_{side}"]))
            assert texts(axes)[-1] == "Δ"
        assert texts(left)[:-1] == [minus(f"{d:+.2g}") for d in table["mean_difference"]]
        ends = [(line[0, 0], line[1, 0]) for line in segments(left)]
        np.testing.assert_allclose(ends[:4], table[["low_released", "high_released"]])
        np.testing.assert_allclose(ends[4:], table[["low_corrected", "high_corrected"]])

    def test_ticks_of_small_effects_are_apart(self):
        small, both = (slopes(make_grid(sets=sets, scale=0.02)) for sets in (SETS, SYCOPHANCY))
        split = drawings.split_effect(flaws.split_effect(small, small))
        pool = drawings.pooled_sycophancy(pooled(both))
        assert [crowded(drawn.figure) for drawn in (split, pool)] == [[], []]

    def test_the_bracket_puts_the_letter_alone_on_the_corrected_side(self):
        letter = slopes(make_grid())
        paper = letter.assign(steerability=letter["steerability"] + 0.25)
        drawn = drawings.closing_bracket(flaws.bracket_effect(letter, paper))
        with_bracket, alone = (found[:, 0] for found in points(drawn.figure.axes[0]))
        np.testing.assert_allclose(np.subtract(with_bracket, alone), 0.25)
        flipped = ((letter["steerability"] <= 0) != (paper["steerability"] <= 0)).mean()
        assert f"On average {flipped:.0%} of the examples" in drawn.alt
        assert "moves by +0.25 logits" in drawn.alt

    def test_contaminated_boxes_stand_in_the_same_rows_and_only_the_fallen_ones_are_hatched(self):
        table = flaws.released_groups(make_grid())
        drawn = drawings.contaminated_boxes(table)
        left, right = drawn.figure.axes
        at_zero = table[table["multiplier"] == 0]
        for axes, side, rows in ((left, "released", table), (right, "corrected", at_zero)):
            medians = rows.groupby(["dataset", side])["steerability"].median()
            assert sorted(medians_of(axes)) == pytest.approx(sorted(medians))
            hatched = [patch for patch in boxes(axes) if patch.get_hatch()]
            assert len(boxes(axes)) == 3 * 4 + 2 and len(hatched) == len(SETS) * (side == "released")
        assert texts(left)[:4] == ["2", "2", "2", str(6 * 8 + 2)] and texts(right)[:4] == ["2"] * 4
        assert left.get_title() == "as released" and left.get_ylim() == right.get_ylim()
        box = ["B", "B, No"]
        parts = table[table["released"].isin(box)], at_zero[at_zero["corrected"].isin(box)]
        fallen, own = (rows.groupby("dataset")["steerability"].median() for rows in parts)
        most = (fallen - own).abs().idxmax()
        words = f"most in {published.label(most)} ({fallen[most]:+.3g} as released"
        assert minus(words) in minus(drawn.alt)
        # A row stays empty where no example belongs to the box.
        grid = make_grid(sets=("openness",)).assign(positive_letter="A")
        left, right = drawings.contaminated_boxes(flaws.released_groups(grid)).figure.axes
        assert [len(medians_of(axes)) for axes in (left, right)] == [3, 2]
        assert texts(left) == ["4", "4", str(6 * 8), "n"] and texts(right) == ["4", "4", "n"]

    def test_pooled_sycophancy_shows_parts_and_pool_ours_and_published(self):
        drawn = drawings.pooled_sycophancy(pooled(slopes(make_grid(sets=SYCOPHANCY))))
        left, middle, right = drawn.figure.axes
        mean, median = points(left)
        np.testing.assert_allclose(mean[:, 0], drawn.table["mean"])
        np.testing.assert_allclose(median[:, 0], drawn.table["median"])
        np.testing.assert_allclose(widths(right), drawn.table["anti_steerable"])
        mean, median = points(middle)
        assert list(mean[:2, 0]) == [0.558, 0.443] and median[2, 0] == 0.714
        below = [label.splitlines()[1] for label in ticks(left)]
        assert below == ["(corrected)", "(corrected)", "(as released)"]
        assert "n = 8" in drawn.alt
        assert "median 0.714 logits per unit multiplier, 41% anti-steerable" in drawn.alt


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """As in the notebook: the two sets, and all their examples."""
    rows = []
    for name in (*SYCOPHANCY, "sycophancy"):
        slope = table.loc[table["dataset"].str.startswith(name), "steerability"]
        quartiles = slope.quantile([0.25, 0.5, 0.75])
        rows.append((name, "letter", len(slope), slope.mean(), *quartiles, (slope <= 0).mean()))
    return pd.DataFrame(rows, columns="dataset format n mean q1 median q3 anti_steerable".split())
