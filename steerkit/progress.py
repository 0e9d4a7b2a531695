"""What a person sees while `steerkit reproduce` works: what is left, how long it will take, what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from steerkit import experiment, records
from steerkit.exhibits import Exhibit
from steerkit.jobs import Stage
from steerkit.notebook import BOOK_FORMATS
from steerkit.profiles import PUBLISHED, Settings, load_profile
from steerkit.reproduce import Outcome, compute_tables, run_notebook


def reproduce_all(profile: str, exhibits: Sequence[Exhibit], force: bool) -> list[Outcome]:
    """Tables first, then notebooks, then a summary; quiet lines instead of bars when nobody watches."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    settings = load_profile(profile)
    if profile == PUBLISHED:  # nothing is computed, and not every exhibit has digitised numbers
        exhibits = [exhibit for exhibit in exhibits if exhibit.published]
    stages = set() if profile == PUBLISHED else {s for exhibit in exhibits for s in exhibit.stages}
    with _bars(console) as bars:
        _tables(bars, settings, stages, BOOK_FORMATS)
        outcomes = _notebooks(bars, exhibits, profile, force)
    console.print(_summary(outcomes))
    return outcomes


def record_all(settings: Settings, stage: Stage, formats: Sequence[str]) -> list[Path]:
    """Compute what is missing and keep it as records, format by format, so that a killed run has kept some."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    paths = []
    for form in formats:
        chosen = experiment.given_layer(settings, form) is not None
        with _bars(console) as bars:
            _tables(bars, settings, {stage} if chosen else {"sweep", stage}, (form,))
        table = {"grid": experiment.grid, "shift": experiment.shift}[stage](settings, form)
        paths.append(records.write(settings, stage, form, table))
        console.print(str(paths[-1]), highlight=False)
    return paths


def _bars(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _tables(bars: Progress, settings: Settings, stages: set[str], formats: Sequence[str]) -> None:
    """One bar in token-passes: the only unit in which sweeps and grids cost the same a step."""
    from steerkit.cost import cost_of

    if not stages:
        return
    estimate = cost_of(settings, formats, stages)
    if not estimate.token_passes:
        return
    bars.console.print(f"{estimate}")
    bar = bars.add_task("tables", total=estimate.token_passes)

    def begin(name: str) -> Callable[[int], None]:
        bars.update(bar, description=name)
        _say(bars, name)
        return lambda tokens: bars.advance(bar, tokens)

    compute_tables(settings, formats, stages, begin)
    bars.update(bar, description="tables", completed=estimate.token_passes)


def _notebooks(bars: Progress, exhibits: Sequence[Exhibit], profile: str, force: bool) -> list[Outcome]:
    bar = bars.add_task("notebooks", total=len(exhibits))
    outcomes = []
    for exhibit in exhibits:
        bars.update(bar, description=exhibit.id)
        outcomes.append(run_notebook(exhibit, {"profile": profile}, force=force))
        _say(bars, f"{exhibit.id}: {outcomes[-1].status}")
        bars.advance(bar)
    bars.update(bar, description="notebooks")
    return outcomes


def _say(bars: Progress, text: str) -> None:
    """A plain line where there are no bars."""
    if bars.disable:
        bars.console.print(f"  {text}", highlight=False)


def _summary(outcomes: Sequence[Outcome]) -> Table:
    table = Table("exhibit", "status", "seconds")
    for outcome in outcomes:
        table.add_row(outcome.exhibit, outcome.status, f"{outcome.seconds:.1f}")
    return table
