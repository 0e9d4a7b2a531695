"""Artefacts: tables and vectors kept under a key of everything that decides their content.

The key is a hash of the inputs (parameters, data hash, model hash, seed), of the code that computes numbers and of
the versions of the libraries that do arithmetic. Same key, same content; so nothing is ever stale, a killed run
goes on where it stopped, and two runs can share a folder. A manifest with all of it travels inside each file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerkit.cache import cache_dir, locked
from steerkit.errors import SteerkitError

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.vectors import Vectors

MANIFEST = b"steerkit.manifest"
# The code that turns inputs into numbers. Figures, the command line and the store itself are not in it: restyling a
# plot must not recompute a grid.
NUMERIC_CODE = (
    "blocks.py",
    "counterbalance.py",
    "engine/choice.py",
    "engine/direct.py",
    "engine/grid.py",
    "engine/layout.py",
    "engine/memory.py",
    "engine/tree.py",
    "extract.py",
    "items.py",
    "jobs.py",
    "pairing.py",
    "prompt_settings.py",
    "prompts.py",
    "propensity.py",
    "raw_rows.py",
    "sites.py",
    "splits.py",
    "templates.py",
    "tiny.py",
    "vectors.py",
)
NUMERIC_PACKAGES = ("torch", "transformers", "nnsight")


def folder() -> Path:
    """Where artefacts are kept: STEERKIT_ARTIFACTS, else `artifacts` in the cache."""
    chosen = os.environ.get("STEERKIT_ARTIFACTS")
    if not chosen:
        return cache_dir("artifacts")
    try:
        Path(chosen).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SteerkitError(
            f"a folder for artefacts that can be written at {chosen}",
            str(error.strerror),
            next_step="set STEERKIT_ARTIFACTS to a folder of yours, or unset it.",
        ) from error
    return Path(chosen)


@cache
def code_hash() -> str:
    """sha256 over the source of `NUMERIC_CODE`."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for name in NUMERIC_CODE:
        digest.update(name.encode() + (root / name).read_bytes())
    return digest.hexdigest()[:16]


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that do the arithmetic, without the build ("+cpu") of torch."""
    return {name: importlib.metadata.version(name).partition("+")[0] for name in NUMERIC_PACKAGES}


@cache
def commit() -> str:
    """The repository's commit, with a mark when files differ from it; empty outside a checkout or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def key(inputs: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that name `inputs`, the numeric code and the library versions."""
    text = json.dumps(
        {"inputs": inputs, "code": code_hash(), "versions": versions()}, sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def table(name: str, inputs: dict[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table `name` for these inputs: read when there, computed and kept when not.

    `compute` may set `frame.attrs` (engine, reason, ...); they go into the manifest. The manifest comes back in
    `frame.attrs["manifest"]`.
    """
    path = path_of(name, inputs, "parquet")
    found = read_table(path)
    if found is not None:
        return found
    with locked(path):
        found = read_table(path)
        if found is None:
            _tidy(path)
            start = time.perf_counter()
            frame = compute()
            write_table(path, frame, manifest(name, inputs, time.perf_counter() - start, **frame.attrs))
            found = read_table(path)
    return found


def vectors(name: str, inputs: dict[str, Any], compute: Callable[[], Vectors]) -> Vectors:
    """The same for steering vectors (safetensors); what their manifest says already is kept."""
    from dataclasses import replace

    from steerkit.vectors import load_vectors

    path = path_of(name, inputs, "safetensors")
    with locked(path):
        with suppress(SteerkitError):  # none there, or damaged
            return load_vectors(path)
        _tidy(path)
        start = time.perf_counter()
        computed = compute()
        about = computed.manifest | manifest(name, inputs, time.perf_counter() - start)
        replace(computed, manifest=about).save(path)
        return load_vectors(path)


def _tidy(path: Path) -> None:
    """Remove what killed runs were writing when they died: whoever holds the lock of an artefact is its only writer."""
    for scratch in path.parent.glob(f".{path.name}.*.tmp"):
        scratch.unlink(missing_ok=True)


def exists(name: str, inputs: dict[str, Any], suffix: str = "parquet") -> bool:
    """Whether an artefact is there already."""
    return path_of(name, inputs, suffix).exists()


def path_of(name: str, inputs: dict[str, Any], suffix: str) -> Path:
    """The file of an artefact."""
    return folder() / f"{name}-{key(inputs)}.{suffix}"


class Manifest(dict):
    """A manifest that travels in `frame.attrs`: pandas copies those deeply at every step, and this is never changed."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Manifest:
        return self


def manifest(name: str, inputs: dict[str, Any], seconds: float, **about: Any) -> dict[str, Any]:
    """What is known about an artefact when it is made."""
    return {
        "name": name,
        "key": key(inputs),
        "inputs": inputs,
        "code": code_hash(),
        "versions": versions(),
        "commit": commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        **about,
    }


def csv(table: pd.DataFrame) -> bytes:
    """A table for readers: as many digits as a float32 holds, which is what scores are."""
    return table.to_csv(index=False, float_format="%.7g").encode()


def write_table(path: Path, frame: pd.DataFrame, about: dict[str, Any]) -> None:
    """Write a parquet file with its manifest in the schema; it appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    arrow = arrow.replace_schema_metadata(
        {**(arrow.schema.metadata or {}), MANIFEST: json.dumps(about, default=str).encode()}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, write_page_checksum=True)
    write_atomically(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> pd.DataFrame | None:
    """A table written by `write_table`, None when there is none; a damaged file counts as none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
        about = json.loads((arrow.schema.metadata or {})[MANIFEST])
        frame = arrow.to_pandas()
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    frame.attrs = {"manifest": Manifest(about)}
    return frame


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the target, flush, then move into place.

    Raises
    ------
    SteerkitError
        When the folder cannot be written or the disk is full; nothing is left behind.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)  # noqa: PTH105 - the atomic one
    except OSError as error:
        raise SteerkitError(
            f"to write {path}",
            str(error.strerror or error),
            done="Nothing was left behind.",
            next_step="free some space, or choose another folder.",
        ) from error
    finally:  # also after Ctrl-C; where even that fails there is no folder to leave anything in
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
