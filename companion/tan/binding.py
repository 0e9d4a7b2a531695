"""Does a model bind a letter to an option? Every item asked in both orders of its options.

A model that binds gives the same option when the options change places, so its propensity (logit of the matching letter
minus that of the other) stays what it was. One that likes a letter gives the same letter: its propensity changes sign.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from companion.data.splits import item_id
from companion.profiles import Settings
from companion.tan import experiment, jobs
from companion.tan.jobs import Job
from steerkit import stats

LONGER = 20.0  # times its own length, at which a short vector is as long as those that steer


def both_orders(grid: pd.DataFrame) -> pd.DataFrame:
    """Unsteered propensity of every item that a GRID table asks in both orders: dataset, item, first, other (logits)."""
    rows = grid[(grid["multiplier"] == 0) & (grid["vector"] == "full")]
    items = rows["example_id"].map(item_id)
    order = np.where(rows["example_id"] == items, "first", "other")
    wide = rows.assign(item=items, order=order).pivot(
        index=["dataset", "item"], columns="order", values="propensity"
    )
    return wide.reindex(columns=["first", "other"]).dropna().reset_index()


def summary(both: pd.DataFrame) -> dict[str, float]:
    """The swap test: n, the share of items with the same option in both orders, with its 95% interval (low, high).

    chance: the share if the second orders of a set were shuffled among its items. option and letter: the mean size of
    what stays and of what turns with the letters, in logits.
    """
    same = (both["first"] > 0) == (both["other"] > 0)
    found = stats.share_interval(int(same.sum()), len(both))
    up = both.assign(first=both["first"] > 0, other=both["other"] > 0).groupby("dataset")[["first", "other"]]
    shares, sizes = up.mean(), up.size()
    by_chance = shares.prod(axis=1) + (1 - shares).prod(axis=1)
    stays, turns = ((both["first"] + sign * both["other"]).abs().mean() / 2 for sign in (1, -1))
    about = {"n": len(both), "same_option": found.estimate, "low": found.low, "high": found.high}
    chance = float(np.average(by_chance, weights=sizes))
    return about | {"chance": chance, "option": float(stays), "letter": float(turns)}


def lengthened(settings: Settings, datasets: int = 5) -> pd.DataFrame:
    """The letter vector of the first data sets at `LONGER` times its length, beside one with shuffled labels.

    Columns dataset, vector, norm (of what is added), residual_norm; slope (logits a unit multiplier), and the slope of
    the items whose matching letter is A, and B. A vector of the letters moves A and B apart and the mean not at all.
    """
    from companion.models import model_of
    from steerkit import steerability
    from steerkit.vectors import concatenate

    layer, model, parts = experiment.layer_of(settings, "letter"), model_of(settings.model), []
    for name in settings.datasets[:datasets]:
        job = Job(replace(settings, multipliers=(-LONGER, 0.0, LONGER)), "grid", name, "letter", layer)
        own = Job(settings, "placebo", name, "letter", layer)
        train, test = jobs.examples(own, model)
        vectors, _ = jobs.vectors_beside_of(own, model, train)
        few = concatenate(*(vectors.select(names=[each]) for each in ("full", "shuffled-00")))
        found = steerability.slopes(jobs.scored(job, model, test, few).table(name))
        norms = dict(zip(few.names, (LONGER * few.values[:, 0].norm(dim=-1)).tolist(), strict=True))
        parts.append(found.assign(norm=found["vector"].map(norms)))
    every = pd.concat(parts, ignore_index=True)
    by = every.groupby(["dataset", "vector"], sort=False)
    wide = every.pivot_table("steerability", ["dataset", "vector"], "positive_letter", sort=False)
    found = by.agg(norm=("norm", "first"), slope=("steerability", "mean"), spread=("baseline", "std"))
    return found.join(wide.rename(columns="matching {}".format)).reset_index()
