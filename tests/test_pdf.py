"""The PDF: what is done to the long page, and what Chromium makes of it."""

from __future__ import annotations

import contextlib
import io
import re
import stat

import pytest
from _ext import build as book
from _ext import pdf
from conftest import command_line

from companion.cli import doctor
from steerkit.errors import SteerkitError

PAGE = """<!DOCTYPE html><html lang="en"><head><title>Book</title></head><body>
<section id="document-intro"><h1>Start</h1><p><a href="intro.html#document-end">to the end</a></p>
<details class="sd-dropdown"><summary>Folded</summary><p>inside</p></details><img loading="lazy" src="no.png" alt="">
<a class="download" href="_downloads/1/data.csv">data</a><a href="https://arxiv.org/abs/2407.12404">paper</a></section>
<section id="document-end"><h1>End</h1><p>The last chapter.</p></section></body></html>"""


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """A book of two chapters, as if Sphinx had written it."""
    folder = tmp_path / "_build" / "singlehtml"
    folder.mkdir(parents=True)
    (folder / "intro.html").write_text(PAGE)
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(book, "compiled", lambda builder: tmp_path / "_build" / builder)
    return tmp_path / "_build" / pdf.TARGET


def program(path, text: str) -> str:
    """A shell script in the place of a browser."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_boxes_are_open_links_are_inner_and_nothing_waits_to_be_seen():
    html = pdf.printable(PAGE)
    assert "<details open " in html and 'href="#document-end"' in html and "lazy" not in html
    assert "counter(page)" in html.partition("</head>")[0]
    assert pdf.printable(html).count("<details open") == 1


COLLIDING = """<p><span class="bibtex-citation" id="id1">[<a href="#id2" title="A">A, 2024</a>]</span></p><b id="id2">x</b>
<span id="document-use"></span><p id="id2">own <a href="#id2">here</a> <a href="#only">there</a> <a href="#id3">first</a>
<span class="bibtex-citation" id="id1">[<a href="#id1" title="B">B, 2024</a>]</span></p>
<span id="document-more"></span><i id="id3">one</i><i id="only">o</i>
<span id="document-references"></span><div class="citation" id="id1">B</div><div class="citation" id="id2">A</div>
<i id="id3">two</i>"""


def test_ids_that_collide_on_one_page_become_distinct_and_links_still_lead_where_they_led():
    html = pdf.distinct(COLLIDING)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    where = {"A, 2024": ">A<", "B, 2024": ">B<", "here": ">own", "there": ">o<", "first": ">one<"}
    for text, target in where.items():
        [name] = re.findall(rf'href="#([^"]+)"[^>]*>{text}<', html)
        assert re.search(rf'id="{name}"{target}', html), text


class TestBrowser:
    def test_none_at_all_is_one_clear_error_which_the_command_finds_before_it_builds(
        self, monkeypatch, tmp_path, capsys
    ):
        monkeypatch.delenv(doctor.VARIABLE, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert command_line("book", "--pdf")[0] == 1
        assert re.search(r"Chromium or Chrome.*apt install chromium", capsys.readouterr().err)

    def test_a_wrong_name_is_not_replaced_by_another(self, monkeypatch):
        monkeypatch.setenv(doctor.VARIABLE, "no-such-browser")
        with pytest.raises(SteerkitError, match="no-such-browser in STEERKIT_CHROMIUM"):
            doctor.chromium()

    @pytest.mark.parametrize("script", ["echo it broke >&2; exit 1", "exit 0"])
    def test_one_that_fails_leaves_the_earlier_pdf(self, compiled, tmp_path, script):
        compiled.write_bytes(b"%PDF of yesterday")
        with pytest.raises(SteerkitError, match="a PDF from"):
            pdf.print_book(program(tmp_path / "browser", script))
        assert compiled.read_bytes() == b"%PDF of yesterday"

    def test_one_that_hangs_is_ended(self, compiled, tmp_path, monkeypatch):
        monkeypatch.setattr(pdf, "SECONDS", 0.2)
        with pytest.raises(SteerkitError, match="TimeoutExpired"):
            pdf.print_book(program(tmp_path / "browser", "exec sleep 30"))


def test_the_pdf_has_pages_numbers_bookmarks_and_links_that_lead_inside(compiled):
    try:
        browser = doctor.chromium()
    except SteerkitError as error:
        pytest.skip(str(error))
    content = pdf.print_book(browser).read_bytes()
    assert compiled.read_bytes() == content and not list(compiled.parent.glob("*.tmp"))
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 2
    assert len(re.findall(rb"/Subtype\s*/Link\b", content)) == 2
    assert b"https://arxiv.org/abs/2407.12404" in content and b"file:" not in content
    assert b"/Outlines" in content
    with contextlib.suppress(ImportError):  # the text is compressed; the structure was checked
        import pypdf

        texts = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages]
        assert "inside" in texts[0] and "1 / 2" in texts[0] and "The last chapter." in texts[1]
