"""Sparse autoencoders (SAEs), thin and exact: four arrays, two biases, one activation.

    pre(x) = (x - s * b_dec) @ W_enc + b_enc      s: whether the file's convention subtracts the decoder bias
    f(x)   = activation(pre(x))                   relu, jumprelu, topk or batchtopk
    x_hat  = f(x) @ W_dec + b_dec

Gemma Scope does not subtract (s = 0), SAELens does unless its file says otherwise; the two differ by the constant
`b_dec @ W_enc`, so f(0) tells them apart. Letters: d the width of the model, f the number of features.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steerkit.errors import NOT_READ, need, one_of, told
from steerkit.files import file_hash
from steerkit.sae_files import ARRAYS, GEMMA_SCOPE, KINDS, WEIGHTS, read_folder, read_npz

# TransformerLens' names of the residual stream between blocks, or the bare path of a block in transformers.
_BLOCK_OUTPUT = re.compile(r"hook_resid_(?:pre|post)$|(?:layers|h)\.\d+$")


@dataclass(frozen=True, eq=False)
class Sae:
    """One sparse autoencoder, in float32."""

    W_enc: torch.Tensor  # [d, f]; its columns are the encoder directions
    b_enc: torch.Tensor  # [f]
    W_dec: torch.Tensor  # [f, d]; its rows are the decoder directions, not always of unit norm
    b_dec: torch.Tensor  # [d]
    kind: str  # one of `KINDS`
    subtract_decoder_bias: bool  # the encode convention, s above
    threshold: torch.Tensor | None = None  # [f], for jumprelu and for a batchtopk that was trained to the end
    k: float | None = None  # active features per token, for topk and batchtopk
    layer: int | None = None  # 0-based block whose output is read (hook_resid_pre of l reads block l - 1)
    hook: str = ""  # the site's name in the file, e.g. "blocks.14.hook_resid_post"; empty: the file is silent
    model: str = ""
    source: str = ""  # which release
    sha256: str = ""  # of the weights file

    def __post_init__(self) -> None:
        one_of("an activation", self.kind, KINDS)
        d, f = self.W_enc.shape if self.W_enc.ndim == 2 else (0, 0)
        mend = "W_enc is [d, f] and W_dec [f, d]; check whether one was stored transposed."
        for name, shape in zip(ARRAYS, [(d, f), (f,), (f, d), (d,), (f,)], strict=True):
            if (array := getattr(self, name)) is None:
                continue
            expected = f"{name} of shape {list(shape)} beside W_enc of shape {list(self.W_enc.shape)}"
            need(tuple(array.shape) == shape, expected, f"{list(array.shape)}", mend)
            # The extremes carry NaN and infinity and need no array of the size of the weights, as isfinite would.
            finite = not array.numel() or all(end.isfinite() for end in array.aminmax())
            need(finite, f"finite numbers in {name}", "NaN or infinity", "fetch the file again.")
        short = bool(self.W_dec.norm(dim=-1).isfinite().all())
        need(short, "decoder directions whose norm is a number of float32", "infinity", "rescale the file.")
        silent, mend = self.threshold is None, "fetch the complete file."
        need(self.kind != "jumprelu" or not silent, "a threshold for jumprelu", "none", mend)
        needs_k = self.kind == "topk" or (self.kind == "batchtopk" and silent)
        sound = not needs_k or (isinstance(self.k, int | float) and 1 <= self.k <= f)
        sound = sound and (self.kind != "topk" or self.k % 1 == 0)
        need(sound, f"k between 1 and {f} for {self.kind}", repr(self.k), "look into cfg.json.")

    @property
    def width(self) -> int:
        """d, the width of the model."""
        return self.W_enc.shape[0]

    @property
    def n_features(self) -> int:
        """f, the number of features."""
        return self.W_enc.shape[1]

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """What the activation gets, [..., d] -> [..., f]; an x of another width is refused."""
        check_fits(self, width=x.shape[-1])
        x = x.to(self.W_enc)
        return (x - self.b_dec if self.subtract_decoder_bias else x) @ self.W_enc + self.b_enc

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Feature activations f(x), [..., d] -> [..., f].

        relu: max(pre, 0). jumprelu: that, and 0 unless pre > threshold. topk: the k largest of each row, then relu.
        batchtopk: jumprelu with the threshold learned in training, which is how such an autoencoder is used on single
        inputs; without one, the k * n largest of the n rows together, as in training, so that rows depend on each
        other.
        """
        pre = self.pre_activations(x)
        if self.kind == "topk":
            values, indices = pre.topk(int(self.k), dim=-1)
            return torch.zeros_like(pre).scatter_(-1, indices, values.relu())
        active = pre.relu()
        if self.threshold is not None:
            return active.mul_(pre > self.threshold)
        if self.kind == "batchtopk":
            flat = active.flatten()
            values, indices = flat.topk(int(self.k * pre.shape[:-1].numel()))
            return torch.zeros_like(flat).scatter_(0, indices, values).reshape(pre.shape)
        return active

    def decode(self, features: torch.Tensor) -> torch.Tensor:
        """Reconstruction with the decoder bias, [..., f] -> [..., d]."""
        return features.to(self.W_dec) @ self.W_dec + self.b_dec

    def about(self) -> dict[str, Any]:
        """What decides the numbers, for manifests and artefact keys."""
        names = "kind subtract_decoder_bias k layer hook model source sha256 width n_features"
        return {name: getattr(self, name) for name in names.split()}


def load_sae(
    path: Path | str, *, width: int | None = None, layer: int | None = None, sha256: str | None = None
) -> Sae:
    """Read an autoencoder from a Gemma Scope npz file or from a SAELens folder, in float32. Nothing is ever unpickled.

    Parameters
    ----------
    path : `params.npz` or the folder with it; or a folder with `cfg.json` and `sae_weights.safetensors`
    width, layer : width of the model and block of the vector it is meant for, checked; a file that does not say its
        layer is taken at the caller's word
    sha256 : what the weights file should hash to; compared before anything in it is interpreted
    """
    weights = Path(path)
    if weights.is_dir():
        weights /= GEMMA_SCOPE if (weights / GEMMA_SCOPE).exists() else WEIGHTS
    mend = "give the path of a params.npz or of a folder with cfg.json and sae_weights.safetensors."
    with told((OSError,), f"an autoencoder in {weights}", mend, NOT_READ, lambda error: str(error.strerror)):
        digest = file_hash(weights)
    mend = "fetch the file again; the download was cut short, or the release has changed."
    same = sha256 is None or digest == sha256.lower()
    need(same, f"sha256 {sha256} of {weights.name}", digest, mend, NOT_READ)
    fields = read_npz(weights) if weights.suffix == ".npz" else read_folder(weights.parent)
    stated = fields.pop("layer")
    sae = Sae(**fields, layer=layer if stated is None else stated, sha256=digest)
    check_fits(sae, width, layer)
    return sae


def check_fits(sae: Sae, width: int | None = None, layer: int | None = None) -> None:
    """Raise unless the autoencoder reads the residual stream of this width after this block; None is not checked."""
    expected = f"inputs of width {sae.width}, which this autoencoder reads ({sae.source or sae.kind})"
    mend = "take the autoencoder of the model that the vector belongs to."
    need(width in (None, sae.width), expected, f"width {width}", mend)
    right = sae.layer == layer and (sae.hook == "" or bool(_BLOCK_OUTPUT.search(sae.hook)))
    expected = f"an autoencoder of the residual stream after block {layer}"
    found = f"one of {sae.hook} (block {sae.layer})" if sae.hook else f"one after block {sae.layer}"
    mend = "take the autoencoder of the vector's layer, or the vector of the autoencoder's layer."
    need(layer is None or right, expected, found, mend)
