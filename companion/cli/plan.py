"""The command that says what a profile will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from companion.cli import completion
from companion.cli.options import JsonFlag, ProfileOption, print_json, print_rows

if TYPE_CHECKING:
    from companion.plan import Plan

COLUMNS = ("stage", "format", "tables", "prompts", "token_passes", "operations")
TRAFFIC = ("requests", "sent", "received")


def plan(
    profile: ProfileOption = "laptop",
    answer_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="As often as needed; default: those of the book.",
            autocompletion=completion.formats,
        ),
    ] = None,
    remote: Annotated[bool, typer.Option("--remote", help="For a server that holds the model.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Prompts, token-passes, requests, bytes, memory and hours of a profile, before anything starts."""
    from companion.page import BOOK_FORMATS
    from companion.plan import plan as planned
    from companion.profiles import load_profile
    from companion.tan.experiment import check_format
    from steerkit.remote import server

    formats = answer_format or list(BOOK_FORMATS)
    for form in formats:
        check_format(form)
    settings = load_profile(profile)
    found = planned(settings, formats, remote or server(profile=settings.remote) is not None)
    if as_json:
        print_json(found.record())
        return
    if found.rows:
        print_rows(_rows(found), False, (*COLUMNS, *(TRAFFIC if found.remote else ())))
    for line in _lines(found):
        typer.echo(line)


def _rows(found: Plan) -> list[dict[str, str]]:
    """The rows and their sum, as people read numbers."""
    every = [row.__dict__ for row in found.rows]
    every.append({"stage": "all", "format": ""} | found.record()["total"])
    return [
        {"stage": row["stage"], "format": row["format"]}
        | {name: f"{row[name]:,}" for name in ("tables", "prompts", "token_passes", "requests")}
        | {"operations": f"{row['operations']:.1e}"}
        | {name: _size(row[f"{name}_bytes"]) for name in ("sent", "received")}
        for row in every
    ]


def _lines(found: Plan) -> list[str]:
    if not found.rows:
        return [f"Nothing to compute: all tables of {found.profile} are there."]
    where = "on the server" if found.remote else "here"
    hours = "" if found.hours is None else f"{found.hours:.1f}, " if found.hours >= 0.1 else "under 0.1, "
    weights = f"{_size(found.memory_bytes)} of memory {where}, {_size(found.weights_bytes)} of it weights ({found.dtype})"
    return [f"{found.model}: {weights}.", f"Hours {where}: {hours}{found.hours_from}.", *found.notes]


def _size(count: int) -> str:
    """Bytes in a unit that people read."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
