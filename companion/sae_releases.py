"""Autoencoders by the names of SAELens: `saelens:RELEASE/ID`, any of the releases that sae-lens knows.

sae-lens is an optional extra. It fetches and converts once; its folder in the cache is then read like any other, so
that what is computed with it does not depend on sae-lens.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from steerkit.errors import SteerkitError
from steerkit.files import cache_dir, locked

PREFIX = "saelens:"


def is_release(name: str) -> bool:
    """Whether a name asks for a release of sae-lens."""
    return name.startswith(PREFIX)


def obtain(name: str, *, download: bool = True) -> Path:
    """The SAELens folder of a release, in the cache; fetched through sae-lens when it is not there.

    Parameters
    ----------
    name : `saelens:RELEASE/ID`; the id may contain further slashes
    download : whether it may be fetched

    Raises
    ------
    SteerkitError
        A name of another form, sae-lens not installed, or what sae-lens itself refuses.
    """
    release, _, sae_id = name.removeprefix(PREFIX).partition("/")
    if not release or not sae_id or ".." in sae_id.split("/"):
        raise SteerkitError(
            "saelens:RELEASE/ID, such as saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre",
            repr(name),
            done="Nothing was read.",
            next_step="take both from the table of pretrained autoencoders in the documentation of SAELens.",
        )
    folder = cache_dir("sae", release).joinpath(*sae_id.split("/"))
    with locked(folder):
        if not folder.is_dir():
            _fetch(release, sae_id, folder, download)
    return folder


def _fetch(release: str, sae_id: str, folder: Path, download: bool) -> None:
    """Let sae-lens load it on the CPU in float32, and keep what it writes; whole or not at all."""
    if not download:
        raise _refusal(release, sae_id, "not in the cache", "allow the download.")
    try:
        from sae_lens import SAE
    except ImportError as error:
        raise _refusal(
            release, sae_id, "sae-lens is not installed", "run `pip install 'sae-lens>=6,<7'`."
        ) from error
    scratch = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed: we hold the lock
    try:
        SAE.from_pretrained(release, sae_id, device="cpu").save_model(scratch)
        scratch.rename(folder)
    except Exception as error:  # its own, the hub's, the disk's: all of them mean "not obtained"
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"
        raise _refusal(release, sae_id, reason, "check the two names and the connection.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refusal(release: str, sae_id: str, found: str, next_step: str) -> SteerkitError:
    return SteerkitError(
        f"{sae_id} of the release {release}, through sae-lens",
        found,
        done="Nothing was read.",
        next_step=next_step,
    )
