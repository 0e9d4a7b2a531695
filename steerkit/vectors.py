"""Steering vectors: named directions in the residual stream, kept as safetensors with their manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerkit.errors import NOT_READ, SteerkitError, need, one_of, told
from steerkit.files import write_atomically

if TYPE_CHECKING:
    import torch

SHORTEST, LONGEST = 1e-18, 1e18  # norms: their squares are numbers of float32
APART = 64  # roundings that two multipliers are apart; in half precision 2% of them, which is a few


@dataclass(frozen=True)
class Vectors:
    """Steering vectors of one model."""

    names: tuple[str, ...]  # one a vector, e.g. "full" or "resample-03"
    layers: tuple[int, ...]  # 0-based blocks; the vector of layer l is added to the output of block l
    values: torch.Tensor  # float32 [v, l, d]
    manifest: dict[str, Any] = field(default_factory=dict)  # where they come from (model, data, split, ...)

    def __post_init__(self) -> None:
        v, layers = len(self.names), len(self.layers)
        fits = self.values.ndim == 3 and tuple(self.values.shape[:2]) == (v, layers)
        expected = f"values of shape [{v} vectors, {layers} layers, d]"
        need(fits, expected, f"{list(self.values.shape)}", "give one row a name and one column a layer.")
        mend = "extract the vector again; half precision overflows first at late layers."
        for row, column in (~self.values.isfinite()).any(-1).nonzero().tolist():
            found = f"NaN or infinity in {self.names[row]!r} at layer {self.layers[column]}"
            raise SteerkitError("finite numbers in every vector", found, next_step=mend)
        norms = self.values.double().norm(dim=-1)
        odd = ((norms < SHORTEST) & (norms > 0)) | (norms > LONGEST)
        expected, mend = f"a norm from {SHORTEST:g} to {LONGEST:g}, or zero", "rescale the vector."
        for row, column in odd.nonzero().tolist():
            found = f"{norms[row, column]:.2g} for {self.names[row]!r} at layer {self.layers[column]}"
            raise SteerkitError(expected, found, next_step=mend)

    @property
    def width(self) -> int:
        """d, the model width the vectors belong to."""
        return self.values.shape[-1]

    def at(self, layer: int) -> torch.Tensor:
        """All vectors of one layer, [v, d]."""
        known = f"a layer these vectors have ({_span(self.layers)})"
        next_step = "choose one of them, or extract vectors for this layer."
        need(layer in self.layers, known, f"layer {layer}", next_step)
        return self.values[:, self.layers.index(layer)]

    def select(self, names: list[str] | None = None, layers: list[int] | None = None) -> Vectors:
        """The same vectors, fewer of them."""
        names, layers = list(names or self.names), list(layers or self.layers)
        for name in names:
            one_of("a vector of these", name, self.names, "choose one of them.")
        for layer in layers:
            self.at(layer)
        rows, columns = map(self.names.index, names), map(self.layers.index, layers)
        values = self.values[list(rows)][:, list(columns)]
        return Vectors(tuple(names), tuple(layers), values, self.manifest)

    def save(self, path: Path | str) -> None:
        """Write a safetensors file with names, layers and manifest in its metadata; atomic.

        A path that ends in .gguf gets a control vector of llama.cpp instead, of one vector: see `steerkit.gguf`.
        """
        one_of("a file that ends in", Path(path).suffix, (".safetensors", ".gguf"), "rename it.")
        if Path(path).suffix == ".gguf":
            from steerkit.gguf import control_vector

            write_atomically(Path(path), control_vector(self))
            return
        from safetensors.torch import save

        about = {name: json.dumps(getattr(self, name)) for name in ("names", "layers", "manifest")}
        write_atomically(Path(path), save({"values": self.values.contiguous()}, metadata=about))


def load_vectors(path: Path | str) -> Vectors:
    """Read vectors written by `Vectors.save`; a file that holds anything else is refused."""
    from safetensors import SafetensorError, safe_open

    found, step = (
        "a control vector of llama.cpp, which is written only",
        "load the .safetensors it was made of.",
    )
    need(Path(path).suffix != ".gguf", f"steering vectors of steerkit in {path}", found, step, NOT_READ)
    kinds = (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError)
    expected, mend = f"steering vectors written by steerkit in {path}", "write them with `steerkit extract`."
    with told(kinds, expected, mend, NOT_READ):
        with safe_open(str(path), framework="pt") as file:
            about, values = file.metadata() or {}, file.get_tensor("values")
        names, layers, manifest = (json.loads(about[name]) for name in ("names", "layers", "manifest"))
        if not _sound(names, layers, values, manifest):
            raise TypeError("names, layers or numbers of another kind")
    return Vectors(tuple(names), tuple(layers), values.float(), manifest)


def _sound(names: Any, layers: Any, values: torch.Tensor, manifest: Any) -> bool:
    """Whether what a file says has the types of `Vectors`, and each name and layer once."""
    lists = all(isinstance(each, list) and each for each in (names, layers))
    named = all(isinstance(name, str) for name in names) if lists else False
    if not (named and all(type(layer) is int for layer in layers)):
        return False
    once = len({*names}) == len(names) and len({*layers}) == len(layers) and min(layers) >= 0
    told = isinstance(manifest, dict) and isinstance(manifest.get("inputs", {}), dict)
    return once and told and values.is_floating_point()


def check_multipliers(vectors: Vectors, multipliers: Sequence[float], dtype: torch.dtype) -> None:
    """Refuse multipliers that overflow the precision (a norm squares what is added: past the root of the largest number
    every score is the same, finite and wrong), or that are roundings apart: a slope is then rounding divided by
    rounding."""
    import torch

    listed = ", ".join(f"{multiplier:g}" for multiplier in multipliers)
    need(all(map(math.isfinite, multipliers)), "finite multipliers", listed, "leave the others out.")
    info, most = torch.finfo(dtype), max(map(abs, multipliers), default=0.0)
    limit = info.max**0.5 if dtype != torch.float16 else info.max  # its norms are computed in float32
    reach, name = most * float(vectors.values.double().norm(dim=-1).max()), str(dtype).removeprefix("torch.")
    expected = f"multipliers that move activations by at most {limit:.2g}, what {name} can square"
    need(reach <= limit, expected, f"{reach:.2g} with multiplier {most:g}", "use smaller multipliers.")
    small = min(most, reach or most)
    expected = f"multipliers that move activations by at least {SHORTEST:g}, or 0"
    found = f"{reach:.2g} with multiplier {most:g}"
    need(not 0 < small < SHORTEST, expected, found, "use larger multipliers.")
    least = most * min(APART * info.eps, 0.02)
    for one, other in pairwise(sorted(multipliers)):
        expected = f"multipliers at least {least:.2g} apart in {name}"
        need(other - one >= least, expected, f"{one:.9g} and {other:.9g}", "use multipliers farther apart.")


def check_same_layers(one: Vectors, other: Vectors) -> None:
    """Raise when two sets of vectors are not over the same layers."""
    found = f"layers {_span(one.layers)} and {_span(other.layers)}"
    mend = "select the same layers of both."
    need(one.layers == other.layers, "vectors over the same layers", found, mend)


def norm_matched_random(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Isotropic directions "random-00".. with the norms of the first vector: what the norm alone does to a model.

    They leave the directions in which activations vary, and so damage the text more than a vector of activations does;
    what a label is worth is asked of `steerkit.extraction.shuffled`.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *vectors.values.shape[1:], generator=generator)
    names = tuple(f"random-{i:02d}" for i in range(count))
    return scaled(Vectors(names, vectors.layers, noise, vectors.manifest), vectors)


def scaled(vectors: Vectors, reference: Vectors) -> Vectors:
    """Each vector with the L2 norm that the first vector of `reference` has at the same layer."""
    check_same_layers(vectors, reference)
    norms = reference.values[:1].norm(dim=-1, keepdim=True)
    own = vectors.values.norm(dim=-1, keepdim=True)
    values = vectors.values / own.where(own > 0, 1) * norms  # zero has no direction and stays zero
    return Vectors(vectors.names, vectors.layers, values, vectors.manifest)


def concatenate(*parts: Vectors) -> Vectors:
    """Vectors over the same layers as one set."""
    import torch

    for part in parts:
        check_same_layers(part, parts[0])
    names = tuple(name for part in parts for name in part.names)
    return Vectors(names, parts[0].layers, torch.cat([part.values for part in parts]), parts[0].manifest)


def _span(layers: tuple[int, ...]) -> str:
    contiguous = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]} to {layers[-1]}" if contiguous else ", ".join(map(str, layers))
