"""Tan et al. figure 7: does a vector carry over less to a setting that changes the model more?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from companion import published
from companion.figures import frames, scatter, style
from companion.tan.ood import MEAN

RELATIVE = ("dataset", "model", "train", "test", "relative", "distance", "diagonal", "format")
COSINES = ("dataset", "model", "first", "second", "cosine", "distance", "format")


def figure_7(relative: pd.DataFrame) -> Figure:
    """Relative steerability (y) against the unsteered change of propensity (x) (figure 7).

    A row a model. Left with the pairs whose training and test setting are the same, as in the paper: they lie
    at (0, 1) by definition and pull the correlation down; right without them. The panels of a row share their
    axes. On the right the three pairs farthest from the regression line have the name of their data set.

    Parameters
    ----------
    relative : DataFrame
        The table of `companion.tan.ood.relative`, of one or more models.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats of one model.
    """
    rows = frames.checked(relative, RELATIVE, ["relative", "distance"])
    models = list(rows["model"].unique())
    with style.theme():
        size = (style.WIDTH, 1.0 + 3.1 * len(models))
        figure, panels = plt.subplots(len(models), 2, figsize=size, sharey="row", sharex="row", squeeze=False)
        names = []
        for pair, model in zip(panels, models, strict=True):
            whose, own = scatter.source(rows, model), rows[rows["model"] == model]
            for axes, kept, title in zip(pair, _both_ways(own), ("with", "without"), strict=True):
                both = _points(kept, "relative")
                axes.axhline(1, color=style.PUBLISHED, lw=1, ls="--", zorder=1.2)
                _dots(axes, both, whose)
                axes.set_title(f"{whose.label}\n{title} the test setting's own vector")
                axes.set_xlabel(f"unsteered change of propensity ({whose.unit})")
                scatter.corner(axes, _words(both))
            names.append((axes, both, scatter.farthest(scatter.distance_from_fit(both))))
            pair[0].set_ylabel("relative steerability")
            pair[0].margins(x=0.06, y=0.22)
        own = Line2D([], [], color=style.PUBLISHED, lw=1, ls="--", label="as the test setting's own vector")
        handles = [own, *_legend("spearman-relative-baseline")]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
        scatter.write_names(figure, names)
    return figure


def _both_ways(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """With and without the diagonal; a model of which nothing else is left cannot be drawn."""
    without = rows[~rows["diagonal"].astype(bool)]
    if without.empty:
        found = "training setting = test setting only"
        raise frames.refusal("pairs of two different settings", found, "run all pairs of settings.")
    return rows, without


def _points(rows: pd.DataFrame, height: str) -> pd.DataFrame:
    """Columns x (distance), y and dataset, numbered."""
    both = rows[["distance", height, "dataset"]].set_axis(["x", "y", "dataset"], axis=1)
    return both.reset_index(drop=True)


def _dots(axes: Axes, both: pd.DataFrame, whose: scatter.Source) -> None:
    """Points, and their fit without a band: the pairs of a data set are not independent of each other."""
    axes.scatter(both["x"], both["y"], s=12, color=whose.dots, alpha=0.5, lw=0, zorder=3)
    scatter.fitted_line(axes, both, style.BLACK, band=False)


def _words(both: pd.DataFrame) -> str:
    """Spearman's coefficient of a panel, and of how many points."""
    rho, count = frames.rank_correlation(both["x"], both["y"])
    first = "no rank correlation" if np.isnan(rho) else f"ρ {scatter.coefficient(rho)}"
    return f"{first}\n{count} pairs, {frames.sets(both['dataset'].nunique())}"


def _stated(name: str) -> str:
    """What the paper states of a coefficient, by model."""
    values = {model: published.statistic(name, model) for model in ("llama2-7b", "qwen1.5-14b")}
    labels = published.tan()["models"]
    return ", ".join(f"{scatter.coefficient(v)} ({labels[model]['label']})" for model, v in values.items())


def _legend(name: str) -> list[Line2D]:
    return [
        Line2D([], [], color=style.BLACK, lw=1.5, label="regression line"),
        Line2D([], [], ls="none", label="ρ Spearman"),
        Line2D([], [], ls="none", label=f"paper: ρ {_stated(name)}"),
    ]


def figure_7_alt(relative: pd.DataFrame) -> str:
    """Alt text of :func:`figure_7`, with its numbers."""
    rows = frames.checked(relative, RELATIVE, ["relative", "distance"])
    text = "Relative steerability against the unsteered change of propensity between two prompt settings."
    for model in rows["model"].unique():
        ways = _both_ways(rows[rows["model"] == model])
        with_own, without = (_words(_points(kept, "relative")).replace("\n", ", ") for kept in ways)
        values = ways[1]["relative"]
        lowest = ways[1].iloc[values.argmin()]
        text += (
            f" {model}: {with_own.replace('ρ', 'Spearman')} with the test setting's own vector, "
            f"{without.replace('ρ', 'Spearman')} without; from {frames.number(lowest['relative'])} "
            f"({published.label(lowest['dataset'])}, {lowest['train']} to {lowest['test']}) to "
            f"{frames.number(values.max())}, median {frames.number(values.median())}."
        )
    return f"{text} The paper states Spearman {_stated('spearman-relative-baseline')}, with it."


def cosine_distance(cosines: pd.DataFrame) -> Figure:
    """Cosine of two vectors of a data set (y) against how far apart their settings are (x) (appendix).

    A panel a model; pairs with the mean of the five vectors are hollow. The three pairs farthest from the
    regression line have the name of their data set.

    Parameters
    ----------
    cosines : DataFrame
        The table of `companion.tan.ood.cosines`, of one or more models.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats of one model.
    """
    rows = frames.checked(cosines, COSINES, ["cosine", "distance"])
    models = list(rows["model"].unique())
    columns = min(2, len(models))
    lines = -(-len(models) // columns)
    with style.theme():
        size = (style.WIDTH, 1.0 + 3.4 * lines)
        figure, panels = plt.subplots(lines, columns, figsize=size, squeeze=False)
        names = []
        for axes, model in zip(panels.ravel(), models, strict=False):
            whose, own = scatter.source(rows, model), rows[rows["model"] == model]
            both, mean = _points(own, "cosine"), _with_mean(own)
            _cosine_dots(axes, both, mean, whose)
            axes.set(title=whose.label, ylabel="cosine of two vectors")
            axes.set_xlabel(f"difference of mean unsteered propensity\n({whose.unit})")
            scatter.corner(axes, _words(both))
            names.append((axes, both, scatter.farthest(scatter.distance_from_fit(both))))
        scatter.legend(figure, panels, len(models), _cosine_legend(), 2)
        scatter.write_names(figure, names)
    return figure


def _with_mean(rows: pd.DataFrame) -> np.ndarray:
    return ((rows["first"] == MEAN) | (rows["second"] == MEAN)).to_numpy()


def _cosine_dots(axes: Axes, both: pd.DataFrame, mean: np.ndarray, whose: scatter.Source) -> None:
    full, hollow = both[~mean], both[mean]
    axes.scatter(full["x"], full["y"], s=14, color=whose.dots, alpha=0.6, lw=0, zorder=3)
    axes.scatter(hollow["x"], hollow["y"], s=14, fc="none", ec=whose.dots, lw=0.9, alpha=0.8, zorder=3)
    scatter.fitted_line(axes, both, style.BLACK, band=False)
    axes.margins(x=0.06, y=0.22)


def _cosine_legend() -> list[Line2D]:
    dot = {"ls": "none", "marker": "o", "color": style.PUBLISHED, "ms": 4.5}
    return [
        Line2D([], [], label="two settings", **dot),
        Line2D([], [], label="a setting and the mean of the five", markerfacecolor="none", **dot),
        *_legend("spearman-cosine-baseline"),
    ]


def cosine_distance_alt(cosines: pd.DataFrame) -> str:
    """Alt text of :func:`cosine_distance`, with its numbers."""
    rows = frames.checked(cosines, COSINES, ["cosine", "distance"])
    text = "Cosine of two vectors of a data set against the unsteered difference between their settings."
    for model, own in rows.groupby("model", sort=False):
        words = _words(_points(own, "cosine")).replace("\n", ", ").replace("ρ", "Spearman")
        lowest = own.iloc[own["cosine"].argmin()]
        text += (
            f" {model}: {words}; cosines from {frames.number(lowest['cosine'])} "
            f"({published.label(lowest['dataset'])}, {lowest['first']} and {lowest['second']}) to "
            f"{frames.number(own['cosine'].max())}."
        )
    return f"{text} The paper states Spearman {_stated('spearman-cosine-baseline')}."
