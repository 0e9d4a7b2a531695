"""The published figures of Tan et al., redrawn from the digitised numbers alone: no run of ours is needed.

All show Llama-2-7b in distribution (BASE->BASE); units are logits per unit multiplier. The sets
sycophancy_train and sycophancy_test are one row, as in the paper. Layer curves are not among them: the paper's
sweeps are known in words only (``published.tan()["layer_sweep"]``).
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from companion import published
from companion.figures import frames, style, tan_options, tan_parts
from companion.figures.tan_ranges import PUBLISHED_WIDTHS, published_ranges, range_dots, range_legend

MARK = "digitised from the published figure"
UNIT = "logits per unit multiplier"
POOLED = "sycophancy"
ROW = ("mean", "median", "q1", "q3", "whisker_low", "whisker_high", "anti_steerable", "n_anti_steerable")


def _names(names: Sequence[str]) -> list[str]:
    """The names, known to the paper, each once; the two sycophancy sets become their pool."""
    pool = published.tan()["pooled"][POOLED]["members"]
    found = [POOLED if name in pool else name for name in names]
    for name in found:
        if name != POOLED:
            published.dataset(name)  # an unknown name raises
    if not found:
        raise frames.refusal("at least one data set", "none", "leave the names out, or pass some.")
    return list(dict.fromkeys(found))


def _numbers(names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """One row a data set: dataset, label and the columns, NaN where the paper shows none."""
    kept = _names(names)
    table = frames.in_distribution(kept).reindex(columns=list(columns))
    if POOLED in kept:
        pool = published.tan()["pooled"][POOLED]
        pool = pool | dict(zip(("q1", "q3"), pool["quartiles"], strict=True))
        pool |= dict(zip(("whisker_low", "whisker_high"), pool["whiskers"], strict=True))
        table.loc[POOLED] = [pool.get(column, np.nan) for column in columns]
    table.insert(0, "label", [_label(name) for name in table.index])
    return table.rename_axis("dataset").reset_index()


def _label(name: str) -> str:
    return "sycophancy (both)" if name == POOLED else published.label(name)


def samples(names: Sequence[str] = published.SELECTED) -> pd.DataFrame:
    """The table of :func:`figure_1_published`, highest median first.

    Returns
    -------
    DataFrame
        Columns dataset, label, mean, median, q1, q3, whisker_low, whisker_high, anti_steerable (share),
        n_anti_steerable. NaN where the paper shows none: the whole row, or the mean of the pooled sets.

    Raises
    ------
    SteerkitError
        An unknown data set, or none.
    """
    table = _numbers(names, ROW)
    return table.sort_values("median", ascending=False, kind="stable", ignore_index=True)


def figure_1_published(names: Sequence[str] = published.SELECTED) -> Figure:
    """Published median, mean, quartiles and whiskers of each data set, and its anti-steerable share.

    Parameters
    ----------
    names : sequence of str
        Data sets of the paper; by default the 13 of its main figures. ``published.datasets().index`` is all.

    Raises
    ------
    SteerkitError
        As :func:`samples`.
    """
    table = samples(names)
    with style.theme():
        size = (style.WIDTH, 1.75 + 0.29 * len(table))
        figure, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[2, 1], figsize=size)
        left.hlines(table.index, table["whisker_low"], table["whisker_high"], color=style.PUBLISHED, lw=1)
        left.hlines(table.index, table["q1"], table["q3"], color=style.FAINT, lw=7)
        left.scatter(table["mean"], table.index, marker="D", s=42, fc="white", ec=style.BLACK, zorder=3)
        left.scatter(table["median"], table.index, s=16, color=style.BLACK, zorder=4)
        left.axvline(0, color=style.BLACK, lw=0.9)
        left.set(title="per-sample steerability", xlabel=f"steerability ({UNIT})")
        right.barh(table.index, table["anti_steerable"], height=0.6, color=style.FAINT)
        right.set(xlim=(0, 0.55), title="anti-steerable", xlabel="share with slope ≤ 0")
        right.xaxis.set_major_locator(MultipleLocator(0.25))
        known = table["n_anti_steerable"].dropna()
        style.margin_numbers(right, known.index, known.map("{:.0f}".format), "count")
        _set_rows(left, table, table["median"].isna())
        _headed(figure, "Tan et al. figure 1")
        handles = [
            Line2D([], [], ls="none", marker="o", ms=4.5, color=style.BLACK, label="median"),
            Line2D([], [], ls="none", marker="D", ms=6, mfc="white", color=style.BLACK, label="mean"),
            Line2D([], [], color=style.FAINT, lw=7, label="middle half"),
            Line2D([], [], color=style.PUBLISHED, lw=1, label="whiskers"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _set_rows(axes: Axes, table: pd.DataFrame, empty: pd.Series) -> None:
    """Name the rows, row 0 on top; an empty row says why."""
    axes.set(yticks=table.index, yticklabels=[frames.lines(label, 22) for label in table["label"]])
    axes.set_ylim(len(table) - 0.4, -0.6)
    for row, name in table.loc[empty, "dataset"].items():
        style.remark(axes, row, frames.gap(name))


def _headed(figure: Figure, what: str) -> None:
    figure.suptitle(f"{what}: Llama-2-7b, in distribution\n{MARK}", fontsize=10)


def figure_1_published_alt(names: Sequence[str] = published.SELECTED) -> str:
    """Alt text of :func:`figure_1_published`, with its numbers."""
    table = samples(names)
    known = table.dropna(subset="median")
    start = f"Published per-sample steerability of Llama-2-7b ({MARK}), "
    if known.empty:
        return start + f"of which the paper shows nothing for these {frames.sets(len(table))}."
    top, bottom = known.iloc[0], known.iloc[-1]
    worst = known.loc[known["anti_steerable"].idxmax()]
    return (
        f"{start}known for {len(known)} of {frames.sets(len(table))}: medians from "
        f"{frames.number(bottom['median'])} ({bottom['label']}) to {frames.number(top['median'])} "
        f"({top['label']}) {UNIT}, and up to {worst['anti_steerable']:.0%} of the examples of a set "
        f"({worst['label']}) anti-steerable."
    )


def options(names: Sequence[str] = published.SELECTED) -> pd.DataFrame:
    """The table of :func:`figure_3_published`, data sets by falling median of the clean groups.

    Returns
    -------
    DataFrame
        Columns dataset, label, group ("A, Yes", ..., or "A", "B" in sets without Yes and No), q1, median, q3,
        contaminated. A data set without published boxes is left out.

    Raises
    ------
    SteerkitError
        An unknown data set, none, or none with boxes.
    """
    theirs = published.boxes()
    rows = theirs[theirs["dataset"].isin(_names(names))]
    if rows.empty:
        raise frames.refusal("a data set with published boxes", ", ".join(names), "take another one.")
    rows = rows.assign(label=rows["dataset"].map(_label), group=tan_options._options(rows))
    height = rows[~rows["contaminated"]].groupby("dataset")["median"].mean().sort_values(ascending=False)
    order = [rows["dataset"].map(height.index.get_loc), rows["group"].map(list(tan_options.COLORS).index)]
    rows = rows.iloc[np.lexsort(order[::-1])]
    return rows[["dataset", "label", "group", "q1", "median", "q3", "contaminated"]].reset_index(drop=True)


def figure_3_published(names: Sequence[str] = published.SELECTED) -> Figure:
    """Published quartiles of steerability by positive option; the contaminated "B, No" boxes are hatched.

    Names as in :func:`figure_1_published`, errors as in :func:`options`.
    """
    table = options(names)
    boxes = table.assign(y=tan_options._places(table)["y"].to_numpy())
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 2.1 + 0.135 * (boxes["y"].max() + 2)))
        axes.use_sticky_edges = False  # the first box does not touch the edge
        tan_options._stripes(axes, boxes)
        for box in boxes.itertuples():
            color = tan_options.COLORS[box.group]
            look = {"fc": "white", "hatch": "//////"} if box.contaminated else {"fc": color, "alpha": 0.75}
            axes.barh(box.y, box.q3 - box.q1, left=box.q1, height=0.75, ec=color, lw=1.0, **look)
            axes.vlines(box.median, box.y - 0.37, box.y + 0.37, color=style.BLACK, lw=1.6)
        middles = boxes.groupby("label", sort=False)["y"].mean()
        axes.set(yticks=middles, yticklabels=[frames.lines(label, 22) for label in middles.index])
        axes.set_ylim(boxes["y"].max() + 0.5 + tan_options.SPACE / 2, -0.5 - tan_options.SPACE / 2)
        axes.set_xlabel(f"steerability ({UNIT}): middle half and median")
        _headed(figure, "Tan et al. figure 3")
        figure.legend(handles=_option_legend(boxes), loc="outside lower center", ncols=3)
    return figure


def _option_legend(boxes: pd.DataFrame) -> list[Patch]:
    clean = [
        group for group in tan_options.COLORS if group in set(boxes.loc[~boxes["contaminated"], "group"])
    ]
    words = {"A": "A (no Yes/No)"}
    handles = [Patch(color=tan_options.COLORS[g], alpha=0.75, label=words.get(g, g)) for g in clean]
    marked = {"fc": "white", "ec": style.PUBLISHED, "hatch": "//////"}
    return [*handles, Patch(label="B, or B, No: holds 6 of 7 rows of every example", **marked)]


def figure_3_published_alt(names: Sequence[str] = published.SELECTED) -> str:
    """Alt text of :func:`figure_3_published`, with its numbers."""
    table = options(names)
    clean = table[~table["contaminated"]]
    medians = clean.groupby("label")["median"].agg(["min", "max"])
    widest = (medians["max"] - medians["min"]).idxmax()
    return (
        f"Published quartiles of steerability by positive option of Llama-2-7b ({MARK}) on "
        f"{frames.sets(len(medians))}. Medians of the clean groups differ most in {widest} "
        f"({frames.signed(medians.loc[widest, 'min'])} to {frames.signed(medians.loc[widest, 'max'])} {UNIT}). "
        f"{int(table['contaminated'].sum())} boxes are hatched: in the authors' frame six of seven rows of every "
        "example fall there."
    )


def variances(names: Sequence[str] = published.SELECTED) -> pd.DataFrame:
    """The table of :func:`figure_4_published`, least unexplained share first.

    Returns
    -------
    DataFrame
        Columns dataset, label, total, letter, answer, unexplained (variances) and share_letter, share_answer,
        share_unexplained. NaN where the paper shows none.

    Raises
    ------
    SteerkitError
        An unknown data set, or none.
    """
    parts = ["total", *tan_parts.PARTS]
    table = _numbers(names, [f"variance_{part}" for part in parts])
    table.columns = ["dataset", "label", *parts]
    # The parts are digitised one by one: their sum is the total to 0.02 only, and shares are of the sum.
    shares = table[tan_parts.PARTS].div(table[tan_parts.PARTS].sum(axis=1, min_count=3), axis=0)
    table = table.join(shares.add_prefix("share_"))
    return table.sort_values("share_unexplained", kind="stable", ignore_index=True)


def figure_4_published(names: Sequence[str] = published.SELECTED) -> Figure:
    """Published variance of steerability by letter, answer and the rest: as it is, and as shares.

    Names as in :func:`figure_1_published`, errors as in :func:`variances`.
    """
    table = variances(names)
    with style.theme():
        size = (style.WIDTH, 1.75 + 0.27 * len(table))
        figure, panels = plt.subplots(1, 2, sharey=True, figsize=size)
        for axes, prefix in zip(panels, ("", "share_"), strict=True):
            start = np.zeros(len(table))
            for part, color in tan_parts.COLORS.items():
                width = table[prefix + part].fillna(0)
                axes.barh(table.index, width, left=start, height=0.72, color=color, lw=0)
                start += width
            axes.grid(visible=False, axis="y")
        panels[0].set(title="variance", xlabel=f"variance of steerability\n(square of {UNIT})")
        panels[1].set(title="share", xlabel="share of the variance\n(letter first)", xlim=(0, 1))
        _set_rows(panels[0], table, table["total"].isna())
        _headed(figure, "Tan et al. figure 4")
        words = {"letter": "letter (A/B)", "answer": "answer (Yes/No)", "unexplained": "unexplained"}
        handles = [Patch(color=color, label=words[part]) for part, color in tan_parts.COLORS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def figure_4_published_alt(names: Sequence[str] = published.SELECTED) -> str:
    """Alt text of :func:`figure_4_published`, with its numbers."""
    table = variances(names)
    known = table.dropna(subset="total")
    start = f"Published variance parts of the steerability of Llama-2-7b ({MARK}), "
    if known.empty:
        return start + f"of which the paper shows nothing for these {frames.sets(len(table))}."
    averages = ", ".join(f"{part} {known[f'share_{part}'].mean():.0%}" for part in tan_parts.PARTS)
    low, high = known.iloc[0], known.iloc[-1]
    return (
        f"{start}known for {len(known)} of {frames.sets(len(table))}: average shares {averages}; between "
        f"{low['share_unexplained']:.0%} ({low['label']}) and {high['share_unexplained']:.0%} "
        f"({high['label']}) stay unexplained."
    )


def ranges(names: Sequence[str] = published.SELECTED) -> pd.DataFrame:
    """The table of :func:`ranges_published`: dataset, label, width, mean; sets by falling mean over +-1.5.

    A data set without such means is left out: the paper has them for the 13 selected.

    Raises
    ------
    SteerkitError
        An unknown data set, none, or none with means by range.
    """
    table = published_ranges(_names(names)).dropna()
    if table.empty:
        raise frames.refusal(
            "a data set with published means by range", ", ".join(names), "take a selected one."
        )
    widest = table[table["width"] == PUBLISHED_WIDTHS[-1]].sort_values("mean", ascending=False)["dataset"]
    order = dict(zip(widest, range(len(widest)), strict=True))
    return table.sort_values(
        "dataset", key=lambda column: column.map(order), kind="stable", ignore_index=True
    )


def ranges_published(names: Sequence[str] = published.SELECTED) -> Figure:
    """Published mean steerability by width of the multiplier range (appendix).

    Names as in :func:`figure_1_published`, but sets without such means are left out; errors as in
    :func:`ranges`.
    """
    table = ranges(names)
    sets = list(table["dataset"].unique())
    with style.theme():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 1.6 + 0.3 * len(sets)))
        range_dots(axes, table, sets, list(PUBLISHED_WIDTHS), style.PUBLISHED)
        axes.set_xlabel(f"mean steerability ({UNIT})")
        _headed(figure, "Tan et al., appendix, ranges of the multiplier")
        figure.legend(handles=range_legend(PUBLISHED_WIDTHS), loc="outside lower center", ncols=3)
    return figure


def ranges_published_alt(names: Sequence[str] = published.SELECTED) -> str:
    """Alt text of :func:`ranges_published`, with its numbers."""
    wide = ranges(names).pivot(index="label", columns="width", values="mean")
    narrow, full = wide[PUBLISHED_WIDTHS[0]], wide[PUBLISHED_WIDTHS[-1]]
    steepest = (narrow / full).idxmax()
    return (
        f"Published mean steerability of Llama-2-7b by width of the multiplier range ({MARK}), "
        f"{frames.sets(len(wide))}: on average {frames.number(narrow.mean())} within ±0.5, "
        f"{frames.number(wide[PUBLISHED_WIDTHS[1]].mean())} within ±1 and {frames.number(full.mean())} {UNIT} within "
        f"±1.5. It shrinks in {int((full < narrow).sum())} sets, most in {steepest} "
        f"({frames.number(narrow[steepest])} to {frames.number(full[steepest])})."
    )
