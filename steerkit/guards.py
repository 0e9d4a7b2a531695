"""What an evaluation or an extraction refuses before it starts, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from steerkit.errors import SteerkitError
from steerkit.trust import ENGINES

if TYPE_CHECKING:
    import torch

    from steerkit.model import Model
    from steerkit.prompts import Example
    from steerkit.vectors import Vectors


def check_examples(examples: Sequence[Example]) -> None:
    """Raise when there are none."""
    if not examples:
        raise SteerkitError(
            "at least one example", "none", next_step="check the split and the limits on items."
        )


def check_layers(model: Model, layers: Sequence[int]) -> None:
    """Raise for no layers, repeated ones, and ones the model lacks."""
    last = model.sites.n_layers - 1
    for layer in layers:
        if not 0 <= layer <= last:
            raise SteerkitError(
                f"a layer from 0 to {last} of {model.name}", f"layer {layer}", next_step="choose one of them."
            )
    if not layers or len(set(layers)) < len(layers):
        raise SteerkitError(
            "different layers, at least one", f"{list(layers)}", next_step="list each layer once."
        )


def check_grid(
    model: Model, vectors: Vectors, layers: Sequence[int], multipliers: Sequence[float], engine: str
) -> None:
    """Raise for an unknown engine, repeated multipliers, vectors of another model, and layers without a vector."""
    if engine not in ENGINES:
        raise SteerkitError(
            f"an engine ({', '.join(ENGINES)})", repr(engine), next_step="choose one of these."
        )
    if len(set(multipliers)) < len(multipliers) or not multipliers:
        raise SteerkitError(
            "different multipliers, at least one",
            f"{list(multipliers)}",
            next_step="list each multiplier once.",
        )
    if vectors.width != model.width:
        raise SteerkitError(
            f"vectors of width {model.width}, the residual stream of {model.name}",
            f"width {vectors.width}",
            next_step="extract the vectors with this model.",
        )
    check_layers(model, layers)
    for layer in layers:
        vectors.at(layer)


def check_names(vectors: Vectors, named: Mapping[str, object] | Iterable[str]) -> None:
    """Raise for names that no vector has."""
    unknown = sorted(set(named) - set(vectors.names))
    if unknown:
        raise SteerkitError(
            f"names of vectors ({', '.join(vectors.names)})",
            ", ".join(unknown),
            next_step="check the spelling.",
        )


def check_finite(values: torch.Tensor, examples: Sequence[Example]) -> None:
    """Raise for the first example with a score that is NaN or infinite."""
    broken = ~values.isfinite().flatten(1).all(1)
    if bool(broken.any()):
        raise SteerkitError(
            "finite scores",
            f"NaN or infinity for example {examples[int(broken.nonzero()[0])].id}",
            next_step="use a smaller multiplier, or float32 instead of half precision.",
        )
