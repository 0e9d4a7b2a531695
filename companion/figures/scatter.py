"""Scatter plots: whose points they are, the line fitted to them, and the names of those that stand out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from companion import published
from companion.figures import paper, style

NAMED = 3  # points with a name in one panel
BAND = 0.15  # how strong seaborn draws one
# Where a name may stand: (side of the point, distance in points), nearest first.
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
PLACES = [(side, far) for far in (5, 9, 14, 24, 38, 55) for side in SIDES]
AWAY = 6  # distance in points from which a name no longer tells which point it belongs to
CORNERS = ((0.03, 0.97), (0.97, 0.03), (0.97, 0.97), (0.03, 0.03))
Names = tuple[Axes, pd.DataFrame, Iterable[str]]


@dataclass(frozen=True)
class Source:
    """Whose values: ours or the paper's, and in which unit.

    Published values are grey dots with a line in the colour of the model; ours have the colour throughout.
    """

    label: str
    color: str
    dots: str
    unit: str
    published: bool


def source(rows: pd.DataFrame, model: str) -> Source:
    """Read off a table whose values those of a model are; without an answer format they are the paper's, in letter.

    Rows without a format of a model that the paper does not have are in a unit that is not known: "score".
    """
    own = rows.loc[rows["model"] == model]
    kinds = list(own["format"].dropna().unique()) if "format" in own else []
    theirs = published.tan()["models"]
    label = theirs[model]["label"] if model in theirs else style.model_label(model)
    color = style.model_color(model)
    if not kinds and model in theirs:
        return Source(f"published: {label}", color, style.PUBLISHED, style.UNITS["letter"], True)
    style.need(len(kinds) < 2, f"one answer format of {model}", ", ".join(kinds), "choose the rows of one.")
    return Source(label, color, color, style.UNITS[kinds[0]] if kinds else "score", False)


arrow = "{} \N{RIGHTWARDS ARROW} {}".format  # from a training to a test setting
note = partial(Line2D, [], [], ls="none")  # words in a legend
coefficient = partial(style.number, form=".2f")  # a correlation


def interval(sign: str, value: float, low: float, high: float) -> str:
    """'ρ 0.90 [0.80, 0.96]'."""
    return f"{sign} {coefficient(value)} [{coefficient(low)}, {coefficient(high)}]"


def cloud(axes: Axes, points: pd.DataFrame, color: str, size: float, alpha: float, **look: object) -> None:
    """A dot at each x and y."""
    axes.scatter(points["x"], points["y"], s=size, color=color, alpha=alpha, lw=0, zorder=3, **look)


def fitted_line(axes: Axes, points: pd.DataFrame, color: str, band: bool = True) -> None:
    """The least-squares line over the width of the points (columns x, y); nothing below three of them.

    Its 95% band is the percentile bootstrap over points, which have to be independent of each other.
    """
    x, y = points["x"].to_numpy(), points["y"].to_numpy()
    if len(x) < 3 or np.ptp(x) == 0:
        return
    limits = axes.dataLim.frozen()  # the points decide: a wide band must not squeeze them
    draws = {"ci": 95 if band else None, "n_boot": 1000, "seed": 0}
    sns.regplot(x=x, y=y, ax=axes, scatter=False, color=color, line_kws={"lw": 1.5, "zorder": 1.8}, **draws)
    axes.lines[-1].sticky_edges.x.clear()  # the outermost points keep their distance from the frame
    axes.dataLim.set(limits)


def line_legend(identity: bool = True) -> list[Line2D | Patch]:
    """Legend entries of the fitted line, of its correlation and, with ``identity``, of x = y."""
    band = Patch(color=style.BLACK, alpha=BAND, lw=0, label="its 95% band over data sets")
    same = [style.line("x = y", 1, style.PUBLISHED, "--")] if identity else []
    return [*same, style.line("regression line", 1.5), band, note(label="ρ Spearman [95%]")]


def farthest(distance: pd.Series, count: int = NAMED) -> list[str]:
    """The entries with the largest absolute values, largest first; those at 0 do not count."""
    far = distance.abs().sort_values(ascending=False, kind="stable")
    return list(far[far > 0].index[:count])


def off_line(points: pd.DataFrame) -> list[str]:
    """The points farthest from the least-squares line of y on x; from the mean of y where x is constant.

    Of a data set that has many points (column ``dataset``) the farthest one.
    """
    x, y = points["x"] - points["x"].mean(), points["y"] - points["y"].mean()
    square = float((x**2).sum())
    away = y - x * (float((x * y).sum()) / square if square > 0 else 0.0)
    sets = points.get("dataset", points.index.to_series())
    return farthest(away[away.abs().groupby(sets).idxmax()])


def corner(axes: Axes, text: str) -> None:
    """Write into a corner of a panel, below the points; :func:`write_names` moves it to the emptiest one."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    look = {"fontsize": style.SMALL, "bbox": box, "zorder": 2.9, "gid": "corner", "linespacing": 1.15}
    axes.text(*CORNERS[0], text, va="top", transform=axes.transAxes, **look)


def write_names(figure: Figure, panels: Sequence[Names], width: int = 18) -> None:
    """Write data sets' labels beside their points, where they hide least; the last thing done to a figure.

    A panel comes with its points (columns x and y) and the index entries to name, which are data sets unless there is a
    column ``dataset``. A label has at most two lines of about `width` letters.
    """
    paper.laid_out(figure)  # only now is known where things stand
    for axes, points, names in panels:
        style.pointed(axes, points["x"], points["y"], points.get("dataset", points.index.to_series()))
        dots = axes.transData.transform(points[["x", "y"]].to_numpy(dtype=float))
        for text in axes.texts:
            if text.get_gid() == "corner":
                _settle(axes, text, dots)
        taken = [text.get_window_extent() for text in axes.texts]
        for name in names:
            label = published.label(points.loc[name, "dataset"] if "dataset" in points else name)
            word = max(len(part) for part in label.replace("-", "- ").split())  # words are not cut
            lines = style.lines(label, max(width, min(word, 22)))
            taken.append(_write_name(axes, points.loc[name], dots, taken, lines))


def _settle(axes: Axes, text: Text, dots: np.ndarray) -> None:
    """Move a text to the corner where it meets the fewest points; the first of equals."""

    def cost(place: tuple[float, float]) -> float:
        x, y = place
        text.set(x=x, y=y, ha="left" if x < 0.5 else "right", va="bottom" if y < 0.5 else "top")
        return _cost(text.get_window_extent(), axes.bbox, dots, [])

    cost(min(CORNERS, key=cost))  # puts it there


def _write_name(axes: Axes, point: pd.Series, dots: np.ndarray, taken: list[Bbox], label: str) -> Bbox:
    """Write one label at the best of all places, and return the box that it fills (pixels)."""
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.5}
    look = {"fontsize": style.SMALL, "color": "#333333", "linespacing": 0.95, "bbox": halo, "zorder": 2.95}
    middle = {"textcoords": "offset points", "ha": "center", "va": "center", "annotation_clip": False}
    place = (point["x"], point["y"])
    text = axes.annotate(label, place, (0, 0), **middle, **look)
    text.set_in_layout(False)
    size, dot = text.get_window_extent().size, 72 / axes.figure.dpi
    at = axes.transData.transform(place)
    starts = [at + np.array(side) * (far / dot + size / 2) - size / 2 for side, far in PLACES]
    within = np.clip(starts, axes.bbox.min, axes.bbox.max - size)  # pushed back into the panel
    boxes = [Bbox.from_bounds(*start, *size) for start in within]
    costs = [_cost(box, axes.bbox, dots, taken) for box in boxes]
    best = int(np.argmin([cost + far / 15 for cost, (_, far) in zip(costs, PLACES, strict=True)]))
    box = boxes[best]
    text.set_multialignment("left" if box.x0 > at[0] else "right" if box.x1 < at[0] else "center")
    text.set_position((within[best] + size / 2 - at) * dot)
    end = (np.clip(at, box.min, box.max) - at) * dot
    if np.hypot(*end) > AWAY:  # then it is tied to its point, by the nearest edge
        tie = {"arrowstyle": "-", "color": style.PUBLISHED, "lw": 0.7, "shrinkA": 0, "shrinkB": 2}
        line = axes.annotate("", place, end, textcoords="offset points", arrowprops=tie, zorder=2.5)
        line.set_in_layout(False)
    return box


def _cost(box: Bbox, frame: Bbox, dots: np.ndarray, taken: list[Bbox]) -> float:
    """How bad a place is: points hidden, texts overlapped (worse), and leaving the panel (worst)."""
    hidden = ((dots > box.min - 2) & (dots < box.max + 2)).all(axis=1).sum()
    outside = (box.min < frame.min).any() or (box.max > frame.max).any()
    return hidden + 20 * sum(box.overlaps(other) for other in taken) + 30 * outside
