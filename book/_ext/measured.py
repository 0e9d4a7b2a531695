"""Pages of what was measured and committed (`benchmarks/*.json`, `records/`): speed, what a grid costs, a server's numbers."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from _ext.markdown import folded, table, table_of_markdown
from companion.cost import BENCHMARKS, PLANS, counted, grid_passes, record
from companion.outline import LENGTHS, SHAPES, config_of
from companion.store import read_table
from companion.tan import records as committed

PARITY = BENCHMARKS / "parity.json"
TOLERANCE = 1e-4  # float32, same threads: batches of another shape round differently, nothing else may differ
NOT_RUN = "*`benchmarks/gpu.py` has not been run on a GPU yet: no machine with one was at hand. It is "
NOT_RUN += "written to take under eight minutes, and its record is shown here.*"


def bench() -> str:
    """The committed record of `make bench`."""
    path = BENCHMARKS / "results.json"
    if not path.exists():
        return "`make bench` has not been run for this copy."
    about = json.loads(path.read_text(encoding="utf-8"))
    where = f"at commit {about['commit']}, {about['threads']} threads, {_versions(about)}."
    return f"{table(about['cases'])}\n\n{{.manifest}}\n`{about['command']}` {where}"


def _versions(about: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in about["versions"].items())


def records() -> str:
    """Every committed record with the command that makes it, and how long that took."""
    rows = []
    for name in committed.available():
        about = read_table(committed.FOLDER / f"{name}.parquet").attrs["manifest"]
        sets = {made["inputs"]["dataset"] for made in about["manifests"]}
        commits = dict.fromkeys(made["commit"] or "none" for made in about["manifests"])
        row = {"command": f"`{about['command']}`", "data sets": str(len(sets))}
        rows.append(row | {"minutes": f"{about['seconds'] / 60:.0f}", "commit": ", ".join(commits)})
    return table_of_markdown(rows)


def scaling() -> str:
    """The generated part of the chapter: what one prompt costs, the check, the papers' grids, the record."""
    return "\n\n".join((_one_prompt(), _check(), _plans(), _gpu())) + "\n"


def _one_prompt() -> str:
    length, rows = round(sum(LENGTHS) / len(LENGTHS)), []
    asked = [(name, "layer sweep", 1, config_of(name).num_hidden_layers) for name in SHAPES]
    asked += [("any", "six vectors, one layer", 6, 1), ("any", "one vector, one layer", 1, 1)]
    for model, grid, vectors, layers in asked:
        tree, upstream = grid_passes(length, 2, vectors, layers)
        counts = {"upstream": f"{upstream:,}", "tree": f"{tree:,}", "times fewer": f"{upstream / tree:.0f}"}
        rows.append({"model": model, "grid": grid, **counts})
    said = f"Token-passes of one prompt of {length} tokens, the mean of the 40 sets of Tan et al. 2024."
    return f"{said}\n\n{table(rows)}"


def _check() -> str:
    said = "What the planner says before a run and what the engine reports during it, the tiny model, one data set."
    return f"{said}\n\n{table(pd.DataFrame(counted(), columns=['table', 'planned', 'counted']))}"


def _plans() -> str:
    """The committed plans of the papers' own profiles."""
    plans = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(PLANS.glob("*.json"))]
    if not plans:
        return "*No plan of the papers' profiles is committed.*"
    rows = [
        {
            "profile": about["profile"],
            "tokenizer": about["tokenizer"],
            "prompts": f"{about['total']['prompts']:,}",
            "token-passes": f"{about['total']['token_passes']:,}",
            "operations": f"{about['total']['operations']:.1e}",
            "memory, GB": f"{about['memory_bytes'] / 1e9:.0f}",
            "requests": f"{about['total']['requests']:,}",
            "sent, MB": f"{about['total']['sent_bytes'] / 1e6:,.0f}",
            "received, MB": f"{about['total']['received_bytes'] / 1e6:,.0f}",
        }
        for about in plans
    ]
    said = "The papers' own profiles, all tables of the book, as `steerkit plan --profile P --remote` counts them. "
    said += "With the tokenizer of another model the counts are estimates."
    return f"{said}\n\n{table(rows)}"


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
    return f"{said}\n\n{table(rows)}"


def families() -> str:
    """What the tests find for a tiny random model of every family: an engine, or a reason."""
    rows = json.loads((BENCHMARKS.parent / "tests" / "families.json").read_text(encoding="utf-8"))["families"]
    said = {"tree": "fast engine", "direct": "slow engine, with a warning that says why"}
    found = pd.DataFrame([(name, f"{kind}Config", outcome) for name, kind, _, _, outcome in rows])
    found.columns = ["family", "configuration", "outcome"]
    refused = "refused: " + found["outcome"].str.replace("\\", "")
    found["outcome"] = found["outcome"].map(said).fillna(refused)
    counts = Counter(found["outcome"].str.split("[:,]").str[0])
    head = ", ".join(f"{count} {words}" for words, count in counts.items())
    return f"{len(found)} families and variants: {head}.\n\n{folded('Every family and its outcome', table(found))}"


def parity(path: Path = PARITY) -> str:
    """Differences by operation, bytes on the wire, time, and what it was measured with."""
    if not path.exists():
        return "`make test-ndif` has not been run for this copy."
    record = json.loads(path.read_text(encoding="utf-8"))
    differences = [
        {
            "operation": row["operation"],
            "numbers": f"{row['numbers']:,}",
            "local CPU: largest": f"{row['largest']:.3g}",
            "local GPU": "not run" if row["gpu"] is None else f"{row['gpu']:.2g}",
            "NDIF: largest difference": "not run" if row["ndif"] is None else f"{row['ndif']:.2g}",
            "tolerance": f"{row['tolerance']:g}",
        }
        for row in record["operations"]
    ]
    sizes = [
        {
            "job": row["job"],
            "request": f"{row['request'] / 1000:.1f} kB",
            "answer": f"{row['response'] / 1000:.1f} kB",
            "limits": f"{row['request_limit'] / 1000:.0f} and {row['response_limit'] / 1000:.1f} kB",
        }
        for row in record["sizes"]
    ]
    times = pd.DataFrame(record["times"])
    times["ratio"] = (times["ndif"] / times["local"]).map("{:.2f}".format)
    times[["local", "ndif"]] = times[["local", "ndif"]].map("{:.1f} s".format)
    times = times[["work", "local", "ndif", "ratio", "aim"]].rename(columns={"ndif": "NDIF"})
    threads = "one thread" if record["threads"] == 1 else f"{record['threads']} threads"
    how = f"`{record['command']}` on {record['date']} at commit {record['commit']}: {record['model']} in {record['dtype']}"
    parts = [table(differences), "What travelled, with the limit for each way:", table(sizes)]
    parts += ["How long it took on either side, the server's queue included:", table(times)]
    return "\n\n".join([*parts, f"{{.manifest}}\n{how}, {threads} on each side, {_versions(record)}."])
