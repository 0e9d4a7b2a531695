"""Shared fixtures: a word-level tokenizer and tiny random models of every supported architecture."""

import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Before torch is imported, and for child processes: a tiny model gains nothing from a second thread, and on a busy
# machine threads that wait for each other cost it a factor of ten.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", f"{tempfile.gettempdir()}/steerkit-hypothesis")

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import companion.fidelities  # noqa: F401 - adds two ways of scoring letters
import companion.gemma_scope  # noqa: F401 - and the folder names of its autoencoders
from companion import kernels
from companion.data.forms import first_label
from companion.tiny import ARCHITECTURES, tiny_lm, tiny_tokenizer
from steerkit import Example, Model, SteerkitError, Vectors, wrap
from steerkit.formats import FORMATS

torch.set_num_threads(1)  # the models are tiny: threads only get into each other's way

WORDS = "the a I we you like love hate walk talk red blue river music Yes No often never about with and ( ) A B . , ? ! User".split()


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    if drawing := sys.modules.get("matplotlib.pyplot"):
        drawing.close("all")


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """A cache and an artefact folder that nobody else uses."""
    monkeypatch.setenv("STEERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STEERKIT_ARTIFACTS", str(tmp_path / "artifacts"))
    return tmp_path


# Files whose tests read the executed notebooks: one worker makes these, and the others wait for nothing.
OF_NOTEBOOKS = "notebooks downloads book site browser".split()
# Then the dear ones, so that the last file of a run is a short one.
DEAR = "claims dry_run families kill_resume worked_examples engine figures_promises mayne mayne_claims cli remote_jobs"
LAST = "precision tokenizers terminal decompose remote shifts own plan"
ORDER = [*OF_NOTEBOOKS, *DEAR.split(), *LAST.split()]


# Whole files that `make test` leaves to `make test SLOW=1`: each takes a minute or more.
SLOW = "browser dry_run families fuzz installed kill_resume worked_examples".split()


def name_of(path: str) -> str:
    return Path(path).stem.removeprefix("test_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if name_of(item.path) in SLOW:
            item.add_marker("slow")
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(name_of(item.path), len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files in this order; pytest-xdist itself begins with those of most tests, and ends with the dearest."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "notebooks" if name_of(file) in OF_NOTEBOOKS else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


STAGES = ("sweep", "grid", "placebo", "shift")


def once(tmp_path_factory, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """A folder and what `make` said when it filled it: the first of pytest's workers that asks makes it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    said = folder.with_suffix(".json")
    with FileLock(folder.with_suffix(".lock")):
        if not said.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker whose attempt failed
            folder.mkdir()
            said.write_text(json.dumps(make(folder)))
    return folder, json.loads(said.read_text())


@dataclass(frozen=True)
class SmokeRun:
    """All tables of the profile `smoke`, and what was said while they were computed."""

    settings: Any
    folder: Path
    estimate: SimpleNamespace  # tables, prompts, token_passes and seconds, before
    passes: dict[str, int]  # token-passes as reported, by job, in the order they ran


@pytest.fixture(scope="session")
def smoke_store(tmp_path_factory) -> SmokeRun:
    from companion.cost import cost_of
    from companion.profiles import BOOK_FORMATS, load_profile
    from companion.rate import RATES
    from companion.reproduce import compute_tables

    settings = load_profile("smoke")

    def make(folder: Path) -> tuple[dict, dict]:
        passes: dict[str, int] = {}

        def begin(name: str):
            passes[name] = 0
            return lambda tokens: passes.__setitem__(name, passes[name] + tokens)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STEERKIT_ARTIFACTS", str(folder))
            plan = cost_of(settings, BOOK_FORMATS, STAGES)
            compute_tables(settings, BOOK_FORMATS, STAGES, begin)
        cost = {"seconds": 3600 * plan["hours"], "rate": RATES[settings.model, "float32"]}
        return plan["total"] | cost, passes

    folder, (estimate, passes) = once(tmp_path_factory, "smoke", make)
    return SmokeRun(settings, folder, SimpleNamespace(**estimate), passes)


@pytest.fixture
def smoke(smoke_store, own_folders, monkeypatch) -> SmokeRun:
    """The finished tables as the artefact folder of one test."""
    monkeypatch.setenv("STEERKIT_ARTIFACTS", str(smoke_store.folder))
    return smoke_store


def command_line(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `steerkit ...`, in this process."""
    from companion import cli

    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(screen):
        patch.setattr(sys, "argv", ["steerkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0), screen.getvalue()


@pytest.fixture
def steerkit(own_folders, monkeypatch, capsys) -> Callable:
    """`steerkit(...)` runs a command in a folder of this test: exit code, output and errors."""
    (own_folders / "home").mkdir()
    monkeypatch.chdir(own_folders / "home")
    return lambda *arguments: (*command_line(*arguments), capsys.readouterr().err)


@pytest.fixture(scope="session")
def forked() -> Iterator[None]:
    """Kernels that begin in a moment, as those of a book."""
    with kernels.running(1):
        yield


@pytest.fixture(scope="session")
def reproduced(smoke_store, tmp_path_factory) -> tuple[Path, int, str]:
    """Folder of all notebooks executed at `smoke`, exit code and output of the command: half a minute, once."""
    from companion import exhibits

    def make(folder: Path) -> tuple[int, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STEERKIT_ARTIFACTS", str(smoke_store.folder))
            patch.setattr(exhibits, "EXECUTED", folder)
            return command_line("reproduce", "--profile", "smoke", "--no-book")

    folder, (code, screen) = once(tmp_path_factory, "executed", make)
    return folder, code, screen


@pytest.fixture(scope="session")
def executed_notebooks(reproduced) -> Path:
    """The folder, to be read; a test that runs notebooks again takes a copy."""
    return reproduced[0]


@pytest.fixture(scope="session")
def built_site(request, tmp_path_factory) -> Path:
    """Folder of the site: the one named by STEERKIT_SITE, else built from the smoke run."""
    if named := os.environ.get("STEERKIT_SITE"):
        return Path(named).resolve()
    pytest.importorskip("jupyter_book", reason="Jupyter Book is not installed (extra: book)")
    notebooks = request.getfixturevalue("executed_notebooks")
    _, site = once(tmp_path_factory, "site", lambda root: str(build_site(notebooks, root)))
    return Path(site)


def build_site(notebooks: Path, root: Path) -> Path:
    """Compile the book below `root` from a folder of executed notebooks."""
    from _ext import build as book

    from companion import exhibits, places

    shutil.copytree(exhibits.BOOK, root / "book", ignore=shutil.ignore_patterns("notebooks", "generated"))
    shutil.copytree(notebooks, root / "book" / "notebooks")
    shutil.copy(places.ROOT / "_config.yml", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book, "ROOT", root)
        patch.setattr(exhibits, "EXECUTED", root / "book" / "notebooks")
        patch.setattr(book, "BOOK", root / "book")
        patch.setattr(book, "EXECUTED", root / "book" / "notebooks")
        patch.setattr(book, "GENERATED", root / "book" / "generated")
        return book.build().parent


@pytest.fixture(scope="session")
def tokenizer():
    return tiny_tokenizer([" ".join(WORDS), "Choices:\n(A): \n(B): "])


@pytest.fixture(scope="session", params=sorted(ARCHITECTURES))
def any_model(request, tokenizer) -> Model:
    return wrap(request.param, tiny_lm(request.param, tokenizer))


@pytest.fixture(scope="session")
def model(tokenizer) -> Model:
    return wrap("llama", tiny_lm("llama", tokenizer))


def random_examples(form: str, count: int, vocabulary: int) -> list[Example]:
    """Examples of unequal lengths with random tokens."""
    rng = random.Random(0)

    def draw(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, vocabulary) for _ in range(rng.randint(low, high)))

    if form == "statement":
        return [Example(f"e{i}", form, draw(5, 24), (), draw(2, 8), draw(2, 8), ()) for i in range(count)]
    closing, lead = draw(1, 1) if form == "letter" else draw(1, 1)[:0], draw(1, 1)
    return [Example(f"e{i}", form, draw(5, 24), lead, (4,), (5,), closing, "AB"[i % 2]) for i in range(count)]


def asked(form: str, model: Model, count: int = 3) -> list[Example]:
    return random_examples(form, count, len(model.tokenizer))


def refused(call: Callable, *given: Any, said: str | None = None, **more: Any) -> SteerkitError:
    """The error that a call ends with, whose message has to match `said`."""
    with pytest.raises(SteerkitError, match=said) as found:
        call(*given, **more)
    return found.value


def letters_of(items) -> list[str]:
    """The letter of each item's matching answer, in its first form."""
    return [first_label(item, FORMATS["letter"].labels) for item in items]


def own_model(tokenizer, architecture: str = "llama", dtype: torch.dtype = torch.float32, **more) -> Model:
    """A model that no other test has proven anything about, and that may be spoilt."""
    model = wrap(architecture, tiny_lm(architecture, tokenizer, **more))
    model.lm._module.to(dtype)
    return replace(model, dtype=dtype)


def random_vectors(model: Model, names=("full", "other"), seed: int = 0, scale: float = 1.0) -> Vectors:
    generator = torch.Generator().manual_seed(seed)
    layers = tuple(range(len(model.layers)))
    drawn = torch.randn(len(names), len(layers), model.width, generator=generator)
    return Vectors(tuple(names), layers, scale * drawn)


def random_grid(multipliers=(-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5), examples=8, seed=0, **labels):
    """GRID rows of letters with random scores."""
    ids = [(f"e{i}", "AB"[i % 2], ("Yes", "No")[i // 2 % 2], m) for i in range(examples) for m in multipliers]
    table = pd.DataFrame(ids, columns=["example_id", "positive_letter", "positive_answer", "multiplier"])
    rng, about = np.random.default_rng(seed), {"dataset": "openness", "vector": "full", "layer": 13} | labels
    table = table.assign(format="letter", **about, matching=rng.normal(20, 3, len(table)))
    table["not_matching"] = rng.normal(18, 3, len(table))
    return table.assign(propensity=table["matching"] - table["not_matching"])


def close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0.0)


def raising(error: BaseException) -> Callable:
    """A function that fails, whatever it is given."""

    def fail(*_, **__):
        raise error

    return fail


def deaf(module, query, key, value, attention_mask, **more):
    """An attention for transformers that takes no masks."""
    return sdpa_attention_forward(module, query, key, value, None, **(more | {"is_causal": True}))
