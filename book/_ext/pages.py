"""The part of a figure's page that no hand writes: figures in tabs, verdicts, parameters, files, commands."""

from __future__ import annotations

from typing import Any

import pandas as pd

from _ext.commands import about_hosting, again, changed
from _ext.downloads import offered
from _ext.markdown import folded, table, table_of_markdown, tabs
from companion.exhibits import EXHIBITS, TAN, Exhibit
from companion.page import BOOK_FORMATS
from companion.parameters import parameters_of
from companion.results import Result
from steerkit.formats import FORMATS

SAME_AXES = (
    "Slopes and curves of one answer format have the same scale in the tabs of all models with a record. "
    "A model without one has its own: compare its numbers, not its heights."
)
CLAIMS = ("tan-claims", "mayne-claims")  # exhibits whose table `claims` holds the verdicts


def exhibit_block(results: list[Result]) -> str:
    """What an exhibit shows under every profile that ran it, the book's own first, and how to run it again."""
    own = results[0]
    bodies = [(result.profile, result.label, _body(result)) for result in results]
    shown = bodies[0][2] if len(bodies) == 1 else f"{tabs('profile', bodies)}\n\n{_about_tabs(results)}"
    commands = folded("Run it again", again(own.exhibit, own.parameters), class_container="rerun")
    return f"{shown}\n\n{commands}"


def _about_tabs(results: list[Result]) -> str:
    """Which pictures a reader may compare by eye (`companion.tan.records.beside`)."""
    drawn = any(result.is_figure(part) for result in results for part in result.parts)
    return SAME_AXES if drawn else ""


def _body(result: Result) -> str:
    """Figures in tabs, tables (folded where there are figures), verdicts, parameters, files."""
    figures = [part for part in result.parts if result.is_figure(part)]
    rest = [part for part in result.parts if part not in figures]
    shown = [_figures(result, figures)] if figures else []
    shown += [
        folded(part["caption"], _table(result, part)) if figures else _table(result, part) for part in rest
    ]
    return "\n\n".join([*shown, *_verdicts(result), _parameters(result), _files(result)])


def _figures(result: Result, figures: list[dict[str, Any]]) -> str:
    return tabs("format", [(part["part"], _tab(part), _figure(result, part)) for part in figures])


def _tab(part: dict[str, Any]) -> str:
    return part["tab"] + (", recorded" if part.get("records") else "")


def _figure(result: Result, part: dict[str, Any]) -> str:
    return (
        f"{_image(result, part)}\n"
        f"{_downloads(result, part)}\n```\n\n**What it shows.** {part['alt']}\n\n{_origin(part)}"
    )


def _image(result: Result, part: dict[str, Any]) -> str:
    """The beginning of a figure: picture, alt text, caption; what follows in it, and its end, are the caller's."""
    stem = f"{result.address}/{result.exhibit.id}-{part['part']}"
    return f"```{{figure}} {stem}.png\n:alt: {part['alt']}\n:width: 100%\n\n{part['caption']}"


def _table(result: Result, part: dict[str, Any]) -> str:
    rows = pd.read_csv(result.file(part, "csv"), keep_default_na=False)
    return f"{table(rows)}\n\n{part['caption']} {_downloads(result, part)}\n\n{_origin(part)}"


def _downloads(result: Result, part: dict[str, Any]) -> str:
    kinds = {".csv": "data (CSV)", ".json": "manifest (JSON)"}
    files = {kinds[suffix]: result.file(part, suffix[1:]) for suffix in offered(result)}
    return " · ".join(
        f"{{download}}`{name} <{result.address}/{path.name}>`"
        for name, path in files.items()
        if path.exists()
    )


def _origin(part: dict[str, Any]) -> str:
    """The manifest line, quiet."""
    records = part.get("records")
    read = f" Read from the committed record {', '.join(records)}." if records else ""
    return f"{{.manifest}}\n{part['line']}{read}"


def _verdicts(result: Result) -> list[str]:
    """The claims that rest on this exhibit, as the same profile judged them."""
    rows = claims(result)
    rows = rows[rows["exhibit"] == result.exhibit.id]
    if rows.empty or result.exhibit.id in CLAIMS:
        return []
    chapter = "/tan/claims.md" if result.exhibit.paper == TAN else "/mayne/claims.md"
    head = f"**What rests on it.** The rule behind each verdict is in [the full table]({chapter})."
    return [f"{head}\n\n{table(_wide(rows))}"]


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a claim; verdict and value of each format in a column of its own."""
    rows = rows.assign(found="**" + rows["verdict"] + "**: " + rows["ours"])
    wide, formats = _by_format(rows, "published", "found")
    return wide.rename(columns={form: f"here, format {form}" for form in formats})


def _by_format(rows: pd.DataFrame, beside: str, values: str) -> tuple[pd.DataFrame, list[str]]:
    """Columns claim, `beside`, and `values` of each format, claims in the order given; and the formats there are."""
    by = {"index": ["claim", beside], "columns": "format", "values": values}
    wide = rows.pivot_table(**by, aggfunc="; ".join)  # one value a cell, unless a claim is judged twice
    wide = wide.fillna("").reset_index(beside).loc[list(dict.fromkeys(rows["claim"]))].reset_index()
    formats = [form for form in dict.fromkeys((*BOOK_FORMATS, *FORMATS)) if form in wide]
    return wide[["claim", beside, *formats]], formats


def claims(result: Result) -> pd.DataFrame:
    """All verdicts of a result's profile; no rows when it has not run the notebooks of claims."""
    found = [result.folder / f"{name}-claims.csv" for name in CLAIMS]
    frames = [pd.read_csv(path, keep_default_na=False) for path in found if path.exists()]
    columns = ["claim", "format", "published", "ours", "rule", "verdict", "exhibit"]
    frames = [frame.rename(columns={"statement": "claim"}) for frame in frames]  # also the name of a format
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _parameters(result: Result) -> str:
    """The parameters of this run, folded: all of them, since a default is a choice too."""
    known = parameters_of(result.exhibit.notebook)
    other = changed(result.exhibit, result.parameters)
    rows = [
        {
            "parameter": f"`{name}`",
            "value": f"`{value!r}`",
            "default": "no" if name in other else "yes",
            "meaning": known[name].help if name in known else "",
        }
        for name, value in result.parameters.items()
    ]
    return folded(
        "Parameters of this run", table_of_markdown(pd.DataFrame(rows)), class_container="parameters"
    )


def _files(result: Result) -> str:
    """The notebook (a page of the book for its own profile), and the pages about all files."""
    name = result.exhibit.id
    notebook = (
        f"[the notebook with its outputs](/notebooks/{name}.ipynb)"
        if result.is_own
        else "data and vector graphics of this tab are in [the archive](/use/downloads.md)"
    )
    return f"{notebook} · [all downloads](/use/downloads.md) · [where it comes from](/use/provenance.md)"


def verdicts(own: list[Result], paper: str) -> str:
    """The claims of a paper on the start page: the verdict of each format, and the figure whose page has the numbers."""
    rows = claims(own[0])
    rows = rows[rows["exhibit"].map(lambda name: EXHIBITS[name].paper == paper)]
    wide, formats = _by_format(rows, "exhibit", "verdict")
    wide["numbers"] = [f"[{EXHIBITS[name].number}](/notebooks/{name}.ipynb)" for name in wide["exhibit"]]
    return table_of_markdown(wide[["claim", *formats, "numbers"]])


def picture(result: Result) -> str:
    """The first figure of an exhibit without what goes with it, for the start page."""
    part = next(part for part in result.parts if result.is_figure(part))
    return (
        f"{_image(result, part)}\n"
        f"[The notebook, with other formats, data and commands](/notebooks/{result.exhibit.id}.ipynb).\n```\n\n"
        f"{_origin(part)}"
    )


def notebook_table(own: list[Result]) -> str:
    """Every notebook with its parameters (name, type, default, meaning) and the commands that run it again."""
    values = {result.exhibit.id: result.parameters for result in own}
    blocks = [about_hosting()]
    for exhibit in EXHIBITS.values():
        blocks.append(
            f"## {exhibit.number}: {exhibit.title}\n\n[{exhibit.id}](/notebooks/{exhibit.id}.ipynb)\n\n"
            f"{_known_parameters(exhibit)}\n\n{again(exhibit, values[exhibit.id])}"
        )
    return "\n\n".join(blocks)


def _known_parameters(exhibit: Exhibit) -> str:
    rows = [
        {"parameter": f"`{p.name}`", "type": p.type, "default": f"`{p.default!r}`", "meaning": p.help}
        for p in parameters_of(exhibit.notebook).values()
    ]
    return table_of_markdown(pd.DataFrame(rows))
