"""Files: the cache folder, locks that two runs share, hashes, writes that are whole or not at all, keys of code."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from steerkit.errors import told

# Configuration, weights, tokenizer and chat template: what decides the numbers of a checkpoint.
CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
CACHE = ("a cache folder that can be written", "set STEERKIT_CACHE to a folder of yours.")


def cache_dir(*parts: str) -> Path:
    """The cache folder (STEERKIT_CACHE, else the platform's user cache), made when missing."""
    from platformdirs import user_cache_path

    folder = Path(os.environ.get("STEERKIT_CACHE") or user_cache_path("steerkit")).joinpath(*parts)
    with _writable(folder, *CACHE):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission to write")
    return folder


def _writable(folder: Path | str, what: str, mend: str) -> Any:
    """What the system says about a folder, in the user's words."""
    return told((OSError,), f"{what} at {folder}", mend, found=lambda error: str(error.strerror))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of one cache entry: a second run waits, then finds the work done."""
    from filelock import FileLock

    lock, folder = FileLock(path.with_name(f".{path.name}.lock")), path.parent
    with _writable(folder, *CACHE):
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
    with _writable(chosen, "a folder for artefacts that can be written", mend):
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
    """What some modules compute, in 16 hexadecimal digits: a hash of all their definitions and constants.

    Comments, docstrings and imports are not in it, nor is the file in which a definition stands: code that moves keeps
    its hash.
    """
    definitions = []
    for path in paths:
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(module):
            for name in ("body", "orelse", "finalbody"):
                if isinstance(nodes := getattr(node, name, None), list):
                    setattr(node, name, [each for each in nodes if _computes(each)])
        definitions += map(ast.dump, module.body)
    return hashlib.sha256("\n".join(sorted(definitions)).encode()).hexdigest()[:16]


def _computes(node: ast.AST) -> bool:
    """Whether it is no docstring, no import, and not there for type checkers only."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) != "TYPE_CHECKING"
    literal = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return not literal and not isinstance(node, ast.Import | ast.ImportFrom)


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the target, flush, then move into place; a full disk or a locked folder leaves nothing behind."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    done, mend = "Nothing was left behind.", "free some space, or choose another folder."
    try:
        with told((OSError,), f"to write {path}", mend, done, lambda error: str(error.strerror or error)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)  # noqa: PTH105 - the atomic one
    finally:  # also after Ctrl-C; where even that fails there is no folder to leave anything in
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
