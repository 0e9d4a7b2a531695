"""Two appendix figures of Tan et al.: slopes by width of the multiplier range, and residuals beside slopes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from companion import published
from companion.figures import frames, style

RANGES = ("dataset", "format", "vector", "layer", "width", "mean", "low", "high")
FITS = ("dataset", "format", "vector", "layer", "example_id", "steerability", "rmse")
MARKERS = "osD^vP"
PUBLISHED_WIDTHS = (0.5, 1.0, 1.5)
PER_LINE = 4  # panels in a row of small multiples


def _by_width(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the full vector, sets by falling mean in the widest range, widths from narrow to wide."""
    rows = frames.full_vectors(frames.checked(table, RANGES, RANGES[4:]), ["dataset", "width"])
    wide = rows.pivot(index="dataset", columns="width", values="mean")
    if wide.isna().any(axis=None):
        found = f"{int(wide.isna().sum().sum())} missing means"
        raise frames.refusal("every width for every data set", found, "refit the missing widths.")
    order = wide[wide.columns.max()].sort_values(ascending=False).index
    return rows.iloc[np.lexsort([rows["width"], rows["dataset"].map(order.get_loc)])].reset_index(drop=True)


def published_ranges(names: Sequence[str]) -> pd.DataFrame:
    """The published means of Llama-2-7b by width: dataset, label, width, mean (logits per unit multiplier).

    In the order of `names`, three rows each; NaN where the paper shows none.
    """
    theirs = frames.in_distribution(names)[[f"mean_range_{width}" for width in PUBLISHED_WIDTHS]]
    long = theirs.set_axis(PUBLISHED_WIDTHS, axis=1).rename_axis(index="dataset", columns="width")
    long = long.stack(future_stack=True).rename("mean").reset_index()
    return long.assign(label=long["dataset"].map(published.label))[["dataset", "label", "width", "mean"]]


def range_ablation(table: pd.DataFrame) -> Figure:
    """Mean steerability refitted on narrower ranges of the multiplier, ours beside Llama-2-7b's.

    One row a data set, by our mean over the widest range; one marker a width, ours with 95% intervals. The
    axes are separate: the scales differ by an order of magnitude.

    Parameters
    ----------
    table : DataFrame
        The table of `companion.tan.ranges.by_range` in one answer format; only the vector "full" is drawn.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats or layers, a data set that
        lacks a width.
    """
    rows = _by_width(table)
    kind = frames.one_format(rows)
    names = list(rows["dataset"].unique())
    theirs = published_ranges(names)
    widths = sorted({*rows["width"], *PUBLISHED_WIDTHS})
    with style.theme():
        figure, (left, right) = plt.subplots(
            1, 2, sharey=True, figsize=(style.WIDTH, 1.7 + 0.36 * len(names))
        )
        range_dots(left, theirs, names, widths, style.PUBLISHED)
        range_dots(right, rows, names, widths, style.FORMATS[kind])
        left.set(
            title="published:\nLlama-2-7b, letter", xlabel="mean steerability\n(logits per unit multiplier)"
        )
        right.set_title(f"ours:\n{kind}, 95% intervals")
        right.set_xlabel(f"mean steerability\n({style.UNITS[kind]} per unit multiplier)")
        figure.legend(handles=range_legend(widths), loc="outside lower center", ncols=len(widths))
    return figure


def range_dots(
    axes: Axes, rows: pd.DataFrame, names: Sequence[str], widths: Sequence[float], color: str
) -> None:
    """Draw one row a data set: a marker for each width, joined, with an interval where the table has one.

    Parameters
    ----------
    rows : DataFrame
        Columns dataset, width, mean, and perhaps low and high. A data set without a finite mean says why.
    """
    offsets = dict(zip(widths, np.linspace(-0.26, 0.26, len(widths)), strict=True))
    for place, name in enumerate(names):
        own = rows[(rows["dataset"] == name) & rows["mean"].notna()].sort_values("width")
        if own.empty:
            style.remark(axes, place, frames.gap(name))
            continue
        heights = place + own["width"].map(offsets)
        axes.plot(own["mean"], heights, color=style.FAINT, lw=1, zorder=1)
        if "low" in own:
            axes.hlines(heights, own["low"], own["high"], color=color, lw=1.1, zorder=2)
        for mean, height, width in zip(own["mean"], heights, own["width"], strict=True):
            axes.plot(mean, height, ls="none", zorder=3, **_look(widths.index(width), len(widths), color))
    axes.axvline(0, color=style.BLACK, lw=0.9)
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.45, -0.55))
    axes.set_yticklabels([frames.tick(name) for name in names])
    if rows["mean"].isna().all():
        axes.set_xticks([])


def _look(number: int, count: int, color: str) -> dict[str, object]:
    """Marker of a width: shape, and a fill that is darker for wider ranges."""
    strength = number / max(count - 1, 1)
    fill = tuple(1 - strength * (1 - part) for part in to_rgb(color))
    return {"marker": MARKERS[number % len(MARKERS)], "ms": 5.5, "mfc": fill, "mec": color}


def range_legend(widths: Sequence[float]) -> list[Line2D]:
    """One handle for each width, in black: the colour says whose values they are."""
    looks = [_look(i, len(widths), style.BLACK) for i in range(len(widths))]
    words = [f"multipliers within ±{width:g}" for width in widths]
    return [Line2D([], [], ls="none", label=text, **look) for text, look in zip(words, looks, strict=True)]


def range_ablation_alt(table: pd.DataFrame) -> str:
    """Alt text of :func:`range_ablation`, with its numbers."""
    rows = _by_width(table)
    kind = frames.one_format(rows)
    wide = rows.pivot(index="dataset", columns="width", values="mean")
    means = ", ".join(f"{frames.number(wide[width].mean())} within ±{width:g}" for width in wide.columns)
    text = (
        f"Mean steerability of {frames.sets(len(wide))} ({kind} format) by width of the multiplier range: on "
        f"average over sets {means}, in {style.UNITS[kind]} per unit multiplier."
    )
    if len(wide.columns) > 1:
        narrow, full = wide.columns.min(), wide.columns.max()
        shrink = int((wide[full].abs() < wide[narrow].abs()).sum())
        text += f" In {shrink} of {len(wide)} sets the mean is closer to zero over ±{full:g} than over ±{narrow:g}."
    theirs = published_ranges(wide.index).pivot(index="dataset", columns="width", values="mean").dropna()
    if theirs.empty:
        return text + " The paper shows no such means for them."
    first, last = theirs[PUBLISHED_WIDTHS[0]].mean(), theirs[PUBLISHED_WIDTHS[-1]].mean()
    return text + (
        f" The published Llama-2-7b means, known for {len(theirs)} of {len(wide)}, fall on average from "
        f"{frames.number(first)} to {frames.number(last)} logits per unit multiplier."
    )


def _fits(fit_quality: pd.DataFrame) -> pd.DataFrame:
    rows = frames.full_vectors(frames.checked(fit_quality, FITS, FITS[5:]), ["dataset", "example_id"])
    order = rows.groupby("dataset")["steerability"].mean().sort_values(ascending=False).index
    return rows.assign(place=rows["dataset"].map(order.get_loc)).sort_values("place", kind="stable")


def residual_scatter(fit_quality: pd.DataFrame) -> Figure:
    """Slope of each example against the residual of its line, one panel a data set (appendix of the paper).

    The residual is the root of the SUM of squared residuals, as in the paper. All panels have the same axes;
    in each, the examples of the other sets are grey. The corner holds the rank correlation of the size of
    the slope, whatever its sign, with the residual.

    Parameters
    ----------
    fit_quality : DataFrame
        The table of `companion.tan.ranges.fit_quality` in one answer format; only the vector "full" is drawn.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats or layers.
    """
    rows = _fits(fit_quality)
    kind = frames.one_format(rows)
    names = list(rows["dataset"].unique())
    with style.theme():
        figure, panels = small_multiples(len(names), 1.75, sharex=True, sharey=True)
        for axes, name in zip(panels, names, strict=True):
            own = rows["dataset"] == name
            grey, look = {"color": style.FAINT, "alpha": 0.35}, {"color": style.FORMATS[kind], "alpha": 0.5}
            axes.scatter(
                *rows.loc[~own, ["steerability", "rmse"]].T.to_numpy(), s=3, lw=0, rasterized=True, **grey
            )
            axes.scatter(*rows.loc[own, ["steerability", "rmse"]].T.to_numpy(), s=8, lw=0, **look)
            axes.axvline(0, color=style.BLACK, lw=0.9)
            axes.set_title(frames.tick(name), fontsize=9)
            corner = {"xy": (0.97, 0.95), "xycoords": "axes fraction", "ha": "right", "va": "top"}
            axes.annotate(_rank(rows[own]), fontsize=style.SMALL, **corner)
        panels[0].set_ylim(0, max(1.25 * rows["rmse"].max(), 1e-6))  # room for the text in the corner
        figure.supxlabel(f"steerability ({style.UNITS[kind]} per unit multiplier)", fontsize=9.5)
        figure.supylabel(f"root of summed\nsquared residuals ({style.UNITS[kind]})", fontsize=9.5)
    return figure


def _rank(rows: pd.DataFrame) -> str:
    rho, count = frames.rank_correlation(rows["steerability"].abs(), rows["rmse"])
    return f"n = {count}" if np.isnan(rho) else f"ρ = {rho:.2f}".replace("-", "\N{MINUS SIGN}")


def small_multiples(count: int, height: float, **sharing: bool) -> tuple[Figure, list[Axes]]:
    """A figure of the common width with `count` panels, at most four in a row; surplus panels are removed."""
    columns = min(count, PER_LINE)
    lines = -(-count // columns)
    size = (style.WIDTH, 0.8 + max(height * lines, 2.4))
    figure, panels = plt.subplots(lines, columns, squeeze=False, figsize=size, **sharing)
    flat = list(panels.ravel())
    for axes in flat[count:]:
        axes.remove()
    for axes in flat[max(count - columns, 0) : count]:  # a removed panel leaves the one above without numbers
        axes.tick_params(labelbottom=True)
    return figure, flat[:count]


def residual_scatter_alt(fit_quality: pd.DataFrame) -> str:
    """Alt text of :func:`residual_scatter`, with its numbers."""
    rows = _fits(fit_quality)
    unit = style.UNITS[frames.one_format(rows)]
    medians = rows.groupby("dataset")["rmse"].median()
    largest, least = medians.idxmax(), medians.idxmin()
    text = (
        f"Scatter plots of steerability against the root of the summed squared residuals of each example's "
        f"line, {frames.sets(len(medians))}, {len(rows)} examples. The median residual runs from "
        f"{frames.number(medians[least])} ({published.label(least)}) to {frames.number(medians[largest])} "
        f"{unit} ({published.label(largest)})."
    )
    rho, _ = frames.rank_correlation(rows["steerability"].abs(), rows["rmse"])
    if np.isnan(rho):
        return text
    return (
        text
        + f" Over all examples the size of the slope and the residual have a rank correlation of {rho:.2f}."
    )
