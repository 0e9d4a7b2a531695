"""The repository as a stranger finds it: names that stay, versions that agree, nothing of the machine it was made on."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import steerkit
from companion import cli
from companion.data.datasets import load_dataset

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements-lock.txt").read_text()
PINS = [Requirement(line.rstrip("\\ ")) for line in LOCK.splitlines() if re.match(r"[A-Za-z0-9]", line)]
# The extra `sae` opens other people's releases: no page and no test needs it.
OWN = {"steerkit", "companion", "_ext"}
LOCKED = {name: group for name, group in PROJECT["optional-dependencies"].items() if name != "sae"}
DIRECT = [Requirement(text) for group in (PROJECT["dependencies"], *LOCKED.values()) for text in group]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
VERBS = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
COMMANDS |= {group.name for group in cli.app.registered_groups}
# Whatever stands on the outside (a badge, a link, a CI job, a shell history) knows these names.
NAMES = "README.md LICENSE CITATION.cff Makefile pyproject.toml environment.yml requirements-lock.txt _config.yml".split()
NAMES += "steerkit companion notebooks book book/_toc.yml profiles benchmarks tests .ci/run".split()
PACKAGES = (ROOT / "steerkit", ROOT / "companion", ROOT / "book" / "_ext")
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py") if path.stat().st_size)
FIGURES = (f"companion/figures/{name}.py" for name in ("samples", "settings", "autoencoder"))
LONG = {ROOT / name for name in (*FIGURES, "book/_ext/pages.py", "steerkit/traces.py")}
PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")), *sorted((ROOT / "book").glob("*/*.md"))]


def own_files() -> list[Path]:
    """Files of the repository that .gitignore does not name."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line] + [".git"]

    def kept(folder: str, name: str) -> bool:
        within = str((Path(folder) / name).relative_to(ROOT))
        return not any(fnmatch(name, pattern) or within == pattern for pattern in ignored)

    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if kept(folder, name)]
        found += [Path(folder) / name for name in names if kept(folder, name)]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_name_others_rely_on_is_there(name):
    assert (ROOT / name).exists()


class TestVersions:
    def test_the_conda_environment_agrees_with_the_package(self):
        content = yaml.safe_load((ROOT / "environment.yml").read_text())
        python = next(entry for entry in content["dependencies"] if str(entry).startswith("python"))
        [[editable]] = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
        extras = re.fullmatch(r"-e \.\[(.+)\]", editable)[1].split(",")
        assert python == f"python{PROJECT['requires-python']}"
        assert set(extras) == set(LOCKED)

    def test_the_lock_names_torch_first_and_a_version_the_package_allows(self):
        torch = Requirement(LOCK.splitlines()[0].removeprefix("# "))
        wanted = next(requirement for requirement in DIRECT if requirement.name == "torch")
        assert torch.name == "torch" and str(next(iter(torch.specifier)).version) in wanted.specifier
        assert "torch" not in {pin.name for pin in PINS}  # PyPI's brings a gigabyte of CUDA

    @pytest.mark.parametrize("python", PYTHONS)
    def test_every_direct_dependency_has_one_pin_in_its_range(self, python):
        here = default_environment() | {"python_version": python, "python_full_version": f"{python}.4"}
        pins = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(here)]
        applying = {canonicalize_name(pin.name): pin for pin in pins}
        for requirement in (each for each in DIRECT if each.name != "torch"):
            [pin] = applying[canonicalize_name(requirement.name)].specifier
            assert pin.operator == "==" and requirement.specifier.contains(pin.version), requirement

    @pytest.mark.parametrize(
        ("folder", "extra"), [("steerkit", ()), ("companion", ()), ("book/_ext", ("book",))]
    )
    def test_every_library_that_is_imported_is_declared(self, folder, extra):
        declared = {*PROJECT["dependencies"], *(one for name in extra for one in LOCKED[name])}
        declared = {canonicalize_name(Requirement(one).name) for one in declared}
        found, missing = packages_distributions(), set()
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                for top in {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, *OWN}:
                    known = {canonicalize_name(each) for each in found.get(top, [top])}
                    missing |= set() if known & declared else {top}
        assert missing <= {"sae_lens"}  # which has an extra of its own, and is asked for where it is used

    def test_every_pin_has_hashes_and_none_an_address(self):
        blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK)[1:]
        assert len(blocks) == len(PINS) and all("--hash=sha256:" in block for block in blocks)
        assert "://" not in LOCK and " @ " not in LOCK and "--index-url" not in LOCK

    def test_the_version_is_the_same_everywhere_and_the_citation_names_both_papers(self):
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        assert steerkit.__version__ == PROJECT["version"] == citation["version"]
        found = {entry["value"] for paper in citation["references"] for entry in paper["identifiers"]}
        assert found >= {"arXiv:2407.12404", "arXiv:2411.08790"}
        assert citation["license"] == PROJECT["license"] == "MIT"
        assert "MIT License" in (ROOT / "LICENSE").read_text()


class TestFiles:
    def test_no_file_names_a_folder_of_the_machine_it_was_written_on(self):
        home = re.compile(r"(?<![\w.:/<>-])/(?:home|Users|root|work|mnt)/\w|[A-Z]:\\Users\\")
        found = []
        for path in own_files():
            if b"\0" not in (content := path.read_bytes()):
                text = content.decode("utf-8", errors="ignore")
                found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in home.finditer(text)]
        assert found == []

    def test_no_file_is_larger_than_five_megabytes_but_the_weights_of_the_autoencoder(self):
        large = {path.name: path.stat().st_size for path in own_files() if path.stat().st_size > 5e6}
        assert set(large) <= {"sae_weights.safetensors"} and all(size <= 40e6 for size in large.values())

    @pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
    def test_a_module_is_short_and_says_what_it_is(self, path):
        tree = ast.parse(source := path.read_text())
        assert len(source.splitlines()) <= (500 if path in LONG else 350) and ast.get_docstring(tree)
        named = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        unsaid = [node.name for node in named if node.name[0] != "_" and not ast.get_docstring(node)]
        assert unsaid == [] and "fmt: " + "skip" not in source


class TestCheck:
    """What `make check` asks, so that it is asked wherever the tests run."""

    TYPES = pytest.param("mypy", marks=pytest.mark.slow)

    @pytest.mark.parametrize(
        "command", ["lint-imports --no-cache", "ruff check .", "ruff format --check .", TYPES]
    )
    def test_it_finds_nothing(self, command):
        name, *words = command.split()
        program = Path(sys.executable).with_name(name)
        if not program.exists():
            pytest.skip(f"{name} is not installed (extra: test)")
        paths = os.pathsep.join([str(ROOT), str(ROOT / "book")])
        there = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": paths}}
        done = subprocess.run([program, *words], **there, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        assert f"/{command}\n" in (ROOT / "Makefile").read_text()


class TestImports:
    def test_every_public_name_resolves_and_is_explained_also_after_its_module_was_imported(self):
        """A submodule of the same name would take the name's place as soon as anybody imports it."""
        for _ in range(2):
            for name in steerkit.__all__:
                found = getattr(steerkit, name)
                assert isinstance(found, str) or (callable(found) and found.__doc__), name
        assert not {path.stem for path in (ROOT / "steerkit").glob("*.py")} & set(steerkit.__all__)
        given = re.findall(r"(\w+) as \1\b", (ROOT / "steerkit/__init__.py").read_text())  # to type checkers
        assert sorted([*given, "__version__"]) == steerkit.__all__
        with pytest.raises(AttributeError, match="no attribute 'steer'"):
            steerkit.steer  # noqa: B018

    def test_the_key_of_a_table_of_a_registered_model_needs_neither_torch_nor_matplotlib(self):
        """A notebook that draws a finished table is read in seconds; torch alone takes two."""
        code = (
            "import sys, steerkit, steerkit.stats, companion.store\nfrom companion.tan import experiment, jobs\n"
            "from companion.profiles import load_profile\nsettings = load_profile('laptop')\n"
            "jobs.inputs(jobs.Job(settings, 'grid', 'openness', 'letter', 12))\n"
            "print({'torch', 'matplotlib', 'transformers', 'nnsight'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"


class TestDocumentation:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    def test_every_name_and_command_on_a_page_exists(self, page):
        text = page.read_text()
        assert set(re.findall(r"\bsk\.(\w+)", text)) <= set(steerkit.__all__)
        assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= VERBS
        assert set(re.findall(r"(?:^|`|bin/)steerkit ([a-z]+)", text, re.MULTILINE)) <= COMMANDS

    def test_the_example_rows_load(self, tmp_path):
        found = []
        for rows in re.findall(r"```json\n(.*?)```", (ROOT / "book/use/own.md").read_text(), re.DOTALL):
            (tmp_path / "mine.jsonl").write_text(rows)
            found.append([item.kind for item in load_dataset(tmp_path / "mine.jsonl").items])
        assert found == [["choice"], ["persona", "choice"]]
