"""Data sets: one by name or path.

A name of the papers exists several times: `source="bundled"` is this project's own set (CC0, 60 minimal pairs),
`source="scenes"` one of 20 pairs in another style (CC0), and `source="papers"` the original file, fetched from its
pinned address in `sources.json` and opened only when its SHA-256 is right.
"""

import difflib
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from companion.data.checks import check_items, check_pairs
from companion.data.rows import parse_rows, read_rows
from steerkit.errors import SteerkitError, need, one_of, told
from steerkit.files import cache_dir
from steerkit.items import Item

logger = logging.getLogger(__name__)
HERE = Path(__file__).parent
DATA_DIR_VARIABLE = "STEERKIT_DATA"
OURS = ("bundled", "scenes")  # sources that come with the package
# CAA's own split (Rimsky et al. 2023), for a single vector: files of its own for training and test.
CAA = "corrigible-neutral-HHH"
CAA_PARTS = {f"caa/{CAA}": (f"caa/generate/{CAA}", f"caa/test/{CAA}")}
NOT_LOADED = "Nothing was loaded."
SUFFIXES = (".jsonl", ".json", ".csv")


@dataclass(frozen=True)
class Dataset:
    """Items in file order with their origin: `source` is "bundled", "papers", or the path of a user's own file,
    `sha256` of the raw file."""

    name: str
    items: tuple[Item, ...]
    source: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Source:
    """One raw file of the papers. `format` is a name of `rows.READERS`; `path` is where it lies in a local data folder and
    in the cache; with `more_options` some questions list more than two."""

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
def _read(name: str) -> dict[str, Any]:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


@cache
def sources() -> dict[str, Source]:
    """Every raw file of the papers by data set name."""
    listed = _read("sources.json")
    found = (_source(listed["collections"][entry["collection"]], **entry) for entry in listed["files"])
    return {source.name: source for source in found}


def _source(about: dict[str, str], collection: str, upstream: str, **own: Any) -> Source:
    return Source(url=about["url"] + upstream, licence=about["licence"], citation=about["citation"], **own)


def names(source: str = "bundled") -> tuple[str, ...]:
    """Names of the data sets of a source: "bundled", "scenes", "papers" (every set in the registry), "tan" (the 40 of
    Tan et al. 2024 in the order of their runs), or "apart" (60 further persona sets, kept apart to confirm on)."""
    one_of("a source", source, (*OURS, "papers", "tan", "apart"))
    if source in OURS:
        return tuple(sorted(path.stem for path in (HERE / source).glob("*.jsonl")))
    if source == "apart":
        return tuple(name for name, each in sources().items() if each.path.startswith("mwe_more/"))
    return tuple(sources() if source == "papers" else _read("sources.json")["tan_2024"])


def load_dataset(
    name_or_path: str | Path, source: str = "bundled", data_dir: str | Path | None = None
) -> Dataset:
    """Load a data set.

    `name_or_path` is a name out of `names(source)`, or the path of a ``.jsonl`` file (one item a line), ``.json``
    file (a list) or ``.csv`` file, in the papers' format or with the fields prompt, positive, negative. `data_dir` is
    a folder with the papers' files, else STEERKIT_DATA, else they are fetched. Refused: unknown names, files that are
    missing, empty, altered or unreadable, and wrong rows or pairs.

    >>> load_dataset("narcissism").items[0].question.splitlines()[0]
    'Is the following statement something you would say?'
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name.lower().endswith(SUFFIXES):
        path = Path(name_or_path)
        content = _own_file(path, "a data file", NOT_LOADED, "check the path.")
        found = _dataset(path.stem, content, str(path), "not stated", path.name)
        check_items(found.items)
        return found
    if name not in names(source):
        raise _unknown(name, source)
    if source in OURS:
        content = (HERE / source / f"{name}.jsonl").read_bytes()
        return _dataset(name, content, source, "CC0-1.0", f"{name}.jsonl")
    entry = sources()[name]
    how = entry.licence, entry.path, entry.format, entry.more_options
    return _dataset(name, read_source(entry, data_dir), "papers", *how)


def personas(name: str, source: str = "bundled") -> tuple[str, str]:
    """The positive and the negative sentence behind the prompt settings of a data set (Tan et al. 2024, Table 1).

    Those of the papers' sets are the paper's own, verbatim; bundled sets have ours, a user's own file has none.
    """
    from companion import published

    if source == "papers":
        return published.personas(name)
    ours = _read("bundled_personas.json")
    step = f"name bundled data sets for prompt settings, in a profile as shift: {{datasets: [{names('bundled')[0]}]}}."
    need(name in ours, f"a positive and a negative persona sentence for {name}", "none", step)
    return ours[name]["positive"], ours[name]["negative"]


def _own_file(path: Path, expected: str, done: str, next_step: str) -> bytes:
    said = "no readable file there ({})".format
    kinds, strerror = (OSError, ValueError), lambda error: said(getattr(error, "strerror", None) or error)
    with told(kinds, f"{expected} at {path}", next_step, done, strerror):
        return path.read_bytes()


def _dataset(name: str, content: bytes, source: str, licence: str, path: str, *how: Any) -> Dataset:
    items = parse_rows(read_rows(content, path), name, *how)
    check_pairs(items)
    labels = [item.positive_answer for item in items if item.kind == "persona" and item.pair is None]
    yes, no = labels.count("Yes"), labels.count("No")
    if abs(yes - no) > max(2, len(labels) / 50):  # a few of the papers' sets are one or two items off
        logger.warning(
            f"{name} has {yes} statements that match and {no} that do not: in letter and yes-no the word Yes does not "
            f"cancel, and in statement {abs(yes - no)} are left out. Add or drop rows until both halves are equal."
        )
    return Dataset(name, items, source, hashlib.sha256(content).hexdigest(), licence)


def _unknown(name: str, source: str) -> SteerkitError:
    near = difflib.get_close_matches(name, names(source), n=3, cutoff=0.5)
    other = "papers" if source == "bundled" else "bundled"
    elsewhere = f"; {name} exists with source={other!r}" if name in names(other) else ""
    step = f"try {' or '.join(near) or f'one of names({source!r})'}{elsewhere}, or give a path that ends in .jsonl, .json or .csv."
    return SteerkitError(f"a data set of source {source!r}", repr(name), done=NOT_LOADED, next_step=step)


def read_source(source: Source, data_dir: str | Path | None = None) -> bytes:
    """Content of a raw file, checked against its SHA-256: from the folder `data_dir` (else STEERKIT_DATA), in which
    nothing is ever written or deleted, or fetched once into the cache."""
    local = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if not local:
        return _fetched(source).read_bytes()
    path = Path(local) / source.path
    done = "Nothing was fetched, because a local data folder was given."
    step = f"put {source.url} there, or unset data_dir and {DATA_DIR_VARIABLE} to fetch it."
    content = _own_file(path, f"the data set {source.name}", done, step)
    found, expected = hashlib.sha256(content).hexdigest(), f"{path} with SHA-256 {source.sha256}"
    done = "The file was not opened; it is yours, so it was left alone."
    step = f"replace it by {source.url}, or load it as your own data set by its path."
    need(found == source.sha256, expected, f"SHA-256 {found}", step, done)
    return content


def _fetched(source: Source) -> Path:
    """The file in the cache; pooch writes a temporary file, compares its hash, and moves it."""
    import pooch
    import requests

    folder = cache_dir("data")
    known, urls = {source.path: source.sha256}, {source.path: source.url}
    store = pooch.create(folder, base_url="", registry=known, urls=urls)

    def whole(url: str, output_file: str, pup: Any) -> None:
        """Download, and look at the size: "truncated" tells the user more than "wrong checksum"."""
        pooch.HTTPDownloader(timeout=30)(url, output_file, pup)
        size = Path(output_file).stat().st_size
        found, done = f"{size} bytes: the download was truncated", "The partial file was deleted."
        need(size >= source.bytes, f"{source.bytes} bytes from {url}", found, "run again.", done)

    step = f"check the network and run again, or put the file at <folder>/{source.path} and set "
    step += f"{DATA_DIR_VARIABLE}=<folder>; the bundled data sets need no network."
    expected = f"to download the data set {source.name} from {source.url}"
    absent = told((requests.RequestException,), expected, step, "Nothing was kept in the cache.")
    step = "run again; if it happens twice, something between here and there alters the file."
    done, expected = "The download was deleted, so the cache holds no such file.", source.url
    expected += f" with SHA-256 {source.sha256}"
    altered = told((ValueError,), expected, step, done, "another content ({})".format)
    step = "mend its permissions or free some space, or set STEERKIT_CACHE to another folder."
    expected = f"a cache folder that can be written, {(folder / source.path).parent}"
    with told((OSError,), expected, step), altered, absent:
        return Path(store.fetch(source.path, downloader=whole))
