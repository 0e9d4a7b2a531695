"""What every figure promises: one width, legible words, its table as CSV, and refusals in words."""

from __future__ import annotations

from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from drawn import SETS, bent, make_grid
from matplotlib.text import Text
from test_figures import figure_1, figure_2, make_parts, make_slopes
from test_figures_appendix import SYCOPHANCY, fits, make_sweep, pooled
from test_figures_concepts import agreeing, controlled, in_halves, in_plane, plane, rows
from test_figures_mayne import (
    answers,
    behaviour_table,
    by_layer,
    curve_table,
    feature_table,
    norms,
    projections,
    sae,
    stability_table,
)
from test_figures_shifts import our_cosines, our_relative, our_rows, published_rows
from worlds import made

from companion import published
from companion.figures import (
    autoencoder,
    bias,
    decompositions,
    formats,
    layers,
    samples,
    settings,
    style,
    texts,
)
from companion.figures import flaws as drawings
from companion.tan import flaws
from companion.tan.means import by_range
from companion.tan.texts import likelihood, shared_items
from steerkit.errors import SteerkitError
from steerkit.steerability import slopes

LONG = ("my-own-set-with-a-very-long-name-that-nobody-can-print",)


def of_slopes(kind: str, sets: tuple[str, ...]) -> dict:
    """How each figure of a run of Tan et al. is drawn, from which table, and two of its columns: one that has to be
    there, and one in which every row needs a finite number."""
    exact, grid = make_slopes(kind, sets), make_grid(kind, sets, halves=bent())
    table, sweep = slopes(grid), make_sweep(sets, kind)
    found = {
        "figure 1": (figure_1, exact, "vector", "steerability"),
        "figure 2": (figure_2, make_grid(kind, sets), "vector", "propensity"),
        "figure 3": (bias.figure_3, exact, "vector", "steerability"),
        "ranges": (layers.range_ablation, by_range(grid, draws=20), "vector", "mean"),
        "residuals": (layers.residual_scatter, fits(table), "vector", "rmse"),
        "sweep": (lambda table: layers.layer_sweep(table, 8), sweep, "vector", "mean"),
        "curves": (lambda table: layers.layer_curves(table, 8), sweep, "vector", "mean"),
        "split": (drawings.split_effect, flaws.split_effect(table, table, draws=20), "", ""),
        "bracket": (drawings.closing_bracket, flaws.bracket_effect(table, table, draws=20), "", ""),
    }
    if kind == "letter":
        found["boxes"] = (drawings.contaminated_boxes, flaws.released_groups(grid), "dataset", "steerability")
    return found


def of_tables() -> dict:
    """The same of all others that are drawn from one table."""
    both, sycophancy = pd.concat([published_rows("llama2-7b"), our_rows()]), make_grid(sets=SYCOPHANCY)
    return {
        "figure 4": (lambda table: bias.figure_4(table, "paper"), make_parts(), "dataset", "total"),
        "pool": (drawings.pooled_sycophancy, pooled(slopes(sycophancy)), "", ""),
        "figure 5": (settings.figure_5, both, "train", ""),
        "figure 6": (lambda table: settings.figure_6(table, "llama2-7b", "smollm2-135m"), both, "train", ""),
        "matrix": (lambda table: settings.scatter_matrix(table, "BASE", "BASE"), both, "train", ""),
        "moments": (settings.mean_variance, both, "train", ""),
        "figure 7": (settings.figure_7, our_relative(), "dataset", "relative"),
        "cosine": (settings.cosine_distance, our_cosines(), "dataset", "cosine"),
        "effects": (formats.effects, rows(), "random", "low"),
        "bias": (formats.bias, rows(), "random", "estimate"),
        "correlations": (lambda table: texts.correlations(table, "kind"), agreeing(), "first", ""),
        "items": (texts.items, shared_items(made(sets=SETS[:3])), "first", "joint"),
        "likelihoods": (texts.likelihoods, likelihood(made(sets=SETS[:3])), "run", "matching"),
        "halves": (texts.halves, in_halves(), "train", "shared"),
        "controls": (texts.controls, controlled(), "first", ""),
        "sets": (in_plane, plane(), "kind", "x"),
        "mayne 2": (lambda table: autoencoder.figure_2(table, "v"), feature_table(), "input", "feature"),
        "mayne 5": (lambda table: autoencoder.figure_5(table, 8, 5), by_layer(), "format", "n"),
        "decompositions": (decompositions.curves, curve_table(), "method", "explained"),
        "behaviour": (
            lambda t: decompositions.behaviour(t, "letter"),
            behaviour_table(),
            "vector",
            "estimate",
        ),
        "stability": (decompositions.stability, stability_table(), "method", "jaccard"),
    }


OF_SETS = [
    samples.figure_1_published,
    bias.figure_3_published,
    bias.figure_4_published,
    layers.ranges_published,
]
BARE = {
    "mayne 1": lambda: autoencoder.figure_1(norms(), 12.5),
    "mayne 3": lambda: autoencoder.figure_3(sae(), 2, projections()),
    "mayne 4": lambda: autoencoder.figure_4(sae(), answers(), 9.0, (0, 1)),
    **{f"{draw.__name__}, selected": draw for draw in OF_SETS},
    **{f"{draw.__name__}, all": lambda draw=draw: draw(list(published.datasets().index)) for draw in OF_SETS},
}
RUNS = {"letters": ("letter", SETS), "statements": ("statement", SETS), "a long name": ("yes-no", LONG)}
OF_SLOPES = ["figure 1", "figure 2", "figure 3", "ranges", "residuals", "sweep", "curves", "split", "bracket"]
OF_TABLES = ["figure 4", "pool", "figure 5", "figure 6", "matrix", "moments", "figure 7", "cosine", "effects"]
OF_TABLES += ["items", "likelihoods", "halves", "controls", "sets"]
OF_TABLES += ["bias", "correlations", "mayne 2", "mayne 5", "decompositions", "behaviour", "stability"]
CASES = [(name, run) for run in RUNS for name in OF_SLOPES] + [("boxes", "letters")]
CASES += [(name, "") for name in (*OF_TABLES, *BARE)]


@cache
def of_run(run: str) -> dict:
    return of_slopes(*RUNS[run]) if run else of_tables()


def drawn_from(name: str, run: str) -> style.Drawn:
    if name in BARE:
        return BARE[name]()
    draw, table, *_ = of_run(run)[name]
    return draw(table)


@pytest.mark.parametrize(("name", "run"), CASES)
def test_it_has_one_width_legible_words_a_table_and_is_drawn_without_warnings(name, run):
    before = dict(plt.rcParams)
    drawn = drawn_from(name, run)
    drawn.figure.canvas.draw()
    words = [text for text in drawn.figure.findobj(Text) if text.get_text()]
    assert drawn.figure.get_size_inches()[0] == style.WIDTH and dict(plt.rcParams) == before
    smallest = min(text.get_fontsize() for text in words)
    assert smallest >= style.SMALL and smallest / 72 * 700 / style.WIDTH >= 10  # pixels on a page of 700
    assert not any("nan" in text.get_text().split() for text in words) and "nan" not in drawn.alt.split()
    assert len(drawn.alt) > 40 and len(drawn.table) > 0
    if "published" in name:
        assert samples.MARK in drawn.figure.get_suptitle() and samples.MARK in drawn.alt


def refused(name: str, table: pd.DataFrame, column: str, number: str) -> dict[str, pd.DataFrame]:
    """Tables that the figure cannot be drawn from, by what is said of them."""
    bad = {f"no {column}": table.drop(columns=column)}
    if name != "mayne 2":  # where nothing active is a finding
        bad["an empty one"] = table.iloc[:0]
    if number:
        none = np.resize([np.nan, np.inf], len(table))
        bad[f"{len(table)} of {len(table)} rows without"] = table.assign(**{number: none})
    if name in ("figure 1", "figure 3"):
        bad["only random-00"] = table.assign(vector="random-00")
        bad["layers 16, 20"] = pd.concat([table, table.assign(layer=20)])
    if name in ("figure 1", "figure 3", "residuals"):
        bad["one answer format"] = pd.concat([table, table.assign(format="statement")])
    return bad


@pytest.mark.parametrize("run", ["letters", ""])
def test_a_table_that_cannot_be_drawn_is_refused_in_words(run):
    for name, (draw, table, column, number) in of_run(run).items():
        for message, bad in (refused(name, table, column, number) if column else {}).items():
            with pytest.raises(SteerkitError, match=message) as error:
                draw(bad)
            assert error.value.done == "Nothing was drawn." and not plt.get_fignums(), (name, message)


@pytest.mark.parametrize("draw", OF_SETS)
def test_a_published_figure_refuses_unknown_sets_and_none(draw):
    with pytest.raises(SteerkitError, match="'opennes', which the paper does not have"):
        draw(["opennes"])
    with pytest.raises(SteerkitError, match="at least one data set"):
        draw([])
