"""What the released code of Tan et al. does to the numbers: each figure sets "as released" beside "corrected"."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from companion import published
from companion.figures import frames, style, tan_options
from companion.tan import flaws
from companion.tan.ranges import Groups

SLOPES = ("dataset", "example_id", "format", "vector", "layer", "steerability")
GRID = (*SLOPES[:-1], "multiplier")
HATCHED = "holds every row at another multiplier"
MARKED = {"fc": "white", "ec": style.PUBLISHED, "hatch": "//////"}
OFFSETS = {"released": -0.17, "corrected": 0.17}


def _slopes(table: pd.DataFrame) -> pd.DataFrame:
    checked = frames.checked(table, SLOPES, SLOPES[-1:])
    return frames.full_vectors(checked, ["dataset", "example_id"])


def split_effect(
    released_slopes: pd.DataFrame, clean_slopes: pd.DataFrame, groups: Groups | None = None
) -> Figure:
    """Mean steerability and anti-steerable share when test items were trained on, and when they were not.

    Parameters
    ----------
    released_slopes, clean_slopes : DataFrame
        SLOPES tables of the splits "as-released" and "clean" in one answer format; only "full" is drawn.
    groups : mapping from example_id to label, optional
        As in `companion.tan.flaws.split_effect`, which makes the table.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats or layers, different data
        sets in the two tables.
    """
    table = flaws.split_effect(_slopes(released_slopes), _slopes(clean_slopes), groups=groups)
    words = {"released": "as released: test items also trained on", "corrected": "corrected: clean split"}
    return _two_sides(table, words)


def closing_bracket(
    letter_slopes: pd.DataFrame, paper_slopes: pd.DataFrame, groups: Groups | None = None
) -> Figure:
    """Mean steerability and anti-steerable share with and without the logit of the `)` after the letter.

    Parameters
    ----------
    letter_slopes, paper_slopes : DataFrame
        SLOPES tables of the same examples with the fidelities "letter" and "paper"; only "full" is drawn.
    groups : mapping from example_id to label, optional
        As in `companion.tan.flaws.bracket_effect`, which makes the table.

    Raises
    ------
    SteerkitError
        As :func:`split_effect`, and different examples in the two tables.
    """
    table = flaws.bracket_effect(_slopes(letter_slopes), _slopes(paper_slopes), groups=groups)
    words = {"released": "as released: letter and closing bracket", "corrected": "corrected: letter alone"}
    return _two_sides(table, words)


def _two_sides(table: pd.DataFrame, words: dict[str, str]) -> Figure:
    """Left the means with intervals, right the anti-steerable shares; the margin holds the difference."""
    table = table.sort_values("mean_corrected", ascending=False, kind="stable", ignore_index=True)
    kind = frames.one_format(table)
    with style.theme():
        size = (style.WIDTH, 1.7 + 0.33 * len(table))
        figure, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[1.5, 1], figsize=size)
        for side, offset in OFFSETS.items():
            look, heights = _look(side, style.FORMATS[kind]), table.index + offset
            left.hlines(heights, table[f"low_{side}"], table[f"high_{side}"], color=look["mec"], lw=1.3)
            left.plot(table[f"mean_{side}"], heights, ls="none", zorder=3, **look)
            right.plot(table[f"anti_steerable_{side}"], heights, ls="none", clip_on=False, **look)
        left.axvline(0, color=style.BLACK, lw=0.9)
        left.set(
            yticks=table.index, yticklabels=table["dataset"].map(frames.tick), ylim=(len(table) - 0.4, -0.6)
        )
        left.set(
            title=f"mean, {kind} format", xlabel=f"steerability\n({style.UNITS[kind]} per unit multiplier)"
        )
        shares = table[[f"anti_steerable_{side}" for side in OFFSETS]]
        right.set(title="anti-steerable", xlabel="share of examples\nwith slope ≤ 0")
        right.set_xlim(0, max(0.58, 1.05 * shares.to_numpy().max()))
        right.xaxis.set_major_locator(MultipleLocator(0.25))
        style.margin_numbers(left, table.index, table["mean_difference"].map(_change), "Δ")
        style.margin_numbers(right, table.index, table["anti_steerable_difference"].map(_change), "Δ")
        handles = [
            Line2D([], [], ls="none", label=words[side], **_look(side, style.FORMATS[kind]))
            for side in OFFSETS
        ]
        note = {"title": "Δ: as released minus corrected", "title_fontsize": style.SMALL}
        figure.legend(handles=handles, loc="outside lower center", ncols=2, **note)
    return figure


def _look(side: str, color: str) -> dict[str, object]:
    if side == "released":
        return {"marker": "D", "ms": 5, "mfc": "white", "mec": style.PUBLISHED}
    return {"marker": "o", "ms": 5.5, "mfc": color, "mec": color}


def _change(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _two_sides_alt(table: pd.DataFrame, start: str) -> str:
    unit = f"{style.UNITS[frames.one_format(table)]} per unit multiplier"
    most = table.loc[table["mean_difference"].abs().idxmax()]
    rho, count = frames.rank_correlation(table["mean_released"], table["mean_corrected"])
    ranks = "" if pd.isna(rho) else f" The order of the {count} sets has a rank correlation of {rho:.2f}."
    wrong = [f"{table[f'anti_steerable_{side}'].mean():.0%}" for side in flaws.SIDES]
    return (
        f"{start} on {frames.sets(len(table))}: as released minus corrected, the mean moves by "
        f"{frames.signed(table['mean_difference'].mean())} {unit} on average and most in "
        f"{published.label(most['dataset'])} ({frames.number(most['mean_released'])} against "
        f"{frames.number(most['mean_corrected'])}); the anti-steerable share is {wrong[0]} against {wrong[1]} on "
        f"average.{ranks}"
    )


def split_effect_alt(
    released_slopes: pd.DataFrame, clean_slopes: pd.DataFrame, groups: Groups | None = None
) -> str:
    """Alt text of :func:`split_effect`, with its numbers."""
    table = flaws.split_effect(_slopes(released_slopes), _slopes(clean_slopes), groups=groups)
    return _two_sides_alt(
        table, "Steerability under the released split, which tests trained items, and a clean one"
    )


def closing_bracket_alt(
    letter_slopes: pd.DataFrame, paper_slopes: pd.DataFrame, groups: Groups | None = None
) -> str:
    """Alt text of :func:`closing_bracket`, with its numbers."""
    table = flaws.bracket_effect(_slopes(letter_slopes), _slopes(paper_slopes), groups=groups)
    text = _two_sides_alt(
        table, "Steerability with (as released) and without the logit of the closing bracket"
    )
    return f"{text} On average {table['flipped'].mean():.0%} of the examples of a set change sides of zero."


def _contaminated(grid: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each side the values of its boxes, sets by falling mean: columns dataset, group, value."""
    checked = frames.checked(grid, GRID, GRID[-1:])
    rows = flaws.released_groups(checked)
    sets = rows.groupby("dataset")["steerability"].mean().sort_values(ascending=False).index
    sides = {"released": rows, "corrected": rows[rows["multiplier"] == 0]}
    found = {}
    for side, table in sides.items():
        table = table.rename(columns={side: "group", "steerability": "value"})
        names, groups = table["dataset"].map(sets.get_loc), table["group"].map(list(tan_options.COLORS).index)
        keys = pd.DataFrame({"set": names, "group": groups}).sort_values(["set", "group"], kind="stable")
        found[side] = table.loc[keys.index, ["dataset", "group", "value"]].reset_index(drop=True)
    return found


def contaminated_boxes(grid: pd.DataFrame) -> Figure:
    """Figure 3 as the released code groups its rows, beside the groups as they are.

    As released, six of the seven rows of every example count as "B, No" (`companion.tan.flaws.released_groups`);
    that box is hatched. The numbers at the right end count the rows of a box.

    Parameters
    ----------
    grid : DataFrame
        A GRID table in the letter format, with multiplier 0; only the vector "full" is drawn.

    Raises
    ------
    SteerkitError
        Empty table, missing column, another format, several layers, no multiplier 0.
    """
    sides = _contaminated(grid)
    boxes = {side: tan_options._places(long) for side, long in sides.items()}
    # As released no box is missing, but one may be there that no example belongs to: its row stays empty.
    rows = boxes["released"].drop(columns="n")
    boxes["corrected"] = boxes["corrected"].drop(columns="y").merge(rows, on=["dataset", "group"])
    height = rows["y"].max()
    with style.theme():
        size = (style.WIDTH, 1.75 + 0.145 * (height + 2))
        figure, panels = plt.subplots(1, 2, sharex=True, sharey=True, figsize=size)
        for axes, (side, long) in zip(panels, sides.items(), strict=True):
            tan_options._our_boxes(axes, long, boxes[side])
            if side == "released":
                _hatch(axes, boxes[side])
            tan_options._stripes(axes, boxes["released"])
            axes.set(xlabel="steerability (logits per unit multiplier)")
        panels[0].set_title("as released")
        panels[1].set_title("corrected")
        middles = boxes["released"].groupby("dataset", sort=False)["y"].mean()
        panels[0].set(yticks=middles, yticklabels=middles.index.map(frames.tick))
        panels[0].set_ylim(height + 0.5 + tan_options.SPACE / 2, -0.5 - tan_options.SPACE / 2)
        present = [group for group in tan_options.COLORS if group in set(rows["group"])]
        words = {"A": "A (no Yes/No)", "B": "B (no Yes/No)"}
        handles = [Patch(color=tan_options.COLORS[g], alpha=0.75, label=words.get(g, g)) for g in present]
        handles.append(Patch(label=HATCHED, **MARKED))
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _hatch(axes: Axes, boxes: pd.DataFrame) -> None:
    """Empty the contaminated boxes and hatch them in their colour; nothing but boxes is drawn yet."""
    for patch, group in zip(axes.patches, boxes["group"], strict=True):
        if group in ("B", "B, No"):
            patch.set(facecolor="white", edgecolor=tan_options.COLORS[group], hatch="//////")


def contaminated_boxes_alt(grid: pd.DataFrame) -> str:
    """Alt text of :func:`contaminated_boxes`, with its numbers."""
    medians = {
        side: long[long["group"].isin(["B", "B, No"])].groupby("dataset")["value"].median()
        for side, long in _contaminated(grid).items()
    }
    shift = medians["released"] - medians["corrected"]
    most = shift.abs().idxmax()
    return (
        f"Box plots of steerability by positive option on {frames.sets(len(medians['released']))}, as released "
        "and corrected: as released, most rows of every example fall into the box B, No. Its median moves by "
        f"{frames.number(shift.abs().mean())} logits per unit multiplier on average and most in "
        f"{published.label(most)} ({frames.signed(medians['released'][most])} as released, "
        f"{frames.signed(medians['corrected'][most])} corrected)."
    )


def pooled_sycophancy(slopes: pd.DataFrame) -> Figure:
    """The two sycophancy sets pooled, as released, and apart; the published numbers of Llama-2-7b beside ours.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table in one answer format with both sets; only the vector "full" is drawn.

    Raises
    ------
    SteerkitError
        Empty table, missing column, a number that is not finite, several formats or layers, a set missing.
    """
    table = _pools(slopes)
    kind = frames.one_format(table)
    color = style.FORMATS[kind]
    with style.theme():
        figure, panels = plt.subplots(1, 3, sharey=True, width_ratios=[1, 1, 0.8], figsize=(style.WIDTH, 2.9))
        left, middle, right = panels
        for axes, prefix, dark, pale in (
            (left, "published_", style.PUBLISHED, style.FAINT),
            (middle, "", color, color),
        ):
            axes.hlines(table.index, table[f"{prefix}q1"], table[f"{prefix}q3"], color=pale, lw=7, alpha=0.5)
            axes.scatter(table[f"{prefix}mean"], table.index, marker="D", s=46, fc="white", ec=dark, zorder=3)
            axes.scatter(table[f"{prefix}median"], table.index, s=17, color=dark, zorder=4)
            axes.axvline(0, color=style.BLACK, lw=0.9)
        right.barh(table.index, table["anti_steerable"], height=0.5, color=color, alpha=0.75)
        right.scatter(
            table["published_anti_steerable"], table.index, marker="D", s=24, color=style.PUBLISHED, zorder=3
        )
        right.set(xlim=(0, max(0.58, 1.05 * table["anti_steerable"].max())), title="anti-steerable")
        right.set_xlabel("share of examples\nwith slope ≤ 0")
        words = ["train set\n(corrected)", "test set\n(corrected)", "both as one\n(as released)"]
        left.set(
            yticks=table.index, yticklabels=words, ylim=(2.6, -0.6), title="published:\nLlama-2-7b, letter"
        )
        left.set_xlabel("steerability\n(logits per unit multiplier)")
        middle.set_title(f"ours:\n{kind}")
        middle.set_xlabel(f"steerability\n({style.UNITS[kind]} per unit multiplier)")
        style.margin_numbers(right, table.index, table["n"].astype(str), "n (ours)")
        handles = [
            Line2D([], [], ls="none", marker="o", ms=4.5, color=style.BLACK, label="median"),
            Line2D([], [], ls="none", marker="D", ms=6, mfc="white", color=style.BLACK, label="mean"),
            Line2D([], [], color=style.FAINT, lw=7, label="middle half"),
            Line2D([], [], ls="none", marker="D", ms=5, color=style.PUBLISHED, label="published share"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _pools(slopes: pd.DataFrame) -> pd.DataFrame:
    """`flaws.pooled` with the published numbers: quartiles of the pool only, means of the parts only."""
    table = flaws.pooled(_slopes(slopes)).set_index("dataset")
    pool = published.tan()["pooled"]["sycophancy"]
    known = {"median": pool["median"], "anti_steerable": pool["anti_steerable"]}
    known |= dict(zip(("q1", "q3"), pool["quartiles"], strict=True))
    means = frames.in_distribution(flaws.SYCOPHANCY)["mean"]
    theirs = pd.DataFrame({"sycophancy": known}).T.reindex(table.index).assign(mean=means)
    return table.join(theirs.add_prefix("published_")).reset_index()


def pooled_sycophancy_alt(slopes: pd.DataFrame) -> str:
    """Alt text of :func:`pooled_sycophancy`, with its numbers."""
    table = _pools(slopes).set_index("dataset")
    kind = frames.one_format(table)
    train, test, both = (table.loc[name] for name in (*flaws.SYCOPHANCY, "sycophancy"))
    return (
        f"The two sycophancy sets apart and as one ({kind} format): median steerability "
        f"{frames.number(train['median'])} (train set, n = {train['n']}), {frames.number(test['median'])} (test "
        f"set, n = {test['n']}) and {frames.number(both['median'])} {style.UNITS[kind]} per unit multiplier "
        f"pooled; anti-steerable {train['anti_steerable']:.0%}, {test['anti_steerable']:.0%} and "
        f"{both['anti_steerable']:.0%}. Published for Llama-2-7b, pooled: median "
        f"{frames.number(both['published_median'])} logits per unit multiplier, "
        f"{both['published_anti_steerable']:.0%} anti-steerable."
    )
