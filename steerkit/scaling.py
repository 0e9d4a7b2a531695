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

from steerkit.blocks import SHARE_FROM
from steerkit.book.markdown import table

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECORD = BENCHMARKS / "gpu.json"  # of benchmarks/gpu.py, on a machine with a GPU
PLANS = BENCHMARKS / "plans"  # of `steerkit plan --profile P --remote --json`
NOT_RUN = (
    "*`benchmarks/gpu.py` has not been run on a GPU yet: no machine with one was at hand. It is "
    "written to take under eight minutes, and its record is shown here.*"
)


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
    """Operations per second of the OOD grid of a model in the record, counted as in `steerkit.cost`."""
    rows = [
        row for row in (record() or {}).get("rows", []) if row["model"] == name and row["stage"] == "grid"
    ]
    return rows[0]["operations_per_second"] if rows else None


def page() -> str:
    """The generated part of the chapter: what one prompt costs, the check, the papers' grids, the record."""
    return "\n\n".join((_one_prompt(), _check(), _plans(), _gpu())) + "\n"


def _one_prompt() -> str:
    from steerkit.shapes import SHAPES, config_of

    length = mean_prompt()
    depths = {name: config_of(name).num_hidden_layers for name in SHAPES}
    asked = [(name, "layer sweep", Protocol(length, 2, 1, depth)) for name, depth in depths.items()]
    asked.append(("any", "six vectors, one layer", Protocol(length, 2, 6, 1)))
    asked.append(("any", "one vector, one layer", Protocol(length, 2, 1, 1)))
    rows = [
        {
            "model": name,
            "grid": what,
            "upstream": f"{one.upstream:,}",
            "tree": f"{one.tree:,}",
            "times fewer": f"{one.upstream / one.tree:.0f}",
        }
        for name, what, one in asked
    ]
    return f"Token-passes of one prompt of {length} tokens, the mean of the 40 sets of Tan et al. 2024.\n\n{_markdown(rows)}"


def _check() -> str:
    rows = [{"table": name, "planned": planned, "counted": done} for name, planned, done in counted()]
    said = "What the planner says before a run and what the engine reports during it, the tiny model, one data set."
    return f"{said}\n\n{_markdown(rows)}"


@lru_cache(maxsize=1)
def counted() -> list[tuple[str, int, int]]:
    """Token-passes of four small tables: name, planned, and as extraction and engine reported them just now."""
    from dataclasses import replace

    from steerkit.cost import job_cost
    from steerkit.engine import evaluate
    from steerkit.extract import mean_vector
    from steerkit.jobs import Job, examples, job_layers, job_multipliers, model_of
    from steerkit.outline import outline
    from steerkit.profiles import load_profile
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


def _plans() -> str:
    """The committed plans of the papers' own profiles."""
    rows = []
    for path in sorted(PLANS.glob("*.json")):
        about = json.loads(path.read_text())
        counts = about["total"]
        rows.append(
            {
                "profile": about["profile"],
                "tokenizer": about["tokenizer"],
                "prompts": f"{counts['prompts']:,}",
                "token-passes": f"{counts['token_passes']:,}",
                "operations": f"{counts['operations']:.1e}",
                "memory, GB": f"{about['memory_bytes'] / 1e9:.0f}",
                "requests": f"{counts['requests']:,}",
                "sent, MB": f"{counts['sent_bytes'] / 1e6:,.0f}",
                "received, MB": f"{counts['received_bytes'] / 1e6:,.0f}",
            }
        )
    if not rows:
        return "*No plan of the papers' profiles is committed.*"
    said = "The papers' own profiles, all tables of the book, as `steerkit plan --profile P --remote` counts them. "
    said += "With the tokenizer of another model the counts are estimates."
    return f"{said}\n\n{_markdown(rows)}"


def _gpu() -> str:
    about = record()
    if about is None:
        return NOT_RUN
    rows = [
        {
            "model": row["model"],
            "grid": row["stage"],
            "prompts": row["prompts"],
            "prompts a second": f"{row['prompts_per_second']:.1f}",
            "share of the matmul rate": f"{row['share']:.2f}",
            "whole grid, hours": "" if row["whole_hours"] is None else f"{row['whole_hours']:.2f}",
        }
        for row in about["rows"]
    ]
    rate = f"{about['matmul_rate'] / 1e12:.0f} TF/s of {about['dtype']} products"
    said = f"`{about['command']}` at commit {about['commit']} on {about['device']}: {rate}, {about['seconds']:.0f} s."
    return f"{said}\n\n{_markdown(rows)}"


def mean_prompt() -> int:
    """Mean length of a prompt of the papers, in tokens."""
    from steerkit.shapes import LENGTHS

    return round(sum(LENGTHS) / len(LENGTHS))


def _markdown(rows: list[dict[str, Any]]) -> str:
    import pandas as pd

    return table(pd.DataFrame(rows))
