"""The layer sweep of Tan et al.: what is drawn is what the table holds."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from companion import published
from companion.figures import tan_layers
from steerkit.errors import SteerkitError

SETS = ("openness", "narcissism", "myopic-reward", "my-own-set")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def make_sweep() -> pd.DataFrame:
    rows = [(n, "statement", la, 0.1 * j + 0.01 * la) for j, n in enumerate(SETS) for la in (4, 8, 12, 16)]
    return pd.DataFrame(rows, columns=["dataset", "format", "layer", "steerability"])


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_layer_sweep_draws_a_line_per_set_a_thick_mean_and_the_chosen_layer():
    (axes,) = tan_layers.layer_sweep(make_sweep(), 12).axes
    thick = [line for line in axes.lines if line.get_linewidth() > 3]
    sets = [line for line in axes.lines if line.get_marker() == "."]
    assert len(thick) == 1 and len(sets) == len(SETS)
    np.testing.assert_allclose(thick[0].get_ydata(), 0.15 + 0.01 * np.array([4, 8, 12, 16]))
    assert any(line.get_linestyle() == ":" and set(line.get_xdata()) == {12} for line in axes.lines)
    assert axes.get_ylabel().endswith("(nats per token per unit multiplier)") and "layer" in axes.get_xlabel()
    assert {published.label(name) for name in SETS} == set(texts(axes))


def test_layer_sweep_averages_examples_and_leaves_other_vectors_out():
    random = make_sweep().assign(vector="random-00", steerability=9.0)
    (axes,) = tan_layers.layer_sweep(pd.concat([make_sweep().assign(vector="full"), random]), 12).axes
    assert max(line.get_ydata()[0] for line in axes.lines if line.get_marker() == ".") == pytest.approx(0.34)


def test_layer_sweep_alt_text_names_the_peak_and_the_chosen_layer():
    text = tan_layers.layer_sweep_alt(make_sweep(), 12)
    assert "4 data sets at layers 4 to 16" in text and "peaks at layer 16 with 0.31 nats per token" in text
    assert "At the chosen layer 12 it is 0.27" in text and "1 of 4 reach 90%" in text


def test_layer_sweep_refuses_a_hole_and_an_unknown_layer():
    with pytest.raises(SteerkitError, match="1 empty cells"):
        tan_layers.layer_sweep(make_sweep().iloc[1:], 12)
    with pytest.raises(SteerkitError, match="chosen layer 13"):
        tan_layers.layer_sweep(make_sweep(), 13)


def test_layer_sweep_refuses_an_empty_table():
    with pytest.raises(SteerkitError, match="an empty one"):
        tan_layers.layer_sweep(make_sweep().iloc[:0], 12)
