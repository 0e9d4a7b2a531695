"""`steerkit book`: compile again from what the notebooks left, as a site or as a PDF."""

from __future__ import annotations

from typing import Annotated

import typer


def book(
    pdf: Annotated[bool, typer.Option("--pdf", help="Print the whole book as one PDF as well.")] = False,
) -> None:
    """Compile the site from the notebooks that have been run."""
    from steerkit.book import jupyter_book as builder
    from steerkit.book import pdf as printer

    browser = printer.chromium() if pdf else ""  # before minutes of work
    typer.echo(f"The book: {builder.build()}")
    if pdf:
        typer.echo(f"As a PDF: {printer.print_book(browser)}")
