"""The command line. Heavy imports happen inside the commands, so that `steerkit --help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from steerkit import cli_own
from steerkit.cli_options import JsonFlag, ProfileOption, print_rows
from steerkit.errors import SteerkitError

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Steering vectors: reproduce two papers, or run their protocols on your own model and data.",
)

packs_app = typer.Typer(help="Move finished tables and vectors to another machine.", no_args_is_help=True)
app.add_typer(packs_app, name="artifacts")


@app.command("list")
def list_exhibits(as_json: JsonFlag = False) -> None:
    """Every figure and table: id, number, title, notebook, last run."""
    from steerkit.exhibits import EXHIBITS, ROOT
    from steerkit.reproduce import last_run

    rows = []
    for exhibit in EXHIBITS.values():
        last = last_run(exhibit) or {}
        rows.append(
            {
                "id": exhibit.id,
                "paper": exhibit.paper,
                "number": exhibit.number,
                "title": exhibit.title,
                "notebook": str(exhibit.notebook.relative_to(ROOT)),
                "profile": last.get("parameters", {}).get("profile"),
                "finished": last.get("finished"),
            }
        )
    print_rows(rows, as_json, ("id", "number", "title", "profile"))


@app.command()
def run(
    exhibit: Annotated[str, typer.Argument(help="An id of `steerkit list`.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value, as often as needed.")] = None,
    profile: Annotated[str | None, typer.Option(help="The same as -p profile=...")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the executed notebook and its files.")] = None,
) -> None:
    """Execute one notebook with new parameters."""
    from steerkit import exhibits
    from steerkit.parameters import parse_assignments
    from steerkit.reproduce import run_notebook

    chosen = exhibits.exhibit(exhibit)
    given: dict[str, Any] = parse_assignments(parameter or [])
    if profile:
        given["profile"] = profile
    folder = out or Path("out") / exhibit
    outcome = run_notebook(chosen, given, folder.resolve() / f"{exhibit}.ipynb", force=True)
    if outcome.status == "failed":
        raise typer.Exit(_complain(outcome.error))
    for path in sorted(folder.glob(f"{exhibit}*")):
        typer.echo(path)


@app.command()
def reproduce(
    profile: ProfileOption = "laptop",
    only: Annotated[list[str] | None, typer.Option(help="Ids or patterns such as 'tan-fig-*'.")] = None,
    force: Annotated[bool, typer.Option(help="Run notebooks that are up to date as well.")] = False,
    book: Annotated[bool, typer.Option(help="Build the book afterwards.")] = True,
) -> None:
    """Compute all tables, execute all notebooks, build the book. Goes on where a killed run stopped."""
    from steerkit import exhibits
    from steerkit.profiles import PUBLISHED
    from steerkit.progress import reproduce_all

    outcomes = reproduce_all(profile, exhibits.matching(only), force)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise typer.Exit(_complain("\n".join(f"{outcome.exhibit}: {outcome.error}" for outcome in failed)))
    if book and not only and profile != PUBLISHED:
        from steerkit.book import build

        typer.echo(f"The book: {build()}")


@app.command()
def record(
    profile: Annotated[str, typer.Argument(help="The profile to run in full, such as laptop-full.")],
    stage: Annotated[str, typer.Option(help="grid (one prompt setting) or shift (all of them).")] = "grid",
    answer_format: Annotated[
        list[str] | None, typer.Option("--format", help="As often as needed; default: all three.")
    ] = None,
) -> None:
    """Run a long profile and keep its tables under records/. Goes on where a killed run stopped."""
    from steerkit.experiment import check_format
    from steerkit.profiles import load_profile
    from steerkit.progress import record_all

    formats = answer_format or ["statement", "letter", "yes-no"]
    for form in formats:
        check_format(form)
    _one_of("a stage", stage, ("grid", "shift"))
    record_all(load_profile(profile), stage, formats)


@app.command()
def audit(
    name: Annotated[
        list[str] | None, typer.Argument(help="Records, profile/stage-format; default: all.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the choice of cells; default: another one each time.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute random cells of the committed records again and compare."""
    import numpy as np

    from steerkit import records
    from steerkit.profiles import load_profile

    if not records.available():
        raise SteerkitError(
            "records to audit", "none", next_step="make one with `steerkit record laptop-full`."
        )
    rng = np.random.default_rng(seed)
    rows = []
    for one in name or records.available():
        _one_of("a record", one, records.available())
        profile, _, table = one.partition("/")
        stage, _, form = table.partition("-")
        rows.append(records.audit(load_profile(profile), stage, form, rng))
    print_rows(rows, as_json, ("record", "dataset", "cells", "difference", "tolerance", "agrees"))
    if not all(row["agrees"] for row in rows):
        raise typer.Exit(1)


@app.command()
def formats(profile: ProfileOption = "laptop", as_json: JsonFlag = False) -> None:
    """Concept or format: what was expected before the run, and what was found."""
    from steerkit import concepts, notebook
    from steerkit.prompts import FORMATS

    run = notebook.start("ext-formats", profile)
    runs = run.by_format("", "grid", FORMATS)
    table = concepts.effects(runs)
    seconds = notebook.seconds_by_model(notebook.manifests_of(runs))
    rows = concepts.headline(table, concepts.agreement(table), seconds).to_dict("records")
    print_rows(rows, as_json, ("measure", "expected", "found", "met"))


@packs_app.command("pack")
def pack_artifacts(
    out: Annotated[Path, typer.Argument(help="The file to write, such as llama2-7b.tar.")],
    model: Annotated[str | None, typer.Option(help="Only tables and vectors of this model.")] = None,
) -> None:
    """Put finished tables and vectors into one file."""
    from steerkit.packs import pack

    typer.echo(f"{out}: {len(pack(out, model))} artefacts")


@packs_app.command("unpack")
def unpack_artifacts(source: Annotated[Path, typer.Argument(help="A file of `artifacts pack`.")]) -> None:
    """Add the tables and vectors of a pack to those of this machine, after checking them."""
    from steerkit.packs import unpack

    typer.echo(f"{len(unpack(source))} new artefacts from {source}")


for command in (cli_own.extract, cli_own.sweep, cli_own.ledger, cli_own.decompose):
    app.command()(command)


@app.command()
def verify(profile: ProfileOption = "laptop", as_json: JsonFlag = False) -> None:
    """The papers' claims: published value, ours, rule, verdict."""
    from steerkit import claims, claims_mayne, sae_registry
    from steerkit.notebook import BOOK_FORMATS
    from steerkit.profiles import load_profile

    settings = load_profile(profile)
    rows = claims.table(settings, BOOK_FORMATS).to_dict("records")
    if sae_registry.has_default(settings.model):
        rows += claims_mayne.table(settings).to_dict("records")
    print_rows(rows, as_json, ("statement", "answer_format", "published", "ours", "verdict"))


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Versions, devices, caches, what is reachable, what to do next."""
    from steerkit.doctor import examine

    print_rows(examine(), as_json, ("what", "found", "next"))


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SteerkitError(what, repr(value), next_step=f"choose one of {', '.join(known) or 'none yet'}.")


def _complain(message: str) -> int:
    typer.secho(message, err=True, fg="red")
    return 1


def main() -> None:
    """Entry point: one paragraph for an expected error, a traceback only with STEERKIT_DEBUG=1."""
    try:
        app()
    except SteerkitError as error:
        if os.environ.get("STEERKIT_DEBUG"):
            raise
        sys.exit(_complain(str(error)))


if __name__ == "__main__":
    main()
