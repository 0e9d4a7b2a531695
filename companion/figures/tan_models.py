"""Tan et al. figure 6 and appendix: is what steers one model well what steers another well?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from companion import published
from companion.figures import frames, scatter, style
from companion.figures.tan_moments import mean_variance, mean_variance_alt
from companion.tan.tables import SAME, Measure, between_models, common_sets, correlate

__all__ = [
    "figure_6", "figure_6_alt", "mean_variance", "mean_variance_alt", "scatter_matrix", "scatter_matrix_alt",
]  # fmt: skip

COLUMNS = ("dataset", "model", "train", "test", "mean", "variance")
OTHER = ("SYS_POS", "USER_NEG")  # the shift of figure 6
WITHOUT_SYSTEM = ("BASE", "USER_NEG")  # the nearest to it for a model without a system prompt


def figure_6(shifts: pd.DataFrame, first: str, second: str, measure: Measure = "mean") -> Figure:
    """Steerability of two models on the same data sets: in distribution, and under a shift (figure 6).

    The shift is the paper's, SYS_POS to USER_NEG; where one of the models has no system prompt it is BASE to USER_NEG, as
    the panel says. Each model has its own axis and unit. The three data sets farthest from the regression line have names.

    Parameters
    ----------
    shifts : DataFrame
        A SHIFTS table; rows of `companion.published.shifts` may be among them.
    first, second : str
        The models on x and y.
    measure : {"mean", "variance"}
        "variance" gives the figure of the appendix.

    Raises
    ------
    SteerkitError
        Empty table, missing column, the same model twice, a model without values, fewer than three common
        data sets.
    """
    points = _two_models(shifts, first, second, measure)
    x, y = (scatter.source(shifts, model) for model in (first, second))
    with style.theme():
        figure, panels = plt.subplots(1, 2, figsize=(style.WIDTH, 4.3))
        for axes, (shift, both) in zip(panels, points.items(), strict=True):
            _dots(axes, both, x, y)
            place = "in distribution" if shift == SAME else "out of distribution"
            axes.set_title(f"{place}\n{scatter.arrow(*shift)}")
            axes.set_xlabel(_axis(x, measure))
            scatter.corner(axes, _words(both))
        panels[0].set_ylabel(_axis(y, measure))
        figure.legend(handles=_legend(x, y), loc="outside lower center", ncols=4)
        scatter.write_names(
            figure, [(axes, *_far(both)) for axes, both in zip(panels, points.values(), strict=True)]
        )
    return figure


def _two_models(
    shifts: pd.DataFrame, first: str, second: str, measure: Measure
) -> dict[tuple[str, ...], pd.DataFrame]:
    """By shift the points x (first) and y (second) of the common data sets."""
    rows = frames.checked(shifts, COLUMNS, [])
    lacking = sorted({first, second} - set(rows["model"]))
    if first == second or lacking:
        found = f"no rows of {', '.join(lacking)}" if lacking else f"{first} twice"
        known = ", ".join(rows["model"].unique())
        raise frames.refusal("two different models of the table", found, f"choose among {known}.")
    rows = rows[rows["model"].isin([first, second])]
    other = (
        OTHER
        if _has_both(rows, OTHER, measure) or not _has_both(rows, WITHOUT_SYSTEM, measure)
        else WITHOUT_SYSTEM
    )
    wide = {shift: common_sets(rows, *shift, measure)[[first, second]] for shift in (SAME, other)}
    return {shift: both.set_axis(["x", "y"], axis=1) for shift, both in wide.items()}


def _has_both(rows: pd.DataFrame, shift: tuple[str, str], measure: Measure) -> bool:
    """Whether both models of the rows have values for a shift."""
    values = rows[(rows["train"] == shift[0]) & (rows["test"] == shift[1])].dropna(subset=[measure])
    return values["model"].nunique() == 2


def _far(both: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    return both, scatter.farthest(scatter.distance_from_fit(both))


def _dots(axes: Axes, both: pd.DataFrame, x: scatter.Source, y: scatter.Source) -> None:
    """Points and fit; grey when both models are the paper's, else in the colour of ours."""
    ours = y if not y.published else x
    axes.scatter(both["x"], both["y"], s=16, color=ours.dots, alpha=0.85, lw=0, zorder=3)
    scatter.fitted_line(axes, both, ours.dots if x.published and y.published else ours.color)
    axes.margins(0.12)


def _words(both: pd.DataFrame) -> str:
    found = correlate(both)
    if found["reason"]:
        return f"no correlation:\n{found['reason']}"
    values = found[["spearman", "spearman_low", "spearman_high"]]
    return f"{scatter.interval('ρ', *values)}\n{frames.sets(len(both))}"


def _axis(whose: scatter.Source, measure: Measure) -> str:
    unit = f"({whose.unit} per unit multiplier)"
    return f"{whose.label}\nsteerability {unit}" if measure == "mean" else f"{whose.label}\nvariance {unit}²"


def _legend(x: scatter.Source, y: scatter.Source) -> list[Line2D]:
    ours = y if not y.published else x
    dot = Line2D([], [], ls="none", marker="o", ms=4.5, color=ours.dots, label="a data set")
    return [dot, *scatter.line_legend(identity=False), Line2D([], [], ls="none", label="ρ Spearman [95%]")]


def figure_6_alt(shifts: pd.DataFrame, first: str, second: str, measure: Measure = "mean") -> str:
    """Alt text of :func:`figure_6`, with its numbers."""
    what = "Mean steerability" if measure == "mean" else "Variance of steerability"
    labels = [scatter.source(shifts, model).label for model in (first, second)]
    text = f"{what} of data sets under {labels[0]} (x) and {labels[1]} (y)."
    for shift, both in _two_models(shifts, first, second, measure).items():
        found = correlate(both)
        rho = f"no rank correlation ({found['reason']})" if found["reason"] else (
            f"Spearman {scatter.coefficient(found['spearman'])}"
        )  # fmt: skip
        far = ", ".join(published.label(name) for name in _far(both)[1])
        text += f" {shift[0]} to {shift[1]}, {frames.sets(len(both))}: {rho}; farthest from the line: {far}."
    return text


def scatter_matrix(shifts: pd.DataFrame, train: str, test: str) -> Figure:
    """Mean steerability of every two models on the data sets that all have, under one shift (appendix).

    Below the diagonal the points, with the regression line and the three farthest from it named; above it
    Spearman's coefficients. Every model keeps its own axis, so units may differ.

    Parameters
    ----------
    shifts : DataFrame
        A SHIFTS table; rows of `companion.published.shifts` may be among them. Models without a value for the
        shift are left out.
    train, test : str
        The shift, e.g. "BASE" and "BASE".

    Raises
    ------
    SteerkitError
        Empty table, missing column, fewer than two models or three common data sets.
    """
    wide = common_sets(frames.checked(shifts, COLUMNS, []), train, test)
    pairs = between_models(shifts, train, test).set_index(["first", "second"])
    sources = [scatter.source(shifts, model) for model in wide]
    count, names = len(sources), []
    with style.theme():
        size = (style.WIDTH, 0.5 + (count - 0.5) * min(2.3, style.WIDTH / (count - 0.25)))
        shares = {"height_ratios": [0.5, *[1] * (count - 1)], "width_ratios": [*[1] * (count - 1), 0.75]}
        figure, panels = plt.subplots(count, count, figsize=size, sharex="col", sharey="row", **shares)
        for (row, column), axes in np.ndenumerate(panels):
            if row > column:
                both = wide.iloc[:, [column, row]].set_axis(["x", "y"], axis=1)
                _dots(axes, both, sources[column], sources[row])
                axes.set(xlabel=sources[column].label, ylabel=sources[row].label)
                axes.label_outer()
                names.append((axes, both))
                continue
            label = sources[row].label.replace(": ", ":\n")
            diagonal = f"{label}\n({sources[row].unit}\nper unit multiplier)"
            text = diagonal if row == column else _coefficient(pairs.loc[tuple(wide.columns[[row, column]])])
            axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9)
            axes.axis("off")
        figure.suptitle(
            f"mean steerability, {scatter.arrow(train, test)}, {frames.sets(len(wide))}", fontsize=10
        )
        some = scatter.NAMED if count <= 3 else 1  # no room for more in a small panel
        scatter.write_names(figure, [(axes, both, _far(both)[1][:some]) for axes, both in names], 15)
    return figure


def _coefficient(pair: pd.Series) -> str:
    """A cell above the diagonal."""
    if pair["reason"]:
        return f"no correlation:\n{pair['reason']}"
    rho, low, high = (scatter.coefficient(pair[name]) for name in ("spearman", "low", "high"))
    return f"Spearman {rho}\n[{low}, {high}]"


def scatter_matrix_alt(shifts: pd.DataFrame, train: str, test: str) -> str:
    """Alt text of :func:`scatter_matrix`, with its numbers."""
    pairs = between_models(frames.checked(shifts, COLUMNS, []), train, test)
    words = []
    for _, pair in pairs.iterrows():
        labels = " and ".join(scatter.source(shifts, pair[side]).label for side in ("first", "second"))
        words.append(f"{labels} {pair['reason'] or scatter.coefficient(pair['spearman'])}")
    out = [scatter.source(shifts, model).label for model in pairs.attrs["left_out"]]
    left_out = f" Without values for this shift: {', '.join(out)}." if out else ""
    return (
        f"Mean steerability of every two models, {train} to {test}, on {frames.sets(pairs['n'].iloc[0])}; "
        f"Spearman's coefficients: {'; '.join(words)}.{left_out}"
    )
