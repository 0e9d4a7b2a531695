"""Vectors from every prompt setting on prompts of every setting: the 6 x 5 grid of Tan et al. 2024, section 5.

A vector is extracted under each setting, and one more is their mean. All are scaled to the norm of the BASE vector
of their data set, as the paper's code does, so that a slope compares directions and not lengths. A model without a
system prompt has no SYS settings; the table then holds the others, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from companion import store
from companion.models import model_of
from companion.tan.jobs import Job, Progress, examples, inputs, job_layers, job_multipliers
from steerkit.prompts import SETTINGS

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.model import Model
    from steerkit.vectors import Vectors

MEAN = "MEAN"


def settings_of(model: Model) -> tuple[str, ...]:
    """The prompt settings for which this model has a place."""
    return tuple(s for s in SETTINGS if model.template.has_system or not s.startswith("SYS"))


def compute_shift(job: Job, progress: Progress | None = None) -> pd.DataFrame:
    """GRID table of one data set with a column `setting`, the test prompts' one; `vector` is the training one."""
    import pandas as pd

    from companion.tan.ood import pairwise
    from steerkit.grid import evaluate

    model = model_of(job.settings.model, job.settings.remote)
    found = vectors_by_setting(job, model, progress)
    parts = []
    for setting in settings_of(model):
        _, test = examples(job, model, setting)
        result = evaluate(
            model,
            test,
            found,
            job_multipliers(job),
            fidelity=job.settings.fidelity,
            engine=job.settings.engine,
            progress=progress,
        )
        parts.append(result.table(job.dataset).assign(setting=setting))
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs = {
        "engine": result.engine,
        "reason": result.reason,
        "source": model.source,
        "test_examples": len(test),
        "cosines": pairwise({name: found.values[i, 0].numpy() for i, name in enumerate(found.names)}),
        "settings_without_a_place": sorted(set(SETTINGS) - set(settings_of(model))),
        "dtype_reason": model.dtype_reason,
    }
    return frame


def vectors_by_setting(job: Job, model: Model, progress: Progress | None = None) -> Vectors:
    """One vector a setting and their mean, all with the norm of the BASE vector."""
    from dataclasses import replace

    from steerkit.extraction import mean_vector, rescale_to
    from steerkit.vectors import concatenate

    layers = job_layers(job, model.sites.n_layers)

    def extract() -> Vectors:
        parts = []
        for setting in settings_of(model):
            train, _ = examples(job, model, setting)
            mean = mean_vector(model, train, layers, manifest={"source": model.source}, progress=progress)
            parts.append(replace(mean, names=(setting,)))
        together = concatenate(*parts)
        mean = replace(parts[0], names=(MEAN,), values=together.values.mean(dim=0, keepdim=True))
        return rescale_to(concatenate(together, mean), parts[0])

    return store.vectors(f"vectors-{job.name}", inputs(job), extract)
