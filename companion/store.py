"""Artefacts: tables and vectors kept under a key of everything that decides their content.

The key is a hash of the inputs (parameters, data, model, seed), of the code that computes numbers and of the versions
of the libraries that do arithmetic. Same key, same content: nothing is ever stale, a killed run goes on where it
stopped, and two runs can share a folder. A manifest with all of it travels inside each file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion.code import syntax_hash
from companion.places import ROOT
from steerkit import SteerkitError, Vectors, load_vectors
from steerkit.files import ARTIFACTS, artifacts_dir, locked, write_atomically

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = b"steerkit.manifest"
TOLD = "STEERKIT_TOLD"
# The code that turns inputs into numbers: the library, and of the companion what opens, asks and runs. Figures, the
# command line and the store itself are not in it: restyling a plot must not recompute a grid.
OF_MODELS = "fidelities templates models weights tiny"
OF_STAGES = "jobs work placebo dose authors products unigram unlabelled leak"
NUMERIC_CODE = ["steerkit/*.py", "companion/data/*.py"]
NUMERIC_CODE += [f"companion/{name}.py" for name in OF_MODELS.split()]
NUMERIC_CODE += [f"companion/tan/{name}.py" for name in OF_STAGES.split()]
NUMERIC_PACKAGES = ("torch", "transformers", "nnsight")


@cache
def code_hash() -> str:
    """A hash of the syntax of `NUMERIC_CODE`: comments, docstrings and the file of a definition are not in it."""
    return syntax_hash(path for pattern in NUMERIC_CODE for path in sorted(ROOT.glob(pattern)))


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that do the arithmetic, without the build ("+cpu") of torch."""
    return {name: importlib.metadata.version(name).partition("+")[0] for name in NUMERIC_PACKAGES}


@cache
def commit() -> str:
    """The repository's commit, with a mark when files differ from it; empty outside a checkout or without git."""
    if not (ROOT / ".git").exists():  # a folder around it may be another repository
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    with suppress(FileNotFoundError, subprocess.CalledProcessError):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def key(inputs: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that name `inputs`, the numeric code and the library versions."""
    content = {"inputs": inputs, "code": code_hash(), "versions": versions()}
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def table(name: str, inputs: dict[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table `name` for these inputs: read when there, computed and kept when not.

    What `compute` sets in `frame.attrs` (engine, reason) goes into the manifest, which is `frame.attrs["manifest"]`.
    """

    def write(path: Path, frame: pd.DataFrame, seconds: float) -> None:
        write_table(path, frame, manifest(name, inputs, seconds, **frame.attrs))

    return _kept(name, inputs, "parquet", read_table, compute, write)


def vectors(name: str, inputs: dict[str, Any], compute: Callable[[], Vectors]) -> Vectors:
    """The same for steering vectors (safetensors); what their manifest says already is kept."""

    def read(path: Path) -> Vectors | None:
        with suppress(SteerkitError):  # none there, or damaged
            return load_vectors(path)

    def write(path: Path, found: Vectors, seconds: float) -> None:
        replace(found, manifest=found.manifest | manifest(name, inputs, seconds)).save(path)

    return _kept(name, inputs, "safetensors", read, compute, write)


def _kept(
    name: str, inputs: dict[str, Any], suffix: str, read: Callable, compute: Callable, write: Callable
) -> Any:
    """What is read from a file, which is made where there is none, by one process at a time."""
    path = path_of(name, inputs, suffix)

    def found() -> Any:
        """A file is not believed because of its name: its manifest is that of this artefact, or it counts as none."""
        if (there := read(path)) is not None:
            about = there.manifest if isinstance(there, Vectors) else there.attrs["manifest"]
            same = about.get("name") == name and about.get("key") == key(about.get("inputs")) == key(inputs)
            return there if same else None

    if (kept := found()) is not None:
        return kept
    with locked(path, ARTIFACTS):
        if (kept := found()) is not None:
            return kept
        for scratch in path.parent.glob(f".{path.name}.*.tmp"):  # of killed runs: we hold the lock
            scratch.unlink(missing_ok=True)
        if told := os.environ.get(TOLD):  # whoever waits for this process, see `telling`
            with suppress(OSError), Path(told).open("a", encoding="utf-8") as file:
                file.write(f"{path.stem.rpartition('-')[0]}\n")
        start = time.perf_counter()
        made = compute()
        write(path, made, time.perf_counter() - start)
        return read(path)


@contextmanager
def telling() -> Iterator[Path]:
    """A file in which the processes that are started meanwhile say what they compute, a line each."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[TOLD] = str(Path(folder, "told"))
        try:
            yield Path(os.environ[TOLD])
        finally:
            del os.environ[TOLD]


def inside(content: bytes, suffix: str) -> tuple[dict[str, Any], Any]:
    """Manifest and numbers of a table or a vector file, a frame or an array; nothing of a file that cannot be read."""
    if suffix == ".parquet":
        table = read_table(io.BytesIO(content))
        return ({}, None) if table is None else (dict(table.attrs["manifest"]), table)
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with suppress(SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        values, size = load(content)["values"], int.from_bytes(content[:8], "little")
        return dict(json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["manifest"])), values
    return {}, None


def path_of(name: str, inputs: dict[str, Any], suffix: str) -> Path:
    """The file of an artefact."""
    return artifacts_dir() / f"{name}-{key(inputs)}.{suffix}"


class _Unchanged:
    """What travels in `frame.attrs`: pandas copies those deeply at every step, and this is never changed."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Unchanged:
        return self


class Manifest(_Unchanged, dict):
    """The manifest of a table."""


class Manifests(_Unchanged, tuple):
    """Those of several tables in one."""


def manifest(name: str, inputs: dict[str, Any], seconds: float, **about: Any) -> dict[str, Any]:
    """What is known about an artefact when it is made."""
    known = {"name": name, "key": key(inputs), "inputs": inputs, "code": code_hash(), "versions": versions()}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return known | {"commit": commit(), "created": created, "seconds": round(seconds, 2)} | about


def csv(table: pd.DataFrame) -> bytes:
    """A table for readers: as many digits as a float32 holds, which is what scores are."""
    return table.to_csv(index=False, float_format="%.7g").encode()


def write_table(path: Path, frame: pd.DataFrame, about: dict[str, Any]) -> None:
    """Write a parquet file with its manifest in the schema; it appears whole or not at all."""
    write_atomically(path, table_bytes(frame, about))


def table_bytes(frame: pd.DataFrame, about: dict[str, Any]) -> bytes:
    """A table as a parquet file, with its manifest in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    kept = {**(arrow.schema.metadata or {}), MANIFEST: json.dumps(about, default=str).encode()}
    arrow = arrow.replace_schema_metadata(kept)
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def read_table(path: Path | io.BytesIO) -> pd.DataFrame | None:
    """A table written by `write_table`, None when there is none; a damaged file counts as none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path, page_checksum_verification=True)
        about = dict(json.loads((arrow.schema.metadata or {})[MANIFEST]))
        frame = arrow.to_pandas()
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, RecursionError):
        return None
    frame.attrs = {"manifest": Manifest(about)}
    return frame
