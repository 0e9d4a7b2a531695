"""The sparse autoencoders this book knows by name, and how any other is opened: by its path.

- `tiny`: random, built in code for the tiny models; it knows nothing, but it has every part that matters.
- `smollm2-135m`: trained by this project on the default model (`tools/train_sae.py`), part of the package.
- `gemma-scope-2b-l14-16k-l0-84` and its siblings: Google DeepMind's Gemma Scope (arXiv 2408.05147, CC BY 4.0), the
  family of Mayne et al. 2024, fetched from the hub at a pinned revision.
- `saelens:RELEASE/ID`: any release that sae-lens, an optional extra, knows. It fetches and converts once; its folder in
  the cache is then read like any other, so that what is computed with it does not depend on sae-lens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerkit.errors import SteerkitError, need
from steerkit.files import cache_dir, locked

if TYPE_CHECKING:
    from steerkit.sae import Sae

EMBEDDED = Path(__file__).parent / "data" / "sae"
REPORT = "report.json"
RELEASE = "saelens:"  # begins the name of a release of sae-lens


@dataclass(frozen=True)
class SaeSpec:
    """One autoencoder. `models` are those whose residual stream it reads, `layer` the block (None: its file says).

    `folder` is a name in the package's data, `repository` one on the hub with `path` and `revision`; without either it
    is built in code.
    """

    name: str
    models: tuple[str, ...]
    layer: int | None = None
    folder: str = ""
    repository: str = ""
    revision: str = ""
    path: str = ""
    licence: str = "CC0"


SCOPE = "google/gemma-scope-2b-pt-res"
SCOPE_REVISION = "fd571b47c1c64851e9b1989792367b9babb4af63"
SCOPE_SPARSITIES = (84, 23, 43, 173, 388)  # mean active features; the first is the canonical file


def _scope(l0: int) -> SaeSpec:
    return SaeSpec(
        f"gemma-scope-2b-l14-16k-l0-{l0}",
        ("gemma-2-2b", "google/gemma-2-2b", "google/gemma-2-2b-it"),
        14,
        repository=SCOPE,
        revision=SCOPE_REVISION,
        path=f"layer_14/width_16k/average_l0_{l0}/params.npz",
        licence="CC BY 4.0",
    )


SAES: dict[str, SaeSpec] = {
    spec.name: spec
    for spec in (
        SaeSpec("tiny", ("tiny", "tiny-gemma3"), 2),
        SaeSpec("smollm2-135m", ("smollm2-135m",), folder="smollm2-135m"),
        *(_scope(l0) for l0 in SCOPE_SPARSITIES),
    )
}
SCOPE_NAMES = tuple(name for name, spec in SAES.items() if spec.repository == SCOPE)


def has_default(model: str) -> bool:
    """Whether a model has an autoencoder here."""
    return any(model in spec.models for spec in SAES.values())


def default_sae(model: str) -> str:
    """Name of the autoencoder of a model; a model that has none here is refused."""
    known = {name: spec.name for spec in reversed(SAES.values()) for name in spec.models}
    need(
        model in known,
        f"a model with a sparse autoencoder ({', '.join(sorted(known))})",
        model,
        "give the path of one as sae=..., a params.npz or a SAELens folder.",
        done="Nothing was computed.",
    )
    return known[model]


def open_sae(
    name: str, expect_width: int | None = None, expect_layer: int | None = None, download: bool = True
) -> Sae:
    """An autoencoder: a name of `SAES`, `saelens:RELEASE/ID`, or the path of a `params.npz` or of a SAELens folder.

    `expect_width` and `expect_layer` are the width of the model and the block of the vector it is for; None is not
    checked, and a file that does not say its layer is taken at the caller's word. Without `download` only what is in
    the cache already is opened. The last one is kept in memory.
    """
    from steerkit.sae import check_fits

    sae = tiny_sae() if name == "tiny" else _load(path_of(name, download=download))
    if sae.layer is None:
        sae = replace(sae, layer=expect_layer)
    check_fits(sae, expect_width, expect_layer)
    return sae


@lru_cache(maxsize=1)
def _load(path: Path) -> Sae:
    from steerkit.sae import load_sae

    return load_sae(path)


def path_of(name: str, *, download: bool = True) -> Path:
    """The file or folder of an autoencoder, fetched when need be; a path is given back as it is."""
    if name.startswith(RELEASE):
        return _release(name, download)
    if spec := SAES.get(name):
        return _hub_file(spec, download) if spec.repository else _embedded(spec)
    need(
        name and Path(name).exists(),
        f"a sparse autoencoder ({', '.join(SAES)}) or the path of one",
        repr(name),
        "choose one of these, or give the path of a params.npz or of a SAELens folder.",
        done="Nothing was read.",
    )
    return Path(name)


def report(name: str) -> dict[str, Any]:
    """What was measured when it was trained (`report.json` beside the weights); empty where there is no report."""
    spec = SAES.get(name)
    path = (EMBEDDED / spec.folder if spec and spec.folder else Path(name)) / REPORT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _embedded(spec: SaeSpec) -> Path:
    folder = EMBEDDED / spec.folder
    need(
        folder.is_dir(),
        f"the autoencoder {spec.name} in the package's data",
        "none",
        "install the package with its data, or train one with tools/train_sae.py and give its path.",
        done="Nothing was read.",
    )
    return folder


@contextmanager
def _obtaining(what: str, download: bool, next_step: str) -> Iterator[None]:
    """Whatever fails on the way means "not obtained", and is said in one line."""
    try:
        yield
    except Exception as error:  # httpx's, requests', the hub's, sae-lens's, the disk's
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"
        found, step = (reason, next_step) if download else ("not in the cache", "allow the download.")
        raise SteerkitError(what, found, done="Nothing was read.", next_step=step) from error


def _hub_file(spec: SaeSpec, download: bool) -> Path:
    from huggingface_hub import hf_hub_download

    how = {"revision": spec.revision, "local_files_only": not download}
    step = "check the connection, or put the file on this machine and give its path."
    with _obtaining(f"{spec.path} of {spec.repository} on the Hugging Face hub", download, step):
        return Path(hf_hub_download(spec.repository, spec.path, **how))


def _release(name: str, download: bool) -> Path:
    """The SAELens folder of a release, in the cache; fetched through sae-lens when it is not there."""
    release, _, sae_id = name.removeprefix(RELEASE).partition("/")
    need(
        release and sae_id and ".." not in sae_id.split("/"),
        "saelens:RELEASE/ID, such as saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre",
        repr(name),
        "take both from the table of pretrained autoencoders in the documentation of SAELens.",
        done="Nothing was read.",
    )
    folder = cache_dir("sae", release).joinpath(*sae_id.split("/"))
    with locked(folder):
        if not folder.is_dir():
            _fetch(release, sae_id, folder, download)
    return folder


def _fetch(release: str, sae_id: str, folder: Path, download: bool) -> None:
    """Let sae-lens load it on the CPU in float32, and keep what it writes; whole or not at all."""
    what = f"{sae_id} of the release {release}, through sae-lens"
    need(download, what, "not in the cache", "allow the download.", done="Nothing was read.")
    try:
        from sae_lens import SAE
    except ImportError as error:
        step = "run `pip install 'sae-lens>=6,<7'`."
        raise SteerkitError(
            what, "sae-lens is not installed", done="Nothing was read.", next_step=step
        ) from error
    scratch = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed: we hold the lock
    try:
        with _obtaining(what, download, "check the two names and the connection."):
            SAE.from_pretrained(release, sae_id, device="cpu").save_model(scratch)
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@lru_cache(maxsize=1)
def tiny_sae(width: int = 32, factor: int = 8, seed: int = 0) -> Sae:
    """A random JumpReLU autoencoder for the tiny models, the same in every run.

    The second half of its features are partners of the first half with cosine -0.8. Six features have a large encoder
    bias, so that something is active at zero; thresholds differ; the decoder bias is not zero and is not subtracted,
    as in Gemma Scope.
    """
    import torch

    from steerkit.sae import Sae

    generator = torch.Generator().manual_seed(seed)
    half = width * factor // 2
    first = torch.nn.functional.normalize(torch.randn(half, width, generator=generator), dim=1)
    noise = torch.randn(half, width, generator=generator)
    noise = torch.nn.functional.normalize(noise - (noise * first).sum(1, keepdim=True) * first, dim=1)
    rows = torch.cat([first, -0.8 * first + 0.6 * noise])
    bias = 0.3 * torch.randn(2 * half, generator=generator) - 1.5
    bias[:6] = torch.tensor([9.0, 4.0, 3.0, 2.5, 2.0, 1.5])
    return Sae(
        W_enc=rows.T.contiguous(),
        b_enc=bias,
        W_dec=rows,
        b_dec=0.1 * torch.randn(width, generator=generator),
        kind="jumprelu",
        subtract_decoder_bias=False,
        threshold=0.05 + 0.3 * torch.rand(2 * half, generator=generator),
        layer=2,
        hook="blocks.2.hook_resid_post",
        model="tiny",
        source="random, seed 0",
    )
