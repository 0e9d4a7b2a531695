"""Decompositions of a steering vector, judged three ways: reconstruction, behaviour, stability."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.figures import frames, style
from companion.mayne.decompositions import AUTOENCODER, ORIGINAL, PURSUIT, RANDOM, SHUFFLED

CURVES = ("method", "n_features", "explained", "low", "high")
STABILITY = ("method", "n_features", "jaccard", "low", "high")
BEHAVIOUR = ("vector", "cosine", "norm", "estimate", "low", "high", "items")
FLOOR = (
    -0.5
)  # below this a reconstruction is further away than a vector that points elsewhere; drawn at the edge
COLORS = {
    "encode": style.VERMILLION,
    "encode-scaled": style.ORANGE,
    "encode-difference": style.PURPLE,
    PURSUIT: style.BLUE,
    "nnls": style.GREEN,
    "lasso": style.SKY,
    AUTOENCODER: style.VERMILLION,
    ORIGINAL: style.BLACK,
}


def curves(table: pd.DataFrame) -> Figure:
    """Explained share of the squared norm against the number of features, one line a method.

    Baselines are grey. Bands are 95% intervals over vectors of resampled training pairs, for baselines over seeds. A
    method that leaves the panel below is named there with its value at the most features.

    Parameters
    ----------
    table : DataFrame
        The table of `companion.mayne.decompositions.curves`.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite.
    """
    rows = frames.checked(table, CURVES, CURVES[1:3])
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 4.4))
        below = []
        for method, own in rows.groupby("method", sort=False):
            look = _look(method)
            axes.plot(own["n_features"], own["explained"], marker=".", ms=5, label=method, **look)
            axes.fill_between(
                own["n_features"], own["low"], own["high"], color=look["color"], alpha=0.13, lw=0
            )
            if own["explained"].max() < FLOOR:
                below.append(f"{method}: {frames.number(own['explained'].iloc[-1])}")
        axes.axhline(0, color=style.BLACK, lw=0.9)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(FLOOR, 1.03)
        axes.set(xlabel="number of features", ylabel="explained share of the squared norm")
        if below:
            axes.text(
                0.99, 0.02, "below the panel: " + "; ".join(below), transform=axes.transAxes, ha="right",
                fontsize=style.SMALL, color=style.PUBLISHED, style="italic",
            )  # fmt: skip
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def curves_alt(table: pd.DataFrame) -> str:
    """Alt text of :func:`curves`, with its numbers."""
    rows = frames.checked(table, CURVES, CURVES[1:3])
    most = rows["n_features"].max()
    last = rows[rows["n_features"] == most].sort_values("explained", ascending=False)
    listed = "; ".join(
        f"{row.method} {frames.number(row.explained)}{_interval(row)}" for row in last.itertuples()
    )
    return (
        f"Explained share of the squared norm of the steering vector against the number of features, from "
        f"{rows['n_features'].min()} to {most}. With {most} features: {listed}."
    )


def behaviour(table: pd.DataFrame, answer_format: str) -> Figure:
    """Mean steerability of the vector, of its reconstructions and of the baselines, with intervals.

    Right: cosine with the vector, norm relative to it, and the correlation of per-item steerability (item r).

    Parameters
    ----------
    table : DataFrame
        The table of `companion.mayne.decompositions.behaviour`.
    answer_format : for the unit

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, no original vector.
    """
    rows = _behaviour(table)
    original, places = rows[rows["vector"] == ORIGINAL].iloc[0], pd.Series(range(len(rows)))
    with style.theme():
        size = (style.WIDTH, 1.5 + 0.36 * len(rows))
        figure, (axes, side) = plt.subplots(1, 2, sharey=True, figsize=size, width_ratios=[3, 1])
        axes.axvspan(original["low"], original["high"], color=style.STRIPE, lw=0)
        axes.axvline(original["estimate"], color=style.FAINT, lw=1)
        axes.axvline(0, color=style.BLACK, lw=0.9)
        colors = [_look(name)["color"] for name in rows["vector"]]
        axes.hlines(places, rows["low"], rows["high"], color=colors, lw=1.8)
        axes.scatter(rows["estimate"], places, c=colors, s=26, zorder=3)
        axes.set(
            yticks=places,
            yticklabels=[_two_lines(name) for name in rows["vector"]],
            ylim=(len(rows) - 0.5, -0.6),
        )
        axes.set_xlabel(
            f"mean steerability with 95% interval over test groups\n({style.UNITS[answer_format]} per unit multiplier)"
        )
        axes.grid(visible=False, axis="y")
        _numbers(side, rows, places)
    return figure


def behaviour_alt(table: pd.DataFrame) -> str:
    """Alt text of :func:`behaviour`, with its numbers."""
    rows = _behaviour(table)
    listed = "; ".join(
        f"{row.vector} {frames.number(row.estimate)}{_interval(row)}, cosine {frames.number(row.cosine)}, norm "
        f"{frames.number(row.norm)}"
        for row in rows.itertuples()
    )
    return f"Mean steerability when steering with a vector or with what is left of it, with 95% intervals: {listed}."


def stability(table: pd.DataFrame) -> Figure:
    """Mean Jaccard index of the features of vectors from resampled training pairs, with intervals.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite.
    """
    rows = frames.checked(table, STABILITY, STABILITY[1:])
    places = np.arange(len(rows))
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 1.3 + 0.32 * len(rows)))
        colors = [_look(name)["color"] for name in rows["method"]]
        axes.hlines(places, rows["low"], rows["high"], color=colors, lw=1.8)
        axes.scatter(rows["jaccard"], places, c=colors, s=26, zorder=3)
        axes.set(
            yticks=places,
            yticklabels=[_two_lines(name) for name in rows["method"]],
            ylim=(len(rows) - 0.5, -0.5),
            xlim=(-0.03, 1.03),
        )
        axes.set_xlabel(
            f"features shared by two resampled vectors (Jaccard index, {rows['n_features'].max()} features)"
        )
        axes.grid(visible=False, axis="y")
    return figure


def stability_alt(table: pd.DataFrame) -> str:
    """Alt text of :func:`stability`, with its numbers."""
    rows = frames.checked(table, STABILITY, STABILITY[1:])
    listed = "; ".join(
        f"{row.method} {frames.number(row.jaccard)}{_interval(row)}" for row in rows.itertuples()
    )
    return f"Mean Jaccard index of the features of two vectors from resampled training pairs, with 95% intervals: {listed}."


def _look(name: str) -> dict:
    """Colour and line of a method; baselines are grey, told apart by their dashes."""
    if name.endswith((RANDOM, SHUFFLED)):
        return {"color": style.PUBLISHED, "ls": ":" if name.endswith(RANDOM) else "--", "lw": 1.4}
    return {"color": COLORS.get(name, style.BLACK), "ls": "-", "lw": 1.7}


def _behaviour(table: pd.DataFrame) -> pd.DataFrame:
    rows = frames.checked(table, BEHAVIOUR, BEHAVIOUR[1:6]).reset_index(drop=True)
    if ORIGINAL not in set(rows["vector"]):
        raise frames.refusal(f"a row of the {ORIGINAL}", "none", "take the whole table.")
    return rows


def _numbers(axes: Axes, rows: pd.DataFrame, places: pd.Series) -> None:
    """Three columns of small numbers: a panel of its own, without frame."""
    look = {"fontsize": style.SMALL, "color": style.PUBLISHED, "va": "center", "ha": "right"}
    axes.set(xlim=(0, 1), xticks=[])
    axes.tick_params(axis="y", left=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for at, name, head in ((0.3, "cosine", "cosine"), (0.65, "norm", "norm"), (1.0, "items", "item r")):
        axes.annotate(head, (at, 1), xycoords="axes fraction", annotation_clip=False, **look)
        for place, value in zip(places, rows[name], strict=True):
            text = f"{value:.2f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "n/a"
            axes.text(at, place, text, **look)


def _two_lines(name: str) -> str:
    return name.replace(", ", ",\n")


def _interval(row: object) -> str:
    if not (np.isfinite(row.low) and np.isfinite(row.high)):
        return ""
    return f" [{frames.number(row.low)}, {frames.number(row.high)}]"
