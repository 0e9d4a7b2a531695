"""Figures of the appendix, of the published numbers alone, and of the flaws: what is drawn is what the tables hold."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PathCollection
from scipy.stats import spearmanr

from companion import published
from companion.figures import style, tan_flaws, tan_layer_curves, tan_published, tan_ranges
from companion.tan import flaws
from companion.tan.ranges import by_range, fit_quality
from steerkit.errors import SteerkitError
from steerkit.steerability import slopes, summary

MULTIPLIERS = np.array([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
SETS = ("openness", "narcissism", "myopic-reward", "my-own-set")
ALL = list(published.datasets().index)
PUBLISHED_FIGURES = ("ranges_published",)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def make_grid(kind="letter", sets=SETS, items=8, layer=16, scale=1.0, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for j, name in enumerate(sets):
        for i in range(items):
            letter = "AB"[i % 2] if kind == "letter" else ""
            answered = kind == "yes-no" or (kind == "letter" and name != "myopic-reward")
            slope = scale * (0.6 - 0.3 * j + 0.05 * i)
            for k in MULTIPLIERS:
                value = slope * np.tanh(k) + rng.normal(0, 0.02)
                answer = ("Yes", "No")[i // 2 % 2] if answered else ""
                rows.append((name, f"{name}/{i}", kind, letter, answer, "full", layer, k, value, 0.0))
    columns = "dataset example_id format positive_letter positive_answer vector layer multiplier".split()
    grid = pd.DataFrame(rows, columns=[*columns, "matching", "not_matching"])
    return grid.assign(propensity=grid["matching"] - grid["not_matching"])


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


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def points(axes) -> list[np.ndarray]:
    return [np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)]


def segments(axes) -> list[np.ndarray]:
    return [line for c in axes.collections if isinstance(c, LineCollection) for line in c.get_segments()]


def tick_labels(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def markers(axes, shape: str) -> list[tuple[float, float]]:
    """Where single markers of a shape stand, from top to bottom."""
    found = [line for line in axes.lines if line.get_marker() == shape]
    return [(x, y) for line in found for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


# Ranges


def test_range_ablation_puts_a_marker_for_each_width_at_our_and_at_the_published_mean():
    table = by_range(make_grid(), draws=50)
    left, right = tan_ranges.range_ablation(table).axes
    for width, shape in zip((0.5, 1.0, 1.5), "osD", strict=True):
        ours = table[table["width"] == width].sort_values("mean", ascending=False)
        assert sorted(x for x, _ in markers(right, shape)) == pytest.approx(sorted(ours["mean"]))
        column = published.datasets()[f"mean_range_{width}_llama2-7b"]
        theirs = sorted(column[list(SETS[:3])])
        assert sorted(x for x, _ in markers(left, shape)) == pytest.approx(theirs)
    ends = sorted((line[0, 0], line[1, 0]) for line in segments(right))
    np.testing.assert_allclose(ends, sorted(zip(table["low"], table["high"], strict=True)))
    assert texts(left) == ["not in the paper"] and right.get_xlabel().endswith("(logits per unit multiplier)")


def test_range_ablation_rows_follow_our_widest_mean_with_narrow_above_wide():
    table = by_range(make_grid(), draws=50)
    left, right = tan_ranges.range_ablation(table).axes
    wide = table[table["width"] == 1.5].sort_values("mean", ascending=False)["dataset"]
    assert tick_labels(left) == [published.label(name) for name in wide]
    heights = {shape: [y for _, y in markers(right, shape)] for shape in "osD"}
    assert all(a < b < c for a, b, c in zip(*heights.values(), strict=True))
    assert np.round(heights["s"]).tolist() == [0, 1, 2, 3]


def test_range_ablation_in_another_unit_keeps_its_own_axis_and_leaves_an_empty_panel_bare():
    table = by_range(make_grid("statement", ("my-own-set",)), (0.5, 1.5), draws=50)
    left, right = tan_ranges.range_ablation(table).axes
    assert "nats per token" in right.get_xlabel() and len(left.get_xticks()) == 0
    assert len(markers(right, "o")) == len(markers(right, "D")) == 1 and not markers(right, "s")


def test_range_ablation_alt_text_states_means_shrinking_and_the_published_ones():
    table = by_range(make_grid(), draws=50)
    text = tan_ranges.range_ablation_alt(table)
    wide = table.pivot(index="dataset", columns="width", values="mean")
    for width in (0.5, 1.0, 1.5):
        assert f"{wide[width].mean():.3g} within ±{width:g}" in text
    assert "In 4 of 4 sets the mean is closer to zero over ±1.5 than over ±0.5" in text
    theirs = published.datasets().loc[list(SETS[:3])]
    first, last = (theirs[f"mean_range_{width}_llama2-7b"].mean() for width in (0.5, 1.5))
    assert f"known for 3 of 4, fall on average from {first:.3g} to {last:.3g} logits" in text
    alone = tan_ranges.range_ablation_alt(table[table["dataset"] == "my-own-set"])
    assert alone.endswith("The paper shows no such means for them.")


def test_range_ablation_refuses_a_missing_width_and_mixed_layers():
    table = by_range(make_grid(), draws=10)
    with pytest.raises(SteerkitError, match="1 missing means"):
        tan_ranges.range_ablation(table.iloc[1:])
    with pytest.raises(SteerkitError, match="layers 16, 20"):
        tan_ranges.range_ablation(pd.concat([table, table.assign(layer=20)]))


def test_residual_scatter_has_a_panel_a_set_with_its_points_over_grey_ones():
    table = fit_quality(slopes(make_grid()))
    panels = tan_ranges.residual_scatter(table).axes
    assert [axes.get_title() for axes in panels] == [published.label(name) for name in SETS]
    for axes, name in zip(panels, SETS, strict=True):
        own = table[table["dataset"] == name]
        grey, colored = points(axes)
        np.testing.assert_allclose(colored, own[["steerability", "rmse"]])
        assert len(grey) == len(table) - len(own)
        rho = spearmanr(own["steerability"].abs(), own["rmse"]).statistic
        assert texts(axes) == [f"ρ = {rho:.2f}".replace("-", "−")]
    assert len({axes.get_xlim() for axes in panels}) == len({axes.get_ylim() for axes in panels}) == 1


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_small_multiples_make_the_panels_asked_for_and_no_others(count):
    figure, panels = tan_ranges.small_multiples(count, 1.5, sharex=True)
    assert len(panels) == count == len(figure.axes) and figure.get_size_inches()[0] == style.WIDTH
    columns = min(count, 4)
    lowest = panels[-columns:]
    assert all(axes.xaxis.get_tick_params()["labelbottom"] for axes in lowest)


def test_residual_scatter_alt_text_names_extremes_and_the_overall_rank_correlation():
    table = fit_quality(slopes(make_grid()))
    table.loc[table["dataset"] == "narcissism", "rmse"] += 5
    text = tan_ranges.residual_scatter_alt(table)
    largest = table[table["dataset"] == "narcissism"]["rmse"].median()
    assert f"to {largest:.3g} logits (narcissism)" in text and "4 data sets, 32 examples" in text
    rho = spearmanr(table["steerability"].abs(), table["rmse"]).statistic
    assert text.endswith(f"rank correlation of {rho:.2f}.")


# Published numbers alone


@pytest.mark.parametrize("names", [published.SELECTED, ALL], ids=["selected", "all"])
@pytest.mark.parametrize("name", PUBLISHED_FIGURES)
def test_a_published_figure_says_that_it_is_digitised_and_so_does_its_alt_text(name, names):
    figure = getattr(tan_published, name)(names)
    figure.canvas.draw()
    assert tan_published.MARK in figure.get_suptitle() and figure.get_size_inches()[0] == style.WIDTH
    assert tan_published.MARK in getattr(tan_published, f"{name}_alt")(names)
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= style.SMALL


@pytest.mark.parametrize("name", PUBLISHED_FIGURES)
def test_a_published_figure_refuses_unknown_sets_and_none(name):
    with pytest.raises(SteerkitError, match="'opennes', which the paper does not have"):
        getattr(tan_published, name)(["opennes"])
    with pytest.raises(SteerkitError, match="at least one data set"):
        getattr(tan_published, name)([])


def test_ranges_published_shows_the_selected_sets_only_and_counts_those_that_shrink():
    (axes,) = tan_published.ranges_published(ALL).axes
    theirs = published.datasets().loc[list(published.SELECTED)]
    for width, shape in zip((0.5, 1.0, 1.5), "osD", strict=True):
        wanted = sorted(theirs[f"mean_range_{width}_llama2-7b"])
        assert sorted(x for x, _ in markers(axes, shape)) == pytest.approx(wanted)
    shrinking = (theirs["mean_range_1.5_llama2-7b"] < theirs["mean_range_0.5_llama2-7b"]).sum()
    assert f"It shrinks in {shrinking} sets, most in myopic reward" in tan_published.ranges_published_alt()
    with pytest.raises(SteerkitError, match="published means by range"):
        tan_published.ranges_published(["truthfulqa"])


# Layer curves


def test_layer_curves_draw_mean_and_interval_and_mark_best_and_chosen_layer():
    table = make_sweep()
    panels = tan_layer_curves.layer_curves(table, 12).axes
    order = table[table["layer"] == 12].sort_values("mean", ascending=False)["dataset"]
    for axes, name in zip(panels, order, strict=True):
        own = table[table["dataset"] == name].sort_values("layer")
        curve = next(line for line in axes.lines if line.get_marker() == ".")
        np.testing.assert_allclose(curve.get_ydata(), own["mean"])
        ((layer, height),) = markers(axes, "o")
        assert layer == own.loc[own["mean"].idxmax(), "layer"] and height == own["mean"].max()
        assert axes.get_title() == f"{published.label(name)}\nbest: {layer}"
        assert any(line.get_linestyle() == ":" and set(line.get_xdata()) == {12} for line in axes.lines)
        (band,) = [c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)]
        half = 1.96 * np.sqrt(own["variance"] / (own["n"] - 1))
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx((own["mean"] - half).min(), abs=1e-4)
        assert heights.max() == pytest.approx((own["mean"] + half).max(), abs=1e-4)


def test_the_title_gives_the_reason_of_the_choice():
    table = make_sweep(("openness", "myopic-reward"))
    means = table.groupby("layer")["mean"].mean()
    assert means.idxmax() == 12
    assert tan_layer_curves.reason(table, 12) == "highest mean over 2 data sets"
    assert tan_layer_curves.reason(table, 8) == "given; the mean over 2 data sets peaks at layer 12"
    assert (
        "chosen layer 8 (0-based block output): given;"
        in tan_layer_curves.layer_curves(table, 8).get_suptitle()
    )


def test_best_layers_say_what_the_chosen_layer_costs():
    table = make_sweep()
    best = tan_layer_curves.best_layers(table, 12).set_index("dataset")
    means = table.pivot(index="layer", columns="dataset", values="mean")
    for name, row in best.iterrows():
        assert row["best"] == means[name].idxmax() and row["best_mean"] == means[name].max()
        assert row["chosen_mean"] == means.loc[12, name]
    assert best.loc["narcissism", "best"] == 4 and best.loc["narcissism", "share"] < 0.9
    assert best.loc["openness", ["best", "share", "overlap"]].tolist() == [12, 1.0, True]
    assert np.isnan(best.loc["my-own-set", "share"]) == (best.loc["my-own-set", "best_mean"] <= 0)


def test_intervals_far_apart_do_not_overlap():
    table = make_sweep(("openness",)).assign(variance=1e-8)
    assert not tan_layer_curves.best_layers(table, 8)["overlap"].item()
    assert tan_layer_curves.best_layers(table.assign(variance=1.0), 8)["overlap"].item()


def test_layer_curves_alt_text_counts_and_names_the_greatest_loss():
    table = make_sweep()
    text = tan_layer_curves.layer_curves_alt(table, 12)
    best = tan_layer_curves.best_layers(table, 12)
    assert f"is the best layer of {(best['best'] == 12).sum()} of them" in text
    loss = best.set_index("label").eval("best_mean - chosen_mean")
    assert f"{loss.idxmax()} loses most" in text and "logits per unit multiplier" in text
    alone = make_sweep(("openness",))
    assert "loses most" not in tan_layer_curves.layer_curves_alt(alone, 12)


def test_layer_curves_refuse_a_hole_and_an_unknown_layer_and_draw_a_single_example():
    table = make_sweep()
    with pytest.raises(SteerkitError, match="1 empty cells"):
        tan_layer_curves.layer_curves(table.iloc[1:], 12)
    with pytest.raises(SteerkitError, match="chosen layer 13"):
        tan_layer_curves.layer_curves(table, 13)
    tan_layer_curves.layer_curves(table.assign(n=1, variance=0.0), 12).canvas.draw()


# Flaws


def test_split_effect_draws_both_sides_of_the_table_with_the_difference_beside():
    released, clean = slopes(make_grid(scale=1.3, seed=1)), slopes(make_grid())
    left, right = tan_flaws.split_effect(released, clean).axes
    table = flaws.split_effect(released, clean)
    table = table.sort_values("mean_corrected", ascending=False, ignore_index=True)
    assert tick_labels(left) == [published.label(name) for name in table["dataset"]]
    for axes, what in ((left, "mean"), (right, "anti_steerable")):
        for shape, side in (("D", "released"), ("o", "corrected")):
            assert [x for x, _ in markers(axes, shape)] == pytest.approx(list(table[f"{what}_{side}"]))
        assert texts(axes)[-1] == "Δ"
    assert texts(left)[:-1] == [f"{d:+.2f}".replace("-", "−") for d in table["mean_difference"]]
    ends = [(line[0, 0], line[1, 0]) for line in segments(left)]
    np.testing.assert_allclose(ends[:4], table[["low_released", "high_released"]])
    np.testing.assert_allclose(ends[4:], table[["low_corrected", "high_corrected"]])


def test_split_effect_alt_text_names_the_set_that_moves_most():
    released, clean = slopes(make_grid(scale=1.3, seed=1)), slopes(make_grid())
    table = flaws.split_effect(released, clean)
    most = table.loc[table["mean_difference"].abs().idxmax()]
    text = tan_flaws.split_effect_alt(released, clean)
    assert f"most in {published.label(most['dataset'])} (" in text
    assert f"moves by {table['mean_difference'].mean():+.3g}".replace("-", "−") in text


def test_closing_bracket_puts_the_letter_alone_on_the_corrected_side():
    letter = slopes(make_grid())
    paper = letter.assign(steerability=letter["steerability"] + 0.25)
    figure = tan_flaws.closing_bracket(letter, paper)
    with_bracket, alone = ([x for x, _ in markers(figure.axes[0], shape)] for shape in "Do")
    np.testing.assert_allclose(np.subtract(with_bracket, alone), 0.25)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["as released: letter and closing bracket", "corrected: letter alone"]
    flipped = ((letter["steerability"] <= 0) != (paper["steerability"] <= 0)).mean()
    text = tan_flaws.closing_bracket_alt(letter, paper)
    assert f"On average {flipped:.0%} of the examples" in text and "moves by +0.25 logits" in text


def medians_of(axes) -> list[float]:
    lines = [line for line in axes.lines if line.get_linewidth() == 1.4]
    return [line.get_xdata()[0] for line in lines]


def test_contaminated_boxes_stand_in_the_same_rows_and_only_the_fallen_ones_are_hatched():
    grid = make_grid()
    left, right = tan_flaws.contaminated_boxes(grid).axes
    table = flaws.released_groups(grid)
    for axes, side in ((left, "released"), (right, "corrected")):
        rows = table if side == "released" else table[table["multiplier"] == 0]
        medians = rows.groupby(["dataset", side])["steerability"].median()
        assert sorted(medians_of(axes)) == pytest.approx(sorted(medians))
        boxes = [patch for patch in axes.patches if type(patch).__name__ == "PathPatch"]
        hatched = [patch for patch in boxes if patch.get_hatch()]
        assert len(boxes) == 3 * 4 + 2 and len(hatched) == (len(SETS) if side == "released" else 0)
    assert texts(left)[:4] == ["2", "2", "2", str(6 * 8 + 2)] and texts(right)[:4] == ["2"] * 4
    assert left.get_title() == "as released" and left.get_ylim() == right.get_ylim()


def test_contaminated_boxes_leave_a_row_empty_where_no_example_belongs_to_the_box():
    grid = make_grid(sets=("openness",)).assign(positive_letter="A")
    left, right = tan_flaws.contaminated_boxes(grid).axes
    assert [len(medians_of(axes)) for axes in (left, right)] == [3, 2]
    assert texts(left) == ["4", "4", str(6 * 8), "n"] and texts(right) == ["4", "4", "n"]


def test_contaminated_boxes_alt_text_states_the_greatest_shift_of_a_median():
    grid = make_grid()
    table = flaws.released_groups(grid)
    fallen = table[table["released"].isin(["B", "B, No"])].groupby("dataset")["steerability"].median()
    zero = table[(table["multiplier"] == 0) & table["corrected"].isin(["B", "B, No"])]
    shift = fallen - zero.groupby("dataset")["steerability"].median()
    most = shift.abs().idxmax()
    text = tan_flaws.contaminated_boxes_alt(grid)
    assert f"most in {published.label(most)} ({fallen[most]:+.3g} as released".replace(
        "-", "−"
    ) in text.replace("-", "−")


def test_contaminated_boxes_refuse_other_formats_and_empty_tables():
    with pytest.raises(SteerkitError, match="format yes-no"):
        tan_flaws.contaminated_boxes(make_grid("yes-no"))
    with pytest.raises(SteerkitError, match="an empty one"):
        tan_flaws.contaminated_boxes(make_grid().iloc[:0])


def test_pooled_sycophancy_shows_parts_and_pool_ours_and_published():
    table = slopes(make_grid(sets=("sycophancy_train", "sycophancy_test")))
    left, middle, right = tan_flaws.pooled_sycophancy(table).axes
    ours = flaws.pooled(table)
    mean, median = points(middle)
    np.testing.assert_allclose(mean[:, 0], ours["mean"])
    np.testing.assert_allclose(median[:, 0], ours["median"])
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], ours["anti_steerable"])
    mean, median = points(left)
    assert list(mean[:2, 0]) == [0.558, 0.443] and median[2, 0] == 0.714
    assert [label.splitlines()[1] for label in tick_labels(left)] == [
        "(corrected)",
        "(corrected)",
        "(as released)",
    ]
    text = tan_flaws.pooled_sycophancy_alt(table)
    assert "n = 8" in text and "median 0.714 logits per unit multiplier, 41% anti-steerable" in text


@pytest.mark.parametrize(
    "draw",
    [
        lambda s: tan_flaws.split_effect(s, s),
        lambda s: tan_flaws.closing_bracket(s, s),
        tan_flaws.pooled_sycophancy,
        tan_flaws.pooled_sycophancy_alt,
        lambda s: tan_ranges.residual_scatter(fit_quality(s)),
    ],
)
def test_mixed_formats_and_gaps_are_refused_before_anything_is_drawn(draw):
    table = slopes(make_grid(sets=("sycophancy_train", "sycophancy_test")))
    mixed = pd.concat([table, table.assign(format="statement")])
    for broken, message in (
        (mixed, "one answer format"),
        (table.assign(steerability=np.nan), "rows without"),
    ):
        with pytest.raises(SteerkitError, match=message):
            draw(broken)
    assert not plt.get_fignums()


@pytest.mark.parametrize("kind", ["letter", "statement", "yes-no"])
@pytest.mark.parametrize("sets", [SETS, ("my-own-set-with-a-very-long-name-that-nobody-can-print",)])
def test_every_figure_is_drawn_without_warnings_in_one_width_and_legible(kind, sets):
    grid = make_grid(kind, sets)
    table = slopes(grid)
    figures = [
        tan_ranges.range_ablation(by_range(grid, draws=20)),
        tan_ranges.residual_scatter(fit_quality(table)),
        tan_layer_curves.layer_curves(make_sweep(sets, kind), 8),
        tan_flaws.split_effect(table, table),
        tan_flaws.closing_bracket(table, table),
    ]
    figures += [tan_flaws.contaminated_boxes(grid)] if kind == "letter" else []
    for figure in figures:
        figure.canvas.draw()
        assert figure.get_size_inches()[0] == style.WIDTH
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= style.SMALL
