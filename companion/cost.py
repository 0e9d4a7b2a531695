"""What a run will cost: token-passes (one token through all blocks), and from them time and memory on this machine.

A token-pass costs two floating-point operations for every parameter of the blocks, and a scored token of `statement`
as many for the unembedding. The rate is that of matrix products, measured here and now. `steerkit` skips the blocks
below the steered layer for most tokens, which this count does not know, so the time is an upper estimate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from companion.data.datasets import statement_pairs
from companion.data.splits import limit, make_split
from companion.models import dtype_of
from companion.outline import Outline, outline
from companion.profiles import Settings
from companion.tan.experiment import pending
from companion.tan.jobs import Job, companions, dataset_of, examples, job_layers, job_multipliers, size
from companion.tan.prompt_settings import MEAN, settings_of
from steerkit.extraction import contrast_length
from steerkit.formats import FORMATS, question
from steerkit.grid import cells_of
from steerkit.layout import length
from steerkit.memory import CPU_TOKENS, GPU_TOKENS, SEQUENCE_TOKENS, head_bytes, token_bytes
from steerkit.prompts import Setting
from steerkit.remote import JOB_TOKENS

SHARE_OF_RATE = 0.7  # of the rate of plain matrix products, reached by whole forwards (`make bench`)
# Bytes that a job on a server takes besides its numbers: the source of the functions there, compressed; names and
# shapes back. The test of what travels (tests/test_remote.py) holds them against a server.
REQUEST_BYTES, RESPONSE_BYTES = 6_000, 700
TOKEN_BYTES, COORDINATE_BYTES = (
    2,
    4,
)  # of a token, compressed; of a coordinate of a vector, which does not compress
SCORE_BYTES = 8  # of a prompt in one condition: a float32 a side


@dataclass(frozen=True)
class Cost:
    """Work still to do: tables, test prompts, token-passes; seconds and gigabytes on this machine."""

    tables: int
    prompts: int
    token_passes: int
    seconds: float = 0.0
    gigabytes: float = 0.0

    def __str__(self) -> str:
        hours = (
            f"{self.seconds / 3600:.1f} hours" if self.seconds > 5400 else f"{self.seconds / 60:.0f} minutes"
        )
        return (
            f"{self.tables} tables to compute: {self.prompts:,} test prompts, {self.token_passes:,} token-passes; "
            f"here at most about {hours} and {self.gigabytes:.1f} GB of memory."
        )


class Work(NamedTuple):
    """Counts of one job. `reads` are fully scored tokens; `requests` and bytes are those of a run on a server."""

    prompts: int = 0
    token_passes: int = 0
    reads: int = 0
    requests: int = 0
    sent: int = 0
    received: int = 0


def cost_of(settings: Settings, formats: Iterable[str], stages: Iterable[str]) -> Cost:
    """The cost of all missing tables; needs the model's tokenizer and configuration, not its weights."""
    jobs = [job for form in formats for stage in stages for job in pending(settings, form, stage)]
    if not jobs:
        return Cost(0, 0, 0)
    about = outline(settings.model)
    done = total(job_cost(job, about) for job in jobs)
    precision = dtype_of(settings.model, settings.remote)
    seconds = operations(about, done) / (SHARE_OF_RATE * matmul_rate(precision))
    return Cost(len(jobs), done.prompts, done.token_passes, seconds, memory(about, precision) / 1e9)


def total(parts: Iterable[Work]) -> Work:
    """The sum of several jobs."""
    return Work(*(sum(column) for column in zip(Work(), *parts, strict=True)))


def operations(about: Outline, done: Work) -> int:
    """Floating-point operations: two a weight, of the blocks for every token, of the unembedding where it is called."""
    return 2 * (about.block_parameters * done.token_passes + about.width * about.vocabulary * done.reads)


def job_cost(job: Job, about: Outline | None = None, most: int | None = None) -> Work:
    """What one job will report, from its tokenised prompts.

    Extraction is included; the engine's self-check and prefixes that are repeated for lack of room are not.

    Parameters
    ----------
    job : Job
    about : Outline, optional
        Tokenizer and shape to count with; default: those of the job's model.
    most : int, optional
        Tokenise at most so many groups of training and of test items, and multiply. Default: all of them.
    """
    about = about or outline(job.settings.model)
    layers = job_layers(job, about.n_layers) if job.stage == "sweep" else [0]
    settings = settings_of(about) if job.stage == "shift" else ("BASE",)
    names = _vector_names(job, settings)
    fewer = companions(job, names) if job.stage == "grid" else {}
    conditions = 1 + len(cells_of(names, layers, job_multipliers(job), fewer))
    vectors = len(names) * len(layers) * about.width
    parts = []
    for setting in settings:
        train, test, factors = _shown(job, about, setting, most)
        parts += [
            _extraction(train, factors[0], len(layers) * about.width, job.stage == "grid"),
            _evaluation([question(e, job.settings.fidelity) for e in test], factors[1], conditions, vectors),
        ]
    return total(parts)


def _extraction(train: Sequence, factor: float, numbers: int, each: bool) -> Work:
    """Reading the training examples, `numbers` a vector; `each` sends back every difference, and not their sum."""
    sizes = [contrast_length(example) for example in train]
    requests = _requests(sizes, factor)
    rows = round(len(train) * factor) if each else requests
    sent = round(sum(sizes) * factor) * TOKEN_BYTES + requests * REQUEST_BYTES
    received = 4 * rows * numbers + requests * RESPONSE_BYTES
    return Work(0, round(sum(sizes) * factor), 0, requests, sent, received)


def _evaluation(questions: Sequence, factor: float, conditions: int, vectors: int) -> Work:
    """Running the test prompts in all conditions; every request brings its `vectors` along."""
    passes = [length(one, conditions) for one in questions]
    full = [branch for one in questions if one.scale == "logprob" for branch in one.branches]
    prompts, requests = round(len(questions) * factor), _requests(passes, factor)
    sent = requests * (REQUEST_BYTES + COORDINATE_BYTES * vectors)
    sent += round(sum(length(one, 1) for one in questions) * factor) * TOKEN_BYTES
    received = SCORE_BYTES * prompts * conditions + requests * RESPONSE_BYTES
    reads = round(conditions * sum(len(branch.reads) for branch in full) * factor)
    return Work(prompts, round(sum(passes) * factor), reads, requests, sent, received)


def _requests(sizes: Sequence[int], factor: float) -> int:
    """Jobs of at most `JOB_TOKENS` token-passes, of sequences of similar size."""
    return math.ceil(factor * sum(1 / max(1, JOB_TOKENS // each) for each in sizes))


def _shown(
    job: Job, about: Outline, setting: Setting, most: int | None
) -> tuple[list, list, tuple[float, float]]:
    """Training and test examples of at most `most` groups, and how many times as many there are in all."""
    few = job if most is None else replace(job, settings=_capped(job, most))
    train, test = examples(few, about, setting)
    whole, shown = _sizes(job), _sizes(few)
    return train, test, (whole[0] / shown[0], whole[1] / shown[1])


def _sizes(job: Job) -> tuple[int, int]:
    """Training and test items of a job; in `statement` pairs of them, which few items leave fewer of."""
    dataset = dataset_of(job.dataset, job.settings.source)
    split = limit(make_split(dataset, job.split, job.settings.seed), *job.limits)
    if FORMATS[job.format].biased:
        return len(split.train), len(split.test)
    seed = job.settings.seed
    train, test = (
        len(statement_pairs([dataset.items[i] for i in part], np.random.default_rng(seed)))
        for part in (split.train, split.test)
    )
    return train, test


def _capped(job: Job, most: int) -> Settings:
    """The settings of a job with fewer groups in its stage."""
    owner = job.settings if job.stage == "grid" else getattr(job.settings, job.stage)
    sizes = {part: size(getattr(owner, part), job.format) for part in ("train", "test")}
    fewer = replace(owner, **{part: min(most, count or most) for part, count in sizes.items()})
    return fewer if job.stage == "grid" else replace(job.settings, **{job.stage: fewer})


def _vector_names(job: Job, settings: tuple[str, ...]) -> list[str]:
    """As many names as the job has vectors."""
    if job.stage == "shift":
        return [*settings, MEAN]
    count = job.settings.resamples.get(job.format, 0) + job.settings.random_vectors
    return ["full", *(f"companion-{i}" for i in range(count if job.stage == "grid" else 0))]


def matmul_rate(dtype: str = "float32") -> float:
    """Floating-point operations per second of matrix products in a precision, on the device that runs here use."""
    return _matmul_rate(dtype)


@lru_cache(maxsize=4)
def _matmul_rate(dtype: str, seconds: float = 0.3) -> float:
    import torch

    gpu = torch.cuda.is_available()
    n, device = (8192, "cuda") if gpu else (1024, "cpu")
    a = torch.ones(n, n, dtype=getattr(torch, dtype), device=device)
    done, start = -1, time.perf_counter()  # the first product warms up and does not count
    while done < 1 or time.perf_counter() - start < seconds:
        a @ a
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter() if done < 0 else start
        done += 1
    return done * 2 * n**3 / (time.perf_counter() - start)


def memory(about: Outline, dtype: str) -> int:
    """Bytes: the weights, what one batch takes in a block and keeps between blocks, one block of full logits."""
    import torch

    itemsize = getattr(torch, dtype).itemsize
    tokens = GPU_TOKENS if torch.cuda.is_available() else CPU_TOKENS
    batch = tokens * token_bytes(about.config, itemsize, SEQUENCE_TOKENS, about.attention)
    return about.parameters * itemsize + batch + head_bytes(about.config)
