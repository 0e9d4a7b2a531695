"""A hub id, a folder or a server becomes a `Model`; the only place where weights enter.

Code that comes with a checkpoint is never run, and weights are read from safetensors only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from steerkit.errors import named, need, one_of, told
from steerkit.files import CHECKPOINT_FILES, folder_hash
from steerkit.model import Model, wrap
from steerkit.ndif.address import server

if TYPE_CHECKING:
    import torch

# Everything of a checkpoint but its weights.
SMALL_FILES = ("*.json", "*.model", "*.jinja", "*.txt")
# The same weights once more for other programs, and whatever else has a folder of its own.
TWICE = ("consolidated*", "*/*")
DTYPES = ("float32", "bfloat16", "float16", "float64")
NOT_LOADED = "Nothing was loaded."
ADAPTER = "adapter_config.json"
SHOWN = 3  # names in a message
# Masks and frequencies that older versions of transformers saved with the weights; newer ones make them anew.
_CONSTANTS = re.compile(
    r"(attn|attention)\.(bias|masked_bias)$|\.(causal_mask|inv_freq|position_ids|token_type_ids)$"
)


def load_model(
    name: str | Path,
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
    name : a folder (text or path) with a transformers checkpoint, or a Hugging Face hub id, optionally with `@revision`
    device : default: a GPU when there is one
    dtype : one of `DTYPES`; default: float32 on a CPU and bfloat16 on a GPU (engines are compared in float32)
    template : a name in `steerkit.templates.TEMPLATES`, or "auto" for the tokenizer's own
    attention : transformers' name of an implementation; one that takes a mask of ours ("sdpa" or "eager")
    remote : address of an NDIF server that holds the weights and runs every trace, with a device and precision of its
        own; "off" for this machine; default: STEERKIT_REMOTE, else this machine
    """
    name = str(name)
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

    what = "model" if tuple(patterns) == CHECKPOINT_FILES else "configuration and tokenizer of"
    expected = f"{what} {repo} on the Hugging Face hub"
    access = "check the id and the connection, log in for gated models (`hf auth login`)"
    # httpx's, requests' and its own errors all mean "not obtained".
    kinds, mend = (Exception,), f"{access}, or give a local folder."
    with told(kinds, expected, mend, NOT_LOADED, lambda error: named(error).partition("\n")[0]):
        which = {"allow_patterns": list(patterns), "ignore_patterns": list(TWICE)}
        return snapshot_download(repo, revision=revision, **which)


def open_folder(place: Path | str, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
    """The nnsight model in a folder; every weight is the checkpoint's."""
    from nnsight import TransformersModel
    from transformers import AutoTokenizer

    place = str(place)
    tuned = Path(place, ADAPTER).exists()
    expected = f"a checkpoint with its adapter merged into it at {place}"
    mend = "merge it (peft's `merge_and_unload`), save the model, and load that."
    need(not tuned, expected, f"{ADAPTER} beside the weights", mend, NOT_LOADED)
    how = {"dtype": dtype, "device_map": str(device), "use_safetensors": True}
    module = read_weights(place, attention, **how)  # type: ignore[arg-type]
    with reading(place):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        lm = TransformersModel(module, task="text-generation", tokenizer=tokenizer, device=device)
    module.eval().requires_grad_(False)  # nobody trains here; gradients are of what is added, not of weights
    return lm


def read_weights(place: str, attention: str = "sdpa", gguf: str | None = None, **how: Any) -> Any:
    """The transformers model of a checkpoint, refused unless the tensors are those of its configuration (transformers
    draws what is missing at random and drops the rest). Attention is "eager" where a family has no "sdpa"; `gguf` is a
    file in `place`, and `how` goes to `from_pretrained`."""
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)  # what goes wrong is said here
    with reading(place):
        # Without trust_remote_code=False transformers asks on the terminal.
        config = AutoConfig.from_pretrained(place, gguf_file=gguf, trust_remote_code=False)
    config.return_dict = True  # all that is read here has a name
    kind = architecture(config, place)
    if gguf is None and not getattr(config, "quantization_config", None):
        check_files(Path(place))
    if attention == "sdpa" and not kind._supports_sdpa:  # type: ignore[attr-defined]
        attention = "eager"
    how |= {"config": config, "gguf_file": gguf, "attn_implementation": attention}
    with reading(place):  # tensors of another shape are allowed, to be named with the others
        model, info = kind.from_pretrained(  # type: ignore[attr-defined]
            place, output_loading_info=True, ignore_mismatched_sizes=True, **how
        )
    expected = f"the weights of a {kind.__name__} at {place}, as its config.json describes them"
    mend = "get the checkpoint again as it was released, with the config.json that belongs to it."
    need(not (wrong := mismatches(info)), expected, wrong, mend, NOT_LOADED)
    return model


def check_files(place: Path) -> None:
    """Refuse what transformers would read wrongly: whole numbers as weights, which it casts, and a tensor in two shards."""
    from safetensors import safe_open

    index = place / "model.safetensors.index.json"
    with reading(str(place)):
        single = [place / "model.safetensors"]
        split = index.exists() and not single[0].exists()
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if split else {}
        found = [place / shard for shard in sorted({*shards.values()})] or single
        stored = {}
        for path in filter(Path.exists, found):  # one that lacks is named by transformers
            with safe_open(str(path), framework="pt") as file:
                stored |= {(name, path.name): file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    mend = "get the checkpoint again as it was released."
    whole = [name for (name, _), kind in stored.items() if kind[0] in "IU" or kind == "BOOL"]
    odd = [name for name in whole if not _CONSTANTS.search(name)]
    expected = f"floating-point weights at {place}, or a quantization_config that says how to read others"
    need(not odd, expected, f"whole numbers in {some(odd)}", mend, NOT_LOADED)
    twice = [name for name, shard in stored if shards.get(name, shard) != shard]
    expected = f"each tensor at {place} where its index says"
    need(not twice, expected, f"{some(twice)} elsewhere too", mend, NOT_LOADED)


def architecture(config: Any, place: str) -> type:
    """The class of a configuration: the causal language model of its family, else the one that it names itself."""
    import transformers

    known, name = transformers.MODEL_FOR_CAUSAL_LM_MAPPING, (config.architectures or ["no architecture"])[0]
    kind = known[type(config)] if type(config) in known else getattr(transformers, name, None)
    named = getattr(transformers, name, None)
    own = getattr(named, "config_class", None) or type(config)
    found = f"model_type {config.model_type} and architectures {name}"
    mend = "get the checkpoint again as it was released."
    need(own is type(config), f"one family in the config.json of {place}", found, mend, NOT_LOADED)
    causal = kind is not None and kind.can_generate() and not getattr(config, "is_encoder_decoder", False)
    mend = "choose a model that continues a text."
    need(causal, f"a causal language model at {place}", f"{name} ({config.model_type})", mend, NOT_LOADED)
    return kind


def mismatches(info: dict[str, Any]) -> str:
    """What transformers' loading information says against a checkpoint, in words; empty when all is well."""
    shapes = [f"{name} {list(here)} for {list(asked)}" for name, here, asked in info["mismatched_keys"]]
    unknown = [name for name in info["unexpected_keys"] if not _CONSTANTS.search(name)]
    kinds = {"missing": info["missing_keys"], "unexpected": unknown, "of another shape": shapes}
    return "; ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in kinds.items() if names)


def some(names: Collection[str]) -> str:
    """A few of many names."""
    shown = sorted(names)[:SHOWN]
    return ", ".join(shown + ["..."] * (len(names) > SHOWN))


def reading(place: str) -> AbstractContextManager[None]:
    """What goes wrong with files that others wrote, which may be anything, with the reason that was given."""
    expected = f"a causal language model with safetensors weights at {place}"
    mend = "check the folder or the id; what was found is the reason transformers gives."
    return told((Exception,), expected, mend, NOT_LOADED, _cause)


def _cause(error: BaseException) -> str:
    return shorten(named(error), 400, placeholder=" ...").rstrip(".")
