"""One job: a data set, a format, a stage; its examples, its vectors, its table.

The stages are the main grid, its placebos, the layer sweep, one concept by several authors, and the grid over prompt settings of section 5, where a vector is
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
from zlib import crc32

import numpy as np

from companion import store
from companion.data.ask import examples_of
from companion.data.datasets import Dataset, load_dataset, personas
from companion.data.forms import first_label
from companion.data.splits import Split, groups_of, limit, make_split
from companion.models import dtype_of, model_of, weights_of
from companion.profiles import Settings, Shift, Sweep
from companion.tan import authors
from companion.tan.dose import dose_of
from companion.tan.placebo import OTHERS, slopes_at_zero, vectors_beside
from companion.templates import SETTINGS, TEMPLATES, Setting, prompter
from steerkit.errors import need
from steerkit.formats import FORMATS
from steerkit.prompts import Example

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.grid import Grid
    from steerkit.model import Model
    from steerkit.vectors import Vectors

Stage = Literal["grid", "sweep", "shift", "placebo", "authors"]
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
        name = Path(self.dataset).name
        for suffix in (".jsonl", ".json", ".csv"):
            name = name.removesuffix(suffix)
        return f"{self.stage}-{name}-{self.format}"

    @property
    def part(self) -> Settings | Sweep | Shift:
        """The part of the settings that has the sizes and multipliers of this stage."""
        return getattr(self.settings, self.stage) if self.stage in ("sweep", "shift") else self.settings

    @property
    def split(self) -> str:
        """Name of the split: the sweep has its own, so that the layer is not chosen on test items."""
        return "sweep" if self.stage == "sweep" else self.settings.split

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """Most training and test groups: one number, or one for each format (the least for one that is not named)."""
        sizes = (self.part.train, self.part.test)
        return tuple(
            each.get(self.format, min(each.values())) if isinstance(each, dict) else each for each in sizes
        )

    @property
    def counterbalanced(self) -> bool:
        """Whether each item is asked in both forms: in the main grid and its placebos, and a statement has one."""
        return (
            self.settings.counterbalanced
            and self.stage in ("grid", "placebo")
            and FORMATS[self.format].biased
        )


def datasets_of(settings: Settings, stage: Stage) -> Sequence[str]:
    """The data sets of a stage: a sweep may have its own, and few concepts have several authors."""
    if stage == "authors":
        return authors.among(settings.datasets)
    return (settings.sweep.datasets if stage == "sweep" else ()) or settings.datasets


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
    if settings.balanced:
        about["balanced"] = True
    if job.stage == "sweep":
        return about | {"step": job.part.every(job.format), "train_template": job.part.template}
    about["layer"] = job.layer
    if job.stage == "authors":
        kind = authors.of_kind(job.dataset, datasets_of(settings, "authors"))
        return about | {"texts": {name: authors.hashes(name) for name in kind}, "pairs": authors.PAIRS}
    if job.stage == "shift":
        return about | {"personas": personas(job.dataset, settings.source)}
    return about | ({"others": others_of(job)} if job.stage == "placebo" else {})


def split_of(job: Job) -> Split:
    """The items of a job; of a balanced profile as many of each word and letter as of another."""
    dataset, labels = dataset_of(job.dataset, job.settings.source), None
    if job.settings.balanced:
        letters = FORMATS[job.format].labels
        labels = [
            (item.positive_answer, first_label(item, letters) if letters else "") for item in dataset.items
        ]
    return limit(make_split(dataset, job.split, job.settings.seed), *job.limits, labels)


def examples(job: Job, model: Model, setting: Setting = "BASE") -> tuple[list[Example], list[Example]]:
    """Tokenised training and test examples of a job in one prompt setting; by several authors they are the same."""
    if job.stage == "authors":
        every = [one for each in examples_by_author(job, job.dataset, model).values() for one in each]
        return every, every
    settings, dataset = job.settings, dataset_of(job.dataset, job.settings.source)
    split = split_of(job)
    persona = None if setting == "BASE" else personas(job.dataset, settings.source)
    shown = asked = prompter(model.tokenizer, model.template, settings.spelling, setting, persona)
    if job.stage == "sweep" and settings.sweep.template:
        shown = prompter(model.tokenizer, TEMPLATES[settings.sweep.template], settings.spelling)
    how = job.format, settings.seed, job.counterbalanced
    return examples_of(shown, dataset, split.train, *how), examples_of(asked, dataset, split.test, *how)


def examples_by_author(job: Job, concept: str, model: Model) -> dict[str, list[Example]]:
    """Tokenised pairs of a concept by author."""
    step = "leave the format out."
    need(job.format == "statement", "the format statement for texts of several authors", job.format, step)
    asked = prompter(model.tokenizer, model.template, job.settings.spelling)
    ask = FORMATS[job.format].ask
    found = authors.pairs_of(concept, job.settings.seed)
    return {author: [ask(asked, *pair) for pair in pairs] for author, pairs in found.items()}


def settings_of(model: Model) -> tuple[str, ...]:
    """The prompt settings for which this model has a place."""
    return tuple(s for s in SETTINGS if model.template.has_system or not s.startswith("SYS"))


def vectors_of(
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress | None = None
) -> Vectors:
    """The steering vector of a job."""
    from steerkit import extraction

    def extract() -> Vectors:
        if job.stage != "sweep":  # whose differences at all layers would be large
            found = differences_of(job, layers, train, progress)
            return extraction.mean_difference(found.values, layers, found.manifest)
        model = model_of(job.settings.model, job.settings.remote)
        about = {"source": model.source}
        return extraction.extract(model, train, layers, manifest=about, progress=progress)

    return store.vectors(f"vectors-{job.name}", inputs(job) | {"layers": list(layers)}, extract)


def differences_of(
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress | None = None
) -> Vectors:
    """Differences of the training examples, each under its id: what vectors and placebos are averages of."""
    return _differences(job, job.name, inputs(job), layers, train, progress)


def _differences(
    job: Job,
    name: str,
    about: dict[str, Any],
    layers: Sequence[int],
    train: Sequence[Example],
    progress: Progress | None,
) -> Vectors:
    from steerkit import extraction
    from steerkit.vectors import Vectors

    def extract() -> Vectors:
        model = model_of(job.settings.model, job.settings.remote)
        found = extraction.differences(model, train, layers, progress=progress)
        return Vectors(tuple(example.id for example in train), tuple(layers), found, {"source": model.source})

    return store.vectors(f"differences-{name}", about | {"layers": list(layers)}, extract)


def seed_of(job: Job) -> int:
    """Another seed for every data set and format: placebos that all sets share would be one draw and not forty."""
    return crc32(f"{job.settings.seed} {job.dataset} {job.format}".encode())


def others_of(job: Job) -> list[str]:
    """The data sets that follow this one in the run, or in a list of the profile's own: their vectors are placebos."""
    listed = job.settings.others or job.settings.datasets
    start = listed.index(job.dataset) + 1 if job.dataset in listed else 0
    following = [*listed[start:], *listed[:start]]
    return [name for name in following if name != job.dataset][:OTHERS]


def vectors_by_setting(job: Job, model: Model, progress: Progress | None = None) -> Vectors:
    """One vector a setting and their mean, all with the norm of the BASE vector."""
    from steerkit import extraction
    from steerkit.vectors import concatenate, scaled

    layers, about = job_layers(job, len(model.layers)), {"source": model.source}

    def extract() -> Vectors:
        parts = []
        for setting in settings_of(model):
            train, _ = examples(job, model, setting)
            found = extraction.extract(model, train, layers, manifest=about, progress=progress)
            parts.append(replace(found, names=(setting,)))
        together = concatenate(*parts)
        mean = replace(parts[0], names=(MEAN,), values=together.values.mean(dim=0, keepdim=True))
        # The paper's code scales them (`normalize_steering_magnitude_to_baseline`).
        return scaled(concatenate(together, mean), parts[0])

    return store.vectors(f"vectors-{job.name}", inputs(job), extract)


def pairwise(vectors: Mapping[str, np.ndarray]) -> list[tuple[str, str, float]]:
    """Cosines (first, second, cosine) between the vectors [d] of one data set; names of no setting are left out."""
    named = [(name, np.asarray(vectors[name], float)) for name in (*SETTINGS, MEAN) if name in vectors]
    units = [(name, vector / np.linalg.norm(vector)) for name, vector in named]
    return [(first, second, float(one @ other)) for (first, one), (second, other) in combinations(units, 2)]


def compute(job: Job, progress: Progress | None = None) -> pd.DataFrame:
    """Run one job: extract, steer, score."""
    model = model_of(job.settings.model, job.settings.remote)
    if job.stage in APART:
        return APART[job.stage](job, model, progress)
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


def _compute_placebo(job: Job, model: Model, progress: Progress | None) -> pd.DataFrame:
    """PLACEBO table of one data set, with the dose of its vectors in the manifest."""
    train, test = examples(job, model)
    vectors, single = vectors_beside_of(job, model, train, progress)
    frame = slopes_beside(job, model, test, vectors, progress)
    dose = dose_of(model, vectors, max(job.part.multipliers)) | {"difference_norm": single}
    frame.attrs = {"engine": "gradient", "source": model.source, "dose": dose, "others": others_of(job)}
    return frame


def _compute_authors(job: Job, model: Model, progress: Progress | None) -> pd.DataFrame:
    """AUTHORS table of one concept."""
    frame = slopes_by_author(job, model, progress=progress)
    frame.attrs = {"engine": "gradient", "source": model.source}
    return frame


def slopes_by_author(
    job: Job, model: Model, ids: Sequence[str] = (), progress: Progress | None = None
) -> pd.DataFrame:
    """The tests of one concept under the vectors of all of its kind, by all authors; of these `ids` under its own."""
    from steerkit.gradient import gradients

    found, own = {}, examples_by_author(job, job.dataset, model)
    for concept in [job.dataset] if ids else authors.of_kind(job.dataset, job.settings.datasets):
        asked = own if concept == job.dataset else examples_by_author(job, concept, model)
        for author, train in asked.items():
            name, about = (
                f"authors-{concept}-{author}",
                inputs(replace(job, dataset=concept)) | {"author": author},
            )
            found[concept, author] = _differences(job, name, about, [job.layer], train, progress)
    asked = {author: [one for one in each if one.id in ids or not ids] for author, each in own.items()}
    asked = {author: each for author, each in asked.items() if each}
    moved = {author: gradients(model, each, job.layer, progress=progress) for author, each in asked.items()}
    named = {author: [one.id for one in each] for author, each in asked.items()}
    return authors.slopes(job.dataset, named, moved, found)


APART = {"shift": _compute_shift, "placebo": _compute_placebo, "authors": _compute_authors}


def vectors_beside_of(
    job: Job, model: Model, train: Sequence[Example], progress: Progress | None = None
) -> tuple[Vectors, float]:
    """The vector with all that it is set against, and the mean norm of the differences it is the mean of."""
    settings, main = job.settings, replace(job, stage="grid")
    found = differences_of(main, [job.layer], train, progress)
    full = vectors_of(main, [job.layer], train)
    others = [replace(main, dataset=name) for name in others_of(job)]
    theirs = [vectors_of(other, [job.layer], examples(other, model)[0], progress) for other in others]
    groups = groups_of(dataset_of(job.dataset, settings.source), [example.id for example in train])
    vectors = vectors_beside(found.values, full, theirs, groups, seed_of(job))
    return vectors, float(found.values.norm(dim=-1).mean())


def slopes_beside(
    job: Job, model: Model, test: Sequence[Example], vectors: Vectors, progress: Progress | None = None
) -> pd.DataFrame:
    """PLACEBO table of some test examples."""
    from steerkit.gradient import gradients

    slopes = gradients(model, test, job.layer, fidelity=job.settings.fidelity, progress=progress)
    frame = slopes_at_zero(slopes, vectors, test)
    frame.insert(0, "dataset", job.dataset)
    return frame


def scored(
    job: Job, model: Model, test: Sequence[Example], found: Vectors, progress: Progress | None = None
) -> Grid:
    """The test examples under the vectors at the multipliers of the job."""
    from steerkit.grid import evaluate

    settings = job.settings
    options = {"fidelity": settings.fidelity, "engine": settings.engine, "progress": progress}
    return evaluate(model, test, found, job.part.multipliers, **options)


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
