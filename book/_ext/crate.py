"""RO-Crate 1.1: the results as a research object that machines can read, written as JSON-LD without a library.

https://www.researchobject.org/ro-crate/specification/1.1 - one flat graph: the dataset, its files, and a CreateAction
for every execution of a notebook, with the notebook and the package as instruments, weights and data as objects, and
the files it made as results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _ext.commands import changed, repository
from _ext.provenance import citation, unique
from companion.registry import MODELS
from companion.results import Result

NAME = "ro-crate-metadata.json"
FORMATS = {
    ".csv": "text/csv",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".ipynb": "application/x-ipynb+json",
}
LICENCE = "https://spdx.org/licenses/MIT"
Entity = dict[str, Any]


def crate(results: list[Result], where: Callable[[Path], str | None]) -> Entity:
    """The metadata of a folder that holds the results.

    Parameters
    ----------
    results : list of Result
    where : callable
        Path of a result's file -> its path in the crate, None for a file that is not in it.
    """
    actions = [_action(result, where) for result in results]
    files = [
        _file(path, where, part) for result in results for path, part in _files_of(result) if where(path)
    ]
    contextual = [
        *_about(),
        *_parameters(results),
        *_notebooks(results),
        *_weights(results),
        *_data(results),
    ]
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [_descriptor(), _root(results, files, actions), *files, *actions, *contextual],
    }


def _files_of(result: Result) -> list[tuple[Path, dict[str, Any] | None]]:
    """Files of a result with the part each belongs to; the executed notebook belongs to none."""
    of_parts = {result.file(part, s): part for part in result.parts for s in ("csv", "svg", "json")}
    return [(path, of_parts.get(path)) for path in result.files]


def _descriptor() -> Entity:
    return {
        "@id": NAME,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }


def _root(results: list[Result], files: list[Entity], actions: list[Entity]) -> Entity:
    about = citation()
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": about["title"],
        "description": "Figures, tables, the data behind them and the executed notebooks that made them.",
        "version": about["version"],
        "datePublished": _time(max(result.finished for result in results)),
        "license": {"@id": LICENCE},
        "author": {"@id": "#authors"},
        "citation": _ids(_papers()),
        "hasPart": _ids(files),
        "mentions": _ids(actions),
    }


def _file(path: Path, where: Callable[[Path], str | None], part: dict[str, Any] | None) -> Entity:
    content = path.read_bytes()
    found = {
        "@id": where(path),
        "@type": "File",
        "name": path.name,
        "encodingFormat": FORMATS[path.suffix],
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return found | ({"description": part["alt"] or part["caption"]} if part else {})


def _action(result: Result, where: Callable[[Path], str | None]) -> Entity:
    used = [_weights_id(sha) for part in result.parts for sha in part["weights_sha256"]]
    used += [_data_id(sha) for part in result.parts for sha in part["data_sha256"].values()]
    used += [_parameter_id(result, name) for name in changed(result.exhibit, result.parameters)]
    return {
        "@id": f"#run-{result.exhibit.id}-{result.profile}",
        "@type": "CreateAction",
        "name": f"{result.exhibit.number}, {result.exhibit.title}: notebook {result.exhibit.id}, profile {result.profile}",
        "description": f"Code at commit {', '.join(unique(part['commit'] for part in result.parts)) or 'unknown'}.",
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "startTime": _time(result.finished - result.seconds),
        "endTime": _time(result.finished),
        "agent": {"@id": "#authors"},
        "instrument": [{"@id": _notebook_id(result)}, {"@id": "#steerkit"}],
        "object": [{"@id": each} for each in unique(used)],
        "result": [{"@id": where(path)} for path in result.files if where(path)],
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _ids(entities: Iterable[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]


def _notebook_id(result: Result) -> str:
    return f"#notebook-{result.exhibit.id}"


def _weights_id(sha: str) -> str:
    return f"#weights-{sha[:16]}"


def _data_id(sha: str) -> str:
    return f"#data-{sha[:16]}"


def _parameter_id(result: Result, name: str) -> str:
    return f"#parameter-{result.exhibit.id}-{result.profile}-{name}"


def _parameters(results: list[Result]) -> list[Entity]:
    return [
        {"@id": _parameter_id(result, name), "@type": "PropertyValue", "name": name, "value": value}
        for result in results
        for name, value in changed(result.exhibit, result.parameters).items()
    ]


def _notebooks(results: list[Result]) -> list[Entity]:
    sources = {_notebook_id(result): result.exhibit for result in results}
    return [
        {
            "@id": name,
            "@type": "SoftwareSourceCode",
            "name": f"notebooks/{exhibit.id}.ipynb",
            "description": f"{exhibit.paper}, {exhibit.number}: {exhibit.title}",
            "encodingFormat": FORMATS[".ipynb"],
            "programmingLanguage": {"@id": "#python"},
            "sha256": hashlib.sha256(exhibit.notebook.read_bytes()).hexdigest(),
        }
        for name, exhibit in sources.items()
    ]


def _weights(results: list[Result]) -> list[Entity]:
    found = {}
    for sha, name in (pair for result in results for part in result.parts for pair in _models(part)):
        spec = MODELS.get(name)
        hub = {"url": f"https://huggingface.co/{spec.hub_id}"} if spec and spec.hub_id else {}
        licence = {"description": f"licence: {spec.licence}"} if spec else {}
        found[_weights_id(sha)] = (
            {"@type": "CreativeWork", "name": name or "weights", "sha256": sha} | hub | licence
        )
    return [{"@id": name} | about for name, about in found.items()]


def _models(part: dict[str, Any]) -> list[tuple[str, str]]:
    return [(sha, part.get("models", {}).get(sha, "")) for sha in part["weights_sha256"]]


def _data(results: list[Result]) -> list[Entity]:
    pairs = [pair for result in results for part in result.parts for pair in part["data_sha256"].items()]
    return [
        {"@id": _data_id(sha), "@type": "CreativeWork", "name": name, "sha256": sha}
        for name, sha in {sha: (name, sha) for name, sha in pairs}.values()
    ]


def _papers() -> list[Entity]:
    return [
        {
            "@id": "https://arxiv.org/abs/" + work["identifiers"][0]["value"].removeprefix("arXiv:"),
            "@type": "ScholarlyArticle",
            "name": work["title"],
        }
        for work in citation()["references"]
    ]


def _about() -> list[Entity]:
    about, url = citation(), repository()[0]
    package = {
        "@id": "#steerkit",
        "@type": "SoftwareApplication",
        "name": "steerkit",
        "version": about["version"],
    }
    return [
        {"@id": "#authors", "@type": "Organization", "name": about["authors"][0]["name"]},
        package | ({"url": url} if url else {}),
        {"@id": "#python", "@type": "ComputerLanguage", "name": "Python", "url": "https://www.python.org/"},
        {"@id": LICENCE, "@type": "CreativeWork", "name": "MIT licence"},
        *_papers(),
    ]
