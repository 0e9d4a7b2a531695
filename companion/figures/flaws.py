"""What the released code of Tan et al. does to the numbers: each figure sets "as released" beside "corrected".

The tables are those of `companion.tan.flaws`; every function gives the drawing, its table, and what it shows in
words (`style.Drawn`).
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from companion import published
from companion.figures import bias as tan_options
from companion.figures import style
from companion.figures import style as frames
from companion.figures.style import Drawn, number, signed
from companion.tan import flaws

OFFSETS = {"released": -0.17, "corrected": 0.17}
FALLEN = ["B", "B, No"]  # the boxes that hold every row at another multiplier
MARKED = {"fc": "white", "ec": style.PUBLISHED, "hatch": "//////"}


def split_effect(table: pd.DataFrame) -> Drawn:
    """Mean steerability and anti-steerable share when test items were trained on, and when they were not."""
    words = {"released": "as released: test items also trained on", "corrected": "corrected: clean split"}
    start = "Steerability under the released split, which tests trained items, and a clean one"
    return _two_sides(table, words, start)


def closing_bracket(table: pd.DataFrame) -> Drawn:
    """Mean steerability and anti-steerable share with and without the logit of the `)` after the letter."""
    words = {"released": "as released: letter and closing bracket", "corrected": "corrected: letter alone"}
    drawn = _two_sides(
        table, words, "Steerability with (as released) and without the logit of the closing bracket"
    )
    flipped = f"On average {table['flipped'].mean():.0%} of the examples of a set change sides of zero."
    return Drawn(drawn.figure, table, f"{drawn.alt} {flipped}")


def _two_sides(table: pd.DataFrame, words: dict[str, str], start: str) -> Drawn:
    """Left the means with intervals, right the anti-steerable shares; the margin holds the difference."""
    rows = table.sort_values("mean_corrected", ascending=False, kind="stable", ignore_index=True)
    kind = frames.one_format(table)
    unit, color = f"{style.UNITS[kind]} per unit multiplier", style.FORMATS[kind]
    looks = {
        "released": {"marker": "D", "ms": 5, "mfc": "white", "mec": style.PUBLISHED},
        "corrected": {"marker": "o", "ms": 5.5, "mfc": color, "mec": color},
    }
    wrong = rows[[f"anti_steerable_{side}" for side in OFFSETS]]
    with style.theme():
        size = (style.WIDTH, 1.7 + 0.33 * len(rows))
        figure, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[1.5, 1], figsize=size)
        for side, look in looks.items():
            heights = rows.index + OFFSETS[side]
            left.hlines(heights, rows[f"low_{side}"], rows[f"high_{side}"], color=look["mec"], lw=1.3)
            left.plot(rows[f"mean_{side}"], heights, ls="none", zorder=3, **look)
            right.plot(rows[f"anti_steerable_{side}"], heights, ls="none", clip_on=False, **look)
        left.axvline(0, color=style.BLACK, lw=0.9)
        left.set(
            yticks=rows.index, yticklabels=rows["dataset"].map(frames.tick), ylim=(len(rows) - 0.4, -0.6)
        )
        left.set(title=f"mean, {kind} format", xlabel=f"steerability\n({unit})")
        right.set(title="anti-steerable", xlabel="share of examples\nwith slope ≤ 0")
        right.set_xlim(0, max(0.58, 1.05 * wrong.to_numpy().max()))
        right.xaxis.set_major_locator(MultipleLocator(0.25))
        for axes, what in ((left, "mean"), (right, "anti_steerable")):
            style.margin_numbers(axes, rows.index, rows[f"{what}_difference"].map(_change), "Δ")
        handles = [Line2D([], [], ls="none", label=words[side], **look) for side, look in looks.items()]
        note = {"title": "Δ: as released minus corrected", "title_fontsize": style.SMALL}
        figure.legend(handles=handles, loc="outside lower center", ncols=2, **note)
    most = table.loc[table["mean_difference"].abs().idxmax()]
    rho, count = frames.rank_correlation(table["mean_released"], table["mean_corrected"])
    ranks = "" if pd.isna(rho) else f" The order of the {count} sets has a rank correlation of {rho:.2f}."
    alt = (
        f"{start} on {frames.sets(len(table))}: as released minus corrected, the mean moves by "
        f"{signed(table['mean_difference'].mean())} {unit} on average and most in {published.label(most['dataset'])} "
        f"({number(most['mean_released'])} against {number(most['mean_corrected'])}); the anti-steerable share is "
        f"{wrong.iloc[:, 0].mean():.0%} against {wrong.iloc[:, 1].mean():.0%} on average.{ranks}"
    )
    return Drawn(figure, table, alt)


def _change(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def contaminated_boxes(rows: pd.DataFrame) -> Drawn:
    """Figure 3 as the released code groups its rows (`companion.tan.flaws.released_groups`), and as they are.

    As released, six of the seven rows of every example count as "B, No"; that box is hatched. The numbers at
    the right end count the rows of a box.
    """
    columns = ("dataset", "multiplier", *flaws.SIDES, "steerability")
    sets = frames.checked(rows, columns, columns[-1:]).groupby("dataset")["steerability"].mean()
    sets, values, boxes = sets.sort_values(ascending=False).index, {}, {}
    for side, part in (("released", rows), ("corrected", rows[rows["multiplier"] == 0])):
        long = part.rename(columns={side: "group", "steerability": "value"})
        keys = [long["group"].map(list(tan_options.GROUPS).index), long["dataset"].map(sets.get_loc)]
        values[side] = long.iloc[np.lexsort(keys)][["dataset", "group", "value"]].reset_index(drop=True)
        boxes[side] = tan_options.box_places(values[side])
    # As released no box is missing, but one may be there that no example belongs to: its row stays empty.
    places, gap = boxes["released"].drop(columns="n"), 0.5 + tan_options.SPACE / 2
    boxes["corrected"] = boxes["corrected"].drop(columns="y").merge(places, on=["dataset", "group"])
    height = places["y"].max()
    with style.theme():
        size = (style.WIDTH, 1.75 + 0.145 * (height + 2))
        figure, panels = plt.subplots(1, 2, sharex=True, sharey=True, figsize=size)
        for axes, side, title in zip(panels, flaws.SIDES, ("as released", "corrected"), strict=True):
            tan_options.draw_boxes(axes, values[side], boxes[side])
            for patch, group in zip(axes.patches, boxes[side]["group"], strict=True):  # nothing but boxes yet
                if side == "released" and group in FALLEN:
                    patch.set(facecolor="white", edgecolor=tan_options.GROUPS[group], hatch="//////")
            tan_options.stripes(axes, places)
            axes.set(xlabel="steerability (logits per unit multiplier)", title=title)
        middles = places.groupby("dataset", sort=False)["y"].mean()
        panels[0].set(yticks=middles, yticklabels=middles.index.map(frames.tick), ylim=(height + gap, -gap))
        handles = [
            Patch(color=color, alpha=0.75, label=f"{group} (no Yes/No)" if len(group) == 1 else group)
            for group, color in tan_options.GROUPS.items()
            if group in set(places["group"])
        ]
        handles.append(Patch(label="holds every row at another multiplier", **MARKED))
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    was, is_now = (
        long[long["group"].isin(FALLEN)].groupby("dataset")["value"].median() for long in values.values()
    )
    shift = (was - is_now).abs()
    alt = (
        f"Box plots of steerability by positive option on {frames.sets(len(was))}, as released and corrected: as "
        "released, most rows of every example fall into the box B, No."
    )
    if shift.notna().any():  # no example may belong to that box
        most = shift.idxmax()
        alt += (
            f" Its median moves by {number(shift.mean())} logits per unit multiplier on average and most in "
            f"{published.label(most)} ({signed(was[most])} as released, {signed(is_now[most])} corrected)."
        )
    return Drawn(figure, rows, alt)


def pooled_sycophancy(table: pd.DataFrame) -> Drawn:
    """The two sycophancy sets pooled, as released, and apart (`companion.tan.flaws.pooled`); published beside ours."""
    rows, kind = _with_published(table), frames.one_format(table)
    unit, color = f"{style.UNITS[kind]} per unit multiplier", style.FORMATS[kind]
    ours, theirs = ("", color, color), ("published_", style.PUBLISHED, style.FAINT)
    with style.theme():
        figure, panels = plt.subplots(1, 3, sharey=True, width_ratios=[1, 1, 0.8], figsize=(style.WIDTH, 2.9))
        left, middle, right = panels
        for axes, (prefix, dark, pale) in ((left, theirs), (middle, ours)):
            axes.hlines(rows.index, rows[f"{prefix}q1"], rows[f"{prefix}q3"], color=pale, lw=7, alpha=0.5)
            axes.scatter(rows[f"{prefix}mean"], rows.index, marker="D", s=46, fc="white", ec=dark, zorder=3)
            axes.scatter(rows[f"{prefix}median"], rows.index, s=17, color=dark, zorder=4)
            axes.axvline(0, color=style.BLACK, lw=0.9)
        right.barh(rows.index, rows["anti_steerable"], height=0.5, color=color, alpha=0.75)
        look = {"marker": "D", "s": 24, "color": style.PUBLISHED, "zorder": 3}
        right.scatter(rows["published_anti_steerable"], rows.index, **look)
        right.set(xlim=(0, max(0.58, 1.05 * rows["anti_steerable"].max())), title="anti-steerable")
        right.set_xlabel("share of examples\nwith slope ≤ 0")
        words = ["train set\n(corrected)", "test set\n(corrected)", "both as one\n(as released)"]
        left.set(yticks=rows.index, yticklabels=words, ylim=(2.6, -0.6))
        left.set(title="published:\nLlama-2-7b, letter", xlabel="steerability\n(logits per unit multiplier)")
        middle.set(title=f"ours:\n{kind}", xlabel=f"steerability\n({unit})")
        style.margin_numbers(right, rows.index, rows["n"].astype(str), "n (ours)")
        dot = {"ls": "none", "color": style.BLACK}
        handles = [
            Line2D([], [], marker="o", ms=4.5, label="median", **dot),
            Line2D([], [], marker="D", ms=6, mfc="white", label="mean", **dot),
            Line2D([], [], color=style.FAINT, lw=7, label="middle half"),
            Line2D([], [], marker="D", ms=5, label="published share", **dot | {"color": style.PUBLISHED}),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    train, test, both = (row for _, row in rows.iterrows())
    alt = (
        f"The two sycophancy sets apart and as one ({kind} format): median steerability {number(train['median'])} "
        f"(train set, n = {train['n']}), {number(test['median'])} (test set, n = {test['n']}) and "
        f"{number(both['median'])} {unit} pooled; anti-steerable {train['anti_steerable']:.0%}, "
        f"{test['anti_steerable']:.0%} and {both['anti_steerable']:.0%}. Published for Llama-2-7b, pooled: median "
        f"{number(both['published_median'])} logits per unit multiplier, {both['published_anti_steerable']:.0%} "
        "anti-steerable."
    )
    return Drawn(figure, table, alt)


def _with_published(table: pd.DataFrame) -> pd.DataFrame:
    """Beside ours the paper's numbers: quartiles of the pool only, means of the parts only."""
    pool = published.tan()["pooled"]["sycophancy"]
    known = {"median": pool["median"], "anti_steerable": pool["anti_steerable"]}
    known |= dict(zip(("q1", "q3"), pool["quartiles"], strict=True))
    means = frames.in_distribution(flaws.SYCOPHANCY)["mean"]
    theirs = pd.DataFrame({"sycophancy": known}).T.reindex(table["dataset"]).assign(mean=means)
    return table.set_index("dataset").join(theirs.add_prefix("published_")).reset_index()
