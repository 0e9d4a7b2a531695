"""What every page of the built site owes its reader, without a browser: its basics, its weight, its images.

The site is the one of the smoke run, or the folder named by STEERKIT_SITE.
"""

from urllib.parse import unquote, urlsplit

import pytest
import yaml

from companion import exhibits

bs4 = pytest.importorskip("bs4", reason="BeautifulSoup is not installed (extra: book)")

MEGABYTE = 1e6
REDIRECT = "index.html"  # sends on to the first page, which is checked like all others


@pytest.fixture(scope="module")
def pages(built_site) -> dict[str, bs4.BeautifulSoup]:
    paths = (path for path in built_site.rglob("*.html") if "_static" not in path.parts)
    found = {path.relative_to(built_site).as_posix(): path for path in paths}
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items() if name != REDIRECT}
    return {name: bs4.BeautifulSoup(text, "html.parser") for name, text in texts.items()}


def body_of(page):
    """The page without navigation; the page of search results has no article."""
    return page.find("article") or page.find("main")


def about(page, name: str) -> str:
    """What a page says of itself in its head."""
    found = page.find("meta", attrs={"name": name})
    return found["content"] if found else ""


def test_every_page_of_the_contents_is_there_with_formulas_that_need_no_script(pages, built_site):
    contents = yaml.safe_load((exhibits.BOOK / "_toc.yml").read_text())
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert {f"{file}.html" for file in (contents["root"], *files)} <= set(pages)
    formulas = pages["tan/question.html"].find_all("math")
    every = (formula.text for page in pages.values() for formula in page.find_all("math"))
    assert len(formulas) > 10 and not any("\\" in text for text in every)


def test_no_page_loads_more_than_three_megabytes(pages, built_site):
    """What a browser fetches at the first visit: the page, its scripts and styles. Images come when they are seen."""

    def weight(name: str, page: bs4.BeautifulSoup) -> int:
        named = [tag.get("src") or tag.get("href") for tag in page.find_all(["script", "link"])]
        assert all(image.get("loading") == "lazy" for image in page.select("img[src*=_images]"))
        paths = (unquote(urlsplit(one or "").path) for one in named)
        files = {built_site.joinpath(name).parent.joinpath(path).resolve() for path in paths}
        return sum(file.stat().st_size for file in (built_site / name, *files) if file.is_file())

    assert {name: size for name, page in pages.items() if (size := weight(name, page)) > 3e6} == {}


def test_every_image_has_alt_text_that_says_something_and_exists(pages, built_site):
    def silent(name: str, page: bs4.BeautifulSoup) -> list[str]:
        # A figure's says what it shows, that of the logo where it leads.
        return [
            image["src"]
            for image in page.find_all("img")
            if len(image.get("alt") or "") <= (20 if "_images" in image["src"] else 4)
            or not (built_site / name).parent.joinpath(unquote(image["src"])).exists()
        ]

    assert {name: found for name, page in pages.items() if (found := silent(name, page))} == {}


def test_every_inner_link_and_anchor_leads_somewhere(pages, built_site):
    anchors = {
        built_site / name: {tag[key] for key in ("id", "name") for tag in page.find_all(attrs={key: True})}
        for name, page in pages.items()
    }
    broken = []
    for name, page in pages.items():
        for link in page.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            own = built_site / name
            target = (own.parent / unquote(parts.path)).resolve() if parts.path else own
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and anchor not in anchors.get(target, {anchor})):
                broken.append(f"{name}: {link['href']}")
    assert not broken


def test_the_address_of_the_site_leads_to_its_first_page_and_it_is_light(pages, built_site):
    first = bs4.BeautifulSoup((built_site / REDIRECT).read_text(), "html.parser")
    target = first.find("meta", attrs={"http-equiv": "Refresh"})["content"].partition("url=")[2]
    assert (built_site / target).exists()
    assert sum(path.stat().st_size for path in built_site.rglob("*") if path.is_file()) < 40 * MEGABYTE
    heavy = {name: size for name in pages if (size := (built_site / name).stat().st_size) > 1.5 * MEGABYTE}
    assert heavy == {}


def outside(page: bs4.BeautifulSoup) -> list[str]:
    """What a page loads from another host."""
    loads = [(script["src"], ["script"]) for script in page.find_all("script", src=True)]
    loads += [(link["href"], link.get("rel")) for link in page.find_all("link", href=True)]
    return [at for at, kind in loads if urlsplit(at).netloc and kind not in (["canonical"], ["author"])]


def out_of_order(page: bs4.BeautifulSoup) -> list[str]:
    """Headings that leave a level out. The theme repeats the title for printing, outside the article."""
    headings = body_of(page).find_all(["h1", "h2", "h3", "h4", "h5", "h6"])
    levels = [int(heading.name[1]) for heading in headings]
    pairs = zip(headings[1:], levels, levels[1:], strict=False)
    jumps = [heading.get_text() for heading, before, level in pairs if level > before + 1]
    return jumps if levels[:1] == [1] and levels.count(1) == 1 else [f"levels {levels}"]


def twice(page: bs4.BeautifulSoup) -> set[str]:
    names = [node["id"] for node in page.find_all(id=True)]
    return {name for name in names if names.count(name) > 1}


def unsized(page: bs4.BeautifulSoup) -> list[str]:
    return [i["src"] for i in page.select("article img") if not (i.get("width") and i.get("height"))]


def headless(page: bs4.BeautifulSoup) -> list[str]:
    tables = body_of(page).select("table:not(.indextable)")  # the index is only laid out in one
    return [table.get_text()[:60] for table in tables if not table.find("th")]


WRONG = {
    "something is loaded from another host": outside,
    "the script of a service that is not used": lambda p: "thebe" in str(p.head.find_all("script")).lower(),
    "a heading's level is left out": out_of_order,
    "an id is given twice": twice,
    "a table does not say what its columns are": headless,
    "an image keeps no place free": unsized,
    "no language": lambda page: page.html.get("lang") != "en",
    "not for phones": lambda page: "width=device-width" not in about(page, "viewport"),
    "cannot be enlarged": lambda page: "user-scalable=no" in about(page, "viewport"),
    "no description": lambda page: not 10 < len(about(page, "description")) <= 200,
    "no main part": lambda page: not page.select_one("main#main-content"),
    "no way past the navigation": lambda page: not page.select_one('a[href="#main-content"]'),
    "no icon": lambda page: not page.find("link", rel="icon"),
}


@pytest.mark.parametrize("what", WRONG)
def test_no_page_has_this_wrong(pages, what):
    assert {name: found for name, page in pages.items() if (found := WRONG[what](page))} == {}


def test_there_are_tables_images_and_an_icon(pages, built_site):
    for what in ("article table", "article img"):
        assert any(page.select(what) for page in pages.values())
    assert (built_site / pages["intro.html"].find("link", rel="icon")["href"]).exists()


def test_every_page_says_what_it_is_as_no_other_does(pages):
    titles = {name: page.title.get_text().strip() for name, page in pages.items()}
    assert all(titles.values())
    own = {name: (title, about(pages[name], "description")) for name, title in titles.items()}
    assert {name for name, said in own.items() if list(own.values()).count(said) > 1} == set()
