"""Several authors of one concept: whose order of the concepts is whose, and what becomes of a vector on other texts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from companion.figures import style
from companion.figures.style import Drawn
from companion.tan.transfer import LINE

NAMES = {"model": "Perez et al., model", "human": "Perez et al., people", "bundled": "this book, statements"}
NAMES |= {"scenes": "this book, scenes"}
PARTS = {"concept": style.BLUE, "interaction": style.VERMILLION, "author": style.ORANGE}
SAID = {"concept": "concept", "interaction": "concept as one author wrote it", "author": "author"}
SPAN = (-1.0, 2.0)  # of transfer: what lies beyond is at the edge


def orders(table: pd.DataFrame, labels: Mapping[str, str]) -> Drawn:
    """Rank correlations between all orders of the concepts (`tan.transfer.orders`), authors side by side."""
    ends = ("first_author", "first_model", "second_author", "second_model")
    style.checked(table, (*ends, "estimate", "n"), [])
    found, counts = {}, {}
    for row in table.itertuples():
        first, second = (row.first_author, row.first_model), (row.second_author, row.second_model)
        found[first, second] = found[second, first] = row.estimate
        counts[first, second] = counts[second, first] = f"{style.number(row.estimate, '.2f')}\nn = {row.n}"
    named = {one for pair in found for one in pair}
    named = sorted(named, key=lambda one: (list(NAMES).index(one[0]), one[1]))
    wide = pd.DataFrame([[found.get((one, other), np.nan) for other in named] for one in named])
    words = [[counts.get((one, other), "") for other in named] for one in named]
    said = [f"{NAMES[author]}\n{labels[model]}" for author, model in named]
    with style.drawing(1.5 + 0.62 * len(named)) as (figure, axes):
        look = {"annot": words, "fmt": "", "cmap": "vlag", "vmin": -1, "vmax": 1, "square": True}
        sns.heatmap(wide, ax=axes, cbar=False, linewidths=1, xticklabels=said, yticklabels=said, **look)
        axes.grid(False)
        axes.set_title("rank correlation within kinds; n: concepts that both have")
        axes.tick_params(length=0, labelsize=style.SMALL)
        axes.set_xticks(axes.get_xticks(), said, rotation=40, ha="right")
        for edge in range(0, len(named) + 1, len({model for _, model in named})):  # authors apart
            for line in (axes.axhline, axes.axvline):
                line(edge, color=style.BLACK, lw=1)
    same = table["first_author"] == table["second_author"]
    itself = table["first_model"] == table["second_model"]
    alike, other = (table[rows]["estimate"] for rows in (same, ~same & itself))
    alt = f"Rank correlations of the concepts' steerability. Same texts, other model: {_ends(alike)}; "
    return Drawn(figure, table, alt + f"same model, other author: {_ends(other)}.")


def _ends(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "none"


def shares(table: pd.DataFrame, labels: Mapping[str, str]) -> Drawn:
    """What the variance between sets belongs to (`tan.transfer.shares` of each model, with a column `model`)."""
    style.checked(table, ("model", "pairs", *PARTS), list(PARTS))
    with style.drawing(1.3 + 0.42 * len(table)) as (figure, axes):
        rows = [f"{labels[row.model]}, {row.pairs} pairs" for row in table.itertuples()]
        left, below = np.zeros(len(table)), np.zeros(len(table))
        for part, color in PARTS.items():
            value = table[part].to_numpy()
            start = np.where(value >= 0, left, below)
            axes.barh(rows, value, left=start, color=color, label=SAID[part], height=0.6)
            left, below = left + value.clip(min=0), below + value.clip(max=0)
        axes.axvline(0.5, color=style.BLACK, lw=1, ls="--", label="half")
        axes.invert_yaxis()
        axes.set_xlabel("share of the variance of steerability\nover concepts and authors, noise taken out")
        style.legend(figure, columns=len(PARTS) + 1)
    said = "; ".join(f"{row} {share:.2f}" for row, share in zip(rows, table["concept"], strict=True))
    return Drawn(figure, table, f"Share of the concept: {said}.")


def transfers(found: pd.DataFrame, labels: Mapping[str, str]) -> Drawn:
    """Transfer of every vector to another author's texts (`tan.transfer.transfers` of each model, with `model`)."""
    style.checked(found, ("model", "author", "by", "steers", "ratio", "others_ratio"), ["ratio"])
    shown, models = found[found["steers"]], list(found["model"].unique())
    style.need(len(shown) > 0, "an author whose vector steers his own texts", "none", "use more pairs.")
    pairs = list(dict.fromkeys(zip(shown["by"], shown["author"], strict=True)))
    pairs.sort(key=lambda pair: [list(NAMES).index(one) for one in pair])
    shape = {"sharey": True, "squeeze": False}
    with style.drawing(1.5 + 0.36 * len(pairs), 1, len(models), **shape) as (figure, panels):
        for axes, model in zip(panels[0], models, strict=True):
            _panel(axes, shown[shown["model"] == model], pairs)
            words = "slope under the other author's vector,\nover that under the own one"
            axes.set(title=labels[model], xlabel=words)
        named = [f"{NAMES[by]} \N{RIGHTWARDS ARROW}\n{NAMES[to]}" for by, to in pairs]
        panels[0][0].set_yticks(range(len(pairs)), named)
        panels[0][0].invert_yaxis()
        handles = [style.dot("one concept", color=style.BLUE), style.line("median", 2.5, style.BLACK)]
        handles.append(style.dot("median of other concepts by the same author", "x", color=style.VERMILLION))
        handles.append(style.line(f"the registered line, {LINE:g}", 0.9, ls="--"))
        style.legend(figure, handles)
    medians = shown.groupby("model", sort=False)["ratio"].median()
    said = "; ".join(f"{labels[model]} {value:.2f}" for model, value in medians.items())
    alt = f"Median transfer between authors of one concept: {said}."
    return Drawn(figure, found.drop(columns="shuffled"), alt)


def _panel(axes: Axes, part: pd.DataFrame, pairs: list[tuple[str, str]]) -> None:
    """One model: a dot a concept, the median, and that of other concepts by the author of the texts."""
    for row, (by, to) in enumerate(pairs):
        own = part[(part["by"] == by) & (part["author"] == to)]
        if not own.empty:
            places, look = own["ratio"].clip(*SPAN), {"color": style.BLUE, "alpha": 0.45}
            axes.scatter(places, np.full(len(own), row), s=12, lw=0, **look)
            look = {"marker": "x", "color": style.VERMILLION, "zorder": 3}
            axes.scatter(own["others_ratio"].median(), row, s=28, **look)
            axes.vlines(own["ratio"].median(), row - 0.35, row + 0.35, color=style.BLACK, lw=2.5, zorder=4)
    for value, line in ((0, "-"), (1, "-"), (LINE, "--")):
        axes.axvline(value, color=style.PUBLISHED if line == "-" else style.BLACK, lw=0.9, ls=line, zorder=1)
    axes.set_xlim(SPAN[0] - 0.05, SPAN[1] + 0.05)
