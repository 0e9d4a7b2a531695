"""The two file formats of sparse autoencoders: Gemma Scope's npz and SAELens' folders, versions 4 to 6.

Reading gives the fields of `steerkit.sae.Sae`. Settings that this package does not implement are refused, never
ignored: a normalisation of the input that is left out gives plausible and wrong numbers.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from steerkit.errors import NOT_READ, named, need, told

CONFIG, WEIGHTS, GEMMA_SCOPE = "cfg.json", "sae_weights.safetensors", "params.npz"
ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
KINDS = ("relu", "jumprelu", "topk", "batchtopk")
_ARCHITECTURES = {name: name for name in KINDS} | {"standard": "relu"}
_SCALES = ("scaling_factor", "finetuning_scaling_factor")  # what fine-tuning left; refused unless all are one
# SAELens 4 and 5 on the left, 6 on the right.
_RENAMED = {"hook_point": "hook_name", "hook_point_layer": "hook_layer", "activation_fn_str": "activation_fn"}
# What the folder names of a release say beside layer and source, from the path and these two; open to more.
RELEASES: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {}

# What a setting is when it is there.
_TEXTS = ("architecture", "activation_fn", "hook_name", "model_name", "source")
_TYPES: dict[str, type] = dict.fromkeys(_TEXTS, str)
_TYPES |= {
    "rescale_acts_by_decoder_norm": bool,
    "hook_layer": int,
    "model_from_pretrained_kwargs": dict,
    "activation_fn_kwargs": dict,
}


def read_npz(path: Path) -> dict[str, Any]:
    """Fields of a Gemma Scope autoencoder: JumpReLU, decoder bias not subtracted from the input. The layer is in the
    names of its folders (`layer_14/width_16k/...`), site and model in those of a release in `RELEASES`."""
    rescaled = "embedding" in path.parts  # trained on rescaled inputs
    need(not rescaled, "an autoencoder of a layer", "one of the embeddings", "take one of a layer.", NOT_READ)

    def found(error: Exception) -> str:  # numpy also takes a file that it does not know for a pickle
        return "pickled objects, or no npz at all" if "pickle" in str(error).lower() else named(error)

    kinds = (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error)
    expected, mend = f"an npz file of plain arrays in {path.name}", "fetch the file again from its release."
    # Member by member and straight into its array: a whole-file read would double the peak. Opened here, because
    # numpy leaves a damaged zip open.
    unread = told(kinds, expected, mend, "Nothing was read, and nothing was unpickled.", found)
    with unread, path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        # Gemma Scope 2 spells the weights in lower case.
        there = {re.sub("^w_", "W_", name): name for name in file.files}
        _require(ARRAYS, there, path)
        arrays = {name: _float32(file[there[name]], name) for name in (*ARRAYS, *_SCALES) if name in there}
    return _unscaled(arrays) | {"kind": "jumprelu", "subtract_decoder_bias": False} | _place(path)


def read_folder(folder: Path) -> dict[str, Any]:
    """Fields of an autoencoder in a SAELens folder; norms of decoder rows by which a file rescales activations are
    folded into the encoder, which leaves the features as they are and decoder rows of unit norm."""
    expected = f"a SAELens configuration in {CONFIG} beside the weights"
    mend = f"fetch the whole folder: {CONFIG} and {WEIGHTS}."
    with told((OSError, ValueError, AttributeError, TypeError, RecursionError), expected, mend, NOT_READ):
        stated = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        stated = {**(stated.get("metadata") or {}), **stated}
    twice = [
        new for old, new in _RENAMED.items() if old in stated and stated.get(new, stated[old]) != stated[old]
    ]
    _understood(not twice, "each setting once", f"two values of {', '.join(twice)}")
    config = {_RENAMED.get(name, name): value for name, value in stated.items()}
    for name, wanted in _TYPES.items():
        value = config.get(name)
        _understood(value is None or type(value) is wanted, f"{name} as {wanted.__name__}", repr(value)[:60])
    kind, subtract = _kind(config), config.get("apply_b_dec_to_input", True)
    for name in ("normalize_activations", "reshape_activations"):
        value = config.get(name)
        _understood(value in (None, False, "none"), f"{name} none", f"{name} {value!r}")
    head = config.get("hook_head_index")
    _understood(head is None, "a whole residual stream", "hook_head_index, one head of it")
    hook, out = config.get("hook_name") or "", config.get("hook_name_out")
    _understood(out in (None, hook), "an autoencoder", f"a transcoder, from {hook} to {out}")
    centred = (config.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights")
    _understood(not centred, "a model as released", "one whose writing weights were centred")
    _understood(isinstance(subtract, bool), "apply_b_dec_to_input true or false", repr(subtract))
    arrays = _arrays(folder / WEIGHTS, kind)
    for name, size in zip(("d_sae", "d_in"), arrays["W_dec"].shape, strict=True):
        found = config.get(name, size)
        _understood(found == size, f"{name} {size}, the size of the weights,", f"{found}")
    if config.get("rescale_acts_by_decoder_norm"):
        norms = arrays["W_dec"].norm(dim=-1)
        arrays["W_enc"].mul_(norms)
        arrays["b_enc"].mul_(norms)
        arrays["W_dec"].div_(norms.clamp_min(1e-8)[:, None])
    number = re.search(r"(?:blocks|layers|h)\.(\d+)\b", hook)
    layer = int(number[1]) if number else config.get("hook_layer")
    stated = config.get("hook_layer")
    _understood(stated in (None, layer), f"hook_layer {layer}, as in {hook},", f"{stated}")
    other = re.search("vision|encoder|image|audio", hook)
    _understood(not other, "a hook in the decoder of a language model", hook)
    if layer is not None and hook.endswith("hook_resid_pre"):
        layer -= 1  # the output of the block before
    source, model = config.get("source") or folder.resolve().name, config.get("model_name") or ""
    about = {"kind": kind, "layer": layer, "hook": hook, "model": model, "source": source}
    if kind in ("topk", "batchtopk"):
        about["k"] = config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")
        _understood(not isinstance(about["k"], bool), "k as a number", repr(about["k"]))
    return arrays | about | {"subtract_decoder_bias": subtract}


def _kind(config: dict[str, Any]) -> str:
    architecture = config.get("architecture") or "standard"
    function = config.get("activation_fn") or "relu"
    if architecture == "standard" and function == "topk":  # versions 4 and 5
        return "topk"
    known = f"an architecture among {', '.join(_ARCHITECTURES)}"
    _understood(architecture in _ARCHITECTURES, known, f"architecture {architecture!r}")
    _understood(function in ("relu", "topk"), "activation_fn relu or topk", f"activation_fn {function!r}")
    return _ARCHITECTURES[architecture]


def _arrays(path: Path, kind: str) -> dict[str, torch.Tensor]:
    """The arrays of a safetensors file that this kind has, those of training checkpoints as thresholds."""
    from safetensors import SafetensorError, safe_open

    expected, mend = f"a safetensors file {path.name}", "fetch the folder again."
    refused = told((OSError, SafetensorError), expected, mend, NOT_READ)
    with refused, safe_open(str(path), framework="pt") as file:
        arrays = {name: _float32(file.get_tensor(name), name) for name in file.keys()}  # noqa: SIM118
    thresholds = [name for name in arrays if name.endswith("threshold")]
    _understood(len(thresholds) < 2, "one threshold", ", ".join(thresholds))
    unknown = set(arrays) - {*ARRAYS, *_SCALES, *thresholds}
    _understood(not unknown, f"arrays among {', '.join(ARRAYS)}", f"{', '.join(sorted(unknown))} as well")
    flat = [name for name in ("W_enc", "W_dec") if name in arrays and arrays[name].ndim != 2]
    _understood(not flat, "W_enc and W_dec of two dimensions", "one of another number")
    if "log_threshold" in arrays:
        arrays["threshold"] = arrays["log_threshold"].exp()
    if "topk_threshold" in arrays:
        arrays["threshold"] = arrays["topk_threshold"].expand(arrays["b_enc"].shape).contiguous()
    used = kind in ("jumprelu", "batchtopk") or not thresholds
    beside = f"{kind}, and {' and '.join(thresholds)} beside it"
    _understood(used, "an architecture that has thresholds", beside)
    _require(ARRAYS if kind == "jumprelu" else ARRAYS[:-1], arrays, path)
    arrays, known = _unscaled(arrays), ARRAYS if kind in ("jumprelu", "batchtopk") else ARRAYS[:-1]
    return {name: arrays[name] for name in known if name in arrays}


def _understood(holds: bool, expected: str, found: str) -> None:
    """Refuse a setting of cfg.json that would be read wrongly."""
    mend = "open it with sae-lens, fold what can be folded into the weights, and save it again."
    need(holds, f"{expected} in {CONFIG}", found, mend, NOT_READ)


def _float32(array: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """The array in float32, without a copy when it is already."""
    tensor = torch.from_numpy(np.asarray(array)) if isinstance(array, np.ndarray) else array
    floating = isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    found = str(getattr(array, "dtype", type(array).__name__))
    need(floating, f"floating-point numbers in {name}", found, "fetch the file again.", NOT_READ)
    return tensor.to(torch.float32)


def _require(wanted: Iterable[str], there: Iterable[str], path: Path) -> None:
    missing = ", ".join(name for name in wanted if name not in there)
    found = f"no {missing} (only {', '.join(sorted(there)) or 'nothing'})"
    mend = "fetch the file again from its release, or choose another format."
    need(not missing, f"{', '.join(wanted)} in {path.name}", found, mend, NOT_READ)


def _unscaled(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The arrays without scales, when these are ones."""
    for name in _SCALES:
        ones = torch.allclose(arrays.get(name, torch.ones(())), torch.ones(()))
        _understood(ones, f"no {name} but ones", f"{name} of other values")
    return {name: array for name, array in arrays.items() if name not in _SCALES}


def _place(path: Path) -> dict[str, Any]:
    """Layer, hook, model and source from the names of folders."""
    text = path.as_posix()
    folder = ([None, *re.finditer(r"layer_(\d+)", text)])[-1]  # the last: folders above may have numbers too
    layer, source = (int(folder[1]), text[folder.start() :]) if folder else (None, path.name)
    found = {"layer": layer, "source": source}
    for release in RELEASES.values():
        found |= release(text, found)
    return found
