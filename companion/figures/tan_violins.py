"""Tan et al. figure 1: how well each example is steered, and how many are steered the wrong way."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from companion import published
from companion.figures import frames, style

COLUMNS = ("dataset", "example_id", "format", "vector", "layer", "steerability")


def _rows(slopes: pd.DataFrame) -> pd.DataFrame:
    checked = frames.checked(slopes, COLUMNS, ["steerability"])
    return frames.full_vectors(checked, ["dataset", "example_id"])


def summary(slopes: pd.DataFrame) -> pd.DataFrame:
    """One row per data set: our numbers and the published ones of Llama-2-7b, highest median first.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table in one answer format; only rows of the vector "full" count.

    Returns
    -------
    DataFrame
        Columns dataset, label, n, mean, median, anti_steerable (share with slope <= 0), and published_mean,
        published_median, published_q1, published_q3, published_anti_steerable (NaN where the paper has none).

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats or layers.
    """
    per_set = _rows(slopes).groupby("dataset")["steerability"]
    wrong_way = per_set.agg(lambda values: float((values <= 0).mean()))
    ours = per_set.agg(n="size", mean="mean", median="median").assign(anti_steerable=wrong_way)
    ours = ours.sort_values(["median", "mean"], ascending=False)
    theirs = frames.in_distribution(ours.index)[["mean", "median", "q1", "q3", "anti_steerable"]]
    table = ours.join(theirs.add_prefix("published_")).reset_index()
    table.insert(1, "label", table["dataset"].map(published.label))
    return table


def figure_1(slopes: pd.DataFrame, model_label: str, beside: Sequence[pd.DataFrame] = ()) -> Figure:
    """Per-sample steerability of every data set, and the share of anti-steerable examples (figure 1).

    Rows are data sets by our median. Left the published Llama-2-7b median, mean and middle half; in the
    middle our violins; right the share of slopes <= 0. Published and ours have separate axes: their scales
    differ by an order of magnitude.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table in one answer format; only rows of the vector "full" are drawn.
    model_label : str
        How our model is called in the titles.
    beside : sequence of DataFrame
        The tables of figures that are tabs beside this one; our axis holds them too.

    Raises
    ------
    SteerkitError
        As :func:`summary`.
    """
    table = summary(slopes)
    rows = _rows(slopes)
    kind = frames.one_format(rows)
    color, unit = style.FORMATS[kind], style.UNITS[kind]
    size = (style.WIDTH, 1.85 + 0.34 * len(table))
    with style.theme():
        figure, panels = plt.subplots(1, 3, sharey=True, width_ratios=[1.0, 1.45, 0.85], figsize=size)
        left, middle, right = panels
        _published(left, table)
        _violins(middle, rows, table, color)
        if beside:
            middle.set_xlim(frames.span(_rows(each)["steerability"] for each in (slopes, *beside)))
        _wrong_way(right, table, color)
        left.set(yticks=table.index, yticklabels=table["dataset"].map(frames.tick))
        left.set(ylim=(len(table) - 0.4, -0.6), title="published:\nLlama-2-7b, letter")
        left.set_xlabel("steerability\n(logits per unit multiplier)")
        middle.set_title(f"ours:\n{frames.lines(f'{model_label}, {kind}', 32)}")
        middle.set_xlabel(f"steerability\n({unit} per unit multiplier)")
        figure.legend(handles=_legend(color), loc="outside lower center", ncols=3)
    return figure


def _published(axes: Axes, table: pd.DataFrame) -> None:
    """Middle half, mean and median of each row; a row without them says why."""
    grey = style.PUBLISHED
    axes.hlines(table.index, table["published_q1"], table["published_q3"], color=style.FAINT, lw=4)
    # The diamond is wider than the dot, so that both are seen where they fall together.
    axes.scatter(table["published_mean"], table.index, marker="D", s=46, fc="white", ec=grey, zorder=3)
    axes.scatter(table["published_median"], table.index, marker="o", s=17, color=grey, zorder=4)
    axes.axvline(0, color=style.BLACK, lw=0.9)
    if table["published_median"].isna().all():
        axes.set_xticks([])
    for row, name in table.loc[table["published_median"].isna(), "dataset"].items():
        style.remark(axes, row, frames.gap(name))


def _violins(axes: Axes, rows: pd.DataFrame, table: pd.DataFrame, color: str) -> None:
    places = dict(zip(table["dataset"], table.index, strict=True))
    rows = rows.assign(row=rows["dataset"].map(places))
    look = {"color": color, "saturation": 1, "alpha": 0.55, "linewidth": 0.9, "width": 0.85}
    sns.violinplot(
        rows, x="steerability", y="row", orient="h", native_scale=True, ax=axes,
        density_norm="width", cut=0, inner="quart", **look,
    )  # fmt: skip
    axes.axvline(0, color=style.BLACK, lw=0.9)


def _wrong_way(axes: Axes, table: pd.DataFrame, color: str) -> None:
    axes.barh(table.index, table["anti_steerable"], height=0.6, color=color, alpha=0.75)
    theirs = table["published_anti_steerable"]
    axes.scatter(theirs, table.index, marker="D", s=24, color=style.PUBLISHED, zorder=3, clip_on=False)
    axes.set(xlim=(0, max(0.58, 1.05 * table["anti_steerable"].max())), title="anti-steerable")
    axes.set_xlabel("share of examples\nwith slope ≤ 0")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))


def _legend(color: str) -> list[Line2D | Patch]:
    point = {"ls": "none", "color": style.PUBLISHED}
    return [
        Line2D([], [], marker="o", markersize=4.5, label="published median", **point),
        Line2D([], [], marker="D", markersize=6.5, markerfacecolor="white", label="published mean", **point),
        Line2D([], [], color=style.FAINT, lw=4, label="published middle half"),
        Patch(color=color, alpha=0.55, label="ours: all examples, quartiles dashed"),
        Patch(color=color, alpha=0.75, label="ours: anti-steerable share"),
        Line2D([], [], marker="D", markersize=5, label="published anti-steerable share", **point),
    ]


def figure_1_alt(slopes: pd.DataFrame, model_label: str) -> str:
    """Alt text of :func:`figure_1`, with its numbers."""
    table = summary(slopes)
    kind = frames.one_format(_rows(slopes))
    top, bottom = table.iloc[0], table.iloc[-1]
    worst = table.loc[table["anti_steerable"].idxmax()]
    text = (
        f"Violins of per-sample steerability of {model_label} ({kind} format) on {frames.sets(len(table))}: "
        f"medians from {frames.number(bottom['median'])} ({bottom['label']}) to "
        f"{frames.number(top['median'])} ({top['label']}) {style.UNITS[kind]} per unit multiplier, and up to "
        f"{worst['anti_steerable']:.0%} of the examples of a set ({worst['label']}) anti-steerable."
    )
    rho, shared = frames.rank_correlation(table["median"], table["published_median"])
    if not shared:
        return text + " The paper shows no Llama-2-7b values for them."
    low, high = table["published_median"].min(), table["published_median"].max()
    ranks = "" if np.isnan(rho) else f"; their rank correlation with ours is {rho:.2f}"
    return text + (
        f" The published Llama-2-7b medians, known for {shared} of {len(table)}, run from "
        f"{frames.number(low)} to {frames.number(high)} logits per unit multiplier{ranks}."
    )
