"""What a person sees while `steerkit reproduce` works: what is left, how long it will take, what came of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from companion.cli import screen
from companion.cli.outputs import check_folder
from companion.exhibits import EXHIBITS, Exhibit, page_of
from companion.places import BOOK, need_clone
from companion.profiles import PUBLISHED, Settings, load_profile
from companion.reproduce import Outcome, compute_tables, last_run, run_notebooks, up_to_date
from companion.results import place
from companion.tan import experiment, records
from companion.tan.jobs import Stage
from steerkit.errors import SteerkitError, need


@dataclass
class Report:
    """What a run has done so far; `seconds` by part (tables, notebooks, book)."""

    profile: str
    tables: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    book: Path | None = None

    @property
    def failed(self) -> list[Outcome]:
        """Notebooks that did not run to their end."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def said(self) -> str:
        """The whole run in a line."""
        statuses = [outcome.status for outcome in self.outcomes]
        known = [word for word in ("done", "up to date", "failed") if word in statuses]
        counts = ", ".join(f"{statuses.count(word)} {word}" for word in known)
        tables = f"{self.tables} computed" if self.tables else "nothing to compute"
        return f"Tables: {tables}. Notebooks: {counts or 'none'}. Took {screen.duration(sum(self.seconds.values()))}."

    def kept(self) -> str:
        """What a run that is stopped now leaves."""
        done = sum(outcome.status == "done" for outcome in self.outcomes)
        return f"Kept are {self.tables} new tables and {done} new notebooks"

    def record(self) -> dict[str, Any]:
        """The whole run for a machine."""
        about = {"profile": self.profile, "tables": self.tables, "notebooks": self.rows()}
        return about | {"book": self.book, "seconds": self.seconds}

    def rows(self) -> list[dict[str, Any]]:
        """One row a notebook, with the files a reader opens next."""
        rows = []
        for outcome in self.outcomes:
            chosen = EXHIBITS[outcome.exhibit]
            notebook, page = place(chosen, self.profile), self.book and page_of(chosen, self.book.parent)
            files = {"notebook": notebook if notebook.exists() else None, "page": page}
            rows.append(outcome.__dict__ | files)
        return rows


def reproduce_all(
    profile: str, exhibits: Sequence[Exhibit], force: bool, book: bool = False, machine: bool = False
) -> Report:
    """Tables first, then notebooks, then the book; quiet lines instead of bars when nobody watches."""
    console, settings, report = screen.console(machine), load_profile(profile), Report(profile)
    computed = [exhibit for exhibit in exhibits if not records.stands_in(exhibit.id, settings)]
    if profile == PUBLISHED:  # nothing is computed, and not every exhibit has digitised numbers
        exhibits, computed = [exhibit for exhibit in exhibits if exhibit.published], []
    stages = {stage for exhibit in computed for stage in exhibit.needs}
    for folder in {place(exhibit, profile).parent for exhibit in exhibits}:
        check_folder(folder)
    with screen.stoppable(report.kept):
        with screen.bars(console) as bars:
            tables = bars.add_task("tables", total=None, start=False)
            bar = bars.add_task("notebooks", total=len(exhibits), start=False)
            bars.console.print(_outlook(exhibits, profile, force), highlight=False)
            with _timed(report, "tables"):
                _tables(bars, tables, settings, stages, report)
            with _timed(report, "notebooks"):
                _notebooks(bars, bar, exhibits, report, force)
        if book and not report.failed:
            screen.say(bars, "the book")
            with _timed(report, "book"), screen.waiting(console, "the book: Jupyter Book compiles the pages"):
                report.book = Path(compiled()["site"])
    if not machine:
        show(console, report)
    return report


def _notebooks(bars: Progress, bar: TaskID, exhibits: Sequence[Exhibit], report: Report, force: bool) -> None:
    """Run them under a bar; those under way end with this function, whatever ends it."""
    bars.start_task(bar)
    bars.update(bar, description=f"notebook 1 of {len(exhibits)}")
    runs = [(one, {"profile": report.profile}, place(one, report.profile)) for one in exhibits]
    with closing(run_notebooks(runs, force)) as ended:
        for number, outcome in enumerate(ended, 1):
            report.outcomes.append(outcome)
            screen.say(bars, f"{outcome.exhibit}: {outcome.status}, {screen.duration(outcome.seconds)}")
            next_one = min(number + 1, len(exhibits))
            bars.update(bar, advance=1, description=f"notebook {next_one} of {len(exhibits)}")
    asked = [exhibit.id for exhibit in exhibits]
    report.outcomes.sort(key=lambda outcome: asked.index(outcome.exhibit))


def record_all(settings: Settings, stage: Stage, formats: Sequence[str], machine: bool = False) -> list[Path]:
    """Compute what is missing and keep it as records, format by format, so that a killed run has kept some."""
    console, report, paths = screen.console(machine), Report(settings.profile), []
    check_folder(records.path_of(settings.profile, stage, "").parent)
    for form in formats:
        settings = replace(settings, formats=(form,))
        if stage != "sweep":  # which of all data sets chooses the layer
            if experiment.given_layer(settings, form) is None:
                compute(settings, {"sweep"}, console, report)
            settings = replace(settings, layer={**settings.layer, form: experiment.layer_of(settings, form)})
        kept = records.done(settings, stage, form)
        if rest := records.without(settings, stage, kept):
            compute(rest, {stage}, console, report)
            records.write(settings, stage, form, experiment.table(rest, stage, form), kept)
        paths.append(records.path_of(settings.profile, stage, form))
        console.print(screen.link(paths[-1]))
    return paths


def compute(settings: Settings, stages: set, console: Console, report: Report) -> None:
    """Compute missing tables under a bar; after Ctrl-C say what is kept."""
    with screen.stoppable(report.kept), screen.bars(console) as bars:
        _tables(bars, bars.add_task("tables", total=None, start=False), settings, stages, report)


def compiled(pdf: bool = False) -> dict[str, str]:
    """Run the book's own program, `book/_ext`; paths of the site and, when asked for, the PDF, or its error."""
    need_clone("the text of the book")
    command = [sys.executable, "-m", "_ext", *(["--pdf"] if pdf else [])]
    paths = os.pathsep.join([str(BOOK), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    said = json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}
    if done.returncode and "expected" in said:
        raise SteerkitError(**said)
    found = f"exit code {done.returncode} of {' '.join(command[1:])}"
    kept = "The last good site was not removed."
    need(not done.returncode, "the book to be compiled", found, "read what it printed above.", kept)
    return said


@contextmanager
def _timed(report: Report, part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    report.seconds[part] = time.perf_counter() - start


def _outlook(exhibits: Sequence[Exhibit], profile: str, force: bool) -> str:
    """How many notebooks there are to run and, where that is known, how long they took last time."""
    given = {"profile": profile}
    waiting = [e for e in exhibits if force or not up_to_date(e, given, place(e, profile))]
    known = [last["seconds"] for e in waiting if "seconds" in (last := last_run(e.executed))]
    told = f"; {len(known)} of them took {screen.duration(sum(known))} last time" if known else ""
    return f"{len(exhibits)} notebooks, {len(waiting)} to run{told}."


def _tables(bars: Progress, bar: TaskID, settings: Settings, stages: set[str], report: Report) -> None:
    """One bar in token-passes: the only unit in which sweeps and grids cost the same a step."""
    plan = None
    if stages:
        from companion.cost import cost_of

        plan = cost_of(settings, settings.formats, stages)
    if plan is None:
        bars.remove_task(bar)
        return
    total, hours, before, begun = plan["total"], plan["hours"], report.tables, 0
    took = f"{hours:.1f} hours" if hours > 1.5 else f"{60 * hours:.0f} minutes"
    bars.console.print(
        f"{total['tables']} tables to compute: {total['prompts']:,} test prompts, {total['token_passes']:,} "
        f"token-passes; here at most about {took} and {plan['memory_bytes'] / 1e9:.1f} GB of memory."
    )
    bars.reset(bar, total=total["token_passes"])

    def begin(name: str) -> Callable[[int], None]:
        nonlocal begun
        report.tables = before + begun  # those before this one are written
        begun += 1
        bars.update(bar, description=f"table {begun} of {total['tables']}, {name}")
        share = bars.tasks[bars.task_ids.index(bar)].percentage
        screen.say(bars, f"{share:3.0f} %  {name}")
        return lambda tokens: bars.advance(bar, tokens)

    report.tables = before + compute_tables(settings, settings.formats, stages, begin)
    bars.update(bar, description="tables", completed=total["token_passes"])


def show(console: Console, report: Report) -> None:
    """The final table: what became of each notebook, how long it took, what to open."""
    table = Table("exhibit", "status", "seconds", "open")
    for row in report.rows():
        path, seconds = row["page"] or row["notebook"], f"{row['seconds']:.1f}"
        table.add_row(row["exhibit"], row["status"], seconds, screen.link(path) if path else "")
    console.print(table)
    console.print(report.said(), highlight=False)
    if report.book:
        console.print("The book:", screen.link(report.book))
