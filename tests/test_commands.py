"""The commands under a figure do what the figure's run did: each is read back by the program that it calls."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from _ext import pages

from companion.exhibits import EXHIBITS, parameters_of, parse_assignments, resolve

FIGURE = EXHIBITS["tan-fig-1"]
OTHER = {"profile": "smoke", "datasets": "narcissism,a b's.jsonl", "layer": 13, "model": "007"}
VALUES = {name: parameter.default for name, parameter in parameters_of(FIGURE.notebook).items()} | OTHER


def test_only_parameters_that_differ_from_the_defaults_are_named():
    assert pages.changed(FIGURE, VALUES) == OTHER
    defaults = {name: parameter.default for name, parameter in parameters_of(FIGURE.notebook).items()}
    assert pages.steerkit_run(FIGURE, defaults) == "steerkit run tan-fig-1"


def test_steerkit_reads_its_command_as_the_same_values():
    words = shlex.split(pages.steerkit_run(FIGURE, VALUES))
    assert words[:3] == ["steerkit", "run", "tan-fig-1"] and words[3::2] == ["-p"] * len(OTHER)
    assert resolve(FIGURE.notebook, parse_assignments(words[4::2])) == VALUES


def test_papermill_reads_its_command_as_the_same_values_of_the_same_types(tmp_path):
    words = shlex.split(pages.papermill(FIGURE, VALUES))
    target = tmp_path / "out.ipynb"
    words[1:3] = [str(FIGURE.notebook), str(target)]
    subprocess.run([sys.executable, "-m", *words, "--prepare-only"], check=True, capture_output=True)
    cells = json.loads(target.read_text())["cells"]
    [injected] = [cell for cell in cells if "injected-parameters" in cell["metadata"].get("tags", [])]
    found: dict = {}
    exec("".join(injected["source"]), found)
    assert {name: found[name] for name in OTHER} == OTHER


def test_a_list_goes_to_papermill_as_yaml(monkeypatch):
    monkeypatch.setattr(pages, "changed", lambda exhibit, values: values)
    words = shlex.split(pages.papermill(FIGURE, {"layers": [1, 2], "dry": True}))
    assert words[3:] == ["-y", "layers: [1, 2]", "-p", "dry", "True"]


def test_a_run_on_one_server_names_one_server():
    text = pages.steerkit_run(FIGURE, VALUES | {"remote": "http://here"}, "http://there")
    assert "here" not in text.replace("there", "") and text.endswith("--remote http://there")


@pytest.mark.parametrize("name", ["tan-tab-2", "tan-fig-1"])
def test_a_notebook_is_sent_to_a_server_when_it_has_the_parameter(name):
    text = pages.again(EXHIBITS[name], {"profile": "smoke"})
    has = "remote" in parameters_of(EXHIBITS[name].notebook)
    assert (f"--remote {pages.SERVER}" in text) == (f"-r remote {pages.SERVER}" in text) == has
    assert ("needs no model" in text) == (not has)


class TestHosting:
    def test_without_an_address_the_page_says_what_to_set_and_has_no_button(self, monkeypatch):
        monkeypatch.setattr(pages, "repository", lambda: ("", "main"))
        assert "`repository.url`" in pages.about_hosting()
        assert "Binder" not in pages.again(FIGURE, VALUES)

    def test_with_one_the_buttons_lead_to_the_source_notebook(self, monkeypatch):
        monkeypatch.setattr(pages, "repository", lambda: ("https://github.com/someone/companion", "dev"))
        text = pages.again(FIGURE, VALUES)
        assert "mybinder.org/v2/gh/someone/companion/dev?labpath=notebooks/tan-fig-1.ipynb" in text
        assert "colab.research.google.com/github/someone/companion/blob/dev/notebooks/tan-fig-1.ipynb" in text
        assert "`repository.url`" not in pages.about_hosting()

    def test_the_address_is_read_from_the_configuration_of_the_book(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pages.exhibits, "ROOT", tmp_path)
        (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/a/b/, branch: x}")
        assert pages.repository() == ("https://github.com/a/b", "x")
        (tmp_path / "_config.yml").write_text("title: none")
        assert pages.repository() == ("", "main")
