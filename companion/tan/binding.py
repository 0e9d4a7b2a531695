"""Does a model bind a letter to an option? Every item asked in both orders of its options.

A model that binds gives the same option when the options change places, so its propensity (logit of the matching letter
minus that of the other) stays what it was. One that likes a letter gives the same letter: its propensity changes sign.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from companion import inference
from companion.data.splits import groups_of, item_id
from companion.models import model_of
from companion.profiles import Settings
from companion.tan import experiment, jobs, work
from companion.tan.dose import neutral_tokens
from companion.tan.jobs import Job
from steerkit import shuffled, steerability, traces
from steerkit.remote import run
from steerkit.vectors import concatenate

LENGTH = 0.1  # of the residual stream's norm: about as long as the vectors that steer in the format statement


def both_orders(grid: pd.DataFrame) -> pd.DataFrame:
    """Unsteered propensity of every item that a GRID table asks in both orders: dataset, item, first, other (logits)."""
    rows = grid[(grid["multiplier"] == 0) & (grid["vector"] == "full")]
    items = rows["example_id"].map(item_id)
    rows = rows.assign(item=items, order=np.where(rows["example_id"] == items, "first", "other"))
    wide = rows.pivot(index=["dataset", "item"], columns="order", values="propensity")
    return wide.reindex(columns=["first", "other"]).dropna().reset_index()


def summary(both: pd.DataFrame) -> dict[str, float]:
    """The swap test: n, the share of items with the same option in both orders, with its 95% interval (low, high).

    chance: the share if the second orders of a set were shuffled among its items. option and letter: the mean size of
    what stays and of what turns with the letters, in logits.
    """
    same = (both["first"] > 0) == (both["other"] > 0)
    found = inference.share_interval(int(same.sum()), len(both))
    up = both.assign(first=both["first"] > 0, other=both["other"] > 0).groupby("dataset")[["first", "other"]]
    shares, sizes = up.mean(), up.size()
    by_chance = shares.prod(axis=1) + (1 - shares).prod(axis=1)
    stays, turns = ((both["first"] + sign * both["other"]).abs().mean() / 2 for sign in (1, -1))
    about = {"n": len(both), "same_option": found.estimate, "low": found.low, "high": found.high}
    about["chance"] = float(np.average(by_chance, weights=sizes))
    return about | {"option": float(stays), "letter": float(turns)}


def lengthened(settings: Settings, datasets: int = 5) -> pd.DataFrame:
    """The letter vector of the first data sets, made `LENGTH` of the residual stream long, beside one with shuffled labels.

    Columns dataset, vector, times (its own length), norm; moved (half the change of the propensity from minus to plus that
    length, logits, mean over items), and the same of the items whose matching letter is A, and B; spread (standard
    deviation of the unsteered propensity). A direction of the letters moves A and B apart and the mean not at all.
    """
    layer, parts = experiment.layer_of(settings, "letter"), []
    model = model_of(settings.model, settings.remote)
    [norms] = run(model, traces.residuals, [[neutral_tokens(model)]], layer, [1], True)
    length = LENGTH * norms.median().item()
    for name in settings.datasets[:datasets]:
        job = Job(settings, "grid", name, "letter", layer)
        train, test = jobs.examples(job, model)
        vectors = work.vectors_of(job, [layer], train)
        groups = groups_of(jobs.dataset_of(name, settings.source), [example.id for example in train])
        found = work.differences_of(job, [layer], train).values
        vectors = concatenate(vectors, shuffled(found, [layer], 1, 0, groups=groups))
        norm = vectors.values[0].norm().item()
        longer = replace(job, settings=replace(settings, multipliers=(-length / norm, 0.0, length / norm)))
        slopes = steerability.slopes(work.scored(longer, model, test, vectors))
        moved = slopes["steerability"] * length / norm
        parts.append(slopes.assign(moved=moved, times=length / norm, norm=length))
    every = pd.concat(parts, ignore_index=True)
    by, about = every.groupby(["dataset", "vector"], sort=False), {"times": "first", "norm": "first"}
    found = by.agg(about | {"moved": "mean", "baseline": "std"}).rename(columns={"baseline": "spread"})
    sides = every.pivot_table("moved", ["dataset", "vector"], "positive_letter", sort=False)
    return found.join(sides.rename(columns="matching {}".format)).reset_index()
