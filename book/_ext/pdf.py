"""The whole book as one PDF: Sphinx writes one long page, Chromium prints it with page numbers, links and bookmarks."""

import os
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from _ext import build as book
from companion import store
from companion.cli.doctor import VARIABLE
from steerkit.errors import need

SECONDS = 600  # a book of hundreds of pages takes one minute on two cores
TARGET = "steering-companion.pdf"
ID = r'\bid="([^"]+)"'
LINK = r'href="#([^"]+)"'
CITATION = re.compile(r'<span class="bibtex-citation".*?</span>', re.DOTALL)  # the text of {cite}
CITED = r'<div class="citation" id="([^"]+)"'  # its entry in the bibliography


def print_book(browser: str) -> Path:
    """Compile the book as one page and print it to `_build`; the site must have been built before."""
    page = book.compiled("singlehtml") / "intro.html"
    page.write_text(printable(page.read_text(encoding="utf-8")), encoding="utf-8")
    target = book.ROOT / "_build" / TARGET
    store.write_atomically(target, _printed(browser, page))
    return target


def printable(html: str) -> str:
    """The long page with the style of paper, boxes opened, and no link but to chapters and to the web."""
    style = (Path(__file__).parent / "print.css").read_text(encoding="utf-8")
    html = html.replace("</head>", f"<style>\n{style}</style>\n</head>", 1)
    html = re.sub(r"<details(?![^>]*\bopen\b)", "<details open", html)
    html = html.replace('loading="lazy"', "")
    html = distinct(re.sub(r'href="intro\.html#', 'href="#', html))
    # What is left are links to files beside the page: in a PDF they would lead to a folder of this machine.
    return re.sub(r'(<a\b[^>]*?) href="(?!#|https?:|mailto:)[^"]*"', r"\1", html)


def distinct(html: str) -> str:
    """The page with every id once: Sphinx numbers the ids of each chapter from one, and on one page they collide.

    A link goes to the id of its own chapter, a citation to the bibliography, any other to the first that has the id.
    """
    chapters = re.split(r'(?=<span id="document-)', html)
    found = [set(re.findall(ID, chapter)) for chapter in chapters]
    counts = Counter(name for names in found for name in names)
    again = {name for name, count in counts.items() if count > 1}
    first = {name: next(n for n, names in enumerate(found) if name in names) for name in again}
    cited = {name: n for n, chapter in enumerate(chapters) for name in re.findall(CITED, chapter)}

    def rename(number: int, chapter: str) -> str:
        def link(match: re.Match, home: dict[str, int]) -> str:
            name = match[1]
            return f'href="#c{home.get(name, first[name])}-{name}"' if name in again else match[0]

        own = dict.fromkeys(found[number] & again, number)
        chapter = CITATION.sub(lambda m: re.sub(LINK, lambda a: link(a, cited), m[0]), chapter)
        chapter = re.sub(LINK, lambda a: link(a, own), chapter)
        return re.sub(ID, lambda m: f'id="c{number}-{m[1]}"' if m[1] in again else m[0], chapter)

    return "".join(rename(number, chapter) for number, chapter in enumerate(chapters))


def _printed(browser: str, page: Path) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / TARGET
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),  # root has none
            f"--user-data-dir={scratch}/profile",
            "--no-pdf-header-footer",  # the style has page numbers of its own
            "--generate-pdf-document-outline",
            "--virtual-time-budget=60000",  # until formulas are typeset
            "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing comes from elsewhere
            f"--print-to-pdf={out}",
            page.as_uri(),
        ]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
            content = out.read_bytes() if out.exists() else b""
            said = run.stderr.strip()[-300:]
        except (OSError, subprocess.TimeoutExpired) as error:
            content, said = b"", f"{type(error).__name__} after at most {SECONDS} s"
    following = f"open {page} in a browser and print it, or try another one in {VARIABLE}."
    kept, whole = "An earlier PDF was kept.", content.startswith(b"%PDF")
    need(whole, f"a PDF from {browser}", said or "no file", following, kept)
    return content
