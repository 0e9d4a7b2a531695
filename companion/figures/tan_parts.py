"""Tan et al. figure 4: how much of the spread of steerability the answer format explains."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from companion import published
from companion.figures import frames, style

COLORS = {"letter": style.BLUE, "answer": style.ORANGE, "unexplained": "#D9D9D9"}
PARTS = list(COLORS)
COLUMNS = ("dataset", "total", *PARTS)
# Who gets what both factors explain; the names are those of stats.variance_parts.
ORDERS = {"paper": "letter first", "answer-first": "answer first", "shapley": "overlap halved"}


def shares(parts: pd.DataFrame, order: str) -> pd.DataFrame:
    """Parts as shares of the total variance, ours and the published ones, least unexplained first.

    Parameters
    ----------
    parts : DataFrame
        One row per data set: dataset, total, letter, answer, unexplained; variances of per-sample
        steerability, the three parts adding up to the total.
    order : {"paper", "answer-first", "shapley"}
        How the parts were made: which factor got what both explain (``stats.variance_parts``).

    Returns
    -------
    DataFrame
        Columns dataset, label, total (a variance), letter, answer, unexplained (shares; NaN where the total
        is 0), and the same four with published_ before them (letter first; NaN where the paper has none).

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, parts that do not add up, a data set twice,
        an unknown order.
    """
    rows = frames.checked(parts, COLUMNS, COLUMNS[1:]).set_index("dataset")[["total", *PARTS]].astype(float)
    if order not in ORDERS:
        expected = f"an order among {', '.join(ORDERS)}"
        raise frames.refusal(expected, repr(order), "say how the parts were made.")
    adds_up = np.allclose(rows[PARTS].sum(axis=1), rows["total"], rtol=1e-6, atol=1e-9)
    if not adds_up or rows.index.duplicated().any():
        expected = "each data set once, with parts that add up to the total"
        raise frames.refusal(expected, "a table that is not so", "pass the parts of one format and layer.")
    columns = ["total", *PARTS]
    theirs = frames.in_distribution(rows.index)[[f"variance_{column}" for column in columns]]
    theirs = theirs.set_axis(columns, axis=1)
    table = _divided(rows).join(_divided(theirs).add_prefix("published_"))
    table = table.sort_values("unexplained", kind="stable").reset_index()
    table.insert(1, "label", table["dataset"].map(published.label))
    return table


def _divided(variances: pd.DataFrame) -> pd.DataFrame:
    """Parts over totals; the totals stay."""
    totals = variances["total"].where(variances["total"] > 0)
    return variances.assign(**{part: variances[part] / totals for part in PARTS})


def figure_4(parts: pd.DataFrame, order: str) -> Figure:
    """Variance of steerability split into letter, answer and the rest, ours beside Llama-2-7b's (figure 4).

    Bars are shares of a data set's total variance, sorted by our unexplained share; the number at the end of
    a bar is that total, in squares of the unit of steerability.

    Parameters
    ----------
    parts, order
        As in :func:`shares`.

    Raises
    ------
    SteerkitError
        As :func:`shares`.
    """
    table = shares(parts, order)
    with style.theme():
        size = (style.WIDTH, 1.55 + 0.27 * len(table))
        figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=size)
        _stacks(left, table, "published_")
        _stacks(right, table, "")
        left.set(yticks=table.index, yticklabels=table["dataset"].map(frames.tick))
        left.set(ylim=(len(table) - 0.4, -0.6), title="published:\nLlama-2-7b, letter first")
        right.set_title(f"ours:\n{ORDERS[order]}")
        words = {"letter": "letter (A/B)", "answer": "answer (Yes/No)", "unexplained": "unexplained"}
        handles = [Patch(color=COLORS[part], label=words[part]) for part in PARTS]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _stacks(axes: Axes, table: pd.DataFrame, prefix: str) -> None:
    start = np.zeros(len(table))
    for part in PARTS:
        share = table[prefix + part].fillna(0).to_numpy()
        axes.barh(table.index, share, left=start, height=0.72, color=COLORS[part], lw=0)
        start += share
    totals = table[prefix + "total"]
    for row in table.index[~(totals > 0)]:  # NaN, too
        why = "no variance" if totals[row] == 0 else frames.gap(table.loc[row, "dataset"])
        style.remark(axes, row, why)
    known = totals.dropna()
    style.margin_numbers(axes, known.index, known.map("{:#.2g}".format), "total")
    axes.set(xlim=(0, 1), xlabel="share of the variance of steerability")
    axes.grid(visible=False, axis="y")


def figure_4_alt(parts: pd.DataFrame, order: str) -> str:
    """Alt text of :func:`figure_4`, with its numbers."""
    table = shares(parts, order)
    known = table.dropna(subset="unexplained")
    if known.empty:
        return f"Variance parts of steerability on {frames.sets(len(table))}, without any variance to split."
    low, high = known.iloc[0], known.iloc[-1]
    text = (
        f"Stacked bars of the variance of steerability on {frames.sets(len(known))} ({ORDERS[order]}): "
        f"between {low['unexplained']:.0%} ({low['label']}) and {high['unexplained']:.0%} "
        f"({high['label']}) of it stays unexplained, and the average shares are {_averages(known, '')}."
    )
    theirs = known.dropna(subset="published_unexplained")
    if theirs.empty:
        return text + " The paper shows no Llama-2-7b values for them."
    return text + (
        f" The published averages (Llama-2-7b, letter first), known for {len(theirs)} of {len(known)}, are "
        f"{_averages(theirs, 'published_')}."
    )


def _averages(table: pd.DataFrame, prefix: str) -> str:
    return ", ".join(f"{part} {table[prefix + part].mean():.0%}" for part in PARTS)
