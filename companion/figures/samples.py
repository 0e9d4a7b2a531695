"""Figures 1 and 2 of Tan et al. 2024: the steerability of single examples, with the paper's numbers, and those alone."""

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from companion import published
from companion.figures import rows, style
from companion.figures.style import PUBLISHED_UNIT, Drawn, number, signed

POOL = "sycophancy"  # the two sycophancy sets are one row in the paper's in-distribution figures
MARK = "digitised from the published figure"
ITEM = ["dataset", "example_id"]
BY_SET = ["n", "mean", "median", "anti_steerable"]
Chosen = Mapping[str, tuple[str, str]]  # why an example is shown: its data set and its id
name_lines = partial(style.lines, width=22)  # of the label of a data set, or of the pool


def figure_1(
    slopes: pd.DataFrame, by_set: pd.DataFrame, model: str, beside: Sequence[pd.DataFrame] = ()
) -> Drawn:
    """Left our violins, in the middle the published median, mean and middle half, right the anti-steerable shares.

    `by_set` has a row a data set (index): n, mean, median, anti_steerable; `beside` are the slopes of the tabs beside
    this one, which share our axis.
    """
    examples = style.full_vectors(slopes, ITEM, "steerability")
    kind, ours = style.one_format(examples), by_set[BY_SET].sort_values(["median", "mean"], ascending=False)
    known = style.in_distribution(ours.index)[["mean", "median", "q1", "q3", "anti_steerable"]]
    table = ours.join(known.add_prefix("published_")).reset_index()
    table.insert(1, "label", table["dataset"].map(published.label))
    color, unit, names = style.FORMATS[kind], style.UNITS[kind], table["label"].map(name_lines)
    with rows.drawing(names, 3, 3, width_ratios=[1.45, 1.0, 0.85]) as (figure, (left, middle, right)):
        places = examples["dataset"].map(dict(zip(table["dataset"], table.index, strict=True)))
        shape = {"density_norm": "width", "cut": 0, "inner": "quart", "width": 0.85, "linewidth": 0.9}
        shape |= {"orient": "h", "native_scale": True, "color": color, "saturation": 1, "alpha": 0.55}
        sns.violinplot(examples.assign(row=places), x="steerability", y="row", ax=left, **shape)
        left.collections[0].set_label("ours: all examples, quartiles dashed")
        if beside:
            tables = [examples, *(style.full_vectors(each, ITEM, "steerability") for each in beside)]
            left.set_xlim(style.span(each["steerability"] for each in tables))
        middles(middle, table, "published_", style.PUBLISHED)
        anti_steerable(right, table, color)
        remarks(middle, table, "published_median")
        theirs(middle)
        title = f"ours:\n{style.lines(f'{model}, {kind}', 32)}"
        left.set(title=title, xlabel=f"steerability\n({unit} per unit multiplier)")
    return Drawn(figure, table, _alt_1(table, model, kind))


def _alt_1(table: pd.DataFrame, model: str, kind: str) -> str:
    rho, shared = style.rank_correlation(table["median"], table["published_median"])
    text = f"Violins of per-sample steerability of {model} ({kind} format) on {style.sets(len(table))}: "
    text += _extremes(table, style.PER_UNIT[kind])
    if not shared:
        return f"{text} The paper shows no Llama-2-7b values for them."
    ends = " to ".join(number(table["published_median"].agg(end)) for end in ("min", "max"))
    ranks = "" if np.isnan(rho) else f"; their rank correlation with ours is {rho:.2f}"
    text += f" The published Llama-2-7b medians, known for {shared} of {len(table)}, run from {ends}"
    return f"{text} {PUBLISHED_UNIT}{ranks}."


def _extremes(table: pd.DataFrame, unit: str) -> str:
    """Of a table by falling median: both ends, and the largest anti-steerable share."""
    high, low, worst = table.iloc[0], table.iloc[-1], table.loc[table["anti_steerable"].idxmax()]
    return (
        f"medians from {number(low['median'])} ({low['label']}) to {number(high['median'])} ({high['label']}) {unit}, "
        f"and up to {worst['anti_steerable']:.0%} of the examples of a set ({worst['label']}) anti-steerable."
    )


def figure_1_published(names: Sequence[str] = published.SELECTED) -> Drawn:
    """Published median, mean, quartiles and whiskers of each data set, and its anti-steerable share."""
    columns = "mean median q1 q3 whisker_low whisker_high anti_steerable n_anti_steerable".split()
    table = published_numbers(names, columns)
    table = table.sort_values("median", ascending=False, kind="stable", ignore_index=True)
    with rows.drawing(table["label"].map(name_lines), 2, width_ratios=[2, 1]) as (figure, (left, right)):
        look = {"color": style.PUBLISHED, "lw": 1, "label": "whiskers"}
        left.hlines(table.index, table["whisker_low"], table["whisker_high"], **look)
        middles(left, table, "", style.BLACK)
        left.set(title="per-sample steerability", xlabel=f"steerability ({PUBLISHED_UNIT})")
        right.barh(table.index, table["anti_steerable"], height=0.6, color=style.FAINT)
        share_axis(right, table["anti_steerable"])
        rows.numbers(right, table["n_anti_steerable"].dropna().map("{:.0f}".format), "count")
        remarks(left, table, "median")
        head(figure, "figure 1")
    start, known = known_of(f"Published per-sample steerability of Llama-2-7b ({MARK})", table, "median")
    return Drawn(figure, table, start if known.empty else f"{start}: {_extremes(known, PUBLISHED_UNIT)}")


def figure_2(grid: pd.DataFrame, chosen: Chosen, beside: Sequence[tuple[pd.DataFrame, Chosen]] = ()) -> Drawn:
    """Propensity curves of the chosen examples with their fits; behind each the mean and the middle half of its set.

    All panels, those of `beside` (the figures that are tabs beside this one) too, span the same height.
    """
    panels_of = [_curves(each, examples) for each, examples in ((grid, chosen), *beside)]
    curves, kind, words = panels_of[0], style.one_format(grid), []
    color = style.FORMATS[kind]
    with style.drawing(3.7, 1, 2) as (figure, panels):
        for axes, (why, (dataset, example)), curve in zip(panels, chosen.items(), curves, strict=True):
            band = {"color": style.FAINT, "alpha": 0.45, "lw": 0, "label": "middle half of the set"}
            axes.fill_between(curve.index, curve["q1"], curve["q3"], **band)
            axes.plot(curve["mean"], color=style.BLACK, lw=1.4, ls="--", label="mean of the set")
            axes.plot(curve["line"].iloc[[0, -1]], color=color, lw=1.6, label="fitted line")
            axes.scatter(curve.index, curve["one"], color=color, s=30, zorder=3, label="one example")
            axes.axhline(0, color=style.BLACK, lw=0.9)
            slope, mean = (signed(np.polyfit(y.index, y, 1)[0]) for y in (curve["one"], curve["mean"]))
            label, short = published.label(dataset), example.rpartition("/")[2]  # its id without the data set
            title = f"{style.lines(label, 38)}\nexample {short} ({why}): slope {slope}"
            axes.set(title=title, xlabel="multiplier")
            said = f"example {short} of {label} ({why}) moves by {slope} {style.PER_UNIT[kind]}"
            words.append(f"{said}, its data set by {mean} on average")
        panels[0].set_ylabel(f"propensity ({style.UNITS[kind]})")
        margins = 1 + 2 * plt.rcParams["axes.ymargin"]
        heights = [margins * np.ptp([0.0, *curve.to_numpy().ravel()]) for each in panels_of for curve in each]
        for axes in panels:
            middle = np.mean(axes.get_ylim())
            axes.set_ylim(middle - max(heights) / 2, middle + max(heights) / 2)
        style.legend(figure, columns=4)
    alt = f"Two propensity curves ({kind} format). On the left {words[0]}; on the right {words[-1]}."
    return Drawn(figure, grid[grid["vector"] == "full"], alt)


def _curves(grid: pd.DataFrame, chosen: Chosen) -> list[pd.DataFrame]:
    """By multiplier, for each chosen example: its propensities, their line, and mean and quartiles of its set."""
    rows = style.full_vectors(grid, [*ITEM, "multiplier"], "multiplier", "propensity")
    known = set(zip(rows["dataset"], rows["example_id"], strict=True))
    expected, two = "two examples of the grid, each (dataset, example_id)", list(chosen.values())
    style.need(len(two) == 2 and known.issuperset(two), expected, f"{two}", "take pairs that the grid holds.")
    found = []
    for dataset, example in chosen.values():
        own = rows[rows["dataset"] == dataset]
        one = own[own["example_id"] == example].set_index("multiplier")["propensity"].sort_index()
        style.need(len(one) > 1, "two multipliers or more", "an example with one", "run more multipliers.")
        line = np.polyval(np.polyfit(one.index, one, 1), one.index)
        levels = own.groupby("multiplier")["propensity"]
        quartiles = {"q1": levels.quantile(0.25), "q3": levels.quantile(0.75)}
        found.append(pd.DataFrame({"one": one, "line": line, "mean": levels.mean(), **quartiles}))
    return found


def middles(axes: Axes, table: pd.DataFrame, prefix: str, color: str) -> None:
    """A row a data set: the middle half, the mean and the median, of columns that begin with a prefix."""
    q1, q3, mean, median = (table[prefix + name] for name in ("q1", "q3", "mean", "median"))
    whose = prefix.replace("_", " ")
    axes.hlines(table.index, q1, q3, color=color, alpha=0.35, lw=7, label=f"{whose}middle half")
    # The diamond is wider than the dot, so that both are seen where they fall together.
    rows.points(axes, mean, color, fill="white", marker="D", s=46, label=f"{whose}mean")
    rows.points(axes, median, color, s=17, zorder=4, label=f"{whose}median")


def anti_steerable(axes: Axes, table: pd.DataFrame, color: str) -> None:
    """Our shares of anti-steerable examples as bars, the published ones as diamonds."""
    look = {"height": 0.6, "color": color, "alpha": 0.75, "label": "ours: anti-steerable share"}
    axes.barh(table.index, table["anti_steerable"], **look)
    look = {"marker": "D", "clip_on": False, "label": "published anti-steerable share"}
    rows.points(axes, table["published_anti_steerable"], style.PUBLISHED, **look)
    share_axis(axes, table["anti_steerable"])


def theirs(axes: Axes, what: str = "steerability") -> None:
    """Head and axis of a panel of published steerability."""
    axes.set(title="published:\nLlama-2-7b, letter", xlabel=f"{what}\n({PUBLISHED_UNIT})")


def share_axis(axes: Axes, shares: pd.Series) -> None:
    """The axis of anti-steerable shares."""
    axes.set(xlim=(0, max(0.58, 1.05 * shares.max())), title="anti-steerable")
    axes.set_xlabel("share of examples\nwith slope ≤ 0")
    axes.xaxis.set_major_locator(MultipleLocator(0.25))


def remarks(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """Say in each row without a value why there is none; without any the axis has no numbers."""
    if table[column].isna().all():
        axes.set_xticks([])
    for row, name in table.loc[table[column].isna(), "dataset"].items():
        style.remark(axes, row, style.gap(name))


def head(figure: Figure, what: str) -> None:
    """The heading of a figure of published numbers alone."""
    figure.suptitle(f"Tan et al. {what}: Llama-2-7b, in distribution\n{MARK}", fontsize=10)


def published_names(names: Sequence[str]) -> list[str]:
    """The names, known to the paper, each once; the two sycophancy sets become their pool."""
    members = published.tan()["pooled"][POOL]["members"]
    found = list(dict.fromkeys(POOL if name in members else name for name in names))
    for name in found:
        if name != POOL:
            published.dataset(name)  # an unknown name raises
    style.need(bool(found), "at least one data set", "none", "leave the names out, or pass some.")
    return found


def published_numbers(names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """One row a data set: dataset, label and the columns, NaN where the paper shows none."""
    table = with_pool(published_names(names), columns)
    table.insert(0, "label", table.index.map(published_label))
    return table.rename_axis("dataset").reset_index()


def with_pool(names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """`style.in_distribution`, in which the pool has what is known of it."""
    table, pool = style.in_distribution(names)[list(columns)], published.tan()["pooled"][POOL]
    ends = zip(("q1", "q3", "whisker_low", "whisker_high"), pool["quartiles"] + pool["whiskers"], strict=True)
    table.loc[table.index == POOL] = pd.Series(pool | dict(ends)).reindex(columns).to_numpy(float)
    return table


def published_label(name: str) -> str:
    """The label of a data set, or of the pool."""
    return "sycophancy (both)" if name == POOL else published.label(name)


def known_of(what: str, table: pd.DataFrame, column: str) -> tuple[str, pd.DataFrame]:
    """The beginning of an alt text, and the rows that the paper shows."""
    known = table.dropna(subset=column)
    if known.empty:
        return f"{what}, of which the paper shows nothing for these {style.sets(len(table))}.", known
    return f"{what}, known for {len(known)} of {style.sets(len(table))}", known
