"""The book as `steerkit book` builds it: pages and site, what stops it, what is done to finished pages, and the PDF."""

import contextlib
import hashlib
import io
import json
import re
import stat
import subprocess
import zipfile
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from _ext import build as book
from _ext import crate, finish, icons, mathml, pdf, takeaway
from conftest import command_line, refused

from companion import exhibits
from companion.cli import doctor
from steerkit.errors import SteerkitError


def test_figures_carry_caption_finding_downloads_parameters_and_manifest(built_site):
    page = (built_site / "tan" / "reliability.html").read_text()
    text = re.sub("<[^>]+>", "", page)
    for piece in (
        *("In words, and where it is from", "What rests on it.", "Parameters of this run", "Run it again"),
        *("Profile smoke", "engine tree", "data (CSV)", "manifest (JSON)"),
        "steerkit run tan-fig-1 -p profile=smoke",
        "papermill notebooks/tan-fig-1.ipynb out.ipynb -r profile smoke",
    ):
        assert piece in text, piece
    for file in ("tan-fig-1-statement.png", "tan-fig-1-statement.csv", "tan-fig-1-letter.json"):
        assert file in page


def test_metadata_describes_files_of_the_site_and_the_archive_is_in_it_and_whole(built_site):
    """Sphinx decides where a download goes; the metadata was written before, by the same rule."""
    entities = json.loads((built_site / crate.NAME).read_text())["@graph"]
    files = [entity for entity in entities if entity["@type"] == "File"]
    runs = [entity for entity in entities if entity["@type"] == "CreateAction"]
    assert len(files) > 100 and len(runs) >= len(exhibits.EXHIBITS)
    known = {entity["@id"]: entity for entity in entities}
    assert known["./"]["conformsTo"] == {"@id": crate.PROFILE} and crate.PROFILE in known
    assert {one["@id"] for one in known["./"]["mentions"]} == {run["@id"] for run in runs}
    for run in runs:  # what the Process Run Crate profile asks of an action
        tools = [known[each["@id"]]["@type"] for each in run["instrument"]]
        assert tools == ["SoftwareSourceCode", "SoftwareApplication"]
        assert run["startTime"] <= run["endTime"]  # in whole seconds, and a table takes less than one
        assert {each["@id"] for each in run["object"]} <= set(known)
    for entity in files:
        name = entity["@id"]
        assert hashlib.sha256((built_site / name).read_bytes()).hexdigest() == entity["sha256"], name
    [archive] = built_site.glob(f"_downloads/*/{takeaway.ARCHIVE}")
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None and crate.NAME in opened.namelist()
    page = (built_site / "use" / "downloads.html").read_text()
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in page


class TestWhatIsNotBuilt:
    @pytest.fixture
    def empty(self, tmp_path, monkeypatch):
        monkeypatch.setattr(book, "EXECUTED", tmp_path / "notebooks")
        monkeypatch.setattr(book, "GENERATED", tmp_path / "generated")
        (tmp_path / "notebooks").mkdir()
        return tmp_path

    def test_a_book_before_any_notebook_ran_says_what_to_run(self, empty):
        refused(book.build, said="steerkit reproduce --only tan-walkthrough")
        assert not list((empty / "generated").glob("*.md"))

    def test_warnings_of_the_builder_are_an_error_that_quotes_them(self, empty, monkeypatch):
        done = subprocess.CompletedProcess([], 1, "fine\nx.md:3: WARNING: no such page\n", "")
        monkeypatch.setattr(book.subprocess, "run", lambda *_, **__: done)
        refused(book.compiled, "html", said=r"x\.md:3: WARNING: no such page")


CELL = "ab" * 32 + ".png"


def test_an_image_gets_the_size_of_its_file_where_it_has_none_and_nothing_else_is_touched(tmp_path):
    plt.imsave(tmp_path / "a.png", np.zeros((7, 300)))
    body = '<p>x</p><img alt="a > b" src="../_images/a.png" style="width: 100%;" /><p>y</p>'
    kept = '<img src="a.png" width="5"/><img src="b.png"/><img src="a.svg"/>'
    wanted = body.replace("<img ", '<img loading="lazy" width="300" height="7" ') + kept
    assert finish.sized(body + kept, {"a.png": tmp_path / "a.png"}, tmp_path) == wanted
    (tmp_path / "a.json").write_text('{"points": [[20, 5, "a < b: 1, 2"]]}')
    spot = '<circle cx="20" cy="5" r="9"><title>a &lt; b: 1, 2</title></circle>'
    pointed = finish.sized(body, {"a.png": tmp_path / "a.png"}, tmp_path)
    assert f'/><svg viewBox="0 0 300 7" aria-hidden="true">{spot}</svg></span><p>y' in pointed


def test_a_formula_is_mathml_with_its_number_and_the_address_that_others_name():
    nodes = pytest.importorskip("docutils.nodes")

    def starttag(node, tag, suffix, **how):
        return f'<{tag} class="{how["CLASS"]}" id="{",".join(node["ids"])}">{suffix}'

    writer = SimpleNamespace(body=[], starttag=starttag)
    block = nodes.math_block("", r"s_i \le \frac{1}{2}", number=4, ids=["equation-s"])
    for draw, node in ((mathml.block, block), (mathml.inline, nodes.math("", "x"))):
        with pytest.raises(nodes.SkipNode):
            draw(writer, node)
    first, second = writer.body
    assert first.startswith('<div class="math" id="equation-s"><span class="eqno">(4)</span><math')
    assert "<mfrac>" in first and 'display="block"' in first
    assert "eqno" not in second and "<mi>x</mi>" in second


def test_pages_get_the_icons_they_show_as_style_and_not_the_script_of_all(tmp_path):
    script = tmp_path / icons.SCRIPT
    script.parent.mkdir(parents=True)
    shapes = '"sun":[1,1,[],"f0","M0 0z"],bars:[448,512,["navicon"],"f0c9","M0 96z"]'
    script.write_text(shapes + ',"sun":[512,512,[],"f1","M1 1z"]')
    tag = '<script src="../_static/scripts/fontawesome.js?digest=1"></script>'
    shown = '<span class="fa-solid fa-bars"></span><i class="theme fas  fa-sun fa-lg"></i>'
    (tmp_path / "a.html").write_text(tag + shown)
    icons.slim(tmp_path)
    page, sheet = (tmp_path / "a.html").read_text(), (tmp_path / "_static" / "icons.css").read_text()
    assert page.startswith('<link rel="stylesheet" href="../_static/icons.css" />') and not script.exists()
    assert ".fa-bars {" in sheet and "M1%201z" in sheet and "M0%200z" not in sheet  # of a name the solid one
    icons.slim(tmp_path)  # a site that has them already
    refused(icons.rules, "", ["sun"], said="the icon sun")


def test_a_page_is_described_by_the_whole_words_of_its_first_paragraph_on_one_line():
    nodes, utils = pytest.importorskip("docutils.nodes"), pytest.importorskip("docutils.utils")
    page = utils.new_document("page")
    assert finish.described(page) == finish.described(None) == ""  # as of a page of the theme
    page += [nodes.paragraph("", text) for text in ("steering\n" * 40, "Another.")]
    assert finish.described(page) == "steering " * 16 + "steering…"


@pytest.fixture
def site(tmp_path):
    (tmp_path / "_images").mkdir()
    (tmp_path / "sub").mkdir()
    for name in ("fig-1.png", "fig-11.png", "app-fig-1.png", CELL, "a.svg"):
        (tmp_path / "_images" / name).write_bytes(b"two" if name == "fig-11.png" else b"one")
    (tmp_path / "x.js.map").write_text("{}")
    (tmp_path / "index.html").write_text('<img src="_images/fig-1.png"><a href="_images/fig-11.png">two</a>')
    (tmp_path / "sub" / "page.html").write_text(f'<img src="../_images/{CELL}"> {CELL}')
    return tmp_path


def shown(site) -> list[bytes]:
    found = []
    for page in (site / "index.html", site / "sub" / "page.html"):
        named = re.findall(r'(?:src|href)="([^"]+)"', page.read_text())
        found += [(page.parent / name).read_bytes() for name in named]
    return found


def test_equal_images_are_kept_once_under_their_readable_name_and_pages_show_the_same(site):
    before = shown(site)
    finish.lighten(site)
    after = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert shown(site) == before == [b"one", b"two", b"one"]
    assert {path.name for path in (site / "_images").iterdir()} == {"fig-1.png", "fig-11.png", "a.svg"}
    assert not list(site.rglob("*.map"))
    assert (site / "sub" / "page.html").read_text().endswith(f" {CELL}")  # text is left alone
    finish.lighten(site)  # a second time changes nothing
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == after


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
    def test_none_or_a_wrong_name_is_found_before_anything_is_built(self, monkeypatch, tmp_path, capsys):
        monkeypatch.delenv(doctor.VARIABLE, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert command_line("book", "--pdf")[0] == 1
        assert re.search(r"Chromium or Chrome.*apt install chromium", capsys.readouterr().err)
        monkeypatch.setenv(doctor.VARIABLE, "no-such-browser")
        refused(doctor.chromium, said="no-such-browser in STEERKIT_CHROMIUM")

    @pytest.mark.parametrize("script", ["echo it broke >&2; exit 1", "exit 0", "exec sleep 30"])
    def test_one_that_fails_or_hangs_leaves_the_earlier_pdf(self, compiled, tmp_path, monkeypatch, script):
        compiled.write_bytes(b"%PDF of yesterday")
        if hangs := "sleep" in script:
            monkeypatch.setattr(pdf, "SECONDS", 0.2)
        with pytest.raises(SteerkitError, match="TimeoutExpired" if hangs else "a PDF from"):
            pdf.print_book(program(tmp_path / "browser", script))
        assert compiled.read_bytes() == b"%PDF of yesterday"


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
