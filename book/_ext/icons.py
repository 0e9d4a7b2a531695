"""The theme's icons as a few lines of CSS: its script brings two thousand of them, and the site shows a dozen."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from steerkit.errors import need

SCRIPT = Path("_static/scripts/fontawesome.js")
TAG = re.compile(r'<script src="([^"]*)_static/scripts/fontawesome\.js[^"]*"></script>')
USED = re.compile(r'class="[^"]*\bfa[srb]?(?:-solid|-regular|-brands)? +fa-([a-z0-9-]+)')
SHAPE = ".fas::before, .fa-solid::before, .fab::before, .fa-brands::before { content: ''; display: inline-block; width: 1em; "
SHAPE += "height: 1em; vertical-align: -0.125em; background: currentColor; mask: var(--icon) center / contain no-repeat; }\n"
SHAPE += ".fa-lg { font-size: 1.25em; line-height: 0.05em; vertical-align: -0.075em; }\n"


def slim(site: Path) -> None:
    """Replace the script in every page of a site by a style sheet of the icons that its pages show."""
    script, pages = site / SCRIPT, [*site.rglob("*.html")]
    if not script.exists():
        return
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    used = sorted({name for text in texts.values() for name in USED.findall(text)})
    sheet = "\n".join([SHAPE, *rules(script.read_text(encoding="utf-8"), used)])
    (site / "_static" / "icons.css").write_text(sheet + "\n", encoding="utf-8")
    for page, text in texts.items():
        changed = TAG.sub(r'<link rel="stylesheet" href="\1_static/icons.css" />', text)
        page.write_text(changed, encoding="utf-8")
    script.unlink()


def rules(script: str, names: Iterable[str]) -> list[str]:
    """A rule of CSS for each icon, its path taken from Font Awesome's script; the last of a name is the solid one."""
    found = []
    for name in names:
        shapes = re.findall(rf'\b"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"[^"]*","([^"]+)"\]', script)
        need(shapes, f"the icon {name} in the theme's script", "none", "look at the theme's version.")
        width, height, path = shapes[-1]
        head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
        drawing = quote(f"{head}<path d='{path}'/></svg>")
        found.append(f'.fa-{name} {{ --icon: url("data:image/svg+xml,{drawing}"); }}')
    return found
