"""A pytest plug-in (`-p served`): one server for all tests of this folder, and the record of what they measure.

`make test-ndif` loads it. Without it the tests here are skipped: they need an environment of 1.7 GB and minutes.
"""

import importlib.metadata
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from _ext.measured import PARITY, TOLERANCE
from nnsight import CONFIG
from stack import PYTHON, Stack

from companion import store
from companion.models import load_model
from companion.tiny import tiny_lm, tiny_tokenizer
from steerkit.model import Model
from steerkit.ndif import jobs as remote_jobs

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))  # on each side
TRUSTED, ORDINARY = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
DEFAULT = "smollm2-135m"
OPERATIONS: list[dict[str, Any]] = []
SIZES: list[dict[str, Any]] = []
TIMES: list[dict[str, Any]] = []
BEGIN = time.time()
ACTIVE = False  # whether pytest loaded this as a plug-in, rather than a test its names
NEEDS_SERVER = pytest.mark.skipif("not served.ACTIVE", reason="needs NDIF's own server: make test-ndif")


def pytest_configure() -> None:
    """What a plug-in is told first. Also when pytest is told to end, the server ends with it."""
    global ACTIVE
    ACTIVE = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))


@pytest.fixture(scope="session")
def stack():
    """The server, with a trusted and an ordinary key."""
    torch.set_num_threads(THREADS)
    python = Path(os.environ.get("STEERKIT_NDIF_PYTHON", PYTHON))
    with Stack(python, keys={TRUSTED: ["trusted"], ORDINARY: []}, threads=THREADS) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def folder(tmp_path_factory) -> Path:
    """Artefacts of this session; the cache with the model is the user's."""
    place = tmp_path_factory.mktemp("artifacts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEERKIT_ARTIFACTS", str(place))
        yield place


@pytest.fixture
def fresh(tmp_path, monkeypatch) -> Path:
    """An artefact folder without any job."""
    monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path / "artifacts"))
    return store.artifacts_dir()


@pytest.fixture(scope="session")
def here() -> Model:
    """The default model on this side."""
    return load_model(DEFAULT, device="cpu", remote="off")


@pytest.fixture(scope="session")
def there(stack, folder) -> Model:
    """The default model on the server."""
    with key(TRUSTED):
        return load_model(DEFAULT, remote=stack.url)


def saved_tiny(folder: Path, architecture: str = "llama") -> Path:
    """A folder with a tiny random model, as transformers writes it."""
    lm = tiny_lm(architecture, tiny_tokenizer(["a b c d e f g h"]))
    lm._module.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def key(value: str) -> Iterator[None]:
    """In this context nnsight has another key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CONFIG.API, "APIKEY", value)
        yield


@pytest.fixture(autouse=True)
def as_trusted():
    """Tests have the trusted key unless they take another."""
    with key(TRUSTED):
        yield


@pytest.fixture
def sent(monkeypatch) -> list[Any]:
    """The backends of all jobs of a test, in order; a backend with `sent` carried a request of that many bytes."""
    made, make = [], remote_jobs._backend
    monkeypatch.setattr(remote_jobs, "_backend", lambda *given: made.append(make(*given)) or made[-1])
    return made


def compare(operation: str, local: torch.Tensor, remote: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """Assert that two tensors agree, and note by how much they differ."""
    local, remote = local.detach().double(), remote.detach().double()
    assert local.shape == remote.shape and local.isfinite().all()
    found, largest = float((local - remote).abs().max()), float(local.abs().max())
    row = {"operation": operation, "numbers": local.numel(), "largest": largest}
    OPERATIONS.append(row | {"gpu": None, "ndif": found, "tolerance": tolerance})  # on no GPU yet
    assert found <= tolerance, f"{operation}: {found}"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    begin = time.perf_counter()
    found = call()
    return time.perf_counter() - begin, found


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Say what was measured, and write the record when everything ran and passed."""
    say = terminalreporter.write_line
    for row in OPERATIONS:
        say(f"{row['operation']}: {row['numbers']} numbers, largest difference {row['ndif']:.2g}")
    for row in SIZES:
        say(f"{row['job']}: {row['request']} bytes there, {row['response']} back")
    for row in TIMES:
        say(f"{row['work']}: {row['local']:.1f} s here, {row['ndif']:.1f} s there")
    counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "skipped", "deselected")}
    if exitstatus or counts["skipped"] or counts["deselected"] or not TIMES:
        say(f"{PARITY.name} was left as it is: not everything ran and passed")
        return
    store.write_atomically(PARITY, (json.dumps(_record(counts["passed"]), indent=1) + "\n").encode())
    say(f"wrote {PARITY}")


def _record(passed: int) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "nnsight")}
    date = time.strftime("%Y-%m-%d", time.gmtime())
    how = {"command": "make test-ndif", "commit": store.commit(), "date": date, "model": DEFAULT}
    where = {"dtype": "float32", "threads": THREADS, "versions": versions | _server_versions()}
    work = {"tests": passed, "seconds": round(time.time() - BEGIN)}
    return how | where | work | {"operations": OPERATIONS, "sizes": SIZES, "times": TIMES}


def _server_versions() -> dict[str, str]:
    pins = Path(__file__).with_name("requirements.txt").read_text().splitlines()
    found = dict(line.rstrip(" \\").split("==") for line in pins if line.startswith(("ndif==", "ray==")))
    return {"NDIF": found["ndif"], "Ray": found["ray"]}
