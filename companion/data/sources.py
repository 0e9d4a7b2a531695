"""Where the papers' raw files come from, and how one reaches this machine.

`data/sources.json` holds one entry per file: name, format, address at a pinned commit, path in a local
folder, size, rows, SHA-256, licence and citation. Nothing is opened before its SHA-256 has been checked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from steerkit.errors import SteerkitError
from steerkit.files import cache_dir

DATA_DIR_VARIABLE = "STEERKIT_DATA"


@dataclass(frozen=True)
class Source:
    """One raw file of the papers.

    Attributes
    ----------
    name : str
        Data set name, e.g. ``"narcissism"``, ``"human/corrigible-neutral-HHH"``, ``"caa/generate/refusal"``.
    format : str
        ``"persona"``, ``"choice"``, ``"truthfulqa"``, ``"caa-truthfulqa"`` or ``"questions"`` (no answers).
    url : str
        Raw file at a pinned commit.
    path : str
        Path in a local data folder and in the cache, e.g. ``"mwe/persona/narcissism.jsonl"``.
    bytes, rows, sha256
        Of the raw file.
    licence, citation : str
    more_options : bool
        Some questions list more than two options.
    """

    name: str
    format: str
    url: str
    path: str
    bytes: int
    rows: int
    sha256: str
    licence: str
    citation: str
    more_options: bool = False


@cache
def _registry() -> dict[str, Any]:
    return json.loads((files("companion") / "data" / "sources.json").read_text(encoding="utf-8"))


@cache
def sources() -> dict[str, Source]:
    """Every raw file of the papers by data set name."""
    collections = _registry()["collections"]
    return {entry["name"]: _source(entry, collections[entry["collection"]]) for entry in _registry()["files"]}


def tan_names() -> tuple[str, ...]:
    """The 40 data sets of Tan et al. 2024, in the order of their runs."""
    return tuple(_registry()["tan_2024"])


def _source(entry: dict[str, Any], collection: dict[str, str]) -> Source:
    return Source(
        name=entry["name"],
        format=entry["format"],
        url=collection["url"] + entry["upstream"],
        path=entry["path"],
        bytes=entry["bytes"],
        rows=entry["rows"],
        sha256=entry["sha256"],
        licence=collection["licence"],
        citation=collection["citation"],
        more_options=entry.get("more_options", False),
    )


def read_source(source: Source, data_dir: str | Path | None = None) -> bytes:
    """Content of a raw file, checked against its SHA-256.

    Parameters
    ----------
    source : Source
    data_dir : path or None
        Local folder laid out like `Source.path`; the environment variable STEERKIT_DATA stands in for None.
        Without either the file is fetched once into the cache folder (`steerkit.files`).

    Raises
    ------
    SteerkitError
        File missing in `data_dir`, wrong SHA-256, truncated download, no network, unwritable cache.
    """
    local = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return _read_local(source, Path(local)) if local else _read_cached(source)


def _read_local(source: Source, folder: Path) -> bytes:
    path = folder / source.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SteerkitError(
            f"the data set {source.name} at {path}",
            f"no readable file there ({error.strerror})",
            done="Nothing was fetched, because a local data folder was given.",
            next_step=f"put {source.url} there, or unset data_dir and {DATA_DIR_VARIABLE} to fetch it.",
        ) from error
    if _sha256(content) != source.sha256:
        raise _wrong_hash(
            source,
            path,
            content,
            "The file was not opened; it is yours, so it was left alone.",
            f"replace it by {source.url}, or load it as your own data set by its path.",
        )
    return content


def _read_cached(source: Source) -> bytes:
    path = cache_dir("data") / source.path
    if not path.is_file():
        _download(source, path)
    content = path.read_bytes()
    if _sha256(content) != source.sha256:
        path.unlink()
        raise _wrong_hash(
            source, path, content, "The file was deleted from the cache.", "run again to fetch it anew."
        )
    return content


def _download(source: Source, path: Path) -> None:
    """Fetch to `path`. pooch writes a temporary file, checks it, and moves it: `path` is whole or absent."""
    import pooch
    import requests

    try:
        pooch.retrieve(
            source.url,
            f"sha256:{source.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=_refuse_truncated(source, _downloader()),
        )
    except requests.exceptions.RequestException as error:
        raise SteerkitError(
            f"to download the data set {source.name} from {source.url}",
            f"{type(error).__name__}: {error}",
            done="Nothing was kept in the cache.",
            next_step=f"check the network and run again, or put the file at <folder>/{source.path} and set "
            f"{DATA_DIR_VARIABLE}=<folder>; the bundled data sets need no network.",
        ) from error
    except ValueError as error:  # pooch says so when the checksum differs
        raise SteerkitError(
            f"{source.url} with SHA-256 {source.sha256}",
            f"another content ({error})",
            done="The download was deleted, so the cache holds no such file.",
            next_step="run again; if it happens twice, something between here and there alters the file.",
        ) from error
    except OSError as error:
        raise SteerkitError(
            f"a cache folder that can be written, {path.parent}",
            f"{type(error).__name__}: {error}",
            next_step="mend its permissions or free some space, or set STEERKIT_CACHE to another folder.",
        ) from error


def _downloader() -> Callable[..., None]:
    import pooch

    return pooch.HTTPDownloader(timeout=30)


def _refuse_truncated(source: Source, downloader: Callable[..., None]) -> Callable[..., None]:
    """`downloader`, followed by a look at the size: "truncated" tells the user more than "wrong checksum"."""

    def fetch(url: str, output_file: str, pooch: Any) -> None:
        downloader(url, output_file, pooch)
        size = Path(output_file).stat().st_size
        if size < source.bytes:
            raise SteerkitError(
                f"{source.bytes} bytes from {url}",
                f"{size} bytes: the download was truncated",
                done="The partial file was deleted.",
                next_step="run again.",
            )

    return fetch


def _wrong_hash(source: Source, path: Path, content: bytes, done: str, next_step: str) -> SteerkitError:
    return SteerkitError(
        f"{path} with SHA-256 {source.sha256}", f"SHA-256 {_sha256(content)}", done=done, next_step=next_step
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
