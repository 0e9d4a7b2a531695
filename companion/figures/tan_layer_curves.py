"""Layer sweep, one panel a data set: does the layer that is best on average suit each of them?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from companion import published
from companion.figures import frames, style
from companion.figures.tan_ranges import PER_LINE, small_multiples

COLUMNS = ("dataset", "format", "vector", "layer", "n", "mean", "variance")
Z = 1.959964  # half width of a normal 95% interval, in standard errors


def _curves(summary: pd.DataFrame, chosen: int) -> pd.DataFrame:
    """Rows of the full vector with low and high; sets by falling mean at the chosen layer, layers upwards."""
    checked = frames.checked(summary, COLUMNS, COLUMNS[3:])
    rows = frames.full_vectors(checked, ["dataset", "layer"])
    means = rows.pivot(index="layer", columns="dataset", values="mean")
    if means.isna().any(axis=None) or chosen not in means.index:
        expected = "every data set at every layer, the chosen layer among them"
        layers, empty = ", ".join(map(str, means.index)), int(means.isna().sum().sum())
        found = f"{empty} empty cells, layers {layers}, and chosen layer {chosen}"
        raise frames.refusal(expected, found, "sweep the same layers for every data set.")
    order = means.loc[chosen].sort_values(ascending=False).index
    rows = rows.iloc[np.lexsort([rows["layer"], rows["dataset"].map(order.get_loc)])].reset_index(drop=True)
    # The variance of the table is divided by n; one example has no interval.
    error = np.sqrt(rows["variance"] / (rows["n"] - 1).where(rows["n"] > 1))
    return rows.assign(low=rows["mean"] - Z * error, high=rows["mean"] + Z * error)


def best_layers(summary: pd.DataFrame, chosen: int) -> pd.DataFrame:
    """The best layer of each data set beside the chosen one: what the panels mark.

    Parameters
    ----------
    summary, chosen
        As in :func:`layer_curves`.

    Returns
    -------
    DataFrame
        Columns dataset, label, best (the layer of the highest mean, the earliest of equals), best_mean,
        chosen, chosen_mean, share (chosen_mean / best_mean; NaN where best_mean is not above 0), overlap
        (whether the 95% intervals at the two layers overlap). By falling chosen_mean.

    Raises
    ------
    SteerkitError
        As :func:`layer_curves`.
    """
    rows = []
    for name, own in _curves(summary, chosen).groupby("dataset", sort=False):
        own = own.set_index("layer")
        best = own["mean"].idxmax()
        top, here = own.loc[best], own.loc[chosen]
        share = here["mean"] / top["mean"] if top["mean"] > 0 else np.nan
        overlap = bool(best == chosen or here["high"] >= top["low"])
        rows.append((name, published.label(name), best, top["mean"], chosen, here["mean"], share, overlap))
    columns = "dataset label best best_mean chosen chosen_mean share overlap".split()
    return pd.DataFrame(rows, columns=columns)


def reason(summary: pd.DataFrame, chosen: int) -> str:
    """Why the chosen layer is that one, as far as the table tells: 'highest mean over 13 data sets'.

    Raises
    ------
    SteerkitError
        As :func:`layer_curves`.
    """
    means = _curves(summary, chosen).groupby("layer")["mean"].mean()
    count = frames.sets(summary.loc[summary["vector"] == "full", "dataset"].nunique())
    if means.idxmax() == chosen:
        return f"highest mean over {count}"
    return f"given; the mean over {count} peaks at layer {means.idxmax()}"


def layer_curves(summary: pd.DataFrame, chosen: int) -> Figure:
    """Mean steerability by layer with its interval, one panel a data set, best and chosen layer marked.

    Each panel has its own vertical axis, since the question is where a curve peaks. The band is mean +- 1.96
    standard errors over examples; the dot is the data set's own best layer, which is picked by the noise as
    well where bands overlap.

    Parameters
    ----------
    summary : DataFrame
        The table of `steerkit.steerability.summary` over the swept layers, in one answer format; only the
        vector "full" counts.
    chosen : int
        The layer used everywhere else (0-based block output); the title says why.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats, a data set that lacks a
        layer or has one twice, an unknown chosen layer.
    """
    rows = _curves(summary, chosen)
    kind = frames.one_format(rows)
    best = best_layers(summary, chosen).set_index("dataset")["best"]
    with style.theme():
        figure, panels = small_multiples(len(best), 1.55, sharex=True)
        for axes, (name, own) in zip(panels, rows.groupby("dataset", sort=False), strict=True):
            _curve(axes, own, best[name], chosen, style.FORMATS[kind])
            axes.set_title(f"{frames.tick(name)}\nbest: {best[name]}", fontsize=9)
        for axes in panels[-min(len(panels), PER_LINE) :]:  # the lowest of each column
            axes.set_xlabel("layer")
        why = f"chosen layer {chosen} (0-based block output): {reason(summary, chosen)}"
        figure.suptitle(f"{kind} format\n{why}", fontsize=10)
        figure.supylabel(f"mean steerability\n({style.UNITS[kind]} per unit multiplier)", fontsize=9.5)
        figure.legend(handles=_legend(style.FORMATS[kind]), loc="outside lower center", ncols=3)
    return figure


def _curve(axes: Axes, own: pd.DataFrame, best: int, chosen: int, color: str) -> None:
    axes.axhline(0, color=style.BLACK, lw=0.9)
    axes.axvline(chosen, color=style.BLACK, lw=1.3, ls=":")
    axes.fill_between(own["layer"], own["low"], own["high"], color=color, alpha=0.2, lw=0)
    axes.plot(own["layer"], own["mean"], color=color, lw=1.4, marker=".", ms=3)
    top = own.loc[own["layer"] == best, "mean"]
    axes.plot([best], top, ls="none", marker="o", ms=6, mfc="white", mec=color, mew=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False, axis="x")


def _legend(color: str) -> list[Line2D | Patch]:
    return [
        Line2D([], [], ls="none", marker="o", ms=6, mfc="white", mec=color, mew=1.5, label="its best layer"),
        Line2D([], [], color=style.BLACK, lw=1.3, ls=":", label="chosen layer"),
        Patch(color=color, alpha=0.2, label="95% interval over examples"),
    ]


def layer_curves_alt(summary: pd.DataFrame, chosen: int) -> str:
    """Alt text of :func:`layer_curves`, with its numbers."""
    table = best_layers(summary, chosen)
    unit = f"{style.UNITS[frames.one_format(_curves(summary, chosen))]} per unit multiplier"
    text = (
        f"Mean steerability by layer, one panel for each of {frames.sets(len(table))}. Chosen layer {chosen} "
        f"({reason(summary, chosen)}) is the best layer of {int((table['best'] == chosen).sum())} of them; the "
        f"best layers run from {table['best'].min()} to {table['best'].max()}, and in "
        f"{int(table['overlap'].sum())} the interval at the chosen layer reaches that at the best one."
    )
    loss = table["best_mean"] - table["chosen_mean"]
    most = table.loc[loss.idxmax()]
    if not loss.max() > 0:
        return text
    return text + (
        f" {most['label']} loses most: {frames.number(most['chosen_mean'])} at layer {chosen} against "
        f"{frames.number(most['best_mean'])} {unit} at layer {most['best']}."
    )
