"""A lighter site: what Sphinx writes twice is kept once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

IMAGE = re.compile(r'(?<=_images/)[^"<>\s]+\.png')


def lighten(site: Path) -> None:
    """Remove source maps of the theme's scripts, and images that another one equals byte for byte.

    A figure of a chapter is an output of a notebook too, and of a record's notebook once more. Pages are rewritten to
    name the one that is kept. A second call finds nothing to do.
    """
    for path in site.rglob("*.map"):  # megabytes that no reader's browser asks for
        path.unlink()
    same = _duplicates(site / "_images")
    for page in site.rglob("*.html") if same else ():
        text = page.read_text(encoding="utf-8")
        changed = IMAGE.sub(lambda found: same.get(found[0], found[0]), text)
        if changed != text:
            page.write_text(changed, encoding="utf-8")
    for name in same:
        (site / "_images" / name).unlink()


def _duplicates(folder: Path) -> dict[str, str]:
    """Name of an image -> name of the one that stands for it; the shortest name is kept, which is the figure's own."""
    kept: dict[str, str] = {}
    same = {}
    for path in sorted(folder.glob("*.png"), key=lambda path: (len(path.name), path.name)):
        first = kept.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
        if first != path.name:
            same[path.name] = first
    return same
