"""What was sent to servers and what came back, beside the artefacts, under a key of the request's content.

A client that was killed finds its jobs here: one that runs is waited for, one that is finished is not asked for again.
Names and results only; no key to a server, no prompts.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from steerkit.files import artifacts_dir, file_hash, write_atomically

if TYPE_CHECKING:
    import torch

KEEP_SECONDS = 7 * 86400.0  # a finished artefact makes the parts it was computed from superfluous
CODE = [Path(__file__).parents[1] / name for name in ("traces.py", "layout.py")]  # what a server runs


def folder() -> Path:
    """Where jobs are kept: `remote` in the artefact folder."""
    place = artifacts_dir() / "remote"
    place.mkdir(exist_ok=True)
    return place


def clean() -> None:
    """Remove what is older than a week."""
    for path in folder().iterdir():
        if time.time() - path.stat().st_mtime > KEEP_SECONDS:
            path.unlink(missing_ok=True)


def key_of(about: dict[str, str], work: Callable[..., Any], args: Any) -> str:
    """Name of a request: the model, the server, the code that is sent, and its arguments."""
    content = json.dumps([about, work.__name__, *map(file_hash, CODE), args], sort_keys=True, default=_shown)
    return f"{work.__name__}-{hashlib.sha256(content.encode()).hexdigest()[:20]}"


def _shown(value: Any) -> Any:
    """What is no list, dictionary, text or number, so that different requests never read the same."""
    import torch

    if isinstance(value, torch.Tensor):
        numbers = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        return [str(value.dtype), list(value.shape), hashlib.sha256(numbers).hexdigest()]
    return vars(value) if isinstance(value, SimpleNamespace) else repr(value)


def result_path(key: str, ending: str = ".safetensors") -> Path:
    """The file of a result, or of the job (.json)."""
    return folder() / f"{key}{ending}"


def remember(key: str, job: str, host: str, model: str) -> None:
    """Note the id a server gave to a request."""
    about = {"job": job, "server": host, "model": model, "sent": time.time()}
    write_atomically(result_path(key, ".json"), json.dumps(about).encode())


def job_of(key: str) -> dict[str, Any] | None:
    """What was noted about a request, None when it was never sent or its job is over."""
    try:
        return json.loads(result_path(key, ".json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None


def forget(key: str) -> None:
    """Drop a job that is over."""
    result_path(key, ".json").unlink(missing_ok=True)


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
