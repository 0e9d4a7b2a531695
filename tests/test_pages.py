"""The generated parts of pages: what is said of a run is what the run left, and its commands do what it did."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from _ext import markdown, measured, pages, provenance, tokens
from markdown_it import MarkdownIt

from companion import page
from companion.data.ask import examples_of
from companion.data.datasets import load_dataset
from companion.exhibits import EXHIBITS, MAYNE, TAN, parameters_of, parse_assignments, resolve
from companion.outline import outline
from companion.profiles import load_profile
from companion.results import Result
from companion.tan import records
from steerkit.formats import FORMATS, ledger
from steerkit.prompts import Prompter

FIGURE = EXHIBITS["tan-fig-1"]
DEFAULTS = {name: parameter.default for name, parameter in parameters_of(FIGURE.notebook).items()}
OTHER = {"profile": "smoke", "datasets": "narcissism,a b's.jsonl", "layer": 13, "model": "007"}
CLAIMS = pd.DataFrame(
    [
        ["It works.", "letter", "tiny", "1 of 1", "0 of 1", "more than half", "differs", "tan-fig-1"],
        ["It varies.", "letter", "tiny", "a lot", "a little", "some", "agrees", "tan-fig-4"],
    ],
    columns=["statement", "format", "model", "published", "ours", "rule", "verdict", "exhibit"],
).assign(**{"where false": "0.10 (0.20)"})


def part(name: str, **about: object) -> dict:
    return {
        **{"part": name, "tab": f"Tab {name}", "caption": f"Caption of {name}.", "line": f"Line of {name}."},
        **{"alt": f"What {name} shows.", "commit": "abc", "artefacts": [f"grid-openness-{name}-0"]},
        **{"engine": ["tree"], "records": [], "seconds": 12.0, "data_sha256": {"openness": "d" * 64}},
        **{"weights_sha256": ["e" * 64], "models": {"e" * 64: "tiny"}, "versions": {"torch": "2.13.0"}},
    } | about


@pytest.fixture
def result(tmp_path):
    """Makes the result of a profile: two figures and a table, and with `claims` what was judged."""

    def make(profile: str = "smoke", address: str = "/notebooks", claims=None, **about: object) -> Result:
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
        if claims is not None:
            claims.to_csv(folder / "tan-claims-claims.csv", index=False)
        return found

    return make


class TestExhibit:
    def test_every_figure_has_caption_finding_files_and_origin_and_every_parameter_is_shown(self, result):
        text = pages.exhibit_block([result()])
        assert ":sync-group: profile" not in text  # of one profile
        assert re.findall(r"\{tab-item\} (Tab \w+)", text) == ["Tab letter", "Tab statement"]
        assert re.search(r"\| `profile` \| `'smoke'` \| no \| .+ \|", text)
        assert re.search(r"\| `layer` \| `-1` \| yes \| .+ \|", text)
        for name in ("letter", "statement"):
            head = "{dropdown} In words, and where it is from"
            for piece in (f"Caption of {name}.", head, f"Line of {name}."):
                assert piece in text
            for suffix in ("csv", "json"):
                assert f"</notebooks/tan-fig-1-{name}.{suffix}>" in text
            assert f"tan-fig-1-{name}.svg" not in text  # in the archive
        assert "</notebooks/tan-fig-1-numbers.csv>" in text and "tan-fig-1-numbers.svg" not in text
        assert ":alt: What letter shows." in text

    def test_another_profile_is_a_tab_with_its_own_files_and_its_own_verdicts(self, result):
        own, other = result(), result("smoke-gemma", "/notebooks/smoke-gemma", CLAIMS)
        text = pages.exhibit_block([own, other])
        tabs = re.findall(r"^(:+)\{tab-item\} (.+)", text, re.MULTILINE)
        outer = max(len(colons) for colons, _ in tabs)
        labels = [label for colons, label in tabs if len(colons) == outer]
        assert labels == ["tiny random model", "tiny random Gemma 3"]
        first, second = text.split("{tab-item} tiny random Gemma 3")
        assert "/notebooks/smoke-gemma/tan-fig-1-letter.png" in second and "smoke-gemma/" not in first
        assert "smoke-gemma/tan-fig-1-letter.json>" in second and "letter.csv>" not in second
        assert "It works." in second and "It works." not in first
        assert text.count("{dropdown} Run it again") == 1

    def test_a_claim_has_its_rule_once_and_a_line_a_run_the_papers_data_first(self):
        about = {"false world": "no effect", "false agree": 0.05, "detectable": 0.2}
        other = CLAIMS.iloc[:1].assign(model="qwen2.5-coder-1.5b (papers' data)", verdict="not testable here")
        text = pages.by_claim(pd.concat([CLAIMS, other]).assign(**about))
        assert text.count("Rule: more than half.") == 1 and "\n**1. It works.** " in text
        first, second = text.index("(papers' data), *letter*"), text.index("tiny random model, *letter*")
        assert first < second < text.index("**2. It varies.**")
        assert '<span class="verdict not-testable-here">not testable here</span>' in text

    def test_the_start_page_has_the_papers_data_first_several_models_last_and_nothing_untested(self, result):
        names = ["tiny, tiny-gemma3", "tiny (papers' data), tiny-gemma3 (papers' data)"]
        names += ["tiny", "tiny (papers' data)"]
        every = [CLAIMS.iloc[:1].assign(model=name) for name in names]
        untested = every[2].assign(verdict="not testable here", format="statement")
        text = pages.verdicts([result(claims=pd.concat([*every, untested]))], TAN)
        none = result("smoke-gemma", "/notebooks/smoke-gemma", untested)
        assert pages.verdicts([none], TAN).endswith("1 not testable here.")
        heads = ("tiny random model (papers' data)", "tiny random model")
        heads += ("several models, papers' data", "several models")
        head = " | ".join(f"{name}, *letter*" for name in heads)
        assert f"| claim | {head} | numbers |" in text

    def test_two_profiles_of_one_model_are_told_apart(self, result):
        own = result()
        text = pages.exhibit_block([own, own])
        assert text.count("{tab-item} tiny random model (smoke)") == 2

    def test_a_folded_table_has_a_short_title_and_its_whole_caption_below(self, result):
        text = pages.exhibit_block([result()])
        assert "{dropdown} Caption of numbers" in text and "Caption of numbers." in text
        assert pages.title("Of " * 9 + "words.") == ("Of " * 8).strip() + "…"
        assert pages.title("Shares (95%), by set") == "Shares (95%)"

    def test_claims_stand_at_the_exhibit_they_rest_on_and_all_of_them_on_the_start_page(self, result):
        other = CLAIMS.iloc[:1].assign(format="statement", ours="1 of 1", verdict="agrees")
        own = result(claims=pd.concat([CLAIMS, other]))
        text = pages.exhibit_block([own])
        assert "*It works.* Published: 1 of 1.\n" in text and "| run | verdict | here | where false |" in text
        for form, word, n in (("statement", "agrees", 1), ("letter", "differs", 0)):
            assert f"| tiny random model, *{form}* | {pages.badge(word)} | {n} of 1 | 0.10 (0.20) |" in text
        assert "It varies." not in text
        # A claim belongs to the paper whose table it is in, whatever exhibit shows it.
        short = CLAIMS.iloc[:1].assign(exhibit="mayne-ext-decompose", statement="It is short.")
        short.to_csv(own.folder / "mayne-claims-claims.csv", index=False)
        text = pages.verdicts([own], TAN)
        assert "2 claims, 3 verdicts over formats and models: 2 agrees, 1 differs." in text
        assert "| claim | tiny random model, *letter* | tiny random model, *statement* | numbers |" in text
        good, bad = map(pages.badge, ("agrees", "differs"))
        assert f"| It works. | {bad} | {good} | [Figure 1](/notebooks/tan-fig-1.ipynb) |" in text
        assert f"| It varies. | {good} |  | [Figure 4](/notebooks/tan-fig-4.ipynb) |" in text
        assert "It is short." not in text and "It is short." in pages.verdicts([own], MAYNE)

    def test_the_start_page_has_a_figure_with_its_origin_and_nothing_else(self, result):
        text = pages.picture(result())
        for piece in ("/notebooks/tan-fig-1-letter.png", "Caption of letter.", "Line of letter."):
            assert piece in text
        assert text.count("{figure}") == 1 and "dropdown" not in text

    def test_a_recorded_part_says_so_under_it(self, result):
        text = pages.exhibit_block([result(records=["laptop-full/grid-letter"])])
        assert "{tab-item} Tab letter\n" in text and "{tab-item} Tab statement\n" in text
        assert "Line of letter. Read from the committed record laptop-full/grid-letter." in text

    def test_provenance_has_every_run_and_every_input_with_its_whole_hash_once(self, result):
        both = [result(), result("smoke-gemma", "/notebooks/smoke-gemma")]
        row = "| [tan-fig-1](/notebooks/tan-fig-1.ipynb) | smoke | defaults | 1970-01-02 00:00 | 3 | abc |"
        assert row in provenance.page(both[:1])
        data, weights = provenance.inputs(both).values.tolist()
        assert data == ["data", "openness", f"`{'d' * 64}`", 6]
        assert weights == ["weights", "tiny", f"`{'e' * 64}`", 6]
        text = provenance.how_to_cite()
        pieces = "@software{steerkit,@inproceedings{tan2024,@article{mayne2024,arXiv:2407.12404"
        assert all(piece in text for piece in (*pieces.split(","), "Mayne, Harry and")) and "?." not in text


VALUES = DEFAULTS | OTHER


class TestCommands:
    """Each is read back by the program that it calls."""

    def test_steerkit_reads_its_command_as_the_same_values_and_it_names_what_differs_from_the_defaults(self):
        assert pages.steerkit_run(FIGURE, DEFAULTS) == "steerkit run tan-fig-1"
        words = shlex.split(pages.steerkit_run(FIGURE, VALUES))
        assert words[:3] == ["steerkit", "run", "tan-fig-1"] and words[3::2] == ["-p"] * len(OTHER)
        assert resolve(FIGURE.notebook, parse_assignments(words[4::2])) == VALUES

    def test_papermill_reads_its_command_as_the_same_values_of_the_same_types(self, tmp_path):
        words = shlex.split(pages.papermill(FIGURE, VALUES))
        target = tmp_path / "out.ipynb"
        words[1:3] = [str(FIGURE.notebook), str(target)]
        subprocess.run([sys.executable, "-m", *words, "--prepare-only"], check=True, capture_output=True)
        cells = json.loads(target.read_text())["cells"]
        [injected] = [cell for cell in cells if "injected-parameters" in cell["metadata"].get("tags", [])]
        found: dict = {}
        exec("".join(injected["source"]), found)
        assert {name: found[name] for name in OTHER} == OTHER

    def test_a_list_goes_to_papermill_as_yaml(self, monkeypatch):
        monkeypatch.setattr(pages, "changed", lambda exhibit, values: values)
        words = shlex.split(pages.papermill(FIGURE, {"layers": [1, 2], "dry": True}))
        assert words[3:] == ["-y", "layers: [1, 2]", "-p", "dry", "True"]

    @pytest.mark.parametrize("name", ["tan-tab-2", "tan-fig-1"])
    def test_a_notebook_is_sent_to_one_server_when_it_has_the_parameter(self, name):
        text = pages.steerkit_run(FIGURE, VALUES | {"remote": "http://here"}, "http://there")
        assert "here" not in text.replace("there", "") and text.endswith("--remote http://there")
        text = pages.again(EXHIBITS[name], {"profile": "smoke"})
        has = "remote" in parameters_of(EXHIBITS[name].notebook)
        assert (f"--remote {pages.SERVER}" in text) == (f"-r remote {pages.SERVER}" in text) == has
        assert ("needs no model" in text) == (not has)

    def test_buttons_lead_to_the_notebook_where_the_configuration_has_an_address(self, tmp_path, monkeypatch):
        config = tmp_path / "_config.yml"
        config.write_text("title: none")
        values, again = VALUES, pages.again  # what the notebook's parameters are does not matter
        monkeypatch.setattr(pages, "ROOT", tmp_path)
        assert "`repository.url`" in pages.about_hosting() and "Binder" not in again(FIGURE, values)
        config.write_text("repository: {url: https://github.com/some/one/, branch: dev}")
        text = again(FIGURE, values)
        assert "mybinder.org/v2/gh/some/one/dev?labpath=notebooks/tan-fig-1.ipynb" in text
        assert "colab.research.google.com/github/some/one/blob/dev/notebooks/tan-fig-1.ipynb" in text
        assert "`repository.url`" not in pages.about_hosting()


HOSTILE = "a | b < c {d} $e$ [f](g)\nsecond line"


def cells(text: str) -> list[list[str]]:
    """Cells of the rows of a Markdown table, split at bars that are not escaped."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_a_cell_is_text_whatever_is_in_it_but_links_downloads_and_code_may_stay_what_they_are():
    head, _, row = cells(markdown.table(pd.DataFrame({"x": [HOSTILE], "y": [1]})))
    assert head == ["x", "y"] and row[1] == "1"
    assert row[0] == r"a \| b &lt; c &#123;d} \$e\$ \[f](g) second line"
    value = "see {download}`data <a/b.csv>` or [page](/x.md) or `f(x|y)`<br>but not {this} <b>"
    wanted = r"see {download}`data <a/b.csv>` or [page](/x.md) or `f(x\|y)`<br>but not &#123;this} &lt;b>"
    assert cells(markdown.table_of_markdown(pd.DataFrame({"x": [value]})))[2] == [wanted]


def test_names_are_text_in_what_a_notebook_shows_and_a_page_says(tmp_path, monkeypatch, result):
    """A file or a folder may be called anything; of a caption all is ours but names."""
    shown = []
    monkeypatch.setattr(page, "display", shown.append)
    settings = replace(load_profile("smoke"), model=HOSTILE)
    manifest = {"inputs": {"dataset": HOSTILE, "data_sha256": "0", "weights": "1", "model": HOSTILE}}
    manifest |= {"name": "grid", "key": "0", "seconds": 0.0, "engine": "tree", "code": "", "commit": ""}
    manifest["inputs"] |= {"limits": [1, 1], "split": "clean", "source": "bundled", "seed": 0}
    run = page.Run("tan-fig-1", settings, tmp_path)
    table = pd.DataFrame({HOSTILE: [HOSTILE]})
    run.show_table(table, "names", manifest, f"**Names** of {run.model_label}")
    cells, below = (getattr(each, "data", each) for each in shown)
    assert cells.count("&lt; c {d} $e$ [f](g)") == 2 and " < c" not in cells
    html = MarkdownIt("commonmark", {"html": True}).render(below)
    assert html.count("&lt; c {d} $e$ [f](g) second line") == 2 and "<strong>Names</strong>" in html
    assert "{d}" not in below and r"\$e\$" in below  # a role and a formula in the book's Markdown
    text = pages._body(result(alt=HOSTILE))
    assert r"a \| b &lt; c &#123;d} \$e\$ \[f](g) second line" in text


def test_files_of_a_run_with_a_long_name_have_names_that_a_page_can_link_to(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "display", lambda *_: None)
    run = page.Run("tan-fig-6", load_profile("smoke"), tmp_path)
    run.show_table(pd.DataFrame({"x": [1]}), "a-135m (papers' data)-b (papers' data)-yes-no", [], "Both.")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"tan-fig-6-a-135m-papers-data-b-papers-data-yes-no.{kind}" for kind in ("csv", "json")]


def test_data_of_ones_own_is_called_so_under_a_figure():
    inputs = {"limits": [1, 1], "split": "clean", "source": "bundled"}
    inputs |= {"seed": 0, "model": "m", "weights": "1"}
    manifests = [
        {"inputs": inputs | {"dataset": name}, "seconds": 0.0, "code": "", "commit": ""}
        for name in ("openness", "a/mine.jsonl", "mine.csv", "narcissism")
    ]
    line = page.manifest_line(load_profile("smoke"), manifests)
    assert "; 2 bundled data sets and 2 own data sets, split clean" in line


def test_tabs_in_tabs_come_out_as_tabs_in_tabs():
    """A parser like that of the book finds the inner set inside the first outer tab, and the table inside that."""
    plugin = pytest.importorskip("mdit_py_plugins.colon_fence", reason="Jupyter Book is not installed")
    parser = MarkdownIt().use(plugin.colon_fence_plugin)
    inner = markdown.tabs("format", [("letter", "Letter", markdown.table(pd.DataFrame({"x": [1]})))])
    outer = markdown.tabs("profile", [("one", "One", inner), ("two", "Two", "last")])
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


def test_the_page_on_parity_shows_every_number_of_the_record_and_what_it_was_measured_with(tmp_path):
    path = tmp_path / "parity.json"
    assert "has not been run" in measured.parity(path)
    path.write_text(json.dumps(RECORD))
    text = measured.parity(path)
    found = cells(text)
    assert ["sweep", "12", "3.25", "not run", "2.4e-06", "0.0001"] in found
    assert ["sweep of 2", "12.3 kB", "0.6 kB", "100 and 20.0 kB"] in found
    assert ["grid", "2.0 s", "3.0 s", "1.50", "1.5"] in found
    for word in ("make test-ndif", "abc1234", "2026-01-02", "tiny", "float32", "2 threads", "torch 9.9"):
        assert word in text.splitlines()[-1]
    path.write_text(json.dumps(RECORD | {"operations": [RECORD["operations"][0] | {"gpu": 0.25}]}))
    assert "not run" not in measured.parity(path) and "0.25" in measured.parity(path)


def test_every_record_is_there_with_its_command_its_sets_and_its_time():
    rows = cells(measured.records())
    assert len(rows) >= len(records.available()) > 20
    [row] = (row for row in rows if row[0] == "`steerkit record laptop-full --stage grid --format statement`")
    made = records.read(load_profile("laptop-full"), "grid", "statement").attrs["record"]
    assert row[1:3] == ["40", f"{sum(part['seconds'] for part in made['manifests']) / 60:.0f}"]
    assert made["manifests"][0]["commit"] in row[3]


@pytest.mark.skipif(not measured.PARITY.exists(), reason="make test-ndif has not been run for this copy")
class TestCommittedParity:
    record = json.loads(measured.PARITY.read_text()) if measured.PARITY.exists() else {}

    def test_every_difference_and_all_that_travels_is_within_its_limit(self):
        assert len(self.record["operations"]) >= 10
        for row in self.record["operations"]:
            assert row["ndif"] <= row["tolerance"] <= measured.TOLERANCE, row["operation"]
        for row in self.record["sizes"]:
            assert row["request"] <= row["request_limit"] <= 100_000
            assert row["response"] <= row["response_limit"]
        named = " ".join(row["operation"] for row in self.record["operations"])
        words = "extraction,tree sweep,sliding window,sandboxed,autoencoder,generation,session"
        assert all(word in named for word in words.split(","))


def test_the_line_of_tokens_marks_what_the_ledger_says():
    """As many marks of each kind as tokens that the engines read, steer and score; nothing of a token is markup."""
    page = tokens.page("tiny")
    about, dataset = outline("tiny"), load_dataset(tokens.SET)
    asked = Prompter(about.tokenizer, about.template)
    expected = Counter(tokens.MARKS)  # the legend has each once
    for form in FORMATS:
        table = ledger(about.tokenizer, examples_of(asked, dataset, tokens.ITEMS, form, 0)[0])
        shown = table[(table["side"] == "matching") | ~table["part"].isin(["prompt", "lead"])]
        expected += Counter({mark: int(shown[mark].sum()) for mark in tokens.MARKS})
    found = Counter(mark for marks in re.findall(r'class="token ([^"]*)"', page) for mark in marks.split())
    assert found == expected and all(f"*{form}*" in page for form in FORMATS)
    assert tokens._shown("<b>_x_\n") == "&lt;b&gt;&#95;x&#95;\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
