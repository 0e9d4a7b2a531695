"""Concept or format: which concepts are steerable in which model and answer format."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from companion import published
from companion.figures import style
from companion.figures.style import Drawn, model_label
from steerkit.formats import FORMATS

FINITE = ("estimate", "low", "high")
COLUMNS = ("model", "format", "dataset", *FINITE, "at_zero", "placebo", "bias_share")
MEDIAN = {"color": style.BLACK, "markeredgewidth": 2}
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
    above, height = [], 1.4 + 0.24 * max(len(order), 4)
    with style.drawing(height, 1, len(forms), sharey=True, squeeze=False) as (figure, [panels]):
        for axes, form in zip(panels, forms, strict=True):
            for model, part in table[table["format"] == form].groupby("model", sort=False):
                shift = 0.24 * (models.index(model) - (len(models) - 1) / 2)
                _points(axes, part, part["dataset"].map(order.index) + shift, style.model_color(model))
                count = int((part["low"] > 0).sum())
                above.append(f"{count} of {len(part)} for {model_label(model)} in {form}")
            # Bands: points of one row stand closer to another row's than to its name.
            for row in range(0, len(order), 2):
                axes.axhspan(row - 0.5, row + 0.5, color=style.FAINT, alpha=0.25, lw=0)
            axes.axvline(0, color=style.BLACK, lw=0.9)
            axes.set(title=form, xlabel=f"mean steerability\n({style.UNITS[form]} per unit)")
            axes.locator_params(axis="x", nbins=4)
        labels = [style.tick(name) if len(order) < 20 else published.label(name) for name in order]
        style.name_rows(panels[0], labels)
        panels[0].tick_params(axis="y", labelsize=style.SMALL)
        colors = {model_label(model): style.model_color(model) for model in models}
        handles = [style.dot(label, color=color, ls="-", lw=1.3) for label, color in colors.items()]
        handles.append(style.dot("interval holds 0", mfc="white", color=style.PUBLISHED))
        handles.append(style.dot("slope at 0", "|", 6, color=style.BLACK))
        handles.append(style.dot("the same with shuffled labels, 95% point", "x", 4, color=style.PUBLISHED))
        style.legend(figure, handles)
    alt = f"Mean steerability with 95% intervals of {style.sets(len(order))} by answer format and model. Intervals "
    alt += f"above zero: {', '.join(above)}. Most steerable in {forms[0]}: {published.label(order[0])}, "
    alt += f"least: {published.label(order[-1])}."
    return Drawn(figure, table, alt)


def bias(table: pd.DataFrame) -> Drawn:
    """Share of the variance of per-sample steerability that the answer's letter or word explains, by data set."""
    shown = style.checked(table, COLUMNS, FINITE).dropna(subset="bias_share")
    style.need(not shown.empty, "rows of letter or yes-no", "only statement", "add one of these formats.")
    shown = shown.sort_values("format", key=lambda forms: forms.map(ORDER.index), kind="stable")
    rows = {key: own["bias_share"] for key, own in shown.groupby(["model", "format"], sort=False)}
    with style.drawing(1.3 + 0.5 * len(rows)) as (figure, axes):
        rng = np.random.default_rng(0)  # the same figure gives the same file
        for row, ((model, _), own) in enumerate(rows.items()):
            places = row + rng.uniform(-0.22, 0.22, len(own))
            axes.scatter(own, places, s=20, color=style.model_color(model), alpha=0.6, lw=0)
        medians = [own.median() for own in rows.values()]
        axes.scatter(medians, range(len(rows)), marker="|", s=380, color=style.BLACK, linewidths=2, zorder=5)
        labels = [f"{model_label(model)},\n{form}" for model, form in rows]
        style.name_rows(axes, labels, 0.5, 0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of the variance of per-sample steerability\nexplained by the answer token")
        handles = [style.dot("a data set", color=style.PUBLISHED), style.dot("median", "|", 12, **MEDIAN)]
        style.legend(figure, handles)
    found = zip(medians, rows, strict=True)
    said = ", ".join(f"{value:.2f} for {model_label(model)} in {form}" for value, (model, form) in found)
    alt = "One dot a data set: the share of the variance of per-sample steerability that the letter or word of the "
    alt += f"matching answer explains. Medians: {said}."
    return Drawn(figure, table, alt)


def _points(axes: Axes, part: pd.DataFrame, rows: pd.Series, color: str) -> None:
    axes.hlines(rows, part["low"], part["high"], color=color, lw=1.3, alpha=0.75)
    filled = np.where(part["low"] > 0, color, "white")
    axes.scatter(part["estimate"], rows, s=15, c=filled, edgecolors=color, linewidths=0.9, zorder=3)
    axes.scatter(part["placebo"], rows, marker="x", s=11, color=style.PUBLISHED, linewidths=0.8, zorder=4)
    axes.scatter(part["at_zero"], rows, marker="|", s=26, color=color, linewidths=0.9, zorder=4)
