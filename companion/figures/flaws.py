"""What the released code of Tan et al. does to the numbers (`tan.flaws`): "as released" beside "corrected"."""

import pandas as pd
from matplotlib.patches import Patch

from companion import published
from companion.figures import bias, rows, samples, style
from companion.figures.style import Drawn, number, signed
from companion.tan import flaws

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
    shown = table.sort_values("mean_corrected", ascending=False, kind="stable", ignore_index=True)
    kind = style.one_format(table)
    unit, color = style.PER_UNIT[kind], style.FORMATS[kind]
    released = {"marker": "D", "fill": "white", "color": style.PUBLISHED}
    wrong = shown[[f"anti_steerable_{side}" for side in flaws.SIDES]]
    names = shown["dataset"].map(style.tick)
    with rows.drawing(names, 2, 2, width_ratios=[1.5, 1]) as (figure, (left, right)):
        for place, (side, look) in enumerate(zip(flaws.SIDES, (released, {"color": color}), strict=True)):
            look |= {"below": rows.shift(place, 2), "label": words[side]}
            rows.points(left, shown[[f"{name}_{side}" for name in ("mean", "low", "high")]], **look)
            rows.points(right, wrong[f"anti_steerable_{side}"], clip_on=False, **look)
        left.set(title=f"mean, {kind} format", xlabel=f"steerability\n({unit})")
        samples.share_axis(right, wrong.max())
        left.locator_params(axis="x", nbins=5)
        for axes, what in ((left, "mean"), (right, "anti_steerable")):
            rows.numbers(axes, shown[f"{what}_difference"].map(lambda change: number(change, "+.2g")), "Δ")
        left.plot([], [], " ", label="Δ: as released minus corrected")
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
    with bias.drawing(places, 2, sharex=True) as (figure, panels):
        for axes, side, title in zip(panels, flaws.SIDES, ("as released", "corrected"), strict=True):
            bias.draw_boxes(axes, values[side], boxes[side])
            for patch, group in zip(axes.patches, boxes[side]["group"], strict=True):  # nothing but boxes yet
                if side == "released" and group in FALLEN:
                    patch.set(edgecolor=bias.GROUPS[group], **bias.HATCHED)
            axes.set(xlabel="steerability (logits per unit multiplier)", title=title)
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
    shown = table.set_index("dataset").join(theirs.add_prefix("published_")).reset_index()
    kind = style.one_format(table)
    unit, color = style.PER_UNIT[kind], style.FORMATS[kind]
    words = ["train set\n(corrected)", "test set\n(corrected)", "both as one\n(as released)"]
    with rows.drawing(words, 3, width_ratios=[1, 1, 0.8]) as (figure, (left, middle, right)):
        samples.middles(left, shown, "", color)
        samples.middles(middle, shown, "published_", style.PUBLISHED)
        left.locator_params(axis="x", nbins=4)
        samples.anti_steerable(right, shown, color)
        left.set(title=f"ours:\n{kind}", xlabel=f"steerability\n({unit})")
        samples.theirs(middle)
        rows.numbers(right, shown["n"], "n (ours)")
    train, test, both = (row for _, row in shown.iterrows())
    alt = (
        f"The two sycophancy sets apart and as one ({kind} format): median steerability {number(train['median'])} "
        f"(train set, n = {train['n']}), {number(test['median'])} (test set, n = {test['n']}) and "
        f"{number(both['median'])} {unit} pooled; anti-steerable {train['anti_steerable']:.0%}, "
        f"{test['anti_steerable']:.0%} and {both['anti_steerable']:.0%}. Published for Llama-2-7b, pooled: median "
        f"{number(both['published_median'])} logits per unit multiplier, {both['published_anti_steerable']:.0%} "
        "anti-steerable."
    )
    return Drawn(figure, table, alt)
