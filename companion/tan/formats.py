"""Concept or format: for which concepts does steering survive a change of model and of answer format?

Everything here is computed from GRID tables; models differ in scale and formats in unit, so they are compared by rank
(Spearman) and by the sign of an interval, never by size.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from companion.profiles import Settings
from companion.tan import experiment, variance
from companion.tan.ranks import choices, correlated
from companion.tan.tables import name_of
from companion.tan.texts import kind_of
from steerkit.errors import need
from steerkit.formats import FORMATS

KINDS = ("models", "formats")


def fullest(runs: Mapping[str, Sequence[Settings]]) -> dict[str, list[Settings]]:
    """Of a model on several texts the run that has the most of these formats."""
    every = [settings for chosen in runs.values() for settings in chosen]
    asked = Counter(each.profile for each in every)
    best = {each.model: each.profile for each in sorted(every, key=lambda each: asked[each.profile])}
    return {form: [one for one in chosen if one.profile == best[one.model]] for form, chosen in runs.items()}


def effects(runs: Mapping[str, Sequence[Settings]]) -> pd.DataFrame:
    """Mean steerability of every data set, model and format; `runs` holds the profiles of each format.

    Columns profile, model, source, format, dataset, kind (persona statements or questions with written-out options:
    "persona", "choice"), estimate, low, high (95%), at_zero (the slope at multiplier 0), placebo (95% point of those
    of label-shuffled vectors) and p among them, above_zero, above_placebo (p at most 0.05), bias_share (share of the
    variance of per-sample steerability that the letter or word of the matching answer explains; NaN in `statement`).
    """
    for chosen in runs.values():
        named = [name_of(settings) for settings in chosen]
        expected = "profiles of different models, or of different data"
        need(len({*named}) == len(named), expected, ", ".join(named), "name each model once.")
    parts = []
    for form, settings in ((form, settings) for form, chosen in runs.items() for settings in chosen):
        found = experiment.intervals(settings, form)
        about = {"profile": settings.profile, "model": name_of(settings), "source": settings.source}
        kinds = [kind_of(name, settings.source) for name in found["dataset"]]
        found = found.assign(**about, format=form, kind=kinds)
        found = found.assign(above_zero=found["low"] > 0, above_placebo=found["p"] <= 0.05, bias_share=np.nan)
        if FORMATS[form].biased:
            by_set = experiment.slopes(settings, form).query("vector == 'full'").groupby("dataset")
            found["bias_share"] = found["dataset"].map(by_set.apply(bias_share, include_groups=False))
        parts.append(found)
    return pd.concat(parts, ignore_index=True).sort_values("model", kind="stable", ignore_index=True)


def bias_share(slopes: pd.DataFrame) -> float:
    """Share of the variance of the slopes of one data set that letter and word of the matching answer explain."""
    parts = variance.variance_parts(slopes)
    return 1 - parts["unexplained"] / parts["total"] if parts["total"] else np.nan


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Rank correlations over the data sets that both sides have: two models in one format on the same texts ("models"),
    and two formats of one model ("formats").

    Columns kind, first, second (model and format), sets (all, within kinds, or one kind: a format may favour one kind as
    a whole, which then decides the correlation over all), and those of `ranks.correlated`. How the order compares with
    other texts and with the papers' models is in `companion.tan.texts`.
    """
    strata = choices(table.drop_duplicates("dataset").set_index("dataset")["kind"])
    parts = table.groupby(["model", "source", "format"], sort=False)
    means, rows = {name: part.set_index("dataset")["estimate"] for name, part in parts}, []
    for first, second in combinations(means, 2):
        model, source, form = (one == other for one, other in zip(first, second, strict=True))
        if source and model != form:
            pair = [KINDS[model], *(f"{name}, {form}" for name, _, form in (first, second))]
            for sets, labels in strata.items():
                rows.append([*pair, sets, *correlated(means[first], means[second], labels).values()])
    rows.sort(key=lambda row: KINDS.index(row[0]))
    columns = ["kind", "first", "second", "sets", "n", "estimate", "low", "high", "p"]
    return pd.DataFrame(rows, columns=columns)


def headline(table: pd.DataFrame, pairs: pd.DataFrame, seconds: dict[str, float]) -> pd.DataFrame:
    """The numbers this chapter was built to find, beside what was expected before it was run.

    `seconds` maps a profile to the computing time of its tables. The expectations were written down first (28 of 40,
    0.6, 0.8, 45 minutes) and stay as they were.
    """
    statement, letter = (table[table["format"] == form] for form in ("statement", "letter"))
    ours, rows = pairs[pairs["first"].str.endswith("statement")], []
    for model, part in statement.groupby("model", sort=False):
        count, wanted = int(part["above_zero"].sum()), 0.7 * len(part)
        beyond = f" ({int(part['above_placebo'].sum())} above shuffled labels)"
        found = f"{count} of {len(part)}{beyond if part['p'].notna().all() else ''}"
        expected = f"{wanted:.0f} of {len(part)}"
        rows.append((f"{model}: data sets steerable in statement", expected, found, count >= wanted))
    for row in ours[(ours["kind"] == "models") & (ours["sets"] == "all")].itertuples():
        name = f"Spearman of {row.first} with {row.second}"
        found = f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}], n = {row.n}"
        rows.append((name, "at least 0.6", found, bool(row.estimate >= 0.6)))
    for model, share in letter.groupby("model", sort=False)["bias_share"].median().items():
        name = f"{model}: variance explained by the answer in letter, median over sets"
        rows.append((name, "above 0.8", f"{share:.2f}", bool(share > 0.8)))
    minutes = sum(seconds.values()) / 60
    name = "computing time of all tables shown, wall times summed"
    rows.append((name, "45 minutes", f"{minutes:.0f} minutes", minutes <= 45))
    frame = pd.DataFrame(rows, columns=["measure", "expected", "found", "met"])
    return frame.assign(met=frame["met"].map({True: "yes", False: "no"}))
