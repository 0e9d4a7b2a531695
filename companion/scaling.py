"""What the grid costs as it grows, in words and numbers: the book's page on scaling.

With p prompt tokens, b tokens of a branch, V vectors, L steered layers and K multipliers other than 0, one prompt takes

    tree      p - 1 + b (1 + V L K)            token-passes, one forward
    upstream  2 V L (K + 1) (p + 3)            two answers, every cell a forward of its own

A token-pass takes two operations for every parameter of the blocks.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from steerkit.traces import SHARE_FROM

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECORD = BENCHMARKS / "gpu.json"  # of benchmarks/gpu.py, on a machine with a GPU
PLANS = BENCHMARKS / "plans"  # of `steerkit plan --profile P --remote --json`


class Protocol(NamedTuple):
    """One prompt in a grid: tokens of the prompt and of a branch, vectors, steered layers, multipliers other than 0."""

    prompt: int
    branch: int
    vectors: int
    layers: int
    multipliers: int = 6

    @property
    def conditions(self) -> int:
        """Branches of the tree: the unsteered run and one a cell."""
        return 1 + self.vectors * self.layers * self.multipliers

    @property
    def tree(self) -> int:
        """Token-passes in one forward."""
        return self.prompt - 1 + self.branch * self.conditions

    @property
    def upstream(self) -> int:
        """Token-passes of the papers' way: both answers, every cell and multiplier 0, `( letter )` after the prompt."""
        return 2 * self.vectors * self.layers * (self.multipliers + 1) * (self.prompt + 3)


def executed(tree: int, single: int, first: int, n_layers: int) -> float:
    """Token-passes that the blocks really do: those up to the lowest steered one run once without the branches.

    Parameters
    ----------
    tree, single : tokens of the sequence with all conditions, and with one
    first : lowest steered block
    n_layers : blocks of the model
    """
    shared = first + 1 if first >= SHARE_FROM else 0
    return (single * shared + tree * (n_layers - shared)) / n_layers


def record() -> dict[str, Any] | None:
    """The committed run of benchmarks/gpu.py, None when there is none."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else None


def measured_rate(name: str) -> float | None:
    """Operations per second of the OOD grid of a model in the record, counted as in `companion.cost`."""
    rows = [
        row for row in (record() or {}).get("rows", []) if row["model"] == name and row["stage"] == "grid"
    ]
    return rows[0]["operations_per_second"] if rows else None


@lru_cache(maxsize=1)
def counted() -> list[tuple[str, int, int]]:
    """Token-passes of four small tables: name, planned, and as extraction and engine reported them just now."""
    from dataclasses import replace

    from companion.cost import job_cost
    from companion.models import model_of
    from companion.outline import outline
    from companion.profiles import load_profile
    from companion.tan.jobs import Job, examples, job_layers, job_multipliers
    from steerkit.extraction import mean_vector
    from steerkit.grid import evaluate
    from steerkit.remote import OFF

    settings = replace(load_profile("smoke"), resamples={}, random_vectors=0, remote=OFF)
    model, found = model_of(settings.model, OFF), []
    for stage, form in (
        ("sweep", "letter"),
        ("sweep", "statement"),
        ("grid", "letter"),
        ("grid", "statement"),
    ):
        job, done = Job(settings, stage, settings.datasets[0], form, 1), []
        train, test = examples(job, model)
        vectors = mean_vector(model, train, job_layers(job, model.sites.n_layers), progress=done.append)
        evaluate(model, test, vectors, job_multipliers(job), progress=done.append)
        found.append((f"{stage}, {form}", job_cost(job, outline(settings.model)).token_passes, sum(done)))
    return found


def mean_prompt() -> int:
    """Mean length of a prompt of the papers, in tokens."""
    from companion.shapes import LENGTHS

    return round(sum(LENGTHS) / len(LENGTHS))
