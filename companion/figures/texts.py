"""Text or concept: rank correlations with their null and their ceiling, and data sets in the plane of two numbers."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import pandas as pd
from matplotlib.axes import Axes

from companion.figures import rows, scatter, style
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
SPEARMAN = {"xlim": (-1.02, 1.02), "xlabel": "Spearman's rank correlation, 95% interval"}
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
    shown, every = wide.xs(main, axis=1, level="sets").reset_index(), wide["estimate"].reset_index()
    names = [_label(*pair) for pair in shown[["first", "second"]].to_numpy()]
    with rows.drawing(names) as (figure, [axes]):
        for pair, own in shown.groupby(by, sort=False):
            rows.points(axes, own[rows.ESTIMATE], COLORS[pair], label=WORDS.get(pair, pair))
        for sets, mark in MARKS.items():  # below the filled point, which often is at the same place
            if sets != main and sets in every:
                look = {"fill": "none", "marker": mark, "label": f"{sets} sets"}
                rows.points(axes, every[sets], style.BLACK, below=0.3, **look)
        _scale(axes, shown)
    alt = f"Rank correlations of mean steerability over data sets, {main}: {_in_words(shown, names)}."
    return Drawn(figure, pairs, alt)


def items(table: pd.DataFrame) -> Drawn:
    """Left: slopes of two models within sets; right: items that are anti-steerable in both (`tan.texts.shared_items`)."""
    table = style.checked(table, ("first", "second", *rows.ESTIMATE, "joint", "chance"), ["joint"])
    table = table.reset_index(drop=True)
    names, own = [_label(*pair) for pair in table[["first", "second"]].to_numpy()], COLORS[PAIRS[0]]
    percent = 100 * table.filter(regex="^(joint|chance)")
    with rows.drawing(names, 2, 3) as (figure, (left, right)):
        rows.points(left, table[rows.ESTIMATE], own, label="two models")
        _scale(left, table)
        left.set(xlim=(-0.3, 1.02), xlabel="rank correlation of slopes\nwithin data sets, 95% interval")
        rows.points(right, percent[["joint", "joint_low", "joint_high"]], own)
        rows.points(right, percent["chance"], style.BLACK, marker="|")
        grey = {"color": style.PUBLISHED, "below": 0.25, "label": "second model's placebo vectors"}
        rows.points(right, percent["joint_placebo"], **grey)
        rows.points(right, percent["chance_placebo"], marker="|", **grey)
        right.set_xlabel("items anti-steerable in both, %\nbar: if items were shuffled within sets")
        right.set_xlim(0, None)
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
            axes.plot(ends, ends, color=style.PUBLISHED, ls="--", lw=1, label="both alike")
            for zero in (axes.axvline, axes.axhline):
                zero(0, color=style.BLACK, lw=0.9)
            axes.hlines(part["other"], part["matching_low"], part["matching_high"], color=style.FAINT, lw=1)
            for text, color in TEXTS.items():
                some = part[part["steerable"] & (part["text"] == text)]
                look = {"ec": style.BLACK, "lw": 0.6, "s": 24, "zorder": 3, "label": f"matching text {text}"}
                axes.scatter(some["matching"], some["other"], c=color, **look)
            look = {"marker": "x", "c": style.PUBLISHED, "lw": 0.9, "s": 20, "label": "not steerable"}
            axes.scatter("matching", "other", data=part[~part["steerable"]], **look)
            style.pointed(axes, part["matching"], part["other"], part["dataset"])
            axes.set(title=style.model_label(run), xlim=ends, ylim=ends)
            axes.locator_params(nbins=5)
        _outer(panels, f"slope of the matching text\n({unit})", "slope of the other text")
        style.legend(figure)
    counts = found[found["steerable"]].groupby(["run", "text"], sort=False).size()
    groups = (f"{count} {text} in {style.model_label(run)}" for (run, text), count in counts.items())
    said = "; ".join(groups) or "none"
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
        axes.plot([], [], "o-", color=style.BLACK, ms=4.5, label="with the vector")
        axes.plot([], [], "s:", color=style.BLACK, ms=4.5, label="against it")
        axes.axhline(BROKEN, color=style.BLACK, lw=0.9, ls="--", zorder=1.5, label="counts as broken")
        axes.set_xscale("symlog", linthresh=0.1)
        ticks = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xlim(-0.01, 1.15 * table["dose"].max())
        axes.set(xlabel="dose (nats a token on a neutral text)")
        axes.set_ylabel("surprise added\n(nats a token)")
        style.legend(figure)
    worst = table.loc[table["dose"].idxmax()]
    alt = f"Surprise of steered texts by dose, up to {worst['dose']:.2g} nats, where a text costs {worst['surprise']:.2g} a token."
    return Drawn(figure, table, alt)


def controls(table: pd.DataFrame) -> Drawn:
    """Findings again under every control, one above the other (`tan.controls.controlled`)."""
    style.checked(table, ("control", "finding", "first", "second", "estimate", "low", "high"), [])
    known = table.dropna(subset="estimate")
    style.need(not known.empty, "a correlation over three data sets or more", "none", "add data sets.")
    groups, names = known.groupby(["finding", "first", "second"], sort=False), list(known["control"].unique())
    each = known[["finding", "first", "second"]].drop_duplicates().to_numpy()
    findings = [f"{finding}:\n{_label(*pair)}" for finding, *pair in each]
    known = known.set_index(groups.ngroup())
    with rows.drawing(findings, deep=len(names)) as (figure, [axes]):
        for place, (name, color) in enumerate(zip(names, CONTROLS, strict=False)):
            own, below = known[known["control"] == name], rows.shift(place, len(names))
            rows.points(axes, own[rows.ESTIMATE], color, below, label=name)
        axes.set(**SPEARMAN)
    ends = groups["estimate"].agg(["min", "max"])
    words = "{:.2f} to {:.2f} for {} ({})".format
    said = (words(*both, name, " ".join(_label(*pair).split())) for (name, *pair), both in ends.T.items())
    alt = f"Lowest and highest correlation over {len(names)} controls: {'; '.join(said)}."
    return Drawn(figure, table, alt)


def halves(table: pd.DataFrame) -> Drawn:
    """Correlation with a shift on the same items (open) and on disjoint halves (filled), `tan.texts.disjoint`."""
    style.checked(table, ("run", "format", "train", "test", "shared", "estimate", "low", "high"), ["shared"])
    table = table.reset_index(drop=True)
    runs = (f"{style.model_label(row.run)}, {row.format}" for row in table.itertuples())
    shifts = map(scatter.arrow, table["train"], table["test"])
    names = [f"{run}: {shift}" for run, shift in zip(runs, shifts, strict=True)]
    with rows.drawing(names) as (figure, [axes]):
        for form, own in table.groupby("format", sort=False):
            rows.points(axes, own[rows.ESTIMATE], style.FORMATS[form], label=f"disjoint halves, {form}")
        rows.points(axes, table["shared"], style.BLACK, fill="none", zorder=4, label="the same items")
        _scale(axes, table)
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


def _scale(axes: Axes, table: pd.DataFrame) -> None:
    """The axis of correlations; on it how far placebos came, and bars where noise sets a ceiling."""
    known = table.reset_index(drop=True).dropna(axis=1, how="all")
    if "ceiling" in known:
        rows.points(axes, known["ceiling"], style.BLACK, marker="|", label="ceiling of the noise")
    if "placebo_low" in known:
        look = {"color": style.FAINT, "alpha": 0.6, "lw": 9, "label": "nine in ten placebo vectors"}
        axes.hlines(known.index, known["placebo_low"], known["placebo_high"], zorder=1.2, **look)
    axes.set(**SPEARMAN)


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
    each = zip(table.itertuples(), names, strict=True)
    said = (f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}] for {name}" for row, name in each)
    return "; ".join(" ".join(each.split()) for each in said if not each.startswith("nan"))
