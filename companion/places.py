"""Where things are: in a clone beside the packages; installed, inside the companion, and results in the cache."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from steerkit.errors import need, told

ROOT = Path(__file__).parents[1]  # the clone, or the folder that the packages are installed in
SHIPPED = Path(__file__).parent / "shipped"
CLONED = not SHIPPED.is_dir()
SOURCES = ROOT if CLONED else SHIPPED
NOTEBOOKS, PROFILES, RECORDS = (SOURCES / name for name in ("notebooks", "profiles", "records"))
BOOK = ROOT / "book"


def _cache() -> Path:
    """The cache folder, which need not be there; a machine without a home has none, and `at_home` says so."""
    with suppress(RuntimeError):
        return Path(os.environ.get("STEERKIT_CACHE") or user_cache_path("steerkit"))
    return Path()


EXECUTED = (BOOK if CLONED else _cache()) / "notebooks"


def at_home() -> None:
    """Give a user without a home (a container's, without HOME and entry) one: libraries ask for it whatever they do."""
    with suppress(RuntimeError):
        Path.home()
        return
    cache = os.environ.get("STEERKIT_CACHE")
    mend = "set STEERKIT_CACHE (or HOME) to a folder of yours."
    need(bool(cache), "a home folder, or STEERKIT_CACHE", "no HOME and no entry for this user", mend)
    os.environ["HOME"] = cache
    os.environ.setdefault("LOGNAME", "steerkit")  # torch names a folder after it


def at_work() -> None:
    """Refuse a folder that is gone, and a Python without assertions and docstrings, which are checks and claims here."""
    mend = "unset PYTHONOPTIMIZE, and give python no -O."
    found = f"optimisation level {sys.flags.optimize}"
    need(not sys.flags.optimize, "a Python that keeps assertions and docstrings", found, mend)
    step, gone = "change to one that exists.", lambda _: "one that is gone"
    with told((OSError,), "a folder to work in", step, found=gone):
        Path.cwd()


def need_clone(what: str) -> None:
    """Refuse, in an installed package, what has to do with files that only the repository has."""
    mend = "clone the repository, and `pip install -e .` there."
    need(CLONED, f"a clone of the repository, for {what}", "an installed package", mend)
