"""A hub id, a folder or a server becomes a `Model`; the only place where weights enter.

Code that comes with a checkpoint is never run, and weights are read from safetensors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from steerkit.errors import first_line, named, need, one_of, told
from steerkit.files import CHECKPOINT_FILES, folder_hash
from steerkit.model import Model, wrap
from steerkit.ndif.address import server

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
    name : a folder with a transformers checkpoint, or a Hugging Face hub id, optionally with `@revision`
    device : default: a GPU when there is one
    dtype : one of `DTYPES`; default: float32 on a CPU and bfloat16 on a GPU (engines are compared in float32)
    template : a name in `steerkit.templates.TEMPLATES`, or "auto" for the tokenizer's own
    attention : transformers' name of an implementation; one that takes a mask of ours ("sdpa" or "eager")
    remote : address of an NDIF server that holds the weights and runs every trace, with a device and precision of its
        own; "off" for this machine; default: STEERKIT_REMOTE, else this machine
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
    at = device_of(device)
    precision, reason = choose_dtype(dtype, at)  # a wrong one is refused before a download
    place = name if local else snapshot(repo, revision or None, CHECKPOINT_FILES)
    hub = {"revision": revision or None, "weights": "as released", "commit": Path(place).name}
    about |= {"weights": "local folder"} if local else hub
    return wrap(about["model"], open_folder(place, at, precision, attention), template, reason, about)


def device_of(name: str | None) -> torch.device:
    """The device of that name, when something can be put there; by default a GPU when there is one."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kinds = (RuntimeError, AssertionError, NotImplementedError)  # unknown, not built in, not there
    expected = "a device that torch can use here (cpu, cuda, cuda:0, ...)"
    mend = "leave it out for the default, or see `steerkit doctor`."

    def found(error: Exception) -> str:
        return f"{name!r} ({shorten(str(error), 60, placeholder=' ...')})"

    with told(kinds, expected, mend, NOT_LOADED, found):
        return torch.empty(0, device=name).device


def choose_dtype(dtype: str | None, device: torch.device) -> tuple[torch.dtype, str]:
    """The precision asked for, else the usual one of the device, with the reason."""
    import torch

    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16, f"{device.type.upper()} default"
    one_of("a torch dtype", dtype, DTYPES)
    return getattr(torch, dtype), "asked for"


def refuse_device(asked: str | None) -> None:
    """On a server, device and precision are the server's."""
    mend, found = 'leave it out, or run on this machine (remote="off").', f"{asked!r} asked for"
    need(not asked, "the device and precision of the server", found, mend, "Nothing was sent.")


def snapshot(repo: str, revision: str | None, patterns: Sequence[str]) -> str:
    """A folder of the hub's own cache with these files of a model."""
    from huggingface_hub import snapshot_download

    expected = f"configuration and tokenizer of {repo} on the Hugging Face hub"
    if tuple(patterns) == CHECKPOINT_FILES:
        expected = f"model {repo} on the Hugging Face hub"
    mend = (
        "check the id and the connection, log in for gated models (`hf auth login`), or give a local folder."
    )
    # httpx's, requests' and its own errors all mean "not obtained".
    with told((Exception,), expected, mend, NOT_LOADED, lambda error: named(error).partition("\n")[0]):
        return snapshot_download(repo, revision=revision, allow_patterns=list(patterns))


def open_folder(place: Path | str, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
    """The nnsight model in a folder."""
    from nnsight import TransformersModel
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    how = {"task": "text-generation", "dispatch": True, "use_safetensors": True, "dtype": dtype}
    how["trust_remote_code"] = False  # left out, transformers asks on the terminal
    expected = f"a causal language model with safetensors weights at {place}"
    mend = "check the id, the folder, or the connection to the hub."
    with told((OSError, ValueError, SafetensorError), expected, mend, NOT_LOADED, first_line):
        lm = TransformersModel(str(place), device_map=str(device), attn_implementation=attention, **how)
    lm._module.eval().requires_grad_(
        False
    )  # nobody trains here; gradients are of what is added, not of weights
    return lm
