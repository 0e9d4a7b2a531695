"""Models by name, hub id or folder, loaded as nnsight models; and which sites, template and precision they get.

`load_model` is the only place where weights enter. Registry names are those in `steerkit/model_registry.py`;
anything else is taken for a folder, if there is one, or for a Hugging Face hub id. Code that comes with a
checkpoint is never run, and weights are read from safetensors only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerkit.errors import SteerkitError
from steerkit.model_registry import MODELS, ModelSpec
from steerkit.sites import Sites, find_sites
from steerkit.templates import Template, template_for

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Model:
    """A loaded model and what the rest of the package asks of it.

    `lm` is the nnsight model; `sites` its blocks, final norm and unembedding; `source` goes into every manifest.
    """

    name: str
    lm: Any
    sites: Sites
    template: Template
    device: torch.device
    dtype: torch.dtype
    dtype_reason: str
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.lm.tokenizer

    @property
    def width(self) -> int:
        """d, the width of the residual stream."""
        return self.lm._module.config.get_text_config().hidden_size


def load_model(
    name: str, *, device: str | None = None, dtype: str | None = None, template: str | None = None
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
        Default: float32 on a CPU; on a GPU what the registry says, bfloat16 for most (parity between engines is
        tested in float32).
    template : str, optional
        A name in `steerkit.templates.TEMPLATES`, or "auto" for the tokenizer's own.

    Raises
    ------
    SteerkitError
        When the name is unknown, the download fails, or a hash is wrong.
    """
    import torch

    spec = spec_of(name)
    if spec.remote_only:
        raise SteerkitError(
            f"a model that fits on one machine, or remote execution for {name}",
            "a run on this machine",
            done="Nothing was loaded.",
            next_step="choose another profile; this one needs a server that holds the model.",
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype, reason = _choose_dtype(dtype, device, spec.gpu_dtype)
    lm, source = _open(spec, device, dtype)
    chosen = template_for(template or spec.template, lm.tokenizer)
    return Model(
        spec.name, lm, find_sites(lm), chosen, device, dtype, reason, source | {"template": chosen.name}
    )


def fingerprint(name: str) -> str:
    """What tells one set of weights from another without loading them: a hash, a hub revision, or a folder's hash."""
    from steerkit.datasets import load_dataset, names
    from steerkit.weights import folder_hash

    spec = spec_of(name)
    if spec.tiny:
        return hashlib.sha256(
            "".join(load_dataset(each).sha256 for each in names("bundled")).encode()
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


def _choose_dtype(dtype: str | None, device: torch.device, gpu_dtype: str) -> tuple[torch.dtype, str]:
    import torch

    if dtype is not None:
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise SteerkitError(
                "a torch dtype (float32, bfloat16, float16, float64)",
                repr(dtype),
                next_step="choose one of these.",
            )
        return getattr(torch, dtype), "asked for"
    return (
        (torch.float32, "CPU default") if device.type == "cpu" else (getattr(torch, gpu_dtype), "GPU default")
    )


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
        return _open_tiny(spec)
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
        "dtype": str(dtype).removeprefix("torch."),
        **source,
    }


def _open_tiny(spec: ModelSpec) -> tuple[Any, dict[str, Any]]:
    from steerkit.datasets import load_dataset, names
    from steerkit.tiny import tiny_lm, tiny_tokenizer

    items = [item for name in names("bundled") for item in load_dataset(name).items]
    lm = tiny_lm(
        spec.tiny, tiny_tokenizer(f"{item.question} {item.statement or ''}{item.matching}" for item in items)
    )
    return lm, {
        "model": spec.name,
        "architecture": spec.tiny,
        "weights": "random, seed 0",
        "dtype": "float32",
    }
