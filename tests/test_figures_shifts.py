"""Figures 5 to 7 of Tan et al. and their appendix: what is drawn is what the table holds, in its own unit."""

import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import refused
from drawn import minus, texts
from drawn import points as clouds
from matplotlib.collections import PathCollection
from scipy.stats import linregress, spearmanr
from test_shifts import make_slopes, make_vectors, some_shifts

from companion import published
from companion.figures import scatter, settings, style
from companion.tan import tables, work
from steerkit.errors import SteerkitError

PAPER = ["llama2-7b", "qwen1.5-14b"]
SETS = published.SELECTED[:6]


def published_rows(*models: str) -> pd.DataFrame:
    return published.shifts().query("model in @models")


def our_rows(model: str = "smollm2-135m", sets=SETS, kind: str = "statement") -> pd.DataFrame:
    """SHIFTS with intervals, a tenth of the published scale."""
    rng, rows = np.random.default_rng(0), []
    for name in sets:
        for shift in (tables.SAME, *tables.MOVED):
            mean = 0.1 * rng.normal()
            interval = (mean, mean - 0.02, mean + 0.03)
            rows.append((name, model, *shift, *interval, rng.uniform(0.01, 0.02), 9, kind))
    return pd.DataFrame(rows, columns=tables.SHIFTS)


def our_relative() -> pd.DataFrame:
    return tables.relative(make_slopes(), "smollm2-135m")


def our_cosines() -> pd.DataFrame:
    pairs = {name: work.pairwise(own) for name, own in make_vectors().items()}
    return tables.cosines(pairs, make_slopes(), "smollm2-135m")


def points(axes) -> np.ndarray:
    return np.vstack(clouds(axes))


def corner_of(axes) -> str:
    return next(text.get_text() for text in axes.texts if text.get_gid() == "corner")


def names_of(axes) -> list[str]:
    """Labels of data sets in a panel; line breaks undone, so that they compare with published.label."""
    written = [text for text in axes.texts if text.get_text() and text.get_gid() != "corner"]
    return [text.get_text().replace("-\n", "-").replace("\n", " ") for text in written]


def from_line(x: pd.Series, y: pd.Series) -> pd.Series:
    """Distances from the least-squares line."""
    line = linregress(x, y)
    return (y - line.intercept - line.slope * x).abs()


def named(distance: pd.Series) -> list[str]:
    """The names of the three farthest."""
    return [published.label(name) for name in distance.nlargest(3).index]


class TestFigure5:
    def test_it_has_a_column_a_model_and_a_row_a_shift_with_the_values_of_the_paper(self):
        rows = published_rows(*PAPER)
        drawn = settings.figure_5(rows)
        panels, text, far = np.reshape(drawn.figure.axes, (4, 2)), drawn.alt, {}
        for (row, column), axes in np.ndenumerate(panels):
            model = PAPER[column]
            both = tables.paired(rows, (model, *tables.SAME), (model, *tables.MOVED[row]), "mean")
            np.testing.assert_allclose(points(axes), both)
            rho = spearmanr(both["x"], both["y"]).statistic
            assert re.fullmatch(rf"ρ {rho:.2f} \[.+\]", corner_of(axes))  # and no other coefficient
            line = linregress(both["x"], both["y"])
            shown = next(line for line in axes.lines if line.get_linewidth() == 1.5)
            np.testing.assert_allclose(shown.get_ydata(), line.intercept + line.slope * shown.get_xdata())
            assert axes.get_xlim() == axes.get_ylim() == panels[0, 0].get_xlim()  # one unit, one range
            far.setdefault(model, []).append((both["y"] - both["x"]).abs())
        for model, column in zip(PAPER, panels.T, strict=True):  # the same sets in every panel
            expected = named(pd.concat(far[model], axis=1).max(axis=1))
            assert [names_of(axes) for axes in column] == [expected] * 4
        assert "Llama-2-7b" in panels[0, 0].get_title()
        assert "(logits per unit multiplier)" in panels[0, 1].get_title()
        assert [axes.get_ylabel() for axes in panels[:, 0]] == [f"{a} → {b}" for a, b in tables.MOVED]
        assert "BASE to USER_NEG (39 data sets) Spearman 0.90, farthest" in text
        assert "SYS_NEG to USER_POS (39 data sets) Spearman 0.48, farthest" in text
        assert "farthest from x = y is life has no meaning (2.85 to −1.94)" in text
        variance = settings.figure_5(published_rows("llama2-7b"), "variance").alt
        assert "SYS_POS to USER_NEG (39 data sets) Spearman 0.54" in variance

    def test_another_unit_has_its_own_axes_error_bars_and_colour(self):
        drawn = settings.figure_5(pd.concat([published_rows("llama2-7b"), our_rows()]))
        theirs, ours = np.reshape(drawn.figure.axes, (4, 2)).T
        span = np.ptp(ours[0].get_xlim())
        assert np.ptp(theirs[0].get_xlim()) > 5 * span
        assert np.ptp(np.vstack([points(axes) for axes in ours])) > 0.7 * span  # not squeezed
        assert "nats per token" in ours[0].get_title() and "SmolLM2-135M-Instruct" in ours[0].get_title()
        horizontal = np.array(ours[0].containers[0].lines[2][0].get_segments())
        np.testing.assert_allclose(horizontal[:, 0, 0], points(ours[0])[:, 0] - 0.02)
        np.testing.assert_allclose(horizontal[:, 1, 0], points(ours[0])[:, 0] + 0.03)
        assert not theirs[0].containers
        low, high = ours[0].get_xlim()  # no interval is cut by the frame
        for axes in ours:
            ends = np.vstack([bar.get_segments() for bar in axes.containers[0].lines[2]])
            assert low < ends.min() and ends.max() < high
        for axes, color in ((theirs[0], style.PUBLISHED), (ours[0], style.MODELS["smollm2-135m"])):
            (dots,) = (c for c in axes.collections if isinstance(c, PathCollection))
            assert matplotlib.colors.to_hex(dots.get_facecolor()[0]) == color.lower()

    def test_of_one_model_it_is_two_by_two_and_the_variance_has_a_squared_unit(self):
        figure = settings.figure_5(our_rows()).figure
        axes = figure.axes
        assert len(axes) == 4 and axes[0].get_title() == "BASE → USER_NEG"
        assert figure.get_suptitle() == "SmolLM2-135M-Instruct"  # long names: a panel is too narrow for it
        assert "(nats per token per unit multiplier)" in axes[2].get_xlabel()
        axes = settings.figure_5(our_rows(), "variance").figure.axes
        assert axes[2].get_xlabel().endswith("(nats per token per unit multiplier)²")
        assert not axes[0].containers
        inside = our_rows().query("train == 'BASE' and test == 'BASE'").set_index("dataset")["variance"]
        np.testing.assert_allclose(points(axes[0])[:, 0], inside.sort_index())

    def test_it_says_where_there_is_no_correlation_and_where_a_model_was_not_measured(self):
        drawn = settings.figure_5(our_rows(sets=SETS[:2]))
        axes = drawn.figure.axes[0]
        assert corner_of(axes) == "no correlation:\nfewer than three data sets"
        assert len(points(axes)) == 2 and not [line for line in axes.lines if line.get_linewidth() == 1.5]
        assert "no rank correlation (fewer than three data sets)" in drawn.alt
        rows = pd.concat([published_rows("gemma-2-2b"), our_rows().query("test != 'USER_POS'")])
        theirs, ours = np.reshape(settings.figure_5(rows).figure.axes, (4, 2)).T
        assert "not shown in the paper" in texts(theirs[0]) and len(points(theirs[2])) == 38
        assert "not run" in texts(ours[1])

    def test_it_refuses_no_models_and_more_than_three(self):
        error = refused(settings.figure_5, published_rows("llama3.1-70b"), said="found 0 of 1")
        assert error.done == "Nothing was drawn." and not plt.get_fignums()
        refused(settings.figure_5, pd.concat([our_rows(model) for model in "abcd"]), said="found 4 of 4")
        refused(settings.figure_5, our_rows().drop(columns="variance"), said="no variance")


class TestModels:
    @pytest.mark.parametrize(
        ("measure", "unit"), [("mean", "(logits per unit multiplier)"), ("variance", "multiplier)²")]
    )
    def test_figure_6_draws_both_models_on_the_sets_they_share(self, measure, unit):
        drawn = settings.figure_6(published.shifts(), *PAPER, measure)
        for axes, shift in zip(drawn.figure.axes, (tables.SAME, ("SYS_POS", "USER_NEG")), strict=True):
            both = tables.common_sets(published_rows(*PAPER), *shift, measure)[PAPER]
            np.testing.assert_allclose(points(axes), both)
            x, y = both[PAPER[0]], both[PAPER[1]]
            rho = spearmanr(x, y).statistic
            assert corner_of(axes).startswith(f"ρ {rho:.2f} [") and corner_of(axes).endswith("38 data sets")
            far = named(from_line(x, y))
            assert names_of(axes) == far
            words = f"{' to '.join(shift)}, 38 data sets: Spearman {rho:.2f}"
            assert f"{words}; farthest from the line: {', '.join(far)}." in drawn.alt
            assert unit in axes.get_xlabel() and "Llama-2-7b" in axes.get_xlabel()

    @pytest.mark.parametrize(
        ("first", "second", "message"),
        [
            ("llama2-7b", "llama2-7b", "found llama2-7b twice"),
            ("llama2-7b", "smollm2-135m", "found no rows of smollm2-135m.*llama2-7b, qwen1.5-14b"),
            ("llama2-7b", "llama3.1-70b", r"SYS_POS->USER_NEG.*found 1 \(llama2-7b\)"),
        ],
    )
    def test_figure_6_needs_two_models_of_the_table(self, first, second, message):
        refused(settings.figure_6, published.shifts(), first, second, said=message)
        assert not plt.get_fignums()

    def test_figure_6_takes_the_shift_that_both_models_have(self):
        """A model without a system prompt has no SYS settings; the panel names the shift it shows instead."""
        rows = published.shifts()
        rows = rows[(rows["model"] != PAPER[1]) | ~rows["train"].str.startswith("SYS")]
        drawn = settings.figure_6(rows, *PAPER)
        title = drawn.figure.axes[1].get_title()
        assert "BASE" in title and "SYS" not in title
        moved = rows[(rows["train"] == "BASE") & (rows["test"] == "USER_NEG")]
        both = moved.pivot(index="dataset", columns="model", values="mean")[PAPER].dropna()
        rho = both.corr("spearman").iloc[0, 1]
        assert f"BASE to USER_NEG, {len(both)} data sets: Spearman {rho:.2f}" in drawn.alt

    def test_scatter_matrix_has_points_below_and_coefficients_above_the_diagonal(self):
        drawn = settings.scatter_matrix(published.shifts(), "SYS_POS", "USER_NEG")
        panels = np.reshape(drawn.figure.axes, (3, 3))
        names = [*PAPER, "gemma-2-2b"]
        wide = tables.common_sets(published.shifts(), "SYS_POS", "USER_NEG")
        for (row, column), axes in np.ndenumerate(panels):
            if row > column:
                np.testing.assert_allclose(points(axes), wide[[names[column], names[row]]])
            elif row == column:
                assert published.tan()["models"][names[row]]["label"] in texts(axes)[0]
            else:
                stated = published.statistic("spearman-matrix-ood", f"{names[row]}/{names[column]}")
                assert texts(axes)[0].startswith(f"Spearman {stated:.2f}\n[")
        assert panels[1, 0].get_ylim() == panels[1, 1].get_ylim()
        assert "38 data sets" in drawn.figure.get_suptitle()
        assert "Llama-2-7b and published: Gemma-2-2b 0.87" in drawn.alt
        assert drawn.alt.endswith("published: Llama-3.1-70B.")

    def test_figure_6_and_the_scatter_matrix_keep_an_axis_for_each_unit(self):
        rows = pd.concat([published_rows(*PAPER), our_rows()])
        axes = settings.figure_6(rows, "llama2-7b", "smollm2-135m").figure.axes[0]
        assert "logits" in axes.get_xlabel() and "nats per token" in axes.get_ylabel()
        assert np.ptp(points(axes)[:, 1]) > 0.5 * np.ptp(axes.get_ylim())
        panels = np.reshape(settings.scatter_matrix(rows, "BASE", "BASE").figure.axes, (3, 3))
        assert np.ptp(panels[2, 0].get_ylim()) < 1 < np.ptp(panels[2, 0].get_xlim())
        assert panels[2, 0].get_ylabel() == "SmolLM2-135M-\nInstruct"
        assert "nats per token" in texts(panels[2, 2])[0]

    def test_mean_variance_marks_the_training_setting_and_colours_the_test_setting(self):
        rows = pd.concat([published.shifts(), our_rows()])
        panels = settings.mean_variance(rows).figure.axes[:3]
        titles = ["published: Llama-2-7b", "published: Qwen1.5-14B", "SmolLM2-135M-Instruct"]
        assert [axes.get_title() for axes in panels] == titles
        colors = [matplotlib.colors.to_hex(c.get_facecolor()[0]) for c in panels[2].collections]
        assert colors == [style.SETTINGS[test].lower() for _, test in (tables.SAME, *tables.MOVED)]
        same = published_rows("llama2-7b").query("train == 'BASE' and test == 'BASE'")
        same = same.dropna(subset="variance")
        np.testing.assert_allclose(clouds(panels[0])[0], same[["mean", "variance"]])
        rho = spearmanr(same["mean"], same["variance"]).statistic
        assert f"ρ {rho:.2f} in distribution" in corner_of(panels[0])
        assert names_of(panels[0])[0] == "myopic reward"
        assert "(nats per token per unit multiplier)²" in panels[2].get_ylabel()
        assert "8.41 (myopic reward, mean 0.989)" in settings.mean_variance(published.shifts()).alt
        refused(settings.mean_variance, published_rows("gemma-2-2b"), said="means and variances")


def both_ways(table, column):
    """Rank correlation with the distance, over all pairs and the mean of those within sets, as a panel has it."""
    parts = [part for _, part in table.groupby("dataset")]
    every, *each = (spearmanr(part["distance"], part[column]).statistic for part in (table, *parts))
    return minus(f"{every:.2f}, within sets {np.mean(each):.2f}")


class TestPairsOfSettings:
    def test_figure_7_shows_all_pairs_and_those_without_the_diagonal(self):
        table = our_relative()
        drawn = settings.figure_7(table)
        left, right = drawn.figure.axes
        without = table[~table["diagonal"]]
        for axes, rows in ((left, table), (right, without)):
            np.testing.assert_allclose(points(axes), rows[["distance", "relative"]])
            rho = both_ways(rows, "relative")
            assert corner_of(axes).startswith(f"ρ {rho}\n{len(rows)} pairs")
            assert f"Spearman {rho}, {len(rows)} pairs" in drawn.alt
        assert left.get_ylim() == right.get_ylim() and "(nats per token)" in left.get_xlabel()
        assert [line for line in left.lines if set(line.get_ydata()) == {1}]
        distance = from_line(without["distance"], without["relative"])
        far = distance.groupby(without["dataset"]).max()  # each set once, at its farthest pair
        assert names_of(right) == named(far) and not names_of(left)
        at = [text.xy for text in right.texts if text.get_text() and text.get_gid() != "corner"]
        places = without.loc[distance.groupby(without["dataset"]).idxmax()[far.nlargest(3).index]]
        np.testing.assert_allclose(at, places[["distance", "relative"]])
        assert drawn.alt.endswith("−0.26 (Llama-2-7b), −0.46 (Qwen1.5-14B), with it.")

    def test_figure_7_has_a_row_a_model_with_its_own_unit_and_refuses_the_diagonal_alone(self):
        table = our_relative()
        other = table.assign(model="gemma3-270m", format="letter", distance=20 * table["distance"])
        panels = settings.figure_7(pd.concat([table, other])).figure.axes
        assert "(logits)" in panels[2].get_xlabel()
        assert np.ptp(panels[2].get_xlim()) > 10 * np.ptp(panels[0].get_xlim())
        refused(settings.figure_7, table[table["diagonal"]], said="two different settings")
        with pytest.raises(SteerkitError, match="one answer format of smollm2-135m"):
            settings.figure_7(pd.concat([table, table.assign(format="letter")]))

    def test_cosine_figure_draws_pairs_with_the_mean_hollow_and_states_the_paper_s_coefficients(self):
        table = our_cosines()
        drawn = settings.cosine_distance(table)
        (axes,) = drawn.figure.axes
        full, hollow = clouds(axes)
        mean = (table["second"] == "MEAN").to_numpy()
        np.testing.assert_allclose(full, table.loc[~mean, ["distance", "cosine"]])
        np.testing.assert_allclose(hollow, table.loc[mean, ["distance", "cosine"]])
        rho = both_ways(table, "cosine")
        assert corner_of(axes) == f"ρ {rho}\n60 pairs, 4 data sets"
        assert "(nats per token)" in axes.get_xlabel()
        assert f"Spearman {rho}, 60 pairs" in drawn.alt and "−0.63 (Llama-2-7b)" in drawn.alt
        lowest = table.loc[table["cosine"].idxmin()]
        words = f"({published.label(lowest['dataset'])}, {lowest['first']} and {lowest['second']})"
        assert words in drawn.alt


@pytest.mark.parametrize("x", [0.0, 0.3, 0.5, 1.0])
def test_a_name_stays_in_its_panel_wherever_its_point_is_and_is_tied_when_it_stands_away(x):
    """In a small panel a long name fits on neither side of its point."""
    with style.drawing(2.0, 1, 4) as (figure, panels):
        axes = panels[0]
        cloud = pd.DataFrame({"x": [0, 1, x], "y": [0, 1, 0.5]}, ["a", "b", "anti-LGBTQ-rights"], dtype=float)
        axes.scatter(cloud["x"], cloud["y"])
        scatter.write_names(figure, [(axes, cloud, ["anti-LGBTQ-rights"])])
        name, *tie = axes.texts
        box, frame, at = name.get_window_extent(), axes.bbox, axes.transData.transform((x, 0.5))
        assert box.width > frame.width / 2
        assert (box.min >= frame.min - 1).all() and (box.max <= frame.max + 1).all()
        away = np.hypot(*(np.clip(at, box.min, box.max) - at)) * 72 / figure.dpi
        assert bool(tie) == (away > scatter.AWAY)
    plt.close(figure)


def test_a_source_knows_published_values_and_refuses_two_units():
    assert scatter.farthest(pd.Series({"a": 0.0, "b": -2.0, "c": 1.0})) == ["b", "c"]  # a is on the line
    assert scatter.source(published.shifts(), "llama2-7b").published
    ours = scatter.source(our_rows("llama2-7b", kind="letter"), "llama2-7b")
    assert not ours.published and ours.unit == "logits" and ours.label == "Llama-2-7b"
    assert scatter.source(some_shifts({"BASE->BASE": [1.0]}), "m").unit == "score"
    with pytest.raises(SteerkitError, match="one answer format of smollm2-135m"):
        scatter.source(pd.concat([our_rows(), our_rows(kind="letter")]), "smollm2-135m")
