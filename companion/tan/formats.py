"""Concept or format: for which concepts does steering survive a change of model and of answer format?

Everything here is computed from GRID tables; models differ in scale and formats in unit, so they are compared by rank
(Spearman) and by the sign of an interval, never by size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from companion import published
from companion.data.datasets import names
from companion.profiles import Settings
from companion.tan import experiment, variance
from companion.tan.jobs import dataset_of
from companion.tan.tables import correlate, name_of
from steerkit.errors import need
from steerkit.formats import FORMATS

PUBLISHED = ("llama2-7b", "qwen1.5-14b", "gemma-2-2b")  # models with published means of all data sets
ITEM_KINDS = ("persona", "choice")
KINDS = ("models", "formats", "published")


def effects(runs: Mapping[str, Sequence[Settings]]) -> pd.DataFrame:
    """Mean steerability of every data set, model and format; `runs` holds the profiles of each format.

    Columns profile, model, format, dataset, kind (persona statements or questions with written-out options: "persona",
    "choice"), estimate, low, high (95%), random (mean of norm-matched random vectors), above_zero, above_random,
    bias_share (share of the variance of per-sample steerability that the letter or word of the matching answer
    explains; NaN in `statement`).
    """
    for chosen in runs.values():
        named = [name_of(settings) for settings in chosen]
        expected = "profiles of different models, or of different data"
        need(len({*named}) == len(named), expected, ", ".join(named), "name each model once.")
    parts = [_effects(settings, form) for form, chosen in runs.items() for settings in chosen]
    return pd.concat(parts, ignore_index=True).sort_values("model", kind="stable", ignore_index=True)


def _effects(settings: Settings, answer_format: str) -> pd.DataFrame:
    found = experiment.intervals(settings, answer_format)
    full = experiment.slopes(settings, answer_format).query("vector == 'full'")
    shares = full.groupby("dataset").apply(bias_share, include_groups=False)
    return found.drop(columns="sources").assign(
        profile=settings.profile,
        model=name_of(settings),
        format=answer_format,
        kind=[kind_of(name, settings.source) for name in found["dataset"]],
        above_zero=found["low"] > 0,
        above_random=found["low"] > found["random"],
        bias_share=found["dataset"].map(shares) if FORMATS[answer_format].biased else np.nan,
    )


def kind_of(name: str, source: str) -> str:
    """Kind of the items of a data set; that of the bundled set of the same name, which is always at hand."""
    return dataset_of(name, "bundled" if name in names("bundled") else source).items[0].kind


def bias_share(slopes: pd.DataFrame) -> float:
    """Share of the variance of the slopes of one data set that letter and word of the matching answer explain."""
    parts = variance.variance_parts(slopes)
    return 1 - parts["unexplained"] / parts["total"] if parts["total"] else np.nan


def agreement(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Spearman's rank correlations over the data sets that both sides have.

    Pairs: the models with each other in each format; the formats with each other in each model; each model and format
    with the published models (letter format, in distribution). Each over all data sets and over each kind of item: a
    format may favour one kind as a whole, which then decides the correlation over all. Columns kind ("models", "formats"
    or "published"), sets ("all", "persona", "choice"), first, second, n, estimate, low, high; a pair with fewer than
    three common data sets, or without variation, has NaN.
    """
    kinds = [kind for kind in ITEM_KINDS if (table["kind"] == kind).any()]
    parts = {"all": table} | {kind: table[table["kind"] == kind] for kind in kinds if len(kinds) > 1}
    rows = [
        (kind, sets, ", ".join(first), ", ".join(second), *_correlated(x, y, seed))
        for sets, part in parts.items()
        for kind, first, second, x, y in _pairs(part)
    ]
    return pd.DataFrame(rows, columns=["kind", "sets", "first", "second", "n", "estimate", "low", "high"])


def _pairs(table: pd.DataFrame) -> list[tuple]:
    """(kind, name, name, means by data set, means by data set); a name is a model and a format."""
    parts, rows = table.groupby(["model", "format"], sort=False), []
    means = {name: part.set_index("dataset")["estimate"] for name, part in parts}
    for (first, x), (second, y) in combinations(means.items(), 2):
        if first[1] == second[1] or first[0] == second[0]:
            rows.append(("models" if first[1] == second[1] else "formats", first, second, x, y))
    theirs = {model: published.datasets()[f"mean_{model}"] for model in PUBLISHED}
    for name, x in means.items():
        rows += [("published", name, (model, "letter"), x, y) for model, y in theirs.items()]
    return sorted(rows, key=lambda row: KINDS.index(row[0]))


def _correlated(x: pd.Series, y: pd.Series, seed: int) -> pd.Series:
    both = pd.concat([x, y], axis=1, keys=["x", "y"]).dropna()
    return correlate(both, seed=seed)[["n", "spearman", "spearman_low", "spearman_high"]]


def headline(table: pd.DataFrame, pairs: pd.DataFrame, seconds: dict[str, float]) -> pd.DataFrame:
    """The numbers this chapter was built to find, beside what was expected before it was run.

    `seconds` maps a profile to the computing time of its tables. The expectations were written down first (28 of 40,
    0.6, 0.8, 45 minutes) and stay as they were.
    """
    statement, letter = (table[table["format"] == form] for form in ("statement", "letter"))
    ours, rows = pairs[pairs["first"].str.endswith("statement")], []
    for model, part in statement.groupby("model", sort=False):
        count, wanted = int(part["above_zero"].sum()), 0.7 * len(part)
        found = f"{count} of {len(part)} ({int(part['above_random'].sum())} above random vectors)"
        expected = f"{wanted:.0f} of {len(part)}"
        rows.append((f"{model}: data sets steerable in statement", expected, found, count >= wanted))
    for row in ours[(ours["kind"] == "models") & (ours["sets"] == "all")].head(1).itertuples():
        met = bool(row.estimate >= 0.6)
        rows.append(("Spearman between the models, statement", "at least 0.6", _text(row), met))
    for row in ours[ours["kind"] == "published"].itertuples():
        sets = "" if row.sets == "all" else f", {row.sets} sets"
        name = f"Spearman of {row.first} with published {row.second}{sets}"
        rows.append((name, "reported", _text(row), None))
    for model, share in letter.groupby("model", sort=False)["bias_share"].median().items():
        name = f"{model}: variance explained by the answer in letter, median over sets"
        rows.append((name, "above 0.8", f"{share:.2f}", bool(share > 0.8)))
    minutes = sum(seconds.values()) / 60
    name = "computing time of all tables shown, wall times summed"
    rows.append((name, "45 minutes", f"{minutes:.0f} minutes", minutes <= 45))
    frame = pd.DataFrame(rows, columns=["measure", "expected", "found", "met"])
    return frame.assign(met=frame["met"].map({True: "yes", False: "no", None: ""}))


def _text(row: tuple) -> str:
    return f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}], n = {row.n}"
