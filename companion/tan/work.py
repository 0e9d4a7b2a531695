"""Running a job: its vectors, what they are set against, its table.

In the grid over prompt settings vectors are scaled to the norm of the BASE vector of their data set, as the paper's code
does, so that a slope compares directions and not lengths.

The numbers are made here and in the modules this one calls; `companion.store.NUMERIC_CODE` lists them, and a change
in any of them makes new artefacts.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from companion import store
from companion.data.splits import groups_of
from companion.models import model_of
from companion.tan import authors, jobs, products, unigram, unlabelled
from companion.tan.dose import dose_of
from companion.tan.jobs import MEAN, Job, Progress, examples, inputs, settings_of
from companion.tan.placebo import slopes_at_zero, vectors_beside
from companion.templates import SETTINGS
from steerkit import Example, Model, Vectors, evaluate, extraction, gradients
from steerkit.vectors import concatenate, scaled


def vectors_of(
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress = None
) -> Vectors:
    """The steering vector of a job."""

    def extract() -> Vectors:
        if job.stage != "sweep":  # whose differences at all layers would be large
            found = differences_of(job, layers, train, progress)
            return extraction.mean_difference(found.values, layers, found.manifest)
        model = model_of(job.settings.model, job.settings.remote)
        about = {"source": model.source}
        return extraction.extract(model, train, layers, manifest=about, progress=progress)

    return store.vectors(f"vectors-{job.name}", inputs(job) | {"layers": list(layers)}, extract)


def differences_of(
    job: Job, layers: Sequence[int], train: Sequence[Example], progress: Progress = None, author: str = ""
) -> Vectors:
    """Differences of the training examples, each under its id: what vectors and placebos are averages of."""

    def extract() -> Vectors:
        model = model_of(job.settings.model, job.settings.remote)
        found = extraction.differences(model, train, layers, progress=progress)
        return Vectors(tuple(example.id for example in train), tuple(layers), found, {"source": model.source})

    name, about = (f"authors-{job.dataset}-{author}", {"author": author}) if author else (job.name, {})
    return store.vectors(f"differences-{name}", inputs(job) | about | {"layers": list(layers)}, extract)


def vectors_by_setting(job: Job, model: Model, progress: Progress = None) -> Vectors:
    """One vector a setting and their mean, all with the norm of the BASE vector."""
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


def compute(job: Job, progress: Progress = None, ids: Collection[str] = ()) -> pd.DataFrame:
    """Run one job: extract, steer, score; all its test examples, or those of some ids."""
    model = model_of(job.settings.model, job.settings.remote)
    frame = COMPUTE[job.stage](job, model, ids, progress)
    if "dataset" not in frame:
        frame.insert(0, "dataset", job.dataset)
    frame.attrs = {"engine": "gradient", "source": model.source} | frame.attrs
    return frame


def _grid(job: Job, model: Model, ids: Collection[str], progress: Progress) -> pd.DataFrame:
    """GRID table of one data set, of the main grid or the sweep."""
    train, test = examples(job, model)
    found = vectors_of(job, jobs.job_layers(job, len(model.layers)), train, progress)
    frame = scored(job, model, _some(test, ids), found, progress)
    frame.attrs["train_examples"] = len(train)
    return frame


def _leak(job: Job, model: Model, ids: Collection[str], progress: Progress) -> pd.DataFrame:
    """GRID table of one data set: both halves under the vectors "seen" and "fresh"."""
    (every, _), start, asked = examples(job, model), 0, {}
    for half, part in jobs.halves_of(job).items():
        asked[half], start = every[start : start + len(part)], start + len(part)
    parts = {half: extraction.extract(model, part, [job.layer]) for half, part in asked.items()}
    found = concatenate(*(replace(each, names=(half,)) for half, each in parts.items()))
    return scored(job, model, _some(every, ids), found, progress)


def _shift(job: Job, model: Model, ids: Collection[str], progress: Progress) -> pd.DataFrame:
    """GRID table of one data set with a column `setting`, the test prompts' one; `vector` is the training one."""
    found, parts = vectors_by_setting(job, model, progress), {}
    for setting in settings_of(model):
        test = _some(examples(job, model, setting)[1], ids)
        parts[setting] = scored(job, model, test, found, progress).assign(setting=setting)
    frame = pd.concat(parts.values(), ignore_index=True)
    frame.attrs = parts["BASE"].attrs | {
        "cosines": pairwise({name: found.values[i, 0].numpy() for i, name in enumerate(found.names)}),
        "settings_without_a_place": sorted(set(SETTINGS) - set(parts)),
    }
    return frame


def _placebo(job: Job, model: Model, ids: Collection[str], progress: Progress) -> pd.DataFrame:
    """PLACEBO table of one data set, with the dose of its vectors in the manifest."""
    (train, test), main = examples(job, model), replace(job, stage="grid")
    found, full = (of(main, [job.layer], train, progress) for of in (differences_of, vectors_of))
    others = [replace(main, dataset=name) for name in jobs.others_of(job)]
    theirs = [vectors_of(other, [job.layer], examples(other, model)[0], progress) for other in others]
    groups = groups_of(jobs.dataset_of(job.dataset, job.settings.source), [example.id for example in train])
    vectors = vectors_beside(found.values, full, theirs, groups, jobs.seed_of(job))
    asked, fidelity = _some(test, ids), job.settings.fidelity
    moved = gradients(model, asked, [job.layer], fidelity=fidelity, progress=progress)
    frame = slopes_at_zero(moved.at(job.layer), vectors, asked)
    single = float(found.values.norm(dim=-1).mean())  # of the differences that the vector is the mean of
    dose = {} if ids else dose_of(model, vectors, max(job.multipliers)) | {"difference_norm": single}
    frame.attrs = {"dose": dose, "others": jobs.others_of(job)}
    return frame


def _authors(job: Job, model: Model, ids: Collection[str], progress: Progress) -> pd.DataFrame:
    """AUTHORS table of one concept: its tests under the vectors of all of its kind, by all authors; of these `ids` under
    its own."""
    found, own = {}, jobs.examples_by_author(job, job.dataset, model)
    for concept in [job.dataset] if ids else authors.of_kind(job.dataset, job.settings.datasets):
        asked = own if concept == job.dataset else jobs.examples_by_author(job, concept, model)
        for author, train in asked.items():
            written = replace(job, dataset=concept)
            found[concept, author] = differences_of(written, [job.layer], train, progress, author)
    named, moved = {}, {}
    for author, each in own.items():
        if tests := _some(each, ids):
            named[author] = [one.id for one in tests]
            moved[author] = gradients(model, tests, [job.layer], progress=progress).at(job.layer)
    return authors.slopes(job.dataset, named, moved, found)


def _products(job: Job, model: Model, ids: Collection[str], progress: Progress) -> pd.DataFrame:
    """PRODUCTS table of one data set: all its pairs, or these `ids`, as tests of all of them."""
    train, _ = examples(job, model)
    found = differences_of(job, [job.layer], train, progress)
    tests = _some(train, ids)
    drawn = products.pairs_of(job.dataset, job.settings.source, job.settings.seed)
    bags = {first.id: products.bag((first, other)) for first, other in drawn}
    last = len(model.layers) - 1
    moved = gradients(model, tests, sorted({job.layer, last}), progress=progress)
    near, named = moved.at(job.layer), {one.id: bags[one.id] for one in tests}
    frame = products.table(found, named, near, moved.at(last), moved.scores.numpy())
    return frame.assign(kind=drawn[0][0].kind)


def _unigram(job: Job, model: Model, ids: Collection[str], progress: Progress) -> pd.DataFrame:
    """UNIGRAM table of one data set: all its tests, or these `ids`."""
    pairs, _ = examples(job, model)
    found = differences_of(job, [job.layer], pairs, progress)
    frame = unigram.table(model, pairs, found, job.settings.seed, ids)
    return frame.assign(kind=jobs.dataset_of(job.dataset, job.settings.source).items[0].kind)


COMPUTE: dict[jobs.Stage, Callable] = {"sweep": _grid, "grid": _grid, "placebo": _placebo, "shift": _shift}
COMPUTE |= {"unlabelled": unlabelled.table, "leak": _leak}
COMPUTE |= {"authors": _authors, "products": _products, "unigram": _unigram}


def _some(asked: Sequence[Example], ids: Collection[str]) -> list[Example]:
    """Those of some ids; all of them without."""
    return [one for one in asked if one.id in ids or not ids]


def scored(
    job: Job, model: Model, test: Sequence[Example], found: Vectors, progress: Progress = None
) -> pd.DataFrame:
    """GRID table of test examples under vectors at the multipliers of the job."""
    settings = job.settings
    options = {"fidelity": settings.fidelity, "engine": settings.engine, "progress": progress}
    result = evaluate(model, test, found, job.multipliers, **options)
    frame = result.table(job.dataset)
    frame.attrs = {"engine": result.engine, "reason": result.reason}
    frame.attrs |= {"test_examples": len(test), "dtype_reason": model.dtype_reason}
    return frame
