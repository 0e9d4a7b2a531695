"""The generated part of a figure's page: what is said of a run is what the run left."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from _ext import pages, provenance

from companion.exhibits import EXHIBITS, MAYNE, TAN, parameters_of
from companion.results import Result

FIGURE = EXHIBITS["tan-fig-1"]
CLAIMS = pd.DataFrame(
    [
        ["It works.", "letter", "1 of 1", "0 of 1", "more than half", "differs", "tan-fig-1"],
        ["It varies.", "letter", "a lot", "a little", "some", "agrees", "tan-fig-4"],
    ],
    columns=["statement", "format", "published", "ours", "rule", "verdict", "exhibit"],
)


def part(name: str, **about: object) -> dict:
    return {
        "part": name,
        "tab": f"Tab {name}",
        "caption": f"Caption of {name}.",
        "alt": f"What {name} shows.",
        "line": f"Line of {name}.",
        "commit": "abc",
        "artefacts": [f"grid-openness-{name}-0"],
        "engine": ["tree"],
        "records": [],
        "seconds": 12.0,
        "data_sha256": {"openness": "d" * 64},
        "weights_sha256": ["e" * 64],
        "models": {"e" * 64: "tiny"},
        "versions": {"torch": "2.13.0"},
    } | about


@pytest.fixture
def result(tmp_path):
    """Makes the result of a profile: two figures and a table."""

    def make(profile: str = "smoke", address: str = "/notebooks", **about: object) -> Result:
        folder = tmp_path / profile
        folder.mkdir()
        parts = [part("letter", **about), part("statement"), part("numbers", alt="")]
        values = {p.name: p.default for p in parameters_of(FIGURE.notebook).values()}
        found = Result(FIGURE, profile, folder, address, values | {"profile": profile}, 86400.0, 3.0, parts)
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
    assert (
        "/notebooks/tan-fig-1-letter.png" in text
        and "Caption of letter." in text
        and "Line of letter." in text
    )
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
        text = provenance.page([result()])
        assert (
            "| [tan-fig-1](/notebooks/tan-fig-1.ipynb) | smoke | defaults | 1970-01-02 00:00 | 3 | abc |"
            in text
        )

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
            "Mayne, Harry and",
        ):
            assert piece in text
        assert "?." not in text
