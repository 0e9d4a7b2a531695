"""The figures of Mayne et al.: what is drawn is what the table holds, and the published numbers stand beside it."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import refused
from drawn import bands, points, segments, texts

from companion import published
from companion.figures import autoencoder, decompositions, style
from companion.mayne.activations import Contrast
from companion.mayne.features import pair_numbers
from steerkit.errors import SteerkitError
from steerkit.sae import Sae

MIDDLES = {"vector": 0.5, "vector, scaled": 2.0, "positive": -30.0, "negative": -32.0, "plain text": -40.0}


def norms() -> dict[str, np.ndarray]:
    sides = {"positive": np.full(4, 150.0), "negative": np.full(5, 200.0)}
    return {"plain text": np.geomspace(100, 400, 36)} | sides


def feature_table() -> pd.DataFrame:
    rows = [("v", r, f, a) for r, (f, a) in enumerate([(7, 5.0), (9, 3.0), (2, 1.0)], 1)]
    rows += [("zero", r, f, a) for r, (f, a) in enumerate([(7, 4.0), (2, 1.5)], 1)]
    return pd.DataFrame(rows, columns=["input", "rank", "feature", "activation"])


def sae() -> Sae:
    """Features 0 and 1 are opposite in part; feature 2 is lifted by 38 and active above 3."""
    axes = torch.eye(3)
    rows = torch.stack([axes[0], -0.6 * axes[0] + 0.8 * axes[1], axes[2]])
    threshold, bias = torch.tensor([0.2, 0.3, 3.0]), torch.tensor([-0.5, -0.1, 38.0])
    return Sae(rows.T.contiguous(), bias, rows, torch.zeros(3), "jumprelu", False, threshold)


def projections(**changed: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    middles = MIDDLES | changed
    return {
        what: middle + (torch.zeros(1) if what.startswith("vector") else torch.randn(40, generator=generator))
        for what, middle in middles.items()
    }


def answers() -> Contrast:
    """Two answers a side; the vector is -2 along the first axis."""
    negative = torch.tensor([[1.0, 0.0, -9.0], [2.0, 0.0, -9.0]])
    both = torch.stack([negative - torch.tensor([2.0, 0, 0]), negative], dim=1)
    return Contrast(both, both[:, :, None], np.arange(2), {})


def exchanged() -> Contrast:
    """The same with both sides exchanged: the vector is +2 along the first axis."""
    sides = answers()
    return Contrast(sides.means.flip(1), sides.parts.flip(1), sides.groups, {})


def by_layer() -> pd.DataFrame:
    table = pd.DataFrame({"format": "statement", "layer": range(8), "n": 10})
    means = 0.1 * table["layer"] * (9 - table["layer"])
    return table.assign(mean=means, low=means - 0.2, high=means + 0.2, placebo=0.1)


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


def behaviour(table: pd.DataFrame) -> style.Drawn:
    return decompositions.behaviour(table, "letter")


def stability_table() -> pd.DataFrame:
    rows = [("encode", 8, 0.9, 0.8, 1.0), ("signed-pursuit, shuffled dictionary", 8, 0.1, 0.0, 0.2)]
    return pd.DataFrame(rows, columns=["method", "n_features", "jaccard", "low", "high"])


class TestNorms:
    def test_bars_are_shares_of_each_group_and_the_line_is_the_vector(self):
        found = autoencoder.figure_1(norms(), 12.5)
        [axes] = found.figure.axes
        heights = [[bar.get_height() for bar in group] for group in axes.containers]
        named = [group.get_label() for group in axes.containers]
        assert named == ["plain text (n = 36)", "positive answers (n = 4)", "negative answers (n = 5)"]
        plain = found.table[found.table["what"] == "plain text"]
        np.testing.assert_allclose(heights[0], plain["count"] / 36)
        assert [sum(some) for some in heights] == pytest.approx([1, 1, 1])
        assert axes.lines[0].get_xdata()[0] == 12.5 and axes.get_xscale() == "log"
        assert axes.get_xlim()[0] < 12.5 and texts(axes) == ["steering vector\n12.5"]
        for words in ("36 tokens", "line at 12.5", "12.5, is shorter than every token;"):
            assert words in found.alt
        assert "longer than 100.0%" in autoencoder.figure_1(norms(), 1e4).alt
        counts = found.table.groupby("what")["count"].sum()  # every token once
        assert counts.to_dict() == {"negative": 5, "plain text": 36, "positive": 4, "vector": 1}
        values = norms()["plain text"]
        for row in plain.itertuples():
            assert row.count == ((values >= row.low) & (values < row.high)).sum()


class TestFeatures:
    def test_bars_are_activations_ours_left_and_published_right(self):
        found = autoencoder.figure_2(feature_table(), "v", "mine")
        ours, theirs = found.figure.axes
        widths = [[bar.get_width() for bar in group] for group in theirs.containers]
        assert widths[0] == [95.04, 36.34, 22.64, 18.89, 11.35]
        assert widths[1] == [89.06, 35.94, 19.80, 11.84, 10.74]
        assert [[bar.get_width() for bar in group] for group in ours.containers] == [[5, 3, 1], [4, 1.5]]
        assert [label.get_text() for label in ours.get_yticklabels()] == ["7", "9", "2"]
        bars = [bar for group in ours.containers for bar in group]
        places = {bar.get_width(): bar.get_y() + bar.get_height() / 2 for bar in bars}
        assert (places[4], places[1.5]) == pytest.approx((0.2, 2.2))  # beside the same feature
        for words in ("4888 (95.04)", "9 (3.00)", "4 features are in both", "2 features are in both"):
            assert words in found.alt

    def test_table_1_lists_and_counts(self):
        table = autoencoder.table_1(feature_table())
        assert table["source"].tolist() == ["published", "published", "ours", "ours"]
        ours = table.loc[2, ["input", "1", "3", "4", "also in zero"]].tolist()
        assert ours == ["v", "7 (5.00)", "2 (1.00)", "", "2 of 3"]
        assert table.loc[0, "also in zero"] == "4 of 5" and table.loc[0, "2"] == "15603 (36.34)"

    def test_inputs_that_activate_nothing_say_so(self):
        found = autoencoder.figure_2(feature_table().iloc[:0], "v")
        assert texts(found.figure.axes[0]) == ["no feature is active"]
        assert "none, since nothing is active" in found.alt
        assert found.table.iloc[-1][["input", "1"]].tolist() == ["zero", "no feature is active"]


class TestDose:
    def test_lines_are_the_rows_and_both_norms_are_marked(self):
        kinds = {"vector": np.linspace(5, 1, 9), "label-shuffled": np.linspace(5, 0, 9)}
        kinds["isotropic"] = np.full(9, 2.0)
        parts = [pd.DataFrame({"what": what, "shared": shared}) for what, shared in kinds.items()]
        parts = [part.assign(norm=np.geomspace(1, 100, 9)) for part in parts]
        table = pd.concat(parts).eval("low = shared - 0.75\nhigh = shared + 0.75")
        found = autoencoder.dose(table, 10.0, 100.0)
        [axes] = found.figure.axes
        lines = {line.get_label(): line for line in axes.lines}
        np.testing.assert_allclose(lines["label-shuffled"].get_ydata(), kinds["label-shuffled"])
        assert [line.get_xdata()[0] for line in axes.lines[3:]] == [10.0, 100.0]
        assert texts(axes) == ["steering vector", "activations"]
        said = "vector 3 at the norm of the steering vector, 10, and 1 at that of activations, 100"
        assert said in found.alt
        # A band for each placebo; the vector leaves that of shuffled labels where the lines are 0.75 apart.
        shuffled, isotropic = bands(axes)
        for outline, shared in ((shuffled, kinds["label-shuffled"]), (isotropic, kinds["isotropic"])):
            ends = (shared.min() - 0.75, shared.max() + 0.75)
            assert (outline[:, 1].min(), outline[:, 1].max()) == pytest.approx(ends)
        assert "the vector below at 0 and above at 2 of 9 norms" in found.alt
        assert "the vector below at 1 and above at 5 of 9 norms" in found.alt
        assert found.table[["low", "high", "vector_norm"]].notna().all(axis=None)


class TestDefault:
    def test_the_right_axis_is_the_left_one_moved_by_the_offset_and_bars_are_medians(self):
        given = projections()
        figure = autoencoder.figure_3(sae(), 2, given).figure
        axes = figure.axes[0]
        figure.canvas.draw()
        [right] = axes.child_axes
        np.testing.assert_allclose(right.get_ylim(), np.array(axes.get_ylim()) + 38)
        heights = [line.get_ydata()[0] for line in axes.lines]
        assert 3.0 - 38.0 in heights and 2.0 in heights and 0.5 in heights
        assert "4888" in axes.get_title() and "86.20" in axes.get_title() and "feature 2" in axes.get_title()
        bars = [ends[0, 1] for ends in segments(axes)]
        expected = [np.median(given[what].numpy()) for what in ("plain text", "positive", "negative")]
        np.testing.assert_allclose(bars, expected, rtol=1e-6)

    def test_the_table_has_every_point_and_the_alt_text_says_what_is_active(self):
        given = projections(positive=-60.0)
        found = autoencoder.figure_3(sae(), 2, given)
        counts = found.table["what"].value_counts()
        assert counts["plain text"] == 40 and counts["vector"] == 1
        assert "feature 2" in found.alt and "scaled to the median norm 2, active" in found.alt
        middle = f"{-np.median(given['positive'].numpy()):.3g}"
        assert f"positive answers median −{middle}" in found.alt and "active in 0%" in found.alt


class TestSigns:
    def test_histograms_count_tokens_and_lines_are_the_vector(self):
        found = autoencoder.figure_4(sae(), answers(), 9.0, (0, 1))
        numbers = pair_numbers(answers(), sae(), 9.0, (0, 1))
        for axes, (_, one) in zip(found.figure.axes, numbers.iterrows(), strict=True):
            assert [int(sum(bar.get_height() for bar in group)) for group in axes.containers] == [2, 2]
            alone = one["projection of the vector"] + one["pre-activation at zero"]
            expected = [one["threshold"], alone, one["scaled vector, pre-activation"]]
            assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx(expected)
        assert "14004" in found.figure.axes[0].get_title() and "3517" in found.figure.axes[1].get_title()
        assert "−0.82" in found.figure.get_suptitle() and "−0.6" in found.figure.get_suptitle()
        assert found.table["feature"].tolist() == [0] * 4 + [1] * 4
        assert "Feature 0, truly negative: active on 0% of the positive and 100%" in found.alt
        assert "cosine of −0.6" in found.alt and "cosine of −0.82" in found.alt

    def test_a_pair_that_fails_the_rule_on_all_groups_says_so_in_place_of_what_it_was_chosen_as(self):
        kept, turned = (autoencoder.figure_4(sae(), each, 9.0, (0, 1)) for each in (answers(), exchanged()))
        titles = [axes.get_title().split(":")[0] for axes in kept.figure.axes]
        assert titles == ["chosen as truly negative", "chosen as spurious"]
        negative, spurious = (axes.get_title() for axes in turned.figure.axes)
        assert negative.startswith("best found as truly negative: feature 0") and "but fails:" in negative
        assert "projection +2, should be below 0; activated by the vector" in negative
        assert "projection −1.2, should be above 0; not activated by the vector" in spurious
        assert turned.alt.count("It fails the rule") == 2 and "fails" not in kept.alt

    def test_the_numbers_are_those_of_the_formula_beside_theirs(self):
        table = autoencoder.pair_table(sae(), answers(), 9.0, (0, 1)).set_index("number")
        assert table.loc["ours"].tolist() == [0, 1]
        assert table.loc["published feature"].tolist() == [14004, 3517]
        assert table.loc["projection of the vector"].tolist() == pytest.approx([-2, 1.2])
        assert table.loc["activation of the vector"].tolist() == pytest.approx([0, 1.1])
        assert table.loc["scaled vector, pre-activation"].tolist() == pytest.approx([-9.5, 5.3])
        assert table.loc["threshold"].tolist() == pytest.approx([0.2, 0.3])
        assert table.loc["active on negative answers"].tolist() == [1, 0]
        assert table.loc["cosine, decoder"].tolist() == pytest.approx([-0.6] * 2)


class TestLayers:
    def test_the_best_layer_the_autoencoders_and_the_published_depth_are_marked(self):
        found = autoencoder.figure_5(by_layer(), 8, 5)
        labels = {line.get_label(): line.get_xdata()[0] for line in found.figure.axes[0].lines}
        assert labels["best, layer 4"] == 4 and labels["autoencoder, layer 5"] == 5
        layer, blocks = published.best_layer()
        assert labels["published best, 14 of 26 (same depth)"] == pytest.approx(7 * layer / (blocks - 1))
        assert "layer 4, 2 with a 95% interval from 1.8 to 2.2" in found.alt
        assert list(found.table.columns) == ["format", "layer", "mean", "low", "high", "n", "placebo"]

    def test_two_data_sets_at_once_are_refused(self):
        refused(autoencoder.figure_5, pd.concat([by_layer(), by_layer()]), 8, 5, said="each layer once")


class TestDecompositions:
    def test_curves_are_the_rows_and_what_leaves_the_panel_is_named(self):
        found = decompositions.curves(curve_table())
        [axes] = found.figure.axes
        lines = {line.get_label(): line for line in axes.lines}
        np.testing.assert_allclose(lines["signed-pursuit"].get_ydata(), [0.1, 0.2, 0.4, 0.8])
        assert lines["signed-pursuit, random vector"].get_color() == style.PUBLISHED
        assert axes.get_ylim()[0] == decompositions.FLOOR
        assert texts(axes) == ["below the panel: encode: −800"]
        assert "pairs: signed-pursuit 0.8 [0.75, 0.85]" in found.alt

    def test_behaviour_has_a_row_a_vector_with_its_interval(self):
        found = decompositions.behaviour(behaviour_table(), "statement")
        [axes] = found.figure.axes
        np.testing.assert_allclose(points(axes), [[[0.5, 0], [0.1, 1], [0.0, 2]]])
        ends = [line[:, 0] for line in segments(axes)][:3]
        np.testing.assert_allclose(ends, [[0.4, 0.6], [-0.2, 0.3], [-0.1, 0.1]])
        assert {"n/a", "30.00", "item r"} <= set(texts(axes)) and "nats per token" in axes.get_xlabel()
        assert "encode 0.1 [−0.2, 0.3], cosine −0.1, norm 30" in found.alt
        with pytest.raises(SteerkitError, match="a row of the original vector"):
            behaviour(behaviour_table().iloc[1:])

    def test_stability_has_a_row_a_method(self):
        found = decompositions.stability(stability_table())
        np.testing.assert_allclose(points(found.figure.axes[0]), [[[0.9, 0], [0.1, 1]]])
        assert "shuffled dictionary 0.1 [0, 0.2]" in found.alt


@pytest.mark.parametrize("bad", [None, [], [np.nan]])
def test_sources_without_points_or_with_numbers_that_are_none_are_refused(bad):
    changed = {"plain text": None if bad is None else torch.tensor(bad)}
    for draw, given in (
        (lambda sides: autoencoder.figure_1(sides, 12.5), norms()),
        (lambda sides: autoencoder.figure_3(sae(), 2, sides), projections()),
    ):
        sides = {what: values for what, values in (given | changed).items() if values is not None}
        refused(draw, sides, said=r"plain text.*Nothing was drawn")
