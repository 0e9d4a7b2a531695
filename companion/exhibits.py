"""What there is to run: every figure and table is a notebook, and says itself what it is and what it takes.

Its metadata (`steerkit`) hold paper, number, title, place in the list and the tables it needs; its first code cell holds
its parameters. A notebook dropped into the folder is an exhibit; one without such metadata is left alone.
"""

import ast
import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from companion.places import BOOK, EXECUTED, NOTEBOOKS
from steerkit.errors import need, told

TAN, MAYNE = "Tan et al. 2024", "Mayne et al. 2024"


@dataclass(frozen=True)
class Exhibit:
    """A figure or table. `needs` are the kinds of tables its notebook reads (see `companion.tan.experiment`)."""

    id: str
    paper: str
    number: str
    title: str
    needs: tuple[str, ...] = ()
    published: bool = False  # can be drawn from the paper's digitised numbers alone

    @property
    def notebook(self) -> Path:
        """The source notebook, without outputs."""
        return NOTEBOOKS / f"{self.id}.ipynb"

    @property
    def executed(self) -> Path:
        """Where the book's copy goes."""
        return EXECUTED / f"{self.id}.ipynb"


def read(folder: Path) -> dict[str, Exhibit]:
    """The exhibits of a folder of notebooks, in the order that these ask for."""
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        about = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("steerkit")
        if about is not None:
            order, needs = about.pop("order", float("inf")), tuple(about.pop("needs", ()))
            found.append((order, path.stem, Exhibit(path.stem, needs=needs, **about)))
    return {name: one for _, name, one in sorted(found, key=lambda each: each[:2])}


EXHIBITS = read(NOTEBOOKS)


def exhibit(name: str) -> Exhibit:
    """The exhibit called `name`."""
    _known(name, name in EXHIBITS)
    return EXHIBITS[name]


def matching(patterns: list[str] | None) -> list[Exhibit]:
    """Exhibits whose id matches one of the shell patterns, each of which must match one; all without patterns."""
    for pattern in patterns or ():
        _known(pattern, any(fnmatch(name, pattern) for name in EXHIBITS))
    return [e for e in EXHIBITS.values() if not patterns or any(fnmatch(e.id, p) for p in patterns)]


def _known(name: str, known: bool) -> None:
    close = " or ".join(get_close_matches(name, EXHIBITS, n=2))
    following = f"{f'try {close}, or ' if close else ''}see `steerkit list`."
    need(known, "a figure or table that `steerkit list` names", repr(name), following)


def page_of(exhibit: Exhibit, site: Path) -> Path | None:
    """The page of a site that shows an exhibit: that of the chapter which includes it; None when there is none."""
    for chapter in sorted(BOOK.glob("*/*.md")):
        if f"generated/{exhibit.id}.md" in chapter.read_text(encoding="utf-8"):
            page = site / chapter.relative_to(BOOK).with_suffix(".html")
            return page if page.exists() else None
    return None


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell: `name: type = default  # help`."""

    name: str
    type: str
    default: Any
    help: str


def parameters_of(notebook: Path) -> dict[str, Parameter]:
    """The parameters a notebook declares, parsed as the Python they are (papermill's inspector guesses types)."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign):
            name, note = node.target.id, lines[node.end_lineno - 1].partition("  # ")[2]
            found[name] = Parameter(name, ast.unparse(node.annotation), ast.literal_eval(node.value), note)
    return found


TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list": list}


def resolve(notebook: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Values for all parameters: the given ones, checked and converted from text, and the defaults."""
    known = parameters_of(notebook)
    listed = ", ".join(f"{p.name} ({p.type})" for p in known.values())
    unknown = ", ".join(sorted(set(given) - set(known)))
    expected, done = f"parameters of {notebook.stem}: {listed}", "Nothing was run."
    need(not unknown, expected, unknown, "check the spelling.", done)
    return {name: convert(p, given[name]) if name in given else p.default for name, p in known.items()}


def convert(parameter: Parameter, value: Any) -> Any:
    """A value in the parameter's type; text is read as that type."""
    wanted = TYPES[parameter.type]
    if isinstance(value, str) and wanted is not str:
        with suppress(ValueError, SyntaxError):  # stays text, which the check below reports
            value = ast.literal_eval(value)
    if wanted is float and type(value) is int:
        value = float(value)
    expected = f"{parameter.name} of type {parameter.type} ({parameter.help or 'no description'})"
    found, following = f"{value!r}, a {type(value).__name__}", f"{parameter.name}={parameter.default!r}"
    need(type(value) is wanted, expected, found, f"give it as in {following}.", "Nothing was run.")
    with told((UnicodeEncodeError,), f"{parameter.name} in UTF-8", "look at its bytes.", "Nothing was run."):
        str(value).encode()
    return value


def parse_assignments(texts: list[str]) -> dict[str, str]:
    """`["layer=13", ...]` of the command line as a dictionary."""
    for text in texts:
        need("=" in text, "parameters as name=value", repr(text), "write -p name=value.", "Nothing was run.")
    pairs = [text.split("=", 1) for text in texts]
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    found, step = f"{', '.join(twice)} twice", "leave one of them out."
    need(not twice, "each parameter once", found, step, "Nothing was run.")
    return {name: expanded(value) for name, value in pairs}


def expanded(text: str) -> str:
    """A text with the user's home for each ~/ that begins it, or one of its parts between commas: a shell leaves those."""
    return re.sub(r"(?:^|(?<=,))(\s*)~(?=/)", lambda found: f"{found[1]}{Path.home()}", text)
