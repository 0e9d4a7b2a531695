"""Files: the cache folder, locks that two runs share, hashes, writes that are whole or not at all."""

import glob
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from steerkit.errors import NOT_READ, told

# Configuration, weights, tokenizer and chat template: what decides the numbers of a checkpoint.
CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
# What is expected of a folder, and how to mend it.
CACHE = ("a cache folder that can be written", "set STEERKIT_CACHE to a folder of yours.")
ARTIFACTS = ("a folder for artefacts that can be written", "set STEERKIT_ARTIFACTS to a folder of yours.")


def cache_dir(*parts: str) -> Path:
    """The cache folder (STEERKIT_CACHE, else the platform's user cache), made when missing. It may be another user's
    that can only be read: who writes into it asks for a lock."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("STEERKIT_CACHE") or user_cache_path("steerkit")
    folder = Path(chosen).expanduser().joinpath(*parts)
    with _made(folder, *CACHE):
        return folder


def artifacts_dir() -> Path:
    """Where artefacts are kept: STEERKIT_ARTIFACTS, else `artifacts` in the cache."""
    chosen = os.environ.get("STEERKIT_ARTIFACTS")
    if not chosen:
        return cache_dir("artifacts")
    folder = Path(chosen).expanduser()
    with _made(folder, *ARTIFACTS):
        return folder


@contextmanager
def locked(path: Path, folder: tuple[str, str] = CACHE) -> Iterator[None]:
    """Hold the lock of one file or folder: a second run waits, then finds the work done. `folder` is what it lies in."""
    from filelock import FileLock

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with _made(path.parent, *folder):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _made(folder: Path, what: str, mend: str) -> Iterator[None]:
    """With a folder, made when missing; what the system says about it, in the user's words."""
    with told((OSError,), f"{what} at {folder}", mend, found=lambda error: str(error.strerror)):
        folder.mkdir(parents=True, exist_ok=True)
        yield


def file_hash(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """One sha256 over configuration, tokenizer and weights of a checkpoint folder."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern)):
        with told((OSError,), f"a file to read at {path}", "check the path.", NOT_READ):
            digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the target, flush, then move into place; a full disk or a locked folder leaves nothing behind."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes], gone: Iterable[Path] = ()) -> None:
    """Write files that belong together: all of them are on the disk before the first is moved into place.

    What `gone` names belongs to the files that are replaced, and is deleted. A scratch file has a name that nobody can
    foresee, and is opened only when nothing has it: no link is followed.
    """
    scratch = {path: path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp") for path in contents}
    done, mend = "Nothing was left behind.", "free some space, or choose another folder."
    all_of_them = " and ".join(map(str, contents))
    try:
        with told((OSError, ValueError), f"to write {all_of_them}", mend, done, _strerror):
            for path, content in contents.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                with scratch[path].open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            for path in contents:
                _clear(path)
            for path in gone:
                path.unlink(missing_ok=True)
            for path in contents:
                os.replace(scratch[path], path)  # noqa: PTH105 - the atomic one
    finally:  # also after Ctrl-C; where even that fails there is no folder to leave anything in
        for each in scratch.values():
            with suppress(OSError, ValueError):
                each.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Delete what killed runs left beside a file, more than an hour ago: no write takes that long."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(FileNotFoundError):  # another run's, done by now
            if time.time() - scratch.lstat().st_mtime > 3600:
                scratch.unlink()


def _strerror(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
