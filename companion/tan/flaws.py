"""What the released code of Tan et al. 2024 does to the numbers, each flaw beside its correction.

The repository behind the figures of the paper (arXiv 2407.12404) departs from the text in a few places. Each
function here redoes one of them on our own tables, so that its size can be read off instead of guessed:

=================  ==========================================================================================
split_effect       test items that were trained on ("50:100%" is read as item 50 and later)
released_groups    figure 3: six of the seven rows of an example lose their option and land in "B, No"
pooled             the two sycophancy sets appear as one in the in-distribution figures
bracket_effect     the logit of the `)` after the letter is part of the propensity
half_precision     logits in float16: near 20 their steps are 1/64
duplicates         repeated questions of the data files leak from the training into the test part
=================  ==========================================================================================

"released" is always what their code does, "corrected" what the text says or the reader expects.
"""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pandas as pd

from companion.data.datasets import Dataset
from companion.data.splits import Split, group_items, make_split
from companion.tan.ranges import Groups, mean_interval
from steerkit import steerability
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS

SYCOPHANCY = ("sycophancy_train", "sycophancy_test")
SIDES = ("released", "corrected")


def split_effect(
    released: pd.DataFrame, clean: pd.DataFrame, *, groups: Groups | None = None, draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Compare the steerability of each data set under the released and under the clean split.

    Parameters
    ----------
    released, clean : DataFrame
        SLOPES tables of the splits "as-released" and "clean" (`companion.data.splits.make_split`), same data sets,
        one answer format; only the vector "full" counts.
    groups : mapping from example_id to label, optional
        Examples with one label are resampled together.
    draws, seed : int
        Of the bootstrap over examples.

    Returns
    -------
    DataFrame
        One row a data set, in the order of `clean`: dataset, format, and for each side ("released",
        "corrected") n_, mean_, low_, high_ (95% interval) and anti_steerable_; then mean_difference and
        anti_steerable_difference, released minus corrected. Score per unit multiplier. The splits differ in
        their vectors and in their test items, and the difference holds both.

    Raises
    ------
    SteerkitError
        Tables without the vector "full", of other data sets or formats, with an example twice, or with a
        slope that is not finite.
    """
    sides = dict(zip(SIDES, (_full(released), _full(clean)), strict=True))
    return _compared(sides, groups, draws, seed)


def bracket_effect(
    letter: pd.DataFrame, paper: pd.DataFrame, *, groups: Groups | None = None, draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Compare the steerability of the letter alone with that of the letter and the bracket after it.

    Parameters
    ----------
    letter, paper : DataFrame
        SLOPES tables of the same examples with the fidelities "letter" and "paper" (`steerkit.propensity`).
    groups, draws, seed
        As in :func:`split_effect`.

    Returns
    -------
    DataFrame
        The columns of :func:`split_effect` ("released" is with the bracket, "corrected" without), and
        flipped: the share of examples that are anti-steerable under exactly one of the two.

    Raises
    ------
    SteerkitError
        As :func:`split_effect`; examples that only one of the tables has.
    """
    sides = dict(zip(SIDES, (_full(paper), _full(letter)), strict=True))
    key = ["dataset", "example_id"]
    wrong_way = [side.set_index(key)["steerability"] <= 0 for side in sides.values()]
    lonely = wrong_way[0].index.symmetric_difference(wrong_way[1].index)
    if len(lonely):
        raise SteerkitError(
            "the same examples with both fidelities",
            f"{len(lonely)} examples that only one table has, the first of them {lonely[0][1]}",
            next_step="score one list of examples twice.",
        )
    flipped = (wrong_way[0] != wrong_way[1].reindex(wrong_way[0].index)).groupby("dataset").mean()
    table = _compared(sides, groups, draws, seed)
    return table.assign(flipped=table["dataset"].map(flipped))


def released_groups(grid: pd.DataFrame) -> pd.DataFrame:
    """Return the rows behind the boxes of figure 3 as the released code groups them, and as they should be.

    The authors' frame has one row per example and multiplier, each with the slope of the example. The text
    of the example, from which they read whether the positive option is A and whether it says Yes, is there
    at multiplier 0 only; in all other rows both answers come out False. So each example counts once in its
    own box and once per remaining multiplier in "B, No".

    Parameters
    ----------
    grid : DataFrame
        A GRID table in the letter format, one layer; only the vector "full" counts. Multiplier 0 is there.

    Returns
    -------
    DataFrame
        One row per example and multiplier: dataset, example_id, format, multiplier, steerability (of the
        example, logits per unit multiplier), released and corrected (groups "A, Yes", ..., or "A" and "B"
        where a data set has no Yes and No). The corrected boxes are those of the rows at multiplier 0.

    Raises
    ------
    SteerkitError
        Another format, several layers, no multiplier 0, options other than A, B and Yes, No, and everything
        that `steerability.slopes` refuses.
    """
    slopes = _full(steerability.slopes(grid))
    if set(slopes["format"]) != {"letter"} or slopes["baseline"].isna().any():
        raise SteerkitError(
            "the letter format, with multiplier 0 among the multipliers",
            f"format {slopes['format'].iloc[0]}, {slopes['baseline'].isna().sum()} examples without 0",
            next_step="sweep the letter format with multiplier 0.",
        )
    slopes = slopes.assign(corrected=_options(slopes))
    with_answers = slopes.loc[slopes["positive_answer"] != "", "dataset"]
    slopes["fallen"] = np.where(slopes["dataset"].isin(with_answers), "B, No", "B")
    key = ["dataset", "example_id"]
    multipliers = grid.loc[grid["vector"] == "full", [*key, "multiplier"]]
    rows = multipliers.merge(slopes[[*key, "format", "steerability", "corrected", "fallen"]], on=key)
    rows["released"] = rows["corrected"].where(rows["multiplier"] == 0, rows["fallen"])
    return rows[[*key, "format", "multiplier", "steerability", *SIDES]]


def pooled(slopes: pd.DataFrame) -> pd.DataFrame:
    """Describe the two sycophancy sets apart and as one.

    Parameters
    ----------
    slopes : DataFrame
        A SLOPES table in one answer format that holds sycophancy_train and sycophancy_test; only the vector
        "full" counts.

    Returns
    -------
    DataFrame
        Three rows: the two sets, and "sycophancy", all their examples. Columns dataset, format, n, mean, q1,
        median, q3, anti_steerable (share with slope <= 0).

    Raises
    ------
    SteerkitError
        One of the sets is missing; as :func:`split_effect`.
    """
    rows = _full(slopes)
    missing = [name for name in SYCOPHANCY if name not in set(rows["dataset"])]
    if missing:
        expected = f"slopes of {' and '.join(SYCOPHANCY)}"
        raise SteerkitError(expected, f"none of {', '.join(missing)}", next_step="run both.")
    rows = rows[rows["dataset"].isin(SYCOPHANCY)]
    parts = {name: rows[rows["dataset"] == name] for name in SYCOPHANCY} | {"sycophancy": rows}
    return pd.DataFrame([_described(name, part) for name, part in parts.items()])


def half_precision(grid: pd.DataFrame) -> pd.DataFrame:
    """Return the grid as logits in float16 would have given it.

    Both sides are rounded to float16 and subtracted. Where a side is a sum of two logits (fidelity "paper")
    the sum is rounded and not its parts, which a table does not hold.

    Parameters
    ----------
    grid : DataFrame
        A GRID table in the letter or yes-no format.

    Raises
    ------
    SteerkitError
        The statement format (mean log-probabilities are no logits); a side beyond 65504, the largest float16,
        or missing.
    """
    others = ", ".join(
        sorted(set(grid["format"]) - {name for name, form in FORMATS.items() if form.unit == "logits"})
    )
    if others:
        raise SteerkitError("logits (letter or yes-no format)", others, next_step="pass such rows only.")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, and is refused below
        sides = grid[["matching", "not_matching"]].astype(np.float16).astype(np.float64)
    bad = int((~np.isfinite(sides.to_numpy())).any(axis=1).sum())
    if bad:
        raise SteerkitError(
            "logits that float16 can hold (up to 65504)",
            f"{bad} of {len(grid)} rows without",
            next_step="drop these rows: float16 has no number for them.",
        )
    return grid.assign(**dict(sides.items()), propensity=sides["matching"] - sides["not_matching"])


def precision_effect(grid: pd.DataFrame) -> pd.DataFrame:
    """Compare the slopes of a grid with those of the same grid in half precision.

    Returns
    -------
    DataFrame
        One row a dataset, format, vector and layer: n, mean, mean_half (score per unit multiplier),
        largest_change (of one example's slope, absolute), anti_steerable, anti_steerable_half, flipped (the
        share of examples that are anti-steerable under exactly one of the two).

    Raises
    ------
    SteerkitError
        As :func:`half_precision` and `steerability.slopes`.
    """
    fine, half = steerability.slopes(grid), steerability.slopes(half_precision(grid))  # same rows, same order
    slope, rounded = fine["steerability"], half["steerability"]
    rows = fine[steerability.BLOCK].assign(
        n=1, mean=slope, mean_half=rounded, largest_change=(slope - rounded).abs(),
        anti_steerable=slope <= 0, anti_steerable_half=rounded <= 0, flipped=(slope <= 0) != (rounded <= 0),
    )  # fmt: skip
    how = {column: "mean" for column in rows.columns if column not in steerability.BLOCK}
    how |= {"n": "sum", "largest_change": "max"}
    return rows.groupby(steerability.BLOCK, sort=False).agg(how).reset_index()


def duplicates(dataset: Dataset, seed: int = 0) -> pd.DataFrame:
    """Count the test items whose question was in the training part, under two ways to split.

    Parameters
    ----------
    dataset : Dataset
    seed : int
        Of both shuffles.

    Returns
    -------
    DataFrame
        Two rows, split "by rows" (the rows are shuffled and cut at 40% and 50%) and "by groups"
        (`companion.data.splits.make_split`, "clean"). Columns dataset, split, n_train, n_test, repeated (test items
        that ask a question of the training part; whitespace, case and the order of the options do not
        count), related (these, and partners of a training item in a minimal pair) and share (repeated /
        n_test). By groups both counts are 0.

    Raises
    ------
    SteerkitError
        Too few items for every part.
    """
    groups = group_items(dataset.items)
    questions = [item.same_question_key for item in dataset.items]
    splits = {"by rows": _by_rows(len(groups), seed), "by groups": make_split(dataset, seed=seed)}
    rows = []
    for name, split in splits.items():
        repeated, related = (_seen(labels, split) for labels in (questions, groups))
        sizes = (len(split.train), len(split.test))
        rows.append((dataset.name, name, *sizes, repeated, related, repeated / sizes[1]))
    return pd.DataFrame(rows, columns="dataset split n_train n_test repeated related share".split())


def _by_rows(n_items: int, seed: int) -> Split:
    """The clean split's percentages on single items."""
    order = list(range(n_items))
    random.Random(seed).shuffle(order)
    ends = [n_items * percent // 100 for percent in (0, 40, 50, 100)]
    return Split("by rows", *(tuple(order[a:b]) for a, b in pairwise(ends)))


def _seen(labels: list[object] | tuple[int, ...], split: Split) -> int:
    trained = {labels[i] for i in split.train}
    return sum(labels[i] in trained for i in split.test)


def _full(slopes: pd.DataFrame) -> pd.DataFrame:
    """Rows of the vector of all training pairs: finite, one format, each example once."""
    rows = slopes[slopes["vector"] == "full"].reset_index(drop=True)
    formats = ", ".join(map(str, rows["format"].unique()))
    twice = int(rows.duplicated(["dataset", "example_id"]).sum())
    missing = int((~np.isfinite(rows["steerability"].to_numpy(dtype=np.float64))).sum())
    if rows.empty or "," in formats or twice or missing:
        raise SteerkitError(
            "finite slopes of the vector 'full' in one answer format and layer, each example once",
            f"{len(rows)} rows, formats: {formats or 'none'}, {twice} repeated, {missing} not finite",
            next_step="choose the rows of one format and one layer.",
        )
    return rows


def _compared(sides: dict[str, pd.DataFrame], groups: Groups | None, draws: int, seed: int) -> pd.DataFrame:
    released, corrected = (side[["dataset", "format"]].drop_duplicates() for side in sides.values())
    if set(map(tuple, released.to_numpy())) != set(map(tuple, corrected.to_numpy())):
        lonely = ", ".join(sorted(set(released["dataset"]) ^ set(corrected["dataset"]))) or "a format"
        expected = "the same data sets and one format in both tables"
        raise SteerkitError(expected, f"{lonely} on one side only", next_step="run both with one profile.")
    table = corrected.set_index("dataset")
    for side, slopes in sides.items():
        parts = {name: _side(part, groups, draws, seed) for name, part in slopes.groupby("dataset")}
        found = pd.DataFrame.from_dict(parts, orient="index").astype({"n": int})
        table = table.join(found.add_suffix(f"_{side}"))
    for what in ("mean", "anti_steerable"):
        table[f"{what}_difference"] = table[f"{what}_released"] - table[f"{what}_corrected"]
    return table.reset_index()


def _side(slopes: pd.DataFrame, groups: Groups | None, draws: int, seed: int) -> dict[str, float]:
    found = mean_interval(slopes, groups, draws, seed)
    wrong_way = float((slopes["steerability"] <= 0).mean())
    numbers = {"n": len(slopes), "mean": found.estimate, "low": found.low, "high": found.high}
    return numbers | {"anti_steerable": wrong_way}


def _described(name: str, rows: pd.DataFrame) -> dict[str, object]:
    slope = rows["steerability"].to_numpy()
    q1, median, q3 = np.percentile(slope, [25, 50, 75])
    start = {"dataset": name, "format": rows["format"].iloc[0], "n": len(rows), "mean": slope.mean()}
    return start | {"q1": q1, "median": median, "q3": q3, "anti_steerable": float((slope <= 0).mean())}


def _options(rows: pd.DataFrame) -> pd.Series:
    """'A, Yes' and so on; 'A' and 'B' where a row has no Yes or No."""
    letters, answers = rows["positive_letter"], rows["positive_answer"]
    if not letters.isin(["A", "B"]).all() or not answers.isin(["Yes", "No", ""]).all():
        raise SteerkitError(
            "positive letters A and B, positive answers Yes and No or none",
            f"letters {sorted(set(map(str, letters)))} and answers {sorted(set(map(str, answers)))}",
            next_step="fill these columns of the grid.",
        )
    return letters.where(answers == "", letters + ", " + answers)
