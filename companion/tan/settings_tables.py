"""Tables over prompt settings for one profile or several: what the notebooks of figures 5 to 7 draw.

Each returns the table and the manifests of the artefacts behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from companion import published
from companion.tan import experiment
from companion.tan import tables as shifts

if TYPE_CHECKING:
    from companion.profiles import Settings

Found = tuple[pd.DataFrame, list[dict[str, Any]]]


def shifts_of(settings: Settings, answer_format: str) -> Found:
    """The SHIFTS table of one profile (`companion.tan.tables.shift_table`); its model is the profile's."""
    slopes = experiment.shift_slopes(settings, answer_format)
    return shifts.shift_table(slopes, name_of(settings)), slopes.attrs["manifests"]


def name_of(settings: Settings) -> str:
    """The model, told apart from the same model on the papers' data."""
    return f"{settings.model} (papers' data)" if settings.source == "papers" else settings.model


def over_models(runs: Sequence[Settings], answer_format: str) -> Found:
    """SHIFTS of several profiles, one below the other."""
    found = [shifts_of(settings, answer_format) for settings in runs]
    tables, manifests = zip(*found, strict=True)
    return pd.concat(tables, ignore_index=True), [m for part in manifests for m in part]


def pairs_of_models(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Every two models of a SHIFTS table."""
    return list(combinations(table["model"].unique(), 2))


def with_published(runs: Sequence[Settings], answer_format: str) -> Found:
    """SHIFTS of several profiles and, in distribution and out of it, of the paper's models with all data sets."""
    ours, manifests = over_models(runs, answer_format)
    theirs = published.shifts()
    theirs = theirs[theirs["model"].isin(["llama2-7b", "qwen1.5-14b", "gemma-2-2b"])]
    return pd.concat([ours, theirs], ignore_index=True), manifests


def all_correlations(runs: Mapping[str, Sequence[Settings]]) -> Found:
    """Correlations of every profile and format (`companion.tan.tables.correlations`) above the published ones."""
    parts, manifests = [], []
    for form, chosen in runs.items():
        table, found = over_models(chosen, form)
        parts.append(shifts.correlations(table).assign(format=form))
        manifests += found
    theirs = published.shifts()
    theirs = theirs[theirs["model"].isin(["llama2-7b", "qwen1.5-14b"])]
    parts.append(shifts.correlations(theirs).assign(format="letter, published"))
    table = pd.concat(parts, ignore_index=True)
    numbers = table.select_dtypes(np.number).columns
    return table.assign(**table[numbers].round(3))[["format", *table.columns.drop("format")]], manifests


def relative_of(settings: Settings, answer_format: str, minimum: float) -> Found:
    """Relative steerability of one profile (`companion.tan.ood.relative`); no rows when nothing steers more than `minimum`."""
    slopes = experiment.shift_slopes(settings, answer_format)
    own = slopes[slopes["vector"] == slopes["setting"]].groupby(["dataset", "vector"])["steerability"].mean()
    if own.max() <= minimum:
        return pd.DataFrame(), slopes.attrs["manifests"]
    return shifts.relative(slopes, name_of(settings), minimum), slopes.attrs["manifests"]


def cosines_of(settings: Settings, answer_format: str) -> Found:
    """Cosines between the vectors of one profile (`companion.tan.ood.cosines`), as its manifests hold them."""
    slopes = experiment.shift_slopes(settings, answer_format)
    manifests = slopes.attrs["manifests"]
    pairs = {m["inputs"]["dataset"]: [tuple(pair) for pair in m["cosines"]] for m in manifests}
    return shifts.cosines(pairs, slopes, name_of(settings)), manifests
