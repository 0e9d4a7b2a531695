"""What a run will cost, in the unit that matters: token-passes (one token through all blocks)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from steerkit.engine.grid import cells_of
from steerkit.engine.layout import length
from steerkit.experiment import pending
from steerkit.extract import contrast_length
from steerkit.jobs import Job, companions, examples, job_layers, job_multipliers, model_of
from steerkit.profiles import Settings
from steerkit.prompt_settings import MEAN, settings_of
from steerkit.propensity import question


@dataclass(frozen=True)
class Cost:
    """Work still to do: tables, test prompts, token-passes."""

    tables: int
    prompts: int
    token_passes: int

    def __str__(self) -> str:
        return f"{self.tables} tables to compute: {self.prompts:,} test prompts, {self.token_passes:,} token-passes."


def cost_of(settings: Settings, formats: Iterable[str], stages: Iterable[str]) -> Cost:
    """The cost of all missing tables; needs the tokenizer, so it loads the model when anything is missing."""
    jobs = [job for form in formats for stage in stages for job in pending(settings, form, stage)]
    counted = [job_cost(job) for job in jobs]
    return Cost(len(jobs), sum(prompts for prompts, _ in counted), sum(tokens for _, tokens in counted))


def job_cost(job: Job) -> tuple[int, int]:
    """Test prompts and token-passes of one job, extraction included, self-check and repeated prefixes not."""
    model = model_of(job.settings.model)
    layers = job_layers(job, model.sites.n_layers) if job.stage == "sweep" else [0]
    settings = settings_of(model) if job.stage == "shift" else ("BASE",)
    names = _vector_names(job, settings)
    fewer = companions(job, names) if job.stage == "grid" else {}
    conditions = 1 + len(cells_of(names, layers, job_multipliers(job), fewer))
    prompts = passes = 0
    for setting in settings:
        train, test = examples(job, model, setting)
        prompts += len(test)
        passes += sum(contrast_length(example) for example in train)
        passes += sum(length(question(example, job.settings.fidelity), conditions) for example in test)
    return prompts, passes


def _vector_names(job: Job, settings: tuple[str, ...]) -> list[str]:
    """As many names as the job has vectors."""
    if job.stage == "shift":
        return [*settings, MEAN]
    count = job.settings.resamples.get(job.format, 0) + job.settings.random_vectors
    return ["full", *(f"companion-{i}" for i in range(count if job.stage == "grid" else 0))]
