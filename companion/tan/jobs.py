"""One job: a data set, a format, a stage; its examples, its vectors, its table.

The stages are the main grid, the layer sweep, and the grid over prompt settings of section 5, where a vector is
extracted under each setting and one more is their mean. These are scaled to the norm of the BASE vector of their data
set, as the paper's code does, so that a slope compares directions and not lengths. A model without a system prompt has
no SYS settings; the table then holds the others, and says so.

The numbers are made here and in the modules this one calls; `companion.store.NUMERIC_CODE` lists them, and a change
in any of them makes new artefacts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from companion import store
from companion.data.ask import examples_of, groups_of
from companion.data.datasets import Dataset, load_dataset, personas
from companion.data.splits import limit, make_split
from companion.models import dtype_of, model_of, weights_of
from companion.profiles import Settings, Shift, Sweep
from companion.templates import SETTINGS, TEMPLATES, Setting, prompter
from steerkit.errors import need
from steerkit.formats import FORMATS
from steerkit.prompts import Example

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.grid import Grid
    from steerkit.model import Model
    from steerkit.vectors import Vectors

Stage = Literal["grid", "sweep", "shift"]
Progress = Callable[[int], None]
MEAN = "MEAN"  # the mean of the vectors of all settings


@dataclass(frozen=True)
class Job:
    """One artefact to come; `layer` is None in the sweep, which steers many blocks, and until one is chosen."""

    settings: Settings
    stage: Stage
    dataset: str
    format: str
    layer: int | None = None

    @property
    def name(self) -> str:
        """File name without key; of a user's own file only its stem."""
        return f"{self.stage}-{Path(self.dataset).name.removesuffix('.jsonl').removesuffix('.json')}-{self.format}"

    @property
    def part(self) -> Settings | Sweep | Shift:
        """The part of the settings that has the sizes and multipliers of this stage."""
        return self.settings if self.stage == "grid" else getattr(self.settings, self.stage)

    @property
    def split(self) -> str:
        """Name of the split: the sweep has its own, so that the layer is not chosen on test items."""
        return "sweep" if self.stage == "sweep" else self.settings.split

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """Most training and test groups: one number, or one for each format."""
        sizes = (self.part.train, self.part.test)
        return tuple(each.get(self.format) if isinstance(each, dict) else each for each in sizes)

    @property
    def counterbalanced(self) -> bool:
        """Whether each item is asked in both forms: in the main grid only, and a statement has one."""
        return self.settings.counterbalanced and self.stage == "grid" and FORMATS[self.format].biased


@lru_cache(maxsize=64)
def dataset_of(name: str, source: str) -> Dataset:
    """A data set, kept."""
    return load_dataset(name, source=source)


def inputs(job: Job) -> dict[str, Any]:
    """Everything that decides the numbers of one artefact; nothing that does not."""
    settings = job.settings
    about = {name: getattr(settings, name) for name in ("model", "source", "seed", "spelling", "engine")}
    own = ("dataset", "format", "stage", "split", "limits", "counterbalanced")
    about |= {name: getattr(job, name) for name in own}
    about |= {
        "weights": weights_of(settings.model, settings.remote),
        "dtype": dtype_of(settings.model, settings.remote),
        "data_sha256": dataset_of(job.dataset, settings.source).sha256,
        "fidelity": settings.fidelity if job.format == "letter" else None,
        "multipliers": job.part.multipliers,
    }
    if job.stage == "sweep":
        return about | {"step": job.part.every(job.format), "train_template": job.part.template}
    about["layer"] = job.layer
    if job.stage == "shift":
        return about | {"personas": personas(job.dataset, settings.source)}
    about |= {name: getattr(settings, name) for name in ("resample_multipliers", "random_vectors")}
    return about | {"resamples": settings.resamples.get(job.format, 0)}


def examples(job: Job, model: Model, setting: Setting = "BASE") -> tuple[list[Example], list[Example]]:
    """Tokenised training and test examples of a job in one prompt setting."""
    settings, dataset = job.settings, dataset_of(job.dataset, job.settings.source)
    split = limit(make_split(dataset, job.split, settings.seed), *job.limits)
    persona = None if setting == "BASE" else personas(job.dataset, settings.source)
    shown = asked = prompter(model.tokenizer, model.template, settings.spelling, setting, persona)
    if job.stage == "sweep" and settings.sweep.template:
        shown = prompter(model.tokenizer, TEMPLATES[settings.sweep.template], settings.spelling)
    how = job.format, settings.seed, job.counterbalanced
    return examples_of(shown, dataset, split.train, *how), examples_of(asked, dataset, split.test, *how)


def settings_of(model: Model) -> tuple[str, ...]:
    """The prompt settings for which this model has a place."""
    return tuple(s for s in SETTINGS if model.template.has_system or not s.startswith("SYS"))


def vectors_of(
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress | None = None
) -> Vectors:
    """The steering vector of a job and its resampled and random companions."""
    from steerkit import extraction
    from steerkit.vectors import concatenate, norm_matched_random

    settings = job.settings

    def extract() -> Vectors:
        model = model_of(settings.model, settings.remote)
        about = {"source": model.source}
        if job.stage == "sweep":
            return extraction.extract(model, train, layers, manifest=about, progress=progress)
        found = extraction.differences(model, train, layers, progress=progress)
        full = extraction.mean_difference(found, layers, about)
        groups = groups_of(dataset_of(job.dataset, settings.source), [example.id for example in train])
        count = settings.resamples.get(job.format, 0)
        drawn = extraction.resampled(found, layers, count, settings.seed, groups=groups)
        return concatenate(full, drawn, norm_matched_random(full, settings.random_vectors, settings.seed))

    return store.vectors(f"vectors-{job.name}", inputs(job) | {"layers": list(layers)}, extract)


def vectors_by_setting(job: Job, model: Model, progress: Progress | None = None) -> Vectors:
    """One vector a setting and their mean, all with the norm of the BASE vector."""
    from steerkit import extraction
    from steerkit.vectors import concatenate

    layers, about = job_layers(job, len(model.layers)), {"source": model.source}

    def extract() -> Vectors:
        parts = []
        for setting in settings_of(model):
            train, _ = examples(job, model, setting)
            found = extraction.extract(model, train, layers, manifest=about, progress=progress)
            parts.append(replace(found, names=(setting,)))
        together = concatenate(*parts)
        mean = replace(parts[0], names=(MEAN,), values=together.values.mean(dim=0, keepdim=True))
        return rescale_to(concatenate(together, mean), parts[0])

    return store.vectors(f"vectors-{job.name}", inputs(job), extract)


def rescale_to(vectors: Vectors, reference: Vectors) -> Vectors:
    """Each vector with the L2 norm that `reference` has at the same layer.

    Tan et al. 2024 do this with the vectors of all prompt settings, to the norm of the BASE vector (code:
    `normalize_steering_magnitude_to_baseline`).
    """
    from steerkit.vectors import Vectors, check_same_layers

    check_same_layers(vectors, reference)
    norms = reference.values[:1].norm(dim=-1, keepdim=True)
    own = vectors.values.norm(dim=-1, keepdim=True)
    return Vectors(vectors.names, vectors.layers, vectors.values / own * norms, vectors.manifest)


def pairwise(vectors: Mapping[str, np.ndarray]) -> list[tuple[str, str, float]]:
    """Cosines (first, second, cosine) between the vectors [d] of one data set; names of no setting are left out."""
    named = [(name, np.asarray(vectors[name], float)) for name in (*SETTINGS, MEAN) if name in vectors]
    units = [(name, vector / np.linalg.norm(vector)) for name, vector in named]
    return [(first, second, float(one @ other)) for (first, one), (second, other) in combinations(units, 2)]


def compute(job: Job, progress: Progress | None = None) -> pd.DataFrame:
    """Run one job: extract, steer, score."""
    model = model_of(job.settings.model, job.settings.remote)
    if job.stage == "shift":
        return _compute_shift(job, model, progress)
    train, test = examples(job, model)
    found = vectors_of(job, job_layers(job, len(model.layers)), train, progress)
    result = scored(job, model, test, found, progress)
    frame = result.table(job.dataset)
    frame.attrs = _about(model, result, test) | {"train_examples": len(train)}
    return frame


def _compute_shift(job: Job, model: Model, progress: Progress | None) -> pd.DataFrame:
    """GRID table of one data set with a column `setting`, the test prompts' one; `vector` is the training one."""
    import pandas as pd

    found = vectors_by_setting(job, model, progress)
    parts = []
    for setting in settings_of(model):
        _, test = examples(job, model, setting)
        result = scored(job, model, test, found, progress)
        parts.append(result.table(job.dataset).assign(setting=setting))
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs = _about(model, result, test) | {
        "cosines": pairwise({name: found.values[i, 0].numpy() for i, name in enumerate(found.names)}),
        "settings_without_a_place": sorted(set(SETTINGS) - set(settings_of(model))),
    }
    return frame


def scored(
    job: Job, model: Model, test: Sequence[Example], found: Vectors, progress: Progress | None = None
) -> Grid:
    """The test examples under the vectors at the multipliers of the job."""
    from steerkit.grid import evaluate

    settings = job.settings
    fewer = companions(job, found.names) if job.stage != "shift" else None
    options = {"fidelity": settings.fidelity, "engine": settings.engine, "progress": progress}
    return evaluate(model, test, found, job.part.multipliers, fewer=fewer, **options)


def _about(model: Model, result: Grid, test: Sequence[Example]) -> dict[str, Any]:
    about = {"engine": result.engine, "reason": result.reason, "source": model.source}
    return about | {"test_examples": len(test), "dtype_reason": model.dtype_reason}


def job_layers(job: Job, n_layers: int) -> list[int]:
    """Blocks a job steers."""
    if job.stage == "sweep":
        return list(range(0, n_layers, job.part.every(job.format)))
    expected = f"a layer from 0 to {n_layers - 1} of {job.settings.model}"
    need(0 <= job.layer < n_layers, expected, f"layer {job.layer}", "choose one of them.")
    return [job.layer]


def companions(job: Job, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Resampled and random vectors run at fewer multipliers: a slope needs the ends of the range only."""
    return {name: job.settings.resample_multipliers for name in names if name != "full"}
