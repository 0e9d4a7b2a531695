"""Models that live on a server: here only their outline, without weights, and what the server says about itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from steerkit import traces
from steerkit.errors import first_line, need, told
from steerkit.model import Model, find_sites
from steerkit.ndif.address import host_of
from steerkit.ndif.failures import VERSIONS
from steerkit.ndif.jobs import answer_of
from steerkit.ndif.ledger import clean
from steerkit.templates import template_for


def open_remote(
    place: str, served: tuple[str, str | None], url: str, *, template: str, attention: str, source: dict
) -> Model:
    """A model on a server, which knows it as `served` (id or folder, revision) and is asked for precision and versions
    at once; `place` holds configuration and tokenizer."""
    import torch

    lm = _outline(place, served, attention)
    chosen, name, host = template_for(template, lm.tokenizer), source["model"], host_of(url)
    there: dict[str, Any] = {"dtype_reason": f"the server's ({host})", "remote": url}
    asking = Model(name, lm, *find_sites(lm), chosen, torch.device("cpu"), torch.float32, **there)
    about = answer_of(asking, traces.describe, traces.site_of(asking))
    sound = isinstance(about, dict) and "device" in about and hasattr(torch, str(about.get("dtype")))
    need(sound, f"precision and device from {host}", repr(about)[:80], VERSIONS, "Nothing was loaded.")
    source = {"model": name, "hub_id": None, "revision": served[1]} | source
    source |= {"where": "remote", "server": host, "dtype": about["dtype"], "device": about["device"]}
    source |= {"server_versions": about, "template": chosen.about()}
    clean()
    return replace(asking, dtype=getattr(torch, about["dtype"]), source=source)


def _outline(place: str, served: tuple[str, str | None], attention: str) -> Any:
    """The nnsight model without weights, under the name that the server knows."""
    from nnsight import TransformersModel
    from nnsight.modeling import huggingface
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    repo, revision = served
    place = repo if Path(repo).is_dir() else place
    expected = f"configuration and tokenizer of a causal language model at {place}"
    mend = "check the id or the folder."
    with told((OSError, ValueError), expected, mend, "Nothing was sent.", first_line):
        # Given, because nnsight finds none for a model without weights under some versions of transformers.
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        how = {"task": "text-generation", "tokenizer": tokenizer, "attn_implementation": attention}
        lm = TransformersModel(place, **how)
    lm.repo_id, lm.revision = repo, revision
    huggingface._ID_CACHE[repo] = repo  # else nnsight asks the hub how it is spelled, which a folder has not
    return lm
