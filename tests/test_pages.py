"""The generated parts of pages: what is said of a run is what the run left, and its commands do what it did."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
from _ext import markdown, measured, pages, provenance

from companion.exhibits import EXHIBITS, MAYNE, TAN, parameters_of, parse_assignments, resolve
from companion.results import Result

FIGURE = EXHIBITS["tan-fig-1"]
DEFAULTS = {name: parameter.default for name, parameter in parameters_of(FIGURE.notebook).items()}
OTHER = {"profile": "smoke", "datasets": "narcissism,a b's.jsonl", "layer": 13, "model": "007"}
CLAIMS = pd.DataFrame(
    [
        ["It works.", "letter", "1 of 1", "0 of 1", "more than half", "differs", "tan-fig-1"],
        ["It varies.", "letter", "a lot", "a little", "some", "agrees", "tan-fig-4"],
    ],
    columns=["statement", "format", "published", "ours", "rule", "verdict", "exhibit"],
)


def part(name: str, **about: object) -> dict:
    return {
        **{"part": name, "tab": f"Tab {name}", "caption": f"Caption of {name}.", "line": f"Line of {name}."},
        **{"alt": f"What {name} shows.", "commit": "abc", "artefacts": [f"grid-openness-{name}-0"]},
        **{"engine": ["tree"], "records": [], "seconds": 12.0, "data_sha256": {"openness": "d" * 64}},
        **{"weights_sha256": ["e" * 64], "models": {"e" * 64: "tiny"}, "versions": {"torch": "2.13.0"}},
    } | about


@pytest.fixture
def result(tmp_path):
    """Makes the result of a profile: two figures and a table."""

    def make(profile: str = "smoke", address: str = "/notebooks", **about: object) -> Result:
        folder = tmp_path / profile
        folder.mkdir()
        parts = [part("letter", **about), part("statement"), part("numbers", alt="")]
        values = DEFAULTS | {"profile": profile}
        found = Result(FIGURE, profile, folder, address, values, 86400.0, 3.0, parts)
        for one in parts:
            pd.DataFrame({"x": [1]}).to_csv(found.file(one, "csv"), index=False)
            found.file(one, "json").write_text(json.dumps(one))
            if one["alt"]:
                found.file(one, "png").write_bytes(b"png")
                found.file(one, "svg").write_text("<svg/>")
        found.notebook.write_text("{}")
        return found

    return make


def test_one_profile_needs_no_tabs_of_profiles(result):
    text = pages.exhibit_block([result()])
    assert ":sync-group: profile" not in text and pages.SAME_AXES not in text
    assert re.findall(r"\{tab-item\} (Tab \w+)", text) == ["Tab letter", "Tab statement"]


def test_every_figure_has_caption_finding_files_and_origin(result):
    text = pages.exhibit_block([result()])
    for name in ("letter", "statement"):
        for piece in (f"Caption of {name}.", f"**What it shows.** What {name} shows.", f"Line of {name}."):
            assert piece in text
        for suffix in ("csv", "json"):
            assert f"</notebooks/tan-fig-1-{name}.{suffix}>" in text
        assert f"tan-fig-1-{name}.svg" not in text  # in the archive
    assert "</notebooks/tan-fig-1-numbers.csv>" in text and "tan-fig-1-numbers.svg" not in text
    assert ":alt: What letter shows." in text


def test_another_profile_is_a_tab_with_its_own_files_and_its_own_verdicts(result):
    own, other = result(), result("smoke-gemma", "/notebooks/smoke-gemma")
    CLAIMS.to_csv(other.folder / "tan-claims-claims.csv", index=False)
    text = pages.exhibit_block([own, other])
    tabs = re.findall(r"^(:+)\{tab-item\} (.+)", text, re.MULTILINE)
    outer = max(len(colons) for colons, _ in tabs)
    labels = [label for colons, label in tabs if len(colons) == outer]
    assert labels == ["tiny random model (smoke)", "tiny random Gemma 3 (smoke-gemma)"]
    first, second = text.split("{tab-item} tiny random Gemma 3")
    assert "/notebooks/smoke-gemma/tan-fig-1-letter.png" in second and "smoke-gemma/" not in first
    assert "smoke-gemma/tan-fig-1-letter.json>" in second and "letter.csv>" not in second
    assert "It works." in second and "It works." not in first
    assert text.count("{dropdown} Run it again") == 1 and pages.SAME_AXES in text


def test_only_claims_that_rest_on_the_exhibit_stand_there_with_every_format_in_a_column(result):
    own = result()
    both = pd.concat([CLAIMS, CLAIMS.iloc[:1].assign(format="statement", ours="1 of 1", verdict="agrees")])
    both.to_csv(own.folder / "tan-claims-claims.csv", index=False)
    text = pages.exhibit_block([own])
    assert "| claim | published | here, format statement | here, format letter |" in text
    assert "| It works. | 1 of 1 | **agrees**: 1 of 1 | **differs**: 0 of 1 |" in text
    assert "It varies." not in text


def test_the_start_page_has_a_verdict_for_each_claim_and_format_and_where_its_numbers_are(result):
    own = result()
    both = pd.concat([CLAIMS, CLAIMS.iloc[:1].assign(format="statement", verdict="not run")])
    both.to_csv(own.folder / "tan-claims-claims.csv", index=False)
    short = CLAIMS.iloc[:1].assign(exhibit="mayne-fig-1", statement="It is short.")
    short.to_csv(own.folder / "mayne-claims-claims.csv", index=False)
    text = pages.verdicts([own], TAN)
    assert "| It works. | not run | differs | [Figure 1](/notebooks/tan-fig-1.ipynb) |" in text
    assert "| It varies. |  | agrees | [Figure 4](/notebooks/tan-fig-4.ipynb) |" in text
    assert "It is short." not in text and "It works." not in pages.verdicts([own], MAYNE)


def test_the_start_page_has_a_figure_with_its_origin_and_nothing_else(result):
    text = pages.picture(result())
    for piece in ("/notebooks/tan-fig-1-letter.png", "Caption of letter.", "Line of letter."):
        assert piece in text
    assert text.count("{figure}") == 1 and "dropdown" not in text


def test_a_recorded_part_says_so_in_its_tab_and_under_it(result):
    text = pages.exhibit_block([result(records=["laptop-full/grid-letter"])])
    assert "{tab-item} Tab letter, recorded" in text and "{tab-item} Tab statement\n" in text
    assert "Line of letter. Read from the committed record laptop-full/grid-letter." in text


def test_all_parameters_are_shown_and_those_that_were_chosen_are_marked(result):
    text = pages.exhibit_block([result()])
    assert re.search(r"\| `profile` \| `'smoke'` \| no \| .+ \|", text)
    assert re.search(r"\| `layer` \| `-1` \| yes \| .+ \|", text)


class TestProvenance:
    def test_a_run_has_its_time_parameters_and_commit(self, result):
        row = "| [tan-fig-1](/notebooks/tan-fig-1.ipynb) | smoke | defaults | 1970-01-02 00:00 | 3 | abc |"
        assert row in provenance.page([result()])

    def test_every_input_is_named_with_its_whole_hash_once(self, result):
        frame = provenance.inputs([result(), result("smoke-gemma", "/notebooks/smoke-gemma")])
        assert frame.values.tolist() == [
            ["data", "openness", f"`{'d' * 64}`", 6],
            ["weights", "tiny", f"`{'e' * 64}`", 6],
        ]

    def test_it_says_how_to_cite_the_companion_and_both_papers(self):
        text = provenance.how_to_cite()
        for piece in (
            "@software{steerkit",
            "@inproceedings{tan2024",
            "@article{mayne2024",
            "arXiv:2407.12404",
        ):
            assert piece in text
        assert "Mayne, Harry and" in text
        assert "?." not in text


# The commands under a figure: each is read back by the program that it calls


VALUES = DEFAULTS | OTHER


def test_only_parameters_that_differ_from_the_defaults_are_named():
    assert pages.changed(FIGURE, VALUES) == OTHER
    assert pages.steerkit_run(FIGURE, DEFAULTS) == "steerkit run tan-fig-1"


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


# Markdown, read back by the parser that the book uses


HOSTILE = "a | b < c {d} $e$ [f](g)\nsecond line"


def cells(text: str) -> list[list[str]]:
    """Cells of the rows of a Markdown table, split at bars that are not escaped."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_a_cell_is_text_whatever_is_in_it():
    head, _, row = cells(markdown.table(pd.DataFrame({"x": [HOSTILE], "y": [1]})))
    assert head == ["x", "y"] and row[1] == "1"
    assert row[0] == r"a \| b &lt; c &#123;d} \$e\$ \[f](g) second line"


def test_links_downloads_and_code_stay_what_they_are_and_the_rest_is_text():
    value = "see {download}`data <a/b.csv>` or [page](/x.md) or `f(x|y)` but not {this} <b>"
    _, _, [found] = cells(markdown.table_of_markdown(pd.DataFrame({"x": [value]})))
    assert found == r"see {download}`data <a/b.csv>` or [page](/x.md) or `f(x\|y)` but not &#123;this} &lt;b>"


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_fence_is_longer_than_any_inside_it(depth):
    text = "text"
    for _ in range(depth):
        text = markdown.fence("div", "scroll", text)
    runs = [len(run) for run in re.findall(r"^(:+)", text, re.MULTILINE)]
    assert runs == [*range(depth + 2, 2, -1), *range(3, depth + 3)]


def test_tabs_in_tabs_come_out_as_tabs_in_tabs():
    """The parser of the book finds the inner set inside the first outer tab, and the table inside that."""
    pytest.importorskip("myst_parser", reason="Jupyter Book is not installed (extra: book)")
    from myst_parser.config.main import MdParserConfig
    from myst_parser.mdit_to_docutils.base import DocutilsRenderer
    from myst_parser.parsers.mdit import create_md_parser

    inner = markdown.tabs("format", [("letter", "Letter", markdown.table(pd.DataFrame({"x": [1]})))])
    outer = markdown.tabs("profile", [("one", "One", inner), ("two", "Two", "last")])
    parser = create_md_parser(MdParserConfig(enable_extensions={"colon_fence"}), DocutilsRenderer)
    [token] = [each for each in parser.parse(outer) if each.type == "colon_fence"]
    items = [each for each in parser.parse(token.content) if each.type == "colon_fence"]
    assert token.info.strip() == "{tab-set}"
    assert [item.info.strip() for item in items] == ["{tab-item} One", "{tab-item} Two"]
    first, second = (item.content for item in items)
    assert "{tab-item} Letter" in first and "| 1 |" in first and "last" in second


LIMITS = {"request": 12345, "request_limit": 100_000, "response": 640, "response_limit": 20_048}
RECORD = {
    **{"command": "make test-ndif", "commit": "abc1234", "date": "2026-01-02", "model": "tiny"},
    **{"dtype": "float32", "threads": 2, "versions": {"torch": "9.9"}, "tests": 3, "seconds": 4},
    "operations": [
        {"operation": "sweep", "numbers": 12, "largest": 3.25, "gpu": None, "ndif": 2.4e-6, "tolerance": 1e-4}
    ],
    "sizes": [{"job": "sweep of 2", **LIMITS}],
    "times": [{"work": "grid", "local": 2.0, "ndif": 3.0, "aim": 1.5}],
}


class TestParity:
    """The page on parity."""

    def page(self, folder, record: dict) -> str:
        (folder / "parity.json").write_text(json.dumps(record))
        return measured.parity(folder / "parity.json")

    def test_it_shows_every_number_of_the_record_and_what_it_was_measured_with(self, tmp_path):
        text = self.page(tmp_path, RECORD)
        found = cells(text)
        assert ["sweep", "12", "3.25", "not run", "2.4e-06", "0.0001"] in found
        assert ["sweep of 2", "12.3 kB", "0.6 kB", "100 and 20.0 kB"] in found
        assert ["grid", "2.0 s", "3.0 s", "1.50", "1.5"] in found
        for word in ("make test-ndif", "abc1234", "2026-01-02", "tiny", "float32", "2 threads", "torch 9.9"):
            assert word in text.splitlines()[-1]

    def test_a_number_for_a_gpu_is_shown_when_there_is_one(self, tmp_path):
        text = self.page(tmp_path, RECORD | {"operations": [RECORD["operations"][0] | {"gpu": 0.25}]})
        assert "not run" not in text and "0.25" in text

    def test_without_a_record_it_says_so(self, tmp_path):
        assert "has not been run" in measured.parity(tmp_path / "parity.json")


@pytest.mark.skipif(not measured.PARITY.exists(), reason="make test-ndif has not been run for this copy")
class TestCommittedParity:
    record = json.loads(measured.PARITY.read_text()) if measured.PARITY.exists() else {}

    def test_every_difference_is_within_its_tolerance(self):
        assert len(self.record["operations"]) >= 10
        for row in self.record["operations"]:
            assert row["ndif"] <= row["tolerance"] <= measured.TOLERANCE, row["operation"]

    def test_what_travels_is_within_its_limits(self):
        for row in self.record["sizes"]:
            assert row["request"] <= row["request_limit"] <= 100_000
            assert row["response"] <= row["response_limit"]

    def test_it_has_the_operations_that_the_book_promises(self):
        named = " ".join(row["operation"] for row in self.record["operations"])
        for word in "extraction,tree sweep,sliding window,sandboxed,autoencoder,generation,session".split(
            ","
        ):
            assert word in named
