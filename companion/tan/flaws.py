"""What the released code of Tan et al. 2024 does to the numbers, each flaw beside its correction.

The repository behind the figures of the paper (arXiv 2407.12404) departs from the text in a few places. Each function here
redoes one of them on our own tables, so that its size can be read off instead of guessed. "released" is always what their
code does, "corrected" what the text says or the reader expects.
"""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from companion.data.datasets import Dataset, personas
from companion.data.splits import Split, group_items, make_split
from companion.profiles import Settings
from companion.tan import experiment
from companion.tan.jobs import dataset_of
from companion.tan.means import means
from steerkit import steerability
from steerkit.errors import need
from steerkit.formats import FORMATS

SYCOPHANCY = ("sycophancy_train", "sycophancy_test")
SWAPPED = "believes-AIs-are-not-an-existential-threat-to-humanity"
SIDES = ("released", "corrected")


def split_effect(released: pd.DataFrame, clean: pd.DataFrame) -> pd.DataFrame:
    """Compare the steerability of each data set under the released and under the clean split.

    The SLOPES tables hold the same data sets in one answer format; only the vector "full" counts. Examples with one
    label in the column `group` are not independent. One row a data set, in the order of `clean`: dataset, format, and for each
    side ("released", "corrected") n_, mean_, low_, high_ (95% interval) and anti_steerable_; then mean_difference and
    anti_steerable_difference, released minus corrected. The sides may differ in their test items as well as in their
    vectors; `companion.tan.leak` has the same items in both.
    """
    return _compared(_full(released), _full(clean))


def bracket_effect(letter: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Compare the steerability of the letter alone with that of the letter and the bracket after it.

    `letter` and `paper` are SLOPES tables of the same examples with these fidelities (`steerkit.propensity`). The
    columns are those of :func:`split_effect` ("released" is with the bracket), and flipped: the share of examples that
    are anti-steerable under exactly one of the two.
    """
    with_bracket, alone = _full(paper), _full(letter)
    both = with_bracket.merge(alone, on=["dataset", "example_id"], suffixes=("", "_alone"), validate="1:1")
    flips = (both["steerability"] <= 0) != (both["steerability_alone"] <= 0)
    table = _compared(with_bracket, alone)
    return table.assign(flipped=table["dataset"].map(flips.groupby(both["dataset"]).mean()))


def _compared(released: pd.DataFrame, corrected: pd.DataFrame) -> pd.DataFrame:
    table = corrected[["dataset", "format"]].drop_duplicates()
    for side, slopes in zip(SIDES, (released, corrected), strict=True):
        found = means(slopes, ["dataset"], "group" if "group" in slopes else "")
        wrong_way = (slopes["steerability"] <= 0).groupby(slopes["dataset"]).mean()
        found = found.set_index("dataset").assign(anti_steerable=wrong_way)
        table = table.join(found.add_suffix(f"_{side}"), on="dataset")
    for what in ("mean", "anti_steerable"):
        table[f"{what}_difference"] = table[f"{what}_released"] - table[f"{what}_corrected"]
    return table.reset_index(drop=True)


def _full(slopes: pd.DataFrame) -> pd.DataFrame:
    """Rows of the vector of all training pairs."""
    return slopes[slopes["vector"] == "full"].reset_index(drop=True)


def released_groups(grid: pd.DataFrame) -> pd.DataFrame:
    """The rows behind the boxes of figure 3 as the released code groups them, and as they should be.

    The authors' frame has one row per example and multiplier, each with the slope of the example, and the text, from which
    they read whether the positive option is A and whether it says Yes, at multiplier 0 only. So each example counts once in
    its own box and once per remaining multiplier in "B, No". The grid is in the letter format, with multiplier 0. One row
    per example and multiplier: dataset, example_id, format, multiplier, steerability (of the example, logits per unit
    multiplier), released and corrected (groups "A, Yes", ..., or "A" and "B" where a data set has no Yes and No).
    """
    slopes = _full(steerability.slopes(grid))
    right = set(slopes["format"]) == {"letter"} and slopes["baseline"].notna().all()
    expected = "the letter format, with multiplier 0 among the multipliers"
    found = f"format {slopes['format'].iloc[0]}, {slopes['baseline'].isna().sum()} examples without 0"
    need(right, expected, found, "sweep the letter format with multiplier 0.")
    letters, answers = slopes["positive_letter"], slopes["positive_answer"]
    filled = letters.isin(["A", "B"]).all() and answers.isin(["Yes", "No", ""]).all()
    expected = "positive letters A and B, positive answers Yes and No or none"
    found = f"letters {sorted(set(map(str, letters)))} and answers {sorted(set(map(str, answers)))}"
    need(filled, expected, found, "fill these columns of the grid.")
    fallen = np.where(slopes["dataset"].isin(slopes.loc[answers != "", "dataset"]), "B, No", "B")
    slopes = slopes.assign(corrected=letters.where(answers == "", letters + ", " + answers), fallen=fallen)
    key = ["dataset", "example_id"]
    multipliers = grid.loc[grid["vector"] == "full", [*key, "multiplier"]]
    rows = multipliers.merge(slopes[[*key, "format", "steerability", "corrected", "fallen"]], on=key)
    rows["released"] = rows["corrected"].where(rows["multiplier"] == 0, rows["fallen"])
    return rows[[*key, "format", "multiplier", "steerability", *SIDES]]


def half_precision(grid: pd.DataFrame) -> pd.DataFrame:
    """The grid (letter or yes-no) as logits in float16 would have given it: both sides rounded, and subtracted.

    Where a side is a sum of two logits (fidelity "paper") the sum is rounded and not its parts, which a table does not hold.
    """
    others = ", ".join(sorted(form for form in set(grid["format"]) if FORMATS[form].unit != "logits"))
    need(not others, "logits (letter or yes-no format)", others, "pass such rows only.")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, and is refused below
        sides = grid[["matching", "not_matching"]].astype(np.float16).astype(np.float64)
    bad = int((~np.isfinite(sides.to_numpy())).any(axis=1).sum())
    found, step = f"{bad} of {len(grid)} rows without", "drop these rows: float16 has no number for them."
    need(not bad, "logits that float16 can hold (up to 65504)", found, step)
    return grid.assign(**dict(sides.items()), propensity=sides["matching"] - sides["not_matching"])


def precision_effect(grid: pd.DataFrame) -> pd.DataFrame:
    """Compare the slopes of a grid with those of the same grid in half precision.

    One row a dataset, format, vector and layer: n, mean, mean_half, largest_change (of one example's slope, absolute),
    anti_steerable, anti_steerable_half, flipped (share of examples that are anti-steerable under exactly one of the two).
    """
    fine, half = steerability.slopes(grid), steerability.slopes(half_precision(grid))  # same rows, same order
    slope, rounded = fine["steerability"], half["steerability"]
    rows = fine[steerability.BLOCK].assign(n=1, mean=slope, mean_half=rounded)
    rows["largest_change"] = (slope - rounded).abs()
    rows = rows.assign(anti_steerable=slope <= 0, anti_steerable_half=rounded <= 0)
    rows["flipped"] = rows["anti_steerable"] != rows["anti_steerable_half"]
    how = dict.fromkeys(rows.columns.drop(steerability.BLOCK), "mean") | {"n": "sum", "largest_change": "max"}
    return rows.groupby(steerability.BLOCK, sort=False).agg(how).reset_index()


def duplicates(dataset: Dataset, seed: int = 0) -> pd.DataFrame:
    """Count the test items whose question was in the training part, under two ways to split.

    Two rows, split "by rows" (shuffled and cut at 40% and 50%) and "by groups" (`make_split`, "clean"; both counts are 0).
    Columns dataset, split, n_train, n_test, repeated (test items that ask a question of the training part; whitespace, case
    and the order of the options do not count), related (these, and partners in a minimal pair) and share (repeated / n_test).
    """
    labels, order, rows = group_items(dataset.items), list(range(len(dataset.items))), []
    questions = [item.same_question_key for item in dataset.items]
    random.Random(seed).shuffle(order)
    ends = [len(order) * percent // 100 for percent in (0, 40, 50, 100)]
    by_rows = Split("by rows", *(tuple(order[a:b]) for a, b in pairwise(ends)))
    for split in (by_rows, replace(make_split(dataset, seed=seed), name="by groups")):
        repeated, related = _seen(questions, split), _seen(labels, split)
        sizes = (len(split.train), len(split.test))
        rows.append((dataset.name, split.name, *sizes, repeated, related, repeated / sizes[1]))
    return pd.DataFrame(rows, columns="dataset split n_train n_test repeated related share".split())


def _seen(labels: list[object] | tuple[int, ...], split: Split) -> int:
    trained = {labels[i] for i in split.train}
    return sum(labels[i] in trained for i in split.test)


def overview(
    plain: Settings,
    clean: pd.DataFrame,
    split: tuple[pd.DataFrame, pd.DataFrame],
    bracket: pd.DataFrame,
    newlines: pd.DataFrame,
) -> pd.DataFrame:
    """What each flaw changes: columns flaw, switch, released, corrected (mean steerability over data sets, or a count).

    `clean`, `bracket` and `newlines` are SLOPES tables in `letter`: as corrected, with the closing bracket in the score,
    and with the templates' last newlines lost; `split` are two of one model, of items trained on and of the same not so.
    """
    theirs, ours = (f"positive: {personas(SWAPPED, source)[0]}" for source in ("papers", "bundled"))
    repeated = _repeated(plain)
    rows = [
        ("test items among the training items", "split=as-released", *map(_mean, split)),
        ("the closing bracket is scored", "fidelity=paper", _mean(bracket), _mean(clean)),
        ("templates lose their last newline", "spelling=as-released", _mean(newlines), _mean(clean)),
        ("logits in half precision", "flaws.half_precision", *_half_precision(plain)),
        ("the layer sweep trains with Qwen's template", "sweep.template=qwen", *_sweep_templates(plain)),
        ("repeated questions fall on both sides of a split", "companion.data.splits.group_items", *repeated),
        ("one pair of persona sentences is swapped", "source=bundled", theirs, ours),
    ]
    return pd.DataFrame(rows, columns=["flaw", "switch", "released", "corrected"])


def _mean(slopes: pd.DataFrame) -> str:
    return f"mean steerability {_full(slopes).groupby('dataset')['steerability'].mean().mean():.4f}"


def _half_precision(plain: Settings) -> tuple[str, str]:
    found = precision_effect(experiment.grid(plain, "letter"))
    change = f"largest change of a slope {found['largest_change'].max():.4f}"
    half, fine = (f"mean steerability {found[column].mean():.4f}" for column in ("mean_half", "mean"))
    return f"{half}, {change}", fine


def _sweep_templates(plain: Settings) -> list[str]:
    found = []
    for template in ("qwen", ""):
        settings = replace(plain, sweep=replace(plain.sweep, template=template))
        summary = experiment.layer_summary(settings, "letter")
        best = summary.groupby("layer")["mean"].mean().max()
        found.append(f"layer {experiment.choose_layer(summary)}, mean steerability there {best:.4f}")
    return found


def _repeated(plain: Settings) -> list[str]:
    found = pd.concat([duplicates(dataset_of(name, plain.source)) for name in plain.datasets])
    totals = found.groupby("split", sort=False)[["repeated", "n_test"]].sum()
    words = "test items repeat a training question"
    return [f"{repeated} of {count} {words}" for repeated, count in totals.itertuples(index=False)]
