"""A hub id, a folder or a server becomes a `Model`; the only place where weights enter.

Code that comes with a checkpoint is never run, and weights are read from safetensors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from steerkit.errors import SteerkitError, need, one_of
from steerkit.files import CHECKPOINT_FILES, folder_hash
from steerkit.model import Model, find_sites
from steerkit.ndif.address import server
from steerkit.templates import template_for

if TYPE_CHECKING:
    import torch

# Everything of a checkpoint but its weights.
SMALL_FILES = ("*.json", "*.model", "*.jinja", "*.txt")
DTYPES = ("float32", "bfloat16", "float16", "float64")
NOT_LOADED = "Nothing was loaded."


def load_model(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    template: str = "auto",
    attention: str = "sdpa",
    remote: str | None = None,
) -> Model:
    """Load a model for steering.

    Parameters
    ----------
    name : str
        A folder with a transformers checkpoint, or a Hugging Face hub id, optionally with `@revision`.
    device : str, optional
        Default: a GPU when there is one.
    dtype : str, optional
        One of `DTYPES`. Default: float32 on a CPU and bfloat16 on a GPU (engines are compared in float32).
    template : str
        A name in `steerkit.templates.TEMPLATES`, or "auto" for the tokenizer's own.
    attention : str
        transformers' name of an implementation; one that takes a mask of ours ("sdpa" or "eager").
    remote : str, optional
        Address of an NDIF server that holds the weights and runs every trace; "off" for this machine. Default:
        STEERKIT_REMOTE, else this machine. Device and precision are then the server's.

    Returns
    -------
    Model

    Raises
    ------
    SteerkitError
        When there is no such folder or hub id, the download fails, or there is no such device or precision.
    RemoteFailure
        When the server cannot be reached, or does not have the model.
    """
    local, (repo, _, revision) = bool(name) and Path(name).is_dir(), name.partition("@")
    about = {"model": repo, "hub_id": repo}
    if local:
        about = {"model": Path(name).name, "sha256": folder_hash(Path(name))}
    if url := server(remote):
        from steerkit.ndif.models import open_remote

        refuse_device(device or dtype)
        served = (str(Path(name).resolve()), None) if local else (repo, revision or None)
        place = name if local else snapshot(repo, revision or None, SMALL_FILES)
        return open_remote(place, served, url, template=template, attention=attention, source=about)
    choose_dtype(dtype, device_of(device))  # a wrong one is refused before a download
    if local:
        return open_folder(name, device, dtype, template, attention, about | {"weights": "local folder"})
    place = snapshot(repo, revision or None, CHECKPOINT_FILES)
    about |= {"revision": revision or None, "weights": "as released", "commit": Path(place).name}
    return open_folder(place, device, dtype, template, attention, about)


def open_folder(
    place: Path | str,
    device: str | None,
    dtype: str | None,
    template: str,
    attention: str,
    source: dict[str, Any],
    reason: str = "asked for",
) -> Model:
    """The model in a folder; `source` says in manifests what it is, `reason` why it has this precision."""
    at = device_of(device)
    precision, reason = choose_dtype(dtype, at, reason)
    return wrap_loaded(_opened(place, at, precision, attention), at, precision, reason, template, source)


def wrap_loaded(
    lm: Any, device: torch.device, dtype: torch.dtype, reason: str, template: str, source: dict[str, Any]
) -> Model:
    """A `Model` whose manifest says where it came from and how it runs."""
    chosen = template_for(template, lm.tokenizer)
    about = source | {"dtype": plain(dtype), "device": device.type, "template": chosen.name}
    return Model(source["model"], lm, find_sites(lm), chosen, device, dtype, reason, about)


def device_of(name: str | None) -> torch.device:
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
            done=NOT_LOADED,
            next_step="leave it out for the default, or see `steerkit doctor`.",
        ) from error


def choose_dtype(
    dtype: str | None, device: torch.device, reason: str = "asked for"
) -> tuple[torch.dtype, str]:
    """The precision asked for with its reason, else the usual one of the device."""
    import torch

    if dtype is None:
        usual = "float32" if device.type == "cpu" else "bfloat16"
        return getattr(torch, usual), f"{device.type.upper()} default"
    one_of("a torch dtype", dtype, DTYPES)
    return getattr(torch, dtype), reason


def refuse_device(asked: str | None) -> None:
    """On a server, device and precision are the server's."""
    mend = 'leave it out, or run on this machine (remote="off").'
    need(
        not asked, "the device and precision of the server", f"{asked!r} asked for", mend, "Nothing was sent."
    )


def plain(dtype: torch.dtype) -> str:
    """`float32` of `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def snapshot(repo: str, revision: str | None, patterns: Sequence[str]) -> str:
    """A folder of the hub's own cache with these files of a model."""
    from huggingface_hub import snapshot_download

    whole = tuple(patterns) == CHECKPOINT_FILES
    try:
        return snapshot_download(repo, revision=revision, allow_patterns=list(patterns))
    except Exception as error:  # httpx's, requests' and its own errors, all of which mean "not obtained"
        check = f"check the {'id' if whole else 'connection'}, log in for gated models (`hf auth login`)"
        raise SteerkitError(
            f"{'model' if whole else 'configuration and tokenizer of'} {repo} on the Hugging Face hub",
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            done=NOT_LOADED if whole else "Nothing was computed.",
            next_step=f"{check}, or give a local folder.",
        ) from error


def _opened(place: Path | str, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
    from nnsight import TransformersModel
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    how = {"task": "text-generation", "dispatch": True, "use_safetensors": True, "dtype": dtype}
    how["trust_remote_code"] = False  # left out, transformers asks on the terminal
    try:
        lm = TransformersModel(str(place), device_map=str(device), attn_implementation=attention, **how)
    except (OSError, ValueError, SafetensorError) as error:
        raise SteerkitError(
            f"a causal language model with safetensors weights at {place}",
            str(error).partition("\n")[0] or type(error).__name__,
            done=NOT_LOADED,
            next_step="check the id, the folder, or the connection to the hub.",
        ) from error
    lm._module.eval()
    return lm
