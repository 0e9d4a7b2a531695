"""Does steerability belong to the concept, to the model, or to the text? From the records alone.

Data sets are ordered by mean steerability in the format *statement*, and orders are compared (`companion.tan.ranks`).
Beside each correlation stand that of placebo vectors and the ceiling that few test items set. A run is a model on one
source of texts; the tables start from the SLOPES of `read`.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd

from companion import published, store
from companion.data.datasets import names
from companion.profiles import Settings, load_profile
from companion.tan import experiment, records
from companion.tan.jobs import dataset_of
from companion.tan.ranks import DRAWS, by_column, ceiling, choices, correlated, doubled, halves, shuffles
from companion.tan.tables import MOVED, SAME, name_of
from steerkit import stats, steerability
from steerkit.errors import need

FORM = "statement"
AT_ZERO = "at zero"  # the vector itself where placebos are measured
ITEMS = 20  # placebos that items are compared under
PUBLISHED = ("llama2-7b", "qwen1.5-14b", "gemma-2-2b")  # models with published means of all data sets
PAIRS = ("same text, two models", "same concept, other text", "published, two models", "ours and published")


def with_other_texts(runs: Sequence[Settings]) -> list[Settings]:
    """The runs, and the committed records of the same models on other texts."""
    named = [name.split("/")[0] for name in records.available() if name.endswith(f"/grid-{FORM}")]
    known, models = [(run.model, run.source) for run in runs], [run.model for run in runs]
    found = [load_profile(name, recorded=True) for name in named]
    found = [each for each in found if each.model in models and (each.model, each.source) not in known]
    return [*runs, *sorted(found, key=lambda each: models.index(each.model))]


def read(runs: Sequence[Settings]) -> pd.DataFrame:
    """SLOPES of several runs with their columns run (its name), model, source, trained (the sizes of its sets), kind and
    group; manifests in `attrs`."""
    parts, manifests, named = [], [], [name_of(settings) for settings in runs]
    expected = "profiles of different models, or of different data"
    step = "name each model once on each source of texts."
    need(len({*named}) == len(named), expected, ", ".join(named), step)
    for settings in runs:
        grid = experiment.grid(settings, FORM)
        slopes = experiment.with_groups(steerability.slopes(grid).query("vector == 'full'"), grid, settings)
        kinds = {name: kind_of(name, settings.source) for name in settings.datasets}
        about = {"run": name_of(settings), "model": settings.model, "source": settings.source}
        about["trained"] = " ".join(sorted({str(m["inputs"]["limits"]) for m in grid.attrs["manifests"]}))
        every = pd.concat([slopes, _beside(settings, slopes)], ignore_index=True)
        parts.append(every.assign(kind=every["dataset"].map(kinds), **about))
        manifests += grid.attrs["manifests"]
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {"manifests": store.Manifests(manifests)}
    return table


def _beside(settings: Settings, slopes: pd.DataFrame) -> pd.DataFrame:
    """Rows of resampled and placebo vectors, and of the vector itself, with slopes at 0; none where a record has none."""
    found = experiment.beside(settings, FORM)
    if found is None:
        return slopes.head(0)
    keys, kinds = ["dataset", "example_id"], ("full", "resample-", "shuffled-")
    found = found[found["vector"].str.startswith(kinds)].rename(columns={"slope": "steerability"})
    found = found[[*keys, "vector", "steerability"]].replace({"vector": {"full": AT_ZERO}})
    return found.merge(slopes[[*keys, "group", "format", "layer"]], on=keys)


def kind_of(name: str, source: str) -> str:
    """Kind of the items of a data set; that of the bundled set of the same name, which is always at hand."""
    return dataset_of(name, "bundled" if name in names("bundled") else source).items[0].kind


def placebos(vectors: Iterable[str]) -> list[str]:
    """Names of the placebo vectors, those of shuffled labels."""
    return sorted({name for name in vectors if name.startswith("shuffled")})


def agreement(table: pd.DataFrame | None, pairs: Sequence[str] = PAIRS) -> pd.DataFrame:
    """Rank correlations of mean steerability between runs, and with the published models; None: between these alone.

    One row a pair and a choice of sets: pair (of `PAIRS`, those asked for), first, second, sets ("all", "within kinds",
    and each kind), n, estimate, low, high, p; at_zero (the same of slopes at multiplier 0, as placebos have them), placebo,
    placebo_low and placebo_high (`null`; of one text only if both trained on the same pairs), placebo_size (of how far the
    placebos move a set on average) and ceiling; of two models on one text also disjoint (the estimate when each is tested on
    its own half of the items, mean over halvings) and disjoint_ceiling. Where the table has a column `score`
    (`companion.tan.words`) there are given_words, given_words_low and given_words_high: the same with the mean word score
    of the sets held constant.
    """
    theirs = published.datasets()[[f"mean_{model}" for model in PUBLISHED]].set_axis(PUBLISHED, axis=1)
    every, kinds, others, zero, ends, words, about = theirs, {}, {}, pd.DataFrame(), {}, {}, {}
    if table is not None:
        about = dict(zip(table["run"], table["trained"], strict=True)) if "trained" in table else {}
        full = table[table["vector"] == "full"]
        every = full.pivot_table("steerability", "dataset", "run", sort=False).join(theirs, how="outer")
        kinds = dict(zip(full["dataset"], full["kind"], strict=True))
        others, found = placebo_means(table), reliability(table, draws=0)
        own = table[table["vector"] == AT_ZERO]
        zero = own.pivot_table("steerability", "dataset", "run", sort=False) if len(own) else zero
        ends = found.set_index(["run", "sets"])["estimate"].to_dict()
        if "score" in full:
            words = {run: part.groupby("dataset")["score"].mean() for run, part in full.groupby("run")}
    sizes = pd.DataFrame({run: pd.concat(each, axis=1).mean(axis=1) for run, each in others.items() if each})
    strata = choices(pd.Series({name: kinds.get(name) or kind_of(name, "bundled") for name in every.index}))
    rows = []
    for pair, first, second in _pairs(table, pairs):
        for sets, labels in strata.items():
            row = {"pair": pair, "first": first, "second": second, "sets": sets}
            row |= correlated(every[first], every[second], labels)
            # Placebos are a control where both runs had the labels of the same training pairs exchanged.
            alike = pair != PAIRS[0] or about.get(first) == about.get(second)
            row |= null(*(others.get(run, []) if alike else [] for run in (first, second)), labels)
            for name, means in {"at_zero": zero, "placebo_size": sizes}.items():
                if first in means:
                    sides = means[first], (means if second in means else every)[second]
                    row[name] = correlated(*sides, labels, draws=0)["estimate"]
            row["ceiling"] = ceiling(*(ends.get((run, sets), np.nan) for run in (first, second)))
            if pair == PAIRS[0]:
                row |= _on_disjoint_items(full, (first, second), labels)
            if first in words and pair == PAIRS[0]:
                held = correlated(every[first], every[second], labels, words[first])
                row |= {f"given_words{end}": held[end[1:] or "estimate"] for end in ("", "_low", "_high")}
            rows.append(row)
    return pd.DataFrame(rows)


def _on_disjoint_items(full: pd.DataFrame, runs: tuple[str, str], labels: pd.Series) -> dict[str, float]:
    """Rank correlation of two runs, each on another half of the items that both have, and the highest to be expected."""
    both = full[full["run"].isin(runs)]
    wide = both.pivot(index=["dataset", "group", "example_id"], columns="run", values="steerability").dropna()
    one, two = halves(wide)
    rows = [correlated(one[a], two[b], labels, draws=0) for a, b in product(runs, runs)]
    own, there, back, other = (row["estimate"] for row in rows)
    return {"disjoint": (there + back) / 2, "disjoint_ceiling": ceiling(own, other)}


def _pairs(table: pd.DataFrame | None, chosen: Sequence[str]) -> list[tuple[str, str, str]]:
    """(pair, first, second): runs that differ in the model alone or in the text alone, and the published models."""
    rows = [(PAIRS[2], *pair) for pair in combinations(PUBLISHED, 2)]
    if table is not None:
        about = table.drop_duplicates("run").set_index("run")[["model", "source"]]
        for first, second in combinations(about.index, 2):
            model, source = about.loc[first] != about.loc[second]
            rows += [(PAIRS[int(source)], first, second)] if model != source else []
        rows += [(PAIRS[3], run, model) for run in about.index for model in PUBLISHED]
    return sorted((row for row in rows if row[0] in chosen), key=lambda row: PAIRS.index(row[0]))


def reliability(table: pd.DataFrame, draws: int = DRAWS // 4) -> pd.DataFrame:
    """How well the test items order the sets: run, sets, n, estimate, low and high for all items, from halves of them."""
    rows = []
    for run, part in table[table["vector"] == "full"].groupby("run", sort=False):
        both = halves(part.set_index(["dataset", "group"])[["steerability"]])
        for sets, labels in choices(part.groupby("dataset", sort=False)["kind"].first()).items():
            found = correlated(*(half["steerability"] for half in both), labels, draws=draws)
            ends = (doubled(found[name]) for name in ("estimate", "low", "high"))
            rows.append((run, sets, found["n"], *ends))
    return pd.DataFrame(rows, columns=["run", "sets", "n", "estimate", "low", "high"])


def placebo_means(table: pd.DataFrame) -> dict[str, list[pd.Series]]:
    """How far every placebo vector of every run moves the data sets, whichever way: a true vector's way is nearly always up."""
    wide = table.pivot_table("steerability", "dataset", ["run", "vector"], sort=False)
    named = {run: placebos(wide[run].dropna(axis=1)) for run in table["run"].unique()}
    return {run: [wide[run, name].abs() for name in names] for run, names in named.items()}


def null(first: Sequence[pd.Series], second: Sequence[pd.Series], strata: pd.Series) -> dict[str, float]:
    """Correlations of placebos, one with one: their mean, and between which bounds nine in ten of them are."""
    found, count = np.array([np.nan]), min(len(first), len(second))
    if count:
        found = by_column(*(pd.concat(side[:count], axis=1) for side in (first, second)), strata)
    low, high = np.quantile(found, [0.05, 0.95])
    return {"placebo": float(found.mean()), "placebo_low": float(low), "placebo_high": float(high)}


def shared_items(table: pd.DataFrame) -> pd.DataFrame:
    """Do two models steer the same items of a set well? Over the items that both were tested on.

    One row a pair of runs on one text: first, second, n (items), estimate, low, high and p (rank correlation of slopes
    within sets, interval over sets), placebo, placebo_low and placebo_high (of the first model's slopes with those of the
    second's placebos), ceiling (the root of the product of both models' correlations with their resampled vectors),
    given_words (with the word score of each item held constant, where there is a column `score`); joint (share of items that are
    anti-steerable in both), joint_low, joint_high, chance (the same if the items of a set were shuffled), joint_p (of a
    share as large), and joint_placebo and chance_placebo, with the placebos of the second model.
    """
    item, rows = ["dataset", "group", "example_id"], []
    wide = table.pivot_table("steerability", item, ["run", "vector"], sort=False)
    for _, first, second in _pairs(table, PAIRS[:1]):
        items = wide[[first, second]].dropna(subset=[(first, "full"), (second, "full")])
        strata = pd.Series(items.index.get_level_values("dataset"), items.index)
        x, y, own = items[first, "full"], items[second, "full"], items[second].dropna(axis=1)
        others = [own[name] for name in placebos(own)[:ITEMS]]
        row = {"first": first, "second": second} | correlated(x, y, strata, by_stratum=True)
        row |= null([x] * len(others), others, strata)
        row["ceiling"] = ceiling(*(_retested(items[run], strata) for run in (first, second)))
        if "score" in table:
            held = table[table["run"] == first].groupby(items.index.names)["score"].first()
            row["given_words"] = correlated(x, y, strata, held, draws=0)["estimate"]
        row |= _joint(x <= 0, y <= 0)
        chances = [_joint(x <= 0, each <= 0, draws=0) for each in others]
        row |= {f"{key}_placebo": np.mean([o[key] for o in chances] or np.nan) for key in ("joint", "chance")}
        rows.append(row)
    return pd.DataFrame(rows)


def _retested(items: pd.DataFrame, strata: pd.Series) -> float:
    """Mean correlation of the slopes of a vector with those of vectors from resampled training pairs."""
    drawn = items.dropna(axis=1).filter(like="resample")
    return float(by_column(items["full"], drawn, strata).mean()) if len(drawn.columns) else np.nan


def _joint(first: pd.Series, second: pd.Series, draws: int = DRAWS) -> dict[str, float]:
    """How often both hold, with its interval, what chance within sets makes of it, and how often shuffling reaches it."""
    both, sets = (first & second).to_numpy(float), first.index.get_level_values("dataset").to_numpy()
    rates = pd.DataFrame({"first": first, "second": second}).groupby(sets).transform("mean")
    found = {"joint": both.mean(), "chance": rates.prod(axis=1).mean()}
    if draws:
        groups = first.index.droplevel("example_id").map("{0[0]}/{0[1]}".format)
        ends, (home, orders) = stats.mean_interval(both, groups), shuffles(sets, draws)
        shuffled = (first.to_numpy()[home] & second.to_numpy()[orders]).mean(axis=1)
        p = (1 + (shuffled >= found["joint"] - 1e-12).sum()) / (draws + 1)
        found |= {"joint_low": ends.low, "joint_high": ends.high, "joint_p": float(p)}
    return found


def disjoint(settings: Settings, answer_format: str) -> pd.DataFrame:
    """Steerability in distribution against that under a shift, on the same test items and on two halves of them.

    In and out of distribution share the vector, the items and their answers; what the items share is noise. One row a
    shift of the paper that the model has: run, format, train, test, shared (rank correlation within kinds on the same
    items), n, estimate, low, high and p (the same on disjoint halves, mean over several), ceiling (of two halves in
    distribution, the most that halves can show when the shift does nothing).
    """
    slopes = experiment.shift_slopes(settings, answer_format)
    index, columns = ["dataset", "group", "example_id"], ["vector", "setting"]
    wide = slopes.pivot(index=index, columns=columns, values="steerability")
    wide = wide[[pair for pair in (SAME, *MOVED) if pair in wide]]
    kinds = pd.Series({name: kind_of(name, settings.source) for name in slopes["dataset"].unique()})
    (first, second), whole, rows = halves(wide), wide.groupby(level="dataset").mean(), []
    most = correlated(first[SAME], second[SAME], kinds, draws=0)["estimate"]
    for train, test in wide.columns[1:]:
        shared = correlated(whole[SAME], whole[train, test], kinds, draws=0)["estimate"]
        row = {"train": train, "test": test, "shared": shared}
        row |= correlated(first[SAME], second[train, test], kinds, draws=DRAWS // 4)
        rows.append({"run": name_of(settings), "format": answer_format} | row | {"ceiling": most})
    return pd.DataFrame(rows)
