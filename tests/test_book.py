"""The book as `steerkit book` builds it: what a page and the site hold, and what stops it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from itertools import product
from pathlib import Path

import pytest
from _ext import build as book
from _ext import crate, takeaway

from companion import exhibits
from companion.reproduce import Outcome
from companion.tan import records
from steerkit.errors import SteerkitError

pytest.importorskip("jupyter_book", reason="Jupyter Book is not installed (extra: book)")


@pytest.fixture(scope="module")
def site(built_site) -> Path:
    return built_site


def test_figures_carry_caption_finding_downloads_parameters_and_manifest(site):
    page = (site / "tan" / "reliability.html").read_text()
    text = re.sub("<[^>]+>", "", page)
    for piece in (
        *("What it shows.", "What rests on it.", "Parameters of this run", "Run it again"),
        *("Profile smoke", "engine tree", "data (CSV)", "manifest (JSON)"),
        "steerkit run tan-fig-1 -p profile=smoke",
        "papermill notebooks/tan-fig-1.ipynb out.ipynb -r profile smoke",
    ):
        assert piece in text, piece
    for file in ("tan-fig-1-statement.png", "tan-fig-1-statement.csv", "tan-fig-1-letter.json"):
        assert file in page


def test_the_sites_metadata_describes_files_that_are_in_it(site):
    """Sphinx decides where a download goes; the metadata was written before, by the same rule."""
    entities = json.loads((site / crate.NAME).read_text())["@graph"]
    files = [entity for entity in entities if entity["@type"] == "File"]
    runs = [entity for entity in entities if entity["@type"] == "CreateAction"]
    assert len(files) > 100 and len(runs) >= len(exhibits.EXHIBITS)
    for entity in files:
        name = entity["@id"]
        assert hashlib.sha256((site / name).read_bytes()).hexdigest() == entity["sha256"], name


def test_the_archive_is_in_the_site_and_whole(site):
    [archive] = site.glob(f"_downloads/*/{takeaway.ARCHIVE}")
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None and crate.NAME in opened.namelist()
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in (site / "use" / "downloads.html").read_text()


class TestWhatIsNotBuilt:
    @pytest.fixture
    def empty(self, tmp_path, monkeypatch):
        monkeypatch.setattr(book, "EXECUTED", tmp_path / "notebooks")
        monkeypatch.setattr(book, "GENERATED", tmp_path / "generated")
        (tmp_path / "notebooks").mkdir()
        return tmp_path

    def test_a_book_before_any_notebook_ran_says_what_to_run(self, empty):
        with pytest.raises(SteerkitError, match="steerkit reproduce --only tan-walkthrough"):
            book.build()
        assert not list((empty / "generated").glob("*.md"))

    def test_warnings_of_the_builder_are_an_error_that_quotes_them(self, empty, monkeypatch):
        done = subprocess.CompletedProcess([], 1, "fine\nx.md:3: WARNING: no such page\n", "")
        monkeypatch.setattr(book.subprocess, "run", lambda *_, **__: done)
        with pytest.raises(SteerkitError, match=r"x\.md:3: WARNING: no such page"):
            book.compiled("html")


class TestRecords:
    """Which notebooks are drawn from records before the book is compiled."""

    @pytest.fixture
    def ran(self, tmp_path, monkeypatch):
        found = []
        (tmp_path / ".profile").write_text("laptop")
        monkeypatch.setattr(book, "EXECUTED", tmp_path)

        def run(exhibit, given, out):
            found.append((given["profile"], out))
            return self.outcome

        monkeypatch.setattr(book, "run_notebook", run)
        return found

    outcome = Outcome("x", "done", 1.0)

    def test_those_that_need_the_main_grid_only_under_each_recorded_profile(self, ran, tmp_path):
        book.run_records()
        expected = product(("laptop-full", "laptop-full-gemma"), records.GRID_ONLY)
        assert ran == [(profile, tmp_path / profile / f"{name}.ipynb") for profile, name in expected]

    def test_none_without_records(self, ran, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "FOLDER", tmp_path)
        book.run_records()
        assert ran == []

    def test_one_that_fails_stops_the_book(self, ran, monkeypatch):
        monkeypatch.setattr(TestRecords, "outcome", Outcome("x", "failed", 1.0, "no luck"))
        with pytest.raises(SteerkitError, match="no luck"):
            book.run_records()
