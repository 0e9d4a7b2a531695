"""Finished artefacts as one file: made on a machine with a GPU, used on a laptop.

A pack is a plain tar archive of tables and vectors with a list of their hashes. The keys of artefacts hold the
numeric code and the versions of the libraries, so a pack is of use to the same checkout only; another one would
compute everything again, and is told so.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from companion import store
from steerkit.errors import SteerkitError

CONTENTS = "contents.json"
SUFFIXES = (".parquet", ".safetensors")
LISTED = {"code": str, "versions": dict, "sha256": dict}  # what the list of contents holds


def pack(target: Path, model: str | None = None) -> list[str]:
    """Write the artefacts of `model` (None: of all) to `target`; returns their names.

    Raises
    ------
    SteerkitError
        When there are none, or the target cannot be written.
    """
    chosen = [path for path in _finished() if model is None or _model_of(path) == model]
    if not chosen:
        raise SteerkitError(
            f"finished artefacts{f' of {model}' if model else ''} in {store.artifacts_dir()}",
            "none",
            done="Nothing was written.",
            next_step="run `steerkit reproduce` with the profile first.",
        )
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in chosen}
    about = {"code": store.code_hash(), "versions": store.versions(), "sha256": hashes}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        _add(archive, CONTENTS, json.dumps(about, indent=1).encode())
        for path in chosen:
            _add(archive, path.name, path.read_bytes())
    store.write_atomically(target, sink.getvalue())
    return list(hashes)


def unpack(source: Path) -> list[str]:
    """Put the artefacts of a pack where this machine keeps its own; returns the names of those that were new.

    Raises
    ------
    SteerkitError
        No pack, a damaged or altered one, or one of another version of the code.
    """
    contents = _read(source)
    about = _listed(contents.pop(CONTENTS), source)
    _check_version(about, source)
    for name, sha256 in about["sha256"].items():
        found = hashlib.sha256(contents[name]).hexdigest() if name in contents else None
        if found != sha256 or Path(name).name != name or not name.endswith(SUFFIXES):
            raise _damaged(source, f"{name} missing or altered")
    new = [name for name in about["sha256"] if not (store.artifacts_dir() / name).exists()]
    for name in new:
        store.write_atomically(store.artifacts_dir() / name, contents[name])
    return new


def _finished() -> list[Path]:
    return sorted(path for path in store.artifacts_dir().iterdir() if path.suffix in SUFFIXES)


def _model_of(path: Path) -> str:
    """The model in the manifest of a table or a vector file; empty for a file that cannot be read."""
    from steerkit.vectors import load_vectors

    manifest: dict[str, Any] = {}
    if path.suffix == ".parquet":
        table = store.read_table(path)
        manifest = {} if table is None else table.attrs["manifest"]
    else:
        with suppress(SteerkitError):  # damaged
            manifest = load_vectors(path).manifest
    return manifest.get("inputs", {}).get("model", "")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _read(source: Path) -> dict[str, bytes]:
    """Members by name, read into memory: nothing of the archive decides where a file goes."""
    try:
        with tarfile.open(source) as archive:
            files = {entry.name: archive.extractfile(entry) for entry in archive if entry.isfile()}
            contents = {name: file.read() for name, file in files.items()}
    except (OSError, EOFError, tarfile.TarError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise _damaged(source, reason.partition("\n")[0].rstrip(":") or "no archive") from error
    if CONTENTS not in contents:
        raise _damaged(source, f"no {CONTENTS}")
    return contents


def _listed(text: bytes, source: Path) -> dict[str, Any]:
    """The list of contents, when it has the form that `pack` writes."""
    try:
        about = json.loads(text)
    except ValueError as error:  # no JSON, or no text
        raise _damaged(source, f"a {CONTENTS} that cannot be read") from error
    if not isinstance(about, dict) or not all(isinstance(about.get(k), kind) for k, kind in LISTED.items()):
        raise _damaged(source, f"a {CONTENTS} without {', '.join(LISTED)}")
    return about


def _damaged(source: Path, found: str) -> SteerkitError:
    return SteerkitError(
        f"a pack of `steerkit artifacts pack` at {source}",
        found,
        done="Nothing was unpacked.",
        next_step="copy it again.",
    )


def _check_version(about: dict[str, Any], source: Path) -> None:
    here = {"code": store.code_hash(), **store.versions()}
    there = {"code": about["code"], **about["versions"]}
    differ = [
        f"{name} {there.get(name)} instead of {here[name]}" for name in here if there.get(name) != here[name]
    ]
    if differ:
        raise SteerkitError(
            f"a pack made by this version of the code ({source.name})",
            ", ".join(differ),
            done="Nothing was unpacked: these artefacts would not be found here.",
            next_step="check out the commit and install the versions with which it was made.",
        )
