"""The terminal: bars and colour where somebody watches, plain lines where nobody does, JSON where a machine asks."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote

import typer
from rich import progress
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from steerkit.errors import SteerkitError

WIDTH = 160  # of tables in a file or a pipe
EVERY = 0.5  # seconds between two looks at what another process says
LONG = 60  # characters, from which a cell makes its table need lines between rows
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but tab and line feed


def plain(text: str) -> str:
    """A text without what a terminal obeys: names come from files and servers of others."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def console(machine: bool = False) -> Console:
    """Where people read: standard output, or standard error when that of `machine` is for JSON."""
    found = Console(stderr=machine)
    return found if watched(found) else Console(stderr=machine, width=WIDTH, force_terminal=False)


def watched(screen: Console) -> bool:
    """Whether bars make sense: a terminal that can move its cursor."""
    return screen.file.isatty() and not screen.is_dumb_terminal


def bars(screen: Console) -> Progress:
    """Progress bars, invisible where nobody watches; see `say`."""
    return Progress(
        progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
        progress.BarColumn(bar_width=20),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left", style="dim"),
        progress.TimeRemainingColumn(),
        console=screen,
        disable=not watched(screen),
        expand=True,
        transient=True,
        speed_estimate_period=120,  # one data set may take minutes, and the next sort of table has another speed
    )


def say(bars: Progress, text: str) -> None:
    """A plain line where there are no bars."""
    if bars.disable:
        bars.console.print(f"  {text}", highlight=False, markup=False)


@contextmanager
def waiting(screen: Console, text: str, told: Path | None = None) -> Iterator[None]:
    """Something of unknown length: a spinner with the time so far, where somebody watches.

    What is written into the file `told` meanwhile, line by line, is shown behind the text; or in lines, where nobody does.
    """
    words = progress.TextColumn("{task.description}", markup=False)
    columns = (progress.SpinnerColumn(), words, progress.TimeElapsedColumn())
    with Progress(*columns, console=screen, disable=not watched(screen), transient=True) as bar:
        task, done = bar.add_task(text, total=None), Event()

        def follow() -> None:
            """Show every line of a file that grows, until it is done, and those of the end too."""
            seen, over = 0, told is None
            while not over:
                over = done.wait(EVERY)
                lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
                for line in lines[seen:]:
                    bar.update(task, description=plain(f"{text}: {line}"))
                    say(bar, plain(line))
                seen = len(lines)

        follower = Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join()


ONWARD = "give the same command again: it goes on from there."


@contextmanager
def stoppable(
    kept: Callable[[], str] = lambda: "What was finished is kept", next_step: str = ONWARD
) -> Iterator[None]:
    """Ctrl-C ends a run like an error, in a paragraph: what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        wanted, done = "the run to go on to its end", f"{kept()}; what was under way was dropped."
        raise SteerkitError(wanted, "Ctrl-C", done=done, next_step=next_step) from interrupt


def link(path: Path, text: str = "") -> Text:
    """A path that a terminal opens by a click; shown is the shortest text that finds it from here."""
    path, here = path.resolve(), Path.cwd()
    shown = text or str(path.relative_to(here) if path.is_relative_to(here) else path)
    return Text(shown, style=f"link file://{quote(str(path))}", overflow="fold")


def duration(seconds: float) -> str:
    """A time as people say it: 3.4 s, 12 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_rows(rows: Sequence[dict], as_json: bool, columns: Sequence[str], title: str = "") -> None:
    """Rows as a table of the named columns, or all of them as JSON."""
    if as_json:
        print_json(rows)
        return
    lines = any(len(str(row[c])) > LONG for row in rows for c in columns)
    table = Table(*columns, title=title or None, title_justify="left", show_lines=lines)
    for row in rows:
        cells = ("" if row[c] is None else row[c] for c in columns)
        table.add_row(*(each if isinstance(each, Text) else _whole(each) for each in cells))
    console().print(table)


def _whole(cell: Any) -> Text:
    """A cell that is folded where it is too long, also within a word: some languages have no spaces."""
    shown = f"{cell:.4g}" if isinstance(cell, float) else str(cell)  # all digits are in --json
    return Text(plain(shown), overflow="fold")


def tell(as_json: bool, text: str, value: Any) -> None:
    """A text for people, or a value for machines."""
    print_json(value) if as_json else typer.echo(plain(text))


def print_json(value: Any) -> None:
    """One JSON value on standard output; NaN and infinity, which JSON lacks, are null, and what it does not know is text."""
    lax = json.dumps(value, default=lambda odd: odd.item() if hasattr(odd, "item") else str(odd))
    typer.echo(json.dumps(json.loads(lax, parse_constant=lambda _: None), indent=1))
