"""The site as a reader's browser gets it: compiled with warnings as errors from a smoke run, then read with the
standard library's parser."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from _ext import build as book
from _ext import crate, downloads

from companion import exhibits
from companion.reproduce import Outcome
from companion.tan import records
from steerkit.errors import SteerkitError

pytest.importorskip("jupyter_book", reason="Jupyter Book is not installed (extra: book)")


class Page(HTMLParser):
    """Links, anchors, images, scripts, headings and language of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.links, self.ids, self.images, self.loads = path, [], set(), [], []
        self.headings: list[str] = []
        self.in_article = False  # the theme repeats the title for printing, outside the article
        self.language = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.update(found[key] for key in ("id", "name") if found.get(key))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)
        if tag in ("script", "link") and (found.get("src") or found.get("href")):
            self.loads.append((tag, found.get("rel"), found.get("src") or found.get("href")))
        self.in_article |= tag == "article"
        if self.in_article and tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(tag)
        if tag == "html":
            self.language = found.get("lang")


@pytest.fixture(scope="module")
def site(built_site) -> Path:
    return built_site


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_page_of_the_contents_is_there(pages, site):
    import yaml

    contents = yaml.safe_load((exhibits.BOOK / "_toc.yml").read_text())
    files = [
        contents["root"],
        *(chapter["file"] for part in contents["parts"] for chapter in part["chapters"]),
    ]
    assert all((site / f"{file}.html").resolve() in pages for file in files)


def test_every_image_has_alt_text_that_says_something_and_exists(pages):
    images = [(page, image) for page in pages.values() for image in page.images]
    assert images
    for page, image in images:
        least = (
            20 if "_images" in image["src"] else 4
        )  # a figure's says what it shows, that of the logo where it leads
        assert len(image.get("alt") or "") > least, f"{page.path.name}: {image.get('src')}"
        assert (page.path.parent / unquote(image["src"])).exists(), f"{page.path.name}: {image['src']}"


def test_no_page_loads_anything_from_another_host(pages):
    outside = [(page.path.name, load) for page in pages.values() for load in page.loads
               if urlsplit(load[2]).netloc and load[1] not in ("canonical", "author")]  # fmt: skip
    assert not outside


def test_every_inner_link_and_anchor_leads_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_every_page_has_a_language_and_one_first_heading(pages, site):
    for path, page in pages.items():
        if path.name in ("genindex.html", "search.html", "index.html"):
            continue
        assert page.language == "en"
        assert page.headings.count("h1") == 1 and page.headings[0] == "h1", path.name


def test_formulas_are_typeset_by_a_script_of_the_site(pages, site):
    question = pages[(site / "tan" / "question.html").resolve()]
    scripts = [load[2] for load in question.loads if "mathjax" in load[2]]
    assert scripts and all((question.path.parent / urlsplit(script).path).exists() for script in scripts)


def test_figures_carry_caption_finding_downloads_parameters_and_manifest(site):
    page = (site / "tan" / "reliability.html").read_text()
    text = re.sub("<[^>]+>", "", page)
    for piece in (
        *("What it shows.", "What rests on it.", "Parameters of this run", "Run it again"),
        *("Profile smoke", "engine tree", "data (CSV)", "manifest (JSON)"),
        *(
            "steerkit run tan-fig-1 -p profile=smoke",
            "papermill notebooks/tan-fig-1.ipynb out.ipynb -r profile smoke",
        ),
    ):
        assert piece in text, piece
    for file in (
        "tan-fig-1-statement.png",
        "tan-fig-1-statement.csv",
        "tan-fig-1-letter.json",
    ):
        assert file in page


def test_the_sites_metadata_describes_files_that_are_in_it(site):
    """Sphinx decides where a download goes; the metadata was written before, by the same rule."""
    entities = json.loads((site / crate.NAME).read_text())["@graph"]
    files = [entity for entity in entities if entity["@type"] == "File"]
    assert len(files) > 100 and len([e for e in entities if e["@type"] == "CreateAction"]) >= len(
        exhibits.EXHIBITS
    )
    for entity in files:
        assert hashlib.sha256((site / entity["@id"]).read_bytes()).hexdigest() == entity["sha256"], entity[
            "@id"
        ]


def test_the_archive_is_in_the_site_and_whole(site):
    [archive] = site.glob(f"_downloads/*/{downloads.ARCHIVE}")
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
        with pytest.raises(SteerkitError, match="steerkit reproduce --only tan-fig-1"):
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
        monkeypatch.setattr(
            book,
            "run_notebook",
            lambda one, given, out: found.append((given["profile"], out)) or self.outcome,
        )
        return found

    outcome = Outcome("x", "done", 1.0)

    def test_those_that_need_the_main_grid_only_under_each_recorded_profile(self, ran, tmp_path):
        book.run_records()
        expected = [
            (profile, name) for profile in ("laptop-full", "laptop-full-gemma") for name in records.GRID_ONLY
        ]
        assert ran == [(profile, tmp_path / profile / f"{name}.ipynb") for profile, name in expected]

    def test_none_without_records(self, ran, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "FOLDER", tmp_path)
        book.run_records()
        assert ran == []

    def test_one_that_fails_stops_the_book(self, ran, monkeypatch):
        monkeypatch.setattr(TestRecords, "outcome", Outcome("x", "failed", 1.0, "no luck"))
        with pytest.raises(SteerkitError, match="no luck"):
            book.run_records()
