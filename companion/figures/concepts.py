"""Concept or format: which concepts are steerable in which model and answer format."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from companion import published
from companion.figures import frames, style
from steerkit.formats import FORMATS

COLUMNS = ("model", "format", "dataset", "estimate", "low", "high", "random", "bias_share")
KINDS = {"models": style.VERMILLION, "formats": style.BLUE, "published": style.PUBLISHED}
SETS = {"persona": "^", "choice": "s"}


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    return frames.checked(table, COLUMNS, ["estimate", "low", "high"])


def _formats(table: pd.DataFrame) -> list[str]:
    return [form for form in dict.fromkeys(("statement", *FORMATS)) if form in set(table["format"])]


def _order(table: pd.DataFrame) -> list[str]:
    """Data sets by mean rank in the first format shown, over models."""
    first = table[table["format"] == _formats(table)[0]]
    ranks = first.groupby("model")["estimate"].rank()
    return list(ranks.groupby(first["dataset"]).mean().sort_values(ascending=False).index)


def effects(table: pd.DataFrame) -> Figure:
    """Mean steerability with interval: a row a data set, a panel a format, a colour a model (`concepts.effects`).

    Small crosses are norm-matched random vectors. Formats have scales of their own; a filled point has its 95%
    interval above zero.
    """
    table, order, forms = _checked(table), _order(table), _formats(table)
    models = list(table["model"].unique())
    with style.theme():
        size = (style.WIDTH, 1.4 + 0.24 * max(len(order), 4))
        figure, panels = plt.subplots(1, len(forms), sharey=True, squeeze=False, figsize=size)
        for axes, form in zip(panels[0], forms, strict=True):
            for i, model in enumerate(models):
                part = table[(table["format"] == form) & (table["model"] == model)]
                if part.empty:  # not run in this format
                    continue
                rows = part["dataset"].map({name: row for row, name in enumerate(order)})
                _points(axes, part, rows + 0.36 * (i - (len(models) - 1) / 2), style.model_color(model))
            axes.axvline(0, color=style.BLACK, lw=0.9)
            axes.set_title(form)
            axes.set_xlabel(f"mean steerability\n({style.UNITS[form]} per unit)")
            axes.locator_params(axis="x", nbins=4)
        labels = [frames.tick(name) if len(order) < 20 else published.label(name) for name in order]
        panels[0][0].set(yticks=range(len(order)), yticklabels=labels, ylim=(len(order) - 0.4, -0.6))
        panels[0][0].tick_params(axis="y", labelsize=style.SMALL)
        figure.legend(handles=_legend(models), loc="outside lower center", ncols=len(models) + 2)
    return figure


def _points(axes: Axes, part: pd.DataFrame, rows: pd.Series, color: str) -> None:
    axes.hlines(rows, part["low"], part["high"], color=color, lw=1.3, alpha=0.75)
    filled = np.where(part["low"] > 0, color, "white")
    axes.scatter(part["estimate"], rows, s=15, c=filled, edgecolors=color, linewidths=0.9, zorder=3)
    axes.scatter(part["random"], rows, marker="x", s=11, color=style.PUBLISHED, linewidths=0.8, zorder=4)


def _legend(models: list[str]) -> list[Line2D]:
    point = {"marker": "o", "markersize": 4.5, "lw": 1.3}
    look = {"ls": "none", "color": style.PUBLISHED}
    return [
        *(Line2D([], [], color=style.model_color(model), label=model, **point) for model in models),
        Line2D([], [], marker="o", markersize=4.5, markerfacecolor="white", label="interval holds 0", **look),
        Line2D([], [], marker="x", markersize=4, label="random vectors", **look),
    ]


def effects_alt(table: pd.DataFrame) -> str:
    """Alt text of :func:`effects`, with its numbers."""
    table = _checked(table)
    counts = [
        f"{int((part['low'] > 0).sum())} of {len(part)} for {model} in {form}"
        for form in _formats(table)
        for model, part in table[table["format"] == form].groupby("model", sort=False)
    ]
    order = _order(table)
    return (
        f"Mean steerability with 95% intervals of {frames.sets(len(order))} by answer format and model. Intervals "
        f"above zero: {', '.join(counts)}. Most steerable in {_formats(table)[0]}: {published.label(order[0])}, "
        f"least: {published.label(order[-1])}."
    )


def bias(table: pd.DataFrame) -> Figure:
    """Share of the variance of per-sample steerability that the answer's letter or word explains, by data set."""
    shown = _checked(table).dropna(subset="bias_share")
    if shown.empty:
        raise frames.refusal("rows of letter or yes-no", "only statement", "add one of these formats.")
    models, forms = list(shown["model"].unique()), _formats(shown)
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.5 * len(models) * len(forms)))
        rows = [f"{model}, {form}" for form in forms for model in models]
        shown = shown.assign(row=shown["model"] + ", " + shown["format"])
        palette = {row: style.model_color(row.partition(", ")[0]) for row in rows}
        sns.stripplot(shown, x="bias_share", y="row", hue="row", order=rows, palette=palette, size=4.5,
                      alpha=0.6, jitter=0.22, legend=False, ax=axes)  # fmt: skip
        medians = shown.groupby("row")["bias_share"].median().reindex(rows)
        axes.scatter(medians, range(len(rows)), marker="|", s=380, color=style.BLACK, linewidths=2, zorder=5)
        axes.set(xlim=(-0.03, 1.03), ylabel="")
        axes.set_xlabel("share of the variance of per-sample steerability explained by the answer token")
    return figure


def bias_alt(table: pd.DataFrame) -> str:
    """Alt text of :func:`bias`, with its numbers."""
    shown = _checked(table).dropna(subset="bias_share")
    medians = shown.groupby(["model", "format"], sort=False)["bias_share"].median()
    parts = [f"{value:.2f} for {model} in {form}" for (model, form), value in medians.items()]
    return (
        "One dot a data set: the share of the variance of per-sample steerability that the letter or word of the "
        f"matching answer explains. Medians: {', '.join(parts)}."
    )


def correlations(pairs: pd.DataFrame) -> Figure:
    """Rank correlations with intervals (`concepts.agreement`), in three groups: models, formats, published.

    Points with intervals are over all data sets, open marks over one kind of item.
    """
    pairs = frames.checked(pairs, ("kind", "sets", "first", "second", "n", "estimate", "low", "high"), [])
    shown = pairs[pairs["sets"] == "all"].dropna(subset="estimate").reset_index(drop=True)
    if shown.empty:
        raise frames.refusal("a correlation over three data sets or more", "none", "add data sets.")
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.235 * len(shown)))
        colors = shown["kind"].map(KINDS)
        axes.hlines(shown.index, shown["low"], shown["high"], color=colors, lw=1.6)
        axes.scatter(shown["estimate"], shown.index, c=colors, s=22, zorder=3)
        for sets, marker in SETS.items():
            some = pairs[pairs["sets"] == sets].merge(shown.reset_index()[["index", "first", "second"]])
            axes.scatter(
                some["estimate"],
                some["index"],
                marker=marker,
                s=20,
                fc="none",
                ec=style.BLACK,
                lw=0.8,
                zorder=4,
            )
        axes.axvline(0, color=style.BLACK, lw=0.9)
        labels = (
            shown["first"]
            + "  –  "
            + shown["second"].where(
                shown["kind"] != "published", "published " + shown["second"].str.partition(",")[0]
            )
        )
        axes.set(yticks=shown.index, yticklabels=labels, xlim=(-1.02, 1.02), ylim=(len(shown) - 0.4, -0.6))
        axes.tick_params(axis="y", labelsize=style.SMALL)
        axes.set_xlabel("Spearman's rank correlation over data sets, 95% interval")
        words = {
            "models": "two models, one format",
            "formats": "two formats, one model",
            "published": "with the paper",
        }
        handles = [
            Line2D([], [], color=color, marker="o", lw=1.6, label=words[kind])
            for kind, color in KINDS.items()
        ]
        look = {"ls": "none", "markerfacecolor": "none", "color": style.BLACK, "markersize": 4.5}
        handles += [
            Line2D([], [], marker=marker, label=f"{sets} sets alone", **look) for sets, marker in SETS.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def correlations_alt(pairs: pd.DataFrame) -> str:
    """Alt text of :func:`correlations`, with its numbers."""
    shown = pairs[pairs["sets"] == "all"].dropna(subset="estimate")
    if shown.empty:
        raise frames.refusal("a correlation over three data sets or more", "none", "add data sets.")
    best, worst = shown.loc[shown["estimate"].idxmax()], shown.loc[shown["estimate"].idxmin()]
    words = [f"{row['estimate']:.2f} between {row['first']} and {row['second']}" for row in (best, worst)]
    above = int((shown["low"] > 0).sum())
    return (
        f"{len(shown)} rank correlations of mean steerability over data sets, with 95% intervals; {above} lie above "
        f"zero. Highest {words[0]}, lowest {words[1]}."
    )
