"""Tan et al. figure 3: does the place or the wording of the positive option decide how well it steers?"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from companion import published
from companion.figures import frames, style
from steerkit.formats import FORMATS

NUMBERS = ("steerability", "matching_slope", "not_matching_slope")
OPTION = ("positive_letter", "positive_answer")
COLUMNS = ("dataset", "example_id", "format", *OPTION, "vector", "layer", *NUMBERS)
# Blue for A, red for B, paler for No; a set without Yes and No has letters only.
COLORS = {
    "A, Yes": style.BLUE, "A, No": style.SKY, "B, Yes": style.VERMILLION, "B, No": style.ORANGE,
    "A": style.PURPLE, "B": style.GREEN, "Yes": style.BLUE, "No": style.ORANGE,
    "matching half": style.VERMILLION, "not matching half, negated": style.BLUE,
}  # fmt: skip
HALVES = tuple(COLORS)[-2:]
SPACE = 0.8  # between data sets, in heights of a box row


def _rows(slopes: pd.DataFrame) -> pd.DataFrame:
    return frames.full_vectors(frames.checked(slopes, COLUMNS, NUMBERS), ["dataset", "example_id"])


def _options(rows: pd.DataFrame) -> pd.Series:
    """'A, Yes' and so on; 'A' and 'B' where the data set has no answers."""
    both = rows["positive_letter"] + ", " + rows["positive_answer"]
    return both.where(rows["positive_answer"] != "", rows["positive_letter"])


def groups(slopes: pd.DataFrame) -> pd.DataFrame:
    """The values behind each box, in the order of the figure: one row per example and group.

    Letter format: groups by letter and answer of the positive option (letter alone where a set has no
    Yes/No). Yes-no format: by the positive answer. Statement format, which has no options: the slope of the
    matching half, and that of the not matching half with its sign turned; they add up to the steerability.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table in one answer format; only rows of the vector "full" count.

    Returns
    -------
    DataFrame
        Columns dataset, label, group, value; data sets by falling mean steerability.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats or layers, an option that
        is neither A nor B, or neither Yes nor No.
    """
    rows = _rows(slopes)
    kind = frames.one_format(rows)
    if not FORMATS[kind].biased:
        halves = rows["matching_slope"], -rows["not_matching_slope"]
        long = pd.concat([rows.assign(group=g, value=v) for g, v in zip(HALVES, halves, strict=True)])
    else:
        long = rows.assign(group=rows["positive_answer"] if kind == "yes-no" else _options(rows))
        long["value"] = rows["steerability"]
    strange = set(long["group"]) - set(COLORS)
    if strange:
        expected = "positive letters A and B, positive answers Yes and No"
        raise frames.refusal(expected, f"{sorted(map(repr, strange))}", "fill these columns of the table.")
    sets = rows.groupby("dataset")["steerability"].mean().sort_values(ascending=False).index
    keys = [long["dataset"].map(sets.get_loc), long["group"].map(list(COLORS).index)]
    long = long.iloc[np.lexsort(keys[::-1])]
    long = long.assign(label=long["dataset"].map(published.label))
    return long[["dataset", "label", "group", "value"]].reset_index(drop=True)


def _places(long: pd.DataFrame) -> pd.DataFrame:
    """One row per box: dataset, group, n, and y, its height in rows from the top."""
    boxes = long.groupby(["dataset", "group"], sort=False).size().rename("n").reset_index()
    number = (boxes["dataset"] != boxes["dataset"].shift()).cumsum() - 1
    return boxes.assign(y=np.arange(len(boxes)) + SPACE * number)


def figure_3(slopes: pd.DataFrame, beside: Sequence[pd.DataFrame] = ()) -> Figure:
    """Steerability by positive option (letter, yes-no), or by half of the pair (statement) (figure 3).

    In the letter format the published Llama-2-7b quartiles stand beside ours on their own axis; the published
    'B and No' boxes hold mostly other rows (see ``published.boxes``) and are drawn faint. The numbers at the
    right end count the examples of a box.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table in one answer format; only rows of the vector "full" are drawn.
    beside : sequence of DataFrame
        The tables of figures that are tabs beside this one; our axis holds them too.

    Raises
    ------
    SteerkitError
        As :func:`groups`.
    """
    long = groups(slopes)
    kind = frames.one_format(_rows(slopes))
    boxes = _places(long)
    with style.theme():
        size = (style.WIDTH, 1.6 + 0.145 * (boxes["y"].max() + 2))
        columns = 2 if kind == "letter" else 1
        figure, panels = plt.subplots(1, columns, sharey=True, squeeze=False, figsize=size)
        ours = panels[0, -1]
        _our_boxes(ours, long, boxes)
        if beside:
            ours.set_xlim(frames.span(groups(each)["value"] for each in (slopes, *beside)))
        what = "slope" if kind == "statement" else "steerability"
        ours.set(xlabel=f"{what} ({style.UNITS[kind]} per unit multiplier)", title=f"ours, {kind} format")
        if kind == "letter":
            _published_boxes(panels[0, 0], boxes)
        for axes in panels[0]:
            _stripes(axes, boxes)
        middles = boxes.groupby("dataset", sort=False)["y"].mean()
        panels[0, 0].set(yticks=middles, yticklabels=middles.index.map(frames.tick))
        panels[0, 0].set_ylim(boxes["y"].max() + 0.5 + SPACE / 2, -0.5 - SPACE / 2)
        figure.legend(handles=_legend(boxes, kind), loc="outside lower center", ncols=4)
    return figure


def _our_boxes(axes: Axes, long: pd.DataFrame, boxes: pd.DataFrame) -> None:
    values = [rows["value"].to_numpy() for _, rows in long.groupby(["dataset", "group"], sort=False)]
    drawn = axes.boxplot(
        values,
        positions=boxes["y"],
        orientation="horizontal",
        widths=0.8,
        patch_artist=True,
        manage_ticks=False,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": style.PUBLISHED},
        medianprops={"color": style.BLACK, "lw": 1.4},
    )
    for patch, group in zip(drawn["boxes"], boxes["group"], strict=True):
        patch.set(facecolor=COLORS[group], alpha=0.75, linewidth=0.7)
    for line in (*drawn["whiskers"], *drawn["caps"]):
        line.set(linewidth=0.7, color="#444444")
    style.margin_numbers(axes, boxes["y"], boxes["n"].astype(str), "n")


def _published_boxes(axes: Axes, boxes: pd.DataFrame) -> None:
    """Hatched middle halves with their medians; faint and open where contaminated; a gap says why."""
    theirs = published.boxes()
    rows = boxes.merge(theirs.assign(group=_options(theirs)), on=["dataset", "group"], how="left")
    for row in rows.dropna(subset="median").itertuples():
        look = {"hatch": "//////"} if not row.contaminated else {"alpha": 0.6, "ls": ":"}
        width = row.q3 - row.q1
        axes.barh(row.y, width, left=row.q1, height=0.75, fc="white", ec=COLORS[row.group], lw=1.0, **look)
        strength = 0.35 if row.contaminated else 1
        axes.vlines(row.median, row.y - 0.37, row.y + 0.37, color=style.BLACK, lw=1.4, alpha=strength)
    for name, places in rows.groupby("dataset", sort=False):
        if places["median"].isna().all():
            style.remark(axes, places["y"].mean(), frames.gap(name))
    axes.use_sticky_edges = False
    if rows["median"].isna().all():
        axes.set_xticks([])
    axes.set(xlabel="steerability (logits per unit multiplier)", title="published: Llama-2-7b, letter")


def _stripes(axes: Axes, boxes: pd.DataFrame) -> None:
    """Shade every second data set, so that rows are followed across panels; and mark zero."""
    spans = boxes.groupby("dataset", sort=False)["y"].agg(["min", "max"])
    for low, high in spans.iloc[::2].itertuples(index=False):
        axes.axhspan(low - 0.5 - SPACE / 2, high + 0.5 + SPACE / 2, color=style.STRIPE, lw=0, zorder=0)
    axes.grid(visible=False, axis="y")
    axes.axvline(0, color=style.BLACK, lw=0.9)


def _legend(boxes: pd.DataFrame, kind: str) -> list[Patch]:
    present = set(boxes["group"])
    words = {"A": "A (no Yes/No)", "B": "B (no Yes/No)"}
    ours = [
        Patch(fc=color, ec="#444444", lw=0.7, alpha=0.75, label=words.get(group, group))
        for group, color in COLORS.items()
        if group in present
    ]
    if kind != "letter":
        return ours
    edge = {"facecolor": "white", "edgecolor": style.PUBLISHED}
    hatched = Patch(hatch="//////", label="published", **edge)
    return [*ours, hatched, Patch(ls=":", label="published, contaminated", **edge)]


def figure_3_alt(slopes: pd.DataFrame) -> str:
    """Alt text of :func:`figure_3`, with its numbers."""
    long = groups(slopes)
    kind = frames.one_format(_rows(slopes))
    return _halves_alt(long) if kind == "statement" else _options_alt(long, kind)


def _halves_alt(long: pd.DataFrame) -> str:
    means = long.groupby(["label", "group"])["value"].mean().unstack()
    rises, falls = (means[half] for half in HALVES)
    apart = (rises - falls).abs().idxmax()
    return (
        f"Slopes of the two halves of the pairs on {frames.sets(len(means))} (statement format): on average "
        f"the matching half rises by {frames.number(rises.mean())} and the not matching half falls by "
        f"{frames.number(falls.mean())} {style.UNITS['statement']} per unit multiplier. The matching half "
        "moves more in "
        f"{(rises > falls).sum()} of {len(means)} sets; the halves differ most in {apart} "
        f"({frames.signed(rises[apart])} against {frames.signed(falls[apart])})."
    )


def _options_alt(long: pd.DataFrame, kind: str) -> str:
    medians = long.groupby(["label", "group"])["value"].median().unstack()
    low, high = medians.min(axis=1), medians.max(axis=1)
    widest = (high - low).idxmax()
    top, bottom = medians.loc[widest].idxmax(), medians.loc[widest].idxmin()
    text = (
        f"Box plots of steerability by positive option on {frames.sets(len(medians))} ({kind} format): "
        f"group medians lie on both sides of zero in {((high > 0) & (low < 0)).sum()} of {len(medians)}, and "
        f"differ most in {widest} ({top}: {frames.signed(high[widest])}; {bottom}: "
        f"{frames.signed(low[widest])} {style.UNITS[kind]} per unit multiplier)."
    )
    clean = published.boxes()
    clean = clean[~clean["contaminated"] & clean["dataset"].isin(long["dataset"])]
    if kind != "letter" or clean.empty:
        return text
    theirs = clean.groupby("dataset")["median"].agg(["min", "max"])
    name = (theirs["max"] - theirs["min"]).idxmax()
    return text + (
        f" Among the published groups of Llama-2-7b, the contaminated ones left out, medians differ most in "
        f"{published.label(name)} ({frames.signed(theirs.loc[name, 'min'])} to "
        f"{frames.signed(theirs.loc[name, 'max'])} logits per unit multiplier)."
    )
