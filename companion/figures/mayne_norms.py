"""Figure 1 of Mayne et al. 2024: norms of activations, and the norm of the steering vector beside them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from companion.figures import frames, style
from companion.mayne.features import NEGATIVE, PLAIN, POSITIVE, SCALED, VECTOR

COLUMNS = ("what", "low", "high", "count")
# What an activation belongs to, in all figures of this paper.
COLORS = {
    PLAIN: style.SKY,
    POSITIVE: style.GREEN,
    NEGATIVE: style.PURPLE,
    VECTOR: style.BLACK,
    SCALED: style.BLACK,
}
LABELS = {
    PLAIN: "plain text",
    POSITIVE: "positive answers",
    NEGATIVE: "negative answers",
}


def norms(table: pd.DataFrame) -> Figure:
    """Histograms of the norms of activations, with the norm of the steering vector as a line.

    Parameters
    ----------
    table : DataFrame
        The table of `companion.mayne.features.norms`.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, no plain text or no vector.
    """
    rows = _checked(table)
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 3.4))
        for what in (PLAIN, POSITIVE, NEGATIVE):
            _histogram(axes, rows[rows["what"] == what], what)
        length = _length(rows)
        axes.axvline(length, color=COLORS[VECTOR], lw=2)
        axes.set_xscale("log")
        low, high = min(length, rows["low"].min()), rows["high"].max()
        axes.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.03)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
        nearer = length < np.sqrt(low * high)
        axes.annotate(
            f"steering vector\n{frames.number(length)}",
            (length, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(5 if nearer else -5, 0),
            textcoords="offset points",
            va="top",
            ha="left" if nearer else "right",
        )
        axes.set(xlabel="L2 norm of the residual stream, logarithmic", ylabel="share of the tokens")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def norms_alt(table: pd.DataFrame) -> str:
    """Alt text of :func:`norms`, with its numbers."""
    rows = _checked(table)
    plain, length = rows[rows["what"] == PLAIN], _length(rows)
    # Bins are narrow; half of a bin counts as below the middle of it.
    shares = plain["count"] / plain["count"].sum()
    middle = plain.loc[shares.cumsum() >= 0.5, "low"].iloc[0]
    below = shares[plain["high"] <= length].sum()
    return (
        f"Histogram of the norms of the residual stream over {plain['count'].sum():,} tokens of plain text, from "
        f"{frames.number(plain['low'].min())} to {frames.number(plain['high'].max())}, median about "
        f"{frames.number(middle)}, with those of the positive and negative answers. The steering vector, a line at "
        f"{frames.number(length)}, is longer than {below:.1%} of the tokens; the median token is "
        f"{frames.number(middle / length)} times as long as the vector."
    )


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    rows = frames.checked(table, COLUMNS, COLUMNS[1:])
    missing = sorted({PLAIN, VECTOR} - set(rows["what"]))
    if missing:
        raise frames.refusal(
            "norms of plain text and of the vector", f"no {missing[0]}", "take the whole table."
        )
    return rows


def _length(rows: pd.DataFrame) -> float:
    return float(rows.loc[rows["what"] == VECTOR, "low"].iloc[0])


def _histogram(axes: Axes, rows: pd.DataFrame, what: str) -> None:
    if rows.empty:
        return
    axes.bar(
        rows["low"],
        rows["count"] / rows["count"].sum(),
        rows["high"] - rows["low"],
        align="edge",
        color=COLORS[what],
        alpha=0.6 if what == PLAIN else 0.4,
        lw=0,
        label=f"{LABELS[what]} (n = {rows['count'].sum():,})",
    )
