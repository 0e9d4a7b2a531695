"""Models by name, hub id or folder, loaded as nnsight models; and which sites, template and precision they get.

`load_model` is the only place where weights enter. Registry names are those in `steerkit/model_registry.py`;
anything else is taken for a folder, if there is one, or for a Hugging Face hub id. Code that comes with a
checkpoint is never run, and weights are read from safetensors only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from steerkit.errors import SteerkitError
from steerkit.model_registry import MODELS, ModelSpec
from steerkit.remote.address import server
from steerkit.sites import Sites, find_sites
from steerkit.templates import Template, template_for

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Model:
    """A loaded model and what the rest of the package asks of it.

    `lm` is the nnsight model; `sites` its blocks, final norm and unembedding; `source` goes into every manifest;
    `remote` is the address of the server that holds the weights, None when they are here.
    """

    name: str
    lm: Any
    sites: Sites
    template: Template
    device: torch.device
    dtype: torch.dtype
    dtype_reason: str
    source: dict[str, Any] = field(default_factory=dict)
    remote: str | None = None

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.lm.tokenizer

    @property
    def width(self) -> int:
        """d, the width of the residual stream."""
        return self.lm._module.config.get_text_config().hidden_size


def load_model(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    template: str | None = None,
    remote: str | None = None,
) -> Model:
    """Load a model for steering.

    Parameters
    ----------
    name : str
        A registry name (`steerkit.model_registry.MODELS`), a folder with a transformers checkpoint, or a hub id,
        optionally with `@revision`.
    device : str, optional
        Default: a GPU when there is one.
    dtype : str, optional
        One of `DTYPES`. Default: what the registry says, on every device; for other models float32 on a CPU and
        bfloat16 on a GPU (parity between engines is tested in float32).
    template : str, optional
        A name in `steerkit.templates.TEMPLATES`, or "auto" for the tokenizer's own.
    remote : str, optional
        Address of an NDIF server that holds the weights and runs every trace; "off" for this machine. Default:
        STEERKIT_REMOTE, else this machine. Device and precision are then the server's.

    Raises
    ------
    SteerkitError
        When the name is unknown, the download fails, a hash is wrong, or there is no such device or precision.
    RemoteFailure
        When the server cannot be reached, or does not have the model.
    """
    spec, url = spec_of(name), server(remote)
    if url:
        return _load_remote(spec, url, device, dtype, template)
    if spec.remote_only:
        raise SteerkitError(
            f"a model that fits on one machine, or remote execution for {name}",
            "a run on this machine",
            done="Nothing was loaded.",
            next_step="give the address of a server that holds it (--remote), or choose another profile.",
        )
    device = _device(device)
    dtype, reason = _choose_dtype(dtype, device, spec)
    lm, source = _open(spec, device, dtype)
    chosen = template_for(template or spec.template, lm.tokenizer)
    return Model(
        spec.name,
        lm,
        find_sites(lm),
        chosen,
        device,
        dtype,
        reason,
        source | {"dtype": _plain(dtype), "device": device.type, "template": chosen.name},
    )


def _load_remote(
    spec: ModelSpec, url: str, device: str | None, dtype: str | None, template: str | None
) -> Model:
    from steerkit.remote.models import open_remote

    if device or dtype:
        raise SteerkitError(
            "the device and precision of the server",
            f"{device or dtype!r} asked for",
            done="Nothing was sent.",
            next_step='leave it out, or run on this machine (remote="off").',
        )
    return open_remote(spec, url, template)


def fingerprint(name: str, remote: str | None = None) -> str:
    """What tells one set of weights from another without loading them: a hash, a hub revision, or a folder's hash."""
    from steerkit.datasets import load_dataset, names
    from steerkit.weights import folder_hash

    spec, url = spec_of(name), server(remote)
    if url:
        from steerkit.remote.models import remote_fingerprint

        there = remote_fingerprint(spec, url)
        if there is not None:
            return there
    if spec.tiny:
        return hashlib.sha256(
            (spec.tiny + "".join(load_dataset(each).sha256 for each in names("bundled"))).encode()
        ).hexdigest()
    if spec.folder:
        return folder_hash(Path(spec.folder))
    return spec.wheel.sha256 if spec.wheel else f"{spec.hub_id}@{spec.revision or 'main'}"


def wrap(name: str, lm: Any, template: str = "plain") -> Model:
    """A `Model` around an nnsight model that is already in memory (tests, notebooks)."""
    module = lm._module
    weight = next(module.parameters())
    return Model(
        name,
        lm,
        find_sites(lm),
        template_for(template, lm.tokenizer),
        weight.device,
        weight.dtype,
        "as given",
        {"model": name},
    )


def spec_of(name: str) -> ModelSpec:
    """The registry entry of a name, or one made up for a folder or a hub id.

    Raises
    ------
    SteerkitError
        When it is none of them.
    """
    return MODELS.get(name) or _unregistered(name)


def dtype_of(name: str, remote: str | None = None) -> str:
    """The precision a model gets here when none is asked for, or has on a server; in every key, needs no weights."""
    url = server(remote)
    if url:
        from steerkit.remote.models import remote_dtype

        return remote_dtype(name, url)
    spec = spec_of(name)
    return spec.dtype or _plain(_choose_dtype(None, _device(None), spec)[0])  # without torch where it can be had so


def _device(name: str | None) -> torch.device:
    """The device of that name, when something can be put there; by default a GPU when there is one."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # unknown, not built in, not there
        raise SteerkitError(
            "a device that torch can use here (cpu, cuda, cuda:0, ...)",
            f"{name!r} ({shorten(str(error), 60, placeholder=' ...')})",
            done="Nothing was loaded.",
            next_step="leave it out for the default, or see `steerkit doctor`.",
        ) from error


def _choose_dtype(dtype: str | None, device: torch.device, spec: ModelSpec) -> tuple[torch.dtype, str]:
    import torch

    if dtype is not None and dtype not in DTYPES:
        raise SteerkitError(
            f"a torch dtype ({', '.join(DTYPES)})", repr(dtype), next_step="choose one of these."
        )
    usual = "float32" if device.type == "cpu" else "bfloat16"
    reasons = (
        (dtype, "asked for"),
        (spec.dtype, "the registry's, on every device"),
        (usual, f"{device.type.upper()} default"),
    )
    chosen, reason = next((value, why) for value, why in reasons if value is not None)
    return getattr(torch, chosen), reason


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _unregistered(name: str) -> ModelSpec:
    if name and Path(name).is_dir():
        return ModelSpec(name=Path(name).name, folder=name, template="auto")
    if "/" in name and not name.startswith((".", "/", "~")):
        hub_id, _, revision = name.partition("@")
        return ModelSpec(name=hub_id, hub_id=hub_id, revision=revision or None, template="auto")
    raise SteerkitError(
        f"a registered model ({', '.join(MODELS)}), a folder, or a hub id such as org/name",
        repr(name),
        done="Nothing was loaded.",
        next_step="check the spelling, or give the path of the folder.",
    )


def _open(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    if spec.tiny:
        return _open_tiny(spec, device, dtype)
    from nnsight import TransformersModel
    from safetensors import SafetensorError
    from transformers.utils import logging

    from steerkit.weights import folder_hash, obtain

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    location, source = obtain(spec)
    try:
        lm = TransformersModel(
            str(location),
            task="text-generation",
            dispatch=True,
            dtype=dtype,
            device_map=str(device),
            attn_implementation=spec.attention,
            use_safetensors=True,
            trust_remote_code=False,  # left out, transformers asks on the terminal
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise SteerkitError(
            f"a causal language model with safetensors weights at {location}",
            str(error).partition("\n")[0] or type(error).__name__,
            done="Nothing was loaded.",
            next_step="check the id, the folder, or the connection to the hub.",
        ) from error
    if spec.folder:
        source["sha256"] = folder_hash(Path(location))
    lm._module.eval()
    return lm, {
        "model": spec.name,
        "hub_id": spec.hub_id,
        "revision": spec.revision,
        **source,
    }


def _open_tiny(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    from steerkit.datasets import load_dataset, names
    from steerkit.tiny import tiny_lm, tiny_tokenizer

    items = [item for name in names("bundled") for item in load_dataset(name).items]
    lm = tiny_lm(
        spec.tiny, tiny_tokenizer(f"{item.question} {item.statement or ''}{item.matching}" for item in items)
    )
    lm._module.to(device, dtype)
    return lm, {"model": spec.name, "architecture": spec.tiny, "weights": "random, seed 0"}
