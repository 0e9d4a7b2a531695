"""What a run will cost before anything starts: prompts, token-passes, requests, bytes, memory, hours.

A token-pass is one token through all blocks. With p prompt tokens, b tokens of a branch, V vectors, L steered layers
and K multipliers other than 0, one prompt takes

    tree      p - 1 + b (1 + V L K)            token-passes at most: what prompts begin with alike runs once
    upstream  2 V L (K + 1) (p + 3)            two answers, every cell a forward of its own

A token-pass takes two floating-point operations for every parameter of the blocks, and a scored token of `statement`
as many for the unembedding. What prompts share with their neighbours in a row, and blocks below the steered layer, are
counted for every token: counts are upper estimates. The time is not, as `companion.rate` times a run of the tree
itself on some of the prompts, and counts it alike.
"""

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from companion.data.ask import statement_pairs
from companion.fit import fitted
from companion.models import MODELS, dtype_of, model_of, spec_of
from companion.outline import Outline, outline, stand_in
from companion.places import ROOT
from companion.profiles import PUBLISHED, Settings, load_profile
from companion.rate import tree_rate
from companion.tan import jobs
from companion.tan.experiment import pending
from companion.tan.jobs import Job
from steerkit.errors import SteerkitError, need
from steerkit.extraction import contrast_length, extract
from steerkit.formats import FORMATS, question
from steerkit.grid import cells_of, evaluate
from steerkit.layout import length
from steerkit.ndif.address import OFF
from steerkit.remote import JOB_TOKENS
from steerkit.trust import CPU_TOKENS, GPU_TOKENS, SEQUENCE_TOKENS, free_bytes, head_bytes, token_bytes

USUAL = tuple(stage for stage, kind in jobs.STAGES.items() if kind.usual)  # of a whole profile
COLUMNS = ("tables", "prompts", "token_passes", "operations", "requests", "sent_bytes", "received_bytes")
GROUPS = 6  # groups of items that a plan tokenises for a table; all of them where there are no more
# Bytes that a job on a server takes besides its numbers: the source of the functions there, compressed; names and
# shapes back. The test of what travels (tests/test_remote.py) holds them against a server.
REQUEST_BYTES, RESPONSE_BYTES = 6_000, 700
TOKEN_BYTES = 2  # of a token, compressed
COORDINATE_BYTES = 4  # of a coordinate of a vector, which does not compress
SCORE_BYTES = 8  # of a prompt in one condition: a float32 a side
BENCHMARKS = ROOT / "benchmarks"
RECORD = BENCHMARKS / "gpu.json"  # of benchmarks/gpu.py, on a machine with a GPU
PLANS = BENCHMARKS / "plans"  # of `steerkit plan --profile P --remote --json`


class Work(NamedTuple):
    """Counts of some jobs. Requests and bytes are those of a run on a server; `reads` are fully scored tokens."""

    tables: int = 0
    prompts: int = 0
    token_passes: int = 0
    operations: int = 0
    requests: int = 0
    sent: int = 0
    received: int = 0
    reads: int = 0

    @property
    def columns(self) -> dict[str, int]:
        """What a plan shows, by name."""
        return dict(zip(COLUMNS, self, strict=False))


def plan(
    settings: Settings, formats: Sequence[str], remote: bool = False, hours: float | None = None
) -> dict[str, Any]:
    """What is missing of a profile, as JSON keeps it: `rows` by stage and format, their `total`, bytes and hours.

    Of a large set the items of `GROUPS` groups are tokenised and multiplied; `notes` say where another tokenizer stands
    in. `remote` plans for a server that holds the model; the hours found are None where nobody has measured it. With
    `hours` the plan is of so much of the profile as takes that long, and the notes say what that leaves out.
    """
    computes = not settings.recorded and settings.profile != PUBLISHED
    found, following = f"{settings.profile}, which reads finished numbers", "name another profile."
    need(computes, "a profile that computes something", found, following)
    here, name = replace(settings, remote=OFF), settings.model  # nobody is asked yet
    # Silent about items that only a sample leaves without a counterpart, and about a hub out of reach.
    logging.disable(logging.WARNING)
    try:
        try:
            about = outline(name)
        except SteerkitError:
            if (about := stand_in(name)) is None:
                raise
        why = f"The tokenizer of {name} could not be fetched: prompts are cut by that of {about.tokenizer_of}"
        notes = [f"{why}, so counts are estimates."] if about.tokenizer_of != about.name else []
        missing = _missing(here, formats, USUAL)
        found = _planned(here, missing, about, remote, GROUPS)
        if hours and found["hours"] and found["hours"] > hours:
            every = [job for found in missing.values() for job in found]
            works = [(job, job_cost(job, about, GROUPS).operations) for job in every]
            fewer, said = fitted(here, works, hours / found["hours"])
            found = _planned(fewer, _missing(fewer, formats, USUAL), about, remote, GROUPS)
            notes += said
        return found | {"notes": notes + found["notes"]}
    finally:
        logging.disable(logging.NOTSET)


def cost_of(settings: Settings, formats: Sequence[str], stages: Iterable[str]) -> dict[str, Any] | None:
    """`plan` of some stages, here, with every prompt counted; None, and no model opened, where no table is missing."""
    missing = _missing(settings, formats, stages)
    return _planned(settings, missing, outline(settings.model)) if missing else None


def _missing(settings: Settings, formats: Sequence[str], stages: Iterable[str]) -> dict[tuple, list[Job]]:
    """Jobs by stage and format, where there are any."""
    asked = [(stage, form) for form in formats for stage in jobs.STAGES if stage in stages]
    found = {(stage, form): pending(settings, form, stage) for stage, form in asked}
    return {each: missing for each, missing in found.items() if missing}


def _planned(
    settings: Settings, missing: dict, about: Outline, remote: bool = False, most: int | None = None
) -> dict[str, Any]:
    works = {each: total(job_cost(job, about, most) for job in found) for each, found in missing.items()}
    every, model = total(works.values()), settings.model
    # A server has the registry's precision, this machine the one it is fast in.
    dtype = (spec_of(model).dtype if remote else None) or dtype_of(model, settings.remote)
    weights = about.parameters * getattr(torch, dtype).itemsize
    rate = measured_rate(model) if remote else _rate(works, missing, about, dtype)
    said = f"at the rate of a short run in {dtype} on this machine, as busy as it is"
    if remote and rate:
        said = "at the rate recorded by benchmarks/gpu.py, waiting and transfer left out"
    elif remote:
        said = "unknown, because benchmarks/gpu.py has not been run on a machine like the server"
    return {
        "profile": settings.profile,
        "model": model,
        "tokenizer": about.tokenizer_of,
        "dtype": dtype,
        "remote": remote,
        "rows": [{"stage": stage, "format": form} | work.columns for (stage, form), work in works.items()],
        "memory_bytes": memory(about, dtype),
        "weights_bytes": weights,
        "hours": rate and every.operations / rate / 3600,
        "hours_from": said,
        "notes": [] if remote else _room(weights, model),
        "total": every.columns,
    }


def _rate(works: dict, missing: dict, about: Outline, dtype: str) -> float:
    """Operations a second of some prompts of the largest part of a plan; of no part any rate will do."""
    if not works:
        return math.inf
    job = missing[max(works, key=lambda each: works[each].operations)][0]
    few = replace(job, settings=_capped(job, 2 * GROUPS))
    _, test = jobs.examples(few, about)
    depth = 0.5 if job.layer is None else job.layer / about.n_layers
    return tree_rate(about, dtype, test, job.multipliers, depth)


def _room(weights: int, name: str) -> list[str]:
    """What a person has to know before trying it here."""
    if name in MODELS and MODELS[name].remote_only:
        return [f"{name} runs on a server only: give --remote."]
    free = free_bytes(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    said = f"The weights need {weights / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free on this machine."
    return [said] if weights > free else []


def total(parts: Iterable[Work]) -> Work:
    """The sum of several jobs."""
    return Work(*map(sum, zip(Work(), *parts, strict=True)))


def job_cost(job: Job, about: Outline | None = None, most: int | None = None) -> Work:
    """What one job will report. At `most` so many groups of training and of test items are tokenised, and multiplied.

    Extraction is included; the engine's self-check and prefixes that are repeated for lack of room are not.
    """
    about, stage, settings = about or outline(job.settings.model), job.stage, job.settings
    layers = jobs.job_layers(job, about.n_layers) if stage == "sweep" else [0]
    kind = jobs.STAGES[stage]
    asked = jobs.settings_of(about) if kind.part == "shift" else ("BASE",)
    names = {"shift": [*asked, jobs.MEAN], "leak": ["seen", "fresh"]}.get(stage, ["full"])
    # Slopes take one gradient, of the unsteered condition; placebos the differences that the grid has read.
    scored = kind.numbers == jobs.SCORES
    cells = cells_of(names, layers, job.multipliers, {}) if scored else []
    conditions = 1 + len(cells)
    few = job if most is None else replace(job, settings=_capped(job, most))
    sizes = (1, 1) if kind.form else np.divide(_sizes(job), _sizes(few))
    (of_train, of_test), width, parts = sizes, len(layers) * about.width, []
    for setting in asked:
        train, test = jobs.examples(few, about, setting)
        questions = [question(example, settings.fidelity) for example in test]
        if stage != "placebo":
            parts.append(_extraction(train, of_train, width, stage == "grid" or not scored))
        parts.append(_evaluation(questions, of_test, conditions, len(names) * width))
    done = total(parts)
    # Two a weight, of the blocks for every token, of the unembedding where it is called.
    spent = about.block_parameters * done.token_passes + about.width * about.vocabulary * done.reads
    return done._replace(tables=1, operations=2 * spent)


def _extraction(train: Sequence, factor: float, numbers: int, each: bool) -> Work:
    """Reading the training examples, `numbers` a vector; `each` sends back every difference, and not their sum."""
    sizes = [contrast_length(example) for example in train]
    tokens, requests = round(sum(sizes) * factor), _requests(sizes, factor)
    received = 4 * numbers * (round(len(train) * factor) if each else requests) + requests * RESPONSE_BYTES
    sent = tokens * TOKEN_BYTES + requests * REQUEST_BYTES
    return Work(token_passes=tokens, requests=requests, sent=sent, received=received)


def _evaluation(questions: Sequence, factor: float, conditions: int, vectors: int) -> Work:
    """Running the test prompts in all conditions; every request brings its `vectors` along."""
    passes = [length(one, conditions) for one in questions]
    full = [branch for one in questions if one.scale == "logprob" for branch in one.branches]
    prompts, requests = round(len(questions) * factor), _requests(passes, factor)
    sent = round(sum(length(one, 1) for one in questions) * factor) * TOKEN_BYTES
    return Work(
        prompts=prompts,
        token_passes=round(sum(passes) * factor),
        reads=round(conditions * sum(len(branch.reads) for branch in full) * factor),
        requests=requests,
        sent=sent + requests * (REQUEST_BYTES + COORDINATE_BYTES * vectors),
        received=SCORE_BYTES * prompts * conditions + requests * RESPONSE_BYTES,
    )


def _requests(sizes: Sequence[int], factor: float) -> int:
    """Jobs of at most `JOB_TOKENS` token-passes, of sequences of similar size."""
    return math.ceil(factor * sum(1 / max(1, JOB_TOKENS // each) for each in sizes))


def _sizes(job: Job) -> list[int]:
    """Training and test items of a job; in `statement` pairs of them, which few items leave fewer of."""
    dataset, seed = jobs.dataset_of(job.dataset, job.settings.source), job.settings.seed
    split = jobs.split_of(job)
    parts = [[dataset.items[i] for i in part] for part in (split.train, split.test)]
    if FORMATS[job.format].biased:
        return [len(part) for part in parts]
    return [len(statement_pairs(part, np.random.default_rng(seed))) for part in parts]


def _capped(job: Job, most: int) -> Settings:
    """The settings of a job with fewer groups in its stage."""
    train, test = (min(most, count or most) for count in job.limits)
    part, fewer = jobs.STAGES[job.stage].part, {"train": train, "test": test}
    # A few items of one label would make no pair of statements.
    settings = replace(job.settings, balanced=job.settings.balanced or (train, test) != job.limits)
    return replace(settings, **({part: replace(job.part, **fewer)} if part else fewer))


def memory(about: Outline, dtype: str) -> int:
    """Bytes: the weights, what one batch takes in a block and keeps between blocks, one block of full logits."""
    itemsize = getattr(torch, dtype).itemsize
    tokens = GPU_TOKENS if torch.cuda.is_available() else CPU_TOKENS
    batch = tokens * token_bytes(about.config, itemsize, SEQUENCE_TOKENS, about.attention)
    return about.parameters * itemsize + batch + head_bytes(about.config)


def grid_passes(prompt: int, branch: int, vectors: int, layers: int) -> tuple[int, int]:
    """Token-passes of one prompt: `tree` and `upstream` above, at six multipliers other than 0."""
    cells, multipliers = vectors * layers, 6
    return prompt - 1 + branch * (1 + cells * multipliers), 2 * cells * (multipliers + 1) * (prompt + 3)


def record() -> dict[str, Any] | None:
    """The committed run of benchmarks/gpu.py, None when there is none."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else None


def measured_rate(name: str) -> float | None:
    """Operations per second, as counted here, of the OOD grid of a model in the record."""
    rows = (record() or {"rows": []})["rows"]
    of_grids = {row["model"]: row["operations_per_second"] for row in rows if row["stage"] == "grid"}
    return of_grids.get(name)


@cache
def counted() -> list[tuple[str, int, int]]:
    """Token-passes of four small tables: name, planned, and as extraction and engine reported them just now."""
    settings = replace(load_profile("smoke"), remote=OFF)
    model, found = model_of(settings.model, OFF), []
    for stage in ("sweep", "grid"):
        for form in ("letter", "statement"):
            job, done = Job(settings, stage, settings.datasets[0], form, 1), []
            train, test = jobs.examples(job, model)
            layers = jobs.job_layers(job, len(model.layers))
            vectors = extract(model, train, layers, progress=done.append)
            evaluate(model, test, vectors, job.multipliers, progress=done.append)
            planned = job_cost(job, outline(settings.model)).token_passes
            found.append((f"{stage}, {form}", planned, sum(done)))
    return found
