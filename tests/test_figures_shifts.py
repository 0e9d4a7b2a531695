"""Figures 5 to 7 of Tan et al. and their appendix: what is drawn is what the table holds, in its own unit."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from scipy.stats import linregress, pearsonr, spearmanr
from test_shifts import make_slopes, make_vectors, some_shifts

from companion import published
from companion.figures import scatter, style, tan_models, tan_relative, tan_shifts
from companion.tan import tables
from steerkit.errors import SteerkitError

PAPER = ["llama2-7b", "qwen1.5-14b"]
SETS = published.SELECTED[:6]


def make_pairs() -> dict[str, list]:
    """Cosines of the vectors of every data set."""
    return {name: tables.pairwise(own) for name, own in make_vectors().items()}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def published_rows(*models: str) -> pd.DataFrame:
    return published.shifts().query("model in @models")


def our_rows(model: str = "smollm2-135m", sets=SETS, seed: int = 0, kind: str = "statement") -> pd.DataFrame:
    """SHIFTS with intervals, a tenth of the published scale."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in sets:
        for train, test in (tables.SAME, *tables.MOVED):
            mean = 0.1 * rng.normal()
            rows.append(
                (name, model, train, test, mean, mean - 0.02, mean + 0.03, rng.uniform(0.01, 0.02), 9, kind)
            )
    return pd.DataFrame(rows, columns=tables.SHIFTS)


def points(axes) -> np.ndarray:
    return np.vstack([np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)])


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def corner_of(axes) -> str:
    return next(text.get_text() for text in axes.texts if text.get_gid() == "corner")


def names_of(axes) -> list[str]:
    """Labels of data sets in a panel; line breaks undone, so that they compare with published.label."""
    written = [text for text in axes.texts if text.get_text() and text.get_gid() != "corner"]
    return [text.get_text().replace("-\n", "-").replace("\n", " ") for text in written]


# Figure 5


def test_figure_5_has_a_column_a_model_and_a_row_a_shift_with_the_values_of_the_paper():
    rows = published_rows(*PAPER)
    figure = tan_shifts.figure_5(rows)
    panels = np.reshape(figure.axes, (4, 2))
    for (row, column), axes in np.ndenumerate(panels):
        both = tables.paired(rows, (PAPER[column], *tables.SAME), (PAPER[column], *tables.MOVED[row]), "mean")
        np.testing.assert_allclose(points(axes), both)
        rho, r = (f(both["x"], both["y"]).statistic for f in (spearmanr, pearsonr))
        assert f"ρ {rho:.2f} [" in corner_of(axes) and f"r {r:.2f} [" in corner_of(axes)
        line = linregress(both["x"], both["y"])
        drawn = next(line for line in axes.lines if len(line.get_xdata()) == 100)
        np.testing.assert_allclose(drawn.get_ydata(), line.intercept + line.slope * drawn.get_xdata())
        assert axes.get_xlim() == axes.get_ylim() == panels[0, 0].get_xlim()  # the same unit, the same range
    assert (
        "Llama-2-7b" in panels[0, 0].get_title()
        and "(logits per unit multiplier)" in panels[0, 1].get_title()
    )
    assert [axes.get_ylabel() for axes in panels[:, 0]] == [f"{a} → {b}" for a, b in tables.MOVED]


def test_figure_5_names_the_three_sets_farthest_from_x_equals_y():
    rows = published_rows("llama2-7b")
    axes = tan_shifts.figure_5(rows).axes[0]
    both = tables.paired(rows, ("llama2-7b", *tables.SAME), ("llama2-7b", *tables.MOVED[0]), "mean")
    far = (both["y"] - both["x"]).abs().nlargest(3).index
    assert names_of(axes) == [published.label(name) for name in far]


def test_figure_5_gives_another_unit_its_own_axes_error_bars_and_colour():
    figure = tan_shifts.figure_5(pd.concat([published_rows("llama2-7b"), our_rows()]))
    theirs, ours = np.reshape(figure.axes, (4, 2)).T
    assert np.ptp(theirs[0].get_xlim()) > 5 * np.ptp(ours[0].get_xlim())
    span = np.ptp(ours[0].get_xlim())
    every = np.vstack([points(axes) for axes in ours])
    assert np.ptp(every) > 0.7 * span  # not squeezed
    assert "nats per token" in ours[0].get_title() and "smollm2-135m" in ours[0].get_title()
    bars = ours[0].containers[0].lines[2]
    horizontal = np.array(bars[0].get_segments())
    np.testing.assert_allclose(horizontal[:, 0, 0], points(ours[0])[:, 0] - 0.02)
    np.testing.assert_allclose(horizontal[:, 1, 0], points(ours[0])[:, 0] + 0.03)
    assert not theirs[0].containers
    for axes, color in ((theirs[0], style.PUBLISHED), (ours[0], style.MODELS["smollm2-135m"])):
        (dots,) = (c for c in axes.collections if isinstance(c, PathCollection))
        assert matplotlib.colors.to_hex(dots.get_facecolor()[0]) == color.lower()


def test_figure_5_of_one_model_is_two_by_two_and_the_variance_has_a_squared_unit():
    figure = tan_shifts.figure_5(our_rows())
    assert len(figure.axes) == 4 and figure.axes[0].get_title() == "smollm2-135m: BASE → USER_NEG"
    assert "(nats per token per unit multiplier)" in figure.axes[2].get_xlabel()
    axes = tan_shifts.figure_5_variance(our_rows()).axes
    assert axes[2].get_xlabel().endswith("(nats per token per unit multiplier)²") and not axes[0].containers
    values = (
        our_rows().query("train == 'BASE' and test == 'BASE'").set_index("dataset")["variance"].sort_index()
    )
    np.testing.assert_allclose(points(axes[0])[:, 0], values)


def test_figure_5_with_two_data_sets_is_drawn_and_says_that_there_is_no_correlation():
    axes = tan_shifts.figure_5(our_rows(sets=SETS[:2])).axes[0]
    assert corner_of(axes) == "no correlation:\nfewer than three data sets"
    assert len(points(axes)) == 2 and not [line for line in axes.lines if len(line.get_xdata()) == 100]


def test_figure_5_says_where_a_model_was_not_measured():
    figure = tan_shifts.figure_5(
        pd.concat([published_rows("gemma-2-2b"), our_rows().query("test != 'USER_POS'")])
    )
    theirs, ours = np.reshape(figure.axes, (4, 2)).T
    assert "not shown in the paper" in texts(theirs[0]) and len(points(theirs[2])) == 38
    assert "not run" in texts(ours[1])


def test_figure_5_refuses_no_models_and_more_than_three():
    with pytest.raises(SteerkitError, match="found 0 of 1") as error:
        tan_shifts.figure_5(published_rows("llama3.1-70b"))
    assert error.value.done == "Nothing was drawn." and not plt.get_fignums()
    four = pd.concat([our_rows(model) for model in "abcd"])
    with pytest.raises(SteerkitError, match="found 4 of 4"):
        tan_shifts.figure_5(four)
    with pytest.raises(SteerkitError, match="no variance"):
        tan_shifts.figure_5(our_rows().drop(columns="variance"))


def test_figure_5_alt_text_states_the_coefficients_of_every_shift_and_the_farthest_set():
    text = tan_shifts.figure_5_alt(published_rows(*PAPER))
    assert "BASE to USER_NEG (39 data sets) Spearman 0.90, Pearson 0.89" in text
    assert "SYS_NEG to USER_POS (39 data sets) Spearman 0.48, Pearson 0.50" in text
    assert "farthest from x = y is life has no meaning (2.85 to −1.94)" in text
    assert "SYS_POS to USER_NEG (39 data sets) Spearman 0.54" in tan_shifts.figure_5_variance_alt(
        published_rows("llama2-7b")
    )
    assert "no correlation (fewer than three data sets)" in tan_shifts.figure_5_alt(our_rows(sets=SETS[:2]))


# Figure 6 and the scatter matrix


@pytest.mark.parametrize(
    ("measure", "unit"), [("mean", "(logits per unit multiplier)"), ("variance", "multiplier)²")]
)
def test_figure_6_draws_both_models_on_the_sets_they_share(measure, unit):
    figure = tan_models.figure_6(published.shifts(), *PAPER, measure)
    for axes, shift in zip(figure.axes, (tables.SAME, ("SYS_POS", "USER_NEG")), strict=True):
        both = tables.common_sets(published_rows(*PAPER), *shift, measure)[PAPER]
        np.testing.assert_allclose(points(axes), both)
        rho = spearmanr(both[PAPER[0]], both[PAPER[1]]).statistic
        assert corner_of(axes).startswith(f"ρ {rho:.2f} [") and corner_of(axes).endswith("38 data sets")
        line = linregress(both[PAPER[0]], both[PAPER[1]])
        residual = both[PAPER[1]] - line.intercept - line.slope * both[PAPER[0]]
        assert names_of(axes) == [published.label(name) for name in residual.abs().nlargest(3).index]
        assert unit in axes.get_xlabel() and "Llama-2-7b" in axes.get_xlabel()


def test_figure_6_mixes_units_on_separate_axes():
    rows = pd.concat([published.shifts(), our_rows()])
    axes = tan_models.figure_6(rows, "llama2-7b", "smollm2-135m").axes[0]
    assert "logits" in axes.get_xlabel() and "nats per token" in axes.get_ylabel()
    assert np.ptp(points(axes)[:, 1]) > 0.5 * np.ptp(axes.get_ylim())


def test_figure_6_needs_two_models_of_the_table():
    for first, second, message in (
        ("llama2-7b", "llama2-7b", "found llama2-7b twice"),
        ("llama2-7b", "smollm2-135m", "found no rows of smollm2-135m.*llama2-7b, qwen1.5-14b"),
        ("llama2-7b", "llama3.1-70b", r"SYS_POS->USER_NEG.*found 1 \(llama2-7b\)"),
    ):
        with pytest.raises(SteerkitError, match=message):
            tan_models.figure_6(published.shifts(), first, second)
        assert not plt.get_fignums()


def test_figure_6_takes_the_shift_that_both_models_have():
    """A model without a system prompt has no SYS settings; the panel names the shift it shows instead."""
    rows = published.shifts()
    rows = rows[(rows["model"] != PAPER[1]) | ~rows["train"].str.startswith("SYS")]
    titles = [axes.get_title() for axes in tan_models.figure_6(rows, *PAPER).axes]
    assert "BASE" in titles[1] and "SYS" not in titles[1]
    both = rows[(rows["train"] == "BASE") & (rows["test"] == "USER_NEG")].pivot(
        index="dataset", columns="model", values="mean"
    )
    rho = both[list(PAPER)].dropna().corr("spearman").iloc[0, 1]
    assert (
        f"BASE to USER_NEG, {len(both[list(PAPER)].dropna())} data sets: Spearman {rho:.2f}"
        in tan_models.figure_6_alt(rows, *PAPER)
    )


def test_figure_6_alt_text_states_both_coefficients():
    text = tan_models.figure_6_alt(published.shifts(), *PAPER)
    assert "BASE to BASE, 38 data sets: Spearman 0.77; farthest from the line: myopic reward" in text
    assert "SYS_POS to USER_NEG, 38 data sets: Spearman 0.59" in text


def test_scatter_matrix_has_points_below_and_coefficients_above_the_diagonal():
    figure = tan_models.scatter_matrix(published.shifts(), "SYS_POS", "USER_NEG")
    panels = np.reshape(figure.axes, (3, 3))
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
    assert panels[1, 0].get_ylim() == panels[1, 1].get_ylim() and "38 data sets" in figure.get_suptitle()
    text = tan_models.scatter_matrix_alt(published.shifts(), "SYS_POS", "USER_NEG")
    assert "Llama-2-7b and published: Gemma-2-2b 0.87" in text and text.endswith("published: Llama-3.1-70B.")


def test_scatter_matrix_keeps_an_axis_for_each_unit():
    rows = pd.concat([published_rows(*PAPER), our_rows()])
    panels = np.reshape(tan_models.scatter_matrix(rows, "BASE", "BASE").axes, (3, 3))
    assert np.ptp(panels[2, 0].get_ylim()) < 1 < np.ptp(panels[2, 0].get_xlim())
    assert panels[2, 0].get_ylabel() == "smollm2-135m" and "nats per token" in texts(panels[2, 2])[0]


def test_mean_variance_marks_the_training_setting_and_colours_the_test_setting():
    rows = pd.concat([published.shifts(), our_rows()])
    figure = tan_models.mean_variance(rows)
    drawn = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in drawn] == [
        "published: Llama-2-7b", "published: Qwen1.5-14B", "smollm2-135m"
    ]  # fmt: skip
    colors = [matplotlib.colors.to_hex(c.get_facecolor()[0]) for c in drawn[2].collections]
    assert colors == [style.SETTINGS[test].lower() for _, test in (tables.SAME, *tables.MOVED)]
    rows = rows.query("model == 'llama2-7b' and train == 'BASE' and test == 'BASE'").dropna(subset="variance")
    np.testing.assert_allclose(np.asarray(drawn[0].collections[0].get_offsets()), rows[["mean", "variance"]])
    rho = spearmanr(rows["mean"], rows["variance"]).statistic
    assert f"ρ {rho:.2f} in distribution" in corner_of(drawn[0])
    assert names_of(drawn[0])[0] == "myopic reward"
    assert "(nats per token per unit multiplier)²" in drawn[2].get_ylabel()


def test_mean_variance_alt_text_names_the_largest_variance_and_none_is_refused():
    assert "8.41 (myopic reward, mean 0.989)" in tan_models.mean_variance_alt(published.shifts())
    with pytest.raises(SteerkitError, match="means and variances"):
        tan_models.mean_variance(published_rows("gemma-2-2b"))


# Figure 7 and cosines


def test_figure_7_shows_all_pairs_and_those_without_the_diagonal():
    table = tables.relative(make_slopes(), "smollm2-135m")
    left, right = tan_relative.figure_7(table).axes
    without = table[~table["diagonal"]]
    for axes, rows in ((left, table), (right, without)):
        np.testing.assert_allclose(points(axes), rows[["distance", "relative"]])
        rho = spearmanr(rows["distance"], rows["relative"]).statistic
        assert corner_of(axes).startswith(f"ρ {rho:.2f}\n{len(rows)} pairs".replace("-", "−"))
    assert left.get_ylim() == right.get_ylim() and "(nats per token)" in left.get_xlabel()
    assert [line for line in left.lines if set(line.get_ydata()) == {1}]
    line = linregress(without["distance"], without["relative"])
    residual = without["relative"] - line.intercept - line.slope * without["distance"]
    far = without.loc[residual.abs().nlargest(3).index, "dataset"]
    assert names_of(right) == [published.label(name) for name in far] and not names_of(left)
    words = [text.get_text() for text in left.figure.legends[0].get_texts()]
    assert "paper: ρ −0.26 (Llama-2-7b), −0.46 (Qwen1.5-14B)" in words


def test_figure_7_alt_text_states_both_coefficients_and_the_paper_s():
    table = tables.relative(make_slopes(), "smollm2-135m")
    text = tan_relative.figure_7_alt(table)
    for rows in (table, table[~table["diagonal"]]):
        rho = spearmanr(rows["distance"], rows["relative"]).statistic
        assert f"Spearman {rho:.2f}, {len(rows)} pairs".replace("-", "−") in text
    assert text.endswith("−0.26 (Llama-2-7b), −0.46 (Qwen1.5-14B), with it.")


def test_figure_7_has_a_row_a_model_with_its_own_unit_and_refuses_the_diagonal_alone():
    table = tables.relative(make_slopes(), "m")
    other = table.assign(model="gemma3-270m", format="letter", distance=20 * table["distance"])
    panels = tan_relative.figure_7(pd.concat([table, other])).axes
    assert "(logits)" in panels[2].get_xlabel() and np.ptp(panels[2].get_xlim()) > 10 * np.ptp(
        panels[0].get_xlim()
    )
    with pytest.raises(SteerkitError, match="two different settings"):
        tan_relative.figure_7(table[table["diagonal"]])
    with pytest.raises(SteerkitError, match="one answer format of m"):
        tan_relative.figure_7(pd.concat([table, table.assign(format="letter")]))


def test_cosine_figure_draws_pairs_with_the_mean_hollow_and_states_the_paper_s_coefficients():
    table = tables.cosines(make_pairs(), make_slopes(), "smollm2-135m")
    (axes,) = tan_relative.cosine_distance(table).axes
    full, hollow = (np.asarray(c.get_offsets()) for c in axes.collections)
    mean = (table["second"] == "MEAN").to_numpy()
    np.testing.assert_allclose(full, table.loc[~mean, ["distance", "cosine"]])
    np.testing.assert_allclose(hollow, table.loc[mean, ["distance", "cosine"]])
    rho = spearmanr(table["distance"], table["cosine"]).statistic
    assert corner_of(axes) == f"ρ {rho:.2f}\n60 pairs, 4 data sets".replace("-", "−")
    assert "(nats per token)" in axes.get_xlabel()
    text = tan_relative.cosine_distance_alt(table)
    assert f"Spearman {rho:.2f}, 60 pairs".replace("-", "−") in text and "−0.63 (Llama-2-7b)" in text
    lowest = table.loc[table["cosine"].idxmin()]
    assert f"({published.label(lowest['dataset'])}, {lowest['first']} and {lowest['second']})" in text


# Parts


def test_only_what_is_away_from_zero_stands_out():
    assert scatter.farthest(pd.Series({"a": 0.0, "b": -2.0, "c": 1.0})) == ["b", "c"]


def test_a_source_knows_published_values_and_refuses_two_units():
    assert scatter.source(published.shifts(), "llama2-7b").published
    ours = scatter.source(our_rows("llama2-7b", kind="letter"), "llama2-7b")
    assert not ours.published and ours.unit == "logits" and ours.label == "Llama-2-7b"
    assert scatter.source(some_shifts({"BASE->BASE": [1.0]}), "m").unit == "score"
    with pytest.raises(SteerkitError, match="one answer format of smollm2-135m"):
        scatter.source(pd.concat([our_rows(), our_rows(kind="letter")]), "smollm2-135m")


@pytest.mark.parametrize("draw", [tan_shifts.figure_5, tan_shifts.figure_5_variance])
@pytest.mark.parametrize("models", [PAPER, [*PAPER, "smollm2-135m"]])
def test_names_stay_within_their_panel_and_apart_from_each_other(models, draw):
    figure = draw(pd.concat([published_rows(*PAPER), our_rows()]).query("model in @models"))
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        assert len(boxes) == 4
        for i, box in enumerate(boxes):
            assert (box.min >= axes.bbox.min - 3).all() and (box.max <= axes.bbox.max + 3).all()
            assert not any(box.overlaps(other) for other in boxes[:i])


def test_figures_have_one_width_and_no_small_text_and_are_saved_without_warnings(tmp_path):
    rows = pd.concat([published_rows("llama2-7b"), our_rows()])
    slopes = make_slopes()
    figures = {
        "5": tan_shifts.figure_5(rows),
        "6": tan_models.figure_6(rows, "llama2-7b", "smollm2-135m"),
        "matrix": tan_models.scatter_matrix(rows, "BASE", "BASE"),
        "moments": tan_models.mean_variance(rows),
        "7": tan_relative.figure_7(tables.relative(slopes, "m")),
        "cosine": tan_relative.cosine_distance(tables.cosines(make_pairs(), slopes, "m")),
    }
    assert {figure.get_size_inches()[0] for figure in figures.values()} == {style.WIDTH}
    for name, figure in figures.items():
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= style.SMALL
        if name in ("6", "7"):
            style.save(figure, tmp_path / name, rows)


@pytest.mark.parametrize("draw", [tan_shifts.figure_5, tan_models.mean_variance, tan_relative.figure_7])
def test_every_figure_refuses_an_empty_table(draw):
    empty = (
        tables.relative(make_slopes(), "m").iloc[:0] if draw is tan_relative.figure_7 else our_rows().iloc[:0]
    )
    with pytest.raises(SteerkitError, match="an empty one"):
        draw(empty)
