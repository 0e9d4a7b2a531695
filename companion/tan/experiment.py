"""The protocol of Tan et al. 2024, section 3 to 5, as tables asked for by name.

    settings -> examples -> vectors -> grid -> slopes

Each function returns a finished table. What it needs is computed when missing and read when there, one artefact
per data set and format, so that a killed run goes on with the next data set.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from companion import store
from companion.profiles import Settings
from companion.registry import MODELS
from companion.tan import records
from companion.tan.jobs import Job, Progress, Stage, compute, dataset_of, groups_of, inputs
from steerkit import steerability
from steerkit.errors import SteerkitError
from steerkit.prompts import FORMATS


def grid(settings: Settings, answer_format: str, progress: Progress | None = None) -> pd.DataFrame:
    """The GRID table of all data sets: the full vector at all multipliers, resampled and random ones at fewer."""
    check_format(answer_format)
    layer = None if settings.recorded else layer_of(settings, answer_format)  # a record has its own
    return _collect(
        [Job(settings, "grid", name, answer_format, layer) for name in settings.datasets], progress
    )


def sweep(settings: Settings, answer_format: str, progress: Progress | None = None) -> pd.DataFrame:
    """The GRID table of the layer sweep: every layer of the sweep, few items, own split."""
    check_format(answer_format)
    return _collect([Job(settings, "sweep", name, answer_format) for name in sweep_sets(settings)], progress)


def sweep_sets(settings: Settings) -> tuple[str, ...]:
    """The data sets on which the layer is chosen."""
    return settings.sweep.datasets or settings.datasets


def shift(settings: Settings, answer_format: str, progress: Progress | None = None) -> pd.DataFrame:
    """The GRID table over prompt settings: `vector` is the training setting, `setting` the test prompts'."""
    check_format(answer_format)
    layer = None if settings.recorded else layer_of(settings, answer_format)  # a record has its own
    return _collect(
        [Job(settings, "shift", name, answer_format, layer) for name in settings.datasets], progress
    )


def shift_slopes(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The SLOPES table of `shift` with its column `setting`, and `group` for items that are not independent."""
    table = shift(settings, answer_format)
    parts = [
        steerability.slopes(part).assign(setting=name) for name, part in table.groupby("setting", sort=False)
    ]
    found = pd.concat(parts, ignore_index=True)
    for name, part in found.groupby("dataset"):
        numbers = groups(settings, table, name, part["example_id"])
        found.loc[part.index, "group"] = [f"{name}/{number}" for number in numbers]
    found.attrs = table.attrs
    return found


def slopes(settings: Settings, answer_format: str) -> pd.DataFrame:
    """The SLOPES table of `grid`, one row a test item and vector."""
    table = grid(settings, answer_format)
    found = steerability.slopes(table)
    found.attrs = table.attrs
    return found


def layer_summary(settings: Settings, answer_format: str) -> pd.DataFrame:
    """Mean steerability by data set and layer from the sweep."""
    table = sweep(settings, answer_format)
    found = steerability.summary(steerability.slopes(table))
    found.attrs = table.attrs
    return found


def choose_layer(summary: pd.DataFrame) -> int:
    """The layer with the highest mean steerability over data sets; the earliest of equals."""
    by_layer = summary.groupby("layer")["mean"].mean()
    return int(by_layer.idxmax())


def layer_of(settings: Settings, answer_format: str) -> int:
    """The steered layer: the one given, else the sweep's choice."""
    given = given_layer(settings, answer_format)
    return choose_layer(layer_summary(settings, answer_format)) if given is None else given


def given_layer(settings: Settings, answer_format: str) -> int | None:
    """The layer that is known without a sweep: the setting, else the one the paper steers in this model."""
    published = MODELS[settings.model].layer if settings.model in MODELS else None
    return settings.layer.get(answer_format, published)


def check_format(answer_format: str) -> None:
    """Raise for an unknown answer format."""
    if answer_format not in FORMATS:
        raise SteerkitError(
            f"an answer format ({', '.join(FORMATS)})", repr(answer_format), next_step="choose one of these."
        )


def _collect(jobs: Sequence[Job], progress: Progress | None) -> pd.DataFrame:
    if jobs and jobs[0].settings.recorded:
        return records.read(jobs[0].settings, jobs[0].stage, jobs[0].format)
    parts = [store.table(job.name, inputs(job), lambda job=job: compute(job, progress)) for job in jobs]
    found = pd.concat(parts, ignore_index=True)
    found.attrs = {"manifests": [part.attrs["manifest"] for part in parts]}
    return found


def pending(settings: Settings, answer_format: str, stage: Stage) -> list[Job]:
    """Jobs whose table is missing. As long as sweeps are, the layer is not known and the rest is pending."""
    if settings.recorded:
        return []
    sweeps = [Job(settings, "sweep", name, answer_format) for name in sweep_sets(settings)]
    missing = [job for job in sweeps if not store.exists(job.name, inputs(job))]
    if stage == "sweep":
        return missing
    layer = given_layer(settings, answer_format)
    if layer is None and not missing:
        layer = layer_of(settings, answer_format)
    jobs = [Job(settings, stage, name, answer_format, layer) for name in settings.datasets]
    return [job for job in jobs if layer is None or not store.exists(job.name, inputs(job))]


def intervals(settings: Settings, answer_format: str, draws: int = 2000) -> pd.DataFrame:
    """Mean steerability by data set with a 95% interval over test groups and training pairs together.

    Returns
    -------
    DataFrame
        Columns dataset, estimate, low, high, random (mean steerability of the norm-matched random vectors), sources.
    """
    import numpy as np

    from steerkit.stats import joint_bootstrap

    grid_table = grid(settings, answer_format)
    table = steerability.slopes(grid_table)
    rows = []
    for name, part in table.groupby("dataset", sort=False):
        wide = part.pivot(index="vector", columns="example_id", values="steerability")
        order = ["full", *sorted(v for v in wide.index if v.startswith("resample"))]
        interval = joint_bootstrap(
            wide.loc[order].to_numpy(),
            np.random.default_rng(settings.seed),
            draws=draws,
            groups=groups(settings, grid_table, name, wide.columns),
        )
        placebo = wide[wide.index.str.startswith("random")].to_numpy()
        rows.append(
            {
                "dataset": name,
                "estimate": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "random": placebo.mean() if placebo.size else np.nan,
                "sources": " and ".join(interval.sources),
            }
        )
    return pd.DataFrame(rows)


def groups(settings: Settings, table: pd.DataFrame, dataset: str, example_ids: Sequence[str]) -> list[int]:
    """Group of each example (drawn together): from a record, which holds them, else from the data."""
    if "group" not in table:
        return groups_of(dataset_of(dataset, settings.source), example_ids)
    known = table[table["dataset"] == dataset].drop_duplicates("example_id").set_index("example_id")["group"]
    return known.loc[list(example_ids)].tolist()
