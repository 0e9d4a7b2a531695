"""Tan et al. figure 5: is what is steerable in distribution steerable under another prompt setting?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from companion import published
from companion.figures import frames, scatter, style
from companion.tan.tables import MOVED, SAME, Measure, correlate, paired

COLUMNS = ("dataset", "model", "train", "test", "mean", "variance")
MOST = 3  # models side by side


def figure_5(shifts: pd.DataFrame) -> Figure:
    """Mean steerability in distribution (x) against that under four shifts of prompt setting (y) (figure 5).

    One model: a panel a shift. More: a column a model, a row a shift; the published models share their
    limits, each of ours has its own, since units and scales differ. Dots are data sets, ours with 95%
    intervals; the three farthest from x = y have names. The line is the regression of y on x.

    Parameters
    ----------
    shifts : DataFrame
        A SHIFTS table of at most three models with BASE->BASE and a published shift; models without these are
        left out. Rows of `companion.published.shifts` may be among them.

    Raises
    ------
    SteerkitError
        Empty table, missing column, repeated or infinite values, no model to draw or more than three.
    """
    return _figure(shifts, "mean")


def figure_5_variance(shifts: pd.DataFrame) -> Figure:
    """The same as :func:`figure_5` for the variance of per-sample steerability (appendix)."""
    return _figure(shifts, "variance")


def _points(shifts: pd.DataFrame, measure: Measure) -> dict[str, dict[tuple[str, str], pd.DataFrame]]:
    """By model and shift the points x, y of the data sets; models without any are left out."""
    rows = frames.checked(shifts, COLUMNS, [])
    found = {}
    for model in rows["model"].unique():
        of_model = {s: paired(rows, (model, *SAME), (model, *s), measure) for s in MOVED}
        if any(len(points) for points in of_model.values()):
            found[model] = of_model
    if not 1 <= len(found) <= MOST:
        expected = f"one to three models with {measure}s for BASE->BASE and a published shift"
        raise frames.refusal(expected, f"{len(found)} of {rows['model'].nunique()}", "choose other rows.")
    return found


def _figure(shifts: pd.DataFrame, measure: Measure) -> Figure:
    points = _points(shifts, measure)
    sources = {model: scatter.source(shifts, model) for model in points}
    limits = _limits(points, sources)
    shape = (2, 2) if len(points) == 1 else (len(MOVED), len(points))
    height = 6.6 if len(points) == 1 else 9.6
    with style.theme():
        figure, panels = plt.subplots(*shape, figsize=(style.WIDTH, height), squeeze=False)
        names = []
        for i, (model, of_model) in enumerate(points.items()):
            for axes, (shift, both) in zip(_own(panels, i, len(points)), of_model.items(), strict=True):
                axes.set(xlim=limits[model], ylim=limits[model])
                axes.locator_params(nbins=3 if len(points) == MOST else 5)
                bars = _bars(shifts, model, shift, both.index) if measure == "mean" else None
                _panel(axes, both, sources[model], bars)
                scatter.corner(axes, _words(both))
                names.append((axes, both, scatter.farthest(both["y"] - both["x"])))
        _titles(panels, list(sources.values()), measure)
        figure.legend(handles=_legend(sources), loc="outside lower center", ncols=3)
        scatter.write_names(figure, names, 13 if len(points) == 3 else 18)
    return figure


def _own(panels: np.ndarray, column: int, models: int) -> list[Axes]:
    """The four panels of a model, in the order of the shifts."""
    return list(panels.ravel()) if models == 1 else list(panels[:, column])


def _limits(
    points: dict[str, dict[tuple[str, str], pd.DataFrame]], sources: dict[str, scatter.Source]
) -> dict[str, tuple[float, float]]:
    """By model the range of both axes: one for the published, and one for each of ours."""
    groups = {model: "published" if sources[model].published else model for model in points}
    limits = {}
    for model, group in groups.items():
        frames_of = [both for m, own in points.items() if groups[m] == group for both in own.values()]
        values = pd.concat(frames_of).to_numpy()
        room = 0.08 * np.ptp(values) or 1.0
        limits[model] = (values.min() - room, values.max() + 2.8 * room)  # the correlations stand on top
    return limits


def _bars(
    shifts: pd.DataFrame, model: str, shift: tuple[str, str], names: pd.Index
) -> list[np.ndarray] | None:
    """Lengths of the error bars of x and y, each [2, n]; None where the table has no intervals."""
    if not {"low", "high"} <= set(shifts.columns):
        return None
    lengths = []
    for pair in (SAME, shift):
        of_pair = (shifts[["model", "train", "test"]] == [model, *pair]).all(axis=1)
        rows = shifts[of_pair].set_index("dataset").loc[names]
        lengths.append(np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]))
    return lengths if np.isfinite(lengths).all() else None


def _panel(axes: Axes, both: pd.DataFrame, whose: scatter.Source, bars: list[np.ndarray] | None) -> None:
    if both.empty:
        style.remark(
            axes, np.mean(axes.get_ylim()), "not shown in the paper" if whose.published else "not run"
        )
        return
    axes.axline((0, 0), slope=1, color=style.PUBLISHED, lw=1, ls="--", zorder=1.2)
    if bars:
        look = {"fmt": "none", "ecolor": whose.dots, "elinewidth": 0.8, "alpha": 0.5, "zorder": 2}
        axes.errorbar(both["x"], both["y"], xerr=bars[0], yerr=bars[1], **look)
    axes.scatter(both["x"], both["y"], s=16, color=whose.dots, alpha=0.85, lw=0, zorder=3)
    scatter.fitted_line(axes, both, whose.color)


def _words(both: pd.DataFrame) -> str:
    """The correlations of a panel, or why there are none."""
    found = correlate(both)
    if found["reason"]:
        return "" if both.empty else f"no correlation:\n{found['reason']}"
    return "\n".join(
        scatter.interval(sign, *found[[name, f"{name}_low", f"{name}_high"]])
        for sign, name in (("ρ", "spearman"), ("r", "pearson"))
    )


def _unit(whose: scatter.Source, measure: Measure) -> str:
    inner = f"{whose.unit} per unit multiplier"
    return f"({inner})" if measure == "mean" else f"({inner})²"


def _titles(panels: np.ndarray, sources: list[scatter.Source], measure: Measure) -> None:
    what = "steerability" if measure == "mean" else "variance of steerability"
    same = f"in distribution: {scatter.arrow(*SAME)}"
    if len(sources) == 1:
        for axes, shift in zip(panels.ravel(), MOVED, strict=True):
            axes.set_title(f"{sources[0].label}: {scatter.arrow(*shift)}")
        for axes in panels[-1]:
            axes.set_xlabel(f"{what}, {same}\n{_unit(sources[0], measure)}")
        for axes in panels[:, 0]:
            axes.set_ylabel(f"{what} under the shift\n{_unit(sources[0], measure)}")
        return
    for axes, whose in zip(panels[0], sources, strict=True):
        unit = _unit(whose, measure)
        if len(sources) == MOST and len(unit) > 30:
            unit = unit.replace(" per unit", "\nper unit")
        axes.set_title(f"{whose.label}\n{what}\n{unit}")
    for axes in panels[-1]:
        axes.set_xlabel(same)
    for axes, shift in zip(panels[:, 0], MOVED, strict=True):
        axes.set_ylabel(scatter.arrow(*shift))


def _legend(sources: dict[str, scatter.Source]) -> list[Line2D]:
    dots = {"ls": "none", "marker": "o", "ms": 4.5}
    handles = [
        Line2D([], [], color=s.dots, label=s.label, **dots) for s in sources.values() if not s.published
    ]
    if any(whose.published for whose in sources.values()):
        handles.append(Line2D([], [], color=style.PUBLISHED, label="published, a data set", **dots))
    signs = Line2D([], [], ls="none", label="ρ Spearman, r Pearson [95%]")
    return [*handles, *scatter.line_legend(), signs]


def figure_5_alt(shifts: pd.DataFrame) -> str:
    """Alt text of :func:`figure_5`, with its numbers."""
    return _alt(shifts, "mean")


def figure_5_variance_alt(shifts: pd.DataFrame) -> str:
    """Alt text of :func:`figure_5_variance`, with its numbers."""
    return _alt(shifts, "variance")


def _alt(shifts: pd.DataFrame, measure: Measure) -> str:
    what = "Mean steerability" if measure == "mean" else "Variance of steerability"
    text = f"{what} of data sets in distribution (BASE to BASE) against shifts of prompt setting."
    for model, of_model in _points(shifts, measure).items():
        whose = scatter.source(shifts, model)
        parts = [_part(*shift, both) for shift, both in of_model.items() if len(both)]
        text += f" {whose.label} {_unit(whose, measure)}: {'; '.join(parts)}."
    return text


def _part(train: str, test: str, both: pd.DataFrame) -> str:
    """One panel in words."""
    found = correlate(both)
    spearman, pearson = (scatter.coefficient(found[name]) for name in ("spearman", "pearson"))
    words = (
        f"no correlation ({found['reason']})"
        if found["reason"]
        else f"Spearman {spearman}, Pearson {pearson}"
    )
    for name in scatter.farthest(both["y"] - both["x"], 1):
        x, y = (frames.number(value) for value in both.loc[name])
        words += f", farthest from x = y is {published.label(name)} ({x} to {y})"
    return f"{train} to {test} ({frames.sets(len(both))}) {words}"
