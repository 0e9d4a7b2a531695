"""RO-Crate metadata of the results (https://www.researchobject.org/ro-crate/specification/1.1).

One flat graph in the Process Run Crate profile: the data set, its files, and a CreateAction for every execution of a
notebook.
"""

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _ext.pages import changed, repository, unique
from _ext.provenance import citation
from companion.exhibits import Exhibit
from companion.models import MODELS
from companion.results import Result

NAME = "ro-crate-metadata.json"
PROFILE, VERSION = "https://w3id.org/ro/wfrun/process/0.5", "0.5"
LICENCE = "https://spdx.org/licenses/MIT"
NOTEBOOK = "application/x-ipynb+json"
KINDS = {".csv": "text/csv", ".svg": "image/svg+xml", ".json": "application/json", ".ipynb": NOTEBOOK}
# From the path of a result's file to its path in the crate, None when it is not in it.
Where = Callable[[Path], str | None]
Entity = dict[str, Any]


def crate(results: list[Result], where: Where) -> dict[str, Any]:
    """The metadata of a folder that holds the results."""
    about, url = citation(), repository()[0]
    numbers = {work["title"]: work["identifiers"][0]["value"] for work in about["references"]}
    at = {title: f"https://arxiv.org/abs/{n.removeprefix('arXiv:')}" for title, n in numbers.items()}
    papers = [_entity(paper, "ScholarlyArticle", name=title) for title, paper in at.items()]
    files = [entity for result in results for entity in _files(result, where)]
    actions = [_action(result, where) for result in results]
    root = _entity(
        "./",
        "Dataset",
        conformsTo={"@id": PROFILE},
        name=about["title"],
        description="Figures, tables, the data behind them and the executed notebooks that made them.",
        version=about["version"],
        datePublished=_time(max(result.finished for result in results)),
        license={"@id": LICENCE},
        author={"@id": "#authors"},
        publisher={"@id": "#authors"},
        citation=_ids(papers),
        hasPart=_ids(files),
        mentions=_ids(actions),
    )
    standard = {"@id": "https://w3id.org/ro/crate/1.1"}
    descriptor = _entity(NAME, "CreativeWork", about={"@id": "./"}, conformsTo=standard)
    package = _entity("#steerkit", "SoftwareApplication", name="steerkit", version=about["version"])
    context = [
        _entity("#authors", "Organization", name=about["authors"][0]["name"]),
        package | ({"url": url} if url else {}),
        _entity("#python", "ComputerLanguage", name="Python", url="https://www.python.org/"),
        _entity(LICENCE, "CreativeWork", name="MIT licence"),
        _entity(PROFILE, "CreativeWork", name="Process Run Crate", version=VERSION),
        *papers,
        *(entity for result in results for entity in _parameters(result)),
        *_inputs(results),
    ]
    graph = [descriptor, root, *files, *actions, *context]
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}


def _entity(at: str | None, kind: str, /, **about: Any) -> Entity:
    return {"@id": at, "@type": kind, **about}


def _ids(entities: Iterable[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _parameters(result: Result) -> list[Entity]:
    stem = f"#parameter-{result.exhibit.id}-{result.profile}"
    values = changed(result.exhibit, result.parameters).items()
    return [_entity(f"{stem}-{name}", "PropertyValue", name=name, value=value) for name, value in values]


def _files(result: Result, where: Where) -> Iterable[Entity]:
    of_parts = {result.file(part, s): part for part in result.parts for s in ("csv", "svg", "json")}
    for path in filter(where, result.files):
        content, part = path.read_bytes(), of_parts.get(path)  # the executed notebook belongs to no part
        about = {"name": path.name, "encodingFormat": KINDS[path.suffix], "contentSize": str(len(content))}
        about |= {"sha256": hashlib.sha256(content).hexdigest()}
        about |= {"description": part["alt"] or part["caption"]} if part else {}
        yield _entity(where(path), "File", **about)


def _action(result: Result, where: Where) -> Entity:
    used = [*map(_input, result.inputs), *_parameters(result)]
    exhibit, commits = result.exhibit, unique(part["commit"] for part in result.parts)
    made = [{"@id": where(path)} for path in result.files if where(path)]
    return _entity(
        f"#run-{exhibit.id}-{result.profile}",
        "CreateAction",
        name=f"{exhibit.number}, {exhibit.title}: notebook {exhibit.id}, profile {result.profile}",
        description=f"Code at commit {', '.join(commits) or 'unknown'}.",
        actionStatus="http://schema.org/CompletedActionStatus",
        startTime=_time(result.finished - result.seconds),
        endTime=_time(result.finished),
        agent={"@id": "#authors"},
        instrument=[{"@id": f"#notebook-{exhibit.id}"}, {"@id": "#steerkit"}],
        object=_ids({entity["@id"]: entity for entity in used}.values()),
        result=made[0] if len(made) == 1 else made,
    )


def _inputs(results: list[Result]) -> Iterable[Entity]:
    """Notebooks, weights and data sets, each once."""
    used = (each for result in results for each in result.inputs)
    entities = [_source(result.exhibit) for result in results]
    entities += map(_input, sorted(used, key=lambda each: each[0] == "data"))  # weights first
    return {entity["@id"]: entity for entity in entities}.values()


def _input(given: tuple[str, str, str]) -> Entity:
    kind, name, sha = given
    spec = MODELS.get(name)
    more = {"url": f"https://huggingface.co/{spec.hub_id}"} if spec and spec.hub_id else {}
    more |= {"description": f"licence: {spec.licence}"} if spec else {}
    return _entity(f"#{kind}-{sha[:16]}", "CreativeWork", name=name or kind, sha256=sha, **more)


def _source(exhibit: Exhibit) -> Entity:
    return _entity(
        f"#notebook-{exhibit.id}",
        "SoftwareSourceCode",
        name=f"notebooks/{exhibit.id}.ipynb",
        description=f"{exhibit.paper}, {exhibit.number}: {exhibit.title}",
        encodingFormat=NOTEBOOK,
        programmingLanguage={"@id": "#python"},
        version=citation()["version"],
        sha256=hashlib.sha256(exhibit.notebook.read_bytes()).hexdigest(),
    )
