"""Tan et al. figure 2: propensity curves of a well and of a badly steered example."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import published
from companion.figures import frames, style

COLUMNS = ("dataset", "example_id", "format", "vector", "layer", "multiplier", "propensity")
Example = tuple[str, object]  # data set, example_id


def _lines(grid: pd.DataFrame) -> pd.DataFrame:
    """Least-squares line of propensity on the multiplier: slope, intercept per (dataset, example_id)."""
    key = ["dataset", "example_id"]
    if (grid.groupby(key)["multiplier"].nunique() < 2).any():
        raise frames.refusal("two multipliers or more", "an example with one", "run more multipliers.")
    centre = grid.groupby(key)[["multiplier", "propensity"]].transform("mean")
    x, y = grid["multiplier"] - centre["multiplier"], grid["propensity"] - centre["propensity"]
    sums = pd.DataFrame({"xy": x * y, "xx": x * x}).groupby([grid["dataset"], grid["example_id"]]).sum()
    means = grid.groupby(key)[["multiplier", "propensity"]].mean()
    slope = sums["xy"] / sums["xx"]
    return pd.DataFrame({"slope": slope, "intercept": means["propensity"] - slope * means["multiplier"]})


def _pick(lines: pd.DataFrame) -> list[tuple[Example, str]]:
    """The example nearest the 95th percentile of the best steered set, and the 5th of the worst."""
    means = lines["slope"].groupby("dataset").mean()
    chosen = []
    for dataset, percent in ((means.idxmax(), 95), (means.idxmin(), 5)):
        slopes = lines.loc[dataset, "slope"]
        nearest = (slopes - np.percentile(slopes, percent)).abs().idxmin()
        chosen.append(((dataset, nearest), f"{percent}th percentile"))
    return chosen


def _chosen(
    grid: pd.DataFrame, examples: Sequence[Example] | None
) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[Example, str]]]:
    """Checked rows, their lines, and the two examples with the words that say why they were taken."""
    checked = frames.checked(grid, COLUMNS, ["multiplier", "propensity"])
    rows = frames.full_vectors(checked, ["dataset", "example_id", "multiplier"])
    lines = _lines(rows)
    if examples is None:
        return rows, lines, _pick(lines)
    if len(examples) != 2 or any(tuple(example) not in lines.index for example in examples):
        expected = "two examples of the grid, each (dataset, example_id)"
        raise frames.refusal(expected, f"{list(examples)}", "take pairs that the grid holds.")
    return rows, lines, [(tuple(example), "chosen by hand") for example in examples]


def figure_2(
    grid: pd.DataFrame, examples: Sequence[Example] | None = None, beside: Sequence[pd.DataFrame] = ()
) -> Figure:
    """Two propensity curves, of a well and of a badly steered example, over their data sets (figure 2).

    Left: of the data set with the highest mean slope, the example at the 95th percentile of its slopes;
    right: of the set with the lowest mean slope, the example at the 5th. Points are measured, the line is the
    least-squares fit; behind them the mean and the middle half of all examples of the set. Both panels span
    the same height, so slopes compare by eye.

    Parameters
    ----------
    grid : DataFrame
        A GRID table in one answer format, one layer per data set; only the vector "full" is drawn.
    examples : sequence of (dataset, example_id), optional
        Two examples to show instead.
    beside : sequence of DataFrame
        The tables of figures that are tabs beside this one; the axis of propensity holds them too.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats or layers, one multiplier
        only, an example that the grid does not hold.
    """
    rows, lines, chosen = _chosen(grid, examples)
    kind = frames.one_format(rows)
    with style.theme():
        figure, panels = plt.subplots(1, 2, figsize=(style.WIDTH, 3.7))
        for axes, (example, why) in zip(panels, chosen, strict=True):
            one_set = rows[rows["dataset"] == example[0]]
            _curve(axes, one_set, example[1], lines.loc[example], style.FORMATS[kind])
            slope = frames.signed(lines.loc[example, "slope"])
            name = f"{published.label(example[0])}\nexample {_short(example[1])}"
            axes.set_title(f"{name} ({why}): slope {slope}")
            axes.set_xlabel("multiplier")
        panels[0].set_ylabel(f"propensity ({style.UNITS[kind]})")
        _same_height(panels, [height for each in beside for height in _heights(*_chosen(each, None))])
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, example_id: object, line: pd.Series, color: str) -> None:
    per_multiplier = rows.groupby("multiplier")["propensity"]
    band, mean = per_multiplier.quantile([0.25, 0.75]).unstack(), per_multiplier.mean()
    band_look = {"color": style.FAINT, "alpha": 0.45, "lw": 0, "label": "middle half of the set"}
    axes.fill_between(band.index, band[0.25], band[0.75], **band_look)
    axes.plot(mean.index, mean, color=style.BLACK, lw=1.4, ls="--", label="mean of the set")
    one = rows[rows["example_id"] == example_id].sort_values("multiplier")
    ends = one["multiplier"].iloc[[0, -1]]
    axes.plot(ends, line["intercept"] + line["slope"] * ends, color=color, lw=1.6, label="fitted line")
    axes.scatter(one["multiplier"], one["propensity"], color=color, s=30, zorder=3, label="one example")
    axes.axhline(0, color=style.BLACK, lw=0.9)


def _short(example_id: object) -> str:
    """The number of an item: its id without the data set in front."""
    return str(example_id).rpartition("/")[2]


def _same_height(panels: Sequence[Axes], others: Sequence[float]) -> None:
    """Give all panels the widest range of y, that of other figures too, each around its own middle."""
    height = max([*(np.ptp(axes.get_ylim()) for axes in panels), *others])
    for axes in panels:
        middle = np.mean(axes.get_ylim())
        axes.set_ylim(middle - height / 2, middle + height / 2)


def _heights(rows: pd.DataFrame, lines: pd.DataFrame, chosen: list[tuple[Example, str]]) -> list[float]:
    """How high the panels of a figure with these curves are, without drawing it."""
    margins = 1 + 2 * plt.rcParams["axes.ymargin"]
    return [margins * np.ptp(_drawn(rows[rows["dataset"] == e[0]], e[1], lines.loc[e])) for e, _ in chosen]


def _drawn(rows: pd.DataFrame, example_id: object, line: pd.Series) -> np.ndarray:
    """All values of y in one panel: zero, band, mean, points and fitted line."""
    per_multiplier = rows.groupby("multiplier")["propensity"]
    one = rows.loc[rows["example_id"] == example_id]
    fitted = line["intercept"] + line["slope"] * one["multiplier"]
    band = per_multiplier.quantile([0.25, 0.75])
    return np.concatenate([[0.0], band, per_multiplier.mean(), one["propensity"], fitted])


def figure_2_alt(grid: pd.DataFrame, examples: Sequence[Example] | None = None) -> str:
    """Alt text of :func:`figure_2`, with its numbers."""
    rows, lines, chosen = _chosen(grid, examples)
    kind = frames.one_format(rows)
    words = []
    for (dataset, example), why in chosen:
        slopes = lines.loc[dataset, "slope"]
        words.append(
            f"example {_short(example)} of {published.label(dataset)} ({why}) moves by "
            f"{frames.signed(slopes[example])} {style.UNITS[kind]} per unit multiplier, its data set by "
            f"{frames.signed(slopes.mean())} on average"
        )
    return f"Two propensity curves ({kind} format). On the left {words[0]}; on the right {words[1]}."
