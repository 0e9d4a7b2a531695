"""What every figure promises: one width, legible words, colours told apart, its table as CSV, and refusals in words."""

from functools import cache, partial
from itertools import combinations

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import test_figures_concepts as concepts
import test_figures_mayne as mayne
from conftest import refused
from drawn import SETS, bent, crowded, make_grid
from matplotlib.text import Text
from test_figures import figure_1, figure_2, make_parts, make_slopes
from test_figures_appendix import SYCOPHANCY, fits, make_sweep, pooled
from test_figures_shifts import our_cosines, our_relative, our_rows, published_rows
from text_worlds import made

from companion import published
from companion.figures import (
    autoencoder,
    bias,
    decompositions,
    formats,
    layers,
    paper,
    samples,
    settings,
    style,
)
from companion.figures import flaws as drawings
from companion.figures import texts as drawn
from companion.tan import flaws
from companion.tan.means import by_range
from companion.tan.sides import by_set
from companion.tan.texts import shared_items
from steerkit import slopes

LONG = ("my-own-set-with-a-very-long-name-that-nobody-can-print",)


@cache
def curved(kind: str, sets: tuple[str, ...]) -> pd.DataFrame:
    return make_grid(kind, sets, halves=bent())


@cache
def sweep(kind: str, sets: tuple[str, ...]) -> pd.DataFrame:
    return make_sweep(sets, kind)


def twice(effect, kind: str, sets: tuple[str, ...]) -> pd.DataFrame:
    """A flaw that changes nothing."""
    table = slopes(curved(kind, sets))
    return effect(table, table)


def both() -> pd.DataFrame:
    return pd.concat([published_rows("llama2-7b"), our_rows()])


def three_models() -> pd.DataFrame:
    return pd.concat([published_rows("llama2-7b", "qwen1.5-14b"), our_rows()])


# How each figure of a run of Tan et al. is drawn, how its table is made, and two columns of it: one that has to be there,
# and one in which every row needs a finite number.
OF_SLOPES = {
    "figure 1": (figure_1, make_slopes, "vector", "steerability"),
    "figure 2": (figure_2, make_grid, "vector", "propensity"),
    "figure 3": (bias.figure_3, make_slopes, "vector", "steerability"),
    "ranges": (layers.range_ablation, lambda *run: by_range(curved(*run)), "vector", "mean"),
    "residuals": (layers.residual_scatter, lambda *run: fits(slopes(curved(*run))), "vector", "rmse"),
    "sweep": (partial(layers.layer_sweep, chosen=8), sweep, "vector", "mean"),
    "curves": (partial(layers.layer_curves, chosen=8), sweep, "vector", "mean"),
    "split": (drawings.split_effect, partial(twice, flaws.split_effect), "", ""),
    "bracket": (drawings.closing_bracket, partial(twice, flaws.bracket_effect), "", ""),
}
OF_TABLES = {
    "figure 4": (partial(bias.figure_4, order="paper"), make_parts, "dataset", "total"),
    "pool": (drawings.pooled_sycophancy, lambda: pooled(slopes(make_grid(sets=SYCOPHANCY))), "", ""),
    "boxes": (
        drawings.contaminated_boxes,
        lambda: flaws.released_groups(make_grid()),
        "dataset",
        "steerability",
    ),
    "figure 5": (settings.figure_5, both, "train", ""),
    "figure 5, three models": (partial(settings.figure_5, measure="variance"), three_models, "train", ""),
    "figure 6": (partial(settings.figure_6, first="llama2-7b", second="smollm2-135m"), both, "train", ""),
    "matrix": (partial(settings.scatter_matrix, train="BASE", test="BASE"), both, "train", ""),
    "moments": (settings.mean_variance, both, "train", ""),
    "figure 7": (settings.figure_7, our_relative, "dataset", "relative"),
    "cosine": (settings.cosine_distance, our_cosines, "dataset", "cosine"),
    "effects": (formats.effects, concepts.rows, "placebo", "low"),
    "bias": (formats.bias, concepts.rows, "placebo", "estimate"),
    "correlations": (partial(drawn.correlations, by="kind"), concepts.agreeing, "first", ""),
    "items": (drawn.items, lambda: shared_items(made(sets=SETS[:3])), "first", "joint"),
    "sides": (drawn.sides, lambda: by_set(made(sets=SETS[:3])), "run", "matching"),
    "written": (drawn.written, concepts.written, "steerable", "dose"),
    "tokens": (concepts.effects, concepts.shifted, "model", "shift"),
    "halves": (drawn.halves, concepts.in_halves, "train", "shared"),
    "controls": (drawn.controls, concepts.controlled, "first", ""),
    "sets": (concepts.in_plane, concepts.plane, "kind", "x"),
    "mayne 2": (partial(autoencoder.figure_2, vector="v"), mayne.feature_table, "input", "feature"),
    "mayne 5": (partial(autoencoder.figure_5, n_layers=8, sae_layer=5), mayne.by_layer, "format", "n"),
    "decompositions": (decompositions.curves, mayne.curve_table, "method", "explained"),
    "behaviour": (mayne.behaviour, mayne.behaviour_table, "vector", "estimate"),
    "stability": (decompositions.stability, mayne.stability_table, "method", "jaccard"),
}
OF_SETS = [
    samples.figure_1_published,
    bias.figure_3_published,
    bias.figure_4_published,
    layers.ranges_published,
]
BARE = {
    "mayne 1": lambda: autoencoder.figure_1(mayne.norms(), 12.5),
    "mayne 3": lambda: autoencoder.figure_3(mayne.sae(), 2, mayne.projections()),
    "mayne 4": lambda: autoencoder.figure_4(mayne.sae(), mayne.answers(), 9.0, (0, 1)),
    **{f"{draw.__name__}, selected": draw for draw in OF_SETS},
    **{f"{draw.__name__}, all": partial(draw, list(published.datasets().index)) for draw in OF_SETS},
}
RUNS = {"letters": ("letter", SETS), "statements": ("statement", SETS), "a long name": ("yes-no", LONG)}
CASES = [(name, run) for run in RUNS for name in OF_SLOPES] + [(name, "") for name in (*OF_TABLES, *BARE)]


@cache
def table_of(name: str, run: str) -> pd.DataFrame:
    make = (OF_SLOPES if run else OF_TABLES)[name][1]
    return make(*RUNS.get(run, ()))


@pytest.mark.parametrize(("name", "run"), CASES)
def test_it_has_one_width_legible_words_a_table_and_is_drawn_without_warnings(name, run):
    before = dict(plt.rcParams)
    drawn = BARE[name]() if name in BARE else (OF_SLOPES | OF_TABLES)[name][0](table_of(name, run))
    assert crowded(drawn.figure) == []
    words = [text for text in drawn.figure.findobj(Text) if text.get_text()]
    assert drawn.figure.get_size_inches()[0] == style.WIDTH and dict(plt.rcParams) == before
    smallest = min(text.get_fontsize() for text in words)
    assert smallest >= style.SMALL and smallest / 72 * 700 / style.WIDTH >= 10  # pixels on a page of 700
    assert not any("nan" in text.get_text().split() for text in words) and "nan" not in drawn.alt.split()
    assert len(drawn.alt) > 40 and len(drawn.table) > 0
    if "published" in name:
        assert samples.MARK in drawn.figure.get_suptitle() and samples.MARK in drawn.alt


def spoilt(name: str, table: pd.DataFrame, column: str, number: str) -> dict[str, pd.DataFrame]:
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


@pytest.mark.parametrize(("figures", "run"), [(OF_SLOPES, "letters"), (OF_TABLES, "")], ids=["run", "table"])
def test_a_table_that_cannot_be_drawn_is_refused_in_words(figures, run):
    for name, (draw, _, column, number) in figures.items():
        for message, bad in (spoilt(name, table_of(name, run), column, number) if column else {}).items():
            error = refused(draw, bad, said=message)
            assert error.done == "Nothing was drawn." and not plt.get_fignums(), (name, message)


@pytest.mark.parametrize("draw", OF_SETS)
def test_a_published_figure_refuses_unknown_sets_and_none(draw):
    refused(draw, ["opennes"], said="'opennes', which the paper does not have")
    refused(draw, [], said="at least one data set")


# What people without one kind of cone see, on linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.0.
SIGHT = {
    "all cones": np.eye(3),
    "no red": [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
    "no green": [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881],
    "no blue": [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900],
}
COLOURS = {
    "formats": style.FORMATS,
    "models": style.MODELS,
    "settings": style.SETTINGS,
    "published": {"published": style.PUBLISHED, "white": "#FFFFFF", "black": style.BLACK},
    "pairs": drawn.COLORS,
    "controls": dict(enumerate(drawn.CONTROLS)),
    "parts": bias.PARTS,
    "tokens": autoencoder.COLORS,
}
NOTICED = 10.0  # a distance in CIELAB; 2.3 is just noticed side by side, the eye wants more across a page


def linear(color: str) -> np.ndarray:
    """sRGB to linear light (IEC 61966-2-1)."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """Linear sRGB to CIELAB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = to_xyz @ np.clip(light, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), 24389 / 27 / 116 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, other: str, sight: str) -> float:
    seen = [lab(np.reshape(SIGHT[sight], (3, 3)) @ linear(color)) for color in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("table", COLOURS)
def test_colours_of_one_table_are_told_apart(table, sight):
    colors = sorted(set(COLOURS[table].values()))
    assert len(colors) == len(COLOURS[table]) or table in ("parts", "kinds", "tokens", "pairs")
    near = {pair: distance(*pair, sight) for pair in combinations(colors, 2)}
    assert {pair: round(far, 1) for pair, far in near.items() if far < NOTICED} == {}


def test_every_model_of_the_paper_has_a_colour_and_any_other_is_black():
    assert set(published.tan()["models"]) <= set(style.MODELS)
    assert style.model_color("somebody/else") == style.BLACK


def test_the_measure_of_distance_knows_red_from_green_and_who_does_not():
    assert distance("#00a000", "#c06000", "all cones") > 60 > 20 > distance("#4f9a3f", "#b08a3f", "no green")
    assert distance("white", "black", "all cones") == pytest.approx(100, abs=0.1)


class TestSheet:
    """The paper of a saved figure."""

    def saved(self, folder, words: int) -> np.ndarray:
        with style.theme():
            figure, axes = plt.subplots(figsize=(style.WIDTH, 2))
            axes.plot([0, 1], [0, 1], label="word " * words)
            axes.plot([0, 1], [1, 0], label="word " * words)
            figure.legend(loc="outside lower center", ncols=2)
        path, *_ = paper.save(figure, folder / "figure", pd.DataFrame({"x": [1]}))
        return plt.imread(path)[..., :3].min(axis=-1)

    def test_it_has_its_own_size_and_grows_where_a_legend_would_be_cut_off(self, tmp_path):
        assert self.saved(tmp_path, 1).shape == (300, 1125)  # 150 dots per inch
        shades = self.saved(tmp_path, 14)
        assert shades.shape[1] > 1125
        assert min(shades[:, 0].min(), shades[:, -1].min(), shades[0].min(), shades[-1].min()) > 0.9

    def test_the_colours_of_its_file_are_those_that_were_drawn(self, tmp_path):
        with style.theme():
            figure, axes = plt.subplots(figsize=(style.WIDTH, 2))
            for place, color in enumerate(style.MODELS.values()):
                axes.bar(place, 1, color=color)
        path, *_ = paper.save(figure, tmp_path / "figure", pd.DataFrame({"x": [1]}))
        seen = (plt.imread(path)[..., :3].reshape(-1, 3) * 255).round()
        for color in (*style.MODELS.values(), "white"):
            wanted = np.array(matplotlib.colors.to_rgb(color)) * 255
            assert (np.abs(seen - wanted).max(axis=1) <= 2).sum() > 500, color
