"""The commands that tell what is there and what it is worth; `companion.cli.program` puts them on the command line."""

from __future__ import annotations

import csv
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from companion.cli import completion
from companion.cli.options import JsonFlag, ProfileOption, print_json, print_rows
from steerkit.errors import SteerkitError

if TYPE_CHECKING:
    from companion.exhibits import Exhibit

VERDICTS = ("statement", "answer_format", "published", "ours", "verdict")


def list_exhibits(as_json: JsonFlag = False) -> None:
    """Every figure and table: id, number, title, notebook, last run into the book and its verdicts."""
    from companion.cli import screen
    from companion.exhibits import EXHIBITS

    verdicts = _verdicts()
    rows = [_row(exhibit, verdicts) for exhibit in EXHIBITS.values()]
    if as_json:
        print_json(rows)
        return
    for row, exhibit in zip(rows, EXHIBITS.values(), strict=True):
        open_first = exhibit.executed if exhibit.executed.exists() else exhibit.notebook
        row["id"] = screen.link(row["page"] or open_first, exhibit.id)
        row["last run"] = f"{row['profile']}, {_ago(row['finished'])}" if row["finished"] else "not yet"
        row["claims"] = ", ".join(f"{count} {verdict}" for verdict, count in row["claims"].items())
    print_rows(rows, False, ("id", "number", "title", "last run", "claims"))


def _row(exhibit: Exhibit, verdicts: dict[str, Counter[str]]) -> dict[str, Any]:
    from companion.exhibits import ROOT, page_of
    from companion.reproduce import last_run

    last = last_run(exhibit) or {}
    return {
        "id": exhibit.id,
        "paper": exhibit.paper,
        "number": exhibit.number,
        "title": exhibit.title,
        "notebook": str(exhibit.notebook.relative_to(ROOT)),
        "profile": last.get("parameters", {}).get("profile"),
        "finished": last.get("finished"),
        "seconds": last.get("seconds"),
        "claims": dict(verdicts.get(exhibit.id, {})),
        "page": page_of(exhibit, ROOT / "_build" / "html"),
    }


def _verdicts() -> dict[str, Counter[str]]:
    """How the claims about each exhibit were judged when the book's tables of claims were last made."""
    from companion.exhibits import EXECUTED

    found: dict[str, Counter[str]] = {}
    for path in sorted(EXECUTED.glob("*-claims-claims.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["exhibit"], Counter())[row["verdict"]] += 1
    return found


def _ago(finished: float) -> str:
    from companion.cli.screen import duration

    return f"{duration(max(0.0, time.time() - finished))} ago"


def verify(profile: ProfileOption = "laptop", as_json: JsonFlag = False) -> None:
    """The papers' claims: published value, ours, rule, verdict. Computes the tables that are missing."""
    from companion import claims, claims_mayne, saes
    from companion.cli import progress, screen
    from companion.page import BOOK_FORMATS
    from companion.profiles import load_profile

    settings, watcher = load_profile(profile), screen.console(machine=True)
    report = progress.Report(profile)
    progress.compute(settings, {"sweep", "grid"}, BOOK_FORMATS, watcher, report)
    parts = [(f"Tan et al. 2024, {form}", claims.table, form) for form in BOOK_FORMATS]
    if saes.has_default(settings.model):
        parts.append(("Mayne et al. 2024", claims_mayne.table, "statement"))
    rows: list[dict[str, Any]] = []
    with screen.stoppable(report.kept):
        for title, judge, form in parts:  # each part is shown as soon as it is there
            with screen.waiting(watcher, f"judging: {title}"):
                rows += (found := judge(settings, (form,)).to_dict("records"))
            if not as_json:
                print_rows(found, False, VERDICTS, title)
    if as_json:
        print_json(rows)


def formats(profile: ProfileOption = "laptop", as_json: JsonFlag = False) -> None:
    """Concept or format: what was expected before the run, and what was found."""
    from companion import page as notebook
    from companion.tan import formats as concepts
    from steerkit.formats import FORMATS

    run = notebook.start("ext-formats", profile)
    runs = run.by_format("", "grid", FORMATS)
    table = concepts.effects(runs)
    seconds = notebook.seconds_by_model(notebook.manifests_of(runs))
    rows = concepts.headline(table, concepts.agreement(table), seconds).to_dict("records")
    print_rows(rows, as_json, ("measure", "expected", "found", "met"))


def audit(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            help="Records, profile/stage-format; default: all.", autocompletion=completion.records
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the choice of cells; default: another one each time.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute random cells of the committed records again and compare."""
    import numpy as np

    from companion.cli import screen
    from companion.profiles import load_profile
    from companion.tan import records

    if not records.available():
        raise SteerkitError(
            "records to audit", "none", next_step="make one with `steerkit record laptop-full`."
        )
    wanted, watcher = name or records.available(), screen.console(machine=True)
    for one in wanted:
        one_of("a record", one, records.available())
    rng, rows, obstacles = np.random.default_rng(seed), [], {}
    for number, one in enumerate(wanted, 1):
        profile, _, table = one.partition("/")
        stage, _, form = table.partition("-")
        with screen.waiting(watcher, f"record {number} of {len(wanted)}, {one}"):
            try:
                rows.append(records.audit(load_profile(profile), stage, form, rng))
            except (
                SteerkitError
            ) as error:  # data that cannot be fetched here, say: the others are worth their time
                obstacles[one] = error
    if rows:
        print_rows(rows, as_json, ("record", "dataset", "cells", "difference", "tolerance", "agrees"))
    if obstacles:
        raise _not_audited(obstacles, len(wanted))
    if not all(row["agrees"] for row in rows):
        raise typer.Exit(1)


def _not_audited(obstacles: dict[str, SteerkitError], wanted: int) -> SteerkitError:
    """The first obstacle as it is when nothing else was wanted, else one error that names all records without a result."""
    first = next(iter(obstacles.values()))
    if wanted == 1:
        return first
    return SteerkitError(
        f"all {wanted} records to be computed again in part",
        f"no way to do that for {', '.join(obstacles)}: {first.found}",
        done="The others are in the table." if len(obstacles) < wanted else "Nothing was written.",
        next_step=first.next_step,
    )


def doctor(as_json: JsonFlag = False) -> None:
    """Versions, devices, caches, what is reachable, what to do next."""
    from companion.cli.doctor import examine

    print_rows(examine(), as_json, ("what", "found", "next"))


def one_of(what: str, value: str, known: list[str] | tuple[str, ...]) -> None:
    """Raise unless `value` is a known one."""
    if value not in known:
        raise SteerkitError(what, repr(value), next_step=f"choose one of {', '.join(known) or 'none yet'}.")
