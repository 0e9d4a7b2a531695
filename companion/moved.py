"""Data sets over prompt settings: under their vectors, and under vectors whose labels were drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from companion import trials
from companion.tan.evidence import Evidence
from companion.tan.tables import SAME

Pair = tuple[str, str]  # training and test setting


@dataclass(frozen=True)
class Moved:
    """One data set over prompt settings: slopes [p] of every training and test setting, and halves [n, p] of its items.

    `at_zero` has the slopes of the vectors at multiplier 0, [p], and `shuffled` those of label-shuffled ones, [v, p];
    nothing where nobody has recorded them.
    """

    name: str
    kind: str
    groups: np.ndarray
    slopes: dict[Pair, np.ndarray]
    baselines: pd.DataFrame  # unsteered propensity, [p, settings]
    halves: np.ndarray
    at_zero: dict[Pair, np.ndarray]
    shuffled: dict[Pair, np.ndarray]

    def unlabelled(self, rng: np.random.Generator, apart: bool = False) -> Moved:
        """The same set under one label-shuffled vector, in the direction that raises its mean in distribution.

        With `apart` one half of the items tells the direction, and the slopes are those of the other half: an item that
        has told it moves that way by its noise as well.
        """
        draw = rng.integers(len(self.shuffled[SAME]))
        half = self.halves[rng.integers(len(self.halves))] if apart else slice(None)
        sign = 1 if self.shuffled[SAME][draw][half].mean() > 0 else -1
        kept = ~half if apart else half
        return replace(self, slopes={pair: sign * every[draw][kept] for pair, every in self.shuffled.items()})


@lru_cache(maxsize=4)
def moved(e: Evidence) -> list[Moved]:
    """The data sets of a run over prompt settings."""
    item, found = ["dataset", "example_id"], []
    wide = e.shifts.pivot(index=item, columns=["vector", "setting"], values="steerability")
    unsteered = e.shifts.pivot_table("baseline", item, "setting", aggfunc="first", dropna=False)
    group = e.shifts.drop_duplicates(item).set_index(item)["group"]
    drawn = e.unlabelled
    for name in e.shifts["dataset"].unique():
        rows = wide.loc[name].dropna(axis=1, how="all")
        labels = group[name].loc[rows.index].to_numpy()
        slopes = dict(zip(rows.columns, rows.to_numpy().T, strict=True))
        plain = unsteered.loc[name].loc[rows.index]
        at_zero = ({}, {}) if drawn is None else _at_zero(drawn[drawn["dataset"] == name], rows.index)
        about = (name, e.kinds.get(name, ""), labels, slopes, plain, trials.halves_of(labels))
        found.append(Moved(*about, *at_zero))
    return found


def _at_zero(drawn: pd.DataFrame, items: pd.Index) -> tuple[dict[Pair, np.ndarray], dict[Pair, np.ndarray]]:
    """Slopes at 0 of one data set by training and test setting: under the vectors, [p], and label-shuffled ones, [v, p]."""
    wide = drawn.pivot(index=["vector", "setting", "labels"], columns="example_id", values="slope")[items]
    pairs = wide.index.droplevel("labels").unique()
    values = wide.to_numpy().reshape(len(pairs), -1, len(items))  # of sorted labels, "full" is first
    return tuple(dict(zip(pairs, part, strict=True)) for part in (values[:, 0], values[:, 1:]))


def halves(sets: Sequence[Moved], one: Pair, other: Pair, measure: Callable = np.mean) -> list[tuple]:
    """A number of two settings over sets, from disjoint halves of the items."""
    sides = (([each.slopes[pair] for each in sets], measure) for pair in (one, other))
    return trials.both_ways([each.halves for each in sets], *sides)
