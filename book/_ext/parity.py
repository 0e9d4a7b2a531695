"""Whether a remote model gives the same numbers: the committed record of `make test-ndif` as a page.

The record is `benchmarks/parity.json`, written by the tests in `tests/ndif`, which run every operation twice in one
process: on the local model, and on NDIF's own server on the same machine, in the same precision and with the same
number of threads. A difference is the largest absolute one over all numbers of an operation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from _ext.markdown import table
from companion.exhibits import ROOT

RECORD = ROOT / "benchmarks" / "parity.json"
TOLERANCE = 1e-4  # float32, same threads: batches of another shape round differently, nothing else may differ


def page(path: Path = RECORD) -> str:
    """The record as Markdown: differences by operation, bytes on the wire, time, and what it was measured with."""
    if not path.exists():
        return "`make test-ndif` has not been run for this copy."
    record = json.loads(path.read_text())
    parts = (
        _differences(record),
        "What travelled, with the limit for each way:",
        _bytes(record),
        "How long it took on either side, the server's queue included:",
        _times(record),
        _manifest(record),
    )
    return "\n\n".join(parts)


def _differences(record: dict[str, Any]) -> str:
    rows = [
        {
            "operation": row["operation"],
            "numbers": f"{row['numbers']:,}",
            "local CPU: largest": f"{row['largest']:.3g}",
            "local GPU": _difference(row["gpu"]),
            "NDIF: largest difference": _difference(row["ndif"]),
            "tolerance": f"{row['tolerance']:g}",
        }
        for row in record["operations"]
    ]
    return table(pd.DataFrame(rows))


def _difference(value: float | None) -> str:
    return "not run" if value is None else f"{value:.2g}"


def _bytes(record: dict[str, Any]) -> str:
    rows = [
        {
            "job": row["job"],
            "request": f"{row['request'] / 1000:.1f} kB",
            "answer": f"{row['response'] / 1000:.1f} kB",
            "limits": f"{row['request_limit'] / 1000:.0f} and {row['response_limit'] / 1000:.1f} kB",
        }
        for row in record["sizes"]
    ]
    return table(pd.DataFrame(rows))


def _times(record: dict[str, Any]) -> str:
    times = pd.DataFrame(record["times"])
    times["ratio"] = (times["ndif"] / times["local"]).map("{:.2f}".format)
    times[["local", "ndif"]] = times[["local", "ndif"]].map("{:.1f} s".format)
    return table(times[["work", "local", "ndif", "ratio", "aim"]].rename(columns={"ndif": "NDIF"}))


def _manifest(record: dict[str, Any]) -> str:
    threads = "one thread" if record["threads"] == 1 else f"{record['threads']} threads"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"{{.manifest}}\n`{record['command']}` on {record['date']} at commit {record['commit']}: {record['model']} in "
        f"{record['dtype']}, {threads} on each side, {versions}."
    )
