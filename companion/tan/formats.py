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
from companion.tan import experiment, settings_tables
from companion.tan.jobs import dataset_of
from steerkit import stats
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS

PUBLISHED = ("llama2-7b", "qwen1.5-14b", "gemma-2-2b")  # models with published means of all data sets
ITEM_KINDS = ("persona", "choice")
KINDS = ("models", "formats", "published")


def effects(runs: Mapping[str, Sequence[Settings]]) -> pd.DataFrame:
    """Mean steerability of every data set, model and format; `runs` holds the profiles of each format.

    Returns
    -------
    DataFrame
        Columns profile, model, format, dataset, kind (persona statements or questions with written-out options:
        "persona", "choice"), estimate, low, high (95%), random (mean of norm-matched random vectors), above_zero,
        above_random, bias_share (share of the variance of per-sample steerability that the letter or word of the
        matching answer explains; NaN in `statement`).
    """
    for chosen in runs.values():
        named = [settings_tables.name_of(settings) for settings in chosen]
        if len(set(named)) < len(named):
            raise SteerkitError(
                "profiles of different models, or of different data",
                ", ".join(named),
                next_step="name each model once.",
            )
    parts = [_effects(settings, form) for form, chosen in runs.items() for settings in chosen]
    return pd.concat(parts, ignore_index=True).sort_values("model", kind="stable", ignore_index=True)


def _effects(settings: Settings, answer_format: str) -> pd.DataFrame:
    found = experiment.intervals(settings, answer_format)
    slopes = experiment.slopes(settings, answer_format)
    shares = slopes[slopes["vector"] == "full"].groupby("dataset").apply(_bias_share, include_groups=False)
    return found.drop(columns="sources").assign(
        profile=settings.profile,
        model=settings_tables.name_of(settings),
        format=answer_format,
        kind=[kind_of(name, settings.source) for name in found["dataset"]],
        above_zero=found["low"] > 0,
        above_random=found["low"] > found["random"],
        bias_share=found["dataset"].map(shares) if FORMATS[answer_format].biased else np.nan,
    )


def kind_of(name: str, source: str) -> str:
    """Kind of the items of a data set; that of the bundled set of the same name, which is always at hand."""
    return dataset_of(name, "bundled" if name in names("bundled") else source).items[0].kind


def _bias_share(slopes: pd.DataFrame) -> float:
    parts = stats.variance_parts(slopes)
    return 1 - parts["unexplained"] / parts["total"] if parts["total"] else np.nan


def survivors(table: pd.DataFrame) -> pd.DataFrame:
    """In which formats each data set is steerable (interval above zero), one row a model and data set.

    Returns
    -------
    DataFrame
        Columns model, dataset, one a format ("yes", "no" or "not run"), and steerable: "all" of the formats that were
        run, their names, or "none".
    """
    wide = table.pivot(index=["model", "dataset"], columns="format", values="above_zero")

    def words(row: pd.Series) -> str:
        run = row.dropna()
        named = [form for form in run.index if run[form]]
        return "all" if len(named) == len(run) else " and ".join(named) or "none"

    answers = wide.map(lambda above: "not run" if pd.isna(above) else "yes" if above else "no")
    return answers.assign(steerable=wide.apply(words, axis=1)).reset_index()


def agreement(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Spearman's rank correlations over the data sets that both sides have.

    Pairs: the models with each other in each format; the formats with each other in each model; each model and format
    with the published models (letter format, in distribution). Each over all data sets and over each kind of item: a
    format may favour one kind as a whole, which then decides the correlation over all.

    Returns
    -------
    DataFrame
        Columns kind ("models", "formats" or "published"), sets ("all", "persona", "choice"), first, second, n,
        estimate, low, high. A pair with fewer than three common data sets, or without variation, has NaN.
    """
    kinds = [kind for kind in ITEM_KINDS if (table["kind"] == kind).any()]
    groups = {
        "all": table,
        **({kind: table[table["kind"] == kind] for kind in kinds} if len(kinds) > 1 else {}),
    }
    parts = [_agreement(part, seed).assign(sets=name) for name, part in groups.items()]
    return pd.concat(parts, ignore_index=True)[
        ["kind", "sets", "first", "second", "n", "estimate", "low", "high"]
    ]


def _agreement(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    series = {
        (model, form): part.set_index("dataset")["estimate"]
        for (model, form), part in table.groupby(["model", "format"], sort=False)
    }
    rows = []
    for (first, x), (second, y) in combinations(series.items(), 2):
        if first[1] == second[1]:
            rows.append(("models", first, second, x, y))
        elif first[0] == second[0]:
            rows.append(("formats", first, second, x, y))
    for name, x in series.items():
        rows += [("published", name, (model, "letter"), x, _published(model)) for model in PUBLISHED]
    rows.sort(key=lambda row: KINDS.index(row[0]))
    return pd.DataFrame([_correlated(*row, np.random.default_rng(seed)) for row in rows])


def _published(model: str) -> pd.Series:
    return published.datasets()[f"mean_{model}"].dropna()


def _correlated(
    kind: str, first: tuple, second: tuple, x: pd.Series, y: pd.Series, rng: np.random.Generator
) -> dict:
    both = pd.concat([x, y], axis=1, keys=["x", "y"]).dropna()
    row = {"kind": kind, "first": ", ".join(first), "second": ", ".join(second), "n": len(both)}
    try:
        found = stats.rank_correlation(both["x"].to_numpy(), both["y"].to_numpy(), rng)
    except SteerkitError:  # too few data sets, or all the same
        return row | {"estimate": np.nan, "low": np.nan, "high": np.nan}
    return row | {"estimate": found.estimate, "low": found.low, "high": found.high}


def headline(table: pd.DataFrame, pairs: pd.DataFrame, seconds: dict[str, float]) -> pd.DataFrame:
    """The numbers this chapter was built to find, beside what was expected before it was run.

    `seconds` maps a profile to the computing time of its tables. The expectations were written down first (28 of 40,
    0.6, 0.8, 45 minutes) and stay as they were.
    """
    rows = [_steerable_sets(table, model) for model in table["model"].unique()]
    rows += [_between_models(pairs)]
    rows += [_with_published(row) for _, row in pairs[pairs["kind"] == "published"].iterrows()]
    rows += [_explained(table, model) for model in table["model"].unique()]
    total = sum(seconds.values()) / 60
    rows.append(
        (
            "computing time of all tables shown, wall times summed",
            "45 minutes",
            f"{total:.0f} minutes",
            total <= 45,
        )
    )
    frame = pd.DataFrame([row for row in rows if row], columns=["measure", "expected", "found", "met"])
    return frame.assign(met=frame["met"].map({True: "yes", False: "no", None: ""}))


def _steerable_sets(table: pd.DataFrame, model: str) -> tuple | None:
    part = table[(table["model"] == model) & (table["format"] == "statement")]
    if part.empty:
        return None
    count, wanted = int(part["above_zero"].sum()), 0.7 * len(part)
    text = f"{count} of {len(part)} ({int(part['above_random'].sum())} above random vectors)"
    return f"{model}: data sets steerable in statement", f"{wanted:.0f} of {len(part)}", text, count >= wanted


def _between_models(pairs: pd.DataFrame) -> tuple | None:
    part = pairs[(pairs["kind"] == "models") & pairs["first"].str.endswith("statement")]
    part = part[part["sets"] == "all"]
    if part.empty:
        return None
    row = part.iloc[0]
    return "Spearman between the models, statement", "at least 0.6", _text(row), bool(row["estimate"] >= 0.6)


def _with_published(row: pd.Series) -> tuple | None:
    if not row["first"].endswith("statement"):
        return None
    sets = "" if row["sets"] == "all" else f", {row['sets']} sets"
    return f"Spearman of {row['first']} with published {row['second']}{sets}", "reported", _text(row), None


def _explained(table: pd.DataFrame, model: str) -> tuple | None:
    part = table[(table["model"] == model) & (table["format"] == "letter")]
    if part.empty:
        return None
    median = part["bias_share"].median()
    name = f"{model}: variance explained by the answer in letter, median over sets"
    return name, "above 0.8", f"{median:.2f}", bool(median > 0.8)


def _text(row: pd.Series) -> str:
    return f"{row['estimate']:.2f} [{row['low']:.2f}, {row['high']:.2f}], n = {row['n']}"
