"""What the command line says when something went wrong: a paragraph, and tracebacks for those who ask."""

import errno
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import typer

import companion
import steerkit
from companion.cli.screen import plain
from companion.reproduce import Outcome
from steerkit.errors import SteerkitError


def debug() -> bool:
    """Whether tracebacks are asked for: --debug may stand anywhere on the line."""
    return "--debug" in sys.argv or bool(os.environ.get("STEERKIT_DEBUG"))


def complain(message: str, failed: Iterable[Outcome] = ()) -> int:
    """Print a paragraph, after the tracebacks of notebooks that failed where these are asked for; the exit code."""
    for outcome in failed if debug() else ():
        typer.echo(plain(outcome.traceback), err=True)
    typer.secho(plain(message), err=True, fg=None if os.environ.get("NO_COLOR") else "red")
    return 1


def unexpected(error: Exception) -> str:
    """A full disk, or a fault of the program in a paragraph: what, where, and how to see more."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = error.filename or " or ".join([*_out(sys.argv), "the standard output"])
        done = "It was left unfinished."
        step = "free some space, or write to another disk."
        return str(SteerkitError(f"room for {place}", "a full disk", done=done, next_step=step))
    packages = tuple(str(Path(package.__file__).parent) for package in (companion, steerkit))
    ours = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(packages)]
    where = f" ({Path(ours[-1].filename).name}, line {ours[-1].lineno})" if ours else ""
    what = " ".join(str(error).split())[:500].rstrip(".")
    known = f"A fault that steerkit does not know: {type(error).__name__}: {what}{where}."
    return f"{known} Next: give the same command with --debug and report what it prints."


def _out(arguments: Sequence[str]) -> list[str]:
    """What the line names as --out: a write that fails may say no name of its own."""
    apart = [value for name, value in pairwise(arguments) if name == "--out"]
    return apart + [each.removeprefix("--out=") for each in arguments if each.startswith("--out=")]
