"""What is done to finished pages: sizes of images, a description, and every image kept once."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest
from _ext import finish

CELL = "ab" * 32 + ".png"


def png(width: int, height: int) -> bytes:
    """A black PNG, written from its specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\0" * width) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class TestSizes:
    """The extension that writes the sizes of images into pages."""

    @pytest.fixture
    def image(self, tmp_path) -> Path:
        (tmp_path / "a.png").write_bytes(png(300, 7))
        return tmp_path / "a.png"

    def test_the_size_comes_from_the_file(self, image):
        assert finish.png_size(image) == (300, 7)

    def test_it_is_added_where_it_is_missing_and_nothing_else_is_touched(self, image):
        body = '<p>x</p><img alt="a > b" src="../_images/a.png" style="width: 100%;" /><p>y</p>'
        wanted = body.replace("<img ", '<img width="300" height="7" ')
        assert finish.sized(body, {"a.png": image}) == wanted

    @pytest.mark.parametrize(
        "kept", ['<img src="a.png" width="5"/>', '<img src="b.png"/>', '<img src="a.svg"/>']
    )
    def test_an_image_with_a_size_or_of_another_kind_stays_as_it_is(self, image, kept):
        assert finish.sized(kept, {"a.png": image}) == kept


class TestDescriptions:
    def tree(self, *texts: str):
        from docutils import nodes
        from docutils.utils import new_document

        found = new_document("page")
        found += [nodes.paragraph("", text) for text in texts]
        return found

    def test_it_is_the_first_paragraph_on_one_line(self):
        assert finish.described(self.tree("One\nsentence.", "Another.")) == "One sentence."

    def test_a_long_one_ends_with_a_whole_word(self):
        text = "steering " * 40
        found = finish.described(self.tree(text))
        assert len(found) <= finish.LONGEST and found.endswith("steering…")

    def test_a_page_without_text_has_none(self):
        assert finish.described(None) == finish.described(self.tree()) == ""


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
    assert shown(site) == before == [b"one", b"two", b"one"]
    assert {path.name for path in (site / "_images").iterdir()} == {"fig-1.png", "fig-11.png", "a.svg"}
    assert not list(site.rglob("*.map"))


def test_text_is_left_alone_and_a_second_time_changes_nothing(site):
    finish.lighten(site)
    after = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert (site / "sub" / "page.html").read_text().endswith(f" {CELL}")
    finish.lighten(site)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == after
