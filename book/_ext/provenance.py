"""Where every number comes from, as a page: what ran, on which data and weights, with which code, and when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import yaml

from _ext.commands import changed
from _ext.markdown import code, folded, table_of_markdown
from companion import exhibits
from companion.results import Result


def page(results: list[Result]) -> str:
    """The runs, their figures and tables, their inputs by hash, and how to cite."""
    return "\n\n".join(
        [
            "## The runs\n\nOne execution of a notebook a row; times are UTC.",
            table_of_markdown(pd.DataFrame([_run(result) for result in results])),
            "## Figures and tables\n\nComputing time is that of the tables behind a figure, whenever they were computed. The "
            "manifest names each of them, with all hashes.",
            *(_parts(result) for result in results),
            "## Inputs\n\nWeights and data sets by SHA-256.",
            table_of_markdown(inputs(results)),
            _software(results),
            "## As metadata for machines\n\nThe site is a research object: {download}`ro-crate-metadata.json "
            "</generated/ro-crate-metadata.json>`, also at its root, describes every notebook run as an action with its "
            "inputs and the files it made (RO-Crate, JSON-LD).",
            how_to_cite(),
        ]
    )


def _run(result: Result) -> dict[str, str]:
    name = result.exhibit.id
    others = changed(result.exhibit, result.parameters)
    return {
        "notebook": f"[{name}](/notebooks/{name}.ipynb)",
        "profile": result.profile,
        "parameters": ", ".join(f"`{k}={v}`" for k, v in others.items() if k != "profile") or "defaults",
        "finished": when(result.finished),
        "seconds": f"{result.seconds:.0f}",
        "commit": ", ".join(unique(part["commit"] for part in result.parts)) or "none",
    }


def when(seconds: float) -> str:
    """A time as a reader writes it, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def unique(values: Iterable[str]) -> list[str]:
    """Each value once, in order, without empty ones."""
    return [value for value in dict.fromkeys(values) if value]


def _parts(result: Result) -> str:
    rows = [_part(result, part) for part in result.parts]
    title = f"{result.exhibit.id}, profile {result.profile}: {len(rows)} figures and tables"
    return folded(title, table_of_markdown(pd.DataFrame(rows)))


def _part(result: Result, part: dict[str, Any]) -> dict[str, str]:
    manifest = f"{result.address}/{result.file(part, 'json').name}"
    return {
        "part": part["part"],
        "models": ", ".join(part.get("models", {}).values()) or "none",
        "data sets": str(len(part["data_sha256"])),
        "tables": str(len(part["artefacts"])),
        "engine": ", ".join(part["engine"]) or "none",
        "computing time": f"{part['seconds']:.0f} s",
        "record": ", ".join(part.get("records", [])) or "no",
        "manifest": f"{{download}}`JSON <{manifest}>`",
    }


def inputs(results: list[Result]) -> pd.DataFrame:
    """Every weights file and data set any figure used: kind, name, SHA-256, in how many figures and tables."""
    counts: dict[tuple[str, str, str], int] = {}
    for part in (part for result in results for part in result.parts):
        found = [("data", name, sha) for name, sha in part["data_sha256"].items()]
        found += [("weights", part.get("models", {}).get(sha, ""), sha) for sha in part["weights_sha256"]]
        for each in found:
            counts[each] = counts.get(each, 0) + 1
    rows = [
        {"kind": kind, "name": name, "SHA-256": f"`{sha}`", "used in": count}
        for (kind, name, sha), count in sorted(counts.items())
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "SHA-256", "used in"])


def _software(results: list[Result]) -> str:
    """Versions of the libraries that did the arithmetic; more than one line when runs differ."""
    lines = unique(
        ", ".join(f"{name} {version}" for name, version in part["versions"].items())
        for result in results
        for part in result.parts
    )
    return "Libraries: " + "; ".join(lines) + "."


def citation() -> dict[str, Any]:
    """CITATION.cff."""
    return yaml.safe_load((exhibits.ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def how_to_cite() -> str:
    """The companion and both papers, from CITATION.cff, as sentences and as BibTeX."""
    about = citation()
    works = [about | {"year": ""}, *about["references"]]
    lines = "\n".join(f"* {_reference(work)}" for work in works)
    return (
        f"## How to cite\n\n{about['message']}\n\n{lines}\n\n"
        f"{folded('BibTeX', code(*(_bibtex(work) for work in works), language='bibtex'))}"
    )


def _people(work: dict[str, Any]) -> list[str]:
    return [
        person.get("name") or f"{person['family-names']}, {person['given-names']}"
        for person in work["authors"]
    ]


def _number(work: dict[str, Any]) -> str:
    found = [entry["value"] for entry in work.get("identifiers", [])]
    return found[0] if found else f"Version {work['version']}"


def _reference(work: dict[str, Any]) -> str:
    year = f" ({work['year']})" if work["year"] else ""
    where = f" *{work['collection-title']}*." if work.get("collection-title") else ""
    title = work["title"] if work["title"].endswith(("?", ".")) else f"{work['title']}."
    return f"{'; '.join(_people(work))}{year}. {title}{where} {_number(work)}."


def _bibtex(work: dict[str, Any]) -> str:
    first = work["authors"][0]
    key = f"{first.get('family-names', 'steerkit').lower()}{work['year']}"
    fields = {
        "title": work["title"],
        "author": " and ".join(name if "," in name else f"{{{name}}}" for name in _people(work)),
        "year": work["year"],
        "booktitle": work.get("collection-title"),
        "note": _number(work),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    kind = {"conference-paper": "inproceedings", "software": "software"}.get(work["type"], "article")
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
