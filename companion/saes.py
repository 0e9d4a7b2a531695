"""The sparse autoencoders this book knows by name, and how any other is opened: by its path.

- `tiny`: random, built in code for the tiny models.
- `smollm2-135m`: trained by this project on the default model (`tools/train_sae.py`), part of the package; and
  `smollm2-135m-unfolded`, trained with the mean left in its input.
- `gemma-scope-2b-l14-16k-l0-84` and its siblings: Gemma Scope (arXiv 2408.05147, CC BY 4.0), the family of Mayne et
  al. 2024, fetched from the hub at a pinned revision.
- `saelens:RELEASE/ID`: any release of sae-lens, an optional extra, which converts it once into a folder in the cache.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from steerkit.errors import NOT_READ, named, need, told
from steerkit.files import cache_dir, locked

if TYPE_CHECKING:
    from steerkit.sae import Sae

EMBEDDED = Path(__file__).parent / "data" / "sae"
RELEASE = "saelens:"  # begins the name of a release of sae-lens


@dataclass(frozen=True)
class SaeSpec:
    """One autoencoder of `models`, after the block `layer` (None: its file says).

    `folder` is in the package's data, `path` in Gemma Scope's repository; without either it is built in code.
    """

    models: tuple[str, ...]
    layer: int | None = None
    folder: str = ""
    path: str = ""


SCOPE, SCOPE_REVISION = "google/gemma-scope-2b-pt-res", "fd571b47c1c64851e9b1989792367b9babb4af63"
SCOPE_MODELS = ("gemma-2-2b", "google/gemma-2-2b", "google/gemma-2-2b-it")
# By mean active features; the first is the canonical file.
SCOPE_FILES = {l0: f"layer_14/width_16k/average_l0_{l0}/params.npz" for l0 in (84, 23, 43, 173, 388)}
SCOPE_NAMES = tuple(f"gemma-scope-2b-l14-16k-l0-{l0}" for l0 in SCOPE_FILES)
SAES: dict[str, SaeSpec] = {
    "tiny": SaeSpec(("tiny", "tiny-gemma3"), 2),
    "smollm2-135m": SaeSpec(("smollm2-135m",), folder="smollm2-135m"),
    **{n: SaeSpec(SCOPE_MODELS, 14, path=p) for n, p in zip(SCOPE_NAMES, SCOPE_FILES.values(), strict=True)},
    "smollm2-135m-unfolded": SaeSpec(("smollm2-135m",), folder="smollm2-135m-unfolded"),
}


def has_default(model: str) -> bool:
    """Whether a model has an autoencoder here."""
    return any(model in spec.models for spec in SAES.values())


def default_sae(model: str) -> str:
    """Name of the autoencoder of a model; a model that has none here is refused."""
    known = {model: name for name, spec in reversed(SAES.items()) for model in spec.models}
    expected = f"a model with a sparse autoencoder ({', '.join(sorted(known))})"
    step = "give the path of one as sae=..., a params.npz or a SAELens folder."
    need(model in known, expected, model, step, done="Nothing was computed.")
    return known[model]


def open_sae(
    name: str, expect_width: int | None = None, expect_layer: int | None = None, download: bool = True
) -> Sae:
    """An autoencoder: a name of `SAES`, `saelens:RELEASE/ID`, or the path of a `params.npz` or of a SAELens folder.

    `expect_width` and `expect_layer` are the width of the model and the block of the vector it is for (None: unchecked);
    a file without a layer takes the caller's. Without `download` only what is in the cache is opened.
    """
    from steerkit.sae import check_fits

    sae = tiny_sae() if name == "tiny" else _load(path_of(name, download=download))
    if sae.layer is None:
        sae = replace(sae, layer=expect_layer)
    check_fits(sae, expect_width, expect_layer)
    return sae


@lru_cache(maxsize=1)
def _load(path: Path) -> Sae:
    import companion.gemma_scope  # noqa: F401 - tells which model and site its files read
    from steerkit.sae import load_sae

    return load_sae(path)


def path_of(name: str, *, download: bool = True) -> Path:
    """The file or folder of an autoencoder, fetched when need be; a path is given back as it is."""
    if name.startswith(RELEASE):
        return _release(name, download)
    spec, path = SAES.get(name), Path(name)
    if spec and spec.path:
        from huggingface_hub import hf_hub_download

        step = "check the connection, or put the file on this machine and give its path."
        with _obtaining(f"{spec.path} of {SCOPE} on the Hugging Face hub", download, step):
            kept = not download
            return Path(hf_hub_download(SCOPE, spec.path, revision=SCOPE_REVISION, local_files_only=kept))
    expected = f"a sparse autoencoder ({', '.join(SAES)}) or the path of one"
    step = "choose one of these, or give the path of a params.npz or of a SAELens folder."
    if spec:
        path, expected = EMBEDDED / spec.folder, f"the autoencoder {name} in the package's data"
        step = "install the package with its data, or train one with tools/train_sae.py and give its path."
    need(name and path.exists(), expected, "none" if spec else repr(name), step, NOT_READ)
    return path


def _obtaining(what: str, download: bool, next_step: str) -> AbstractContextManager[None]:
    """Whatever fails on the way means "not obtained": httpx, requests, the hub, sae-lens, the disk."""
    if not download:
        return told((Exception,), what, "allow the download.", NOT_READ, lambda _: "not in the cache")
    return told((Exception,), what, next_step, NOT_READ, lambda e: named(e).partition("\n")[0].rstrip("."))


def _release(name: str, download: bool) -> Path:
    """The SAELens folder of a release, in the cache, whole or not at all; when it is not there sae-lens loads it on the CPU."""
    release, _, sae_id = name.removeprefix(RELEASE).partition("/")
    such = "saelens:gemma-scope-2b-pt-res-canonical/layer_14/width_16k/canonical"
    expected = f"saelens:RELEASE/ID, such as {such}"
    step = "take both from the table of pretrained autoencoders in the documentation of SAELens."
    inside = not {".", "..", ""} & {release, *sae_id.split("/")}
    need(inside, expected, repr(name), step, NOT_READ)
    folder = cache_dir("sae", release).joinpath(*sae_id.split("/"))
    with locked(folder):
        if folder.is_dir():
            return folder
        what = f"{sae_id} of the release {release}, through sae-lens"
        need(download, what, "not in the cache", "allow the download.", NOT_READ)
        step, absent = "run `pip install 'sae-lens>=6,<7'`.", "sae-lens is not installed"
        with told((ImportError,), what, step, NOT_READ, lambda _: absent):
            from sae_lens import SAE
        scratch = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed: we hold the lock
        try:
            with _obtaining(what, download, "check the two names and the connection."):
                SAE.from_pretrained(release, sae_id, device="cpu").save_model(scratch)
                return scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@lru_cache(maxsize=1)
def tiny_sae() -> Sae:
    """A random JumpReLU autoencoder for the tiny models, the same in every run.

    The second half of its features are partners of the first with cosine -0.8; six have a large encoder bias, so that
    something is active at zero; the decoder bias is not zero and is not subtracted, as in Gemma Scope.
    """
    import torch

    from steerkit.sae import Sae

    generator, normalize = torch.Generator().manual_seed(0), torch.nn.functional.normalize
    width, half = 32, 128
    first = normalize(torch.randn(half, width, generator=generator), dim=1)
    noise = torch.randn(half, width, generator=generator)
    noise = normalize(noise - (noise * first).sum(1, keepdim=True) * first, dim=1)
    rows = torch.cat([first, -0.8 * first + 0.6 * noise])
    bias = 0.3 * torch.randn(2 * half, generator=generator) - 1.5
    bias[:6] = torch.tensor([9.0, 4.0, 3.0, 2.5, 2.0, 1.5])
    b_dec = 0.1 * torch.randn(width, generator=generator)
    threshold = 0.05 + 0.3 * torch.rand(2 * half, generator=generator)
    about = {"hook": "blocks.2.hook_resid_post", "model": "tiny", "source": "random, seed 0"}
    kind = {"kind": "jumprelu", "subtract_decoder_bias": False, "threshold": threshold}
    return Sae(W_enc=rows.T.contiguous(), b_enc=bias, W_dec=rows, b_dec=b_dec, layer=2, **kind, **about)
