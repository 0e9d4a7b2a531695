"""Figures 1 to 4 of Tan et al.: what is drawn is what the frame holds, published values at their numbers."""

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import raising, refused
from drawn import (
    SETS,
    bands,
    bars_of,
    boxes,
    make_grid,
    medians_of,
    minus,
    points,
    segments,
    texts,
    ticks,
    widths,
)
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.stats import spearmanr

import steerkit
from companion import published
from companion.exhibits import EXHIBITS
from companion.figures import bias, paper, samples, scatter, style
from steerkit.errors import SteerkitError
from steerkit.steerability import slopes as slopes_of

ALL = list(published.datasets().index)


def make_slopes(kind: str, sets=SETS, items: int = 8) -> pd.DataFrame:
    return slopes_of(make_grid(kind, sets, items))


def make_parts() -> pd.DataFrame:
    rows = [("openness", 2.0, 1.0, 0.4, 0.6), ("narcissism", 1.0, 0.1, 0.0, 0.9), ("my-own-set", *[0.0] * 4)]
    return pd.DataFrame(rows, columns=["dataset", "total", "letter", "answer", "unexplained"])


def figure_1(slopes: pd.DataFrame, model: str = "m", beside=()) -> style.Drawn:
    """Figure 1 as its notebook draws it."""
    share = slopes.groupby("dataset")["steerability"].agg(lambda slope: (slope <= 0).mean())
    by_set = slopes.groupby("dataset")["steerability"].agg(n="size", mean="mean", median="median")
    return samples.figure_1(slopes, by_set.assign(anti_steerable=share), model, beside)


def ends(grid: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The first example of the first data set, and the last of the last."""
    keys = grid[["dataset", "example_id"]]
    return {"first": tuple(keys.iloc[0]), "last": tuple(keys.iloc[-1])} if len(grid) else {}


def figure_2(grid: pd.DataFrame, beside=()) -> style.Drawn:
    return samples.figure_2(grid, ends(grid), [(each, ends(each)) for each in beside])


class TestFigure1:
    @pytest.mark.parametrize("kind", ["letter", "statement", "yes-no"])
    def test_figure_1_has_a_violin_and_a_bar_per_set_at_its_numbers_sorted_by_median_with_units(self, kind):
        slopes = make_slopes(kind)
        drawn = figure_1(slopes, "SmolLM2")
        left, middle, right = drawn.figure.axes  # ours, published, shares of both
        order = slopes.groupby("dataset")["steerability"].median().sort_values(ascending=False)
        assert ticks(left) == [published.label(name) for name in order.index]
        assert len(bands(left)) == len(order) == len(bars_of(right))
        assert middle.get_xlabel().endswith("(logits per unit multiplier)")
        assert left.get_xlabel().endswith(f"({style.UNITS[kind]} per unit multiplier)")
        assert "SmolLM2" in left.get_title() and "Llama-2-7b" in middle.get_title()
        assert left.get_ylim()[0] > left.get_ylim()[1]  # row 0 on top
        for row, bar in enumerate(bars_of(right)):
            values = slopes.loc[slopes["dataset"] == drawn.table.loc[row, "dataset"], "steerability"]
            assert bar.get_width() == pytest.approx(np.mean(values <= 0))
            assert bar.get_y() + bar.get_height() / 2 == pytest.approx(row)
            outline = bands(left)[row]
            assert outline[:, 1].mean() == pytest.approx(row, abs=0.05)
            assert (outline[:, 0].min(), outline[:, 0].max()) == pytest.approx((values.min(), values.max()))

    def test_figure_1_published_markers_stand_at_their_numbers_and_gaps_say_why(self):
        sets = ("openness", "my-own-set", "sycophancy_train", "corrigible-more-HHH", "narcissism")
        shown = figure_1(make_slopes("letter", sets))
        (_, middle, right), drawn = shown.figure.axes, shown.table["dataset"].to_list()
        found = [*points(middle), *points(right)]
        marks = dict(zip(("mean", "median", "anti_steerable"), found, strict=True))
        for name in ("openness", "narcissism"):
            for what, mark in marks.items():
                row = drawn.index(name)
                assert mark[row].tolist() == [published.dataset(name)[f"{what}_llama2-7b"], row]
        assert sorted(texts(middle)) == ["no published value", "not in the paper", "pooled in the paper"]

    def test_figure_1_alt_text_states_the_extremes_and_the_rank_correlation(self):
        slopes = make_slopes("letter")
        text = figure_1(slopes, "SmolLM2").alt
        medians = slopes.groupby("dataset")["steerability"].median()
        theirs = published.datasets()["median_llama2-7b"].reindex(medians.index)
        rho = spearmanr(medians[theirs.notna()], theirs.dropna()).statistic
        assert f"{medians.max():.3g} (openness)" in text and "on 4 data sets" in text
        assert f"{minus(f'{medians.min():.3g}')} (my-own-set)" in text
        assert "known for 3 of 4" in text and f"is {rho:.2f}." in text and text.count(". ") == 1
        alone = figure_1(make_slopes("letter", ("mine",))).alt
        assert "on 1 data set:" in alone and alone.endswith("The paper shows no Llama-2-7b values for them.")


def chosen_by_the_notebook():
    """The rule that picks the examples: a cell of the notebook."""
    cells = nbformat.read(EXHIBITS["tan-fig-2"].notebook, 4).cells
    names = {"np": np, "sk": steerkit}
    exec(next(cell.source for cell in cells if "def chosen" in cell.source), names)
    return names["chosen"]


class TestFigure2:
    def test_figure_2_takes_the_95th_percentile_of_the_best_and_the_5th_of_the_worst_set(self):
        grid = make_grid("statement", items=21)
        others = grid.assign(vector="resample-00", propensity=-grid["propensity"])
        chosen = chosen_by_the_notebook()(pd.concat([others, grid]))
        drawn = samples.figure_2(grid, chosen)
        left, right = drawn.figure.axes
        assert left.get_title() == "openness\nexample 19 (95th percentile): slope +0.68"
        assert right.get_title().startswith("my-own-set\nexample 1 (5th percentile)")
        assert left.get_ylabel() == "propensity (nats per token)" and right.get_xlabel() == "multiplier"
        assert np.ptp(left.get_ylim()) == pytest.approx(np.ptp(right.get_ylim()))
        assert "example 19 of openness (95th percentile) moves by +0.68 nats per token per unit" in drawn.alt
        assert "its data set by +0.5 on average" in drawn.alt
        assert "example 1 of my-own-set (5th percentile)" in drawn.alt
        # The points, the fit, the mean and the middle half of the set.
        axes, one = left, grid[grid["example_id"] == "openness/19"]
        np.testing.assert_allclose(points(axes)[0], one[["multiplier", "propensity"]])
        lines = {line.get_label(): line for line in axes.lines}
        slope, intercept = np.polyfit(one["multiplier"], one["propensity"], 1)
        fitted = intercept + slope * np.array([-1.5, 1.5])
        np.testing.assert_allclose(lines["fitted line"].get_ydata(), fitted)
        mean = grid[grid["dataset"] == "openness"].groupby("multiplier")["propensity"].mean()
        np.testing.assert_allclose(lines["mean of the set"].get_ydata(), mean)
        at_zero = grid.query("dataset == 'openness' and multiplier == 0")["propensity"]
        [band] = bands(axes)
        np.testing.assert_allclose(np.unique(band[band[:, 0] == 0][:, 1]), np.percentile(at_zero, [25, 75]))

    def test_figure_2_refuses_fewer_than_two_examples_or_multipliers_and_unknown_ones(self):
        for examples in ({"a": ("openness", "openness/0")}, dict.fromkeys("ab", ("openness", "nobody"))):
            refused(samples.figure_2, make_grid("letter"), examples, said="two examples of the grid")
        refused(figure_2, make_grid("letter").query("multiplier == 0"), said="two multipliers")


def wider(table: pd.DataFrame) -> pd.DataFrame:
    """The same run with everything three times as large."""
    numbers = [name for name in table if name not in ("multiplier", "layer") and table[name].dtype == float]
    return table.assign(**{name: 3 * table[name] for name in numbers})


class TestEveryFigure:
    @pytest.mark.parametrize(
        ("draw", "table", "panel", "axis"),
        [
            (lambda t, b: figure_1(t, "m", b), make_slopes("letter"), 0, "x"),
            (bias.figure_3, make_slopes("statement"), 0, "x"),
            (figure_2, make_grid("statement"), 0, "y"),
            (figure_2, make_grid("statement"), 1, "y"),
        ],
        ids=["figure 1", "figure 3", "figure 2 left", "figure 2 right"],
    )
    def test_those_beside_each_other_have_one_scale_and_one_alone_its_own(self, draw, table, panel, axis):
        def reach(own, beside):
            return np.ptp(getattr(draw(own, beside).figure.axes[panel], f"get_{axis}lim")())

        other = wider(table)
        alone, together = reach(table, []), reach(table, [other])
        assert together == pytest.approx(reach(other, [table]), rel=0.01)
        assert together > 2 * alone

    def test_one_set_a_set_of_one_example_and_a_set_without_spread_are_drawn(self):
        slopes = make_slopes("letter")
        slopes.loc[slopes["dataset"] == "openness", "steerability"] = 0.1
        slopes = slopes[(slopes["dataset"] != "narcissism") | (slopes["example_id"] == "narcissism/1")]
        for each in (slopes, make_slopes("letter", ("openness",))):
            for drawn in (figure_1(each), bias.figure_3(each)):
                drawn.figure.draw_without_rendering()

    @pytest.mark.parametrize("draw", [lambda t, b: figure_1(t, "m", b), bias.figure_3])
    def test_resampled_and_random_vectors_do_not_change_a_figure_even_as_a_tab_beside_it(self, draw):
        slopes = make_slopes("letter")
        more = pd.concat([slopes, slopes.assign(vector="resample-00", steerability=-9.0)])
        alone, together = draw(slopes, [slopes]), draw(slopes, [more])
        limits = [[axes.get_xlim() for axes in drawn.figure.axes] for drawn in (alone, together)]
        assert limits[0] == limits[1]
        pd.testing.assert_frame_equal(bias.groups(more), bias.groups(slopes))

    def test_a_figure_is_saved_as_png_svg_and_csv_with_the_same_bytes_each_time(self, tmp_path):
        drawn = {name: figure_1(make_slopes("letter")) for name in "ab"}
        paths = {name: tmp_path / name / "tan-fig-1.0" for name in drawn}
        first, second = (paper.save(one.figure, paths[name], one.table) for name, one in drawn.items())
        assert not plt.get_fignums() and len(list((tmp_path / "a").iterdir())) == 3
        assert [path.name for path in first] == [f"tan-fig-1.0.{suffix}" for suffix in ("png", "svg", "csv")]
        png, svg, csv = first
        pd.testing.assert_frame_equal(pd.read_csv(csv), drawn["a"].table, rtol=5e-7, atol=0)  # seven digits
        assert plt.imread(png).shape[1] == round(150 * style.WIDTH) and "<svg" in svg.read_text()
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]

    def test_it_is_laid_out_once_and_drawn_once_more_for_each_file(self, tmp_path, monkeypatch):
        """With names and points too; the layout is most of what drawing costs."""
        laid, done, draw = [], [], Figure.draw
        solve = ConstrainedLayoutEngine.execute
        monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *a: laid.append(1) or solve(*a))
        monkeypatch.setattr(Figure, "draw", lambda *a: done.append(1) or draw(*a))
        with style.drawing(3.0) as (figure, axes):
            dots = pd.DataFrame({"x": [0.0, 1.0], "y": [1.0, 0.0]}, index=SETS[:2])
            axes.scatter(dots["x"], dots["y"])
            scatter.write_names(figure, [(axes, dots, SETS[:1])])
        assert len(paper.points(figure)) == 2
        paper.save(figure, tmp_path / "a", dots)
        assert (len(laid), len(done)) == (1, 3)

    def test_a_thin_line_keeps_its_colour_in_the_png(self, tmp_path):
        """In a palette of few colours one may become its neighbour."""
        colors = [*style.SETTINGS.values(), style.GREEN, style.PURPLE]
        with style.drawing(3.0) as (figure, axes):
            for height, color in enumerate(colors):
                axes.plot([0, 1], [height, height + 0.7], color=color, lw=1.4)
                axes.fill_between([0, 1], height, height + 2, color=color, alpha=0.13, lw=0)
        png, *_ = paper.save(figure, tmp_path / "a", pd.DataFrame({"line": colors}))
        pixels = (255 * plt.imread(png)[..., :3]).round().reshape(-1, 3)
        for color in colors:
            wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert np.abs(pixels - wanted).max(axis=1).min() <= 12
        assert (pixels == 255).all(axis=1).any()  # the paper stays white

    def test_a_failed_save_keeps_the_old_files_and_closes_the_figure(self, tmp_path, monkeypatch):
        slopes = make_slopes("statement")
        with pytest.raises(SteerkitError, match="table behind the figure"):
            paper.save(bias.figure_3(slopes).figure, tmp_path / "a", pd.DataFrame())
        assert not list(tmp_path.iterdir()) and not plt.get_fignums()
        paths = paper.save(bias.figure_3(slopes).figure, tmp_path / "a", slopes)
        old = [path.read_bytes() for path in paths]
        monkeypatch.setattr(pd.DataFrame, "to_csv", raising(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            paper.save(figure_1(slopes).figure, tmp_path / "a", slopes)
        assert [path.read_bytes() for path in paths] == old
        assert len(list(tmp_path.iterdir())) == 3 and not plt.get_fignums()


class TestFigure3:
    def test_figure_3_letter_draws_our_groups_and_the_published_quartiles_contaminated_ones_faint(self):
        slopes = make_slopes("letter")
        ours, theirs = bias.figure_3(slopes).figure.axes
        long = bias.groups(slopes)
        assert set(long.loc[long["dataset"] == "myopic-reward", "group"]) == {"A", "B"}
        medians = long.groupby(["dataset", "group"], sort=False)["value"].median()
        assert len(boxes(ours)) == len(medians) == 3 * 4 + 2
        np.testing.assert_allclose(medians_of(ours), medians)
        assert theirs.get_xlabel() == ours.get_xlabel() == "steerability (logits per unit multiplier)"
        counts = long.groupby(["dataset", "group"], sort=False).size().astype(str)
        assert texts(ours) == [*counts, "n"] and set(counts) == {"2", "4"}
        bars = [patch for patch in theirs.patches if np.isclose(patch.get_height(), 0.75)]
        known = published.boxes().query("dataset in @SETS")
        assert sorted(round(bar.get_x(), 3) for bar in bars) == sorted(known["q1"])
        ends = sorted(round(bar.get_x() + bar.get_width(), 3) for bar in bars)
        np.testing.assert_allclose(ends, sorted(known["q3"]))
        faint = [round(bar.get_x(), 3) for bar in bars if bar.get_alpha() is not None]
        assert sorted(faint) == sorted(known.loc[known["contaminated"], "q1"])
        assert all((bar.get_hatch() is None) == (bar.get_alpha() is not None) for bar in bars)
        assert texts(theirs) == ["not in the paper"]

    def test_figure_3_statement_shows_the_two_halves_which_add_up_to_the_steerability(self):
        slopes = make_slopes("statement")
        long = bias.groups(slopes)
        halves = long.groupby(["dataset", "group"])["value"].mean().unstack()
        total = slopes.groupby("dataset")["steerability"].mean()
        np.testing.assert_allclose(halves.sum(axis=1), total[halves.index])
        drawn = bias.figure_3(slopes)
        (axes,), text = drawn.figure.axes, drawn.alt
        assert axes.get_xlabel() == "slope (nats per token per unit multiplier)"
        assert len(boxes(axes)) == 2 * len(SETS)
        assert f"rises by {halves['matching half'].mean():.3g}" in text
        assert minus(f"falls by {halves['not matching half, negated'].mean():.3g}") in text

    def test_figure_3_yes_no_groups_by_the_positive_answer_and_refuses_options_that_it_does_not_know(self):
        slopes = make_slopes("yes-no")
        assert set(bias.groups(slopes)["group"]) == {"Yes", "No"}
        (axes,) = bias.figure_3(slopes).figure.axes
        assert axes.get_xlabel() == "steerability (logits per unit multiplier)"
        with pytest.raises(SteerkitError, match="positive letters A and B"):
            bias.figure_3(make_slopes("letter").assign(positive_letter="", positive_answer=""))

    def test_figure_3_alt_text_names_the_widest_group_difference_of_ours_and_of_the_paper(self):
        slopes = make_slopes("letter")
        favoured = (slopes["dataset"] == "narcissism") & (slopes["positive_letter"] == "A")
        slopes.loc[favoured, "steerability"] += 5
        text = bias.figure_3(slopes).alt
        best = slopes[favoured].groupby("positive_answer")["steerability"].median().max()
        assert f"differ most in narcissism (A, No: {best:+.3g}" in text
        clean = published.boxes().query("~contaminated and dataset in @SETS").groupby("dataset")["median"]
        width = (clean.max() - clean.min()).idxmax()
        ends = f"({clean.min()[width]:+.3g} to {clean.max()[width]:+.3g}"
        assert f"medians differ most in {width} {ends}" in text


PARTS = ("letter", "answer", "unexplained")


def published_parts(name: str) -> np.ndarray:
    return np.array([published.dataset(name)[f"variance_{part}_llama2-7b"] for part in PARTS])


class TestFigure4:
    def test_figure_4_bars_are_shares_of_the_total_ours_beside_published(self):
        drawn = bias.figure_4(make_parts(), "answer-first")
        left, right = drawn.figure.axes
        ours = np.reshape(widths(left), (3, 3)).T  # row, part
        np.testing.assert_allclose(ours, [[0.5, 0.2, 0.3], [0.1, 0, 0.9], [0, 0, 0]], atol=1e-12)
        starts = np.reshape([bar.get_x() for bar in bars_of(left)], (3, 3)).T
        np.testing.assert_allclose(starts[:2], [[0, 0.5, 0.7], [0, 0.1, 0.1]], atol=1e-12)
        theirs = np.reshape(widths(right), (3, 3)).T
        total = published.dataset("openness")["variance_total_llama2-7b"]
        np.testing.assert_allclose(theirs[0], published_parts("openness") / total)
        assert ticks(left) == ["openness", "narcissism", "my-own-set"]  # by our unexplained share
        assert "no variance" in texts(left) and "not in the paper" in texts(right)
        assert "2.0" in texts(left) and f"{total:#.2g}" in texts(right)
        assert left.get_xlabel() == "share of the variance of steerability"
        assert "2 data sets (answer first): between 30% (openness) and 90% (narcissism)" in drawn.alt
        assert "letter 30%, answer 10%, unexplained 60%" in drawn.alt
        table = published.datasets().loc[["openness", "narcissism"]]
        theirs = (table["variance_unexplained_llama2-7b"] / table["variance_total_llama2-7b"]).mean()
        assert drawn.alt.endswith(f"unexplained {theirs:.0%}.")
        refused(bias.figure_4, make_parts().assign(letter=0.7), "paper", said="add up to the total")

    def test_figure_4_keeps_sets_of_one_kind_together_and_says_their_averages_apart(self):
        drawn = bias.figure_4(make_parts().assign(kind=["choice", "persona", ""]), "paper")
        left, right = drawn.figure.axes
        assert ticks(left) == ["narcissism", "openness", "my-own-set"]  # not by the unexplained share
        heads = [text for text in texts(right) if text.startswith("sets of")]
        assert heads == [f"sets of {each}" for each in ("Yes or No", "written-out options", "others")]
        assert "Sets of Yes or No: letter 10%, answer 0%, unexplained 90%." in drawn.alt
        assert "Sets of written-out options: letter 50%, answer 20%, unexplained 30%." in drawn.alt


class TestAsPublished:
    def test_figure_1_published_draws_the_digitised_numbers(self):
        left, right = samples.figure_1_published().figure.axes
        theirs = published.datasets().loc[list(published.SELECTED)]
        theirs = theirs.sort_values("median_llama2-7b", ascending=False)
        assert ticks(left) == list(theirs["label"])
        mean, median = points(left)
        np.testing.assert_allclose(mean[:, 0], theirs["mean_llama2-7b"])
        np.testing.assert_allclose(median[:, 0], theirs["median_llama2-7b"])
        ends = [(line[0, 0], line[1, 0]) for line in segments(left)]
        whiskers, boxes = ends[:13], ends[13:]
        np.testing.assert_allclose(whiskers, theirs[["whisker_low_llama2-7b", "whisker_high_llama2-7b"]])
        np.testing.assert_allclose(boxes, theirs[["q1_llama2-7b", "q3_llama2-7b"]])
        np.testing.assert_allclose(widths(right), theirs["anti_steerable_llama2-7b"])
        assert texts(right) == [*theirs["n_anti_steerable_llama2-7b"].astype(int).astype(str), "count"]
        # Of all sets, sycophancy is pooled, and where the paper shows nothing it says so.
        drawn = samples.figure_1_published(ALL)
        table = drawn.table
        assert len(table) == 39 and not {"sycophancy_train", "sycophancy_test"} & set(table["dataset"])
        row = table.set_index("dataset").loc["sycophancy"]
        assert row["n_anti_steerable"] == 451 and row["median"] == 0.714 and np.isnan(row["mean"])
        assert table["dataset"].iloc[-1] == "corrigible-more-HHH"
        assert texts(drawn.figure.axes[0]) == ["no published value"]
        assert "known for 38 of 39 data sets" in drawn.alt

    def test_figure_3_published_hatches_the_contaminated_boxes_and_holds_every_box_once(self):
        drawn = bias.figure_3_published()
        (axes,), table = drawn.figure.axes, drawn.table
        bars = [patch for patch in axes.patches if np.isclose(patch.get_height(), 0.75)]
        assert len(bars) == len(table)
        for bar, row in zip(bars, table.itertuples(), strict=True):
            assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx((row.q1, row.q3))
            assert (bar.get_hatch() is not None) == row.contaminated == (row.group in ("B, No", "B"))
        low, high = axes.get_xlim()
        assert low < table["q1"].min() and high > table["q3"].max()
        assert [line[0, 0] for line in segments(axes)] == pytest.approx(list(table["median"]))
        drawn, theirs = bias.figure_3_published(ALL), published.boxes()
        table = drawn.table
        assert len(table) == len(theirs) and table["median"].sum() == pytest.approx(theirs["median"].sum())
        assert (table.groupby("dataset", sort=False)["group"].nunique().isin([2, 4])).all()
        medians = theirs[~theirs["contaminated"]].groupby("dataset")["median"].agg(np.ptp)
        assert f"differ most in {published.label(medians.idxmax())} (" in drawn.alt
        refused(bias.figure_3_published, ["corrigible-more-HHH"], said="a data set with published boxes")
        for draw in (samples.figure_1_published, bias.figure_4_published):
            assert draw(["corrigible-more-HHH"]).alt.endswith("the paper shows nothing for these 1 data set.")

    def test_figure_4_published_stacks_the_parts_as_variances_and_as_shares(self):
        drawn = bias.figure_4_published()
        (left, right), table = drawn.figure.axes, drawn.table
        for axes, prefix in ((left, "variance_"), (right, None)):
            shown = np.reshape(widths(axes), (3, 13)).T
            for row, name in enumerate(table["dataset"]):
                parts = published_parts(name)
                np.testing.assert_allclose(shown[row], parts if prefix else parts / parts.sum())
        assert list(table["kind"]) == ["persona"] * 8 + ["choice"] * 5
        assert table.groupby("kind")["share_unexplained"].is_monotonic_increasing.all()
        low, high = table["share_unexplained"].agg(["min", "max"])
        assert f"between {low:.0%} (" in drawn.alt and f" and {high:.0%} (" in drawn.alt
        np.testing.assert_allclose(table[list(PARTS)].sum(axis=1), table["total"], atol=0.05)
        assert f"unexplained {table['share_unexplained'].mean():.0%}" in drawn.alt


def test_a_fitted_line_is_that_of_least_squares_and_its_band_holds_95_of_100_resampled_lines():
    rng = np.random.default_rng(2)
    x = rng.normal(size=12)
    points = pd.DataFrame({"x": x, "y": x + rng.normal(size=12)})
    _, axes = plt.subplots()
    axes.scatter(points["x"], points["y"])
    before = axes.get_xlim(), axes.get_ylim()
    scatter.fitted_line(axes, points, "black", band=True)
    assert (axes.get_xlim(), axes.get_ylim()) == before  # the points decide on the limits
    at, line = axes.lines[0].get_data()
    assert (at[0], at[-1]) == (x.min(), x.max())
    np.testing.assert_allclose(line, np.polyval(np.polyfit(*points.T.to_numpy(), 1), at))
    resamples = (points.sample(12, replace=True, random_state=i) for i in range(1000))
    fits = [np.polyfit(*each.T.to_numpy(), 1) for each in resamples]
    expected = np.quantile([np.polyval(fit, at[50]) for fit in fits], [0.025, 0.975])
    [drawn] = bands(axes)
    ends = np.unique(drawn[np.isclose(drawn[:, 0], at[50]), 1])
    np.testing.assert_allclose(ends, expected, atol=0.1)
