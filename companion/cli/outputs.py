"""Where a command may write: not over what somebody needs, unless told to, and never over what is no file."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

from companion import store
from companion.exhibits import Exhibit
from companion.reproduce import last_run
from steerkit.errors import SteerkitError, need, told
from steerkit.files import file_hash
from steerkit.vectors import load_vectors

ELSEWHERE, FORCE = "choose another name.", "choose another name, or give --force."


def _vectors(path: Path) -> bool:
    with suppress(SteerkitError):
        return bool(load_vectors(path))
    return False


def _begins(path: Path, words: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(words)) == words


# What a command writes, by suffix: whether a file that is there is of that kind, and may be replaced.
KINDS: dict[str, Callable[[Path], bool]] = {
    ".safetensors": _vectors,
    ".parquet": lambda path: store.read_table(path) is not None,
    ".csv": partial(_begins, words=b"feature,coefficient,rank"),
    ".tar": partial(_begins, words=b"contents.json"),
}


def ours(path: Path) -> bool:
    """Whether there is a file of the kind that its suffix promises."""
    return path.is_file() and KINDS[path.suffix](path)


def check_output(path: Path, suffix: str, inputs: Iterable[Path | str] = (), force: bool = False) -> None:
    """Refuse, before anything is computed, a place where writing would destroy something.

    What is there and no file is refused always; an input, an artefact, a link and a file of another kind without `force`.
    """
    need(path.suffix == suffix, f"a file that ends in {suffix}", repr(str(path)), ELSEWHERE)
    kinds, wanted = (OSError, ValueError, RuntimeError), f"a file to write, {str(path)[:200]}"
    with told(kinds, wanted, ELSEWHERE, found=lambda error: str(error)[:200]):
        there, link = path.exists(), path.is_symlink()
        need(path.is_file() or not there, "a place for a file", f"a folder or a device at {path}", ELSEWHERE)
        same = [str(each) for each in inputs if there and Path(each).exists() and path.samefile(each)]
        check_folder(path.parent)
        kept = False
        with suppress(SteerkitError):  # no such folder
            kept = path.resolve().is_relative_to(store.artifacts_dir().resolve())
    if force:
        return
    need(not same, "a file of its own to write", f"{path}, which is read", FORCE)
    need(not link, "a file to write", f"a link at {path}", FORCE)
    need(not kept, "a file outside the folder of artefacts", str(path), FORCE)
    wanted = f"no file, or an older one of this kind, at {path}"
    need(not there or ours(path), wanted, "another kind of file", FORCE)


def check_folder(folder: Path) -> None:
    """Refuse, before anything is computed, a folder that cannot be written into, or made; nothing is left in it."""
    wanted = f"a folder that can be written into, {str(folder)[:200]}"
    with told((OSError,), wanted, "choose another folder.", found=lambda error: str(error.strerror)):
        there = next(each for each in (folder, *folder.parents) if each.exists() or each.is_symlink())
        TemporaryFile(dir=there).close()


def check_notebook(folder: Path, exhibit: Exhibit, force: bool) -> None:
    """Refuse to execute a notebook over its source, or over one that was changed since it was executed."""
    target, source = folder / f"{exhibit.id}.ipynb", exhibit.notebook
    step = "choose another folder as --out."
    need(target.resolve() != source.resolve(), "a folder for results", f"that of {source.name} itself", step)
    check_folder(folder)
    if force or not target.exists():
        return
    written = last_run(target)
    same = bool(written) and written.get("sha256") in (None, file_hash(target))
    found = f"one in {folder} that no run left, or that was changed since"
    wanted = f"no {target.name}, or the one of an earlier run"
    need(same, wanted, found, "choose another --out, or add --force.")
