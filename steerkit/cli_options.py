"""What the commands share: options with their help, and tables on the screen."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

ProfileOption = Annotated[str, typer.Option(help="Which dial setting: smoke, laptop, ...")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
ModelOption = Annotated[str, typer.Option(help="A registry name, a hub id, or a folder.")]
DataOption = Annotated[
    str, typer.Option(help="A data set name, or a .jsonl/.json file in the papers' format.")
]
FormatOption = Annotated[str, typer.Option("--format", help="letter, statement or yes-no.")]


def print_rows(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    """Rows as a table of the named columns, or all of them as JSON."""
    if as_json:
        typer.echo(json.dumps(rows, indent=1, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, show_lines=any(len(str(row[c])) > 60 for row in rows for c in columns))
    for row in rows:
        table.add_row(*("" if row[c] is None else str(row[c]) for c in columns))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
