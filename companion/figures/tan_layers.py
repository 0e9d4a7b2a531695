"""Layer sweep of Tan et al. (appendix): at which layer does a vector steer best?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from companion.figures import frames, style

COLUMNS = ("dataset", "format", "layer", "steerability")
LINES = 14  # more lines than this cannot be told apart, nor labelled
CYCLE = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.SKY, style.PURPLE)


def _by_layer(summary: pd.DataFrame, chosen_layer: int) -> pd.DataFrame:
    """Mean steerability, layers down and data sets across; best at the chosen layer first."""
    rows = frames.checked(summary, COLUMNS, COLUMNS[2:])
    frames.one_format(rows)
    if "vector" in rows:
        rows = rows[rows["vector"] == "full"]
    table = rows.groupby(["layer", "dataset"])["steerability"].mean().unstack()
    if table.isna().any(axis=None) or chosen_layer not in table.index:
        expected = "every data set at every layer, the chosen layer among them"
        layers = ", ".join(map(str, table.index))
        empty = int(table.isna().sum().sum())
        found = f"{empty} empty cells, layers {layers}, and chosen layer {chosen_layer}"
        raise frames.refusal(expected, found, "sweep the same layers for every data set.")
    return table[table.loc[chosen_layer].sort_values(ascending=False).index]


def layer_sweep(summary: pd.DataFrame, chosen_layer: int) -> Figure:
    """Mean steerability against the layer of the vector, one line per data set (appendix of the paper).

    Parameters
    ----------
    summary : DataFrame
        Columns dataset, format (one), layer, steerability: the mean of a data set, or its examples, which are
        averaged. If there is a column vector, only "full" counts.
    chosen_layer : int
        The layer used everywhere else (0-based block output), marked.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats, a data set that lacks a
        layer, an unknown chosen layer.
    """
    table = _by_layer(summary, chosen_layer)
    kind = frames.one_format(summary)
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 4.4))
        axes.axhline(0, color=style.BLACK, lw=0.9)
        axes.axvline(chosen_layer, color=style.BLACK, lw=1.3, ls=":")
        for name, look in zip(table.columns, _looks(len(table.columns)), strict=True):
            axes.plot(table.index, table[name], lw=1.3, marker=".", ms=5, clip_on=False, **look)
        axes.plot(table.index, table.mean(axis=1), color=style.BLACK, lw=3.2, zorder=1.9)
        axes.set(xlabel="layer (0-based block output)", title=f"{kind} format")
        axes.set_ylabel(f"mean steerability\n({style.UNITS[kind]} per unit multiplier)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="x")
        if len(table.columns) <= LINES:
            _names(axes, table)
        mean = Line2D([], [], color=style.BLACK, lw=3.2, label="mean of the data sets")
        mark = Line2D([], [], color=style.BLACK, lw=1.3, ls=":", label=f"chosen layer: {chosen_layer}")
        figure.legend(handles=[mean, mark], loc="outside lower center", ncols=2)
    return figure


def _looks(count: int) -> list[dict[str, str]]:
    """A colour and a dash for each line; pale grey for all when there are too many to tell apart."""
    if count > LINES:
        return [{"color": style.FAINT}] * count
    dashes = ("-", "--", "-.")
    return [{"color": CYCLE[i % len(CYCLE)], "ls": dashes[i // len(CYCLE)]} for i in range(count)]


def _names(axes: Axes, table: pd.DataFrame) -> None:
    """Write the name of each line beyond its right end, moved apart where ends are close."""
    ends = table.iloc[-1].sort_values()
    room = 0.052 * np.ptp(axes.get_ylim())
    heights = ends.to_numpy().copy()
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + room)
    heights -= (heights - ends.to_numpy()).mean()
    last, step = table.index[-1], 0.02 * max(np.ptp(table.index), 1)
    axes.set_xlim(table.index[0] - step, last + step)
    looks = dict(zip(table.columns, _looks(len(table.columns)), strict=True))
    for (name, end), height in zip(ends.items(), heights, strict=True):
        axes.plot([last, last + 2.5 * step], [end, height], lw=1, clip_on=False, **looks[name] | {"ls": "-"})
        text = frames.tick(name).split("\n")[0]
        axes.text(last + 3 * step, height, text, va="center", fontsize=style.SMALL)


def layer_sweep_alt(summary: pd.DataFrame, chosen_layer: int) -> str:
    """Alt text of :func:`layer_sweep`, with its numbers."""
    table = _by_layer(summary, chosen_layer)
    mean = table.mean(axis=1)
    unit = f"{style.UNITS[frames.one_format(summary)]} per unit multiplier"
    near = (table.loc[chosen_layer] >= 0.9 * table.max()).sum()
    return (
        f"Mean steerability of {frames.sets(len(table.columns))} at layers {table.index[0]} to "
        f"{table.index[-1]}: the mean over data sets peaks at layer {mean.idxmax()} with "
        f"{frames.number(mean.max())} {unit}. At the chosen layer {chosen_layer} it is "
        f"{frames.number(mean[chosen_layer])}, and {near} of {len(table.columns)} reach 90% of their own "
        "peak there."
    )
