"""What the commands share: options with their help and what Tab offers for them, and tables on the screen."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from companion.cli import completion
from companion.cli.screen import print_json, print_rows
from steerkit.ndif.address import server

__all__ = [
    "DataOption",
    "FormatOption",
    "JsonFlag",
    "ModelOption",
    "ProfileOption",
    "RemoteOption",
    "SourceOption",
    "print_json",
    "print_rows",
]


def _run_there(context: typer.Context, address: str) -> str:
    """Make a server the place for everything that this command starts, kernels of notebooks included."""
    if not address:
        return address
    server(address)  # says what is wrong with it
    if sys.stderr.isatty():  # whoever watches hears of long jobs and of attempts to reach the server
        logging.basicConfig(format="%(message)s")
        logging.getLogger("steerkit.remote").setLevel(logging.INFO)
    before = os.environ.get("STEERKIT_REMOTE")
    os.environ["STEERKIT_REMOTE"] = address
    context.call_on_close(
        lambda: (
            os.environ.pop("STEERKIT_REMOTE") if before is None else os.environ.update(STEERKIT_REMOTE=before)
        )
    )
    return address


RemoteOption = Annotated[
    str,
    typer.Option(
        help="Address of an NDIF server that holds the model and runs its traces; off: this machine. Default: "
        "STEERKIT_REMOTE, else the profile's. A key goes into NDIF_API_KEY.",
        callback=_run_there,
    ),
]
ProfileOption = Annotated[
    str, typer.Option(help="Which dial setting: smoke, laptop, ...", autocompletion=completion.profiles)
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
ModelOption = Annotated[
    str,
    typer.Option(help="A registry name, a hub id, or a folder.", autocompletion=completion.models),
]
DataOption = Annotated[
    str,
    typer.Option(
        help="A data set name, or a .jsonl/.json file in the papers' format.",
        autocompletion=completion.datasets,
    ),
]
FormatOption = Annotated[
    str,
    typer.Option("--format", help="letter, statement or yes-no.", autocompletion=completion.formats),
]
SourceOption = Annotated[
    str,
    typer.Option(
        help="bundled or papers, for data set names.",
        autocompletion=completion.one_of("bundled", "papers"),
    ),
]
