"""What happens elsewhere: GitHub's workflows, Binder and the container. Nothing of it can run here, so its text is checked."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from test_repository import COMMANDS, PROJECT, PYTHONS, ROOT, VERBS

from companion.exhibits import EXHIBITS
from companion.profiles import profile_names

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SUPPORTED = SpecifierSet(PROJECT["requires-python"])


def content(path: Path) -> dict:
    """A workflow; YAML 1.1 reads its key `on` as true."""
    found = yaml.safe_load(path.read_text())
    found["on"] = found.pop(True)
    return found


def steps(path: Path) -> list[dict]:
    return [step for job in content(path)["jobs"].values() for step in job["steps"]]


def check_command(line: str) -> None:
    """A verb of the Makefile with its variables, or a command of steerkit with a known exhibit and profile."""
    words = line.split()
    if words[0] == "make":
        assert words[1] in VERBS
        assert all(re.fullmatch(r'(PROFILE|TORCH_ARGS|PYTHON)=\S+|"', word) for word in words[2:]), line
        assert {word.partition("=")[2] for word in words if word.startswith("PROFILE=")} <= {*profile_names()}
        return
    assert words[0] == "steerkit" and words[1] in COMMANDS, line
    if words[1] == "run":
        assert words[2] in EXHIBITS
    if "--profile" in words:
        assert words[words.index("--profile") + 1] in profile_names()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_what_it_needs_may_only_read_and_runs_what_exists(path):
    found, text = content(path), path.read_text()
    assert found["permissions"] == {"contents": "read"} and "secrets." not in text
    more = {name: job["permissions"] for name, job in found["jobs"].items() if "permissions" in job}
    writes = {"book": {"deploy": {"pages": "write", "id-token": "write"}}}
    writes["release"] = {"release": {"contents": "write"}}
    assert more == writes.get(path.stem, {})
    for job in found["jobs"].values():
        assert job["timeout-minutes"] <= 90 and job.get("needs") in {None, *found["jobs"]}
    for step in steps(path):  # of GitHub's own actions only, at a major version
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1")), step
    commands = [line for step in steps(path) for line in step.get("run", "").splitlines()]
    for line in commands:
        if not line.startswith("gh release create"):
            check_command(line)
    assert commands


class TestEachWorkflow:
    def test_the_tests_run_on_the_oldest_and_the_newest_python_and_new_versions_by_the_clock(self):
        assert [path.stem for path in WORKFLOWS] == ["book", "newest", "release", "tests"]
        found = content(ROOT / ".github/workflows/tests.yml")
        assert found["jobs"]["tests"]["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]
        assert {"push", "pull_request"} <= set(found["on"])
        assert "make test" in [step.get("run") for step in found["jobs"]["tests"]["steps"]]
        path = ROOT / ".github/workflows/newest.yml"
        assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", content(path)["on"]["schedule"][0]["cron"])
        assert {"make newest", "make links"} <= {step.get("run") for step in steps(path)}

    def test_the_book_is_deployed_from_the_main_branch_only_after_it_was_built(self):
        jobs = content(ROOT / ".github/workflows/book.yml")["jobs"]
        assert jobs["deploy"]["needs"] == "build" and "refs/heads/main" in jobs["deploy"]["if"]
        uploads = [step for step in jobs["build"]["steps"] if "upload" in step.get("uses", "")]
        assert {step["with"]["path"] for step in uploads} == {"_build/html"}


def test_binder_has_a_python_and_a_torch_that_the_package_allows_and_runs_what_exists():
    """repo2docker reads the minor version only from an exact `python=`."""
    python, pip, torch = yaml.safe_load((ROOT / "binder/environment.yml").read_text())["dependencies"]
    assert python.removeprefix("python=") in SUPPORTED and python.count("=") == 1 and pip == "pip"
    wanted = next(r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "torch")
    assert torch == f"pytorch-cpu{wanted.specifier}"
    path = ROOT / "binder/postBuild"
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert path.read_text().startswith("#!/usr/bin/env bash\n") and path.stat().st_mode & 0o111
    assert lines[:2] == ["set -euo pipefail", "python -m pip install --no-cache-dir -e ."]
    for line in lines[2:-1]:
        check_command(line)
    if bash := shutil.which("bash"):
        subprocess.run([bash, "-n", str(path)], check=True)


def test_the_container_runs_make_book_as_somebody_without_rights_and_serves_nothing():
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    names, given = zip(*steps, strict=True)
    assert re.fullmatch(r"python:(3\.\d+)-slim", given[names.index("FROM")])[1] in SUPPORTED
    assert given[names.index("USER")] == "reader" and names.index("USER") < names.index("COPY")
    assert steps[-1] == ["CMD", '["make", "book"]'] and not {"EXPOSE", "ENTRYPOINT", "ADD"} & {*names}
    # What it copies exists, is all that an installation reads, and nothing that git ignores goes in.
    copied = [word for name, words in steps if name == "COPY" for word in words.split()[1:-1]]
    assert copied[-1] == "." and all((ROOT / name).exists() for name in copied)
    [needed] = re.findall(r"^\$\(VENV\)/.installed: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    packages = {"steerkit/__init__.py", "companion/__init__.py"}  # an editable installation maps both
    assert {*needed.split(), PROJECT["readme"], "Makefile", *packages} <= {*copied}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = {line.strip("/").removeprefix("**/") for line in lines if not line.startswith("#")}
    assert {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()} <= ignored


def test_forms_hooks_and_metadata_of_a_release_can_be_read_and_name_what_is_there():
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        about = yaml.safe_load(form.read_text())
        assert "blank_issues_enabled" in about or {"name", "description", "body"} <= set(about)
    [own] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in own["hooks"]:
        tool, *rest = hook["entry"].split()
        named = [ROOT / each for each in rest if each.endswith(".py")]
        assert tool.startswith(".venv/bin/") and all(path.exists() for path in named)
    about = json.loads((ROOT / ".zenodo.json").read_text())
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert about["title"] == cited["title"] and about["license"] == cited["license"] == PROJECT["license"]
    papers = {each["value"] for one in cited["references"] for each in one["identifiers"]}
    assert papers == {each["identifier"] for each in about["related_identifiers"]}


def test_stripping_takes_outputs_and_numbers_cells_and_leaves_a_clean_notebook_alone(tmp_path):
    source, path = ROOT / "notebooks/tan-fig-1.ipynb", tmp_path / "one.ipynb"
    content = json.loads(source.read_text())
    for cell in content["cells"]:
        cell["id"] = f"x{cell['id']}"
        if cell["cell_type"] == "code":
            printed = {"output_type": "stream", "name": "stdout", "text": "1"}
            cell |= {"execution_count": 3, "outputs": [printed]}
    path.write_text(json.dumps(content))
    command = [sys.executable, str(ROOT / "tools/strip.py"), str(path)]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 1 and "stripped: " in first.stderr
    assert path.read_text() == source.read_text() and subprocess.run(command, check=False).returncode == 0
