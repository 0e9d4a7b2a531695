"""The two file formats of sparse autoencoders: Gemma Scope's npz and SAELens' folders, versions 4 to 6.

Reading gives the fields of `steerkit.sae.Sae`. Settings that this package does not implement are refused, never
ignored: a normalisation of the input that is left out gives plausible and wrong numbers.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch

from steerkit.errors import SteerkitError

if TYPE_CHECKING:
    from steerkit.sae import Sae

CONFIG, WEIGHTS, GEMMA_SCOPE = "cfg.json", "sae_weights.safetensors", "params.npz"
ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec")
_KINDS = {name: name for name in ("relu", "jumprelu", "topk", "batchtopk")} | {"standard": "relu"}
# SAELens 4 and 5 on the left, 6 on the right.
_RENAMED = {"hook_point": "hook_name", "hook_point_layer": "hook_layer", "activation_fn_str": "activation_fn"}
_GEMMA = re.compile(r"gemma-scope-(?P<size>\d+b)-(?P<tuning>pt|it)-(?P<site>res|mlp|att)")
_GEMMA_HOOKS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


def locate(path: Path) -> Path:
    """The weights file that `path` means: itself, or the one in the folder."""
    if not path.is_dir():
        return path
    return path / (GEMMA_SCOPE if (path / GEMMA_SCOPE).exists() else WEIGHTS)


def read_npz(path: Path) -> dict[str, Any]:
    """Fields of a Gemma Scope autoencoder: JumpReLU, decoder bias not subtracted from the input.

    Layer, site and model are not in the file; they are read from the names of its folders when those are the
    release's (`gemma-scope-2b-pt-res/layer_14/width_16k/average_l0_84/params.npz`).

    Raises
    ------
    SteerkitError
        When the file is no npz, is damaged, lacks an array, or has pickled objects in it.
    """
    if "embedding" in path.parts:  # trained on rescaled inputs
        raise SteerkitError(
            "an autoencoder of a layer",
            "one of the embeddings",
            done="Nothing was read.",
            next_step="take one of a layer.",
        )
    try:
        # Member by member and straight into its array: a whole-file read would double the peak. Opened here, because
        # numpy leaves a damaged zip open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            # Gemma Scope 2 spells the weights in lower case.
            names = {re.sub("^w_", "W_", name): name for name in file.files}
            _require((*ARRAYS, "threshold"), names, path)
            arrays = {name: _float32(file[names[name]], name) for name in (*ARRAYS, "threshold")}
            if "scaling_factor" in names:
                _refuse_scaling({"scaling_factor": _float32(file[names["scaling_factor"]], "scaling_factor")})
    except (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        pickled = "pickle" in str(error).lower()  # numpy also takes a file that it does not know for a pickle
        found = "pickled objects, or no npz at all" if pickled else f"{type(error).__name__}: {error}"
        raise SteerkitError(
            f"an npz file of plain arrays in {path.name}",
            found,
            done="Nothing was read, and nothing was unpickled.",
            next_step="fetch the file again from its release.",
        ) from error
    return arrays | {"kind": "jumprelu", "subtract_decoder_bias": False} | _place(path)


def read_folder(folder: Path) -> dict[str, Any]:
    """Fields of an autoencoder in a SAELens folder.

    A file that rescales activations by the norms of the decoder rows gets them folded into the encoder; its features
    are the same, its decoder rows then have unit norm.

    Raises
    ------
    SteerkitError
        When cfg.json or an array is missing, or a setting would be read wrongly.
    """
    config = _read_config(folder / CONFIG)
    kind = _kind(config)
    _refuse_settings(config)
    arrays = _read_safetensors(folder / WEIGHTS)
    _refuse_scaling(arrays)
    if "log_threshold" in arrays:
        arrays["threshold"] = arrays.pop("log_threshold").exp()
    if "topk_threshold" in arrays:
        arrays["threshold"] = arrays.pop("topk_threshold").expand(arrays["b_enc"].shape).contiguous()
    thresholds = ("threshold",) * (kind == "jumprelu")
    _require((*ARRAYS, *thresholds), arrays, folder / WEIGHTS)
    _compare_sizes(config, arrays)
    if config.get("rescale_acts_by_decoder_norm"):
        _fold_norms(arrays)
    layer, hook = _layer(config)
    return {name: arrays[name] for name in ARRAYS} | {
        "threshold": arrays.get("threshold") if kind in ("jumprelu", "batchtopk") else None,
        "kind": kind,
        "k": _k(config) if kind in ("topk", "batchtopk") else None,
        "subtract_decoder_bias": bool(config.get("apply_b_dec_to_input", True)),
        "layer": layer,
        "hook": hook,
        "model": config.get("model_name") or "",
        "source": config.get("source") or folder.resolve().name,
    }


def write_folder(folder: Path, sae: Sae) -> None:
    """Write cfg.json in the spelling of SAELens 6 and the weights as safetensors; each file whole or not at all."""
    from safetensors.torch import save

    from steerkit.files import write_atomically

    kind = "jumprelu" if sae.kind == "batchtopk" else {"relu": "standard"}.get(sae.kind, sae.kind)
    arrays = {name: getattr(sae, name) for name in (*ARRAYS, "threshold")}
    weights = {name: array.contiguous() for name, array in arrays.items() if array is not None}
    config = {
        "architecture": kind,
        "d_in": sae.width,
        "d_sae": sae.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_decoder_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": int(sae.k), "rescale_acts_by_decoder_norm": False} if kind == "topk" else {}),
        "metadata": {
            "sae_lens_version": "6.0.0",  # the spelling; older ones are taken for version 4 or 5
            "model_name": sae.model,
            "hook_name": sae.hook,
            "hook_layer": sae.layer,
            "source": sae.source,
        },
    }
    write_atomically(folder / WEIGHTS, save(weights))
    write_atomically(folder / CONFIG, json.dumps(config, indent=1).encode())


def _read_config(path: Path) -> dict[str, Any]:
    """cfg.json as one flat dictionary in the spelling of version 6."""
    try:
        found = json.loads(path.read_text())
        flat = {**(found.get("metadata") or {}), **found}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SteerkitError(
            f"a SAELens configuration in {path.name} beside the weights",
            f"{type(error).__name__}: {error}",
            done="Nothing was read.",
            next_step="fetch the whole folder: cfg.json and sae_weights.safetensors.",
        ) from error
    return {_RENAMED.get(name, name): value for name, value in flat.items()}


def _kind(config: dict[str, Any]) -> str:
    architecture = config.get("architecture") or "standard"
    function = config.get("activation_fn") or "relu"
    if architecture == "standard" and function == "topk":  # versions 4 and 5
        return "topk"
    if architecture not in _KINDS:
        raise _unreadable(f"an architecture among {', '.join(_KINDS)}", f"architecture {architecture!r}")
    if function not in ("relu", "topk"):
        raise _unreadable("activation_fn relu or topk", f"activation_fn {function!r}")
    return _KINDS[architecture]


def _k(config: dict[str, Any]) -> float | None:
    return config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")


def _refuse_settings(config: dict[str, Any]) -> None:
    for name in ("normalize_activations", "reshape_activations"):
        value = config.get(name)
        if value not in (None, False, "none"):
            raise _unreadable(f"{name} none", f"{name} {value!r}")
    convention = config.get("apply_b_dec_to_input", True)
    if not isinstance(convention, bool):
        raise _unreadable("apply_b_dec_to_input true or false", repr(convention))


def _unreadable(expected: str, found: str) -> SteerkitError:
    return SteerkitError(
        f"{expected} in {CONFIG}",
        found,
        done="Nothing was read.",
        next_step="open it with sae-lens, fold what can be folded into the weights, and save it again.",
    )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: _float32(file.get_tensor(name), name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise SteerkitError(
            f"a safetensors file {path.name}",
            f"{type(error).__name__}: {error}",
            done="Nothing was read.",
            next_step="fetch the folder again.",
        ) from error


def _float32(array: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """The array in float32, without a copy when it is already."""
    tensor = torch.from_numpy(np.asarray(array)) if isinstance(array, np.ndarray) else array
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise SteerkitError(
            f"floating-point numbers in {name}",
            str(getattr(array, "dtype", type(array).__name__)),
            done="Nothing was read.",
            next_step="fetch the file again.",
        )
    return tensor.to(torch.float32)


def _require(wanted: Iterable[str], there: Iterable[str], path: Path) -> None:
    missing = [name for name in wanted if name not in set(there)]
    if missing:
        raise SteerkitError(
            f"{', '.join(wanted)} in {path.name}",
            f"no {', '.join(missing)} (only {', '.join(sorted(there)) or 'nothing'})",
            done="Nothing was read.",
            next_step="fetch the file again from its release, or choose another format.",
        )


def _refuse_scaling(arrays: dict[str, torch.Tensor]) -> None:
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in arrays and not torch.allclose(arrays[name], torch.ones(())):
            raise _unreadable(f"no {name} but ones", f"{name} of other values")


def _compare_sizes(config: dict[str, Any], arrays: dict[str, torch.Tensor]) -> None:
    sizes = {"d_in": arrays["W_dec"].shape[-1], "d_sae": arrays["W_dec"].shape[0]}
    for name, size in sizes.items():
        if config.get(name, size) != size:
            raise _unreadable(f"{name} {size}, the size of the weights,", f"{config[name]}")


def _fold_norms(arrays: dict[str, torch.Tensor]) -> None:
    """In place: pre-activations times the norms of the decoder rows, decoder rows of unit norm."""
    norms = arrays["W_dec"].norm(dim=-1)
    arrays["W_enc"].mul_(norms)
    arrays["b_enc"].mul_(norms)
    arrays["W_dec"].div_(norms.clamp_min(1e-8)[:, None])


def _layer(config: dict[str, Any]) -> tuple[int | None, str]:
    """(block whose output is read, name of the site)."""
    hook = config.get("hook_name") or ""
    number = re.search(r"(?:blocks|layers|h)\.(\d+)\b", hook)
    layer = int(number[1]) if number else config.get("hook_layer")
    return (layer - 1 if layer is not None and hook.endswith("hook_resid_pre") else layer), hook


def _place(path: Path) -> dict[str, Any]:
    """Layer, hook, model and source from the folder names of Gemma Scope."""
    text = path.as_posix()
    folder, release = re.search(r"layer_(\d+)", text), _GEMMA.search(text)
    layer = int(folder[1]) if folder else None
    hook = f"blocks.{layer}.{_GEMMA_HOOKS[release['site']]}" if folder and release else ""
    tuning = "-it" if release and release["tuning"] == "it" else ""
    return {
        "layer": layer,
        "hook": hook,
        "model": f"gemma-2-{release['size']}{tuning}" if release else "",
        "source": (f"{release[0]}/" if release else "") + (text[folder.start() :] if folder else path.name),
    }
