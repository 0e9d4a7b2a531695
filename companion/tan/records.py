"""Records: tables of runs that take too long for a reader's first build, committed with their manifests.

A record is made by `steerkit record PROFILE`, which computes what is missing like any run, so a killed one goes on
with the next data set, and keeps what a committed record has from the same inputs already. Settings with
`recorded: true` read the record instead of computing. `steerkit audit` computes random cells of a record again and compares.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from companion import store
from companion.data.splits import groups_of
from companion.models import dtype_of, model_of
from companion.places import RECORDS
from companion.profiles import BOOK_FORMATS, Settings, load_profile
from companion.tan import jobs
from companion.tan.jobs import Job, Stage
from steerkit.errors import need, one_of
from steerkit.formats import FORMATS

FOLDER = RECORDS
# Another machine, another thread count and other batches differ by rounding; scores are of order 1 to 30.
TOLERANCE = 2e-3
HALF_TOLERANCE = 0.3  # in bfloat16, which keeps a score of 10 to 0.06 at every step
KEPT = ["dataset", "example_id", "positive_letter", "positive_answer", "vector", "layer", "multiplier"]
SIDES = [*jobs.SCORES]
# Notebooks that one record is enough for, and its stage.
ENOUGH: dict[str, Stage] = dict.fromkeys(("tan-fig-1", "tan-fig-2", "tan-fig-3", "tan-fig-4"), "grid")
ENOUGH |= {"tan-app-layers": "sweep"}


def path_of(profile: str, stage: Stage, answer_format: str) -> Path:
    """Where the record of one table is."""
    return FOLDER / profile / f"{stage}-{answer_format}.parquet"


def available() -> list[str]:
    """Names of the records there are, `profile/stage-format`."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.parquet"))


def done(settings: Settings, stage: Stage, answer_format: str) -> list[str]:
    """Data sets of the committed record that were made from the inputs of these settings, which say the layer."""
    layer = None if stage == "sweep" else settings.layer[answer_format]
    table = store.read_table(path_of(settings.profile, stage, answer_format))
    found = []
    for made in [] if table is None else table.attrs["manifest"]["manifests"]:
        job = Job(settings, stage, made["inputs"]["dataset"], answer_format, layer)
        if json.loads(json.dumps(jobs.inputs(job))) == made["inputs"]:
            found.append(job.dataset)
    return found


def without(settings: Settings, stage: Stage, kept: Sequence[str]) -> Settings | None:
    """The settings for the other data sets of a stage, if there are any; whose vectors are placebos stays."""
    left = tuple(name for name in jobs.datasets_of(settings, stage) if name not in kept)
    if part := jobs.STAGES[stage].part:
        found = replace(settings, **{part: replace(getattr(settings, part), datasets=left)})
    else:
        found = replace(settings, datasets=left, others=settings.others or settings.datasets)
    return found if left else None


def write(
    settings: Settings, stage: Stage, answer_format: str, table: pd.DataFrame, kept: Sequence[str] = ()
) -> Path:
    """Keep a finished GRID table as a record: scores as float32, with the manifests of all its parts.

    The record that is there stays for the data sets `kept`.
    """
    path = path_of(settings.profile, stage, answer_format)
    kind, parts = jobs.STAGES[stage], table.attrs["manifests"]
    if kind.numbers == jobs.SCORES:
        table = table[[*KEPT, *kind.cell[3:], *SIDES]].astype({"layer": np.int16})
    small = table.astype(dict.fromkeys(kind.numbers, np.float32))
    if not kind.drawn:  # the groups too, so that a reader needs the scores and not the data
        for name, part in small.groupby("dataset", sort=False):
            dataset = jobs.dataset_of(name, settings.source)
            small.loc[part.index, "group"] = groups_of(dataset, part["example_id"])
        small = small.astype({"group": np.int32})
    if kept:
        before = store.read_table(path)
        small = pd.concat([before[before["dataset"].isin(kept)], small], ignore_index=True)
        parts = [*_of(before.attrs["manifest"]["manifests"], kept), *parts]
    about = {"profile": settings.profile, "stage": stage, "format": answer_format}
    about["command"] = f"steerkit record {settings.profile} --stage {stage} --format {answer_format}"
    about |= {"settings": asdict(settings), "seconds": round(sum(part["seconds"] for part in parts), 1)}
    about["manifests"] = parts
    store.write_table(path, small, about)
    return path


def _of(manifests: Sequence[dict[str, Any]], names: Collection[str]) -> list[dict[str, Any]]:
    """The manifests of these data sets."""
    return [manifest for manifest in manifests if manifest["inputs"]["dataset"] in names]


def read(settings: Settings, stage: Stage, answer_format: str) -> pd.DataFrame:
    """The GRID table of a record, for the data sets of `settings`, each of which it must have."""
    path = path_of(settings.profile, stage, answer_format)
    table = store.read_table(path)
    expected = f"a record of profile {settings.profile} for {stage}, {answer_format} at {path}"
    step = f"choose one of {', '.join(available()) or 'none yet'}, or make it with `steerkit record {settings.profile}`."
    need(table is not None, expected, "a damaged file" if path.exists() else "none", step)
    wanted = jobs.datasets_of(settings, stage)
    missing = sorted(set(wanted) - set(table["dataset"]))
    expected = f"the data sets asked for in the record {path.name} of {settings.profile}"
    step = "leave them out, or compute them with recorded=False."
    need(not missing, expected, f"no {', '.join(missing[:3])}", step)
    about = table.attrs["manifest"]
    kept = table[table["dataset"].isin(wanted)].reset_index(drop=True)
    numbers = jobs.STAGES[stage].numbers
    kept = kept.astype(dict.fromkeys(numbers, float))
    if numbers == jobs.SCORES:
        kept = kept.assign(format=answer_format, propensity=kept["matching"] - kept["not_matching"])
    record = f"{settings.profile}/{path.stem}"
    manifests = store.Manifests(store.Manifest(one, record=record) for one in _of(about["manifests"], wanted))
    kept.attrs = {"manifests": manifests, "record": store.Manifest(about)}
    return kept


def stands_in(exhibit: str, settings: Settings) -> bool:
    """Whether a notebook reads the record of its profile: of a long one, as committed, that is all it needs.

    Other data sets are no other run; a record says by itself when it lacks one.
    """
    if exhibit not in ENOUGH or not settings.long:
        return False
    as_committed = replace(load_profile(settings.profile), datasets=settings.datasets, shift=settings.shift)
    found = (FOLDER / settings.profile).glob(f"{ENOUGH[exhibit]}-*.parquet")
    return settings == as_committed and any(found)


def named(answer_format: str) -> tuple[str, ...]:
    """The answer formats that somebody asks for by name, by commas, as "both" (the two of the book) or "all"; or none."""
    groups = {"": (), "both": BOOK_FORMATS, "all": tuple(FORMATS)}
    found = groups[answer_format] if answer_format in groups else answer_format.split(",")
    for form in found:
        one_of("an answer format", form, FORMATS)
    return tuple(found)


def by_format(
    settings: Settings, stage: Stage, answer_format: str = "", names: Sequence[str] = ()
) -> dict[str, list[Settings]]:
    """The profiles that a figure over several models shows, by format (`compared`).

    Where no format is named, each profile in those that it is shown in (`Settings.formats`): a model that does nothing
    in a format fills no panel of it. Whoever names formats gets every profile that has them.
    """
    asked = named(answer_format)
    every = asked or (*BOOK_FORMATS, *(form for form in FORMATS if form not in BOOK_FORMATS))
    found = {form: compared(settings, stage, form, names, shown=not asked) for form in every}
    return {form: runs for form, runs in found.items() if runs}


def compared(
    settings: Settings, stage: Stage, form: str, names: Sequence[str] = (), shown: bool = False
) -> list[Settings]:
    """Settings of the profiles that a figure over several models shows: `names`, else those the profile names.

    A profile whose committed record holds the format is read from there, others are computed. A long one without a
    record is left out unless it is among `names`: nobody gets hours of work, or a model under terms of use, unasked.
    The profile itself stands in where no record is of its own model. With `shown` only profiles that name the format.
    """
    found, fits = [], lambda one: not shown or form in one.formats
    for name in names or settings.compared:
        own = name == settings.profile
        kept = not own and path_of(name, stage, form).exists()
        one = settings if own else load_profile(name, recorded=kept, remote=settings.remote)
        if (names or kept or not one.long) and fits(one):
            found.append(one)
    own = not names and settings.model not in {one.model for one in found}
    return [*found, settings] if own and fits(settings) else found


def those_with(settings: Settings, stage: Stage, answer_format: str, names: str = "") -> list[Settings]:
    """The recorded profiles among some, by commas; else the profile itself and those it is compared with."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    chosen = asked or [settings.profile, *settings.compared]
    there = [name for name in dict.fromkeys(chosen) if path_of(name, stage, answer_format).exists()]
    return [load_profile(name, recorded=True) for name in there]


def audit(
    settings: Settings, stage: Stage, answer_format: str, rng: np.random.Generator, examples_each: int = 2
) -> dict[str, Any]:
    """Compute all cells of a few random examples of one random data set again, and compare with the record.

    Keys record, dataset, examples, cells, difference (largest, absolute), tolerance, agrees.
    """
    from companion.tan import work

    settings = replace(settings, recorded=False)
    recorded = read(settings, stage, answer_format)
    name = str(rng.choice(recorded["dataset"].unique()))
    mine, [made] = recorded[recorded["dataset"] == name], _of(recorded.attrs["manifests"], [name])
    others, layer = (made["inputs"].get(each) for each in ("others", "layer"))  # of a sweep neither
    job = Job(replace(settings, others=tuple(others or ())), stage, name, answer_format, layer)
    model, known = model_of(settings.model, settings.remote), set(mine["example_id"])
    there = [one.id for one in jobs.examples(job, model)[1] if one.id in known]  # not all pairs are tests
    chosen = sorted(rng.choice(there, size=min(examples_each, len(there)), replace=False).tolist())
    again, mine = work.compute(job, ids=chosen), mine[mine["example_id"].isin(chosen)]
    if stage == "authors":
        mine = mine[mine["of"] == name]
    kind = jobs.STAGES[stage]
    cell, numbers = ["example_id", *kind.cell], [*kind.numbers]
    both = mine.merge(again, on=cell, suffixes=("", "_again"), how="outer", indicator=True)
    units = {"product": mine["product"].abs().max()} if stage == "products" else {}  # no score: relative
    gaps = [(both[each] - both[f"{each}_again"]).abs().max() / units.get(each, 1) for each in numbers]
    complete = bool((both["_merge"] == "both").all() and both[numbers].notna().all(axis=None))
    known = made["inputs"].get("dtype", "float32")  # as all records were before keys said it
    exact = known == dtype_of(settings.model, settings.remote) == "float32"
    tolerance, difference = TOLERANCE if exact else HALF_TOLERANCE, float(max(gaps))
    about = {"record": f"{settings.profile}/{stage}-{answer_format}", "dataset": name}
    about |= {"examples": ", ".join(chosen), "cells": len(both), "difference": difference}
    return about | {"tolerance": tolerance, "agrees": complete and difference <= tolerance}
