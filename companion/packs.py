"""Finished artefacts as one file: made on a machine with a GPU, used on a laptop.

A pack is a plain tar archive, not compressed, of tables and vectors with their hashes. What its members claim of
themselves is compared with what they are: the sizes with that of the file, the names with the manifests inside. Keys
hold the numeric code and the versions of the libraries, so a pack is of use to the same checkout only, and another
one is told so.
"""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from companion import store
from steerkit.errors import need, told

CONTENTS = "contents.json"
LONGEST = 200  # letters of a name
SUFFIXES = (".parquet", ".safetensors")
A_PACK, AGAIN = "a pack of `steerkit artifacts pack` at {}", "copy it again."
DONE = "Nothing was unpacked."


def pack(target: Path, model: str | None = None) -> list[str]:
    """Write the artefacts of `model` (None: of all) to `target`; returns their names."""
    plain = (path for path in store.artifacts_dir().iterdir() if path.is_file() and not path.is_symlink())
    finished = sorted(path for path in plain if path.suffix in SUFFIXES)
    files = ((path.name, path.read_bytes()) for path in finished)
    chosen = {name: content for name, content in files if model in (None, _model_of(name, content))}
    expected = f"finished artefacts{f' of {model}' if model else ''} in {store.artifacts_dir()}"
    need(chosen, expected, "none", "run `steerkit reproduce` with the profile first.")
    about = {"code": store.code_hash(), "versions": store.versions()}
    about["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in chosen.items()}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in {CONTENTS: json.dumps(about, indent=1).encode(), **chosen}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    store.write_atomically(target, sink.getvalue())
    return list(chosen)


def unpack(source: Path) -> list[str]:
    """Put the artefacts of a pack where this machine keeps its own; returns the names of those that were new.

    What is no pack, damaged, altered, or made by another version of the code, is refused whole.
    """
    code, versions, hashes, contents = _read(source)
    here, there = {"code": store.code_hash(), **store.versions()}, {"code": code, **versions}
    other = {name: own for name, own in here.items() if there.get(name) != own}
    found = ", ".join(f"{name} {there.get(name)} instead of {own}" for name, own in other.items())
    step = "check out the commit and install the versions with which it was made."
    done = "Nothing was unpacked: these artefacts would not be found here."
    need(not other, f"a pack made by this version of the code ({source.name})", found, step, done)
    folder, new = store.artifacts_dir(), []
    for name, sha256 in hashes.items():
        plain = Path(name).name == name and name.endswith(SUFFIXES) and len(name) < LONGEST
        whole = name in contents and hashlib.sha256(contents[name]).hexdigest() == sha256
        need(plain and whole, A_PACK.format(source), f"{name[:LONGEST]} missing or altered", AGAIN, DONE)
        there = folder / name
        free = there.is_file() or not there.exists()
        need(free, f"a file or nothing at {there}", "a folder", "move it away.", DONE)
        (about, numbers), suffix = store.inside(contents[name], there.suffix), there.suffix
        said = {"name", "key", "inputs"} <= set(about) and about["key"] == store.key(about["inputs"])
        own = f"{about['name']}-{about['key']}{suffix}" if said else ""
        need(own == name, A_PACK.format(source), f"{name} with a manifest of {own or 'nothing'}", AGAIN, DONE)
        if not there.exists():
            new.append(name)
            continue
        same = _same(store.inside(there.read_bytes(), suffix)[1], numbers)
        step = "delete the one that is wrong; both promise to be of the same inputs, code and versions."
        need(same, f"the numbers of {name} in {source} to be those that are here", "others", step, DONE)
    for name in new:
        store.write_atomically(folder / name, contents[name])
    return new


def _model_of(name: str, content: bytes) -> str:
    inputs = store.inside(content, Path(name).suffix)[0].get("inputs")
    return inputs.get("model", "") if isinstance(inputs, dict) else ""


def _same(one: Any, other: Any) -> bool:
    """Whether two frames or arrays hold the same: two machines round differently."""
    import numpy as np
    import pandas as pd

    try:
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, other, 1e-3, 1e-4)
        else:
            pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-3, atol=1e-3)
    except AssertionError:
        return False
    return True


def _read(source: Path) -> tuple[str, dict[str, str], dict[str, str], dict[str, bytes]]:
    """Code, versions and hashes that a pack promises, and its members by name: none decides where a file goes."""
    kinds = (OSError, EOFError, tarfile.TarError, ValueError, KeyError, TypeError, RecursionError)
    with told(kinds, A_PACK.format(source), AGAIN, DONE, _fault):
        room = source.stat().st_size  # no member, and not all of them, can hold more
        with tarfile.open(source, "r:") as archive:
            contents: dict[str, bytes] = {}
            for entry in archive:
                if entry.isfile() and not entry.issparse():
                    room -= entry.size
                    if room < 0:
                        raise tarfile.TarError("members larger than the file")
                    contents[entry.name] = archive.extractfile(entry).read()
        about = json.loads(contents.pop(CONTENTS))
        versions, hashes = dict(about["versions"]), dict(about["sha256"])
        if not all(isinstance(name, str) for name in hashes):
            raise TypeError("a name that is no text")
        return about["code"], versions, hashes, contents


def _fault(error: Exception) -> str:
    if isinstance(error, ValueError | KeyError | TypeError | RecursionError):
        return f"no readable {CONTENTS}"
    found = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return found.partition("\n")[0].rstrip(":") or "no archive"
