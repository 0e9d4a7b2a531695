"""What was sent to servers and what came back, beside the artefacts, under a key of the request's content.

A client that was killed finds its jobs here: one that runs is waited for, one that is finished is not asked for again.
Names and results only; no key to a server, no prompts.
"""

from __future__ import annotations

import hashlib
import json
import time
from functools import cache
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from steerkit.files import artifacts_dir, syntax_hash, write_atomically

if TYPE_CHECKING:
    import torch

KEEP_SECONDS = 7 * 86400.0  # a finished artefact makes the parts it was computed from superfluous


def folder() -> Path:
    """Where jobs are kept: `remote` in the artefact folder. What is older than a week is removed."""
    place = artifacts_dir() / "remote"
    place.mkdir(exist_ok=True)
    return place


def clean() -> None:
    """Remove what has become old."""
    for path in folder().iterdir():
        if time.time() - path.stat().st_mtime > KEEP_SECONDS:
            path.unlink(missing_ok=True)


def key_of(about: dict[str, str], work: FunctionType, args: Any) -> str:
    """Name of a request: the model, the server, the code that is sent, and its arguments."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(work.__name__.encode() + _code().encode())
    _feed(digest, args)
    return f"{work.__name__}-{digest.hexdigest()[:20]}"


@cache
def _code() -> str:
    """What a server is asked to run."""
    return syntax_hash(Path(__file__).parents[1] / name for name in ("traces.py", "layout.py"))


def _feed(digest: Any, value: Any) -> None:
    """Every number and its place; two different requests never feed the same bytes."""
    import torch

    if isinstance(value, torch.Tensor):
        whole = value.contiguous()
        digest.update(f"tensor {whole.dtype} {list(whole.shape)};".encode())
        digest.update(whole.view(torch.uint8).numpy().tobytes() if whole.numel() else b"")
    elif isinstance(value, SimpleNamespace):
        _feed(digest, vars(value))
    elif isinstance(value, dict):
        digest.update(f"dict {len(value)};".encode())
        for name in value:
            _feed(digest, name)
            _feed(digest, value[name])
    elif isinstance(value, list):
        digest.update(f"list {len(value)};".encode())
        for each in value:
            _feed(digest, each)
    else:
        digest.update(f"{type(value).__name__} {value!r};".encode())


def remember(key: str, job: str, host: str, model: str) -> None:
    """Note the id a server gave to a request."""
    about = {"job": job, "server": host, "model": model, "sent": time.time()}
    write_atomically(_job_path(key), json.dumps(about).encode())


def job_of(key: str) -> dict[str, Any] | None:
    """What was noted about a request, None when it was never sent or its job is over."""
    try:
        return json.loads(_job_path(key).read_text())
    except (OSError, json.JSONDecodeError):
        return None


def forget(key: str) -> None:
    """Drop a job that is over."""
    _job_path(key).unlink(missing_ok=True)


def keep(key: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Keep what came back, and drop the job."""
    from safetensors.torch import save

    named = {f"{i:06d}": tensor.contiguous() for i, tensor in enumerate(tensors)}
    write_atomically(result_path(key), save(named))
    forget(key)
    return tensors


def kept(key: str) -> list[torch.Tensor] | None:
    """What came back from this request before, None when nothing did; a damaged file counts as nothing."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        named = load(result_path(key).read_bytes())
    except (OSError, SafetensorError):
        return None
    return [named[name] for name in sorted(named)]


def result_path(key: str) -> Path:
    """The file of a result."""
    return folder() / f"{key}.safetensors"


def _job_path(key: str) -> Path:
    return folder() / f"{key}.json"
