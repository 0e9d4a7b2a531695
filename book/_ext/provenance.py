"""Where every number comes from: runs, inputs, software, and how to cite them."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import yaml

from _ext.markdown import code, folded, table_of_markdown
from _ext.pages import changed, link, unique
from companion.places import ROOT
from companion.results import Result


def page(results: list[Result]) -> str:
    """What ran, on which data and weights, with which code, and when; and how to cite."""
    parts = [part for result in results for part in result.parts]
    software = unique(", ".join(f"{k} {v}" for k, v in part["versions"].items()) for part in parts)
    return "\n\n".join(
        [
            "## The runs\n\nOne execution of a notebook a row; times are UTC.",
            table_of_markdown(_run(result) for result in results),
            "## Figures and tables\n\nComputing time is that of the tables behind a figure, whenever they were computed. The "
            "manifest names each of them, with all hashes.",
            *(_parts(result) for result in results),
            "## Inputs\n\nWeights and data sets by SHA-256.",
            table_of_markdown(inputs(results)),
            f"Libraries: {'; '.join(software)}.",
            "## As metadata for machines\n\nThe site is a research object: {download}`ro-crate-metadata.json "
            "</generated/ro-crate-metadata.json>`, also at its root, describes every notebook run as an action with its "
            "inputs and the files it made (RO-Crate, JSON-LD).",
            how_to_cite(),
        ]
    )


def _run(result: Result) -> dict[str, str]:
    name, others = result.exhibit.id, changed(result.exhibit, result.parameters)
    return {
        "notebook": f"[{name}](/notebooks/{name}.ipynb)",
        "profile": result.profile,
        "parameters": ", ".join(f"`{k}={v}`" for k, v in others.items() if k != "profile") or "defaults",
        "finished": datetime.fromtimestamp(result.finished, UTC).strftime("%Y-%m-%d %H:%M"),
        "seconds": f"{result.seconds:.0f}",
        "commit": ", ".join(unique(part["commit"] for part in result.parts)) or "none",
    }


def _parts(result: Result) -> str:
    rows = [
        {
            "part": part["part"],
            "models": ", ".join(part.get("models", {}).values()) or "none",
            "data sets": str(len(part["data_sha256"])),
            "tables": str(len(part["artefacts"])),
            "engine": ", ".join(part["engine"]) or "none",
            "computing time": f"{part['seconds']:.0f} s",
            "record": ", ".join(part.get("records", [])) or "no",
            "manifest": link(result, result.file(part, "json"), "JSON"),
        }
        for part in result.parts
    ]
    title = f"{result.exhibit.id}, profile {result.profile}: {len(rows)} figures and tables"
    return folded(title, table_of_markdown(rows))


def inputs(results: list[Result]) -> pd.DataFrame:
    """Every weights file and data set any figure used: kind, name, SHA-256, in how many figures and tables."""
    used = Counter(each for result in results for each in result.inputs)
    rows = [(kind, name, f"`{sha}`", n) for (kind, name, sha), n in sorted(used.items())]
    return pd.DataFrame(rows, columns=["kind", "name", "SHA-256", "used in"])


def citation() -> dict[str, Any]:
    """CITATION.cff."""
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def how_to_cite() -> str:
    """The companion and both papers, from CITATION.cff, as sentences and as BibTeX."""
    about = citation()
    works = [about | {"year": ""}, *about["references"]]
    lines = "\n".join(f"* {_reference(work)}" for work in works)
    bibtex = folded("BibTeX", code(*(_bibtex(work) for work in works), language="bibtex"))
    return f"## How to cite\n\n{about['message']}\n\n{lines}\n\n{bibtex}"


def _people(work: dict[str, Any]) -> list[str]:
    return [each.get("name") or f"{each['family-names']}, {each['given-names']}" for each in work["authors"]]


def _number(work: dict[str, Any]) -> str:
    return next((entry["value"] for entry in work.get("identifiers", [])), f"Version {work.get('version')}")


def _reference(work: dict[str, Any]) -> str:
    year = f" ({work['year']})" if work["year"] else ""
    where = f" *{work['collection-title']}*." if work.get("collection-title") else ""
    title = work["title"] if work["title"].endswith(("?", ".")) else f"{work['title']}."
    return f"{'; '.join(_people(work))}{year}. {title}{where} {_number(work)}."


def _bibtex(work: dict[str, Any]) -> str:
    key = f"{work['authors'][0].get('family-names', 'steerkit').lower()}{work['year']}"
    author = " and ".join(name if "," in name else f"{{{name}}}" for name in _people(work))
    fields = {"title": work["title"], "author": author, "year": work["year"]}
    fields |= {"booktitle": work.get("collection-title"), "note": _number(work)}
    kind = {"conference-paper": "inproceedings", "software": "software"}.get(work["type"], "article")
    return "\n".join([f"@{kind}{{{key},", *(f"  {k} = {{{v}}}," for k, v in fields.items() if v), "}"])
