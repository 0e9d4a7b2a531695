"""What every page of the built site owes its reader, without a browser: its basics, its weight, its images.

The site is the one of the smoke run, or the folder named by STEERKIT_SITE.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from _ext import finish

BeautifulSoup = pytest.importorskip(
    "bs4", reason="BeautifulSoup is not installed (extra: book)"
).BeautifulSoup

MEGABYTE = 1e6
REDIRECT = "index.html"  # sends on to the first page, which is checked like all others


@pytest.fixture(scope="module")
def pages(built_site) -> dict[str, BeautifulSoup]:
    found = {path.relative_to(built_site).as_posix(): path for path in built_site.rglob("*.html")}
    return {
        name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for name, path in found.items()
        if "_static" not in path.parts and name != REDIRECT
    }


def failing(pages: dict[str, BeautifulSoup], wrong) -> dict[str, object]:
    """What `wrong` gives, by page, where it gives anything."""
    return {name: found for name, page in pages.items() if (found := wrong(page))}


def body_of(page):
    """The page without navigation; the page of search results has no article."""
    return page.find("article") or page.find("main")


def about(page, name: str) -> str:
    """What a page says of itself in its head."""
    found = page.find("meta", attrs={"name": name})
    return found["content"] if found else ""


def test_the_address_of_the_site_leads_to_its_first_page(built_site):
    first = BeautifulSoup((built_site / REDIRECT).read_text(), "html.parser")
    target = first.find("meta", attrs={"http-equiv": "Refresh"})["content"].partition("url=")[2]
    assert (built_site / target).exists()


def test_every_page_has_a_language_and_says_what_it_is_as_no_other_does(pages):
    assert failing(pages, lambda page: page.html.get("lang") != "en") == {}
    titles = {name: page.title.get_text().strip() for name, page in pages.items()}
    assert all(titles.values())
    own = {name: (title, about(pages[name], "description")) for name, title in titles.items()}
    assert {name for name, said in own.items() if list(own.values()).count(said) > 1} == set()


def test_every_page_fits_a_phone_and_describes_itself(pages):
    assert failing(pages, lambda page: "width=device-width" not in about(page, "viewport")) == {}
    assert failing(pages, lambda page: "user-scalable=no" in about(page, "viewport")) == {}
    assert failing(pages, lambda page: not 10 < len(about(page, "description")) <= 200) == {}


def test_headings_start_at_the_top_and_leave_no_level_out(pages):
    def out_of_order(page: BeautifulSoup) -> list[str]:
        # The theme repeats the title for printing, outside the article.
        headings = body_of(page).find_all(["h1", "h2", "h3", "h4", "h5", "h6"])
        levels = [int(heading.name[1]) for heading in headings]
        jumps = [
            h.get_text()
            for h, before, level in zip(headings[1:], levels, levels[1:], strict=False)
            if level > before + 1
        ]
        return jumps if levels[:1] == [1] and levels.count(1) == 1 else [f"levels {levels}"]

    assert failing(pages, out_of_order) == {}


def test_every_page_has_landmarks_a_way_past_the_navigation_and_an_icon(pages, built_site):
    assert failing(pages, lambda page: not page.select_one("main#main-content")) == {}
    assert failing(pages, lambda page: not page.select_one('a[href="#main-content"]')) == {}
    assert failing(pages, lambda page: not page.find("link", rel="icon")) == {}
    icon = pages["intro.html"].find("link", rel="icon")["href"]
    assert (built_site / icon).exists()


def test_no_id_is_given_twice_on_a_page(pages):
    def twice(page: BeautifulSoup) -> set[str]:
        names = [node["id"] for node in page.find_all(id=True)]
        return {name for name in names if names.count(name) > 1}

    assert failing(pages, twice) == {}


def test_every_table_says_what_its_columns_are(pages):
    def headless(page) -> list[str]:
        tables = body_of(page).select(
            "table:not(.indextable)"
        )  # the index is laid out in a table, without being one
        return [table.get_text()[:60] for table in tables if not table.find("th")]

    assert any(page.select("article table") for page in pages.values())
    assert failing(pages, headless) == {}


def test_every_image_keeps_its_place_free(pages):
    images = [image for page in pages.values() for image in page.select("article img")]
    assert images
    assert (
        failing(
            pages,
            lambda page: [
                i["src"] for i in page.select("article img") if not (i.get("width") and i.get("height"))
            ],
        )
        == {}
    )


def test_the_site_is_light(pages, built_site):
    weight = sum(path.stat().st_size for path in built_site.rglob("*") if path.is_file())
    assert weight < 40 * MEGABYTE
    heavy = {name: size for name in pages if (size := (built_site / name).stat().st_size) > 1.5 * MEGABYTE}
    assert heavy == {}


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


def test_no_page_loads_the_script_of_a_service_that_is_not_used(pages):
    assert failing(pages, lambda page: "thebe" in str(page.head.find_all("script")).lower()) == {}
