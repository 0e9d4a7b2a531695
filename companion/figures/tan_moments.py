"""Mean and variance of the steerability of data sets (Tan et al. 2024, appendix)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from companion import published
from companion.figures import frames, scatter, style
from companion.tan.tables import MOVED, SAME

COLUMNS = ("dataset", "model", "train", "test", "mean", "variance")
MARKERS = {"BASE": "o", "SYS_POS": "^", "SYS_NEG": "v"}  # by training setting; the colour is the test setting
Points = dict[tuple[str, ...], pd.DataFrame]  # by shift, columns x and y


def mean_variance(shifts: pd.DataFrame) -> Figure:
    """Variance (y) against mean (x) of the steerability of each data set, for every shift (appendix).

    A panel a model. The marker is the training setting, the colour the test setting; Spearman's coefficient
    is given in distribution and, as a range, for the other shifts. The three data sets with the largest
    variance in distribution have names.

    Parameters
    ----------
    shifts : DataFrame
        A SHIFTS table; of it BASE->BASE and the four published shifts are drawn, of models with variances.

    Raises
    ------
    SteerkitError
        Empty table, missing column, no model with mean and variance.
    """
    points = _moments(shifts)
    columns = min(2, len(points))
    rows = -(-len(points) // columns)
    with style.theme():
        size = (style.WIDTH, 1.0 + 3.3 * rows)
        figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False)
        names = []
        for axes, (model, of_model) in zip(panels.ravel(), points.items(), strict=False):
            whose = scatter.source(shifts, model)
            axes.set(title=whose.label, xlabel=f"mean ({whose.unit} per unit multiplier)")
            axes.set_ylabel(f"variance ({whose.unit} per unit multiplier)²")
            names.append((axes, *_moment_panel(axes, of_model)))
        scatter.legend(figure, panels, len(points), _legend(), 3)
        scatter.write_names(figure, names)
    return figure


def _moments(shifts: pd.DataFrame) -> dict[str, Points]:
    """By model and shift the points x (mean) and y (variance); models and shifts without any are left out."""
    rows = frames.checked(shifts, COLUMNS, []).dropna(subset=["mean", "variance"])
    found = {}
    for (model, *shift), part in rows.groupby(["model", "train", "test"], sort=False):
        if tuple(shift) in (SAME, *MOVED):
            both = part.set_index("dataset")[["mean", "variance"]].set_axis(["x", "y"], axis=1)
            found.setdefault(model, {})[tuple(shift)] = both
    if not found:
        raise frames.refusal("a model with means and variances of a shift of the paper", "none", "add rows.")
    return found


def _moment_panel(axes: Axes, of_model: Points) -> tuple[pd.DataFrame, list[str]]:
    """Draw the points of a model; return them, and the data sets to name."""
    for (train, test), both in of_model.items():
        look = {"marker": MARKERS[train], "color": style.SETTINGS[test]}
        axes.scatter(both["x"], both["y"], s=20, alpha=0.75, lw=0, zorder=3, **look)
    axes.margins(0.12)
    scatter.corner(axes, _ranks(of_model))
    same = of_model.get(SAME, pd.DataFrame(columns=["x", "y"], dtype=float))
    others = [both for shift, both in of_model.items() if shift != SAME]
    everything = pd.concat([same, *(both.reset_index(drop=True) for both in others)])
    return everything, list(same["y"].nlargest(scatter.NAMED).index)


def _ranks(of_model: Points) -> str:
    """Spearman's coefficients of mean and variance, in distribution and under the shifts."""
    found = {shift: frames.rank_correlation(both["x"], both["y"])[0] for shift, both in of_model.items()}
    moved = [rho for shift, rho in found.items() if shift != SAME and np.isfinite(rho)]
    lines = []
    if np.isfinite(found.get(SAME, np.nan)):
        lines.append(f"ρ {scatter.coefficient(found[SAME])} in distribution")
    if moved:
        low, high = (scatter.coefficient(value) for value in (min(moved), max(moved)))
        lines.append(f"ρ {low} to {high} under shifts")
    return "\n".join(lines) or "no rank correlation"


def _legend() -> list[Line2D]:
    handles = []
    for train, test in (SAME, *MOVED):
        look = {"marker": MARKERS[train], "color": style.SETTINGS[test], "ms": 5}
        handles.append(Line2D([], [], ls="none", label=scatter.arrow(train, test), **look))
    return [*handles, Line2D([], [], ls="none", label="ρ Spearman")]


def mean_variance_alt(shifts: pd.DataFrame) -> str:
    """Alt text of :func:`mean_variance`, with its numbers."""
    text = "Variance against mean steerability of data sets, a panel a model."
    for model, of_model in _moments(shifts).items():
        ranks = _ranks(of_model).replace("\n", ", ").replace("ρ", "Spearman")
        text += f" {scatter.source(shifts, model).label}: {ranks}"
        if SAME in of_model:
            both = of_model[SAME]
            name = both["y"].idxmax()
            x, y = (frames.number(value) for value in both.loc[name])
            text += f"; the largest variance in distribution is {y} ({published.label(name)}, mean {x})"
        text += "."
    return text
