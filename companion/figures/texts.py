"""Text or concept: rank correlations with their null and their ceiling, and data sets in the plane of two numbers."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from companion.figures import scatter, style
from companion.figures.style import Drawn
from companion.tan.ranks import KINDS, WITHIN
from companion.tan.sides import LESS, MORE, OPEN
from companion.tan.steered import BROKEN
from companion.tan.texts import PAIRS

HUES = (style.VERMILLION, style.BLUE, style.PUBLISHED, style.GREEN)
COLORS = dict(zip(PAIRS, HUES, strict=True)) | {"models": style.VERMILLION, "formats": style.BLUE}
WORDS = {"models": "two models, one format", "formats": "two formats, one model"}
MARKS = {"all": "D"} | dict(zip(KINDS, ("^", "s"), strict=True))
TEXTS = {MORE: style.VERMILLION, LESS: style.BLUE, OPEN: "white"}
CONTROLS = (style.BLACK, style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE)
OUTLINE = {"fc": "none", "ec": style.BLACK}
PAPERS = " (papers' data)"


def correlations(pairs: pd.DataFrame, by: str = "pair") -> Drawn:
    """A row a pair of rankings (`tan.texts.agreement`, or with `by="kind"` `tan.formats.agreement`).

    Filled: within kinds, with its interval; open: over all sets, and each kind alone; a bar: the ceiling; a grey band:
    nine in ten placebo vectors.
    """
    style.checked(pairs, (by, "first", "second", "sets", "estimate", "low", "high"), [])
    keys = [by, "first", "second"]
    wide = pairs.dropna(subset="estimate").pivot(index=keys, columns="sets")
    wide = wide.reindex(pairs[keys].drop_duplicates()).dropna(how="all").dropna(axis=1, how="all")
    style.need(not wide.empty, "a correlation over three data sets or more", "none", "add data sets.")
    main = WITHIN if ("estimate", WITHIN) in wide else "all"  # three sets have no three of a kind
    shown, kinds = wide.xs(main, axis=1, level="sets"), wide.index.get_level_values(by)
    names = [_label(first, second) for _, first, second in wide.index]
    height = 1.3 + 0.27 * len(names) + 0.17 * sum(name.count("\n") for name in names)
    with style.drawing(height) as (figure, axes):
        marks = _rows(axes, names, shown, [COLORS[pair] for pair in kinds])
        handles = [style.dot(WORDS.get(pair, pair), color=COLORS[pair]) for pair in dict.fromkeys(kinds)]
        below = np.arange(len(wide)) + 0.3  # beside the filled point, which often is at the same place
        for sets, mark in MARKS.items():
            if sets != main and ("estimate", sets) in wide:
                axes.scatter(wide["estimate", sets], below, marker=mark, s=20, lw=0.8, **OUTLINE)
                handles.append(style.dot(f"{sets} sets", mark, markerfacecolor="none", color=style.BLACK))
        style.legend(figure, [*handles, *marks], 3)
    alt = f"Rank correlations of mean steerability over data sets, {main}: {_in_words(shown, names)}."
    return Drawn(figure, pairs, alt)


def items(table: pd.DataFrame) -> Drawn:
    """Left: slopes of two models within sets; right: items that are anti-steerable in both (`tan.texts.shared_items`)."""
    style.checked(table, ("first", "second", "estimate", "low", "high", "joint", "chance"), ["joint"])
    names, rows = [_label(*row) for row in table[["first", "second"]].to_numpy()], np.arange(len(table))
    own, bar = COLORS[PAIRS[0]], {"marker": "|", "s": 110}
    with style.drawing(1.5 + 0.45 * len(table), 1, 2, sharey=True) as (figure, (left, right)):
        marks = _rows(left, names, table, [own] * len(table))
        left.set(xlim=(-0.3, 1.02), xlabel="rank correlation of slopes\nwithin data sets, 95% interval")
        right.hlines(rows, 100 * table["joint_low"], 100 * table["joint_high"], color=own, lw=1.6)
        for suffix, place, *colors in (("", 0, own, style.BLACK), ("_placebo", 0.22, *[style.PUBLISHED] * 2)):
            for what, color, mark in zip(("joint", "chance"), colors, ({"s": 24}, bar), strict=True):
                right.scatter(100 * table[what + suffix], rows + place, color=color, zorder=3, **mark)
        right.set_xlabel("items anti-steerable in both, %\nbar: if items were shuffled within sets")
        right.set_xlim(0, None)
        other = style.dot("second model's placebo vectors", color=style.PUBLISHED)
        style.legend(figure, [style.dot("two models", color=own), other, *marks], 3)
    alt = f"Within sets the slopes of the same items correlate between models: {_in_words(table, names)}."
    return Drawn(figure, table, alt)


def sides(found: pd.DataFrame, unit: str = "nats per token per unit") -> Drawn:
    """Each data set by what the vector does to its two texts (`tan.sides.by_set`): below the diagonal it steers."""
    style.checked(found, ("run", "dataset", "matching", "other", "text", "steerable"), ["matching", "other"])
    runs = list(found["run"].unique())
    with _squares(len(runs)) as (figure, panels, _):
        for axes, run in zip(panels, runs, strict=True):
            part = found[found["run"] == run]
            ends = style.span([part["matching_low"], part["matching_high"], part["other"]])
            axes.plot(ends, ends, color=style.PUBLISHED, ls="--", lw=1)
            for zero in (axes.axvline, axes.axhline):
                zero(0, color=style.BLACK, lw=0.9)
            axes.hlines(part["other"], part["matching_low"], part["matching_high"], color=style.FAINT, lw=1)
            for text, color in TEXTS.items():
                some = part[part["steerable"] & (part["text"] == text)]
                axes.scatter(some["matching"], some["other"], c=color, ec=style.BLACK, lw=0.6, s=24, zorder=3)
            rest = part[~part["steerable"]]
            axes.scatter(rest["matching"], rest["other"], marker="x", c=style.PUBLISHED, lw=0.9, s=20)
            style.pointed(axes, part["matching"], part["other"], part["dataset"])
            axes.set(title=style.model_label(run), xlim=ends, ylim=ends)
            axes.locator_params(nbins=5)
        _outer(panels, f"slope of the matching text\n({unit})", "slope of the other text")
        edge = {"markeredgecolor": style.BLACK, "markeredgewidth": 0.6}
        handles = [style.dot(f"matching text {text}", markerfacecolor=c, **edge) for text, c in TEXTS.items()]
        handles.append(style.dot("not steerable", "x", color=style.PUBLISHED))
        handles.append(style.line("both alike", 1, style.PUBLISHED, "--"))
        style.legend(figure, handles)
    counts = found[found["steerable"]].groupby(["run", "text"], sort=False).size()
    rows = (f"{count} {text} in {style.model_label(run)}" for (run, text), count in counts.items())
    said = "; ".join(rows) or "none"
    alt = f"Slopes of the log-probability of either text, a point a data set. Matching text of steerable sets: {said}."
    return Drawn(figure, found, alt)


def written(table: pd.DataFrame) -> Drawn:
    """By how much a steered text surprises more than the unsteered one, over the dose (`tan.steered.written`)."""
    style.checked(table, ("dataset", "steerable", "multiplier", "dose", "surprise"), ["dose"])
    with style.drawing(3.2) as (figure, axes):
        for color, (name, part) in zip(CONTROLS[1:], table.groupby("dataset", sort=False), strict=False):
            more = part["surprise"] - part.loc[part["multiplier"] == 0, "surprise"].iloc[0]
            for sign, look in ((1, "o-"), (-1, "s:")):
                side = part[sign * part["multiplier"] >= 0].sort_values("dose")
                axes.plot(side["dose"], more[side.index], look, color=color, ms=4.5)
            label = style.lines(f"{part['steerable'].iloc[0]} steerable: {name}", 60)
            axes.plot([], [], "o", color=color, label=label)
        axes.axhline(BROKEN, color=style.BLACK, lw=0.9, ls="--", zorder=1.5)
        axes.set_xscale("symlog", linthresh=0.1)
        ticks = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xlim(-0.01, 1.15 * table["dose"].max())
        axes.set(xlabel="dose (nats a token on a neutral text)")
        axes.set_ylabel("surprise added\n(nats a token)")
        handles, _ = axes.get_legend_handles_labels()
        signs = [style.dot("with the vector", ls="-", color=style.BLACK)]
        signs += [style.dot("against it", "s", ls=":", color=style.BLACK)]
        signs += [style.line("counts as broken", 0.9, style.BLACK, "--")]
        style.legend(figure, [*handles, *signs])
    worst = table.loc[table["dose"].idxmax()]
    alt = f"Surprise of steered texts by dose, up to {worst['dose']:.2g} nats, where a text costs {worst['surprise']:.2g} a token."
    return Drawn(figure, table, alt)


def controls(table: pd.DataFrame) -> Drawn:
    """Findings again under every control, one above the other (`tan.controls.controlled`)."""
    style.checked(table, ("control", "finding", "first", "second", "estimate", "low", "high"), [])
    known = table.dropna(subset="estimate")
    style.need(not known.empty, "a correlation over three data sets or more", "none", "add data sets.")
    groups, names = known.groupby(["finding", "first", "second"], sort=False), list(known["control"].unique())
    with style.drawing(1.5 + 0.62 * len(groups)) as (figure, axes):
        for place, (_, part) in enumerate(groups):
            rows = place + 0.15 * (part["control"].map(names.index) - (len(names) - 1) / 2)
            colors = part["control"].map(dict(zip(names, CONTROLS, strict=False)))
            style.intervals(axes, part, rows, colors, 18, 1.3)
        _frame(axes, [f"{finding}:\n{_label(*pair)}" for finding, *pair in groups.groups])
        handles = [style.dot(name, color=color) for name, color in zip(names, CONTROLS, strict=False)]
        style.legend(figure, handles)
    ends = groups["estimate"].agg(["min", "max"])
    words = "{:.2f} to {:.2f} for {} ({})".format
    said = (words(*both, name, " ".join(_label(*pair).split())) for (name, *pair), both in ends.T.items())
    alt = f"Lowest and highest correlation over {len(names)} controls: {'; '.join(said)}."
    return Drawn(figure, table, alt)


def halves(table: pd.DataFrame) -> Drawn:
    """Correlation with a shift on the same items (open) and on disjoint halves (filled), `tan.texts.disjoint`."""
    style.checked(table, ("run", "format", "train", "test", "shared", "estimate", "low", "high"), ["shared"])
    runs = (f"{style.model_label(row.run)}, {row.format}" for row in table.itertuples())
    shifts = map(scatter.arrow, table["train"], table["test"])
    names = [f"{run}: {shift}" for run, shift in zip(runs, shifts, strict=True)]
    with style.drawing(1.3 + 0.24 * len(table)) as (figure, axes):
        marks = _rows(axes, names, table, [style.FORMATS[form] for form in table["format"]])
        axes.scatter(table["shared"], range(len(table)), lw=0.9, s=24, zorder=4, **OUTLINE)
        colors = {form: style.FORMATS[form] for form in table["format"].unique()}
        handles = [style.dot(f"disjoint halves, {form}", color=color) for form, color in colors.items()]
        handles.append(style.dot("the same items", markerfacecolor="none", color=style.BLACK))
        style.legend(figure, [*handles, *marks], 3)
    same = "; ".join(f"{value:.2f} for {name}" for value, name in zip(table["shared"], names, strict=True))
    alt = f"Rank correlation of steerability in and out of distribution on the same items: {same}. "
    alt += f"On disjoint halves: {_in_words(table, names) or 'none'}."
    return Drawn(figure, table, alt)


def sets(points: pd.DataFrame, xlabel: str, ylabel: str, texts: Mapping[str, str]) -> Drawn:
    """A panel for each value of `panel`, in which each data set of a table (dataset, kind, x, y) is a point.

    `texts` says in a corner of each panel what its correlation is.
    """
    style.checked(points, ("panel", "dataset", "kind", "x", "y"), ["x", "y"])
    named = []
    with _squares(len(texts)) as (figure, panels, _):
        for axes, (name, text) in zip(panels, texts.items(), strict=True):
            part = points[points["panel"] == name].set_index("dataset")
            for kind in KINDS:
                some, color = part[part["kind"] == kind], style.model_color(name)
                scatter.cloud(axes, some, color, 22, 0.75, marker=MARKS[kind])
                scatter.fitted_line(axes, some, color, band=False)
            axes.set_title(style.model_label(name))
            axes.locator_params(nbins=5)
            scatter.corner(axes, text)
            named.append((axes, part, scatter.off_line(part)[:2]))
        _outer(panels, xlabel, ylabel)
        words = {kind: f"{kind} sets, with their line" for kind in KINDS if kind in set(points["kind"])}
        handles = [style.dot(word, MARKS[kind], color=style.BLACK) for kind, word in words.items()]
        style.legend(figure, handles)
        scatter.write_names(figure, named)
    said = "; ".join(f"{style.model_label(name)}: {text}" for name, text in texts.items())
    alt = f"{ylabel} against {xlabel}, a point a data set. {said}."
    return Drawn(figure, points, " ".join(alt.split()))


def _rows(axes: Axes, names: list[str], table: pd.DataFrame, colors: list[str]) -> list[Line2D]:
    """Estimates with intervals, a row each; behind them how far placebos came, and bars where noise sets a ceiling.

    Returns what a legend says of the bars and bands that there are.
    """
    rows, none = range(len(table)), pd.Series(np.nan, table.index)
    low, high, ceiling = (table.get(name, none) for name in ("placebo_low", "placebo_high", "ceiling"))
    axes.barh(rows, high - low, left=low, height=0.55, color=style.FAINT, alpha=0.5, lw=0)
    style.intervals(axes, table, rows, colors, 34, 1.6)
    axes.scatter(ceiling, rows, marker="|", s=160, color=style.BLACK, lw=1.4, zorder=3)
    _frame(axes, names)
    bar = style.dot("ceiling of the noise", "|", 9, color=style.BLACK, markeredgewidth=1.4)
    band = style.line("nine in ten placebo vectors", 6, style.FAINT)
    return [mark for mark, values in ((bar, ceiling), (band, low)) if values.notna().any()]


def _frame(axes: Axes, names: list[str]) -> None:
    axes.axvline(0, color=style.BLACK, lw=0.9)
    style.name_rows(axes, names)
    axes.tick_params(axis="y", labelsize=style.SMALL)
    axes.set(xlim=(-1.02, 1.02), xlabel="Spearman's rank correlation, 95% interval")


def _squares(count: int) -> AbstractContextManager[tuple]:
    """Square panels, two or three in a row."""
    return style.grid(count, 3 if count == 3 else 2, 0.8, 2.7 if count > 1 else 4.5)


def _outer(panels: list[Axes], xlabel: str, ylabel: str) -> None:
    """Labels at the left and below the lowest panel of every column only."""
    columns = panels[0].get_gridspec().ncols
    for place, axes in enumerate(panels):
        axes.set_ylabel("" if place % columns else ylabel)
        axes.set_xlabel(xlabel if place + columns >= len(panels) else "")


def _label(first: str, second: str) -> str:
    """Both sides in few words: what they share is said once."""
    papers, ends = PAPERS in first and PAPERS in second, [style.model_label(run) for run in (first, second)]
    one, other = (end.removesuffix(PAPERS) for end in ends)
    if one == other:
        return f"{one}:\nbundled texts – papers' texts"
    both = (" –\n" if len(one + other) > 30 else " – ").join([one, other] if papers else ends)
    return f"{both}\non the papers' texts" if papers else both


def _in_words(table: pd.DataFrame, names: list[str]) -> str:
    rows = zip(table.itertuples(), names, strict=True)
    said = (f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}] for {name}" for row, name in rows)
    return "; ".join(" ".join(each.split()) for each in said if not each.startswith("nan"))
