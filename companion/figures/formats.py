"""Concept or format: which concepts are steerable in which model and answer format."""

import numpy as np
import pandas as pd

from companion import published
from companion.figures import rows, style
from companion.figures.style import Drawn, model_label
from steerkit.formats import FORMATS

FINITE = ("estimate", "low", "high")
COLUMNS = ("model", "format", "dataset", *FINITE, "at_zero", "placebo", "bias_share")
ORDER = tuple(dict.fromkeys(("statement", *FORMATS)))


def effects(table: pd.DataFrame) -> Drawn:
    """Mean steerability with interval: a row a data set, a panel a format, a colour a model (`tan.formats.effects`).

    A filled point has its 95% interval above zero. Rows are by mean rank over models in the first format shown.
    """
    present = set(style.checked(table, COLUMNS, FINITE)["format"])
    forms, models = [form for form in ORDER if form in present], list(table["model"].unique())
    first = table[table["format"] == forms[0]]
    ranks = first.groupby("model")["estimate"].rank().groupby(first["dataset"]).mean()
    order = list(ranks.sort_values(ascending=False).index)
    labels = [style.tick(name) if len(order) < 20 else published.label(name) for name in order]
    above = []
    with rows.drawing(labels, len(forms), len(models)) as (figure, panels):
        for axes, form in zip(panels, forms, strict=True):
            for model, part in table[table["format"] == form].groupby("model", sort=False):
                part, color = part.set_index(part["dataset"].map(order.index)), style.model_color(model)
                below, count = rows.shift(models.index(model), len(models)), int((part["low"] > 0).sum())
                above.append(f"{count} of {len(part)} for {model_label(model)} in {form}")
                filled = np.where(part["low"] > 0, color, "white")
                rows.points(axes, part[rows.ESTIMATE], color, below, filled)
                rows.points(axes, part["placebo"], style.PUBLISHED, below, marker="x", s=14, lw=0.9)
                rows.points(axes, part["at_zero"], color, below, marker="|", s=36)
            axes.set(title=form, xlabel=f"mean steerability\n({style.UNITS[form]} per unit)")
            axes.locator_params(axis="x", nbins=4)
        marks = [style.dot(model_label(one), color=style.model_color(one), ls="-") for one in models]
        marks.append(style.dot("interval holds 0", mfc="white", color=style.PUBLISHED))
        marks.append(style.dot("slope at 0", "|", 6, color=style.BLACK))
        marks.append(style.dot("the same with shuffled labels, 95% point", "x", 4, color=style.PUBLISHED))
        for mark in marks:
            panels[0].add_line(mark)
    alt = f"Mean steerability with 95% intervals of {style.sets(len(order))} by answer format and model. Intervals "
    alt += f"above zero: {', '.join(above)}. Most steerable in {forms[0]}: {published.label(order[0])}, "
    alt += f"least: {published.label(order[-1])}."
    return Drawn(figure, table, alt)


def bias(table: pd.DataFrame) -> Drawn:
    """Share of the variance of per-sample steerability that the answer's letter or word explains, by data set."""
    shown = style.checked(table, COLUMNS, FINITE).dropna(subset="bias_share")
    style.need(not shown.empty, "rows of letter or yes-no", "only statement", "add one of these formats.")
    shown = shown.sort_values("format", key=lambda forms: forms.map(ORDER.index), kind="stable")
    shown = shown.set_index(shown.groupby(["model", "format"], sort=False).ngroup())
    runs = shown[["model", "format"]].drop_duplicates()
    with rows.drawing(runs["model"].map(model_label) + ",\n" + runs["format"]) as (figure, [axes]):
        for model, own in shown.groupby("model", sort=False):
            label = model_label(str(model))
            rows.cloud(axes, own["bias_share"], style.model_color(str(model)), f"a data set in {label}")
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel("share of the variance of per-sample steerability\nexplained by the answer token")
    medians = shown["bias_share"].groupby(level=0).median()
    found = zip(medians, runs["model"], runs["format"], strict=True)
    said = ", ".join(f"{value:.2f} for {model_label(model)} in {form}" for value, model, form in found)
    alt = "One dot a data set: the share of the variance of per-sample steerability that the letter or word of the "
    alt += f"matching answer explains. Medians: {said}."
    return Drawn(figure, table, alt)
