"""What Sphinx leaves out of a page, and what it puts in for nothing; an extension of the book in `_config.yml`.

Added: the sizes of images, so that the text below does not jump while they load, what a phone shows instead of them,
names at the points of figures, and a sentence that describes the page.
Removed: the script that would run cells on another host's server, which is there twice, an error in every browser.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils.nodes import document
    from sphinx.application import Sphinx

IMAGE = re.compile(r'<img\b(?:"[^"]*"|[^>"])*>')
NAMED = re.compile(r'(?<=_images/)[^"<>\s]+\.png')
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
# docutils calls a bibliography a list, and its entries something else: screen readers then find an empty list.
BIBLIOGRAPHY = ('<div role="list" class="citation-list">', '<div class="citation-list">')
REACH = 9  # pixels of the image around a point
LONGEST = 160  # characters of a description: what search engines show


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx; every page passes through here once before it is written."""
    app.connect("html-page-context", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def finish(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: document | None) -> None:
    """Add sizes and description to a page that is about to be written, and drop what nobody calls."""
    sources = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}
    if "body" in context:
        images = Path(app.outdir, app.builder.imagedir)
        context["body"] = sized(context["body"], sources, images).replace(*BIBLIOGRAPHY)
    said = "{0.filename} {0.attributes}".format  # of a script; sphinx-thebe's are loaded always
    context["script_files"] = [each for each in context["script_files"] if "thebe" not in said(each).lower()]
    meaning = html.escape(described(tree) or app.config.html_title or app.config.project)
    context["metatags"] = context.get("metatags", "") + f'\n<meta name="description" content="{meaning}" />'


def sized(body: str, sources: dict[str, Path], images: Path) -> str:
    """A page's HTML with width and height, in pixels, in every PNG image that lacks them; such images load when seen.

    `sources` gives the file of an image's last part of the address; an image that is not in it stays as it is. What a
    phone shows instead goes into `images`, the site's folder of them.
    """

    import imagesize  # comes with Sphinx

    def add(found: re.Match[str]) -> str:
        said = dict(ATTRIBUTE.findall(found[0]))
        source = sources.get(said.get("src", "").rpartition("/")[2])
        if source is None or source.suffix != ".png" or {"width", "height"} & set(said):
            return found[0]
        width, height = imagesize.get(source)
        image = f'<img loading="lazy" width="{width}" height="{height}"' + found[0].removeprefix("<img")
        about = source.with_suffix(".json")
        about = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
        if about.get("narrow"):
            image = stacked(image, said["src"], source.with_name(f"{source.stem}-narrow.png"), images)
        return pointed(image, about.get("points"), f"0 0 {width} {height}")

    return IMAGE.sub(add, body)


def stacked(image: str, address: str, narrow: Path, images: Path) -> str:
    """An image and what a phone shows instead; as it is where that has not come with results from elsewhere."""
    import imagesize

    if not narrow.exists():
        return image
    address = address.removesuffix(".png") + "-narrow.png"  # Sphinx gives each of one name its own
    images.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(narrow, images / address.rpartition("/")[2])
    width, height = imagesize.get(narrow)
    source = f'<source media="(max-width: 600px)" srcset="{address}" width="{width}" height="{height}">'
    return f"<picture>{source}{image}</picture>"


def pointed(image: str, points: list | None, box: str) -> str:
    """An image with the names of its points, of which a browser shows the one that is pointed at; as it is without any."""
    if not points:
        return image
    spot = f'<circle cx="{{}}" cy="{{}}" r="{REACH}"><title>{{}}</title></circle>'
    spots = "".join(spot.format(x, y, html.escape(name)) for x, y, name in points)
    return f'<span class="points">{image}<svg viewBox="{box}" aria-hidden="true">{spots}</svg></span>'


def described(tree: document | None) -> str:
    """The first paragraph of a page as plain text of at most `LONGEST` characters; empty without one."""
    from docutils.nodes import paragraph

    first = next(iter(tree.findall(paragraph)), None) if tree else None
    text = " ".join(first.astext().split()) if first else ""
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rsplit(" ", 1)[0] + "…"


def lighten(site: Path) -> None:
    """Remove source maps of scripts, and images that another one equals byte for byte; pages name the kept one."""
    for path in site.rglob("*.map"):  # megabytes that no reader's browser asks for
        path.unlink()
    kept, same = {}, {}  # of an image the first, which has the shortest name and is the figure's own
    for path in sorted(site.glob("_images/*.png"), key=lambda path: (len(path.name), path.name)):
        first = kept.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
        if first != path.name:
            same[path.name] = first
    for page in site.rglob("*.html") if same else ():
        text = page.read_text(encoding="utf-8")
        changed = NAMED.sub(lambda found: same.get(found[0], found[0]), text)
        if changed != text:
            page.write_text(changed, encoding="utf-8")
    for name in same:
        (site / "_images" / name).unlink()
