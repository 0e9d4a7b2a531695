"""What the released code of Tan et al. does to the numbers (`tan.flaws`): "as released" beside "corrected"."""

import pandas as pd
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from companion import published
from companion.figures import bias, samples, style
from companion.figures.style import Drawn, number, signed
from companion.tan import flaws

OFFSETS = {"released": -0.17, "corrected": 0.17}
FALLEN = ["B", "B, No"]  # the boxes that hold every row at another multiplier


def split_effect(table: pd.DataFrame) -> Drawn:
    """Mean steerability and anti-steerable share when test items were trained on, and when they were not."""
    words = {"released": "as released: test items also trained on", "corrected": "corrected: not trained on"}
    start = "Steerability of test items that were trained on, as released, and that were not"
    return _two_sides(table, words, start)


def closing_bracket(table: pd.DataFrame) -> Drawn:
    """Mean steerability and anti-steerable share with and without the logit of the `)` after the letter."""
    words = {"released": "as released: letter and closing bracket", "corrected": "corrected: letter alone"}
    start = "Steerability with (as released) and without the logit of the closing bracket"
    drawn = _two_sides(table, words, start)
    flipped = f"On average {table['flipped'].mean():.0%} of the examples of a set change sides of zero."
    return Drawn(drawn.figure, table, f"{drawn.alt} {flipped}")


def _two_sides(table: pd.DataFrame, words: dict[str, str], start: str) -> Drawn:
    """Left the means with intervals, right the anti-steerable shares; the margin holds the difference."""
    rows = table.sort_values("mean_corrected", ascending=False, kind="stable", ignore_index=True)
    kind = style.one_format(table)
    unit, color = style.PER_UNIT[kind], style.FORMATS[kind]
    looks = {"released": {"marker": "D", "ms": 5, "mfc": "white", "mec": style.PUBLISHED}}
    looks["corrected"] = {"marker": "o", "ms": 5.5, "mfc": color, "mec": color}
    wrong = rows[[f"anti_steerable_{side}" for side in OFFSETS]]
    shares = {"sharey": True, "width_ratios": [1.5, 1]}
    with style.drawing(1.7 + 0.33 * len(rows), 1, 2, **shares) as (figure, (left, right)):
        for side, look in looks.items():
            heights = rows.index + OFFSETS[side]
            left.hlines(heights, rows[f"low_{side}"], rows[f"high_{side}"], color=look["mec"], lw=1.3)
            left.plot(rows[f"mean_{side}"], heights, ls="none", zorder=3, **look)
            right.plot(rows[f"anti_steerable_{side}"], heights, ls="none", clip_on=False, **look)
        left.axvline(0, color=style.BLACK, lw=0.9)
        style.name_rows(left, rows["dataset"].map(style.tick))
        left.set(title=f"mean, {kind} format", xlabel=f"steerability\n({unit})")
        samples.share_axis(right, wrong.max())
        right.xaxis.set_major_locator(MultipleLocator(0.25))
        left.locator_params(axis="x", nbins=5)
        for axes, what in ((left, "mean"), (right, "anti_steerable")):
            changes = [number(change, "+.2g") for change in rows[f"{what}_difference"]]
            style.margin_numbers(axes, rows.index, changes, "Δ")
        handles = [style.dot(words[side], **look) for side, look in looks.items()]
        title = "Δ: as released minus corrected"
        style.legend(figure, handles, title=title, title_fontsize=style.SMALL)
    most = table.loc[table["mean_difference"].abs().idxmax()]
    rho, count = style.rank_correlation(table["mean_released"], table["mean_corrected"])
    ranks = "" if pd.isna(rho) else f" The order of the {count} sets has a rank correlation of {rho:.2f}."
    alt = (
        f"{start} on {style.sets(len(table))}: as released minus corrected, the mean moves by "
        f"{signed(table['mean_difference'].mean())} {unit} on average and most in {published.label(most['dataset'])} "
        f"({number(most['mean_released'])} against {number(most['mean_corrected'])}); the anti-steerable share is "
        f"{wrong.iloc[:, 0].mean():.0%} against {wrong.iloc[:, 1].mean():.0%} on average.{ranks}"
    )
    return Drawn(figure, table, alt)


def contaminated_boxes(rows: pd.DataFrame) -> Drawn:
    """Figure 3 as the released code groups its rows (`tan.flaws.released_groups`), and as they are; with counts."""
    columns = ("dataset", "multiplier", *flaws.SIDES, "steerability")
    means = style.checked(rows, columns, columns[-1:]).groupby("dataset")["steerability"].mean()
    values, boxes = {}, {}
    for side, part in (("released", rows), ("corrected", rows[rows["multiplier"] == 0])):
        long = part.rename(columns={side: "group", "steerability": "value"})
        values[side] = bias.in_order(long, means)[["dataset", "group", "value"]]
        boxes[side] = bias.box_places(values[side])
    # As released no box is missing, but one may be there that no example belongs to: its row stays empty.
    places = boxes["released"].drop(columns="n")
    boxes["corrected"] = boxes["corrected"].drop(columns="y").merge(places, on=["dataset", "group"])
    height = 1.75 + 0.145 * (places["y"].max() + 2)
    with style.drawing(height, 1, 2, sharex=True, sharey=True) as (figure, panels):
        for axes, side, title in zip(panels, flaws.SIDES, ("as released", "corrected"), strict=True):
            bias.draw_boxes(axes, values[side], boxes[side])
            for patch, group in zip(axes.patches, boxes[side]["group"], strict=True):  # nothing but boxes yet
                if side == "released" and group in FALLEN:
                    patch.set(edgecolor=bias.GROUPS[group], **bias.HATCHED)
            bias.stripes(axes, places)
            axes.set(xlabel="steerability (logits per unit multiplier)", title=title)
        bias.name_boxes(panels[0], places)
        marked = Patch(label="holds every row at another multiplier", ec=style.PUBLISHED, **bias.HATCHED)
        handles = [*bias.patches(places["group"]), marked]
        style.legend(figure, handles, 4)
    fallen = [long[long["group"].isin(FALLEN)] for long in values.values()]
    was, is_now = (long.groupby("dataset")["value"].median() for long in fallen)
    shift = (was - is_now).abs()
    alt = f"Box plots of steerability by positive option on {style.sets(len(was))}, as released and corrected: as "
    alt += "released, most rows of every example fall into the box B, No."
    if shift.notna().any():  # no example may belong to that box
        most, by = shift.idxmax(), number(shift.mean())
        alt += f" Its median moves by {by} logits per unit multiplier on average and most in "
        alt += f"{published.label(most)} ({signed(was[most])} as released, {signed(is_now[most])} corrected)."
    return Drawn(figure, rows, alt)


def pooled_sycophancy(table: pd.DataFrame) -> Drawn:
    """The two sycophancy sets pooled, as released, and apart; ours beside published."""
    theirs = samples.with_pool(table["dataset"], ["median", "anti_steerable", "q1", "q3", "mean"])
    rows = table.set_index("dataset").join(theirs.add_prefix("published_")).reset_index()
    kind = style.one_format(table)
    unit, color = style.PER_UNIT[kind], style.FORMATS[kind]
    with style.drawing(2.9, 1, 3, sharey=True, width_ratios=[1, 1, 0.8]) as (figure, panels):
        left, middle, right = panels
        samples.middles(left, rows, "", color, color, lw=7, alpha=0.5)
        samples.middles(middle, rows, "published_", style.PUBLISHED, lw=7, alpha=0.5)
        left.locator_params(axis="x", nbins=4)
        right.barh(rows.index, rows["anti_steerable"], height=0.5, color=color, alpha=0.75)
        look = {"marker": "D", "s": 24, "color": style.PUBLISHED, "zorder": 3}
        right.scatter(rows["published_anti_steerable"], rows.index, **look)
        samples.share_axis(right, rows["anti_steerable"])
        words = ["train set\n(corrected)", "test set\n(corrected)", "both as one\n(as released)"]
        style.name_rows(left, words)
        left.set(title=f"ours:\n{kind}", xlabel=f"steerability\n({unit})")
        samples.theirs(middle)
        style.margin_numbers(right, rows.index, rows["n"].astype(str), "n (ours)")
        handles = [*samples.middles_legend(), style.dot("published share", "D", 5, color=style.PUBLISHED)]
        style.legend(figure, handles, 4)
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
