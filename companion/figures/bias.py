"""Figures 3 and 4 of Tan et al. 2024: does the option, not the concept, decide? Ours beside the paper's, and those alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from companion import published
from companion.figures import rows, samples, style
from companion.figures.samples import MARK
from companion.figures.style import PUBLISHED_UNIT, Drawn, number, signed
from steerkit.formats import FORMATS

# Blue for A, red for B, paler for No; a set without Yes and No has letters only.
LETTERS = {"A, Yes": style.BLUE, "A, No": style.SKY, "B, Yes": style.VERMILLION, "B, No": style.ORANGE}
HALVES = {"matching half": style.VERMILLION, "not matching half, negated": style.BLUE}
GROUPS = LETTERS | {"A": style.PURPLE, "B": style.GREEN, "Yes": style.BLUE, "No": style.ORANGE} | HALVES
SPACE = 0.8  # between data sets, in heights of a box row
HATCHED = {"fc": "white", "hatch": "//////"}
PARTS = {"letter": style.BLUE, "answer": style.ORANGE, "unexplained": "#D9D9D9"}
COLUMNS = ["total", *PARTS]
# Kinds of sets, in the order of the rows; a set of the user's own may be of none.
ASKED = {"persona": "Yes or No", "choice": "written-out options", "": "others"}
GAP = 1.3  # before the sets of another kind, in rows
# Who gets what both factors explain; the names are those of `companion.tan.variance.variance_parts`.
ORDERS = {"paper": "letter first", "answer-first": "answer first", "shapley": "overlap halved"}


def groups(slopes: pd.DataFrame) -> pd.DataFrame:
    """The values behind each box, in the order of the figure: dataset, label, group, value.

    By letter and answer of the positive option; in statement the slope of the matching half, and of the other negated.
    """
    rows = style.full_vectors(slopes, samples.ITEM, "steerability", "matching_slope", "not_matching_slope")
    kind = style.one_format(rows)
    if not FORMATS[kind].biased:
        halves = zip(HALVES, (rows["matching_slope"], -rows["not_matching_slope"]), strict=True)
        long = pd.concat([rows.assign(group=half, value=value) for half, value in halves])
    else:
        option = rows["positive_answer"] if kind == "yes-no" else options(rows)
        long = rows.assign(group=option, value=rows["steerability"])
    strange = sorted(map(repr, set(long["group"]) - set(GROUPS)))
    expected = "positive letters A and B, positive answers Yes and No"
    style.need(not strange, expected, f"{strange}", "fill these columns of the table.")
    long = in_order(long, rows.groupby("dataset")["steerability"].mean())
    return long.assign(label=long["dataset"].map(published.label))[["dataset", "label", "group", "value"]]


def options(rows: pd.DataFrame) -> pd.Series:
    """'A, Yes' and so on; 'A' and 'B' where the data set has no answers."""
    both = rows["positive_letter"] + ", " + rows["positive_answer"]
    return both.where(rows["positive_answer"] != "", rows["positive_letter"])


def in_order(rows: pd.DataFrame, heights: pd.Series) -> pd.DataFrame:
    """The rows by data set, those with the largest heights first, and by group."""
    return style.in_order(rows, heights, rows["group"].map(list(GROUPS).index))


def box_places(long: pd.DataFrame) -> pd.DataFrame:
    """One row a box: dataset, group, n, and y, its height in rows from the top."""
    boxes = long.groupby(["dataset", "group"], sort=False).size().rename("n").reset_index()
    set_number = (boxes["dataset"] != boxes["dataset"].shift()).cumsum() - 1
    return boxes.assign(y=np.arange(len(boxes)) + SPACE * set_number)


def figure_3(slopes: pd.DataFrame, beside: Sequence[pd.DataFrame] = ()) -> Drawn:
    """Steerability by positive option (letter, yes-no), or by half of the pair (statement); counts in the margin.

    In letter beside the published quartiles, whose contaminated boxes are faint; `beside` are the slopes of the tabs
    beside this one, which share our axis.
    """
    long, kind = groups(slopes), style.one_format(slopes)
    boxes, lettered = box_places(long), kind == "letter"
    with drawing(boxes, 1 + lettered) as (figure, panels):
        ours = panels[0]
        draw_boxes(ours, long, boxes)
        if beside:
            ours.set_xlim(style.span(groups(each)["value"] for each in (slopes, *beside)))
        what = "slope" if kind == "statement" else "steerability"
        ours.set(xlabel=f"{what} ({style.PER_UNIT[kind]})", title=f"ours, {kind} format")
        if lettered:
            _published_boxes(panels[1], boxes)
        handles = patches(boxes["group"], ec="#444444", lw=0.7)
        if lettered:
            open_box = Patch(label="published, contaminated", fc="white", ec=style.PUBLISHED, ls=":")
            handles += [Patch(label="published", ec=style.PUBLISHED, **HATCHED), open_box]
        style.legend(figure, handles, 4)
    return Drawn(figure, long, _halves_alt(long) if kind == "statement" else _options_alt(long, kind))


def draw_boxes(axes: Axes, long: pd.DataFrame, boxes: pd.DataFrame) -> None:
    """Our boxes in the colours of their groups, counts in the margin."""
    values = [rows["value"].to_numpy() for _, rows in long.groupby(["dataset", "group"], sort=False)]
    look = {part: {"lw": 0.7, "color": "#444444"} for part in ("whiskerprops", "capprops")}
    look["flierprops"] = {"marker": ".", "ms": 3, "mec": style.PUBLISHED}
    look["medianprops"] = {"color": style.BLACK, "lw": 1.4}
    shape = {"orientation": "horizontal", "widths": 0.8, "patch_artist": True, "manage_ticks": False}
    drawn = axes.boxplot(values, positions=boxes["y"], **shape, **look)
    for patch, group in zip(drawn["boxes"], boxes["group"], strict=True):
        patch.set(facecolor=GROUPS[group], alpha=0.75, linewidth=0.7)
    rows.numbers(axes, boxes.set_index("y")["n"], "n")


def _published_boxes(axes: Axes, boxes: pd.DataFrame) -> None:
    """Hatched middle halves with their medians; faint and open where contaminated; a gap says why."""
    theirs = published.boxes()
    rows = boxes.merge(theirs.assign(group=options(theirs)), on=["dataset", "group"], how="left")
    for row in rows.dropna(subset="median").itertuples():
        look = {"fc": "white", "alpha": 0.6, "ls": ":"} if row.contaminated else HATCHED
        _quartiles(axes, row, look, {"lw": 1.4, "alpha": 0.35 if row.contaminated else 1})
    for name, places in rows.groupby("dataset", sort=False):
        if places["median"].isna().all():
            style.remark(axes, places["y"].mean(), style.gap(name))
    axes.use_sticky_edges = False  # the first box does not touch the edge
    if rows["median"].isna().all():
        axes.set_xticks([])
    axes.set(xlabel=f"steerability ({PUBLISHED_UNIT})", title="published: Llama-2-7b, letter")


def _quartiles(axes: Axes, box: tuple, look: dict[str, object], middle: dict[str, object]) -> None:
    """A published box from the first to the third quartile, and its median."""
    axes.barh(box.y, box.q3 - box.q1, left=box.q1, height=0.75, ec=GROUPS[box.group], lw=1.0, **look)
    axes.vlines(box.median, box.y - 0.37, box.y + 0.37, color=style.BLACK, **middle)


@contextmanager
def drawing(boxes: pd.DataFrame, panels: int = 1, **shares: object) -> Iterator[tuple[Figure, list[Axes]]]:
    """Panels over the same boxes: each data set named in the middle of its own, every second one shaded."""
    spans, gap = boxes.groupby("dataset", sort=False)["y"].agg(["min", "max", "mean"]), 0.5 + SPACE / 2
    height, shares = 1.75 + 0.145 * (boxes["y"].max() + 2), {"sharey": True, "squeeze": False, **shares}
    with style.drawing(height, 1, panels, **shares) as (figure, [columns]):
        yield figure, list(columns)
        for axes in columns:
            for low, high in spans[["min", "max"]].iloc[::2].itertuples(index=False):
                axes.axhspan(low - gap, high + gap, color=style.STRIPE, lw=0, zorder=0)
            axes.grid(visible=False, axis="y")
            axes.axvline(0, color=style.BLACK, lw=0.9)
        labels = [style.lines(samples.published_label(name), 22) for name in spans.index]
        columns[0].set(yticks=spans["mean"], yticklabels=labels, ylim=(boxes["y"].max() + gap, -gap))


def patches(present: pd.Series, **edge: object) -> list[Patch]:
    """Legend entries of the groups there are; a letter alone is one of a set without Yes and No."""
    shown = [group for group in GROUPS if group in set(present)]
    labels = [f"{group} (no Yes/No)" if len(group) == 1 else group for group in shown]
    looks = [{"fc": GROUPS[group], "ec": GROUPS[group], "alpha": 0.75, **edge} for group in shown]
    return [Patch(label=label, **look) for label, look in zip(labels, looks, strict=True)]


def _halves_alt(long: pd.DataFrame) -> str:
    means = long.groupby(["label", "group"])["value"].mean().unstack()
    rises, falls = (means[half] for half in HALVES)
    apart = (rises - falls).abs().idxmax()
    return (
        f"Slopes of the two halves of the pairs on {style.sets(len(means))} (statement format): on average the matching "
        f"half rises by {number(rises.mean())} and the not matching half falls by {number(falls.mean())} "
        f"{style.PER_UNIT['statement']}. The matching half moves more in {(rises > falls).sum()} of "
        f"{len(means)} sets; the halves differ most in {apart} ({signed(rises[apart])} against {signed(falls[apart])})."
    )


def _options_alt(long: pd.DataFrame, kind: str) -> str:
    medians = long.groupby(["label", "group"])["value"].median().unstack()
    low, high = medians.min(axis=1), medians.max(axis=1)
    widest = (high - low).idxmax()
    text = (
        f"Box plots of steerability by positive option on {style.sets(len(medians))} ({kind} format): group medians "
        f"lie on both sides of zero in {((high > 0) & (low < 0)).sum()} of {len(medians)}, and differ most in {widest} "
        f"({medians.loc[widest].idxmax()}: {signed(high[widest])}; {medians.loc[widest].idxmin()}: "
        f"{signed(low[widest])} {style.PER_UNIT[kind]})."
    )
    theirs = published.boxes()
    theirs = theirs[theirs["dataset"].isin(long["dataset"])]
    if kind != "letter" or theirs.empty:
        return text
    gap = _widest_gap(theirs, theirs["dataset"].map(published.label))
    return f"{text} Among the published groups of Llama-2-7b, the contaminated ones left out, medians differ most in {gap}."


def _widest_gap(boxes: pd.DataFrame, labels: pd.Series) -> str:
    """The data set whose clean published medians lie farthest apart, and both ends."""
    ends = boxes[~boxes["contaminated"]].groupby(labels)["median"].agg(["min", "max"])
    widest = (ends["max"] - ends["min"]).idxmax()
    least, most = map(signed, ends.loc[widest])
    return f"{widest} ({least} to {most} {PUBLISHED_UNIT})"


def figure_3_published(names: Sequence[str] = published.SELECTED) -> Drawn:
    """Published quartiles of steerability by positive option; the contaminated "B, No" boxes are hatched."""
    theirs = published.boxes()
    rows = theirs[theirs["dataset"].isin(samples.published_names(names))]
    style.need(not rows.empty, "a data set with published boxes", ", ".join(names), "take another one.")
    rows = rows.assign(label=rows["dataset"].map(samples.published_label), group=options(rows))
    clean = rows[~rows["contaminated"]]
    columns = ["dataset", "label", "group", "q1", "median", "q3", "contaminated"]
    table = in_order(rows, clean.groupby("dataset")["median"].mean())[columns]
    boxes = table.assign(y=box_places(table)["y"].to_numpy())
    with drawing(boxes) as (figure, [axes]):
        axes.use_sticky_edges = False
        for box in boxes.itertuples():
            look = HATCHED if box.contaminated else {"fc": GROUPS[box.group], "alpha": 0.75}
            _quartiles(axes, box, look, {"lw": 1.6})
        axes.set_xlabel(f"steerability ({PUBLISHED_UNIT}): middle half and median")
        samples.head(figure, "figure 3")
        words = "B, or B, No: holds 6 of 7 rows of every example"
        handles = [*patches(clean["group"]), Patch(label=words, ec=style.PUBLISHED, **HATCHED)]
        style.legend(figure, handles, 3)
    alt = (
        f"Published quartiles of steerability by positive option of Llama-2-7b ({MARK}) on {style.sets(table['dataset'].nunique())}. "
        f"Medians of the clean groups differ most in {_widest_gap(table, table['label'])}. "
        f"{int(table['contaminated'].sum())} boxes are hatched: in the authors' frame six of seven rows of every "
        "example fall there."
    )
    return Drawn(figure, table, alt)


def figure_4(parts: pd.DataFrame, order: str) -> Drawn:
    """Variance of steerability split into letter, answer and the rest, ours left, published right; totals in the margin.

    `parts` has dataset, total, and the three parts, which add up to it; `order` says which factor got what both explain.
    Where `parts` has a `kind`, sets with another kind of items stand apart.
    """
    table = _shares(parts)
    with rows.drawing(table["label"].map(samples.name_lines), 2) as (figure, panels):
        for axes, prefix in zip(panels, ("", "published_"), strict=True):
            _stacks(axes, table, prefix)
            totals = table[f"{prefix}total"]
            for row in table.index[~(totals > 0)]:  # NaN, too
                why = "no variance" if totals[row] == 0 else style.gap(table.loc[row, "dataset"])
                style.remark(axes, row, why)
            rows.numbers(axes, totals.dropna().map("{:#.2g}".format), "total")
            axes.set(xlim=(0, 1), xlabel="share of the variance of steerability")
        panels[0].set_title(f"ours:\n{ORDERS[order]}")
        panels[1].set_title("published:\nLlama-2-7b, letter first")
    known = table.dropna(subset="unexplained")
    theirs = known.dropna(subset="published_unexplained")
    if known.empty:
        alt = f"Variance parts of steerability on {style.sets(len(table))}, without any variance to split."
        return Drawn(figure, table, alt)
    alt = f"Stacked bars of the variance of steerability on {style.sets(len(known))} ({ORDERS[order]}): "
    alt += f"{_unexplained(known, 'unexplained')} of it stays unexplained, and the average shares are "
    alt += f"{_averages(known, '')}."
    for kind, own in known.groupby("kind", sort=False) if known["kind"].nunique() > 1 else ():
        alt += f" Sets of {ASKED[kind]}: {_averages(own, '')}."
    if theirs.empty:
        return Drawn(figure, table, f"{alt} The paper shows no Llama-2-7b values for them.")
    alt += f" The published averages (Llama-2-7b, letter first), known for {len(theirs)} of {len(known)}, are"
    return Drawn(figure, table, f"{alt} {_averages(theirs, 'published_')}.")


def _shares(parts: pd.DataFrame) -> pd.DataFrame:
    """Parts as shares of the total variance, ours and the published (letter first), least unexplained first."""
    rows = style.checked(parts, ("dataset", *COLUMNS), COLUMNS).set_index("dataset")
    kinds, rows = rows.get("kind", pd.Series("", rows.index)), rows[COLUMNS].astype(float)
    adds_up = np.allclose(rows[[*PARTS]].sum(axis=1), rows["total"], rtol=1e-6, atol=1e-9)
    expected, once = "each data set once, with parts that add up to the total", rows.index.is_unique
    next_step = "pass the parts of one format and layer."
    style.need(adds_up and once, expected, "a table that is not so", next_step)
    theirs = style.in_distribution(rows.index)[[f"variance_{column}" for column in COLUMNS]]
    ours, theirs = rows, theirs.set_axis(COLUMNS, axis=1)
    for each in (ours, theirs):
        each[[*PARTS]] = each[[*PARTS]].div(each["total"].where(each["total"] > 0), axis=0)
    table = ours.join(theirs.add_prefix("published_")).sort_values("unexplained", kind="stable").reset_index()
    table.insert(1, "label", table["dataset"].map(published.label))
    return _by_kind(table.assign(kind=table["dataset"].map(kinds)))


def _by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """The rows kind by kind; the index are their places from the top, with a gap between kinds."""
    table = table.sort_values("kind", key=lambda kinds: kinds.map([*ASKED].index), kind="stable")
    heads = (table["kind"] != table["kind"].shift()).to_numpy().cumsum()
    return table.set_axis(np.arange(len(table)) + GAP * heads * (heads[-1:] > 1))


def figure_4_published(names: Sequence[str] = published.SELECTED) -> Drawn:
    """Published variance of steerability by letter, answer and the rest: as it is, and as shares."""
    table = samples.published_numbers(names, [f"variance_{column}" for column in COLUMNS])
    table.columns = ["dataset", "label", *COLUMNS]
    # The parts are digitised one by one: their sum is the total to 0.02 only, and shares are of the sum.
    split = table[[*PARTS]].div(table[[*PARTS]].sum(axis=1, min_count=3), axis=0).add_prefix("share_")
    table = table.join(split).sort_values("share_unexplained", kind="stable", ignore_index=True)
    table = _by_kind(table.assign(kind=table["dataset"].map(published.kind)))
    with rows.drawing(table["label"].map(samples.name_lines), 2) as (figure, panels):
        for axes, prefix in zip(panels, ("", "share_"), strict=True):
            _stacks(axes, table, prefix)
        panels[0].set(title="variance", xlabel=f"variance of steerability\n(square of {PUBLISHED_UNIT})")
        panels[1].set(title="share", xlabel="share of the variance\n(letter first)", xlim=(0, 1))
        samples.remarks(panels[0], table, "total")
        samples.head(figure, "figure 4")
    what = f"Published variance parts of the steerability of Llama-2-7b ({MARK})"
    start, known = samples.known_of(what, table, "total")
    if len(known):
        rest = _unexplained(known, "share_unexplained")
        start += f": average shares {_averages(known, 'share_')}; {rest} stay unexplained."
    return Drawn(figure, table, start)


def _stacks(axes: Axes, table: pd.DataFrame, prefix: str) -> None:
    """The parts of each row beside each other, of columns that begin with a prefix, kind by kind."""
    for kind, own in table.groupby("kind", sort=False) if table["kind"].nunique() > 1 else ():
        place = {"xy": (0, own.index.min() - 0.5), "xycoords": axes.get_yaxis_transform()}
        axes.annotate(f"sets of {ASKED[kind]}", **place, fontsize=style.SMALL, va="bottom")
    parts = table[[prefix + part for part in PARTS]].set_axis([*PARTS], axis=1)
    rows.stacks(axes, parts, PARTS, ("letter (A/B)", "answer (Yes/No)", "unexplained"))


def _unexplained(table: pd.DataFrame, column: str) -> str:
    """Both ends of a table by the share that stays unexplained."""
    low, high = table.loc[table[column].idxmin()], table.loc[table[column].idxmax()]
    return f"between {low[column]:.0%} ({low['label']}) and {high[column]:.0%} ({high['label']})"


def _averages(table: pd.DataFrame, prefix: str) -> str:
    return ", ".join(f"{part} {table[prefix + part].mean():.0%}" for part in PARTS)
