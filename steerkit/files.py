"""Files: the cache folder, locks that two runs share, hashes, writes that are whole or not at all, keys of code."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steerkit.errors import SteerkitError

# Configuration, weights, tokenizer and chat template: what decides the numbers of a checkpoint.
CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")


def cache_dir(*parts: str) -> Path:
    """The cache folder (STEERKIT_CACHE, else the platform's user cache), made when missing."""
    from platformdirs import user_cache_path

    folder = Path(os.environ.get("STEERKIT_CACHE") or user_cache_path("steerkit")).joinpath(*parts)
    with _writable(
        f"a cache folder that can be written at {folder}", "set STEERKIT_CACHE to a folder of yours."
    ):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission to write")
    return folder


@contextmanager
def _writable(expected: str, next_step: str) -> Iterator[None]:
    """What the system says about a folder, in the user's words."""
    try:
        yield
    except OSError as error:
        raise SteerkitError(expected, str(error.strerror), next_step=next_step) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of one cache entry: a second run waits, then finds the work done."""
    from filelock import FileLock

    lock, folder = FileLock(path.with_name(f".{path.name}.lock")), path.parent
    with _writable(
        f"a cache folder that can be written at {folder}", "set STEERKIT_CACHE to a folder of yours."
    ):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def artifacts_dir() -> Path:
    """Where artefacts are kept: STEERKIT_ARTIFACTS, else `artifacts` in the cache."""
    chosen = os.environ.get("STEERKIT_ARTIFACTS")
    if not chosen:
        return cache_dir("artifacts")
    mend = "set STEERKIT_ARTIFACTS to a folder of yours, or unset it."
    with _writable(f"a folder for artefacts that can be written at {chosen}", mend):
        Path(chosen).mkdir(parents=True, exist_ok=True)
    return Path(chosen)


def file_hash(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """One sha256 over configuration, tokenizer and weights of a checkpoint folder."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern)):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return digest.hexdigest()


def syntax_hash(paths: Iterable[Path]) -> str:
    """What some modules compute, in 16 hexadecimal digits: a hash of their definitions without docstrings and comments.

    Definitions go by their names and not by their files, so code that moves keeps its hash.
    """
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    nodes = [node for tree in trees for node in tree.body]
    left_out = ast.Import | ast.ImportFrom | ast.Expr
    definitions = [ast.dump(_without_docstrings(node)) for node in nodes if not isinstance(node, left_out)]
    return hashlib.sha256("\n".join(sorted(definitions)).encode()).hexdigest()[:16]


def _without_docstrings(node: ast.stmt) -> ast.stmt:
    for each in ast.walk(node):
        if (
            isinstance(each, ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(each, clean=False) is not None
        ):
            each.body = each.body[1:]
    return node


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the target, flush, then move into place; a full disk or a locked folder leaves nothing behind."""
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
