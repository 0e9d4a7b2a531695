"""The book: pages generated from what the notebooks left behind, then Jupyter Book with warnings as errors."""

import shutil
import subprocess
import sys
from pathlib import Path

from _ext import crate, front, measured, pages, provenance, takeaway, tokens
from _ext.finish import lighten
from _ext.icons import slim
from companion import results, store
from companion.exhibits import EXHIBITS, MAYNE, TAN
from companion.places import BOOK, EXECUTED, ROOT
from steerkit.errors import need

GENERATED = BOOK / "generated"
ON_THE_START_PAGE = ("tan-fig-1", "mayne-fig-1")


def build() -> Path:
    """Write the generated pages and compile the site; returns its first page. Every notebook must have been run."""
    write_pages()
    compiled("html")
    site = ROOT / "_build" / "html"
    shutil.copy(GENERATED / crate.NAME, site / crate.NAME)
    lighten(site)
    slim(site)
    return site / "index.html"


def compiled(builder: str) -> Path:
    """Run Jupyter Book, whose warnings are errors; returns the folder it wrote to."""
    tool = str(Path(sys.executable).with_name("jupyter-book"))
    command = [tool, "build", str(BOOK), "--builder", builder, "-W", "-n", "--keep-going"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    warned = [line for line in lines if "WARNING" in line or "ERROR" in line]
    found = "; ".join(warned[:5]) or run.stderr[-500:]
    following, done = "mend these pages and run `make book` again.", "The last good site was not removed."
    need(not run.returncode, "a book without warnings", found, following, done)
    return ROOT / "_build" / builder


def write_pages() -> None:
    """What no hand writes: an include file an exhibit, verdicts, parameters, provenance, downloads."""
    found = [result for exhibit in EXHIBITS.values() for result in results.results_of(exhibit, EXECUTED)]
    own = [result for result in found if result.is_own]
    for name in EXHIBITS:
        _write(f"{name}.md", pages.exhibit_block([result for result in found if result.exhibit.id == name]))
    for name, write in front.PARTS.items():
        _write(f"start-{name}.md", write(own))
    for name in ON_THE_START_PAGE:
        _write(f"{name}-picture.md", pages.picture(next(one for one in own if one.exhibit.id == name)))
    for name, paper in (("tan", TAN), ("mayne", MAYNE)):
        _write(f"verdicts-{name}.md", pages.verdicts(own, paper))
    for make in (measured.bench, measured.scaling, measured.parity, measured.families, measured.records):
        _write(f"{make.__name__}.md", make())
    _write("tokens.md", tokens.page(own[0].parts[0]["model"]))
    _write("notebooks.md", pages.notebook_table(own))
    _write("provenance.md", provenance.page(found))
    shutil.rmtree(GENERATED / "vectors", ignore_errors=True)  # of an earlier run, perhaps of another model
    _write("downloads.md", takeaway.write(found, GENERATED))
    store.write_atomically(GENERATED / crate.NAME, takeaway.metadata(found, takeaway.in_site))


def _write(name: str, text: str) -> None:
    store.write_atomically(GENERATED / name, (text.rstrip() + "\n").encode())
