"""The figures of Mayne et al.: what is drawn is what the table holds, and the published numbers stand beside it."""

from __future__ import annotations

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection

from companion import published_mayne
from companion.figures import (
    mayne_decompositions,
    mayne_default,
    mayne_features,
    mayne_layers,
    mayne_norms,
    mayne_signs,
    style,
)
from companion.mayne.features import Component, Sign, Signs
from steerkit.errors import SteerkitError

COMPONENT = {"plain text": -40.0, "positive": -30.0, "negative": -32.0, "vector, scaled": 2.0, "vector": 0.5}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def norm_table() -> pd.DataFrame:
    edges = np.geomspace(100, 400, 9)
    rows = [("plain text", low, high, n) for low, high, n in zip(edges, edges[1:], range(1, 9), strict=False)]
    rows += [
        ("positive", edges[2], edges[3], 4),
        ("negative", edges[3], edges[4], 5),
        ("vector", 12.5, 12.5, 1),
    ]
    return pd.DataFrame(rows, columns=["what", "low", "high", "count"])


def feature_table() -> pd.DataFrame:
    rows = [("v", r, f, a) for r, (f, a) in enumerate([(7, 5.0), (9, 3.0), (2, 1.0)], 1)]
    rows += [("zero", r, f, a) for r, (f, a) in enumerate([(7, 4.0), (2, 1.5)], 1)]
    return pd.DataFrame(rows, columns=["input", "rank", "feature", "activation"])


def component(**changed: float) -> Component:
    rng, rows = np.random.default_rng(0), []
    for what, middle in {**COMPONENT, **changed}.items():
        count = 1 if what.startswith("vector") else 40
        rows += [(what, middle + (rng.normal() if count > 1 else 0)) for _ in range(count)]
    return Component(11, 38.0, 3.0, pd.DataFrame(rows, columns=["what", "projection"]))


def some_signs() -> Signs:
    negative = Sign("negative", 3, -2.0, -0.5, 0.2, 0.0, 0.1, 0.8, -20.0)
    spurious = Sign("spurious", 8, 1.5, -0.1, 0.3, 1.4, 0.0, 0.02, 15.0)
    rows = [
        (one.role, one.feature, side, value)
        for one in (negative, spurious)
        for side, values in (("positive", [0.0, 0.5]), ("negative", [1.0, 2.0, 3.0]))
        for value in values
    ]
    table = pd.DataFrame(rows, columns=["role", "feature", "side", "pre_activation"])
    return Signs(negative, spurious, -0.7, -0.6, table)


def summary() -> pd.DataFrame:
    rows = [
        ("corrigible-neutral-HHH", "statement", "full", layer, 10, 0.1 * layer * (9 - layer), 0.4)
        for layer in range(8)
    ]
    return pd.DataFrame(rows, columns=["dataset", "format", "vector", "layer", "n", "mean", "variance"])


def curve_table() -> pd.DataFrame:
    rows = [("signed-pursuit", n, 0.1 * n, 0.1 * n - 0.05, 0.1 * n + 0.05) for n in (1, 2, 4, 8)]
    rows += [("encode", n, -100.0 * n, -120.0 * n, -90.0 * n) for n in (1, 2, 4, 8)]
    rows += [("signed-pursuit, random vector", n, 0.05 * n, 0.0, 0.1) for n in (1, 2, 4, 8)]
    return pd.DataFrame(rows, columns=["method", "n_features", "explained", "low", "high"])


def behaviour_table() -> pd.DataFrame:
    rows = [
        ("original vector", 1.0, 1.0, 0.5, 0.4, 0.6, 1.0),
        ("encode", -0.1, 30.0, 0.1, -0.2, 0.3, np.nan),
        ("random vector", 0.0, 1.0, 0.0, -0.1, 0.1, 0.1),
    ]
    return pd.DataFrame(rows, columns=["vector", "cosine", "norm", "estimate", "low", "high", "items"])


def stability_table() -> pd.DataFrame:
    rows = [("encode", 8, 0.9, 0.8, 1.0), ("signed-pursuit, shuffled dictionary", 8, 0.1, 0.0, 0.2)]
    return pd.DataFrame(rows, columns=["method", "n_features", "jaccard", "low", "high"])


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def words(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


class TestNorms:
    def test_bars_are_shares_of_each_group_and_the_line_is_the_vector(self):
        table = norm_table()
        [axes] = mayne_norms.norms(table).axes
        groups = {group.get_label().partition(" (")[0]: group for group in axes.containers}
        plain = [bar.get_height() for bar in groups["plain text"]]
        np.testing.assert_allclose(plain, np.arange(1, 9) / 36)
        assert [sum(bar.get_height() for bar in group) for group in groups.values()] == pytest.approx(
            [1, 1, 1]
        )
        assert axes.lines[0].get_xdata()[0] == 12.5 and axes.get_xscale() == "log"
        assert axes.get_xlim()[0] < 12.5 and texts(axes) == ["steering vector\n12.5"]

    def test_the_alt_text_has_the_numbers(self):
        text = mayne_norms.norms_alt(norm_table())
        assert "36 tokens" in text and "line at 12.5" in text and "longer than 0.0%" in text
        far = norm_table().replace({"low": {12.5: 1e4}, "high": {12.5: 1e4}})
        assert "longer than 100.0%" in mayne_norms.norms_alt(far)

    @pytest.mark.parametrize("missing", ["plain text", "vector"])
    def test_a_table_without_its_main_parts_is_refused(self, missing):
        table = norm_table()
        with pytest.raises(SteerkitError, match=f"no {missing}"):
            mayne_norms.norms(table[table["what"] != missing])


class TestFeatures:
    def test_bars_are_activations_published_left_and_ours_right(self):
        theirs, ours = mayne_features.most_active(feature_table(), "v", "mine").axes
        widths = [[bar.get_width() for bar in group] for group in theirs.containers]
        assert widths[0] == [95.04, 36.34, 22.64, 18.89, 11.35] and widths[1] == [
            89.06,
            35.94,
            19.80,
            11.84,
            10.74,
        ]
        assert [[bar.get_width() for bar in group] for group in ours.containers] == [[5, 3, 1], [4, 1.5]]
        assert [label.get_text() for label in ours.get_yticklabels()] == ["7", "9", "2"]
        places = {
            bar.get_width(): bar.get_y() + bar.get_height() / 2 for group in ours.containers for bar in group
        }
        assert places[4] == pytest.approx(0.2) and places[1.5] == pytest.approx(
            2.2
        )  # beside the same feature

    def test_table_1_lists_and_counts(self):
        table = mayne_features.table_1(feature_table())
        assert table["source"].tolist() == ["published", "published", "ours", "ours"]
        assert table.loc[2, ["input", "1", "3", "4", "also in zero"]].tolist() == [
            "v",
            "7 (5.00)",
            "2 (1.00)",
            "",
            "2 of 3",
        ]
        assert table.loc[0, "also in zero"] == "4 of 5" and table.loc[0, "2"] == "15603 (36.34)"

    def test_inputs_that_activate_nothing_say_so(self):
        empty = feature_table().iloc[:0]
        figure = mayne_features.most_active(empty, "v")
        assert texts(figure.axes[1]) == ["no feature is active"]
        assert "none, since nothing is active" in mayne_features.most_active_alt(empty, "v")
        last = mayne_features.table_1(empty).iloc[-1]
        assert (last["input"], last["1"]) == ("zero", "no feature is active")

    def test_the_alt_text_has_both(self):
        text = mayne_features.most_active_alt(feature_table(), "v")
        assert "4888 (95.04)" in text and "9 (3.00)" in text and "4 features are in both" in text
        assert "2 features are in both" in text


class TestDefault:
    def test_the_right_axis_is_the_left_one_moved_by_the_offset(self):
        figure = mayne_default.default_component(component())
        axes = figure.axes[0]
        figure.canvas.draw()
        [right] = axes.child_axes
        np.testing.assert_allclose(right.get_ylim(), np.array(axes.get_ylim()) + 38)
        heights = [line.get_ydata()[0] for line in axes.lines]
        assert 3.0 - 38.0 in heights and 2.0 in heights and 0.5 in heights
        assert "4888" in axes.get_title() and "86.20" in axes.get_title() and "feature 11" in axes.get_title()

    def test_medians_are_drawn(self):
        made = component()
        [axes] = mayne_default.default_component(made).axes[:1]
        bars = [c.get_segments()[0][0, 1] for c in axes.collections if isinstance(c, LineCollection)]
        expected = made.table.groupby("what")["projection"].median()
        np.testing.assert_allclose(bars, expected[["plain text", "positive", "negative"]])

    def test_the_alt_text_says_what_is_active(self):
        text = mayne_default.default_component_alt(component(positive=-60.0))
        assert "feature 11" in text and "scaled to the median norm 2, active" in text
        middle = component(positive=-60.0).table.groupby("what")["projection"].median()["positive"]
        assert f"positive answers median −{-middle:.3g}" in text and "active in 0%" in text

    def test_a_source_without_points_is_refused(self):
        made = component()
        less = replace(made, table=made.table[made.table["what"] != "negative"])
        with pytest.raises(SteerkitError, match="none of negative"):
            mayne_default.default_component(less)


class TestSigns:
    def test_histograms_count_tokens_and_lines_are_the_vector(self):
        figure = mayne_signs.signs(some_signs())
        for axes, one in zip(figure.axes, (some_signs().negative, some_signs().spurious), strict=True):
            assert [int(sum(bar.get_height() for bar in group)) for group in axes.containers] == [2, 3]
            assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx(
                [one.threshold, one.projection + one.offset, one.scaled]
            )
        assert "14004" in figure.axes[0].get_title() and "3517" in figure.axes[1].get_title()
        assert "−0.82" in figure.get_suptitle() and "−0.7" in figure.get_suptitle()

    def test_the_table_sets_ours_beside_theirs(self):
        table = mayne_signs.signs_table(some_signs())
        assert table["ours"].tolist() == [3, 8] and table["published feature"].tolist() == [14004, 3517]
        assert table["activation of the vector"].tolist() == [0.0, 1.4]

    def test_the_alt_text_has_the_numbers(self):
        text = mayne_signs.signs_alt(some_signs())
        assert "Feature 3, truly negative: active on 10% of the positive and 80%" in text
        assert "cosine of −0.7" in text and "cosine of −0.82" in text


class TestLayers:
    def test_the_best_layer_the_autoencoders_and_the_published_depth_are_marked(self):
        [axes] = mayne_layers.layers(summary(), 8, 5).axes
        labels = {line.get_label(): line.get_xdata()[0] for line in axes.lines}
        assert labels["best, layer 4"] == 4 and labels["autoencoder, layer 5"] == 5
        layer, blocks = published_mayne.best_layer()
        assert labels["published best, 14 of 26 (same depth)"] == pytest.approx(7 * layer / (blocks - 1))
        assert "layer 4, 2 with" in mayne_layers.layers_alt(summary(), 8, 5)

    def test_intervals_are_of_the_mean(self):
        rows = mayne_layers.by_layer(summary())
        assert (rows["high"] - rows["mean"]).tolist() == pytest.approx([1.959964 * np.sqrt(0.4 / 9)] * 8)

    def test_two_data_sets_at_once_are_refused(self):
        both = pd.concat([summary(), summary().assign(dataset="openness")])
        with pytest.raises(SteerkitError, match="each layer once"):
            mayne_layers.layers(both, 8, 5)


class TestDecompositions:
    def test_curves_are_the_rows_and_what_leaves_the_panel_is_named(self):
        [axes] = mayne_decompositions.curves(curve_table()).axes
        lines = {line.get_label(): line for line in axes.lines}
        np.testing.assert_allclose(lines["signed-pursuit"].get_ydata(), [0.1, 0.2, 0.4, 0.8])
        assert lines["signed-pursuit, random vector"].get_color() == style.PUBLISHED
        assert axes.get_ylim()[0] == mayne_decompositions.FLOOR
        assert texts(axes) == ["below the panel: encode: −800"]
        text = mayne_decompositions.curves_alt(curve_table())
        assert "With 8 features: signed-pursuit 0.8 [0.75, 0.85]" in text

    def test_behaviour_has_a_row_a_vector_with_its_interval(self):
        axes, side = mayne_decompositions.behaviour(behaviour_table(), "statement").axes
        points = next(c for c in axes.collections if isinstance(c, PathCollection)).get_offsets()
        np.testing.assert_allclose(points, [[0.5, 0], [0.1, 1], [0.0, 2]])
        segments = next(c for c in axes.collections if isinstance(c, LineCollection)).get_segments()
        np.testing.assert_allclose([s[:, 0] for s in segments], [[0.4, 0.6], [-0.2, 0.3], [-0.1, 0.1]])
        assert "n/a" in texts(side) and "30.00" in texts(side) and "nats per token" in axes.get_xlabel()
        assert "encode 0.1 [−0.2, 0.3], cosine −0.1, norm 30" in mayne_decompositions.behaviour_alt(
            behaviour_table()
        )
        with pytest.raises(SteerkitError, match="a row of the original vector"):
            mayne_decompositions.behaviour(behaviour_table().iloc[1:], "letter")

    def test_stability_has_a_row_a_method(self):
        [axes] = mayne_decompositions.stability(stability_table()).axes
        points = next(c for c in axes.collections if isinstance(c, PathCollection)).get_offsets()
        np.testing.assert_allclose(points, [[0.9, 0], [0.1, 1]])
        assert "shuffled dictionary 0.1 [0, 0.2]" in mayne_decompositions.stability_alt(stability_table())


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (mayne_norms.norms, norm_table()),
        (mayne_decompositions.curves, curve_table()),
        (mayne_decompositions.stability, stability_table()),
        (mayne_layers.by_layer, summary()),
    ],
)
def test_empty_tables_missing_columns_and_numbers_that_are_none_are_refused(draw, table):
    number = table.select_dtypes("number").columns[-1 if draw is mayne_norms.norms else 1]
    for bad in (table.iloc[:0], table.drop(columns=table.columns[0]), table.assign(**{number: np.nan})):
        with pytest.raises(SteerkitError, match="Nothing was drawn"):
            draw(bad)


def test_no_text_is_smaller_than_the_smallest_allowed():
    for figure in (
        mayne_norms.norms(norm_table()),
        mayne_features.most_active(feature_table(), "v"),
        mayne_default.default_component(component()),
        mayne_signs.signs(some_signs()),
        mayne_layers.layers(summary(), 8, 5),
        mayne_decompositions.curves(curve_table()),
        mayne_decompositions.behaviour(behaviour_table(), "letter"),
        mayne_decompositions.stability(stability_table()),
    ):
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= style.SMALL and "nan" not in words(figure)
