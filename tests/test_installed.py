"""The package as a wheel installs it, away from any clone: profiles, notebooks and records travel inside."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import steerkit
from companion import places

UNWANTED = shutil.ignore_patterns("__pycache__", "sae", "*.egg-info")
PARTS = ("steerkit", "companion", "notebooks", "profiles", "records", "tools")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """What a wheel puts into site-packages; without the autoencoders' weights, which are most of its size."""
    source, folder = (tmp_path_factory.mktemp(name) for name in ("source", "site"))
    for name in PARTS:
        shutil.copytree(places.ROOT / name, source / name, ignore=UNWANTED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(places.ROOT / name, source)
    command = "wheel --quiet --no-deps --no-build-isolation --wheel-dir".split()
    command += [str(source), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    zipfile.ZipFile(next(source.glob("*.whl"))).extractall(folder)
    return folder


def steerkit_of(installed: Path, home: Path, *words: str) -> subprocess.CompletedProcess:
    """The command of the installed package, in an empty folder of a user."""
    place = {"PYTHONPATH": str(installed), "STEERKIT_CACHE": str(home / "cache"), "HOME": str(home)}
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    command = [sys.executable, "-P", "-m", "companion.cli", *words]
    return subprocess.run(command, cwd=home, env=kept | place, capture_output=True, text=True, check=False)


def test_a_figure_is_listed_planned_and_run_and_its_claims_are_judged(installed, tmp_path):
    def said(*words: str) -> str:
        done = steerkit_of(installed, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    rows, shipped = json.loads(said("list", "--json")), installed / "companion" / "shipped"
    assert len(rows) > 30 and all((shipped / row["notebook"]).exists() for row in rows)
    assert json.loads(said("plan", "--profile", "smoke", "--json"))["model"] == "tiny"
    files = said("run", "tan-fig-1", "-p", "profile=smoke", "-p", "answer_format=letter").split()
    assert len(files) > 3 and all((tmp_path / name).exists() for name in files)
    assert said("reproduce", "--profile", "published", "--no-book", "--only", "tan-fig-5")
    assert (tmp_path / "cache" / "notebooks" / "tan-fig-5.ipynb").exists()
    assert not (installed / "book").exists()
    assert said("--version").startswith(f"steerkit {steerkit.__version__} torch ")


@pytest.mark.parametrize("words", ["book", "reproduce", "record smoke"])
def test_what_takes_the_repository_says_so_in_a_sentence(installed, tmp_path, words):
    done = steerkit_of(installed, tmp_path, *words.split())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Expected a clone of the repository, for " in done.stderr and "pip install -e ." in done.stderr
