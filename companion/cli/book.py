"""`steerkit book`: compile again from what the notebooks left, as a site or as a PDF."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Annotated

import typer

from companion.exhibits import BOOK
from steerkit.errors import SteerkitError


def book(
    pdf: Annotated[bool, typer.Option("--pdf", help="Print the whole book as one PDF as well.")] = False,
) -> None:
    """Compile the site from the notebooks that have been run."""
    made = compiled(pdf)
    typer.echo(f"The book: {made['site']}")
    if pdf:
        typer.echo(f"As a PDF: {made['pdf']}")


def compiled(pdf: bool = False) -> dict[str, str]:
    """Run the book's own program, `book/_ext/build.py`; returns the paths of the site and, when asked for, the PDF.

    Raises
    ------
    SteerkitError
        What that program says.
    """
    command = [sys.executable, "-m", "_ext.build", *(["--pdf"] if pdf else [])]
    paths = os.pathsep.join([str(BOOK), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True, check=False
    )
    said = json.loads(run.stdout.strip().splitlines()[-1]) if run.stdout.strip() else {}
    if run.returncode and "expected" in said:
        raise SteerkitError(**said)
    if run.returncode:
        raise SteerkitError(
            "the book to be compiled",
            f"exit code {run.returncode} of {' '.join(command[1:])}",
            done="The last good site was not removed.",
            next_step="read what it printed above.",
        )
    return said
