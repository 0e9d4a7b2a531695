"""Running a job: its vectors, what they are set against, its table.

In the grid over prompt settings vectors are scaled to the norm of the BASE vector of their data set, as the paper's code
does, so that a slope compares directions and not lengths.

The numbers are made here and in the modules this one calls; `companion.store.NUMERIC_CODE` lists them, and a change
in any of them makes new artefacts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from companion import store
from companion.data.splits import groups_of
from companion.models import model_of
from companion.tan import authors, jobs, products, unigram, unlabelled
from companion.tan.dose import dose_of
from companion.tan.jobs import MEAN, Job, Progress, examples, inputs, settings_of
from companion.tan.placebo import slopes_at_zero, vectors_beside
from companion.templates import SETTINGS
from steerkit.prompts import Example

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.grid import Grid
    from steerkit.model import Model
    from steerkit.vectors import Vectors


def vectors_of(
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress = None
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
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress = None
) -> Vectors:
    """Differences of the training examples, each under its id: what vectors and placebos are averages of."""
    return _differences(job, job.name, inputs(job), layers, train, progress)


def _differences(
    job: Job, name: str, about: dict, layers: Sequence[int], train: Sequence[Example], progress: Progress
) -> Vectors:
    from steerkit import extraction
    from steerkit.vectors import Vectors

    def extract() -> Vectors:
        model = model_of(job.settings.model, job.settings.remote)
        found = extraction.differences(model, train, layers, progress=progress)
        return Vectors(tuple(example.id for example in train), tuple(layers), found, {"source": model.source})

    return store.vectors(f"differences-{name}", about | {"layers": list(layers)}, extract)


def vectors_by_setting(job: Job, model: Model, progress: Progress = None) -> Vectors:
    """One vector a setting and their mean, all with the norm of the BASE vector."""
    from steerkit import extraction
    from steerkit.vectors import concatenate, scaled

    layers, about = jobs.job_layers(job, len(model.layers)), {"source": model.source}

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


def compute(job: Job, progress: Progress = None) -> pd.DataFrame:
    """Run one job: extract, steer, score."""
    model = model_of(job.settings.model, job.settings.remote)
    if job.stage in APART:
        return APART[job.stage](job, model, progress)
    train, test = examples(job, model)
    found = vectors_of(job, jobs.job_layers(job, len(model.layers)), train, progress)
    result = scored(job, model, test, found, progress)
    frame = result.table(job.dataset)
    frame.attrs = _about(model, result, test) | {"train_examples": len(train)}
    return frame


def _compute_shift(job: Job, model: Model, progress: Progress) -> pd.DataFrame:
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


def _compute_placebo(job: Job, model: Model, progress: Progress) -> pd.DataFrame:
    """PLACEBO table of one data set, with the dose of its vectors in the manifest."""
    train, test = examples(job, model)
    vectors, single = vectors_beside_of(job, model, train, progress)
    frame = slopes_beside(job, model, test, vectors, progress)
    dose = dose_of(model, vectors, max(job.multipliers)) | {"difference_norm": single}
    frame.attrs = {"engine": "gradient", "source": model.source, "dose": dose, "others": jobs.others_of(job)}
    return frame


def slopes_by_author(
    job: Job, model: Model, ids: Sequence[str] = (), progress: Progress = None
) -> pd.DataFrame:
    """AUTHORS table of one concept: its tests under the vectors of all of its kind, by all authors; of these `ids` under
    its own."""
    from steerkit.gradient import gradients

    found, own = {}, jobs.examples_by_author(job, job.dataset, model)
    for concept in [job.dataset] if ids else authors.of_kind(job.dataset, job.settings.datasets):
        asked = own if concept == job.dataset else jobs.examples_by_author(job, concept, model)
        for author, train in asked.items():
            name = f"authors-{concept}-{author}"
            about = inputs(replace(job, dataset=concept)) | {"author": author}
            found[concept, author] = _differences(job, name, about, [job.layer], train, progress)
    asked = {author: [one for one in each if one.id in ids or not ids] for author, each in own.items()}
    asked = {author: each for author, each in asked.items() if each}
    moved = {
        author: gradients(model, each, [job.layer], progress=progress).at(job.layer)
        for author, each in asked.items()
    }
    named = {author: [one.id for one in each] for author, each in asked.items()}
    return authors.slopes(job.dataset, named, moved, found)


def products_of(job: Job, model: Model, ids: Sequence[str] = (), progress: Progress = None) -> pd.DataFrame:
    """PRODUCTS table of one data set: all its pairs, or these `ids`, as tests of all of them."""
    from steerkit.gradient import gradients

    train, _ = examples(job, model)
    found = differences_of(job, [job.layer], train, progress)
    tests = [one for one in train if one.id in ids or not ids]
    drawn = products.pairs_of(job.dataset, job.settings.source, job.settings.seed)
    bags = {first.id: products.bag((first, other)) for first, other in drawn}
    last = len(model.layers) - 1
    moved = gradients(model, tests, sorted({job.layer, last}), progress=progress)
    near, named = moved.at(job.layer), {one.id: bags[one.id] for one in tests}
    frame = products.table(found, named, near, moved.at(last), moved.scores.numpy())
    frame.insert(0, "dataset", job.dataset)
    return frame.assign(kind=drawn[0][0].kind)


def unigram_of(job: Job, model: Model, ids: Sequence[str] = (), progress: Progress = None) -> pd.DataFrame:
    """UNIGRAM table of one data set: all its tests, or these `ids`."""
    pairs, _ = examples(job, model)
    found = differences_of(job, [job.layer], pairs, progress)
    frame = unigram.table(model, pairs, found, job.settings.seed, ids)
    frame.insert(0, "dataset", job.dataset)
    return frame.assign(kind=jobs.dataset_of(job.dataset, job.settings.source).items[0].kind)


def _by_gradient(make: Callable) -> Callable:
    """The table of a stage that takes gradients, with what its manifest says."""

    def compute(job: Job, model: Model, progress: Progress) -> pd.DataFrame:
        frame = make(job, model, progress=progress)
        frame.attrs |= {"engine": "gradient", "source": model.source}
        return frame

    return compute


APART = {"shift": _compute_shift, "placebo": _compute_placebo, "unlabelled": _by_gradient(unlabelled.table)}
APART |= {
    "authors": _by_gradient(slopes_by_author),
    "products": _by_gradient(products_of),
    "unigram": _by_gradient(unigram_of),
}


def vectors_beside_of(
    job: Job, model: Model, train: Sequence[Example], progress: Progress = None
) -> tuple[Vectors, float]:
    """The vector with all that it is set against, and the mean norm of the differences it is the mean of."""
    settings, main = job.settings, replace(job, stage="grid")
    found = differences_of(main, [job.layer], train, progress)
    full = vectors_of(main, [job.layer], train)
    others = [replace(main, dataset=name) for name in jobs.others_of(job)]
    theirs = [vectors_of(other, [job.layer], examples(other, model)[0], progress) for other in others]
    groups = groups_of(jobs.dataset_of(job.dataset, settings.source), [example.id for example in train])
    vectors = vectors_beside(found.values, full, theirs, groups, jobs.seed_of(job))
    return vectors, float(found.values.norm(dim=-1).mean())


def slopes_beside(
    job: Job, model: Model, test: Sequence[Example], vectors: Vectors, progress: Progress = None
) -> pd.DataFrame:
    """PLACEBO table of some test examples."""
    from steerkit.gradient import gradients

    found = gradients(model, test, [job.layer], fidelity=job.settings.fidelity, progress=progress)
    frame = slopes_at_zero(found.at(job.layer), vectors, test)
    frame.insert(0, "dataset", job.dataset)
    return frame


def scored(
    job: Job, model: Model, test: Sequence[Example], found: Vectors, progress: Progress = None
) -> Grid:
    """The test examples under the vectors at the multipliers of the job."""
    from steerkit.grid import evaluate

    settings = job.settings
    options = {"fidelity": settings.fidelity, "engine": settings.engine, "progress": progress}
    return evaluate(model, test, found, job.multipliers, **options)


def _about(model: Model, result: Grid, test: Sequence[Example]) -> dict[str, Any]:
    about = {"engine": result.engine, "reason": result.reason, "source": model.source}
    return about | {"test_examples": len(test), "dtype_reason": model.dtype_reason}
