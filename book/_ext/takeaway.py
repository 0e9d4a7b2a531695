"""What a reader takes away: files one by one, all of it as one archive, the vectors with their card."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pandas as pd

from _ext import crate
from _ext.markdown import plain, table_of_markdown
from _ext.pages import link, offered, steerkit_run, unique
from companion import store
from companion.models import MODELS
from companion.results import Result
from steerkit.files import artifacts_dir
from steerkit.vectors import load_vectors

ARCHIVE, CARD = "steering-companion-results.zip", "vectors/README.md"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the time of every entry: the same results give the same archive
MAIN = ("tan-fig-1", "ext-formats")  # they show every main grid; others vary it, to show what a flaw does


def write(results: list[Result], generated: Path) -> str:
    """Write the archive, the vectors and their card below `generated`; returns the page that links to them."""
    kept = vectors_of(results)
    for each in kept:
        store.write_atomically(generated / "vectors" / each.name, each.source.read_bytes())
    content = archive(results, kept)
    store.write_atomically(generated / "downloads" / ARCHIVE, content)
    vectors = "The store of this machine holds none of the vectors; `steerkit reproduce` computes them."
    if kept:
        rows = table(kept)
        rows["file"] = [f"{{download}}`safetensors </generated/vectors/{each.name}>`" for each in kept]
        vectors = (
            f"Directions of {', '.join(unique(rows['model']))}, one file a data set and answer format. The archive "
            "has the model card: how they were made, what they are not, licences, and how to load them."
            f"\n\n{table_of_markdown(rows)}"
        )
    return "\n\n".join(
        [
            f"## All of it\n\n{{download}}`{ARCHIVE} </generated/downloads/{ARCHIVE}>` ({len(content) / 1e6:.1f} MB): data, "
            "vector graphics and manifests of every figure and table, the executed notebooks, the steering vectors with "
            "their model card, and RO-Crate metadata that describe it all. "
            f"SHA-256 `{hashlib.sha256(content).hexdigest()}`.",
            f"## Steering vectors\n\n{vectors}",
            "## Figure by figure",
            table_of_markdown(map(_row, results)),
        ]
    )


def _row(result: Result) -> dict[str, str]:
    def links(suffix: str) -> str:
        if suffix not in offered(result):
            return "in the archive"
        files = [(part["part"], result.file(part, suffix)) for part in result.parts]
        return " ".join(link(result, path, name) for name, path in files if path.exists())

    # Executed notebooks of the book's own profile are in the site already, as sources of its pages.
    notebook = f"`{steerkit_run(result.exhibit, result.parameters)}`"
    if result.is_own:
        notebook = f'<a href="../{in_site(result.notebook, result)}" download>{result.exhibit.id}</a>'
    return {
        "what": f"{result.exhibit.paper}, {result.exhibit.number}: {result.exhibit.title}",
        "profile": result.profile,
        "data (CSV)": links("csv"),
        "graphics (SVG)": links("svg"),
        "manifests (JSON)": links("json"),
        "notebook": notebook,
    }


def archive(results: list[Result], kept: list[Kept]) -> bytes:
    """The archive's bytes: the same for the same results."""
    files = {in_archive(path, result): path.read_bytes() for result in results for path in result.files}
    files |= {f"vectors/{each.name}": each.source.read_bytes() for each in kept}
    files |= {crate.NAME: metadata(results, in_archive)}
    files |= {CARD: card(kept).encode()} if kept else {}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            target.writestr(entry, files[name])
    return sink.getvalue()


def in_archive(path: Path, result: Result) -> str:
    """Where a result's file is in the archive."""
    return f"{'notebooks' if path.suffix == '.ipynb' else 'results'}/{result.profile}/{path.name}"


def in_site(path: Path, result: Result) -> str | None:
    """Where Sphinx puts a file: a page's source among the sources, a download in a folder named by its address's MD5."""
    if path == result.notebook:
        return f"_sources/notebooks/{path.name}"
    if path.suffix[1:] not in offered(result):
        return None
    address = f"{result.address.removeprefix('/')}/{path.name}"
    return f"_downloads/{hashlib.md5(address.encode(), usedforsecurity=False).hexdigest()}/{path.name}"


def metadata(results: list[Result], where: Callable[[Path, Result], str | None]) -> bytes:
    """RO-Crate metadata of the built site (`in_site`), or of the archive."""
    names = {path: where(path, result) for result in results for path in result.files}
    return json.dumps(crate.crate(results, names.__getitem__), indent=1).encode()


@dataclass(frozen=True)
class Kept:
    """The vectors of one data set in one answer format, at the layer that was steered; `source` is the artefact."""

    source: Path
    model: str
    dataset: str
    format: str
    layer: int

    @property
    def name(self) -> str:
        """Path in the collection."""
        return f"{self.model}/{self.format}/{self.dataset}.safetensors"


def vectors_of(results: Iterable[Result]) -> list[Kept]:
    """Vectors of the main grids that this machine's store holds, those of the book's own profile first."""
    parts = [part for result in results if result.exhibit.id in MAIN for part in result.parts]
    names = dict.fromkeys(name for part in parts for name in part["artefacts"])
    found: dict[str, Kept] = {}
    grids = (name for name in names if name.startswith("grid-"))
    tables = (store.read_table(artifacts_dir() / f"{name}.parquet") for name in grids)
    for manifest in (table.attrs["manifest"] for table in tables if table is not None):
        about, layer = manifest["inputs"], manifest["inputs"]["layer"]
        inputs = about | {"layers": [layer]}  # see `companion.tan.work.vectors_of`
        source = store.path_of(f"vectors-{manifest['name']}", inputs, "safetensors")
        model, dataset = Path(about["model"]).name, Path(about["dataset"]).stem
        each = Kept(source, model, dataset, about["format"], layer)
        if source.exists():
            found.setdefault(each.name, each)
    return [found[name] for name in sorted(found)]


def table(kept: list[Kept]) -> pd.DataFrame:
    """One row a file: model, format, data set, layer, norm of the vector."""
    found = [(each, load_vectors(each.source)) for each in kept]
    return pd.DataFrame(
        {
            "file": each.name,
            "model": each.model,
            "format": each.format,
            "data set": each.dataset,
            "layer": each.layer,
            "norm": f"{float(vectors.at(each.layer)[vectors.names.index('full')].norm()):.3g}",
        }
        for each, vectors in found
    )


def card(kept: list[Kept]) -> str:
    """README.md of the collection, in the form of a model card."""
    models, rows = list(dict.fromkeys(each.model for each in kept)), table(kept)
    spec = MODELS.get(models[0])
    front = ""  # what a model hub reads; only where it is one model of the registry that a hub has
    if len(models) == 1 and spec and spec.hub_id:
        front = f"---\nlicense: {spec.licence.lower()}\nbase_model: {spec.hub_id}\ntags: [steering-vectors]\n---\n\n"
    text = Template(Path(__file__).with_name("card.txt").read_text(encoding="utf-8"))
    about = {"front": front, "licences": " ".join(map(_licence, models)), "table": plain(rows.astype(str))}
    return text.substitute(about, name=kept[0].name, layer=kept[0].layer).rstrip()


def _licence(model: str) -> str:
    spec = MODELS.get(model)
    if spec is None:
        return f"Vectors of {model}: see the licence of that model."
    notice = f" {spec.terms.notice}." if spec.terms else ""
    return f"Vectors of {model} ({spec.hub_id or 'built in code'}) are derived from weights under {spec.licence}.{notice}"
