"""Data sets: load one by name or path, give its items letters, pair its statements.

Names are those of the papers. The same name exists twice: `source="bundled"` is this project's own set (CC0,
60 minimal pairs, part of the package), `source="papers"` the original file (fetched, checked, never shipped).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from companion.data.ask import add_choices, statement_pairs
from companion.data.rows import check_pairs, parse_rows, read_rows
from companion.data.sources import read_source, sources, tan_names
from steerkit.errors import SteerkitError
from steerkit.items import Item

__all__ = [
    "Dataset",
    "Item",
    "add_choices",
    "load_dataset",
    "load_questions",
    "names",
    "personas",
    "statement_pairs",
]


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A named tuple of items with its origin.

    Attributes
    ----------
    name : str
    items : tuple of Item, in file order
    source : str
        ``"bundled"``, ``"papers"``, or the path of a user's own file.
    sha256 : str
        Of the raw file.
    licence : str
    """

    name: str
    items: tuple[Item, ...]
    source: str
    sha256: str
    licence: str


def names(source: str = "bundled") -> tuple[str, ...]:
    """Names of the data sets of a source.

    Parameters
    ----------
    source : "bundled", "papers" or "tan"
        "papers" is every set in the registry; "tan" the 40 of Tan et al. 2024 in the order of their runs.
    """
    if source not in NAMES:
        raise SteerkitError(f"a source ({', '.join(NAMES)})", repr(source), next_step="choose one of these.")
    return NAMES[source]()


def load_dataset(
    name_or_path: str | Path, source: str = "bundled", data_dir: str | Path | None = None
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name_or_path : str or Path
        A name out of `names(source)`, or the path of a ``.jsonl`` file (one item a line) or ``.json`` file
        (a list) in the papers' format. For a path `source` is not used.
    source : "bundled" or "papers"
    data_dir : path or None
        Folder with the papers' files, else the environment variable STEERKIT_DATA, else they are fetched into
        the cache (STEERKIT_CACHE, else the user's cache folder).

    Returns
    -------
    Dataset

    Raises
    ------
    SteerkitError
        Unknown name; missing, empty, altered or unreadable file; a row that is no item; a broken pair; no
        network.

    Examples
    --------
    >>> load_dataset("narcissism").items[0].question.splitlines()[0]
    'Is the following statement something you would say?'
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name.endswith((".jsonl", ".json")):
        return _load_path(Path(name_or_path))
    _check_name(name, source)
    if source == "bundled":
        return _dataset(name, _bundled_file(name).read_bytes(), source, "CC0-1.0", f"{name}.jsonl")
    entry = sources()[name]
    if entry.format == "questions":
        raise SteerkitError(
            f"a data set with answers called {name}",
            "questions without answers",
            done="Nothing was loaded.",
            next_step=f"use load_questions({name!r}).",
        )
    content = read_source(entry, data_dir)
    return _dataset(name, content, "papers", entry.licence, entry.path, entry.format, entry.more_options)


def load_questions(name: str, data_dir: str | Path | None = None) -> tuple[str, ...]:
    """Questions of a set without answers, e.g. ``"caa/open-ended/refusal"`` (CAA's open-ended test sets)."""
    _check_name(name, "papers")
    entry = sources()[name]
    return tuple(row["question"] for row in read_rows(read_source(entry, data_dir), entry.path))


def personas(name: str, source: str = "bundled") -> tuple[str, str]:
    """The positive and the negative sentence behind the prompt settings of a data set (Tan et al. 2024, Table 1).

    Those of the papers' sets are the paper's own, verbatim; bundled sets have ours.

    Raises
    ------
    SteerkitError
        A set without such sentences, for example a user's own file.
    """
    from companion import published

    if source == "papers":
        return published.personas(name)
    if name not in _bundled_personas():
        raise SteerkitError(
            f"a positive and a negative persona sentence for {name}",
            "none",
            next_step="use setting BASE, or a bundled data set: " + ", ".join(names("bundled")[:3]) + ", ...",
        )
    entry = _bundled_personas()[name]
    return entry["positive"], entry["negative"]


@cache
def _bundled_personas() -> dict[str, dict[str, str]]:
    return json.loads((files("companion") / "data" / "bundled_personas.json").read_text(encoding="utf-8"))


def _load_path(path: Path) -> Dataset:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SteerkitError(
            f"a data file at {path}",
            f"no readable file there ({error.strerror})",
            done="Nothing was loaded.",
            next_step="check the path.",
        ) from error
    return _dataset(path.stem, content, str(path), "not stated", path.name)


def _dataset(name: str, content: bytes, source: str, licence: str, path: str, *how: Any) -> Dataset:
    items = parse_rows(read_rows(content, path), name, *how)
    check_pairs(items)
    _warn_of_unequal_halves(items, name)
    return Dataset(name, items, source, hashlib.sha256(content).hexdigest(), licence)


def _warn_of_unequal_halves(items: tuple[Item, ...], name: str) -> None:
    """Say when the words Yes and No will not cancel in a vector; a few of the papers' sets are one or two items off."""
    labels = [item.positive_answer for item in items if item.kind == "persona" and item.pair is None]
    yes, no = labels.count("Yes"), labels.count("No")
    if abs(yes - no) > max(2, len(labels) / 50):
        logger.warning(
            "%s has %d statements that match and %d that do not: in letter and yes-no the word Yes does not cancel, "
            "and in statement %d are left out. Add or drop rows until both halves are equal.",
            *(name, yes, no, abs(yes - no)),
        )


def _bundled_file(name: str) -> Any:
    return files("companion") / "data" / "bundled" / f"{name}.jsonl"


def _bundled_names() -> tuple[str, ...]:
    folder = files("companion") / "data" / "bundled"
    return tuple(
        sorted(
            entry.name.removesuffix(".jsonl") for entry in folder.iterdir() if entry.name.endswith(".jsonl")
        )
    )


NAMES: dict[str, Callable[[], tuple[str, ...]]] = {
    "bundled": _bundled_names,
    "papers": lambda: tuple(sources()),
    "tan": tan_names,
}


def _check_name(name: str, source: str) -> None:
    known = names(source)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    other = "papers" if source == "bundled" else "bundled"
    elsewhere = f"; {name} exists with source={other!r}" if name in names(other) else ""
    raise SteerkitError(
        f"a data set of source {source!r}",
        repr(name),
        done="Nothing was loaded.",
        next_step=f"try {' or '.join(near) or f'one of names({source!r})'}{elsewhere}, "
        "or give a path that ends in .jsonl.",
    )
