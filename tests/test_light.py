"""The site made lighter: every page shows what it showed."""

from __future__ import annotations

import re

import pytest
from _ext.light import lighten

CELL = "ab" * 32 + ".png"


@pytest.fixture
def site(tmp_path):
    (tmp_path / "_images").mkdir()
    (tmp_path / "sub").mkdir()
    for name, content in (
        ("fig-1.png", b"one"),
        ("fig-11.png", b"two"),
        ("app-fig-1.png", b"one"),
        (CELL, b"one"),
        ("a.svg", b"one"),
    ):
        (tmp_path / "_images" / name).write_bytes(content)
    (tmp_path / "x.js.map").write_text("{}")
    (tmp_path / "index.html").write_text('<img src="_images/fig-1.png"><a href="_images/fig-11.png">two</a>')
    (tmp_path / "sub" / "page.html").write_text(f'<img src="../_images/{CELL}"> {CELL}')
    return tmp_path


def shown(site) -> list[bytes]:
    pages = [site / "index.html", site / "sub" / "page.html"]
    return [(page.parent / name).read_bytes() for page in pages
            for name in re.findall(r'(?:src|href)="([^"]+)"', page.read_text())]  # fmt: skip


def test_equal_images_are_kept_once_under_their_readable_name_and_pages_show_the_same(site):
    before = shown(site)
    lighten(site)
    assert shown(site) == before == [b"one", b"two", b"one"]
    assert {path.name for path in (site / "_images").iterdir()} == {"fig-1.png", "fig-11.png", "a.svg"}
    assert not list(site.rglob("*.map"))


def test_text_is_left_alone_and_a_second_time_changes_nothing(site):
    lighten(site)
    after = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert (site / "sub" / "page.html").read_text().endswith(f" {CELL}")
    lighten(site)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == after
