"""Figures 5 to 7 of Tan et al. 2024 and their appendix: other prompt settings, other models.

A SHIFTS table has one row a data set, model and shift (training and test setting); published rows may be among ours.
"""

from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from companion import published
from companion.figures import scatter, style
from companion.figures.scatter import Source, arrow, coefficient, note
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

Points = dict[tuple[str, ...], pd.DataFrame]  # by shift, columns x and y, a row a data set


def figure_5(shifts: pd.DataFrame, measure: Measure = "mean") -> Drawn:
    """Steerability in distribution (x) against that under four shifts of prompt setting (y), with 95% intervals.

    One model: a panel a shift. Two or three: a column a model, a row a shift. The sets farthest from x = y are named.
    """
    points = _shifted(shifts, measure)
    sources, count = {model: scatter.source(shifts, model) for model in points}, len(points)
    shape, height = ((len(MOVED), count), 9.6) if count > 1 else ((2, 2), 6.6)
    alt = f"{WHAT[measure]} of data sets in distribution (BASE to BASE) against shifts of prompt setting."
    with style.drawing(height, *shape, squeeze=False) as (figure, panels):
        columns, names = panels.T if count > 1 else panels.reshape(1, -1), []
        for column, (model, of_model) in zip(columns, points.items(), strict=True):
            whose, words = sources[model], []
            alike = [m for m in points if sources[m].published] if whose.published else [model]
            drawn = np.concatenate([both.to_numpy().ravel() for m in alike for both in points[m].values()])
            low, high = np.nanmin(drawn), np.nanmax(drawn)
            room = 0.06 * (high - low) or 1.0
            limits = low - room, high + 2 * room  # the correlation stands on top
            apart = pd.DataFrame({shift: both["y"] - both["x"] for shift, both in of_model.items()})
            far = scatter.farthest(apart.abs().max(axis=1))  # the same sets in every panel
            for axes, (shift, both) in zip(column, of_model.items(), strict=True):
                axes.set(xlim=limits, ylim=limits)
                axes.locator_params(nbins=3 if count == MOST else 5)
                if both.empty:
                    why = "not shown in the paper" if whose.published else "not run"
                    style.remark(axes, np.mean(limits), why)
                    continue
                axes.axline((0, 0), slope=1, color=style.PUBLISHED, lw=1, ls="--", zorder=1.2)
                _cloud(axes, both, whose.dots, whose.color)
                corner, said = _told(both)
                scatter.corner(axes, corner)
                names.append((axes, both, [name for name in far if name in both.index]))
                for name in scatter.farthest(both["y"] - both["x"], 1):
                    x, y = map(number, both.loc[name, ["x", "y"]])
                    said += f", farthest from x = y is {published.label(name)} ({x} to {y})"
                words.append(f"{shift[0]} to {shift[1]} ({style.sets(len(both))}) {said}")
            alt += f" {whose.label} {_unit(whose, measure)}: {'; '.join(words)}."
        _titles(panels, list(sources.values()), measure)
        ours = [source for source in sources.values() if not source.published]
        handles = [style.dot(s.label if count > 1 else "a data set", color=s.dots) for s in ours]
        if len(handles) < count:
            handles.append(style.dot("published, a data set", color=style.PUBLISHED))
        style.legend(figure, [*handles, *scatter.line_legend()], 3)
        scatter.write_names(figure, names, 13 if count == MOST else 18)
    return Drawn(figure, shifts, alt)


def _shifted(shifts: pd.DataFrame, measure: Measure) -> dict[str, Points]:
    """By model and shift the points of the data sets; models without any are left out.

    Of means there are x_low, y_low, x_high and y_high, too, where the table has intervals.
    """
    rows, found = style.checked(shifts, SHIFTS, []), {}
    ends = [end for end in ("low", "high") if measure == "mean" and end in rows]
    for model in rows["model"].unique():
        of_model = {}
        for shift in MOVED:
            sides = (model, *SAME), (model, *shift)
            beside = [paired(rows, *sides, end).add_suffix(f"_{end}") for end in ends]
            of_model[shift] = paired(rows, *sides, measure).join(beside)
        if any(len(both) for both in of_model.values()):
            found[model] = of_model
    expected = f"one to three models with {measure}s for BASE->BASE and a published shift"
    few = f"{len(found)} of {rows['model'].nunique()}"
    style.need(1 <= len(found) <= MOST, expected, few, "choose other rows.")
    return found


def _cloud(axes: Axes, both: pd.DataFrame, dots: str, line: str) -> None:
    """A point a data set, with its intervals where all have them, and the line fitted to the points."""
    if "x_low" in both and np.isfinite(both).all(axis=None):
        x, y = ([both[side] - both[f"{side}_low"], both[f"{side}_high"] - both[side]] for side in "xy")
        look = {"fmt": "none", "ecolor": dots, "elinewidth": 0.8, "alpha": 0.5, "zorder": 2}
        axes.errorbar(both["x"], both["y"], xerr=x, yerr=y, **look)
    scatter.cloud(axes, both, dots, 16, 0.85)
    scatter.fitted_line(axes, both, line)


def _told(both: pd.DataFrame, below: str = "") -> tuple[str, str]:
    """The rank correlation of a panel for its corner, with its 95% interval, and in a sentence; or why there is none.

    It alone, as in the paper: Pearson's is 1.00 wherever a few sets are steered and the others lie at zero.
    """
    found = correlate(both)
    if found["reason"]:
        return f"no correlation:\n{found['reason']}", f"no rank correlation ({found['reason']})"
    rho = found[["spearman", "spearman_low", "spearman_high"]]
    return scatter.interval("ρ", *rho) + below, f"Spearman {coefficient(found['spearman'])}"


def _unit(whose: Source, measure: Measure = "mean") -> str:
    return f"({whose.unit} per unit multiplier){'²' if measure == 'variance' else ''}"


def _titles(panels: np.ndarray, sources: list[Source], measure: Measure) -> None:
    what = "steerability" if measure == "mean" else "variance of steerability"
    same, units = f"in distribution: {arrow(*SAME)}", [_unit(whose, measure) for whose in sources]
    if len(sources) == 1:
        panels[0, 0].figure.suptitle(sources[0].label, fontsize=10)
        for axes, shift in zip(panels.flat, MOVED, strict=True):
            axes.set_title(arrow(*shift))
        for below, left in zip(panels[-1], panels[:, 0], strict=True):
            below.set_xlabel(f"{what}\n{same}\n{units[0]}")
            left.set_ylabel(f"{what} under the shift\n{units[0]}")
        return
    for column, whose, unit in zip(panels.T, sources, units, strict=True):
        narrow = len(sources) == MOST and len(unit) > 30
        unit = unit.replace(" per unit", "\nper unit") if narrow else unit
        column[0].set_title(f"{style.lines(whose.label, 26 if narrow else 40)}\n{what}\n{unit}")
        column[-1].set_xlabel(same)
    for axes, shift in zip(panels[:, 0], MOVED, strict=True):
        axes.set_ylabel(arrow(*shift))


def figure_6(shifts: pd.DataFrame, first: str, second: str, measure: Measure = "mean") -> Drawn:
    """Steerability of two models (x and y) on the same data sets: in distribution, and under a shift.

    The shift is the paper's, SYS_POS to USER_NEG; BASE to USER_NEG where a model has no system prompt.
    """
    rows = style.checked(shifts, SHIFTS, [])
    lacking = sorted({first, second} - set(rows["model"]))
    found = f"no rows of {', '.join(lacking)}" if lacking else f"{first} twice"
    next_step = f"choose among {', '.join(rows['model'].unique())}."
    style.need(first != second and not lacking, "two different models of the table", found, next_step)
    rows = rows[rows["model"].isin([first, second])]
    known = rows.dropna(subset=[measure]).groupby(["train", "test"])["model"].nunique()
    moved = OTHER if known.get(OTHER) == 2 or known.get(WITHOUT_SYSTEM) != 2 else WITHOUT_SYSTEM
    wide = {shift: common_sets(rows, *shift, measure)[[first, second]] for shift in (SAME, moved)}
    x, y = (scatter.source(shifts, model) for model in (first, second))
    what = "variance" if measure == "variance" else "steerability"
    alt, names = f"{WHAT[measure]} of data sets under {x.label} (x) and {y.label} (y).", []
    with style.drawing(4.3, 1, 2) as (figure, panels):
        for axes, (shift, both) in zip(panels, wide.items(), strict=True):
            both, sets = both.set_axis(["x", "y"], axis=1), style.sets(len(both))
            _two_models(axes, both, x, y)
            place = "in distribution" if shift == SAME else "out of distribution"
            axes.set(title=f"{place}\n{arrow(*shift)}", xlabel=f"{x.label}\n{what} {_unit(x, measure)}")
            corner, said = _told(both, f"\n{sets}")
            scatter.corner(axes, corner)
            names.append((axes, both, scatter.off_line(both)))
            labels = ", ".join(map(published.label, names[-1][-1]))
            alt += f" {shift[0]} to {shift[1]}, {sets}: {said}; farthest from the line: {labels}."
        panels[0].set_ylabel(f"{y.label}\n{what} {_unit(y, measure)}")
        dot = style.dot("a data set", color=(x if y.published else y).dots)
        style.legend(figure, [dot, *scatter.line_legend(identity=False)], 4)
        scatter.write_names(figure, names)
    return Drawn(figure, shifts, alt)


def _two_models(axes: Axes, both: pd.DataFrame, x: Source, y: Source) -> None:
    """Points and fit; grey when both models are the paper's, else in the colour of ours."""
    ours = x if y.published else y
    _cloud(axes, both, ours.dots, ours.dots if ours.published else ours.color)
    axes.margins(0.12)


def scatter_matrix(shifts: pd.DataFrame, train: str, test: str) -> Drawn:
    """Mean steerability of every two models on the data sets that all have, under one shift (appendix).

    Below the diagonal the points, above it Spearman's coefficients; models without a value for the shift are left out.
    """
    wide = common_sets(style.checked(shifts, SHIFTS, []), train, test)
    pairs = between_models(shifts, train, test)
    cells = {(pair["first"], pair["second"]): pair for _, pair in pairs.iterrows()}
    sources, sets = [scatter.source(shifts, model) for model in wide], style.sets(len(wide))
    labels, names, count = ["\n".join(wrap(source.label, 18)) for source in sources], [], len(sources)
    height = 0.5 + (count - 0.5) * min(2.3, style.WIDTH / (count - 0.25))
    shares = {"height_ratios": [0.5, *[1] * (count - 1)], "width_ratios": [*[1] * (count - 1), 0.75]}
    with style.drawing(height, count, count, sharex="col", sharey="row", **shares) as (figure, panels):
        for (row, column), axes in np.ndenumerate(panels):
            if row > column:
                both = wide.iloc[:, [column, row]].set_axis(["x", "y"], axis=1)
                _two_models(axes, both, sources[column], sources[row])
                axes.set(xlabel=labels[column], ylabel=labels[row])
                axes.label_outer()
                some = scatter.NAMED if count <= 3 else 1  # no room for more in a small panel
                names.append((axes, both, scatter.off_line(both)[:some]))
                continue
            text = f"{labels[row]}\n({sources[row].unit}\nper unit multiplier)"
            if row < column:
                pair = cells[tuple(wide.columns[[row, column]])]
                rho = scatter.interval("Spearman", *pair[["spearman", "low", "high"]])
                text = f"no correlation:\n{pair['reason']}" if pair["reason"] else rho.replace(" [", "\n[")
            axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9)
            axes.axis("off")
        figure.suptitle(f"mean steerability, {arrow(train, test)}, {sets}", fontsize=10)
        scatter.write_names(figure, names, 15)
    of = {model: scatter.source(shifts, model).label for model in shifts["model"].unique()}
    ranks = {both: pair["reason"] or coefficient(pair["spearman"]) for both, pair in cells.items()}
    words = [f"{of[first]} and {of[second]} {rank}" for (first, second), rank in ranks.items()]
    alt = f"Mean steerability of every two models, {train} to {test}, on {sets}; Spearman's coefficients: "
    alt += f"{'; '.join(words)}."
    out = ", ".join(of[model] for model in pairs.attrs["left_out"])
    return Drawn(figure, shifts, alt + (f" Without values for this shift: {out}." if out else ""))


def mean_variance(shifts: pd.DataFrame) -> Drawn:
    """Variance (y) against mean (x) of the steerability of each data set, for every shift; a panel a model.

    The marker is the training setting, the colour the test setting.
    """
    points, names = _moments(shifts), []
    alt = "Variance against mean steerability of data sets, a panel a model."
    with style.grid(len(points), 2, 1.0, 3.3) as (figure, panels, spare):
        for axes, (model, of_model) in zip(panels, points.items(), strict=True):
            whose, ranks = scatter.source(shifts, model), _ranks(of_model)
            axes.set(title=whose.label, xlabel=f"mean {_unit(whose)}", ylabel=f"variance {_unit(whose)}²")
            for (train, test), both in of_model.items():
                scatter.cloud(axes, both, style.SETTINGS[test], 20, 0.75, marker=MARKERS[train])
            axes.margins(0.12)
            scatter.corner(axes, ranks)
            same = of_model.get(SAME, pd.DataFrame(columns=["x", "y"], dtype=float))
            moved = (both for at, both in of_model.items() if at != SAME)
            others = [both.rename_axis("dataset").reset_index() for both in moved]
            far = list(same["y"].nlargest(scatter.NAMED).index)
            names.append((axes, pd.concat([same.assign(dataset=same.index), *others]), far))
            alt += f" {whose.label}: {_spoken(ranks)}"
            if far:
                x, y = map(number, same.loc[far[0]])
                alt += f"; the largest variance in distribution is {y} ({published.label(far[0])}, mean {x})"
            alt += "."
        looks = {shift: (MARKERS[shift[0]], style.SETTINGS[shift[1]]) for shift in (SAME, *MOVED)}
        handles = [style.dot(arrow(*shift), mark, 5, color=color) for shift, (mark, color) in looks.items()]
        style.legend(figure, [*handles, note(label="ρ Spearman")], 3, spare)
        scatter.write_names(figure, names)
    return Drawn(figure, shifts, alt)


def _moments(shifts: pd.DataFrame) -> dict[str, Points]:
    """By model and shift the points x (mean) and y (variance); models and shifts without any are left out."""
    rows, found = style.checked(shifts, SHIFTS, []).dropna(subset=["mean", "variance"]), {}
    for (model, *shift), part in rows.groupby(["model", "train", "test"], sort=False):
        if tuple(shift) in (SAME, *MOVED):
            both = part.set_index("dataset")[["mean", "variance"]].set_axis(["x", "y"], axis=1)
            found.setdefault(model, {})[tuple(shift)] = both
    style.need(bool(found), "a model with means and variances of a shift of the paper", "none", "add rows.")
    return found


def _ranks(of_model: Points) -> str:
    """Spearman's coefficients of mean and variance, in distribution and under the shifts."""
    found = {shift: style.rank_correlation(both["x"], both["y"])[0] for shift, both in of_model.items()}
    same, moved = found.pop(SAME, np.nan), [rho for rho in found.values() if np.isfinite(rho)]
    lines = [f"ρ {coefficient(same)} in distribution"] if np.isfinite(same) else []
    lines += [f"ρ {coefficient(min(moved))} to {coefficient(max(moved))} under shifts"] if moved else []
    return "\n".join(lines) or "no rank correlation"


def figure_7(relative: pd.DataFrame) -> Drawn:
    """Relative steerability (y) against the unsteered change of propensity (x); a row a model.

    Left with the pairs of one and the same setting, as in the paper: they lie at (0, 1) by definition and pull the
    correlation down; right without them.
    """
    rows = style.checked(relative, RELATIVE, ["relative", "distance"])
    models, names, paper = list(rows["model"].unique()), [], _stated("spearman-relative-baseline")
    alt = "Relative steerability against the unsteered change of propensity between two prompt settings."
    shape = {"squeeze": False, "sharex": "row", "sharey": "row"}
    with style.drawing(1.0 + 3.1 * len(models), len(models), 2, **shape) as (figure, panels):
        for pair, model in zip(panels, models, strict=True):
            whose, own, words = scatter.source(rows, model), rows[rows["model"] == model], []
            without, found = own[~own["diagonal"].astype(bool)], "training setting = test setting only"
            style.need(len(without), "pairs of two different settings", found, "run all pairs of settings.")
            for axes, how, kept in zip(pair, ("with", "without"), (own, without), strict=True):
                axes.axhline(1, color=style.PUBLISHED, lw=1, ls="--", zorder=1.2)
                both = kept.reset_index(drop=True).rename(columns={"distance": "x", "relative": "y"})
                scatter.cloud(axes, both, whose.dots, 12, 0.5)
                axes.set_title(f"{whose.label}\n{how} the test setting's own vector")
                axes.set_xlabel(f"unsteered change of propensity ({whose.unit})")
                words.append(_related(axes, both))
            names.append((axes, both, scatter.off_line(both)))  # of the panel on the right
            pair[0].set_ylabel("relative steerability")
            ends = _ends(kept, "relative", "{train} to {test}")
            alt += f" {whose.label}: {words[0]} with the test setting's own vector, {words[1]} without; from "
            alt += f"{ends}, median {number(kept['relative'].median())}."
        own = style.line("as the test setting's own vector", 1, style.PUBLISHED, "--")
        style.legend(figure, [own, *_pairs_legend(paper)])
        scatter.write_names(figure, names)
    return Drawn(figure, relative, f"{alt} The paper states Spearman {paper}, with it.")


def cosine_distance(cosines: pd.DataFrame) -> Drawn:
    """Cosine of two vectors of a data set (y) against how far apart their settings are (x); a panel a model."""
    rows, names = style.checked(cosines, COSINES, ["cosine", "distance"]), []
    models, paper = list(rows["model"].unique()), _stated("spearman-cosine-baseline")
    alt = "Cosine of two vectors of a data set against the unsteered difference between their settings."
    with style.grid(len(models), 2, 1.0, 3.4) as (figure, panels, spare):
        for axes, model in zip(panels, models, strict=True):
            whose, own = scatter.source(rows, model), rows[rows["model"] == model]
            both = own.reset_index(drop=True).rename(columns={"distance": "x", "cosine": "y"})
            mean = (both[["first", "second"]] == MEAN).any(axis=1)
            scatter.cloud(axes, both[~mean], whose.dots, 14, 0.6)
            look = {"fc": "none", "ec": whose.dots, "lw": 0.9, "alpha": 0.8, "zorder": 3}
            axes.scatter("x", "y", data=both[mean], s=14, **look)
            words = _related(axes, both)
            axes.set(title=whose.label, ylabel="cosine of two vectors")
            axes.set_xlabel(f"difference of mean unsteered propensity\n({whose.unit})")
            names.append((axes, both, scatter.off_line(both)))
            alt += f" {whose.label}: {words}; cosines from {_ends(own, 'cosine', '{first} and {second}')}."
        dots = [style.dot("two settings", color=style.PUBLISHED)]
        dots.append(style.dot("a setting and the mean of the five", color=style.PUBLISHED, mfc="none"))
        style.legend(figure, [*dots, *_pairs_legend(paper)], 2, spare)
        scatter.write_names(figure, names)
    return Drawn(figure, cosines, f"{alt} The paper states Spearman {paper}.")


def _ends(rows: pd.DataFrame, column: str, pair: str) -> str:
    """The lowest value of a column, with its data set and pair of settings, and the highest."""
    lowest = rows.iloc[rows[column].argmin()]
    where = f"{published.label(lowest['dataset'])}, {pair.format_map(lowest)}"
    return f"{number(lowest[column])} ({where}) to {number(rows[column].max())}"


def _related(axes: Axes, both: pd.DataFrame) -> str:
    """Draw the line of a panel, without a band as pairs of a set depend on each other, and write the coefficients: over
    all pairs, as the paper has it, and the mean of those within sets."""
    scatter.fitted_line(axes, both, style.BLACK, band=False)
    rho, count = style.rank_correlation(both["x"], both["y"])
    first = "no rank correlation" if np.isnan(rho) else f"ρ {coefficient(rho)}"
    parts = [style.rank_correlation(part["x"], part["y"])[0] for _, part in both.groupby("dataset")]
    if len(parts) > 1 and np.isfinite(parts).any():
        first += f", within sets {coefficient(np.nanmean(parts))}"
    text = f"{first}\n{count} pairs, {style.sets(len(parts))}"
    scatter.corner(axes, text)
    axes.margins(x=0.06, y=0.22)
    return _spoken(text)


def _stated(name: str) -> str:
    """What the paper states of a coefficient, by model."""
    labels = {model: published.tan()["models"][model]["label"] for model in ("llama2-7b", "qwen1.5-14b")}
    return ", ".join(f"{coefficient(published.statistic(name, m))} ({label})" for m, label in labels.items())


def _pairs_legend(stated: str) -> list[Line2D]:
    return [style.line("regression line", 1.5), note(label="ρ Spearman"), note(label=f"paper: ρ {stated}")]


def _spoken(words: str) -> str:
    """The corner of a panel as part of a sentence."""
    return words.replace("\n", ", ").replace("ρ", "Spearman")
