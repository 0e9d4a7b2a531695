"""The book's page on scaling: what the grid costs as it grows, counted and measured."""

from __future__ import annotations

import json
from typing import Any

from _ext.markdown import table
from companion.scaling import PLANS, Protocol, counted, mean_prompt, record

NOT_RUN = (
    "*`benchmarks/gpu.py` has not been run on a GPU yet: no machine with one was at hand. It is "
    "written to take under eight minutes, and its record is shown here.*"
)


def page() -> str:
    """The generated part of the chapter: what one prompt costs, the check, the papers' grids, the record."""
    return "\n\n".join((_one_prompt(), _check(), _plans(), _gpu())) + "\n"


def _one_prompt() -> str:
    from companion.shapes import SHAPES, config_of

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


def _markdown(rows: list[dict[str, Any]]) -> str:
    import pandas as pd

    return table(pd.DataFrame(rows))
