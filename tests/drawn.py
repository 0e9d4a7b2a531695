"""What the tests of figures share: grids with known slopes, and what stands in a panel."""

from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PathCollection
from matplotlib.figure import Figure

from companion.figures import paper
from companion.figures.collisions import collisions, cut

MULTIPLIERS = np.array([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
SETS = ("openness", "narcissism", "myopic-reward", "my-own-set")
KEY = "dataset example_id format positive_letter positive_answer vector layer multiplier".split()


def straight(j: int, i: int, k: float) -> tuple[float, float]:
    """Both halves of the score of example i of set j: lines, whose slopes are known in closed form."""
    return 0.1 * i + (0.3 - 0.1 * j + 0.02 * i) * k, 0.05 * j * k


def bent(scale: float = 1.0, seed: int = 0) -> Callable[[int, int, float], tuple[float, float]]:
    """Halves that flatten out at both ends, with noise."""
    rng = np.random.default_rng(seed)
    return lambda j, i, k: (scale * (0.6 - 0.3 * j + 0.05 * i) * np.tanh(k) + rng.normal(0, 0.02), 0.0)


def noisy(shift: float = 0.0, seed: int = 0) -> Callable[[int, int, float], tuple[float, float]]:
    """Halves of large logits with noise; `shift` is added to every slope."""
    rng = np.random.default_rng(seed)
    slope = rng.normal(0.3, 1, (9, 99)) + shift
    return lambda j, i, k: (24 + slope[j, i] * k + rng.normal(0, 0.05), 17.0)


def make_grid(kind="letter", sets=SETS, items=8, layer=16, halves=straight) -> pd.DataFrame:
    """A grid of the full vector; `myopic-reward` asks for letters without answers."""
    rows = []
    for j, name in enumerate(sets):
        for i in range(items):
            letter = "AB"[i % 2] if kind == "letter" else ""
            answers = kind == "yes-no" or (kind == "letter" and name != "myopic-reward")
            answer = ("Yes", "No")[i // 2 % 2] if answers else ""
            about = (name, f"{name}/{i}", kind, letter, answer, "full", layer)
            rows += [(*about, k, *halves(j, i, k)) for k in MULTIPLIERS]
    grid = pd.DataFrame(rows, columns=[*KEY, "matching", "not_matching"])
    return grid.assign(propensity=grid["matching"] - grid["not_matching"])


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def points(axes) -> list[np.ndarray]:
    """Positions of every scatter of a panel, in the order in which they were drawn."""
    return [np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)]


def segments(axes) -> list[np.ndarray]:
    return [line for c in axes.collections if isinstance(c, LineCollection) for line in c.get_segments()]


def bands(axes) -> list[np.ndarray]:
    """Outlines of what is filled: bands and violins."""
    filled = [c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)]
    return [c.get_paths()[0].vertices for c in filled]


def boxes(axes) -> list:
    return [patch for patch in axes.patches if type(patch).__name__ == "PathPatch"]


def medians_of(axes) -> list[float]:
    """Where the middle lines of box plots stand."""
    return [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 1.4]


def ticks(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def markers(axes, shape: str) -> list[tuple[float, float]]:
    """Where single markers of a shape stand, from top to bottom."""
    found = [line for line in axes.lines if line.get_marker() == shape]
    return [(x, y) for line in found for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def bars_of(axes) -> list:
    return [bar for group in axes.containers for bar in group]


def widths(axes) -> list[float]:
    return [bar.get_width() for bar in bars_of(axes)]


def marks(axes, label: str) -> np.ndarray:
    """Where the marks stand that the legend explains with these words, [n, 2]."""
    return np.vstack(
        [c.get_offsets() for c in axes.collections if c.get_label() == label] or [np.empty((0, 2))]
    )


def minus(text: str) -> str:
    """With the sign of mathematics, as figures and their words have it."""
    return text.replace("-", "−")


def crowded(figure: Figure) -> list:
    """Texts that lie on each other or are cut, on the figure as it is saved."""
    paper.sheet(figure)
    return [*collisions(figure), *cut(figure)]
