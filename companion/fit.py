"""A run made to fit into a night: fewer items of every data set, never fewer data sets."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from companion.profiles import Settings
from companion.tan import jobs
from companion.tan.jobs import Job

LEAST = 8  # items: two of each word and letter
SIDES = ["train", "test"]


def fitted(
    settings: Settings, works: Sequence[tuple[Job, float]], share: float
) -> tuple[Settings, list[str]]:
    """Settings that take `share` of the time, and what they leave out, in words.

    `works` are jobs with what each costs. In every part of a profile and format the largest sets are cut first, to one
    number of training and one of test groups; a number never falls below `LEAST`.
    """
    sizes = pd.DataFrame([_groups(job) for job, _ in works], _parts(works), SIDES)
    costs, every = np.array([cost for _, cost in works], float), sizes.groupby(level=[0, 1], sort=False).max()

    def cut(share: float) -> pd.DataFrame:
        return (share * every).astype(int).clip(lower=every.clip(upper=LEAST))

    def left(limits: pd.DataFrame) -> float:
        """What a cut leaves to do, training and test counted alike."""
        kept = limits.loc[sizes.index].to_numpy() / sizes.clip(lower=1).to_numpy()
        return costs @ kept.clip(max=1).mean(axis=1)

    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if left(cut(middle)) <= share * costs.sum() else (low, middle)
    kept = cut(low)
    for part, limits in kept.groupby(level=0):
        fewer = limits.loc[part].to_dict()
        owner = {part: replace(getattr(settings, part), **fewer)} if part else fewer
        settings = replace(settings, **owner)
    fewer = kept.index[(kept != every).any(axis=1)]
    return settings, [_said(*each, every.loc[each], kept.loc[each]) for each in fewer]


def _parts(works: Sequence[tuple[Job, float]]) -> pd.MultiIndex:
    """The part of a profile that has a job's sizes ("" for the main grid and its placebos), and its format."""
    parts = [("" if job.stage in ("grid", "placebo") else job.stage, job.format) for job, _ in works]
    return pd.MultiIndex.from_tuples(parts)


def _groups(job: Job) -> tuple[int, int]:
    """How many groups of items a job trains and tests on, as its sizes count them."""
    split, each = jobs.split_of(job), jobs.items_a_pair(job)
    return len(set(split.groups(split.train))) // each, len(set(split.groups(split.test))) // each


def _said(part: str, form: str, every: pd.Series, kept: pd.Series) -> str:
    what = f"{part or 'grid and placebo'}, {form}"
    train, test = (f"{kept[side]} of up to {every[side]}" for side in SIDES)
    return f"{what}: {train} training and {test} test items; the rest is left out."
