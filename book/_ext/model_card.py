"""The steering vectors behind the main figures as files anybody can load, with a card that says what they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from _ext.markdown import code
from companion import store as artifacts
from companion.registry import MODELS
from companion.results import Result
from steerkit.vectors import Vectors, load_vectors

MAIN = ("tan-fig-1", "ext-formats")  # they show every main grid; others vary it, to show what a flaw does


@dataclass(frozen=True)
class Kept:
    """The vectors of one data set in one answer format, at the layer that was steered."""

    source: Path  # the artefact
    model: str
    dataset: str
    format: str
    layer: int
    licence: str

    @property
    def name(self) -> str:
        """Path in the collection."""
        return f"{self.model}/{self.format}/{self.dataset}.safetensors"

    @property
    def vectors(self) -> Vectors:
        """Read from the artefact."""
        return load_vectors(self.source)


def vectors_of(results: Iterable[Result]) -> list[Kept]:
    """Vectors of the main grids, those of the book's own profile first where two profiles steer the same model.

    Those that are not in this machine's store, because a figure was read from a record, are left out.
    """
    shown = [result for result in results if result.exhibit.id in MAIN]
    names = dict.fromkeys(name for result in shown for part in result.parts for name in part["artefacts"])
    found: dict[str, Kept] = {}
    for manifest in filter(None, map(_manifest, names)):
        kept = _kept(manifest)
        if kept:
            found.setdefault(kept.name, kept)
    return [found[name] for name in sorted(found)]


def _manifest(name: str) -> dict[str, Any] | None:
    """The manifest of a table of the store, read without its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not name.startswith("grid-"):
        return None
    try:
        about = pq.read_schema(artifacts.artifacts_dir() / f"{name}.parquet").metadata or {}
        return json.loads(about[artifacts.MANIFEST])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def _kept(manifest: dict[str, Any]) -> Kept | None:
    """The vectors that a grid was computed with (see `companion.tan.jobs.vectors_of`)."""
    inputs = manifest["inputs"]
    layers = {"layers": [inputs["layer"]]}
    source = artifacts.path_of(f"vectors-{manifest['name']}", inputs | layers, "safetensors")
    spec = MODELS.get(inputs["model"])
    licence = spec.licence if spec else "see the model card"
    kept = Kept(source, Path(inputs["model"]).name, Path(inputs["dataset"]).stem, inputs["format"], inputs["layer"], licence)  # fmt: skip
    return kept if source.exists() else None


def table(kept: list[Kept]) -> pd.DataFrame:
    """One row a file: model, format, data set, layer, norm of the vector, how many more are in the file."""
    rows = []
    for each in kept:
        found = each.vectors
        rows.append(
            {
                "file": each.name,
                "model": each.model,
                "format": each.format,
                "data set": each.dataset,
                "layer": each.layer,
                "norm": f"{float(found.at(each.layer)[found.names.index('full')].norm()):.3g}",
                "also": f"{len(found.names) - 1} resampled or random",
            }
        )
    return pd.DataFrame(rows)


def card(kept: list[Kept]) -> str:
    """README.md of the collection, in the form of a model card."""
    models = list(dict.fromkeys(each.model for each in kept))
    rows = table(kept)
    lines = ["| " + " | ".join(row) + " |" for row in rows.astype(str).itertuples(index=False)]
    head = "| " + " | ".join(rows.columns) + " |\n|" + "---|" * len(rows.columns)
    return "\n\n".join(
        [
            _front_matter(models) + "# Steering vectors",
            "**What.** Directions in the residual stream of a language model. Added to the output of one block (0-based), "
            "times a multiplier, such a vector moves the model's answers towards a behaviour.",
            "**How.** Mean difference of activations at the answers that show the behaviour and at those that do not, over "
            "the training pairs of one data set. `full` is the vector; `resample-NN` are the same from training pairs "
            "drawn again, for intervals; `random-NN` are random directions of the same norm, a placebo. The metadata of "
            "each file hold its manifest: model, weights and data by hash, split, format, seed, code.",
            "**Limits.** They were made to reproduce a paper's measurements: in many data sets they steer a share of the "
            "examples the wrong way, and they are no means of making a model safe.",
            "**Licence.** "
            + " ".join(_licence(name) for name in models)
            + " The bundled data sets are CC0; files of "
            "the papers' data have the licences that `companion/data/sources.json` names.",
            "**Use.** The file holds one float32 tensor `values` [vector, layer, width]; names and layers are in its metadata.",
            code(*_example(kept[0]), language="python"),
            head + "\n" + "\n".join(lines),
        ]
    )


def _front_matter(models: list[str]) -> str:
    """What a model hub reads; only where it is one model of the registry that a hub has."""
    spec = MODELS.get(models[0])
    if len(models) != 1 or spec is None or spec.hub_id is None:
        return ""
    lines = ["---", f"license: {spec.licence.lower()}", f"base_model: {spec.hub_id}", "tags: [steering-vectors]", "---", "", ""]  # fmt: skip
    return "\n".join(lines)


def _licence(model: str) -> str:
    spec = MODELS.get(model)
    if spec is None:
        return f"Vectors of {model}: see the licence of that model."
    notice = f" {spec.terms.notice}." if spec.terms else ""
    return f"Vectors of {model} ({spec.hub_id or 'built in code'}) are derived from weights under {spec.licence}.{notice}"


def _example(kept: Kept) -> list[str]:
    return [
        "import steerkit as sk",
        "",
        f'vectors = sk.load_vectors("{kept.name}")',
        f'vector = vectors.select(["full"]).at({kept.layer})[0]  # [width]',
    ]
