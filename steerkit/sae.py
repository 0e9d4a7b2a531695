"""Sparse autoencoders (SAEs), thin and exact: four arrays, two biases, one activation.

    pre(x) = (x - s * b_dec) @ W_enc + b_enc      s: whether the file's convention subtracts the decoder bias
    f(x)   = activation(pre(x))                   relu, jumprelu, topk or batchtopk
    x_hat  = f(x) @ W_dec + b_dec

Gemma Scope does not subtract (s = 0), SAELens does unless its file says otherwise; the two differ by the constant
`b_dec @ W_enc`, so f(0) tells them apart. Letters: d the width of the model, f the number of features.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steerkit.errors import SteerkitError
from steerkit.sae_files import locate, read_folder, read_npz, write_folder

KINDS = ("relu", "jumprelu", "topk", "batchtopk")
# TransformerLens' names of the residual stream between blocks, or the bare path of a block in transformers.
_BLOCK_OUTPUT = re.compile(r"hook_resid_(?:pre|post)$|(?:layers|h)\.\d+$")


@dataclass(frozen=True, eq=False)
class Sae:
    """One sparse autoencoder, in float32.

    Attributes
    ----------
    W_enc : [d, f]; its columns are the encoder directions
    b_enc : [f]
    W_dec : [f, d]; its rows are the decoder directions, as the file has them (not always of unit norm)
    b_dec : [d]
    kind : one of `KINDS`
    subtract_decoder_bias : the encode convention, s above
    threshold : [f], for jumprelu and for a batchtopk that was trained to the end
    k : active features per token, for topk and batchtopk
    layer : 0-based block whose output is read (hook_resid_pre of block l reads block l - 1); None: the file is silent
    hook : the site's name in the file, e.g. "blocks.14.hook_resid_post"; empty: the file is silent
    model, source, sha256 : which model, which release, and the hash of the weights file
    """

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    W_dec: torch.Tensor
    b_dec: torch.Tensor
    kind: str
    subtract_decoder_bias: bool
    threshold: torch.Tensor | None = None
    k: float | None = None
    layer: int | None = None
    hook: str = ""
    model: str = ""
    source: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SteerkitError(
                f"an activation among {', '.join(KINDS)}", repr(self.kind), next_step="choose one of these."
            )
        _check_shapes(self)
        _check_finite(self)
        _check_sparsity(self)

    @property
    def width(self) -> int:
        """d, the width of the model."""
        return self.W_enc.shape[0]

    @property
    def n_features(self) -> int:
        """f, the number of features."""
        return self.W_enc.shape[1]

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """What the activation gets, [..., d] -> [..., f].

        Raises
        ------
        SteerkitError
            When x is of another width.
        """
        check_fits(self, width=x.shape[-1])
        x = x.to(self.W_enc)
        return (x - self.b_dec if self.subtract_decoder_bias else x) @ self.W_enc + self.b_enc

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Feature activations f(x), [..., d] -> [..., f]; see `activate`."""
        return activate(self, self.pre_activations(x))

    def decode(self, features: torch.Tensor) -> torch.Tensor:
        """Reconstruction with the decoder bias, [..., f] -> [..., d]."""
        return features.to(self.W_dec) @ self.W_dec + self.b_dec

    def about(self) -> dict[str, Any]:
        """What decides the numbers, for manifests and artefact keys."""
        names = ("kind", "subtract_decoder_bias", "k", "layer", "hook", "model", "source", "sha256")
        found = {name: getattr(self, name) for name in names}
        return found | {"width": self.width, "n_features": self.n_features}


def activate(sae: Sae, pre: torch.Tensor) -> torch.Tensor:
    """Feature activations from pre-activations [..., f].

    relu: max(pre, 0). jumprelu: that, and 0 unless pre > threshold. topk: the k largest of each row, then relu.
    batchtopk: jumprelu with the threshold learned in training, which is how such an autoencoder is used on single
    inputs; without one, the k * n largest of the n rows together, as in training, so that rows depend on each other.
    """
    if sae.kind == "topk":
        values, indices = pre.topk(int(sae.k), dim=-1)
        return torch.zeros_like(pre).scatter_(-1, indices, values.relu())
    active = pre.relu()
    if sae.threshold is not None:
        return active.mul_(pre > sae.threshold)
    if sae.kind == "batchtopk":
        flat = active.flatten()
        values, indices = flat.topk(int(sae.k * pre.shape[:-1].numel()))
        return torch.zeros_like(flat).scatter_(0, indices, values).reshape(pre.shape)
    return active


def load_sae(
    path: Path | str,
    *,
    expect_width: int | None = None,
    expect_layer: int | None = None,
    sha256: str | None = None,
) -> Sae:
    """Read an autoencoder from a Gemma Scope npz file or from a SAELens folder.

    Parameters
    ----------
    path : Path or str
        `params.npz` or the folder with it; or a folder with `cfg.json` and `sae_weights.safetensors`.
    expect_width, expect_layer : int, optional
        Width of the model and block of the vector it is meant for. A file that does not say its layer is taken at the
        caller's word.
    sha256 : str, optional
        What the weights file should hash to; compared before anything in it is interpreted.

    Notes
    -----
    Everything is float32 afterwards, whatever the file or its cfg.json says. Arrays come one by one, so that the peak
    stays near the size of the weights. Nothing is ever unpickled.

    Raises
    ------
    SteerkitError
        A missing or damaged file, a wrong hash, a missing array, an architecture or a setting that would be read
        wrongly, another width or layer than expected.
    """
    weights = locate(Path(path))
    digest = _hash(weights, sha256)
    fields = read_npz(weights) if weights.suffix == ".npz" else read_folder(weights.parent)
    if fields["layer"] is None:
        fields["layer"] = expect_layer
    sae = Sae(**fields, sha256=digest)
    check_fits(sae, expect_width, expect_layer)
    return sae


def save_sae(sae: Sae, folder: Path | str) -> None:
    """Write a SAELens folder (`cfg.json`, `sae_weights.safetensors`) that sae-lens 6 and `load_sae` open.

    A batchtopk autoencoder is written as the jumprelu one that it is at inference.

    Raises
    ------
    SteerkitError
        For batchtopk without a threshold, which SAELens opens for training only; or when the folder cannot be written.
    """
    if sae.kind == "batchtopk" and sae.threshold is None:
        raise SteerkitError(
            "an activation that needs no batch",
            "batchtopk without a threshold",
            next_step="give it its threshold.",
        )
    write_folder(Path(folder), sae)


def check_fits(sae: Sae, width: int | None = None, layer: int | None = None) -> None:
    """Raise unless the autoencoder reads the residual stream of this width after this block; None is not checked."""
    if width not in (None, sae.width):
        raise SteerkitError(
            f"inputs of width {sae.width}, which this autoencoder reads ({sae.source or sae.kind})",
            f"width {width}",
            next_step="take the autoencoder of the model that the vector belongs to.",
        )
    if layer is None:
        return
    if sae.layer != layer or not (sae.hook == "" or _BLOCK_OUTPUT.search(sae.hook)):
        raise SteerkitError(
            f"an autoencoder of the residual stream after block {layer}",
            f"one of {sae.hook or 'block'} (block {sae.layer})",
            next_step="take the autoencoder of the vector's layer, or the vector of the autoencoder's layer.",
        )


def _check_shapes(sae: Sae) -> None:
    d, f = sae.W_enc.shape if sae.W_enc.ndim == 2 else (0, 0)
    expected = {"W_enc": (d, f), "b_enc": (f,), "W_dec": (f, d), "b_dec": (d,), "threshold": (f,)}
    for name, shape in expected.items():
        array = getattr(sae, name)
        if array is not None and tuple(array.shape) != shape:
            raise SteerkitError(
                f"{name} of shape {list(shape)} beside W_enc of shape {list(sae.W_enc.shape)}",
                f"{list(array.shape)}",
                next_step="W_enc is [d, f] and W_dec [f, d]; check whether one was stored transposed.",
            )


def _check_finite(sae: Sae) -> None:
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        array = getattr(sae, name)
        # The extremes carry NaN and infinity and need no array of the size of the weights, as isfinite would.
        if array is not None and array.numel() and not all(end.isfinite() for end in array.aminmax()):
            raise SteerkitError(
                f"finite numbers in {name}", "NaN or infinity", next_step="fetch the file again."
            )


def _check_sparsity(sae: Sae) -> None:
    if sae.kind == "jumprelu" and sae.threshold is None:
        raise SteerkitError("a threshold for jumprelu", "none", next_step="fetch the complete file.")
    needs_k = sae.kind == "topk" or (sae.kind == "batchtopk" and sae.threshold is None)
    if needs_k and not (isinstance(sae.k, int | float) and 1 <= sae.k <= sae.n_features):
        raise SteerkitError(
            f"k between 1 and {sae.n_features} for {sae.kind}", repr(sae.k), next_step="look into cfg.json."
        )


def _hash(path: Path, expected: str | None) -> str:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SteerkitError(
            f"an autoencoder in {path}",
            str(error.strerror),
            done="Nothing was read.",
            next_step="give the path of a params.npz or of a folder with cfg.json and sae_weights.safetensors.",
        ) from error
    if expected is not None and found != expected.lower():
        raise SteerkitError(
            f"sha256 {expected} of {path.name}",
            found,
            done="Nothing was read.",
            next_step="fetch the file again; the download was cut short, or the release has changed.",
        )
    return found
