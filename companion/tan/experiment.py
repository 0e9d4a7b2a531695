"""The protocol of Tan et al. 2024, section 3 to 5, as tables asked for by name.

    settings -> examples -> vectors -> grid -> slopes

Each function returns a finished table. What it needs is computed when missing and read when there, one artefact
per data set and format, so that a killed run goes on with the next data set. A recorded profile is read from its record.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from companion import store
from companion.data.splits import groups_of
from companion.models import MODELS
from companion.profiles import Settings
from companion.tan import records
from companion.tan.jobs import Job, Stage, dataset_of, datasets_of, inputs
from steerkit import stats, steerability
from steerkit.errors import one_of
from steerkit.formats import FORMATS


def table(settings: Settings, stage: Stage, answer_format: str = "statement") -> pd.DataFrame:
    """The table of a stage; those that draw their own pairs are in `companion.tan.authors`, `products` and `unigram`."""
    one_of("an answer format", answer_format, FORMATS)
    if settings.recorded:
        return records.read(settings, stage, answer_format)

    def compute(job: Job) -> pd.DataFrame:
        from companion.tan import work  # which imports torch: a finished table is read without

        return work.compute(job)

    layer = None if stage == "sweep" else layer_of(settings, answer_format)
    wanted = _jobs(settings, stage, answer_format, layer)
    parts = [store.table(job.name, inputs(job), partial(compute, job)) for job in wanted]
    found = pd.concat(parts, ignore_index=True)
    found.attrs = {"manifests": store.Manifests(part.attrs["manifest"] for part in parts)}
    return found


def grid(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The GRID table of all data sets: every test example under the vector at every multiplier."""
    return table(settings, "grid", answer_format)


def sweep(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The GRID table of the layer sweep: every layer of the sweep, few items, own split."""
    return table(settings, "sweep", answer_format)


def shift(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The GRID table over prompt settings: `vector` is the training setting, `setting` the test prompts'."""
    return table(settings, "shift", answer_format)


def placebo(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The PLACEBO table of all data sets: slopes at multiplier 0 of the vector and of all it is set against."""
    return table(settings, "placebo", answer_format)


def beside(settings: Settings, answer_format: str) -> pd.DataFrame | None:
    """`placebo`, or None for a recorded run of which nobody has recorded it."""
    there = not settings.recorded or records.path_of(settings.profile, "placebo", answer_format).exists()
    return placebo(settings, answer_format) if there else None


def unlabelled(settings: Settings, answer_format: str) -> pd.DataFrame | None:
    """The UNLABELLED table over prompt settings of a recorded run, or None where nobody has recorded it."""
    there = settings.recorded and records.path_of(settings.profile, "unlabelled", answer_format).exists()
    return table(settings, "unlabelled", answer_format) if there else None


def _jobs(settings: Settings, stage: Stage, answer_format: str, layer: int | None = None) -> list[Job]:
    return [Job(settings, stage, name, answer_format, layer) for name in datasets_of(settings, stage)]


def pending(settings: Settings, answer_format: str, stage: Stage) -> list[Job]:
    """Jobs whose table is missing. As long as sweeps are, the layer is not known and the rest is pending."""

    def missing(stage: Stage, layer: int | None = None) -> list[Job]:
        every = _jobs(settings, stage, answer_format, layer)
        return [job for job in every if not store.path_of(job.name, inputs(job), "parquet").exists()]

    if settings.recorded:
        return []
    sweeps, given = missing("sweep"), given_layer(settings, answer_format)
    if stage == "sweep":
        return sweeps
    if sweeps and given is None:
        return _jobs(settings, stage, answer_format)
    return missing(stage, layer_of(settings, answer_format))


def slopes(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The SLOPES table of `grid`, one row a test item and vector."""
    table = grid(settings, answer_format)
    found = steerability.slopes(table)
    found.attrs = table.attrs
    return found


def shift_slopes(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The SLOPES table of `shift` with its column `setting`, and `group` for items that are not independent."""
    table = shift(settings, answer_format)
    by_setting = table.groupby("setting", sort=False)
    parts = [steerability.slopes(part).assign(setting=name) for name, part in by_setting]
    found = with_groups(pd.concat(parts, ignore_index=True), table, settings)
    found["group"] = found["dataset"] + "/" + found["group"].astype(str)
    found.attrs = table.attrs
    return found


def intervals(settings: Settings, answer_format: str) -> pd.DataFrame:
    """Mean steerability by data set with a 95% interval over test groups and training pairs together.

    Columns dataset, estimate, low, high; at_zero, the mean slope at multiplier 0, where the slopes of placebos are taken;
    placebo, the 95% point of the means under label-shuffled vectors; p, the permutation p-value of the vector among them
    (one-sided). These three are NaN, and the interval is over test groups alone, where a record has no placebos.
    """
    full, vectors = grid(settings, answer_format), beside(settings, answer_format)
    full = with_groups(steerability.slopes(full).query("vector == 'full'"), full, settings)
    rows = []
    for name, part in full.groupby("dataset", sort=False):
        training, ends = None, 3 * (np.nan,)
        if vectors is not None:
            means = vectors[vectors["dataset"] == name].groupby("vector")["slope"].mean()
            shuffled, training = (means.filter(like=kind) for kind in ("shuffled", "resample"))
            p = (1 + (shuffled >= means["full"]).sum()) / (1 + len(shuffled))
            ends = means["full"], shuffled.quantile(0.95), p
        found = stats.mean_interval(part["steerability"], part["group"], training)
        rows.append((name, found.estimate, found.low, found.high, *ends))
    return pd.DataFrame(rows, columns=["dataset", "estimate", "low", "high", "at_zero", "placebo", "p"])


def with_groups(slopes: pd.DataFrame, table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Slopes with the column `group`."""
    found = slopes.assign(group=0)
    for name, part in slopes.groupby("dataset"):
        found.loc[part.index, "group"] = groups(settings, table, name, part["example_id"])
    return found


def groups(settings: Settings, table: pd.DataFrame, dataset: str, example_ids: Sequence[str]) -> list[int]:
    """Group of each example (drawn together): from a record, which holds them, else from the data."""
    if "group" not in table:
        return groups_of(dataset_of(dataset, settings.source), example_ids)
    known = table[table["dataset"] == dataset].drop_duplicates("example_id").set_index("example_id")["group"]
    return known.loc[list(example_ids)].tolist()


def layer_summary(settings: Settings, answer_format: str) -> pd.DataFrame:
    """Mean steerability by data set and layer from the sweep."""
    table = sweep(settings, answer_format)
    found = steerability.summary(steerability.slopes(table))
    found.attrs = table.attrs
    return found


def choose_layer(summary: pd.DataFrame) -> int:
    """The layer with the highest mean steerability over data sets; the earliest of equals."""
    return int(summary.groupby("layer")["mean"].mean().idxmax())


def layer_of(settings: Settings, answer_format: str) -> int:
    """The steered layer: the one given, else the sweep's choice."""
    given = given_layer(settings, answer_format)
    return choose_layer(layer_summary(settings, answer_format)) if given is None else given


def given_layer(settings: Settings, answer_format: str) -> int | None:
    """The layer that is known without a sweep: the setting, else the one the paper steers in this model."""
    published = MODELS[settings.model].layer if settings.model in MODELS else None
    return settings.layer.get(answer_format, published)
