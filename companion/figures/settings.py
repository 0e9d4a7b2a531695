"""Figures 5 to 7 of Tan et al. 2024 and their appendix: other prompt settings, other models.

Every function takes a table of `companion.tan` and gives the drawing, the table, and what it shows in words
(`style.Drawn`). A SHIFTS table has one row a data set, model and shift (training and test setting); rows of
`companion.published.shifts` may be among ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from companion import published
from companion.figures import scatter, style
from companion.figures import style as frames
from companion.figures.scatter import Source, coefficient
from companion.figures.style import Drawn, number
from companion.tan.jobs import MEAN
from companion.tan.tables import MOVED, SAME, Measure, between_models, common_sets, correlate, paired

SHIFTS = ("dataset", "model", "train", "test", "mean", "variance")
RELATIVE = ("dataset", "model", "train", "test", "relative", "distance", "diagonal", "format")
COSINES = ("dataset", "model", "first", "second", "cosine", "distance", "format")
WHAT = {"mean": "Mean steerability", "variance": "Variance of steerability"}
MOST = 3  # models side by side in figure 5
OTHER = ("SYS_POS", "USER_NEG")  # the shift of figure 6
WITHOUT_SYSTEM = ("BASE", "USER_NEG")  # the nearest to it for a model without a system prompt
MARKERS = {"BASE": "o", "SYS_POS": "^", "SYS_NEG": "v"}  # by training setting; the colour is the test setting

Shift = tuple[str, ...]  # training and test setting
Points = dict[Shift, pd.DataFrame]  # by shift, columns x and y, a row a data set


# --- figure 5: in distribution, and under a shift of the prompt setting ---------------------------------------


def figure_5(shifts: pd.DataFrame, measure: Measure = "mean") -> Drawn:
    """Steerability in distribution (x) against that under four shifts of prompt setting (y).

    One model: a panel a shift. Two or three: a column a model, a row a shift; the published models share their
    limits, each of ours has its own, since units and scales differ. Dots are data sets, ours with 95%
    intervals; the three farthest from x = y have names. The line is the regression of y on x.
    """
    points = _shifted(shifts, measure)
    sources = {model: scatter.source(shifts, model) for model in points}
    limits, count = _limits(points, sources), len(points)
    shape, height = ((len(MOVED), count), 9.6) if count > 1 else ((2, 2), 6.6)
    alt = f"{WHAT[measure]} of data sets in distribution (BASE to BASE) against shifts of prompt setting."
    with style.theme():
        figure, panels = plt.subplots(*shape, figsize=(style.WIDTH, height), squeeze=False)
        columns, names = panels.T if count > 1 else panels.reshape(1, -1), []
        for column, (model, of_model) in zip(columns, points.items(), strict=True):
            whose, words = sources[model], []
            for axes, (shift, both) in zip(column, of_model.items(), strict=True):
                axes.set(xlim=limits[model], ylim=limits[model])
                axes.locator_params(nbins=3 if count == MOST else 5)
                found, far = correlate(both), scatter.farthest(both["y"] - both["x"])
                bars = _bars(shifts, model, shift, both.index) if measure == "mean" else None
                _shift_panel(axes, both, whose, bars)
                scatter.corner(axes, _correlated(both, found))
                names.append((axes, both, far))
                words += [_in_words(shift, both, found, far[:1])] if len(both) else []
            alt += f" {whose.label} {_unit(whose, measure)}: {'; '.join(words)}."
        _titles(panels, list(sources.values()), measure)
        figure.legend(handles=_shift_legend(sources), loc="outside lower center", ncols=3)
        scatter.write_names(figure, names, 13 if count == MOST else 18)
    return Drawn(figure, shifts, alt)


def _shifted(shifts: pd.DataFrame, measure: Measure) -> dict[str, Points]:
    """By model and shift the points of the data sets; models without any are left out."""
    rows, found = frames.checked(shifts, SHIFTS, []), {}
    for model in rows["model"].unique():
        of_model = {shift: paired(rows, (model, *SAME), (model, *shift), measure) for shift in MOVED}
        if any(len(both) for both in of_model.values()):
            found[model] = of_model
    if not 1 <= len(found) <= MOST:
        expected = f"one to three models with {measure}s for BASE->BASE and a published shift"
        raise frames.refusal(expected, f"{len(found)} of {rows['model'].nunique()}", "choose other rows.")
    return found


def _limits(points: dict[str, Points], sources: dict[str, Source]) -> dict[str, tuple[float, float]]:
    """By model the range of both axes: one for the published, and one for each of ours."""
    limits = {}
    for model in points:
        theirs = [m for m in points if sources[m].published]
        group = theirs if model in theirs else [model]
        values = pd.concat([both for m in group for both in points[m].values()]).to_numpy()
        room = 0.08 * np.ptp(values) or 1.0
        limits[model] = (values.min() - room, values.max() + 2.8 * room)  # the correlations stand on top
    return limits


def _bars(shifts: pd.DataFrame, model: str, shift: Shift, names: pd.Index) -> list[np.ndarray] | None:
    """Lengths of the error bars of x and y, each [2, n]; None where the table has no intervals."""
    if not {"low", "high"} <= set(shifts.columns):
        return None
    lengths = []
    for pair in (SAME, shift):
        of_pair = (shifts[["model", "train", "test"]] == [model, *pair]).all(axis=1)
        rows = shifts[of_pair].set_index("dataset").loc[names]
        lengths.append(np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]))
    return lengths if np.isfinite(lengths).all() else None


def _shift_panel(axes: Axes, both: pd.DataFrame, whose: Source, bars: list[np.ndarray] | None) -> None:
    if both.empty:
        why = "not shown in the paper" if whose.published else "not run"
        style.remark(axes, np.mean(axes.get_ylim()), why)
        return
    axes.axline((0, 0), slope=1, color=style.PUBLISHED, lw=1, ls="--", zorder=1.2)
    if bars:
        look = {"fmt": "none", "ecolor": whose.dots, "elinewidth": 0.8, "alpha": 0.5, "zorder": 2}
        axes.errorbar(both["x"], both["y"], xerr=bars[0], yerr=bars[1], **look)
    axes.scatter(both["x"], both["y"], s=16, color=whose.dots, alpha=0.85, lw=0, zorder=3)
    scatter.fitted_line(axes, both, whose.color)


def _correlated(both: pd.DataFrame, found: pd.Series) -> str:
    """Both correlations of a panel, or why there are none."""
    if found["reason"]:
        return "" if both.empty else f"no correlation:\n{found['reason']}"
    pairs = (("ρ", "spearman"), ("r", "pearson"))
    return "\n".join(scatter.interval(s, *found[[k, f"{k}_low", f"{k}_high"]]) for s, k in pairs)


def _in_words(shift: Shift, both: pd.DataFrame, found: pd.Series, far: Sequence[str]) -> str:
    """One panel in words."""
    words = f"Spearman {coefficient(found['spearman'])}, Pearson {coefficient(found['pearson'])}"
    words = f"no correlation ({found['reason']})" if found["reason"] else words
    for name in far:
        x, y = both.loc[name, ["x", "y"]]
        words += f", farthest from x = y is {published.label(name)} ({number(x)} to {number(y)})"
    return f"{shift[0]} to {shift[1]} ({frames.sets(len(both))}) {words}"


def _unit(whose: Source, measure: Measure) -> str:
    return f"({whose.unit} per unit multiplier){'²' if measure == 'variance' else ''}"


def _titles(panels: np.ndarray, sources: list[Source], measure: Measure) -> None:
    what = "steerability" if measure == "mean" else "variance of steerability"
    same = f"in distribution: {scatter.arrow(*SAME)}"
    if len(sources) == 1:
        unit = _unit(sources[0], measure)
        for axes, shift in zip(panels.ravel(), MOVED, strict=True):
            axes.set_title(f"{sources[0].label}: {scatter.arrow(*shift)}")
        for below, left in zip(panels[-1], panels[:, 0], strict=True):
            below.set_xlabel(f"{what}, {same}\n{unit}")
            left.set_ylabel(f"{what} under the shift\n{unit}")
        return
    for top, below, whose in zip(panels[0], panels[-1], sources, strict=True):
        unit = _unit(whose, measure)
        if len(sources) == MOST and len(unit) > 30:
            unit = unit.replace(" per unit", "\nper unit")
        top.set_title(f"{whose.label}\n{what}\n{unit}")
        below.set_xlabel(same)
    for axes, shift in zip(panels[:, 0], MOVED, strict=True):
        axes.set_ylabel(scatter.arrow(*shift))


def _shift_legend(sources: dict[str, Source]) -> list[Line2D]:
    handles = [_mark(s.label, color=s.dots) for s in sources.values() if not s.published]
    if any(whose.published for whose in sources.values()):
        handles.append(_mark("published, a data set", color=style.PUBLISHED))
    return [*handles, *scatter.line_legend(), _note("ρ Spearman, r Pearson [95%]")]


# --- figure 6 and its appendix: model against model ------------------------------------------------------------


def figure_6(shifts: pd.DataFrame, first: str, second: str, measure: Measure = "mean") -> Drawn:
    """Steerability of two models (x and y) on the same data sets: in distribution, and under a shift.

    The shift is the paper's, SYS_POS to USER_NEG; where one of the models has no system prompt it is BASE to
    USER_NEG, as the panel says. Each model has its own axis and unit. The three data sets farthest from the
    regression line have names.
    """
    points = _two_models(shifts, first, second, measure)
    x, y = (scatter.source(shifts, model) for model in (first, second))
    what = "variance" if measure == "variance" else "steerability"
    alt, names = f"{WHAT[measure]} of data sets under {x.label} (x) and {y.label} (y).", []
    with style.theme():
        figure, panels = plt.subplots(1, 2, figsize=(style.WIDTH, 4.3))
        for axes, (shift, both) in zip(panels, points.items(), strict=True):
            _two_models_panel(axes, both, x, y)
            place = "in distribution" if shift == SAME else "out of distribution"
            axes.set_title(f"{place}\n{scatter.arrow(*shift)}")
            axes.set_xlabel(f"{x.label}\n{what} {_unit(x, measure)}")
            found, far = correlate(both), _far(both)
            words = f"no rank correlation ({found['reason']})", f"no correlation:\n{found['reason']}"
            if not found["reason"]:
                values = found[["spearman", "spearman_low", "spearman_high"]]
                corner = f"{scatter.interval('ρ', *values)}\n{frames.sets(len(both))}"
                words = f"Spearman {coefficient(values['spearman'])}", corner
            scatter.corner(axes, words[1])
            names.append((axes, both, far))
            labels = ", ".join(map(published.label, far))
            alt += f" {shift[0]} to {shift[1]}, {frames.sets(len(both))}: {words[0]}; farthest from the line: {labels}."
        panels[0].set_ylabel(f"{y.label}\n{what} {_unit(y, measure)}")
        dot = _mark("a data set", color=(x if y.published else y).dots)
        handles = [dot, *scatter.line_legend(identity=False), _note("ρ Spearman [95%]")]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        scatter.write_names(figure, names)
    return Drawn(figure, shifts, alt)


def _two_models(shifts: pd.DataFrame, first: str, second: str, measure: Measure) -> Points:
    """By shift the points x (first) and y (second) of the common data sets."""
    rows = frames.checked(shifts, SHIFTS, [])
    lacking = sorted({first, second} - set(rows["model"]))
    if first == second or lacking:
        found = f"no rows of {', '.join(lacking)}" if lacking else f"{first} twice"
        known = ", ".join(rows["model"].unique())
        raise frames.refusal("two different models of the table", found, f"choose among {known}.")
    rows = rows[rows["model"].isin([first, second])]
    known = rows.dropna(subset=[measure]).groupby(["train", "test"])["model"].nunique()
    moved = OTHER if known.get(OTHER) == 2 or known.get(WITHOUT_SYSTEM) != 2 else WITHOUT_SYSTEM
    wide = {shift: common_sets(rows, *shift, measure)[[first, second]] for shift in (SAME, moved)}
    return {shift: both.set_axis(["x", "y"], axis=1) for shift, both in wide.items()}


def _two_models_panel(axes: Axes, both: pd.DataFrame, x: Source, y: Source) -> None:
    """Points and fit; grey when both models are the paper's, else in the colour of ours."""
    ours = x if y.published else y
    axes.scatter(both["x"], both["y"], s=16, color=ours.dots, alpha=0.85, lw=0, zorder=3)
    scatter.fitted_line(axes, both, ours.dots if x.published and y.published else ours.color)
    axes.margins(0.12)


def scatter_matrix(shifts: pd.DataFrame, train: str, test: str) -> Drawn:
    """Mean steerability of every two models on the data sets that all have, under one shift (appendix).

    Below the diagonal the points, with the regression line and the three farthest from it named; above it
    Spearman's coefficients. Every model keeps its own axis, so units may differ. Models without a value for
    the shift are left out.
    """
    wide = common_sets(frames.checked(shifts, SHIFTS, []), train, test)
    pairs = between_models(shifts, train, test)
    cells = {(pair["first"], pair["second"]): pair for _, pair in pairs.iterrows()}
    sources = [scatter.source(shifts, model) for model in wide]
    count, names = len(sources), []
    some = scatter.NAMED if count <= 3 else 1  # no room for more in a small panel
    with style.theme():
        size = (style.WIDTH, 0.5 + (count - 0.5) * min(2.3, style.WIDTH / (count - 0.25)))
        shares = {"height_ratios": [0.5, *[1] * (count - 1)], "width_ratios": [*[1] * (count - 1), 0.75]}
        figure, panels = plt.subplots(count, count, figsize=size, sharex="col", sharey="row", **shares)
        for (row, column), axes in np.ndenumerate(panels):
            if row > column:
                both = wide.iloc[:, [column, row]].set_axis(["x", "y"], axis=1)
                _two_models_panel(axes, both, sources[column], sources[row])
                axes.set(xlabel=sources[column].label, ylabel=sources[row].label)
                axes.label_outer()
                names.append((axes, both, _far(both)[:some]))
                continue
            label = sources[row].label.replace(": ", ":\n")
            diagonal = f"{label}\n({sources[row].unit}\nper unit multiplier)"
            text = diagonal if row == column else _cell(cells[tuple(wide.columns[[row, column]])])
            axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9)
            axes.axis("off")
        title = f"mean steerability, {scatter.arrow(train, test)}, {frames.sets(len(wide))}"
        figure.suptitle(title, fontsize=10)
        scatter.write_names(figure, names, 15)
    labels = {model: scatter.source(shifts, model).label for model in (*wide, *pairs.attrs["left_out"])}
    words = [
        f"{labels[first]} and {labels[second]} {pair['reason'] or coefficient(pair['spearman'])}"
        for (first, second), pair in cells.items()
    ]
    out = ", ".join(labels[model] for model in pairs.attrs["left_out"])
    alt = (
        f"Mean steerability of every two models, {train} to {test}, on {frames.sets(len(wide))}; "
        f"Spearman's coefficients: {'; '.join(words)}."
    )
    return Drawn(figure, shifts, alt + (f" Without values for this shift: {out}." if out else ""))


def _cell(pair: pd.Series) -> str:
    """A cell above the diagonal."""
    if pair["reason"]:
        return f"no correlation:\n{pair['reason']}"
    rho, low, high = (coefficient(pair[name]) for name in ("spearman", "low", "high"))
    return f"Spearman {rho}\n[{low}, {high}]"


# --- appendix: mean and variance ---------------------------------------------------------------------------------


def mean_variance(shifts: pd.DataFrame) -> Drawn:
    """Variance (y) against mean (x) of the steerability of each data set, for every shift; a panel a model.

    The marker is the training setting, the colour the test setting; Spearman's coefficient is given in
    distribution and, as a range, for the other shifts. The three data sets with the largest variance in
    distribution have names.
    """
    points, names = _moments(shifts), []
    alt = "Variance against mean steerability of data sets, a panel a model."
    with style.theme():
        figure, panels = _grid_of(len(points), 3.3)
        for axes, (model, of_model) in zip(panels.ravel(), points.items(), strict=False):
            whose, ranks = scatter.source(shifts, model), _ranks(of_model)
            axes.set(title=whose.label, xlabel=f"mean ({whose.unit} per unit multiplier)")
            axes.set_ylabel(f"variance ({whose.unit} per unit multiplier)²")
            for (train, test), both in of_model.items():
                look = {"marker": MARKERS[train], "color": style.SETTINGS[test]}
                axes.scatter(both["x"], both["y"], s=20, alpha=0.75, lw=0, zorder=3, **look)
            axes.margins(0.12)
            scatter.corner(axes, ranks)
            same = of_model.get(SAME, pd.DataFrame(columns=["x", "y"], dtype=float))
            others = [both.reset_index(drop=True) for shift, both in of_model.items() if shift != SAME]
            far = list(same["y"].nlargest(scatter.NAMED).index)
            names.append((axes, pd.concat([same, *others]), far))
            alt += f" {whose.label}: {_spoken(ranks)}"
            if far:
                x, y = map(number, same.loc[far[0]])
                largest = f"{y} ({published.label(far[0])}, mean {x})"
                alt += f"; the largest variance in distribution is {largest}"
            alt += "."
        handles = [
            _mark(scatter.arrow(*shift), MARKERS[shift[0]], 5, color=style.SETTINGS[shift[1]])
            for shift in (SAME, *MOVED)
        ]
        scatter.legend(figure, panels, len(points), [*handles, _note("ρ Spearman")], 3)
        scatter.write_names(figure, names)
    return Drawn(figure, shifts, alt)


def _moments(shifts: pd.DataFrame) -> dict[str, Points]:
    """By model and shift the points x (mean) and y (variance); models and shifts without any are left out."""
    rows, found = frames.checked(shifts, SHIFTS, []).dropna(subset=["mean", "variance"]), {}
    for (model, *shift), part in rows.groupby(["model", "train", "test"], sort=False):
        if tuple(shift) in (SAME, *MOVED):
            both = part.set_index("dataset")[["mean", "variance"]].set_axis(["x", "y"], axis=1)
            found.setdefault(model, {})[tuple(shift)] = both
    if not found:
        raise frames.refusal("a model with means and variances of a shift of the paper", "none", "add rows.")
    return found


def _ranks(of_model: Points) -> str:
    """Spearman's coefficients of mean and variance, in distribution and under the shifts."""
    found = {shift: frames.rank_correlation(both["x"], both["y"])[0] for shift, both in of_model.items()}
    moved = [rho for shift, rho in found.items() if shift != SAME and np.isfinite(rho)]
    lines = []
    if np.isfinite(found.get(SAME, np.nan)):
        lines.append(f"ρ {coefficient(found[SAME])} in distribution")
    if moved:
        lines.append(f"ρ {coefficient(min(moved))} to {coefficient(max(moved))} under shifts")
    return "\n".join(lines) or "no rank correlation"


# --- figure 7 and cosines: does a setting that changes the model more ask for another vector? ----------------------


def figure_7(relative: pd.DataFrame) -> Drawn:
    """Relative steerability (y) against the unsteered change of propensity (x); a row a model.

    Left with the pairs whose training and test setting are the same, as in the paper: they lie at (0, 1) by
    definition and pull the correlation down; right without them. The panels of a row share their axes. On the
    right the three pairs farthest from the regression line have the name of their data set.
    """
    rows = frames.checked(relative, RELATIVE, ["relative", "distance"])
    models, names = list(rows["model"].unique()), []
    paper = _stated("spearman-relative-baseline")
    alt = "Relative steerability against the unsteered change of propensity between two prompt settings."
    with style.theme():
        size = (style.WIDTH, 1.0 + 3.1 * len(models))
        figure, panels = plt.subplots(len(models), 2, figsize=size, sharey="row", sharex="row", squeeze=False)
        for pair, model in zip(panels, models, strict=True):
            whose, ways = scatter.source(rows, model), _both_ways(rows[rows["model"] == model])
            words = []
            for axes, (how, kept) in zip(pair, ways.items(), strict=True):
                both = _numbered(kept, "relative")
                axes.axhline(1, color=style.PUBLISHED, lw=1, ls="--", zorder=1.2)
                axes.scatter(both["x"], both["y"], s=12, color=whose.dots, alpha=0.5, lw=0, zorder=3)
                # Without a band: the pairs of a data set are not independent of each other.
                scatter.fitted_line(axes, both, style.BLACK, band=False)
                axes.set_title(f"{whose.label}\n{how} the test setting's own vector")
                axes.set_xlabel(f"unsteered change of propensity ({whose.unit})")
                words.append(_pairs_in_words(both))
                scatter.corner(axes, words[-1])
            names.append((axes, both, _far(both)))  # of the panel on the right
            pair[0].set_ylabel("relative steerability")
            pair[0].margins(x=0.06, y=0.22)
            with_own, without = map(_spoken, words)
            values, lowest = kept["relative"], kept.iloc[kept["relative"].argmin()]
            alt += (
                f" {model}: {with_own} with the test setting's own vector, {without} without; from "
                f"{number(lowest['relative'])} ({published.label(lowest['dataset'])}, {lowest['train']} to "
                f"{lowest['test']}) to {number(values.max())}, median {number(values.median())}."
            )
        own = Line2D([], [], color=style.PUBLISHED, lw=1, ls="--", label="as the test setting's own vector")
        figure.legend(handles=[own, *_pairs_legend(paper)], loc="outside lower center", ncols=2)
        scatter.write_names(figure, names)
    return Drawn(figure, relative, f"{alt} The paper states Spearman {paper}, with it.")


def _both_ways(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """With and without the diagonal; a model of which nothing else is left cannot be drawn."""
    without = rows[~rows["diagonal"].astype(bool)]
    if without.empty:
        found = "training setting = test setting only"
        raise frames.refusal("pairs of two different settings", found, "run all pairs of settings.")
    return {"with": rows, "without": without}


def cosine_distance(cosines: pd.DataFrame) -> Drawn:
    """Cosine of two vectors of a data set (y) against how far apart their settings are (x); a panel a model.

    Pairs with the mean of the five vectors are hollow. The three pairs farthest from the regression line have
    the name of their data set.
    """
    rows, names = frames.checked(cosines, COSINES, ["cosine", "distance"]), []
    models, paper = list(rows["model"].unique()), _stated("spearman-cosine-baseline")
    alt = "Cosine of two vectors of a data set against the unsteered difference between their settings."
    with style.theme():
        figure, panels = _grid_of(len(models), 3.4)
        for axes, model in zip(panels.ravel(), models, strict=False):
            whose, own = scatter.source(rows, model), rows[rows["model"] == model]
            both, mean = _numbered(own, "cosine"), ((own[["first", "second"]] == MEAN).any(axis=1)).to_numpy()
            full, hollow = both[~mean], both[mean]
            axes.scatter(full["x"], full["y"], s=14, color=whose.dots, alpha=0.6, lw=0, zorder=3)
            look = {"fc": "none", "ec": whose.dots, "lw": 0.9, "alpha": 0.8, "zorder": 3}
            axes.scatter(hollow["x"], hollow["y"], s=14, **look)
            scatter.fitted_line(axes, both, style.BLACK, band=False)
            axes.margins(x=0.06, y=0.22)
            axes.set(title=whose.label, ylabel="cosine of two vectors")
            axes.set_xlabel(f"difference of mean unsteered propensity\n({whose.unit})")
            words = _pairs_in_words(both)
            scatter.corner(axes, words)
            names.append((axes, both, _far(both)))
            lowest = own.iloc[own["cosine"].argmin()]
            alt += (
                f" {model}: {_spoken(words)}; cosines from {number(lowest['cosine'])} "
                f"({published.label(lowest['dataset'])}, {lowest['first']} and {lowest['second']}) to "
                f"{number(own['cosine'].max())}."
            )
        dots = [_mark("two settings", color=style.PUBLISHED)]
        mean = "a setting and the mean of the five"
        dots.append(_mark(mean, color=style.PUBLISHED, markerfacecolor="none"))
        scatter.legend(figure, panels, len(models), [*dots, *_pairs_legend(paper)], 2)
        scatter.write_names(figure, names)
    return Drawn(figure, cosines, f"{alt} The paper states Spearman {paper}.")


def _numbered(rows: pd.DataFrame, height: str) -> pd.DataFrame:
    """Columns x (distance), y and dataset, numbered: a data set has many pairs."""
    both = rows[["distance", height, "dataset"]].set_axis(["x", "y", "dataset"], axis=1)
    return both.reset_index(drop=True)


def _pairs_in_words(both: pd.DataFrame) -> str:
    """Spearman's coefficient of a panel, and of how many points."""
    rho, count = frames.rank_correlation(both["x"], both["y"])
    first = "no rank correlation" if np.isnan(rho) else f"ρ {coefficient(rho)}"
    return f"{first}\n{count} pairs, {frames.sets(both['dataset'].nunique())}"


def _stated(name: str) -> str:
    """What the paper states of a coefficient, by model."""
    labels = published.tan()["models"]
    values = {model: published.statistic(name, model) for model in ("llama2-7b", "qwen1.5-14b")}
    return ", ".join(f"{coefficient(value)} ({labels[model]['label']})" for model, value in values.items())


def _pairs_legend(stated: str) -> list[Line2D]:
    line = Line2D([], [], color=style.BLACK, lw=1.5, label="regression line")
    return [line, _note("ρ Spearman"), _note(f"paper: ρ {stated}")]


# --- what they share -------------------------------------------------------------------------------------------


def _grid_of(count: int, height: float) -> tuple[plt.Figure, np.ndarray]:
    """A panel a model, two in a row; `height` in inches each."""
    columns = min(2, count)
    rows = -(-count // columns)
    return plt.subplots(rows, columns, figsize=(style.WIDTH, 1.0 + height * rows), squeeze=False)


def _far(both: pd.DataFrame) -> list[str]:
    """The points to name: those farthest from the regression line."""
    return scatter.farthest(scatter.distance_from_fit(both))


def _spoken(words: str) -> str:
    """The corner of a panel as part of a sentence."""
    return words.replace("\n", ", ").replace("ρ", "Spearman")


def _mark(label: str, marker: str = "o", size: float = 4.5, **look: object) -> Line2D:
    return Line2D([], [], ls="none", marker=marker, ms=size, label=label, **look)


def _note(label: str) -> Line2D:
    return Line2D([], [], ls="none", label=label)
