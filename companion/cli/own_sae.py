"""A user's own vector and autoencoder: what `steerkit decompose` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerkit.errors import SteerkitError

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from steerkit.vectors import Vectors


def decompose_vector(
    vector: Path,
    sae: str,
    method: str,
    features: int = 64,
    layer: int | None = None,
    *,
    name: str = "",
    norm: float | None = None,
    data: str = "",
    source: str = "bundled",
) -> pd.DataFrame:
    """Write a steering vector as a sum of the decoder directions of an autoencoder.

    Parameters
    ----------
    vector : a file of `steerkit extract`
    sae : a name of `companion.saes.SAES`, a params.npz or a SAELens folder
    method : one of `companion.mayne.solvers.METHODS`
    features : most directions
    layer : which layer of the file; None: the autoencoder's
    name : which vector of the file; empty: the first
    norm : for encode-scaled, the usual norm of activations
    data, source : for encode-difference, the data set whose pairs are read again with the model of the vector's
        manifest

    Returns
    -------
    DataFrame
        feature, coefficient, rank; `attrs`: method, explained, residual_norm, layer, vector, sae.

    Raises
    ------
    SteerkitError
        A vector of another width, layer or name, of zeros or with NaN; an unknown autoencoder or method; more features
        than there are; a method without what it needs.
    """
    from companion.mayne.solvers import METHODS
    from companion.saes import open_sae
    from steerkit.decomposition import decompose
    from steerkit.vectors import load_vectors

    if method not in METHODS:
        raise SteerkitError(
            f"a method among {', '.join(METHODS)}", repr(method), next_step="choose one of these."
        )
    vectors = load_vectors(vector)
    opened = open_sae(sae, vectors.width, layer)
    chosen = _layer(vectors, opened.layer if layer is None else layer, vector)
    one = _named(vectors, name)
    about: dict[str, Any] = {"target_norm": norm}
    if method == "encode-difference":
        about |= _pairs(vectors, chosen, data, source)
    if method == "encode-scaled" and norm is None:
        raise SteerkitError(
            "the usual norm of activations for encode-scaled",
            "none",
            done="Nothing was computed.",
            next_step="give it as --norm; the notebook mayne-fig-1 shows it.",
        )
    table = decompose(vectors.at(chosen)[one], opened, method, features, **about)
    table.attrs |= {"layer": chosen, "vector": vectors.names[one], "sae": opened.source or sae}
    return table


def summary_of(table: pd.DataFrame) -> str:
    """One line about a decomposition."""
    about = table.attrs
    return (
        f"{about['method']}: {len(table)} features explain {about['explained']:.4f} of the squared norm of "
        f"{about['vector']!r} at layer {about['layer']}; residual norm {about['residual_norm']:.4g}."
    )


def write_table(table: pd.DataFrame, out: Path) -> None:
    """The table as CSV, whole or not at all."""
    from steerkit.files import write_atomically

    write_atomically(out, table.to_csv(index=False).encode())


def _layer(vectors: Vectors, layer: int | None, path: Path) -> int:
    """The layer to take, which the file must have; only one that has a single layer needs no number."""
    if layer is None and len(vectors.layers) == 1:
        return vectors.layers[0]
    if layer is None:
        raise SteerkitError(
            f"a layer of {path.name} ({', '.join(map(str, vectors.layers))})",
            "none, and the autoencoder does not say which it reads",
            done="Nothing was computed.",
            next_step="give it as --layer.",
        )
    vectors.at(layer)  # says which layers there are
    return layer


def _named(vectors: Vectors, name: str) -> int:
    if name and name not in vectors.names:
        raise SteerkitError(
            f"a vector of this file ({', '.join(vectors.names)})", repr(name), next_step="choose one of them."
        )
    return vectors.names.index(name) if name else 0


def _pairs(vectors: Vectors, layer: int, data: str, source: str) -> dict[str, torch.Tensor]:
    """Activations of the training pairs of a data set, read with the model that the vector's manifest names."""
    import torch

    from companion.cli.own_data import parts
    from companion.data.datasets import load_dataset
    from companion.mayne.runs import answer_activations, picked
    from companion.models import load_model
    from companion.tan.jobs import examples_of
    from steerkit.prompts import Prompter

    about = vectors.manifest.get("inputs", {})
    if not data or not {"model", "format"} <= set(about):
        raise SteerkitError(
            "the data set of the vector's pairs for encode-difference, and a vector whose manifest names its model",
            "no data set" if not data else "no such manifest",
            done="Nothing was computed.",
            next_step="give it as --data, with a vector of `steerkit extract`.",
        )
    seed, form = about.get("seed", 0), about["format"]
    dataset, model = load_dataset(data, source=source), load_model(about["model"])
    train, _ = parts(dataset, about.get("split", "clean"), seed)
    asked = Prompter(model.tokenizer, model.template)
    found = answer_activations(model, examples_of(asked, dataset, train, form, seed), layer)
    sides = ("positive", "negative")
    return {side: torch.cat([picked(each[side], form) for each in found]) for side in sides}
