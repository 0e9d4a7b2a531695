"""Where executed notebooks lie, and which of them the book finds."""

import json
from dataclasses import replace

import pytest
from conftest import command_line, refused

from companion import exhibits, results
from companion.exhibits import EXHIBITS, Exhibit
from companion.page import Run
from companion.profiles import load_profile
from companion.tan import records
from steerkit.errors import SteerkitError

TABLE = EXHIBITS["tan-tab-2"]


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """An empty folder of executed notebooks."""
    monkeypatch.setattr(exhibits, "EXECUTED", tmp_path / "notebooks")
    return tmp_path / "notebooks"


def leave(folder, name, profile, parts=("letter",), **about):
    """What a notebook leaves, without running it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ipynb").write_text("{}")
    run = {"key": "0", "parameters": {"profile": profile}, "finished": 1.0}
    (folder / f"{name}.run.json").write_text(json.dumps(run))
    for part in parts:
        record = {"exhibit": name, "part": part, "artefacts": ["grid-x"]} | about
        (folder / f"{name}-{part}.json").write_text(json.dumps(record))


class TestPlace:
    def test_the_first_profile_is_the_books_until_another_claims_the_place(self, executed):
        assert results.own_profile() is None
        assert results.place(TABLE, "laptop") == executed / "tan-tab-2.ipynb"
        assert results.own_profile() == "laptop"
        assert results.place(TABLE, "smoke") == executed / "smoke" / "tan-tab-2.ipynb"
        assert results.place(TABLE, "laptop") == executed / "tan-tab-2.ipynb"
        refused(results.claim, "lptop", said="a profile")
        assert results.own_profile() == "laptop"
        results.claim("smoke")
        assert results.place(TABLE, "smoke") == executed / "tan-tab-2.ipynb"
        assert results.place(TABLE, "laptop") == executed / "laptop" / "tan-tab-2.ipynb"

    def test_reproduce_without_the_book_overwrites_nothing_of_the_books_profile(self, executed):
        arguments = ("reproduce", "--no-book", "--only", "tan-tab-2", "--profile")
        assert command_line(*arguments, "smoke")[0] == 0
        before = {path.name: path.read_bytes() for path in executed.glob("tan-tab-2*")}
        assert command_line(*arguments, "smoke-gemma")[0] == 0
        assert {path.name: path.read_bytes() for path in executed.glob("tan-tab-2*")} == before
        assert [found.profile for found in results.results_of(TABLE, executed)] == ["smoke", "smoke-gemma"]


class TestFound:
    def test_parts_come_in_the_order_of_the_book_and_other_exhibits_parts_do_not(self, executed):
        leave(executed, "tan-fig-1", "smoke", ("published", "letter", "statement"))
        leave(executed, "tan-fig-1-extra", "smoke")
        [found] = results.results_of(EXHIBITS["tan-fig-1"], executed)
        assert [part["part"] for part in found.parts] == ["statement", "letter", "published"]
        assert found.address == "/notebooks" and found.seconds == 0.0

    def test_records_come_in_the_order_of_the_profile_the_papers_data_first_then_by_format(self, executed):
        named = "papers-qwen-letter", "full-statement", "full-letter", "full-gemma-letter"
        named = [f"laptop-{each}" for each in named]
        leave(executed, "tan-fig-1", "laptop", ("published",))
        for part in named:
            profile, _, form = part.rpartition("-")
            leave(executed, "tan-fig-1", "laptop", (part,), records=[f"{profile}/shift-{form}"])
        [found] = results.results_of(EXHIBITS["tan-fig-1"], executed)
        assert [part["part"] for part in found.parts] == [*named, "published"]

    def test_other_parts_come_as_the_notebook_shows_them(self, executed):
        run = Run("tan-texts", load_profile("smoke"), executed)
        leave(executed, "tan-texts", "smoke", ())
        for part in ("order", "items"):
            run.show_gap(part, "none", [])
        [found] = results.results_of(EXHIBITS["tan-texts"], executed)
        assert [part["part"] for part in found.parts] == ["order", "items"]

    def test_published_numbers_and_a_folder_of_the_books_profile_are_no_further_tabs(self, executed):
        for folder in ("", "published", "smoke", "laptop"):
            leave(executed / folder, "tan-fig-1", folder or "smoke")
        found = results.results_of(EXHIBITS["tan-fig-1"], executed)
        addresses = {one.profile: one.address for one in found}
        assert addresses == {"smoke": "/notebooks", "laptop": "/notebooks/laptop"}

    @pytest.mark.parametrize("missing", ["tan-fig-1.ipynb", "tan-fig-1.run.json", "tan-fig-1-letter.json"])
    def test_an_interrupted_run_counts_as_none(self, executed, missing):
        leave(executed, "tan-fig-1", "smoke")
        leave(executed / "laptop", "tan-fig-1", "laptop")
        (executed / "laptop" / missing).unlink()
        assert len(results.results_of(EXHIBITS["tan-fig-1"], executed)) == 1
        (executed / missing).unlink()
        with pytest.raises(SteerkitError, match="steerkit reproduce --only tan-fig-1"):
            results.results_of(EXHIBITS["tan-fig-1"], executed)

    def test_a_notebook_without_figures_is_a_result_unless_it_promised_some(self, executed):
        leave(executed, "walkthrough", "smoke", parts=())
        about = Exhibit("walkthrough", "no paper", "Step by step", "none")
        [found] = results.results_of(about, executed)
        assert found.parts == [] and found.files == [executed / "walkthrough.ipynb"]
        refused(results.results_of, replace(about, needs=("grid",)), executed, said="an executed notebook")

    def test_a_tab_says_the_model_and_whether_all_was_recorded(self, executed):
        leave(executed, "tan-fig-1", "smoke", records=["laptop-full/grid-letter"])
        leave(executed / "gone", "tan-fig-1", "gone", records=[])
        own, gone = results.results_of(EXHIBITS["tan-fig-1"], executed)
        assert own.label == "tiny random model, recorded"
        assert gone.label == "a profile that is gone"


@pytest.mark.parametrize(
    ("exhibit", "profile", "change", "wanted"),
    [
        ("tan-fig-1", "laptop-full", {}, True),
        ("tan-fig-1", "laptop-full", {"datasets": ("openness",)}, True),
        ("tan-fig-1", "laptop", {}, False),  # is computed
        ("tan-app-layers", "laptop-full", {}, False),  # needs the sweep
        ("tan-fig-1", "laptop-full", {"layer": {"letter": 3}}, False),
        ("tan-fig-1", "laptop-full", {"test": 2}, False),
    ],
)
def test_a_record_stands_in_for_a_long_profile_as_committed_only(exhibit, profile, change, wanted):
    assert records.stands_in(exhibit, replace(load_profile(profile), **change)) == wanted
