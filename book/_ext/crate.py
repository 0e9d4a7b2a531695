"""RO-Crate metadata of the results.

RO-Crate 1.1 (https://www.researchobject.org/ro-crate/specification/1.1) is one flat graph: the dataset, its files, and a
CreateAction for every execution of a notebook, with notebook and package as instruments, weights and data as objects,
and the files it made as results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _ext.pages import changed, repository, unique
from _ext.provenance import citation
from companion.registry import MODELS
from companion.results import Result

NAME = "ro-crate-metadata.json"
LICENCE = "https://spdx.org/licenses/MIT"
KINDS = {
    ".csv": "text/csv",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".ipynb": "application/x-ipynb+json",
}
# From the path of a result's file to its path in the crate, None when it is not in it.
Where = Callable[[Path], str | None]


def crate(results: list[Result], where: Where) -> dict[str, Any]:
    """The metadata of a folder that holds the results."""
    about, url = citation(), repository()[0]
    papers = [
        _entity(
            "https://arxiv.org/abs/" + work["identifiers"][0]["value"].removeprefix("arXiv:"),
            "ScholarlyArticle",
            name=work["title"],
        )
        for work in about["references"]
    ]
    files = [entity for result in results for entity in _files(result, where)]
    actions = [_action(result, where) for result in results]
    root = _entity(
        "./",
        "Dataset",
        name=about["title"],
        description="Figures, tables, the data behind them and the executed notebooks that made them.",
        version=about["version"],
        datePublished=_time(max(result.finished for result in results)),
        license={"@id": LICENCE},
        author={"@id": "#authors"},
        citation=_ids(papers),
        hasPart=_ids(files),
        mentions=_ids(actions),
    )
    descriptor = _entity(
        NAME, "CreativeWork", about={"@id": "./"}, conformsTo={"@id": "https://w3id.org/ro/crate/1.1"}
    )
    package = _entity("#steerkit", "SoftwareApplication", name="steerkit", version=about["version"])
    context = [
        _entity("#authors", "Organization", name=about["authors"][0]["name"]),
        package | ({"url": url} if url else {}),
        _entity("#python", "ComputerLanguage", name="Python", url="https://www.python.org/"),
        _entity(LICENCE, "CreativeWork", name="MIT licence"),
        *papers,
        *(
            _entity(_parameter_id(result, name), "PropertyValue", name=name, value=value)
            for result in results
            for name, value in changed(result.exhibit, result.parameters).items()
        ),
        *_inputs(results),
    ]
    graph = [descriptor, root, *files, *actions, *context]
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}


def _entity(at: str | None, kind: str, /, **about: Any) -> dict[str, Any]:
    return {"@id": at, "@type": kind, **about}


def _ids(entities: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _parameter_id(result: Result, name: str) -> str:
    return f"#parameter-{result.exhibit.id}-{result.profile}-{name}"


def _files(result: Result, where: Where) -> Iterable[dict[str, Any]]:
    of_parts = {result.file(part, s): part for part in result.parts for s in ("csv", "svg", "json")}
    for path in filter(where, result.files):
        content, part = path.read_bytes(), of_parts.get(path)  # the executed notebook belongs to no part
        yield _entity(
            where(path),
            "File",
            name=path.name,
            encodingFormat=KINDS[path.suffix],
            contentSize=str(len(content)),
            sha256=hashlib.sha256(content).hexdigest(),
            **({"description": part["alt"] or part["caption"]} if part else {}),
        )


def _action(result: Result, where: Where) -> dict[str, Any]:
    used = [f"#weights-{sha[:16]}" for part in result.parts for sha in part["weights_sha256"]]
    used += [f"#data-{sha[:16]}" for part in result.parts for sha in part["data_sha256"].values()]
    used += [_parameter_id(result, name) for name in changed(result.exhibit, result.parameters)]
    exhibit, commits = result.exhibit, unique(part["commit"] for part in result.parts)
    return _entity(
        f"#run-{exhibit.id}-{result.profile}",
        "CreateAction",
        name=f"{exhibit.number}, {exhibit.title}: notebook {exhibit.id}, profile {result.profile}",
        description=f"Code at commit {', '.join(commits) or 'unknown'}.",
        actionStatus={"@id": "http://schema.org/CompletedActionStatus"},
        startTime=_time(result.finished - result.seconds),
        endTime=_time(result.finished),
        agent={"@id": "#authors"},
        instrument=[{"@id": f"#notebook-{exhibit.id}"}, {"@id": "#steerkit"}],
        object=[{"@id": each} for each in unique(used)],
        result=[{"@id": where(path)} for path in result.files if where(path)],
    )


def _inputs(results: list[Result]) -> Iterable[dict[str, Any]]:
    """Notebooks, weights and data sets, each once."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        exhibit = result.exhibit
        found[f"#notebook-{exhibit.id}"] = _entity(
            f"#notebook-{exhibit.id}",
            "SoftwareSourceCode",
            name=f"notebooks/{exhibit.id}.ipynb",
            description=f"{exhibit.paper}, {exhibit.number}: {exhibit.title}",
            encodingFormat=KINDS[".ipynb"],
            programmingLanguage={"@id": "#python"},
            sha256=hashlib.sha256(exhibit.notebook.read_bytes()).hexdigest(),
        )
    parts = [part for result in results for part in result.parts]
    for sha, name in (
        (sha, part.get("models", {}).get(sha, "")) for part in parts for sha in part["weights_sha256"]
    ):
        spec = MODELS.get(name)
        more = {"url": f"https://huggingface.co/{spec.hub_id}"} if spec and spec.hub_id else {}
        more |= {"description": f"licence: {spec.licence}"} if spec else {}
        entity = _entity(f"#weights-{sha[:16]}", "CreativeWork", name=name or "weights", sha256=sha, **more)
        found[entity["@id"]] = entity
    for name, sha in (pair for part in parts for pair in part["data_sha256"].items()):
        found[f"#data-{sha[:16]}"] = _entity(f"#data-{sha[:16]}", "CreativeWork", name=name, sha256=sha)
    return found.values()
