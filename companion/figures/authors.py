"""Several authors of one concept: whose order of the concepts is whose, and what becomes of a vector on other texts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns

from companion.figures import rows, style
from companion.figures.style import Drawn
from companion.tan.transfer import LINE

NAMES = {"model": "Perez et al., model", "human": "Perez et al., people", "bundled": "this book, statements"}
NAMES |= {"scenes": "this book, scenes"}
PARTS = {"concept": style.BLUE, "interaction": style.VERMILLION, "author": style.ORANGE}
SAID = ("concept", "concept as one author wrote it", "author")
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
    alike, other = (table[which]["estimate"] for which in (same, ~same & itself))
    alt = f"Rank correlations of the concepts' steerability. Same texts, other model: {_ends(alike)}; "
    return Drawn(figure, table, alt + f"same model, other author: {_ends(other)}.")


def _ends(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "none"


def shares(table: pd.DataFrame, labels: Mapping[str, str]) -> Drawn:
    """What the variance between sets belongs to (`tan.transfer.shares` of each model, with a column `model`)."""
    style.checked(table, ("model", "pairs", *PARTS), list(PARTS))
    names = [f"{labels[row.model]}, {row.pairs} pairs" for row in table.itertuples()]
    with rows.drawing(names) as (figure, [axes]):
        rows.stacks(axes, table.reset_index(drop=True), PARTS, SAID)
        axes.axvline(0.5, label="half", **rows.REGISTERED)
        axes.set_xlabel("share of the variance of steerability\nover concepts and authors, noise taken out")
    said = "; ".join(f"{name} {share:.2f}" for name, share in zip(names, table["concept"], strict=True))
    return Drawn(figure, table, f"Share of the concept: {said}.")


def transfers(found: pd.DataFrame, labels: Mapping[str, str]) -> Drawn:
    """Transfer of every vector to another author's texts (`tan.transfer.transfers` of each model, with `model`)."""
    style.checked(found, ("model", "author", "by", "steers", "ratio", "others_ratio"), ["ratio"])
    shown, models = found[found["steers"]], list(found["model"].unique())
    style.need(len(shown) > 0, "an author whose vector steers his own texts", "none", "use more pairs.")
    order, ends = list(NAMES).index, ["by", "author"]
    shown = shown.sort_values(ends, key=lambda ends: ends.map(order), kind="stable")
    shown = shown.set_index(shown.groupby(ends, sort=False).ngroup())
    pairs = shown[ends].drop_duplicates().to_numpy()
    names = [f"{NAMES[by]} \N{RIGHTWARDS ARROW}\n{NAMES[to]}" for by, to in pairs]
    with rows.drawing(names, len(models)) as (figure, panels):
        for axes, model in zip(panels, models, strict=True):
            own = shown[shown["model"] == model]
            rows.cloud(axes, own["ratio"], style.BLUE, "one concept", SPAN)
            look = {"marker": "x", "zorder": 6, "label": "median of other concepts by the same author"}
            rows.points(axes, own["others_ratio"].groupby(level=0).median(), style.VERMILLION, **look)
            axes.axvline(1, color=style.PUBLISHED, lw=0.9, zorder=1.5)
            axes.axvline(LINE, label=f"the registered line, {LINE:g}", **rows.REGISTERED)
            axes.set(title=labels[model], xlim=(SPAN[0] - 0.05, SPAN[1] + 0.05))
            axes.set_xlabel("slope under the other author's vector,\nover that under the own one")
    medians = shown.groupby("model")["ratio"].median()
    said = "; ".join(f"{labels[model]} {medians[model]:.2f}" for model in models if model in medians)
    alt = f"Median transfer between authors of one concept: {said}."
    return Drawn(figure, found.drop(columns="shuffled"), alt)
