"""What vectors do over prompt settings when the labels of their training pairs mean nothing.

Steerability in and out of distribution shares test items and vector. How far it goes together for a vector that no
concept made is what this stage records: of every training setting the vector and `DRAWS` more from the same differences
with labels drawn at random. They are drawn alike in all settings, so that the vectors of a draw differ by the prompt
alone, as the real ones do; all have the norm of the BASE vector, as in the grid over prompt settings. One gradient a test
example and setting (`steerkit.gradient`) gives the slopes of all of them.
"""

from collections.abc import Callable, Collection
from itertools import combinations

import pandas as pd
import torch

from companion.data.splits import groups_of
from companion.tan import jobs
from companion.tan.jobs import Job, examples, settings_of
from companion.tan.placebo import slopes_at_zero
from steerkit import Model, Vectors, extraction, gradients
from steerkit.vectors import concatenate, scaled

DRAWS = 19


def vectors(job: Job, model: Model, setting: str, progress: Callable | None = None) -> Vectors:
    """The vector "full" of one training setting, and those with labels drawn at random; seeds know no setting."""
    train, _ = examples(job, model, setting)
    found = extraction.differences(model, train, [job.layer], progress=progress)
    groups = groups_of(jobs.dataset_of(job.dataset, job.settings.source), [one.id for one in train])
    drawn = extraction.shuffled(found, [job.layer], DRAWS, jobs.seed_of(job), groups=groups)
    return concatenate(extraction.mean_difference(found, [job.layer]), drawn)


def table(
    job: Job, model: Model, ids: Collection[str] = (), progress: Callable | None = None
) -> pd.DataFrame:
    """UNLABELLED table of one data set, of all its test examples or of these `ids`.

    Columns dataset, example_id; vector, the training setting; setting, that of the test prompt; labels, "full" or
    "shuffled-00" ...; slope, score per unit multiplier at multiplier 0. The manifest has, draw by draw, the `cosines` between
    the vectors of every two of `settings`.
    """
    named, parts = settings_of(model), []
    found = {setting: vectors(job, model, setting, progress) for setting in named}
    for setting in named:
        _, test = examples(job, model, setting)
        test = [one for one in test if one.id in ids or not ids]
        moved = gradients(model, test, [job.layer], fidelity=job.settings.fidelity, progress=progress)
        for trained in named:
            of = slopes_at_zero(moved.at(job.layer), scaled(found[trained], found["BASE"]), test)
            of = of.rename(columns={"vector": "labels"})
            parts.append(of.assign(dataset=job.dataset, vector=trained, setting=setting))
    columns = ["dataset", "example_id", "vector", "setting", "labels", "slope"]
    frame = pd.concat(parts, ignore_index=True)[columns]
    units = [torch.nn.functional.normalize(found[setting].values[:, 0], dim=1) for setting in named]
    both = torch.stack([(one * other).sum(1) for one, other in combinations(units, 2)], dim=1)  # [v, pairs]
    cosines = [[round(cosine, 5) for cosine in each] for each in both.tolist()]
    frame.attrs = {"settings": named, "cosines": cosines}
    return frame
