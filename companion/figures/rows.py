"""Rows down and a value along x: the one look of all figures that list estimates with their intervals."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.figures import style

ESTIMATE = ["estimate", "low", "high"]
REGISTERED = {"color": style.BLACK, "lw": 0.9, "ls": "--", "zorder": 1.5}  # of a line drawn beforehand
POINT, BAR = 24, 130  # square points
LINE, MARK, AROUND = 0.16, 0.09, 0.65  # inches: of a line of words, of a mark in a row, around the panels
LETTERS = 112  # of a line of the legend
Values, Colors, Below = pd.Series | pd.DataFrame, str | Sequence[str], float | np.ndarray | pd.Series


@contextmanager
def drawing(
    names: Sequence[str] | pd.Series, panels: int = 1, deep: int = 1, origin: float = 0.0, **shares: object
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Panels over the same rows, the first on top, with a legend of all marks that have a label.

    A row is as high as its name, or `deep` marks below each other, need. The index of a series of names are the
    places of the rows. A line marks the `origin`.
    """
    names = pd.Series(names)
    with style.drawing(1, 1, panels, sharey=True, squeeze=False, **shares) as (figure, [columns]):
        yield figure, list(columns)
        for axes in columns:
            axes.axvline(origin, color=style.BLACK, lw=0.9, zorder=1.5)
            axes.grid(visible=False, axis="y")
            for row in names.index[::2]:
                axes.axhspan(row - 0.5, row + 0.5, color=style.STRIPE, lw=0, zorder=0)
        last, marks = names.index[-1], style.labelled(figure)
        columns[0].set(yticks=names.index, yticklabels=names, ylabel="", ylim=(last + 0.5, -0.5))
        words = max((len(mark.get_label()) for mark in marks), default=0)
        side_by_side = max(1, min(4, LETTERS // (words + 5)))
        if marks:
            style.legend(figure, marks, side_by_side)
        around = _lines(axes.get_title() for axes in columns) + _lines(axes.get_xlabel() for axes in columns)
        around += _lines([figure.get_suptitle()]) - (-len(marks) // side_by_side)
        row = 0.08 + max(LINE * _lines(names), MARK * deep)
        figure.set_figheight(AROUND + LINE * around + row * (last + 1))


def _lines(texts: Iterable[str]) -> int:
    return max(len(text.splitlines()) for text in texts)


def shift(place: int, count: int) -> float:
    """Where one of so many marks of a row stands, from the middle of the row."""
    return 0.7 * ((place + 0.5) / count - 0.5)


def points(
    axes: Axes, values: Values, color: Colors, below: Below = 0.0, fill: object = None, **look: object
) -> None:
    """A mark for each value, so far `below` the row of its index; on a line if the frame has low and high, too."""
    value, *ends = pd.DataFrame(values).to_numpy(dtype=float).T
    if ends:
        axes.hlines(values.index + below, *ends, color=color, lw=1.5)
    colors = {"c": color} if fill is None else {"fc": fill, "ec": color}
    size = {"s": BAR if look.get("marker") == "|" else POINT, "zorder": 3}
    axes.scatter(value, values.index + below, **(size | colors | look))


def cloud(axes: Axes, values: pd.Series, color: str, label: str, ends: tuple = (-np.inf, np.inf)) -> None:
    """Many values in a row, spread a little, with their median; those beyond the ends stand there."""
    spread = np.random.default_rng(0).uniform(-0.22, 0.22, len(values))  # the same figure gives the same file
    points(axes, values.clip(*ends), color, spread, s=18, alpha=0.5, lw=0, label=label)
    medians, look = values.groupby(level=0).median(), {"marker": "|", "s": 2 * BAR, "lw": 2, "zorder": 5}
    points(axes, medians, style.BLACK, label="median", **look)


def stacks(axes: Axes, parts: pd.DataFrame, colors: Mapping[str, str], words: Sequence[str]) -> None:
    """The parts of each row beside each other: left of zero those below it."""
    left, right = np.zeros(len(parts)), np.zeros(len(parts))
    for (part, color), label in zip(colors.items(), words, strict=True):
        width = parts[part].fillna(0).to_numpy()
        start = np.where(width < 0, left, right)
        axes.barh(parts.index, width, left=start, height=0.7, color=color, lw=0, label=label)
        left, right = left + width.clip(max=0), right + width.clip(min=0)


def numbers(axes: Axes, texts: pd.Series, head: str, at: float = 1.02) -> None:
    """A column of small numbers right of a panel, one beside each row, under a head."""
    for row, text in texts.items():
        axes.text(at, row, text, transform=axes.get_yaxis_transform(), va="center", **style.NOTE)
    style.beside(axes, (at, 1), (0, 3), head, "axes fraction", va="bottom", **style.NOTE)
