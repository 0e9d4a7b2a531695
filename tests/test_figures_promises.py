"""What every figure promises: one width, legible words, its table as CSV, and refusals in words."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from drawn import SETS, bent, make_grid
from matplotlib.text import Text
from test_figures import figure_1, figure_2, make_parts, make_slopes
from test_figures_appendix import fits, make_sweep, pooled
from test_figures_concepts import agreeing, rows
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

from companion import published
from companion.figures import autoencoder, bias, decompositions, formats, layers, samples, settings, style
from companion.figures import flaws as drawings
from companion.tan import flaws
from companion.tan.means import by_range
from steerkit.errors import SteerkitError
from steerkit.steerability import slopes

LONG = ("my-own-set-with-a-very-long-name-that-nobody-can-print",)
FORMATS = ("letter", "statement", "yes-no")


def of_slopes(kind="letter", sets=SETS) -> dict:
    """How each figure of a run of Tan et al. is drawn, and from which table."""
    exact, grid = make_slopes(kind, sets), make_grid(kind, sets, halves=bent())
    table, sweep = slopes(grid), make_sweep(sets, kind)
    found = {
        "figure 1": (figure_1, exact),
        "figure 2": (figure_2, make_grid(kind, sets)),
        "figure 3": (bias.figure_3, exact),
        "ranges": (layers.range_ablation, by_range(grid, draws=20)),
        "residuals": (layers.residual_scatter, fits(table)),
        "sweep": (lambda table: layers.layer_sweep(table, 8), sweep),
        "curves": (lambda table: layers.layer_curves(table, 8), sweep),
        "split": (drawings.split_effect, flaws.split_effect(table, table, draws=20)),
        "bracket": (drawings.closing_bracket, flaws.bracket_effect(table, table, draws=20)),
    }
    return found | (
        {"boxes": (drawings.contaminated_boxes, flaws.released_groups(grid))} if kind == "letter" else {}
    )


def of_tables() -> dict:
    """All others."""
    both, relative = pd.concat([published_rows("llama2-7b"), our_rows()]), our_relative()
    sycophancy = slopes(make_grid(sets=("sycophancy_train", "sycophancy_test")))
    return {
        "figure 4": (lambda table: bias.figure_4(table, "paper"), make_parts()),
        "pool": (drawings.pooled_sycophancy, pooled(sycophancy)),
        "figure 5": (settings.figure_5, both),
        "figure 6": (lambda table: settings.figure_6(table, "llama2-7b", "smollm2-135m"), both),
        "matrix": (lambda table: settings.scatter_matrix(table, "BASE", "BASE"), both),
        "moments": (settings.mean_variance, both),
        "figure 7": (settings.figure_7, relative),
        "cosine": (settings.cosine_distance, our_cosines()),
        "effects": (formats.effects, rows()),
        "bias": (formats.bias, rows()),
        "correlations": (formats.correlations, agreeing()),
        "mayne 2": (lambda table: autoencoder.figure_2(table, "v"), feature_table()),
        "mayne 5": (lambda table: autoencoder.figure_5(table, 8, 5), by_layer()),
        "decompositions": (decompositions.curves, curve_table()),
        "behaviour": (lambda table: decompositions.behaviour(table, "letter"), behaviour_table()),
        "stability": (decompositions.stability, stability_table()),
    }


OF_SETS = (
    samples.figure_1_published,
    bias.figure_3_published,
    bias.figure_4_published,
    layers.ranges_published,
)
BARE = {
    "mayne 1": lambda: autoencoder.figure_1(norms(), 12.5),
    "mayne 3": lambda: autoencoder.figure_3(sae(), 2, projections()),
    "mayne 4": lambda: autoencoder.figure_4(sae(), answers(), 9.0, (0, 1)),
    **{f"{draw.__name__}, selected": draw for draw in OF_SETS},
    **{f"{draw.__name__}, all": lambda draw=draw: draw(list(published.datasets().index)) for draw in OF_SETS},
}


def drawings_of(named: dict) -> dict:
    return {name: (lambda draw=draw, table=table: draw(table)) for name, (draw, table) in named.items()}


EVERY = BARE | drawings_of(of_tables())
for kind in FORMATS:
    EVERY |= {f"{name}, {kind}": draw for name, draw in drawings_of(of_slopes(kind)).items()}
EVERY |= {f"{name}, long name": draw for name, draw in drawings_of(of_slopes(sets=LONG)).items()}


@pytest.mark.parametrize("name", EVERY)
def test_it_has_one_width_legible_words_a_table_and_is_drawn_without_warnings(name):
    before = dict(plt.rcParams)
    drawn = EVERY[name]()
    drawn.figure.canvas.draw()
    words = [text for text in drawn.figure.findobj(Text) if text.get_text()]
    assert drawn.figure.get_size_inches()[0] == style.WIDTH and dict(plt.rcParams) == before
    assert min(text.get_fontsize() for text in words) >= style.SMALL
    assert (
        min(text.get_fontsize() for text in words) / 72 * 700 / style.WIDTH >= 10
    )  # pixels on a page of 700
    assert not any("nan" in text.get_text().split() for text in words) and "nan" not in drawn.alt.split()
    assert len(drawn.alt) > 40 and len(drawn.table) > 0
    if "published" in name:
        assert samples.MARK in drawn.figure.get_suptitle() and samples.MARK in drawn.alt


ONE_TABLE = of_slopes() | of_tables()
NEEDED = {  # a column without which nothing is drawn, and one in which every row has a finite number
    **dict.fromkeys(("figure 1", "figure 3"), ("vector", "steerability")),
    **dict.fromkeys(("ranges", "sweep", "curves"), ("vector", "mean")),
    **dict.fromkeys(("figure 5", "figure 6", "matrix", "moments"), ("train", None)),
    **{
        "figure 2": ("vector", "propensity"),
        "residuals": ("vector", "rmse"),
        "boxes": ("dataset", "steerability"),
    },
    **{
        "figure 4": ("dataset", "total"),
        "figure 7": ("dataset", "relative"),
        "cosine": ("dataset", "cosine"),
    },
    **{"effects": ("random", "low"), "bias": ("random", "estimate"), "correlations": ("first", None)},
    **{
        "mayne 2": ("input", "feature"),
        "mayne 5": ("format", "n"),
        "decompositions": ("method", "explained"),
    },
    **{"behaviour": ("vector", "estimate"), "stability": ("method", "jaccard")},
}


def refused(name: str) -> dict[str, pd.DataFrame]:
    """Tables that the figure cannot be drawn from, by what is said of them."""
    (_, table), (column, number) = ONE_TABLE[name], NEEDED[name]
    bad = {f"no {column}": table.drop(columns=column)}
    if name != "mayne 2":  # where nothing active is a finding
        bad["an empty one"] = table.iloc[:0]
    if number:
        bad[f"{len(table)} of {len(table)} rows without"] = table.assign(
            **{number: np.resize([np.nan, np.inf], len(table))}
        )
    if name in ("figure 1", "figure 3"):
        bad["only random-00"] = table.assign(vector="random-00")
        bad["layers 16, 20"] = pd.concat([table, table.assign(layer=20)])
    if name in ("figure 1", "figure 3", "residuals"):
        bad["one answer format"] = pd.concat([table, table.assign(format="statement")])
    if name == "figure 7":
        bad["one answer format of smollm2-135m"] = pd.concat([table, table.assign(format="letter")])
    return bad


@pytest.mark.parametrize("name", NEEDED)
def test_a_table_that_cannot_be_drawn_is_refused_in_words(name):
    draw = ONE_TABLE[name][0]
    for message, table in refused(name).items():
        with pytest.raises(SteerkitError, match=message) as error:
            draw(table)
        assert error.value.done == "Nothing was drawn." and not plt.get_fignums(), message


@pytest.mark.parametrize("draw", OF_SETS)
def test_a_published_figure_refuses_unknown_sets_and_none(draw):
    with pytest.raises(SteerkitError, match="'opennes', which the paper does not have"):
        draw(["opennes"])
    with pytest.raises(SteerkitError, match="at least one data set"):
        draw([])
