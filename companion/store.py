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
NUMERIC_CODE = ("steerkit/*.py", "companion/data/*.py", "companion/tan/jobs.py", "companion/tan/work.py")
OF_MODELS = ("fidelities", "templates", "models", "weights", "tiny")
NUMERIC_CODE += tuple(f"companion/{name}.py" for name in OF_MODELS)
NUMERIC_CODE += ("companion/tan/placebo.py", "companion/tan/dose.py", "companion/tan/authors.py")
NUMERIC_CODE += (
    "companion/tan/products.py",
    "companion/tan/unigram.py",
    "companion/tan/unlabelled.py",
    "companion/tan/leak.py",
)
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

    def read(path: Path) -> pd.DataFrame | None:
        found = read_table(path)
        return found if found is not None and _is_of(found.attrs["manifest"], name, inputs) else None

    return _kept(path_of(name, inputs, "parquet"), read, compute, write)


def vectors(name: str, inputs: dict[str, Any], compute: Callable[[], Vectors]) -> Vectors:
    """The same for steering vectors (safetensors); what their manifest says already is kept."""

    def read(path: Path) -> Vectors | None:
        with suppress(SteerkitError):  # none there, or damaged, or put there under this name
            found = load_vectors(path)
            return found if _is_of(found.manifest, name, inputs) else None

    def write(path: Path, found: Vectors, seconds: float) -> None:
        replace(found, manifest=found.manifest | manifest(name, inputs, seconds)).save(path)

    return _kept(path_of(name, inputs, "safetensors"), read, compute, write)


def _kept(path: Path, read: Callable, compute: Callable, write: Callable) -> Any:
    """What is read from a file, which is made where there is none, by one process at a time."""
    if (found := read(path)) is not None:
        return found
    with locked(path, ARTIFACTS):
        if (found := read(path)) is not None:
            return found
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


def _is_of(about: dict[str, Any], name: str, inputs: dict[str, Any]) -> bool:
    """Whether a manifest is of this artefact: a file is not believed because of its name."""
    return about.get("name") == name and about.get("key") == key(about.get("inputs")) == key(inputs)


def name_in(content: bytes, suffix: str) -> str:
    """The file name that the manifest inside a table or a vector file gives it; empty where there is none, or one whose
    inputs have another key under this code."""
    about = manifest_in(content, suffix)
    said = {"name", "key", "inputs"} <= set(about) and about["key"] == key(about["inputs"])
    return f"{about['name']}-{about['key']}{suffix}" if said else ""


def same_numbers(one: bytes, other: bytes, suffix: str) -> bool:
    """Whether two files of an artefact hold the same: two machines round differently, and note their own times."""
    import numpy as np
    import pandas as pd

    first, second = (_numbers(content, suffix) for content in (one, other))
    if first is None or second is None:
        return one == other
    if isinstance(first, np.ndarray):
        return first.shape == second.shape and bool(np.allclose(first, second, 1e-3, 1e-4, equal_nan=True))
    try:
        pd.testing.assert_frame_equal(first, second, check_dtype=False, rtol=1e-3, atol=1e-3)
    except AssertionError:
        return False
    return True


def _numbers(content: bytes, suffix: str) -> Any:
    if suffix == ".parquet":
        return read_table(io.BytesIO(content))
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with suppress(SafetensorError):
        return load(content).get("values")
    return None


def manifest_in(content: bytes, suffix: str) -> dict[str, Any]:
    """The manifest inside a table or a vector file; nothing of a file that cannot be read."""
    if suffix == ".parquet":
        table = read_table(io.BytesIO(content))
        return {} if table is None else dict(table.attrs["manifest"])
    with suppress(ValueError, KeyError, TypeError, RecursionError):  # no safetensors header
        size = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["manifest"])
        return about if isinstance(about, dict) else {}
    return {}


def exists(name: str, inputs: dict[str, Any]) -> bool:
    """Whether a table is there already."""
    return path_of(name, inputs, "parquet").exists()


def path_of(name: str, inputs: dict[str, Any], suffix: str) -> Path:
    """The file of an artefact."""
    return artifacts_dir() / f"{name}-{key(inputs)}.{suffix}"


class Manifest(dict):
    """A manifest that travels in `frame.attrs`: pandas copies those deeply at every step, and this is never changed."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Manifest:
        return self


class Manifests(tuple):
    """Those of several tables in one; likewise."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Manifests:
        return self


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
