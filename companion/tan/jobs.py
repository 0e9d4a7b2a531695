"""One job: a data set, a format, a stage; its examples, its vectors, its table.

The numbers are made here and in the modules this one calls; `companion.store.NUMERIC_CODE` lists them, and a change
in any of them makes new artefacts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from companion import store
from companion.data import counterbalance
from companion.data.datasets import Dataset, load_dataset, personas, statement_pairs
from companion.data.splits import group_items, limit, make_split
from companion.models import dtype_of, model_of, weights_of
from companion.profiles import Settings
from steerkit.errors import SteerkitError
from steerkit.formats import FORMATS
from steerkit.prompts import Example, Prompter, Setting
from steerkit.templates import TEMPLATES

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.model import Model
    from steerkit.vectors import Vectors

Stage = Literal["grid", "sweep", "shift"]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """One artefact to come: a data set in a format, for the main grid, the layer sweep, or the prompt settings.

    `layer` is the block that is steered; None in the sweep, which steers many, and as long as it is not chosen.
    """

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
    def split(self) -> str:
        """Name of the split: the sweep has its own, so that the layer is not chosen on test items."""
        return "sweep" if self.stage == "sweep" else self.settings.split

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """Most training and test groups."""
        owner = {"grid": self.settings, "sweep": self.settings.sweep, "shift": self.settings.shift}[
            self.stage
        ]
        return size(owner.train, self.format), size(owner.test, self.format)

    @property
    def counterbalanced(self) -> bool:
        """Whether each item is asked in both forms: in the main grid only, and a statement has one."""
        return self.settings.counterbalanced and self.stage == "grid" and FORMATS[self.format].biased


def size(limit: int | dict[str, int] | None, answer_format: str) -> int | None:
    """A number of groups, which may differ between formats."""
    return limit.get(answer_format) if isinstance(limit, dict) else limit


@lru_cache(maxsize=64)
def dataset_of(name: str, source: str) -> Dataset:
    """A data set, kept."""
    return load_dataset(name, source=source)


def inputs(job: Job) -> dict[str, Any]:
    """Everything that decides the numbers of one artefact; nothing that does not."""
    settings = job.settings
    about = {
        "model": settings.model,
        "weights": weights_of(settings.model, settings.remote),
        "dtype": dtype_of(settings.model, settings.remote),
        "dataset": job.dataset,
        "source": settings.source,
        "data_sha256": dataset_of(job.dataset, settings.source).sha256,
        "format": job.format,
        "split": job.split,
        "limits": job.limits,
        "seed": settings.seed,
        "spelling": settings.spelling,
        "engine": settings.engine,
        "fidelity": settings.fidelity if job.format == "letter" else None,
        "counterbalanced": job.counterbalanced,
        "stage": job.stage,
    }
    if job.stage == "shift":
        personas_used = personas(job.dataset, settings.source)
        return about | {
            "layer": job.layer,
            "multipliers": settings.shift.multipliers,
            "personas": personas_used,
        }
    if job.stage == "sweep":
        return about | {
            "step": settings.sweep.every(job.format),
            "multipliers": settings.sweep.multipliers,
            "train_template": settings.sweep.template,
        }
    return about | {
        "layer": job.layer,
        "multipliers": settings.multipliers,
        "resamples": settings.resamples.get(job.format, 0),
        "resample_multipliers": settings.resample_multipliers,
        "random_vectors": settings.random_vectors,
    }


def examples(job: Job, model: Model, setting: Setting = "BASE") -> tuple[list[Example], list[Example]]:
    """Tokenised training and test examples of a job in one prompt setting."""
    settings, dataset = job.settings, dataset_of(job.dataset, job.settings.source)
    split = limit(make_split(dataset, job.split, settings.seed), *job.limits)
    persona = None if setting == "BASE" else personas(job.dataset, settings.source)
    asked = Prompter(model.tokenizer, model.template, settings.spelling, setting, persona)
    shown = replace(asked, template=TEMPLATES[settings.sweep.template]) if _other_template(job) else asked
    train, test = (
        examples_of(prompter, dataset, part, job.format, settings.seed, job.counterbalanced)
        for prompter, part in ((shown, split.train), (asked, split.test))
    )
    return train, test


def _other_template(job: Job) -> bool:
    return job.stage == "sweep" and bool(job.settings.sweep.template)


def examples_of(
    prompter: Prompter,
    dataset: Dataset,
    indices: Sequence[int],
    answer_format: str,
    seed: int,
    counterbalanced: bool = False,
) -> list[Example]:
    """Tokenised examples of some items in one answer format.

    `seed` pairs statements that have no pair number; `counterbalanced` asks every item in both of its forms.
    """
    import numpy as np

    items, form = [dataset.items[i] for i in indices], FORMATS[answer_format]
    if not form.biased:
        return [form.ask(prompter, *pair) for pair in statement_pairs(items, np.random.default_rng(seed))]
    firsts = [form.form(prompter, item) for item in items]
    if not counterbalanced:
        return firsts
    return counterbalance.with_others(firsts, [form.form(prompter, item, other=True) for item in items])


def vectors_of(
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress | None = None
) -> Vectors:
    """The steering vector of a job and its resampled and random companions."""
    from steerkit.extraction import differences, mean_difference, mean_vector, resampled
    from steerkit.vectors import concatenate, norm_matched_random

    settings = job.settings

    def extract() -> Vectors:
        model = model_of(settings.model, settings.remote)
        if job.stage == "sweep":
            return mean_vector(model, train, layers, manifest={"source": model.source}, progress=progress)
        found = differences(model, train, layers, progress=progress)
        full = mean_difference(found, layers, {"source": model.source})
        groups = groups_of(dataset_of(job.dataset, settings.source), [example.id for example in train])
        drawn = resampled(found, layers, settings.resamples.get(job.format, 0), settings.seed, groups=groups)
        return concatenate(full, drawn, norm_matched_random(full, settings.random_vectors, settings.seed))

    return store.vectors(f"vectors-{job.name}", inputs(job) | {"layers": list(layers)}, extract)


def groups_of(dataset: Dataset, example_ids: Sequence[str]) -> list[int]:
    """Group of each example: two items of one pair, or of one question, are not independent."""
    numbers = dict(zip((item.id for item in dataset.items), group_items(dataset.items), strict=True))
    return [numbers[counterbalance.item_id(example_id)] for example_id in example_ids]


def compute(job: Job, progress: Progress | None = None) -> pd.DataFrame:
    """Run one job: extract, steer, score."""
    from companion.tan.prompt_settings import compute_shift
    from steerkit.grid import evaluate

    if job.stage == "shift":
        return compute_shift(job, progress)
    model = model_of(job.settings.model, job.settings.remote)
    train, test = examples(job, model)
    layers = job_layers(job, model.sites.n_layers)
    found = vectors_of(job, layers, train, progress)
    result = evaluate(
        model,
        test,
        found,
        job_multipliers(job),
        fewer=companions(job, found.names),
        fidelity=job.settings.fidelity,
        engine=job.settings.engine,
        progress=progress,
    )
    frame = result.table(job.dataset)
    frame.attrs = {
        "engine": result.engine,
        "reason": result.reason,
        "source": model.source,
        "train_examples": len(train),
        "test_examples": len(test),
        "dtype_reason": model.dtype_reason,
    }
    return frame


def job_layers(job: Job, n_layers: int) -> list[int]:
    """Blocks a job steers."""
    if job.stage == "sweep":
        return list(range(0, n_layers, job.settings.sweep.every(job.format)))
    if not 0 <= job.layer < n_layers:
        raise SteerkitError(
            f"a layer from 0 to {n_layers - 1} of {job.settings.model}",
            f"layer {job.layer}",
            next_step="choose one of them.",
        )
    return [job.layer]


def job_multipliers(job: Job) -> tuple[float, ...]:
    """Multipliers of a job."""
    owner = {"grid": job.settings, "sweep": job.settings.sweep, "shift": job.settings.shift}[job.stage]
    return owner.multipliers


def companions(job: Job, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Resampled and random vectors run at fewer multipliers: a slope needs the ends of the range only."""
    return {name: job.settings.resample_multipliers for name in names if name != "full"}
