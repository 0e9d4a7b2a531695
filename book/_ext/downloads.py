"""Everything the book was made of, to take away: file by file, and as one archive."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pandas as pd

from _ext import crate, model_card
from _ext.commands import steerkit_run
from _ext.markdown import table_of_markdown
from _ext.model_card import Kept
from _ext.provenance import unique
from companion import store as artifacts
from companion.results import Result

ARCHIVE = "steering-companion-results.zip"
CARD = "vectors/README.md"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the time of every entry: the same results give the same archive


def write(results: list[Result], generated: Path) -> str:
    """Write the archive, the vectors and their card below `generated`; returns the page that links to them."""
    kept = model_card.vectors_of(results)
    for each in kept:
        artifacts.write_atomically(generated / "vectors" / each.name, each.source.read_bytes())
    content = archive(results, kept)
    artifacts.write_atomically(generated / "downloads" / ARCHIVE, content)
    size = f"{len(content) / 1e6:.1f} MB"
    return "\n\n".join(
        [
            f"## All of it\n\n{{download}}`{ARCHIVE} </generated/downloads/{ARCHIVE}>` ({size}): data, vector graphics and "
            "manifests of every figure and table, the executed notebooks, the steering vectors with their model card, and "
            f"RO-Crate metadata that describe it all. SHA-256 `{hashlib.sha256(content).hexdigest()}`.",
            f"## Steering vectors\n\n{_vectors(kept)}",
            "## Figure by figure",
            table_of_markdown(pd.DataFrame([_row(result) for result in results])),
        ]
    )


def archive(results: list[Result], kept: list[Kept]) -> bytes:
    """The archive's bytes: the same for the same results."""
    names = {path: in_archive(path, result) for result in results for path in result.files}
    files = {name: path.read_bytes() for path, name in names.items()}
    files[crate.NAME] = json.dumps(crate.crate(results, names.__getitem__), indent=1).encode()
    files |= {f"vectors/{each.name}": each.source.read_bytes() for each in kept}
    if kept:
        files[CARD] = model_card.card(kept).encode()
    return _zipped(files)


def in_archive(path: Path, result: Result) -> str:
    """Where a result's file is in the archive."""
    return f"{'notebooks' if path.suffix == '.ipynb' else 'results'}/{result.profile}/{path.name}"


def in_site(path: Path, result: Result) -> str | None:
    """Where Sphinx puts a file: a page's source among the sources, a download in a folder named by its address's MD5."""
    if path == result.notebook:
        return f"_sources/notebooks/{path.name}"
    if path.suffix not in offered(result):
        return None
    address = f"{result.address.removeprefix('/')}/{path.name}"
    return f"_downloads/{hashlib.md5(address.encode(), usedforsecurity=False).hexdigest()}/{path.name}"


def offered(result: Result) -> tuple[str, ...]:
    """Kinds of files that pages offer one by one: of another profile the manifest; the rest is in the archive.

    Vector graphics are in the archive only: one by one they would be a fifth of the site.
    """
    return (".csv", ".json") if result.is_own else (".json",)


def site_metadata(results: list[Result]) -> bytes:
    """RO-Crate metadata of the built site."""
    names = {path: in_site(path, result) for result in results for path in result.files}
    return json.dumps(crate.crate(results, names.__getitem__), indent=1).encode()


def _zipped(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            target.writestr(entry, files[name])
    return sink.getvalue()


def _vectors(kept: list[Kept]) -> str:
    if not kept:
        return "The store of this machine holds none of the vectors; `steerkit reproduce` computes them."
    rows = model_card.table(kept)
    rows["file"] = [f"{{download}}`safetensors </generated/vectors/{each.name}>`" for each in kept]
    models = ", ".join(unique(rows["model"]))
    about = (
        f"Directions of {models}, one file a data set and answer format: the vector named `full`, resampled ones for "
        "intervals, random ones of the same norm as a placebo. The archive has the model card: how they were made, what "
        "they are not, licences, and how to load them."
    )
    return f"{about}\n\n{table_of_markdown(rows)}"


def _row(result: Result) -> dict[str, str]:
    def link(path: Path, text: str) -> str:
        return f"{{download}}`{text} <{result.address}/{path.name}>`"

    def links(suffix: str) -> str:
        if suffix not in offered(result):
            return "in the archive"
        files = [(part["part"], result.file(part, suffix[1:])) for part in result.parts]
        return " ".join(link(path, name) for name, path in files if path.exists())

    return {
        "what": f"{result.exhibit.paper}, {result.exhibit.number}: {result.exhibit.title}",
        "profile": result.profile,
        "data (CSV)": links(".csv"),
        "graphics (SVG)": links(".svg"),
        "manifests (JSON)": links(".json"),
        "notebook": _notebook(result),
    }


def _notebook(result: Result) -> str:
    """The executed notebook; those of the book's own profile are in the site already, as sources of its pages."""
    if not result.is_own:
        return f"`{steerkit_run(result.exhibit, result.parameters)}`"
    return f'<a href="../{in_site(result.notebook, result)}" download>{result.exhibit.id}</a>'
