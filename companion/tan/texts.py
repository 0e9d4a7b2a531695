"""Does steerability belong to the concept, to the model, or to the text? From the records alone.

Data sets are ordered by mean steerability, and orders are compared by Spearman's correlation: over all sets, and within
the kinds of set (persona statements, written-out choices), since a gap between the kinds decides the first (Simpson
1951). Each has a bootstrap interval over sets, a p-value from permutations within kinds, the same of placebo vectors, and
the ceiling that noise of the test items sets: the root of the product of two split-half reliabilities (Spearman 1910,
Brown 1910). SLOPES here are those of `read`, in the format *statement*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from companion import published
from companion.data.datasets import names
from companion.profiles import Settings, load_profile
from companion.tan import experiment, records
from companion.tan.jobs import dataset_of
from companion.tan.means import means
from companion.tan.tables import MOVED, SAME, name_of
from steerkit import stats, steerability
from steerkit.errors import SteerkitError, need

FORM = "statement"
PUBLISHED = ("llama2-7b", "qwen1.5-14b", "gemma-2-2b")  # models with published means of all data sets
KINDS = ("persona", "choice")
WITHIN = "within kinds"
PAIRS = ("same text, two models", "same concept, other text", "published, two models", "ours and published")
FEWEST = 3  # sets of a kind, or items of a set, for a rank correlation
SPLITS = 20  # random halves of the test groups
NONE = dict.fromkeys(("estimate", "low", "high", "p"), np.nan)


def with_other_texts(runs: Sequence[Settings]) -> list[Settings]:
    """The runs, and the committed records of the same models on other texts."""
    named = [name.split("/")[0] for name in records.available() if name.endswith(f"/grid-{FORM}")]
    found = [load_profile(name, recorded=True) for name in named]
    known, models = {run.profile for run in runs}, {run.model for run in runs}
    return [*runs, *(each for each in found if each.profile not in known and each.model in models)]


def read(runs: Sequence[Settings]) -> pd.DataFrame:
    """SLOPES of several runs with their columns run (its name), model, source, kind and group; manifests in `attrs`."""
    parts, manifests = [], []
    for settings in runs:
        grid = experiment.grid(settings, FORM)
        slopes = steerability.slopes(grid).assign(group=0)
        for name, part in slopes.groupby("dataset"):
            slopes.loc[part.index, "group"] = experiment.groups(settings, grid, name, part["example_id"])
        kinds = {name: kind_of(name, settings.source) for name in settings.datasets}
        about = {"run": name_of(settings), "model": settings.model, "source": settings.source}
        parts.append(slopes.assign(kind=slopes["dataset"].map(kinds), **about))
        manifests += grid.attrs["manifests"]
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {"manifests": manifests}
    return table


def kind_of(name: str, source: str) -> str:
    """Kind of the items of a data set; that of the bundled set of the same name, which is always at hand."""
    return dataset_of(name, "bundled" if name in names("bundled") else source).items[0].kind


def placebos(vectors: Iterable[str]) -> list[str]:
    """Names of the placebo vectors: those of shuffled labels, or else random directions of the same norm."""
    found = sorted(set(vectors))
    shuffled = [name for name in found if name.startswith("shuffled")]
    return shuffled or [name for name in found if name.startswith("random")]


# --- one correlation -------------------------------------------------------------------------------------------------


def correlated(
    x: pd.DataFrame | pd.Series,
    y: pd.DataFrame | pd.Series,
    strata: pd.Series,
    given: pd.Series | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Rank correlation within strata, over the entries that both sides and `strata` have: n, estimate, low, high, p.

    The interval is that of `stats.stratified_rank_correlation`, p that of permutations within strata, on both sides. A
    stratum with fewer than three entries is left out; where none is left, or a side is constant, there are NaN.
    """
    sides = [pd.DataFrame(each).dropna() for each in (x, y, *([] if given is None else [given]))]
    labels = strata
    for side in sides:
        labels = labels[labels.index.isin(side.index)]
    labels = labels[labels.groupby(labels).transform("size") >= FEWEST]
    if labels.empty:
        return {"n": 0, **NONE}
    values = [side.loc[labels.index].to_numpy() for side in sides]
    try:
        found = stats.stratified_rank_correlation(
            values[0], values[1], labels.tolist(), seed, draws, given=values[2] if given is not None else None
        )
    except SteerkitError:  # a constant side
        return {"n": len(labels), **NONE}
    p = _permuted(values, labels.to_numpy(), found.estimate, draws, seed)
    return {"n": len(labels), "estimate": found.estimate, "low": found.low, "high": found.high, "p": p}


def _permuted(values: list[np.ndarray], strata: np.ndarray, estimate: float, draws: int, seed: int) -> float:
    """Share of permutations of y within strata, and of y as it is, that correlate as strongly or more."""
    x, y = (_aligned(side, strata, *values[2:]) for side in values[:2])
    codes = pd.factorize(strata)[0]
    home = np.argsort(codes, kind="stable")
    orders = np.argsort(codes + np.random.default_rng(seed).random((draws, len(codes))), axis=1)
    found = np.einsum("nk,dnk->d", x[home], y[orders]) / x.shape[1]
    return float((1 + (np.abs(found) >= abs(estimate) - 1e-12).sum()) / (draws + 1))


def _aligned(values: np.ndarray, strata: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """Ranks [n, k] within strata, centred and scaled: summed products of two sides are their stratified correlations.

    What the ranks of `given` [n, 1] explain is taken out first.
    """
    found = np.zeros(values.shape)
    for label in np.unique(strata):
        part = strata == label
        ranks = rankdata(values[part], axis=0) - (part.sum() + 1) / 2
        if given is not None:
            held = rankdata(given[part], axis=0) - (part.sum() + 1) / 2
            ranks -= held * (held * ranks).sum(axis=0) / max((held**2).sum(), 1)
        size = np.sqrt((ranks**2).sum(axis=0))
        found[part] = np.divide(ranks, size, out=np.zeros(ranks.shape), where=size > 0) * np.sqrt(part.mean())
    return found


def halves(items: pd.DataFrame, splits: int = SPLITS, seed: int = 0) -> tuple[dict, dict]:
    """Means of two random halves of the test groups of every set, several times.

    `items` has an index with levels dataset and group, and a column a measurement; the two dictionaries have a table
    [set, split] for each column. A set with one group only is refused.
    """
    rng, found = np.random.default_rng(seed), ({name: {} for name in items}, {name: {} for name in items})
    for dataset, part in items.groupby(level="dataset", sort=False):
        sums, sizes = part.groupby(level="group").sum(), part.groupby(level="group").size().to_numpy()
        step = "test on more groups, or leave the set out."
        need(len(sums) > 1, f"two test groups or more in {dataset}, to make halves of", "one", step)
        first = rng.permuted(np.tile(np.arange(len(sums)) < len(sums) // 2, (splits, 1)), axis=1)
        for half, chosen in zip(found, (first, ~first), strict=True):
            for name in items:
                half[name][dataset] = chosen @ sums[name].to_numpy() / (chosen @ sizes)
    return tuple({name: pd.DataFrame(sets).T for name, sets in half.items()} for half in found)


def doubled(reliability: float) -> float:
    """The reliability of all items from the correlation of two halves of them (Spearman and Brown)."""
    return 2 * reliability / (1 + reliability)


# --- (a) whose order is it -------------------------------------------------------------------------------------------


def agreement(table: pd.DataFrame | None, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Rank correlations of mean steerability between runs, and with the published models; None: between these alone.

    One row a pair and a choice of sets: pair (of `PAIRS`), first, second, sets ("all", "within kinds", and each kind), n,
    estimate, low, high, p, placebo and placebo_most (mean and largest absolute correlation of the placebo vectors, one
    with one), and ceiling. Where the table has a column `score` (`companion.tan.words`), there are also given_words,
    given_words_low and given_words_high: on one text, with the mean word score of each set held constant.
    """
    theirs = published.datasets()[[f"mean_{model}" for model in PUBLISHED]].set_axis(PUBLISHED, axis=1)
    every, kinds, placebo, ends, full = theirs, {}, {}, {}, pd.DataFrame(columns=["run", "model", "source"])
    if table is not None:
        full = table[table["vector"] == "full"]
        every = full.pivot_table("steerability", "dataset", "run", sort=False).join(theirs, how="outer")
        kinds = dict(zip(full["dataset"], full["kind"], strict=True))
        placebo, found = _placebo_means(table), reliability(table, draws, seed)
        ends = found.set_index(["run", "sets"])["estimate"].to_dict()
    kinds = pd.Series({name: kinds.get(name) or kind_of(name, "bundled") for name in every.index})
    rows = []
    for pair, first, second in _pairs(full):
        for sets, strata in choices(kinds).items():
            row = {"pair": pair, "first": first, "second": second, "sets": sets}
            row |= correlated(every[first], every[second], strata, None, draws, seed)
            row |= _null(placebo.get(first, []), placebo.get(second, []), strata)
            row["ceiling"] = np.sqrt(ends.get((first, sets), np.nan) * ends.get((second, sets), np.nan))
            if "score" in full and pair == PAIRS[0]:
                held = full[full["run"] == first].groupby("dataset")["score"].mean()
                partial = correlated(every[first], every[second], strata, held, draws, seed)
                names_of = {"estimate": "given_words", "low": "given_words_low", "high": "given_words_high"}
                row |= {name: partial[key] for key, name in names_of.items()}
            rows.append(row)
    return pd.DataFrame(rows)


def choices(kinds: pd.Series) -> dict[str, pd.Series]:
    """Strata of the sets: all in one, each kind by itself, and one kind alone."""
    there = [kind for kind in KINDS if (kinds == kind).any()]
    return {"all": kinds.map(lambda _: "all"), WITHIN: kinds} | {kind: kinds[kinds == kind] for kind in there}


def reliability(table: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How well the test items order the sets: run, sets, n, estimate, low and high for all items, from halves of them."""
    rows = []
    for run, part in table[table["vector"] == "full"].groupby("run", sort=False):
        first, second = halves(part.set_index(["dataset", "group"])[["steerability"]], seed=seed)
        kinds = part.drop_duplicates("dataset").set_index("dataset")["kind"]
        for sets, strata in choices(kinds).items():
            sides = first["steerability"], second["steerability"]
            found = correlated(*sides, strata, None, draws // SPLITS, seed)
            ends = {name: doubled(found[name]) for name in ("estimate", "low", "high")}
            rows.append({"run": run, "sets": sets, "n": found["n"], **ends})
    return pd.DataFrame(rows)


def _pairs(full: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(pair, first, second): runs that differ in the model alone or in the text alone, and the published models."""
    about, rows = full.drop_duplicates("run").set_index("run")[["model", "source"]], []
    for first, second in combinations(about.index, 2):
        differ = (about.loc[first] != about.loc[second]).tolist()
        rows += [(PAIRS[differ == [False, True]], first, second)] if sum(differ) == 1 else []
    rows += [(PAIRS[2], *pair) for pair in combinations(PUBLISHED, 2)]
    rows += [(PAIRS[3], run, model) for run in about.index for model in PUBLISHED]
    return sorted(rows, key=lambda row: PAIRS.index(row[0]))


def _placebo_means(table: pd.DataFrame) -> dict[str, list[pd.Series]]:
    """Mean steerability by data set of every placebo vector of every run."""
    found = {}
    for run, part in table.groupby("run", sort=False):
        wide = part.pivot_table("steerability", "dataset", "vector", sort=False)
        found[run] = [wide[name] for name in placebos(wide)]
    return found


def _null(first: list[pd.Series], second: list[pd.Series], strata: pd.Series) -> dict[str, float]:
    """Mean and largest absolute correlation of placebos, one with one."""
    found = [correlated(x, y, strata, draws=1)["estimate"] for x, y in zip(first, second, strict=False)]
    if not found:
        return {"placebo": np.nan, "placebo_most": np.nan}
    return {"placebo": float(np.mean(found)), "placebo_most": float(np.abs(found).max())}


# --- (b) whose are the anti-steerable items --------------------------------------------------------------------------


def shared_items(table: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Do two models steer the same items of a set well? Over the items that both were tested on.

    One row a pair of runs on one text: first, second, n (items), estimate, low, high and p (rank correlation of slopes
    within sets), placebo and placebo_most (of the first model's slopes with those of the second's placebos), ceiling (the
    root of the product of both models' own correlations with their resampled vectors); joint (share of items that are
    anti-steerable in both), joint_low, joint_high, chance (the same if items of a set were shuffled), joint_p (of a share
    as large), and joint_placebo and chance_placebo, with the placebos of the second model.
    """
    wide = table.pivot_table(
        "steerability", ["dataset", "group", "example_id"], ["run", "vector"], sort=False
    )
    rows = []
    for pair, first, second in _pairs(table):
        if pair != PAIRS[0]:
            continue
        items = wide[[first, second]].dropna(subset=[(first, "full"), (second, "full")])
        strata = pd.Series(items.index.get_level_values("dataset"), items.index)
        x, y = items[first, "full"], items[second, "full"]
        null = [items[second, name].dropna() for name in placebos(items[second].dropna(axis=1, how="all"))]
        row = {"pair": pair, "first": first, "second": second} | correlated(x, y, strata, None, draws, seed)
        row |= _null([x] * len(null), null, strata)
        row["ceiling"] = np.sqrt(np.prod([_retested(items[run], strata) for run in (first, second)]))
        row |= _joint(x <= 0, y <= 0, draws, seed)
        others = [_joint(x <= 0, each <= 0, 0, seed) for each in null]
        row |= {f"{key}_placebo": np.mean([o[key] for o in others] or np.nan) for key in ("joint", "chance")}
        rows.append(row)
    return pd.DataFrame(rows)


def _retested(items: pd.DataFrame, strata: pd.Series) -> float:
    """Mean correlation of the slopes of a vector with those of vectors from resampled training pairs."""
    drawn = [items[name] for name in items if name.startswith("resample") and items[name].notna().all()]
    found = [correlated(items["full"], each, strata, draws=1)["estimate"] for each in drawn]
    return float(np.mean(found)) if found else np.nan


def _joint(first: pd.Series, second: pd.Series, draws: int, seed: int) -> dict[str, float]:
    """How often both hold, with its interval, what chance within sets makes of it, and how often shuffling reaches it."""
    both, sets = (first & second).astype(float), first.index.get_level_values("dataset").to_numpy()
    rates = pd.DataFrame({"first": first, "second": second}).groupby(sets).mean()
    sizes = pd.Series(sets).value_counts()[rates.index].to_numpy()
    found = {"joint": both.mean(), "chance": (rates.prod(axis=1) * sizes).sum() / len(both)}
    if draws:
        groups = [f"{dataset}/{group}" for dataset, group, *_ in first.index]
        ends = stats.bootstrap(both.to_numpy(), groups=groups, draws=draws, seed=seed)
        codes, rng = pd.factorize(sets)[0], np.random.default_rng(seed)
        home = np.argsort(codes, kind="stable")
        orders = np.argsort(codes + rng.random((draws, len(codes))), axis=1)
        shuffled = (first.to_numpy()[home] & second.to_numpy()[orders]).mean(axis=1)
        p = (1 + (shuffled >= found["joint"] - 1e-12).sum()) / (draws + 1)
        found |= {"joint_low": ends.low, "joint_high": ends.high, "joint_p": p}
    return found


# --- (c) what steering does to the matching text ---------------------------------------------------------------------

LIKELIER, LESS, OPEN = "more likely", "less likely", "not decided"


def likelihood(table: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What the vector does to the log-probability per token of either text, by run and data set.

    Columns run, dataset, kind; mean, low and high steerability; matching and other (mean slopes of the two texts) with
    their low and high; steerable (low > 0); text (is the matching text itself more likely, less likely, or is its
    interval on both sides of 0); placebo (the mean slope of the matching text under the placebo vectors).
    """
    parts = []
    for run, part in table.groupby("run", sort=False):
        found = _means(part, "steerability", draws, seed)
        for name, column in {"matching": "matching_slope", "other": "not_matching_slope"}.items():
            found = found.join(_means(part, column, draws, seed).add_prefix(f"{name}_"))
        null = part[part["vector"].isin(placebos(part["vector"]))].groupby("dataset")["matching_slope"].mean()
        text = np.select([found["matching_low"] > 0, found["matching_high"] < 0], [LIKELIER, LESS], OPEN)
        found = found.assign(run=run, steerable=found["low"] > 0, text=text, placebo=null)
        parts.append(found.join(part.groupby("dataset")["kind"].first()).reset_index())
    return pd.concat(parts, ignore_index=True)


def _means(slopes: pd.DataFrame, column: str, draws: int, seed: int) -> pd.DataFrame:
    kept = slopes[slopes["vector"].str.match("full|resample")].assign(steerability=lambda rows: rows[column])
    found = means(kept, ["dataset"], "group", vectors=True, draws=draws, seed=seed)
    return found.set_index("dataset")[["mean", "low", "high"]]


def accounts(found: pd.DataFrame) -> pd.DataFrame:
    """How many steerable sets of each run make the matching text more likely, less likely, or leave it open."""
    steerable = found[found["steerable"]]
    counts = steerable.groupby(["run", "text"], sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=[LIKELIER, LESS, OPEN], fill_value=0)
    sets = found.groupby("run", sort=False).size().rename("sets")
    return pd.concat([sets, counts.sum(axis=1).rename("steerable"), counts], axis=1).fillna(0).reset_index()


# --- (d) one word in the published numbers ---------------------------------------------------------------------------


def predictors(sets: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Do properties of the option texts go with the published steerability of the choice sets? Exploratory.

    `sets` has a row a data set (index) and a column a property (`companion.tan.words.options`). One row a property and a
    published model: property, model, n, estimate, low, high, p, and holm (p corrected for all rows; Holm 1979).
    """
    theirs, rows = published.datasets(), []
    for name in sets:
        for model in PUBLISHED:
            strata = pd.Series("choice", sets.index)
            found = correlated(sets[name].astype(float), theirs[f"mean_{model}"], strata, None, draws, seed)
            rows.append({"property": name, "model": model} | found)
    table = pd.DataFrame(rows)
    return table.assign(holm=holm(table["p"].to_numpy()))


def holm(p: np.ndarray) -> np.ndarray:
    """P-values corrected for their number; those that are NaN were not tested."""
    order = np.argsort(p)
    order = order[np.isfinite(p[order])]
    found = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found


# --- (e) disjoint items ----------------------------------------------------------------------------------------------


def disjoint(settings: Settings, answer_format: str, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Steerability in distribution against that under a shift, on the same test items and on two halves of them.

    In and out of distribution share the vector, the items and their answers; what the items share is noise. One row a
    shift of the paper that the model has: run, format, train, test, n, shared (rank correlation within kinds on the same
    items), estimate, low, high and p (the same on disjoint halves, mean over several), ceiling (of two halves in
    distribution, the most that halves can show when the shift does nothing).
    """
    slopes = experiment.shift_slopes(settings, answer_format)
    index, columns = ["dataset", "group", "example_id"], ["vector", "setting"]
    wide = slopes.pivot(index=index, columns=columns, values="steerability")
    wide = wide[[pair for pair in (SAME, *MOVED) if pair in wide]]
    kinds = pd.Series({name: kind_of(name, settings.source) for name in slopes["dataset"].unique()})
    first, second = halves(wide, seed=seed)
    whole, rows = wide.groupby(level="dataset").mean(), []
    few = draws // SPLITS
    ceiling = correlated(first[SAME], second[SAME], kinds, None, few, seed)["estimate"]
    for train, test in wide.columns[1:]:
        shared = correlated(whole[SAME], whole[train, test], kinds, draws=1)["estimate"]
        row = {"run": name_of(settings), "format": answer_format, "train": train, "test": test}
        apart = correlated(first[SAME], second[train, test], kinds, None, few, seed)
        rows.append(row | {"shared": shared} | apart | {"ceiling": ceiling})
    return pd.DataFrame(rows)
