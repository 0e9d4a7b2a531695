"""Figures on concept and format: every mark is a number of the table, in its panel, colour and place."""

import re
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from drawn import crowded, marks, points, ticks
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from test_figures_shifts import our_rows, published_rows
from text_worlds import made

from companion import published
from companion.figures import authors, paper, settings, style, texts
from companion.figures import formats as figures
from companion.figures import pairs as pairs_of_sets
from companion.figures.collisions import cut
from companion.tan import formats as concepts
from companion.tan import sides
from companion.tan import texts as slopes
from steerkit.errors import SteerkitError

SETS = published.SELECTED[:5]
MODELS = ("smollm2-135m", "gemma3-270m")
LABELS = ("SmolLM2-135M-Instruct", "Gemma-3-270M (base)")
WHITE = "#ffffff"
LOOKS = (PathCollection.get_facecolors, PathCollection.get_edgecolors)


def rows(models=MODELS, forms=("letter", "statement"), sets=SETS) -> pd.DataFrame:
    """An effects table; `letter` comes first in it, and half of the intervals hold 0."""
    rng, keys = np.random.default_rng(0), ("model", "format", "dataset")
    names = [(model, form, name) for model in models for form in forms for name in sets]
    table = pd.DataFrame(names, columns=keys).assign(kind="persona")
    table["estimate"] = rng.normal(0.3, 0.4, len(table))
    table["bias_share"] = np.where(table["format"] == "statement", np.nan, rng.uniform(0.2, 1, len(table)))
    table = table.assign(low=table["estimate"] - 0.3, high=table["estimate"] + 0.25)
    table["placebo"] = rng.normal(0, 0.05, len(table))
    table["at_zero"] = table["estimate"] + 0.1
    return table.assign(above_zero=table["low"] > 0, above_placebo=True)


def dots(axes) -> list[tuple[np.ndarray, list[str], list[str]]]:
    """Positions, faces and edges of every scatter of a panel, in the order in which they were drawn."""
    drawn = [part for part in axes.collections if isinstance(part, PathCollection)]
    faces, edges = ([list(map(to_hex, get(part))) for part in drawn] for get in LOOKS)
    return list(zip(points(axes), faces, edges, strict=True))


def lines(axes) -> list[np.ndarray]:
    """The ends [n, 2, 2] of every set of horizontal lines."""
    return [np.asarray(c.get_segments()) for c in axes.collections if isinstance(c, LineCollection)]


def labels(axes) -> list[str]:
    return [name.replace("\n", " ") for name in ticks(axes)]


class TestEffects:
    def test_a_panel_a_format_in_a_fixed_order_with_its_own_unit(self):
        figure = figures.effects(rows(forms=("yes-no", "letter", "statement"))).figure
        assert [axes.get_title() for axes in figure.axes] == ["statement", "letter", "yes-no"]
        for axes in figure.axes:
            assert f"({style.UNITS[axes.get_title()]} per unit)" in axes.get_xlabel()

    def test_every_mark_is_a_number_of_the_table_in_the_row_of_its_data_set(self):
        table = rows()
        figure = figures.effects(table).figure
        names = labels(figure.axes[0])
        for axes in figure.axes:
            drawn = dots(axes)
            assert len(drawn) == 3 * len(MODELS) and len(lines(axes)) == len(MODELS)
            for i, model in enumerate(MODELS):
                part = table[(table["format"] == axes.get_title()) & (table["model"] == model)]
                (places, faces, edges), (placebo, *_), (at_zero, *_) = drawn[3 * i : 3 * i + 3]
                color = style.model_color(model).lower()
                at = [names.index(published.label(name)) + (-0.175, 0.175)[i] for name in part["dataset"]]
                assert np.allclose(places, np.column_stack([part["estimate"], at]))
                assert np.allclose(placebo, np.column_stack([part["placebo"], at]))
                assert np.allclose(at_zero, np.column_stack([part["at_zero"], at]))
                ends = lines(axes)[i]
                assert np.allclose(ends[:, :, 0], part[["low", "high"]]) and np.allclose(ends[:, 0, 1], at)
                assert set(edges) == {color}
                assert faces == [color if low > 0 else WHITE for low in part["low"]]
        assert {low > 0 for low in table["low"]} == {True, False}  # both kinds occur
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        marks = ["interval holds 0", "slope at 0", "the same with shuffled labels, 95% point"]
        assert legend == [*LABELS, *marks]

    def test_rows_run_from_most_to_least_steerable_by_rank_in_the_first_format(self):
        table = rows()
        table.loc[(table["model"] == MODELS[0]) & (table["dataset"] == SETS[0]), "estimate"] *= 1000
        first = table[table["format"] == "statement"]
        first = first.pivot(index="dataset", columns="model", values="estimate")
        expected = first.rank().mean(axis=1).rename(published.label)
        axes = figures.effects(table).figure.axes[0]
        ranks = expected[labels(axes)].tolist()
        assert ranks == sorted(ranks, reverse=True) and len(ranks) == 5
        low, high = axes.get_ylim()
        assert low > high  # the first row is at the top

    def test_forty_sets_fit_with_labels_of_one_line_and_a_model_not_run_in_a_format_is_missing_there(
        self,
    ):
        table = rows(sets=tuple(published.datasets().index))
        missing = (table["model"] == MODELS[1]) & (table["format"] == "letter")
        figure = figures.effects(table[~missing]).figure
        names, counts = ticks(figure.axes[0]), {axes.get_title(): len(dots(axes)) for axes in figure.axes}
        assert len(names) == 40 and not any("\n" in name for name in names)
        assert figure.get_size_inches()[1] > 10 and counts["letter"] == counts["statement"] / 2 > 0

    def test_the_alt_text_counts_what_is_above_zero_and_names_the_ends(self):
        table = rows()
        text = figures.effects(table).alt
        for (model, form), part in table.groupby(["model", "format"]):
            label = LABELS[MODELS.index(model)]
            assert f"{(part['low'] > 0).sum()} of 5 for {label} in {form}" in text
        alone = rows(MODELS[:1], ("letter",))
        text, means = figures.effects(alone).alt, alone.set_index("dataset")["estimate"]
        most, least = published.label(means.idxmax()), published.label(means.idxmin())
        assert "of 5 data sets by answer format" in text
        assert f"Most steerable in letter: {most}, least: {least}." in text


class TestBias:
    def test_a_dot_is_the_share_of_a_data_set_and_a_bar_the_median(self):
        table = rows(forms=("statement", "letter", "yes-no"))
        found = figures.bias(table)
        (axes,) = found.figure.axes
        again = figures.bias(table).figure.axes[0]
        assert np.array_equal(points(axes)[0], points(again)[0])  # dots lie where they lay before
        assert labels(axes) == [f"{label}, {form}" for form in ("letter", "yes-no") for label in LABELS]
        named = [f"a data set in {label}" for label in LABELS]
        legend = [text.get_text() for text in found.figure.legends[0].get_texts()]
        assert legend == [named[0], "median", named[1]]
        clouds = [dots(axes)[0], dots(axes)[2]]
        for row, (label, form) in enumerate(name.split(", ") for name in labels(axes)):
            model = MODELS[LABELS.index(label)]
            shares = table[(table["format"] == form) & (table["model"] == model)]["bias_share"]
            places, faces, _ = clouds[LABELS.index(label)]
            own = places[np.abs(places[:, 1] - row) < 0.5]
            assert np.allclose(sorted(own[:, 0]), sorted(shares))
            assert set(faces) == {style.model_color(model).lower()}
            assert [shares.median(), row] in marks(axes, "median").tolist()
            assert f"{shares.median():.2f} for {label} in {form}" in found.alt
        assert len(marks(axes, "median")) == 4 and axes.get_xlim()[0] < 0 and axes.get_xlim()[1] > 1
        assert "statement" not in found.alt

    def test_a_model_that_was_not_run_in_a_format_has_no_row_there(self):
        table = rows(forms=("yes-no", "letter"))
        missing = (table["model"] == MODELS[0]) & (table["format"] == "yes-no")
        (axes,) = figures.bias(table[~missing]).figure.axes
        assert labels(axes) == [f"{LABELS[0]}, letter", f"{LABELS[1]}, letter", f"{LABELS[1]}, yes-no"]

    def test_statements_alone_have_nothing_to_show(self):
        with pytest.raises(SteerkitError, match="rows of letter or yes-no; found only statement") as error:
            figures.bias(rows(forms=("statement",)))
        assert error.value.done == "Nothing was drawn." and not plt.get_fignums()


def agreeing() -> pd.DataFrame:
    """Correlations of two models in two formats over twelve data sets of two kinds."""
    both = rows(sets=tuple(published.datasets().index[:12])).assign(source="bundled")
    both["kind"] = np.where(both.groupby(["model", "format"]).cumcount() < 6, "persona", "choice")
    return concepts.agreement(both)


def in_halves() -> pd.DataFrame:
    about = {"run": "m", "format": ["statement", "letter"], "train": "BASE", "test": "USER_NEG"}
    about |= {"shared": [0.9, 0.8], "estimate": [0.4, 0.1], "ceiling": [0.5, 0.1]}
    return pd.DataFrame(about).assign(low=0.0, high=0.6)


def written() -> pd.DataFrame:
    about = {"dataset": ["a"] * 4 + ["b"] * 4, "steerable": ["least"] * 4 + ["most"] * 4}
    about |= {"multiplier": [-2.0, 0, 1, 4] * 2, "dose": [0.4, 0, 0.2, 3, 0.6, 0, 0.3, 7]}
    return pd.DataFrame(about | {"surprise": [2.0, 1, 1.5, np.nan, 3, 2, 2, 6]})


def shifted() -> pd.DataFrame:
    rng, about = np.random.default_rng(0), {"model": ["smollm2-135m"] * 9 + ["gemma3-270m"] * 9}
    about["dataset"] = [f"s{i}" for i in range(9)] * 2
    return pd.DataFrame(about | {name: rng.normal(size=18) for name in ("vector", "shift", "exchanged")})


def effects(table: pd.DataFrame) -> style.Drawn:
    return pairs_of_sets.tokens(table, {"smollm2-135m": "SmolLM2", "gemma3-270m": "Gemma"})


def controlled() -> pd.DataFrame:
    about = {"control": ["a", "b"] * 2, "finding": ["x", "x", "y", "y"], "first": "m", "second": "n"}
    return pd.DataFrame(about).assign(estimate=[0.1, 0.2, 0.3, np.nan], low=0.0, high=0.5)


def plane() -> pd.DataFrame:
    """Data sets of two panels in the plane of two numbers."""
    panels = ["smollm2-135m"] * 5 + ["n"] * 5
    points = pd.DataFrame({"dataset": SETS * 2, "panel": panels, "x": range(10), "y": range(10)})
    return points.assign(kind=["persona", "choice", "persona", "choice", "persona"] * 2)


def in_plane(points: pd.DataFrame) -> style.Drawn:
    return texts.sets(points, "x", "y", {"smollm2-135m": "rho 1", "n": "rho 2"})


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    return agreeing()


class TestCorrelations:
    def test_every_row_is_a_correlation_within_kinds_in_the_colour_of_its_pair(self, pairs):
        found = texts.correlations(pairs, by="kind")
        (axes,) = found.figure.axes
        main = pairs[pairs["sets"] == "within kinds"].reset_index(drop=True)
        own, rest = dots(axes)[:2], dots(axes)[2:5]
        for ends, (places, faces, _), (kind, part) in zip(
            lines(axes)[:2], own, main.groupby("kind", sort=False), strict=True
        ):
            assert np.allclose(places, np.column_stack([part["estimate"], part.index]))
            assert np.allclose(ends[:, :, 0], part[["low", "high"]])
            assert set(faces) == {texts.COLORS[kind].lower()}
        for drawn, sets in zip(rest, ("all", "persona", "choice"), strict=True):
            part = pairs[pairs["sets"] == sets].set_index(["first", "second"])["estimate"]
            assert np.allclose(drawn[0][:, 0], [part[row.first, row.second] for row in main.itertuples()])
        for label, row in zip(labels(axes), main.itertuples(), strict=True):
            first, second = label.split(" – ")
            assert (first, second) == (style.model_label(row.first), style.model_label(row.second))
            assert f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}] for " in found.alt

    def test_ceilings_and_placebos_stand_in_the_rows_of_their_pairs(self):
        found = slopes.agreement(made(), slopes.PAIRS[:3])
        figure = texts.correlations(found).figure
        main = found[found["sets"] == "within kinds"]
        [axes], said = figure.axes, ["ceiling of the noise", "nine in ten placebo vectors"]
        assert np.allclose(marks(axes, said[0])[:, 0], main["ceiling"], equal_nan=True)
        [band] = (part for part in axes.collections if part.get_label() == said[1])
        ends = [line[:, 0] for line in band.get_segments() if len(line) == 2]
        assert np.allclose(ends, main[["placebo_low", "placebo_high"]].dropna()) and ends
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend[:3] == list(slopes.PAIRS[:3]) and legend[-2:] == said
        names = labels(figure.axes[0])
        assert names[0] == "m – n" and names[1] == "m: bundled texts – papers' texts"
        of_all = found["sets"] == "all"  # of which neither is drawn
        some = found.assign(**{mark: found[mark].where(of_all) for mark in ("ceiling", "placebo_low")})
        legend = texts.correlations(some).figure.legends[0].get_texts()
        assert not {text.get_text() for text in legend} & {*said}

    def test_no_correlation_at_all_is_refused(self, pairs):
        with pytest.raises(SteerkitError, match="a correlation over three data sets or more; found none"):
            texts.correlations(pairs.assign(estimate=np.nan), by="kind")
        assert not plt.get_fignums()


def test_items_show_both_rates_and_both_chances_in_percent():
    table = slopes.shared_items(made())
    left, right = texts.items(table).figure.axes
    assert dots(left)[0][0][0, 0] == table["estimate"].item()
    shown = [100 * table[name].item() for name in ("joint", "chance", "joint_placebo", "chance_placebo")]
    assert [float(drawn[0][0, 0]) for drawn in dots(right)] == pytest.approx(shown)


def test_a_set_is_a_point_of_its_two_texts_in_the_colour_of_what_becomes_of_the_matching_one():
    found = sides.by_set(made(sets=SETS))
    found["text"] = [sides.MORE, sides.LESS, sides.OPEN, sides.MORE, sides.MORE] * 3
    found["steerable"] = found["dataset"] != SETS[4]
    drawn = texts.sides(found)
    for axes, (run, part) in zip(drawn.figure.axes, found.groupby("run", sort=False), strict=True):
        *steered, (rest, _, _) = dots(axes)
        for (places, faces, _), (text, color) in zip(steered, texts.TEXTS.items(), strict=True):
            some = part[(part["text"] == text) & part["steerable"]]
            assert np.allclose(places, some[["matching", "other"]]) and {*faces} <= {to_hex(color)}
            assert f"{len(some)} {text} in {run}" in drawn.alt
        assert np.allclose(rest, part.loc[~part["steerable"], ["matching", "other"]])


def test_a_text_is_a_point_of_its_dose_and_of_what_it_surprises_more_than_the_unsteered_one():
    axes = texts.written(written()).figure.axes[0]
    drawn = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xydata()) > 1]
    assert drawn[:2] == [[[0, 0], [0.2, 0.5], [3, pytest.approx(np.nan, nan_ok=True)]], [[0, 0], [0.4, 1]]]
    assert drawn[2:4] == [[[0, 0], [0.3, 0], [7, 4]], [[0, 0], [0.6, 1]]]


def test_a_set_is_a_point_of_its_vector_and_of_the_shift_beside_that_of_exchanged_answers():
    table, drawn = shifted(), effects(shifted())
    for axes, (model, part) in zip(drawn.figure.axes, table.groupby("model", sort=False), strict=True):
        for (places, _, _), name in zip(dots(axes), ("exchanged", "shift"), strict=True):
            assert np.allclose(places, part[["vector", name]])
        assert f"{axes.get_title()} {(part['shift'] > part['vector']).mean():.0%}" in drawn.alt, model


@pytest.mark.parametrize("draw", [lambda: effects(shifted()), lambda: in_plane(plane()), lambda: figure_6()])
def test_names_stand_where_the_points_of_the_png_are(draw, tmp_path):
    drawn = draw()
    points = paper.points(drawn.figure)
    png, *_ = paper.save(drawn.figure, tmp_path / "a", drawn.table)
    image = plt.imread(png)[..., :3]
    assert len(points) >= 6
    for x, y, name in points:
        around = image[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
        assert (around.min(axis=1) < 0.75).mean() > 0.4, name  # paper and grid are lighter
        assert re.fullmatch(r".+ \(\S+, \S+\)", name)


def figure_6() -> style.Drawn:
    rows = pd.concat([published_rows("llama2-7b"), our_rows()])
    return settings.figure_6(rows, "llama2-7b", "smollm2-135m")


def test_halves_stand_beside_the_same_items_and_controls_below_each_other():
    drawn = texts.halves(in_halves())
    found = [[float(x) for x in part[0][:, 0]] for part in dots(drawn.figure.axes[0])]
    assert found == [[0.4], [0.1], [0.9, 0.8], [0.5, 0.1]] and "0.90 for m, statement: BASE" in drawn.alt
    places = [part[0] for part in dots(texts.controls(controlled()).figure.axes[0])]
    assert np.allclose(places[0], [[0.1, -0.175], [0.3, 0.825]]) and np.allclose(places[1], [[0.2, 0.175]])


def test_sets_are_points_by_kind_and_each_panel_says_its_correlation():
    points, drawn = plane(), in_plane(plane())
    for axes, (_, part) in zip(drawn.figure.axes, points.groupby("panel", sort=False), strict=True):
        for (places, _, _), kind in zip(dots(axes), ("persona", "choice"), strict=True):
            assert np.allclose(places, part.loc[part["kind"] == kind, ["x", "y"]])
    assert "SmolLM2-135M-Instruct: rho 1; n: rho 2" in drawn.alt
    assert {"rho 1", "rho 2"} <= {text.get_text() for axes in drawn.figure.axes for text in axes.texts}


def test_a_run_goes_by_the_label_of_its_model():
    said = {"smollm2-135m": LABELS[0], "gemma3-270m (papers' data)": f"{LABELS[1]} (papers' data)"}
    said |= {"gemma3-270m, letter": f"{LABELS[1]}, letter", "org/one, letter": "org/one, letter"}
    assert {run: style.model_label(run) for run in said} == said


def whose() -> pd.DataFrame:
    """Orders of two authors in two models: 37 concepts, of which people wrote 12."""
    ends = [(author, model) for author in ("model", "human") for model in MODELS]
    count = {True: 12, False: 37}  # of which people wrote, or not
    found = [(*a, *b, -0.5, count["human" in a + b]) for a, b in combinations(ends, 2)]
    columns = ["first_author", "first_model", "second_author", "second_model", "estimate", "n"]
    return pd.DataFrame(found, columns=columns)


class TestAuthors:
    """Whose order, whose variance and what moves: drawn so that each number says what it rests on."""

    def test_a_square_says_on_how_many_concepts_it_rests(self):
        figure = authors.orders(whose(), dict(zip(MODELS, LABELS, strict=True))).figure
        [axes] = figure.axes
        words = [text.get_text() for text in axes.texts if text.get_text()]
        assert words.count("−0.50\nn = 12") == 10 and words.count("−0.50\nn = 37") == 2
        assert "n: concepts" in axes.get_title() and cut(figure) == []

    def test_dashed_lines_are_in_the_legend_and_no_label_is_cut(self):
        shares = pd.DataFrame({"model": MODELS, "pairs": ["known", "new"], "author": [0.0, 0.4]})
        shares = shares.assign(concept=[-0.3, 0.1], interaction=[1.3, 0.5])
        moved = pd.DataFrame({"model": MODELS, "ratio": [0.5, 0.9]}).assign(author="scenes", by="bundled")
        moved = moved.assign(steers=True, others_ratio=0.1, shuffled=0.0)
        labels = dict(zip(MODELS, LABELS, strict=True))
        drawings = authors.shares(shares, labels), authors.transfers(moved, labels)
        for drawn, line in zip(drawings, ("half", "the registered line, 0.7"), strict=True):
            assert line in [text.get_text() for text in drawn.figure.legends[0].get_texts()]
            assert crowded(drawn.figure) == []
