"""The book: pages generated from what the notebooks left behind, then Jupyter Book with warnings as errors."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from steerkit import artifacts
from steerkit.errors import SteerkitError
from steerkit.exhibits import BOOK, EXECUTED, EXHIBITS, ROOT, Exhibit
from steerkit.notebook import BOOK_FORMATS
from steerkit.parameters import parameters_of

GENERATED = BOOK / "generated"


def build() -> Path:
    """Write the generated pages and compile the site; returns its first page.

    Raises
    ------
    SteerkitError
        When a notebook has not been run, or Jupyter Book warns about anything.
    """
    write_pages()
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(BOOK),
        "-W",
        "-n",
        "--keep-going",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        lines = [
            line for line in (run.stdout + run.stderr).splitlines() if "WARNING" in line or "ERROR" in line
        ]
        raise SteerkitError(
            "a book without warnings",
            "; ".join(lines[:5]) or run.stderr[-500:],
            done="The last good site was not removed.",
            next_step="mend these pages and run `make book` again.",
        )
    return ROOT / "_build" / "html" / "index.html"


def write_pages() -> None:
    """One include file an exhibit, the verdicts of the start page, the re-run table, and MathJax."""
    artifacts.write_atomically(GENERATED / "assets" / "mathjax" / "tex-svg.js", _mathjax().read_bytes())
    for exhibit in EXHIBITS.values():
        _write(f"{exhibit.id}.md", exhibit_block(exhibit))
    _write("verdicts.md", verdicts())
    _write("notebooks.md", notebook_table())
    _write("bench.md", bench_table())


def _mathjax() -> Path:
    """The script that typesets formulas, from an installed package: pages must not ask another host for it."""
    files = importlib.metadata.files("sphinx-mathjax-offline") or []
    return Path(next(file for file in files if file.name == "tex-svg.js").locate())


def _write(name: str, text: str) -> None:
    artifacts.write_atomically(GENERATED / name, (text.rstrip() + "\n").encode())


def parts_of(exhibit: Exhibit) -> list[dict]:
    """What the exhibit's notebook left: one record a figure or table.

    Raises
    ------
    SteerkitError
        When it has not been run.
    """
    order = {form: i for i, form in enumerate(BOOK_FORMATS)}
    found = [json.loads(path.read_text()) for path in sorted(EXECUTED.glob(f"{exhibit.id}-*.json"))]
    if not found or not exhibit.executed.exists():
        raise SteerkitError(
            f"an executed notebook {exhibit.executed.name}",
            "none",
            done="The book was not built.",
            next_step=f"run `steerkit reproduce --only {exhibit.id}` first.",
        )
    return sorted(found, key=lambda part: (order.get(part["part"], len(order)), part["part"]))


def exhibit_block(exhibit: Exhibit) -> str:
    """The figures of an exhibit in tabs with caption, downloads and manifest; its tables, folded below figures."""
    parts = parts_of(exhibit)
    figures = [part for part in parts if (EXECUTED / f"{exhibit.id}-{part['part']}.png").exists()]
    tables = [part for part in parts if part not in figures]
    if not figures:
        return "\n\n".join(_table(exhibit, part) for part in tables) + "\n\n" + _rerun(exhibit)
    folded = "\n\n".join(
        f"::::{{dropdown}} {part['caption']}\n{_table(exhibit, part)}\n::::" for part in tables
    )
    tabs = "\n".join(f":::{{tab-item}} {part['tab']}\n{_figure(exhibit, part)}\n:::" for part in figures)
    return f"::::{{tab-set}}\n:sync-group: format\n\n{tabs}\n::::\n\n{folded}\n\n{_rerun(exhibit)}"


def _figure(exhibit: Exhibit, part: dict) -> str:
    stem = f"{exhibit.id}-{part['part']}"
    downloads = f"{{download}}`data (CSV) </notebooks/{stem}.csv>` · {{download}}`vector graphic (SVG) </notebooks/{stem}.svg>`"
    return (
        f"```{{figure}} /notebooks/{stem}.png\n:alt: {part['alt']}\n:width: 100%\n\n{part['caption']}\n{downloads}\n```\n\n"
        f"**What it shows.** {part['alt']}\n\n{{.manifest}}\n{part['line']}\n"
    )


def _table(exhibit: Exhibit, part: dict) -> str:
    stem = f"{exhibit.id}-{part['part']}"
    rows = pd.read_csv(EXECUTED / f"{stem}.csv", keep_default_na=False)
    return f"{markdown_table(rows)}\n\n{part['caption']} {{download}}`CSV </notebooks/{stem}.csv>`\n\n{{.manifest}}\n{part['line']}"


def markdown_table(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table in a box that scrolls by itself on a phone."""

    def cell(value: object) -> str:
        return (
            str(value)
            .replace("|", "\\|")
            .replace("<", "&lt;")
            .replace("{", "&#123;")
            .replace("$", "\\$")
            .replace("[", "\\[")
        )

    head = "| " + " | ".join(map(str, frame.columns)) + " |\n|" + "---|" * len(frame.columns)
    body = "\n".join(
        "| " + " | ".join(cell(value) for value in row) + " |" for row in frame.itertuples(index=False)
    )
    return f":::{{div}} scroll\n\n{head}\n{body}\n\n:::"


def _rerun(exhibit: Exhibit) -> str:
    return (
        f"Notebook: [{exhibit.id}](/notebooks/{exhibit.id}.ipynb). Run it again with other parameters:\n\n"
        f"```bash\nsteerkit run {exhibit.id} -p profile=laptop\n```"
    )


def verdicts() -> str:
    """The claims table of the start page: one row a claim, one column a format."""
    rows = pd.read_csv(EXECUTED / "tan-claims-claims.csv", keep_default_na=False)
    rows = rows.rename(columns={"statement": "claim"})  # also the name of a format
    rows["found"] = rows["verdict"] + ": " + rows["ours"]
    wide = rows.pivot(index=["claim", "published"], columns="format", values="found").reset_index()
    wide = wide.set_index("claim").loc[list(dict.fromkeys(rows["claim"]))].reset_index()
    formats = [form for form in BOOK_FORMATS if form in wide]
    heads = {form: f"here, format {form}" for form in formats}
    return markdown_table(wide[["claim", "published", *formats]].rename(columns=heads))


def notebook_table() -> str:
    """Every notebook with its parameters: name, type, default, meaning."""
    blocks = []
    for exhibit in EXHIBITS.values():
        rows = pd.DataFrame(
            [
                {"parameter": f"`{p.name}`", "type": p.type, "default": f"`{p.default!r}`", "meaning": p.help}
                for p in parameters_of(exhibit.notebook).values()
            ]
        )
        blocks.append(
            f"## {exhibit.number}: {exhibit.title}\n\n[{exhibit.id}](/notebooks/{exhibit.id}.ipynb)\n\n{markdown_table(rows)}"
        )
    return "\n\n".join(blocks)


def bench_table() -> str:
    """The committed record of `make bench`."""
    path = Path(__file__).parents[1] / "benchmarks" / "results.json"
    if not path.exists():
        return "`make bench` has not been run for this copy."
    about = json.loads(path.read_text())
    rows = pd.DataFrame(about["cases"])
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    note = f"`{about['command']}` at commit {about['commit']}, {about['threads']} threads, {versions}."
    return f"{markdown_table(rows)}\n\n{{.manifest}}\n{note}"
