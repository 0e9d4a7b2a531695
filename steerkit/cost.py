"""What a run will cost: token-passes (one token through all blocks), and from them time and memory on this machine.

A token-pass costs two floating-point operations for every parameter of the blocks, and a scored token of `statement`
as many for the unembedding. The rate is that of matrix products, measured here and now. `steerkit` skips the blocks
below the steered layer for most tokens, which this count does not know, so the time is an upper estimate.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from steerkit.engine.grid import BATCH_TOKENS, cells_of
from steerkit.engine.layout import length
from steerkit.engine.tree import HEAD_ROWS
from steerkit.experiment import pending
from steerkit.extract import contrast_length
from steerkit.jobs import Job, companions, examples, job_layers, job_multipliers
from steerkit.outline import Outline, outline
from steerkit.profiles import Settings
from steerkit.prompt_settings import MEAN, settings_of
from steerkit.propensity import question

SHARE_OF_RATE = 0.7  # of the rate of plain matrix products, reached by whole forwards (`make bench`)


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


def cost_of(settings: Settings, formats: Iterable[str], stages: Iterable[str]) -> Cost:
    """The cost of all missing tables; needs the model's tokenizer and configuration, not its weights."""
    jobs = [job for form in formats for stage in stages for job in pending(settings, form, stage)]
    if not jobs:
        return Cost(0, 0, 0)
    about = outline(settings.model)
    counted = [job_cost(job) for job in jobs]
    operations = sum(
        2 * (about.block_parameters * n + about.width * about.vocabulary * r) for _, n, r in counted
    )
    return Cost(
        len(jobs),
        sum(prompts for prompts, _, _ in counted),
        sum(tokens for _, tokens, _ in counted),
        operations / (SHARE_OF_RATE * matmul_rate()),
        _memory(about) / 1e9,
    )


def job_cost(job: Job) -> tuple[int, int, int]:
    """Test prompts, token-passes and fully scored tokens of one job.

    Extraction is included; the engine's self-check and prefixes that are repeated for lack of room are not.
    """
    model = outline(job.settings.model)
    layers = job_layers(job, model.n_layers) if job.stage == "sweep" else [0]
    settings = settings_of(model) if job.stage == "shift" else ("BASE",)
    names = _vector_names(job, settings)
    fewer = companions(job, names) if job.stage == "grid" else {}
    conditions = 1 + len(cells_of(names, layers, job_multipliers(job), fewer))
    prompts = passes = reads = 0
    for setting in settings:
        train, test = examples(job, model, setting)
        questions = [question(example, job.settings.fidelity) for example in test]
        prompts += len(test)
        passes += sum(contrast_length(example) for example in train)
        passes += sum(length(one, conditions) for one in questions)
        reads += sum(
            conditions * len(branch.reads)
            for one in questions
            if one.scale == "logprob"
            for branch in one.branches
        )
    return prompts, passes, reads


def _vector_names(job: Job, settings: tuple[str, ...]) -> list[str]:
    """As many names as the job has vectors."""
    if job.stage == "shift":
        return [*settings, MEAN]
    count = job.settings.resamples.get(job.format, 0) + job.settings.random_vectors
    return ["full", *(f"companion-{i}" for i in range(count if job.stage == "grid" else 0))]


@lru_cache(maxsize=1)
def matmul_rate(seconds: float = 0.3) -> float:
    """Floating-point operations per second of matrix products in the precision that runs here would use."""
    import torch

    gpu = torch.cuda.is_available()
    n, kind = (8192, torch.bfloat16) if gpu else (1024, torch.float32)
    a = torch.ones(n, n, dtype=kind, device="cuda" if gpu else "cpu")
    done, start = -1, time.perf_counter()  # the first product warms up and does not count
    while done < 1 or time.perf_counter() - start < seconds:
        a @ a
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter() if done < 0 else start
        done += 1
    return done * 2 * n**3 / (time.perf_counter() - start)


def _memory(about: Outline) -> float:
    """Bytes: the weights, one batch of hidden states, one block of full logits."""
    import torch

    weight = 2 if torch.cuda.is_available() else 4
    return (
        about.parameters * weight + 24 * BATCH_TOKENS * about.width * 4 + 2 * HEAD_ROWS * about.vocabulary * 4
    )
