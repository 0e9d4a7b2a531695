"""Colours that everybody can tell apart, and figures that show all of themselves."""

from __future__ import annotations

from itertools import combinations

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from companion.figures import autoencoder as mayne_norms
from companion.figures import bias, style, texts

# What people without one kind of cone see, on linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.0.
SIGHT = {
    "all cones": np.eye(3),
    "no red": [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
    "no green": [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881],
    "no blue": [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900],
}
TABLES = {
    "formats": style.FORMATS,
    "models": style.MODELS,
    "settings": style.SETTINGS,
    "published": {"published": style.PUBLISHED, "white": "#FFFFFF", "black": style.BLACK},
    "pairs": texts.COLORS,
    "controls": dict(enumerate(texts.CONTROLS)),
    "parts": bias.PARTS,
    "tokens": mayne_norms.COLORS,
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
@pytest.mark.parametrize("table", TABLES)
def test_colours_of_one_table_are_told_apart(table, sight):
    colors = sorted(set(TABLES[table].values()))
    near = {pair: distance(*pair, sight) for pair in combinations(colors, 2)}
    assert {pair: round(far, 1) for pair, far in near.items() if far < NOTICED} == {}


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
        path, *_ = style.save(figure, folder / "figure", pd.DataFrame({"x": [1]}))
        return plt.imread(path)[..., :3].min(axis=-1)

    def test_it_has_its_own_size_when_everything_fits(self, tmp_path):
        assert self.saved(tmp_path, 1).shape == (300, 1125)  # 150 dots per inch

    def test_it_grows_where_a_legend_would_be_cut_off(self, tmp_path):
        shades = self.saved(tmp_path, 14)
        assert shades.shape[1] > 1125
        assert min(shades[:, 0].min(), shades[:, -1].min(), shades[0].min(), shades[-1].min()) > 0.9

    def test_the_colours_of_its_file_are_those_that_were_drawn(self, tmp_path):
        with style.theme():
            figure, axes = plt.subplots(figsize=(style.WIDTH, 2))
            for place, color in enumerate(style.MODELS.values()):
                axes.bar(place, 1, color=color)
        path, *_ = style.save(figure, tmp_path / "figure", pd.DataFrame({"x": [1]}))
        seen = (plt.imread(path)[..., :3].reshape(-1, 3) * 255).round()
        for color in (*style.MODELS.values(), "white"):
            wanted = np.array(matplotlib.colors.to_rgb(color)) * 255
            assert (np.abs(seen - wanted).max(axis=1) <= 2).sum() > 500, color
