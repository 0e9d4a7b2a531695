"""The results on order and items beside what words alone tell, and without the items that a word or a length decides.

The tables are those of `companion.tan.texts`, with what `companion.tan.words` says of each item beside its slopes.
"""

from collections.abc import Callable
from itertools import product

import pandas as pd

from companion import published
from companion.inference import holm
from companion.tan.ranks import FEWEST, NONE, choices, correlated
from companion.tan.texts import PAIRS, PUBLISHED, agreement, null, placebo_means, placebos, shared_items


def with_items(table: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """SLOPES of `texts.read` for the items of `words.items` (with a column run), and what these say of each."""
    found = table.merge(items, on=["run", "dataset", "example_id"], validate="many_to_one")
    found.attrs = table.attrs
    return found


def baseline(table: pd.DataFrame) -> pd.DataFrame:
    """How much of the steerability of sets, and of items, a count of words tells.

    One row a run, a level ("order of sets" with the choices of `texts.agreement`, or "items of a set") and a measure
    (score, or told, the accuracy of naive Bayes): n, estimate, low, high, p, placebo, placebo_low, placebo_high.
    """
    rows = []
    for run, part in table.groupby("run", sort=False):
        full, others = part[part["vector"] == "full"], placebo_means(part)[run]
        sets = full.groupby("dataset", sort=False)[["steerability", "score", "told"]].mean()
        for name, strata in choices(full.groupby("dataset")["kind"].first()).items():
            for measure in ("score", "told"):
                row = {"run": run, "level": f"order of sets, {name}", "measure": measure}
                row |= correlated(sets[measure], sets["steerability"], strata)
                rows.append(row | null([sets[measure]] * len(others), others, strata))
        items = full.set_index("example_id")
        wide = part.pivot_table("steerability", "example_id", "vector", sort=False)
        score, others = items["score"], [wide[name] for name in placebos(wide)]
        row = {"run": run, "level": "items of a set", "measure": "score"}
        row |= correlated(score, items["steerability"], items["dataset"], by_stratum=True)
        rows.append(row | null([score] * len(others), others, items["dataset"]))
    return pd.DataFrame(rows)


def summed(table: pd.DataFrame) -> pd.DataFrame:
    """The same with slopes of the whole text's log-probability, its length in words: records hold the mean a token."""
    own, other = table["matching_slope"] * table["words"], table["not_matching_slope"] * table["other_words"]
    return table.assign(matching_slope=own, not_matching_slope=other, steerability=own - other)


CONTROLS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "all pairs": lambda table: table,
    "no option of one or two words": lambda table: table[~table["short"]],
    "options that do not begin with Yes and No": lambda table: table[~table["yes_no"]],
    "lengths within a factor of 1.5": lambda table: table[table["ratio"] <= 1.5],
    "summed over the words, not per token": summed,
}


def controlled(table: pd.DataFrame) -> pd.DataFrame:
    """The findings of `agreement` (within kinds) and `shared_items` again, on what each of `CONTROLS` keeps.

    Columns control, finding, first, second, n, estimate, low, high, p, placebo, ceiling. Sets that keep fewer than
    three test groups are left out.
    """
    rows = []
    for control, keep in CONTROLS.items():
        kept = keep(table).drop(columns="score")
        kept = kept[kept.groupby(["run", "dataset"])["group"].transform("nunique") >= FEWEST]
        order = agreement(kept, PAIRS[:2]).query("sets == 'within kinds'")
        items = shared_items(kept).assign(pair="anti-steerable items, two models")
        rows += [part.assign(control=control) for part in (order, items)]
    columns = ["control", "pair", "first", "second", "n", *NONE, "placebo", "ceiling"]
    return pd.concat(rows, ignore_index=True)[columns].rename(columns={"pair": "finding"})


def levels(table: pd.DataFrame) -> pd.DataFrame:
    """Mean steerability of the items that every control keeps, and their number: a row a run and kind of set."""
    found, full = {}, table[table["vector"] == "full"]
    for control, keep in CONTROLS.items():
        if keep is not summed:  # another unit
            groups = keep(full).groupby(["run", "kind"], sort=False)["steerability"]
            found |= {control: groups.mean(), f"{control}: items": groups.size()}
    return pd.DataFrame(found).reset_index()


def predictors(sets: pd.DataFrame) -> pd.DataFrame:
    """Do properties of the option texts go with the published steerability of the choice sets? Exploratory.

    `sets` has a row a data set (index) and a column a property (`words.options`). One row a property and a published
    model: property, model, n, estimate, low, high, p, and holm (p corrected for all rows).
    """
    theirs, rows, strata = published.datasets(), [], pd.Series("choice", sets.index)
    for name, model in product(sets, PUBLISHED):
        found = correlated(sets[name].astype(float), theirs[f"mean_{model}"], strata)
        rows.append({"property": name, "model": model} | found)
    table = pd.DataFrame(rows)
    return table.assign(holm=holm(table["p"]))
