"""The command line. Heavy imports happen inside the commands, so that `steerkit --help` answers at once."""

import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import typer
from rich.filesize import decimal as size
from typer.core import TyperGroup

import steerkit
from companion import exhibits
from companion.cli import options as opt
from companion.cli import own, screen
from companion.cli.doctor import examine
from companion.cli.faults import complain, debug, unexpected
from companion.cli.given import check_given
from companion.cli.outputs import check_notebook, check_output
from companion.cli.screen import print_json, print_rows, tell
from companion.packs import pack, unpack
from companion.places import at_home, at_work, need_clone
from companion.profiles import PUBLISHED, load_profile
from companion.reproduce import run_notebook
from companion.store import telling
from steerkit.errors import SteerkitError, need, one_of
from steerkit.formats import FORMATS
from steerkit.ndif.address import server

HELP = "Steering vectors: reproduce two papers, or run their protocols on your own model and data."
DEBUG = "After an error show its traceback, in any place (or STEERKIT_DEBUG=1)."
VERSION = "Show the version, and that of the libraries that decide numbers."
STAGE = "One prompt setting (grid), all of them (shift), what the vector is set against (placebo), over prompt settings too (unlabelled), several authors, all pairs in products, a shift of tokens (unigram), or what items gain that were trained on (leak)."
STOPPED = 130  # exit code after Ctrl-C, as shells have it
VERDICTS = ("statement", "model", "published", "ours", "false_effect", "false_most", "verdict")
PLANNED = ("stage", "format", "tables", "prompts", "token_passes", "operations")
TRAFFIC = ("requests", "sent", "received")

ANEW = screen.stoppable(lambda: "Nothing was written", "give the same command again: it begins anew.")


class Commands(TyperGroup):
    """Ctrl-C is a sentence in every command; those that know more of what is kept say it."""

    def invoke(self, context: typer.Context) -> Any:
        """Run a command."""
        with screen.stoppable(next_step="give the same command again."):
            return super().invoke(context)


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
packs_app = typer.Typer(help="Move finished tables and vectors to another machine.", no_args_is_help=True)
app.add_typer(packs_app, name="artifacts")


@app.callback(help=HELP, invoke_without_command=True)
def _everywhere(
    debug: opt.option(bool, DEBUG, "--debug") = False, version: opt.option(bool, VERSION, "--version") = False
) -> None:
    """`main` takes --debug from wherever it stands on the line; here it is for the help."""
    if version:
        from companion.store import versions

        typer.echo(" ".join(["steerkit", steerkit.__version__, *map(" ".join, versions().items())]))
        raise typer.Exit


@app.command("list")
def list_exhibits(as_json: opt.Json = False) -> None:
    """Every figure and table: id, number, title, notebook, last run into the book and its verdicts."""
    from companion.results import overview

    rows = overview()
    for row, exhibit in zip(rows, exhibits.EXHIBITS.values(), strict=True) if not as_json else ():
        open_first = exhibit.executed if exhibit.executed.exists() else exhibit.notebook
        row["id"] = screen.link(row["page"] or open_first, exhibit.id)
        ago = screen.duration(max(0.0, time.time() - (row["finished"] or 0)))
        row["last run"] = f"{row['profile']}, {ago} ago" if row["finished"] else "not yet"
        row["claims"] = ", ".join(f"{count} {verdict}" for verdict, count in row["claims"].items())
    print_rows(rows, as_json, ("id", "number", "title", "last run", "claims"))


@app.command()
def run(
    exhibit: opt.Exhibit,
    parameter: opt.Parameters = None,
    profile: opt.SameProfile = None,
    out: opt.option(Path | None, "Folder for the executed notebook and its files.") = None,
    force: opt.Force = False,
    remote: opt.Remote = "",
    as_json: opt.Json = False,
) -> None:
    """Execute one notebook with new parameters."""
    chosen = exhibits.exhibit(exhibit)
    given = exhibits.parse_assignments(parameter or []) | ({"profile": profile} if profile else {})
    check_given(chosen, given)
    folder = out or Path("out") / exhibit
    free = folder.is_dir() or not folder.exists()
    need(free, f"a folder at {folder}", "a file", "choose another one as --out.")
    check_notebook(folder, chosen, force)
    before, watcher = _stamps(folder, exhibit), screen.console(machine=True)
    with screen.stoppable(), telling() as told, screen.waiting(watcher, f"{exhibit} runs", told):
        outcome = run_notebook(chosen, given, folder.resolve() / f"{exhibit}.ipynb", force=True)
    if outcome.status == "failed":
        raise typer.Exit(complain(outcome.error, [outcome]))
    files = [path for path, stamp in _stamps(folder, exhibit).items() if before.get(path) != stamp]
    tell(as_json, "\n".join(map(str, files)), outcome.__dict__ | {"files": files})


def _stamps(folder: Path, exhibit: str) -> dict[Path, tuple[int, int]]:
    """Files of an exhibit in a folder, each with what changes when it is replaced: an earlier run's are not this one's."""
    seen = {path: path.stat() for path in sorted(folder.glob(f"{exhibit}*"))}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in seen.items()}


@app.command()
def reproduce(
    profile: opt.Profile = "laptop",
    only: opt.Only = None,
    force: opt.option(bool, "Run notebooks that are up to date as well.") = False,
    book: opt.option(bool, "Build the book afterwards.") = True,
    remote: opt.Remote = "",
    as_json: opt.Json = False,
) -> None:
    """Compute all tables, execute all notebooks, build the book. Goes on where a killed run stopped."""
    from companion import results
    from companion.cli.progress import reproduce_all

    whole = book and not only and profile != PUBLISHED
    if whole:
        need_clone("the text of the book (or give --no-book)")
        results.claim(profile)  # other profiles have folders of their own and are further tabs
    report = reproduce_all(profile, exhibits.matching(only), force, whole, as_json)
    if as_json:
        print_json(report.record())
    if report.failed:
        text = "\n".join(f"{one.exhibit}: {one.error}" for one in report.failed)
        raise typer.Exit(complain(text, report.failed))


@app.command()
def record(
    profile: opt.LongProfile,
    stage: opt.option(
        Literal["grid", "shift", "placebo", "sweep", "unlabelled", "authors", "products", "unigram", "leak"],
        STAGE,
    ) = "grid",
    answer_format: opt.AllFormats = None,
    as_json: opt.Json = False,
) -> None:
    """Run a long profile and keep its tables under records/. Goes on where a killed run stopped."""
    from companion.cli.progress import record_all
    from companion.tan.jobs import STAGES

    need_clone("records that are committed")
    only = STAGES[stage].form
    asked = _formats(answer_format, (only,) if only else FORMATS)
    paths = record_all(load_profile(profile), stage, asked, as_json)
    if as_json:
        print_json({"profile": profile, "stage": stage, "records": paths})


def _formats(given: list[str] | None, default: Any) -> list[str]:
    for form in given or ():
        one_of("an answer format", form, FORMATS)
    return given or list(default)


for command in (own.extract, own.sweep, own.screen, own.ledger, own.decompose, own.generate):
    app.command()(ANEW(command))


@app.command()
def verify(profile: opt.Profile = "laptop", as_json: opt.Json = False) -> None:
    """The papers' claims: published value, ours, verdict, and how often a false claim would pass. Computes what is missing."""
    from companion import claims, claims_mayne, saes
    from companion.cli import progress

    settings, watcher = load_profile(profile), screen.console(machine=True)
    report = progress.Report(profile)
    progress.compute(settings, {"sweep", "grid", "placebo"}, watcher, report)
    parts = [("Tan et al. 2024", claims.table)]
    if saes.has_default(settings.model):
        parts.append(("Mayne et al. 2024", claims_mayne.table))
    rows: list[dict[str, Any]] = []
    with screen.stoppable(report.kept):
        for title, judge in parts:  # each paper is shown as soon as it is there
            with screen.waiting(watcher, f"judging: {title}"):
                table = judge(settings).astype(object)
            for form, found in table.where(table.notna(), None).groupby("answer_format", sort=False):
                rows += found.to_dict("records")
                if not as_json:
                    print_rows(found.to_dict("records"), False, VERDICTS, f"{title}, {form}")
    if as_json:
        print_json(rows)


@app.command()
def formats(profile: opt.Profile = "laptop", as_json: opt.Json = False) -> None:
    """Concept or format: what was expected before the run, and what was found."""
    from companion import page
    from companion.tan.formats import agreement, effects, fullest, headline

    runs = fullest(page.start("ext-formats", profile).by_format("", "grid", ",".join(FORMATS)))
    table = effects(runs)
    seconds = page.seconds_by_model(page.manifests_of(runs))
    rows = headline(table, agreement(table), seconds).to_dict("records")
    print_rows(rows, as_json, ("measure", "expected", "found", "met"))


@app.command()
def audit(name: opt.Records = None, seed: opt.ChoiceSeed = None, as_json: opt.Json = False) -> None:
    """Compute random cells of the committed records again and compare."""
    import numpy as np

    from companion.tan import records

    known = records.available()
    need(bool(known), "records to audit", "none", "make one with `steerkit record laptop-full`.")
    wanted, watcher = name or known, screen.console(machine=True)
    for one in wanted:
        need(one in known, "a record", repr(one), f"choose one of {', '.join(known)}.")
    rng, rows, obstacles = np.random.default_rng(seed), [], {}
    for number, one in enumerate(wanted, 1):
        profile, _, table = one.partition("/")
        stage, _, form = table.partition("-")
        with screen.waiting(watcher, f"record {number} of {len(wanted)}, {one}"):
            try:
                rows.append(records.audit(load_profile(profile), stage, form, rng))
            except SteerkitError as error:  # no data, say: the others are worth their time
                if len(wanted) == 1:
                    raise
                obstacles[one] = error
    if rows:
        print_rows(rows, as_json, ("record", "dataset", "cells", "difference", "tolerance", "agrees"))
    for first in obstacles.values():
        expected = f"all {len(wanted)} records to be computed again in part"
        found = f"no way to do that for {', '.join(obstacles)}: {first.found}"
        done = "The others are in the table." if rows else "Nothing was written."
        raise SteerkitError(expected, found, done=done, next_step=first.next_step)
    if not all(row["agrees"] for row in rows):
        raise typer.Exit(1)


@app.command()
def doctor(as_json: opt.Json = False) -> None:
    """Versions, devices, caches, what is reachable, what to do next."""
    print_rows(examine(), as_json, ("what", "found", "next"))


@app.command()
def book(pdf: opt.option(bool, "Print the whole book as one PDF as well.", "--pdf") = False) -> None:
    """Compile the site from the notebooks that have been run."""
    from companion.cli.progress import compiled

    made = compiled(pdf)
    typer.echo(f"The book: {made['site']}")
    if pdf:
        typer.echo(f"As a PDF: {made['pdf']}")


@app.command()
def plan(
    profile: opt.Profile = "laptop",
    answer_format: opt.OwnFormats = None,
    remote: opt.option(bool, "For a server that holds the model.", "--remote") = False,
    hours: opt.option(float | None, "Fit into so many: fewer items, and what that leaves out.") = None,
    as_json: opt.Json = False,
) -> None:
    """Prompts, token-passes, requests, bytes, memory and hours of a profile, before anything starts."""
    from companion import cost

    need(hours is None or 0 < hours < math.inf, "a number of hours", str(hours), "give more than 0.")
    settings = load_profile(profile)
    formats = _formats(answer_format, settings.formats)
    found = cost.plan(settings, formats, remote or server(profile=settings.remote) is not None, hours)
    if as_json:
        print_json(found)
    elif not found["rows"]:
        typer.echo(f"Nothing to compute: all tables of {profile} are there.")
    else:
        rows = [*found["rows"], {"stage": "all", "format": ""} | found["total"]]
        print_rows([_readable(row) for row in rows], False, (*PLANNED, *(TRAFFIC if found["remote"] else ())))
        where, hours = "on the server" if found["remote"] else "here", found["hours"]
        took = "" if hours is None else f"{hours:.1f}, " if hours >= 0.1 else "under 0.1, "
        weights = f"{size(found['weights_bytes'])} of it weights ({found['dtype']})"
        typer.echo(f"{found['model']}: {size(found['memory_bytes'])} of memory {where}, {weights}.")
        typer.echo("\n".join([f"Hours {where}: {took}{found['hours_from']}.", *found["notes"]]))


def _readable(row: dict[str, Any]) -> dict[str, str]:
    """Counts, operations and bytes as people read them."""
    counts = {name: f"{row[name]:,}" for name in ("tables", "prompts", "token_passes", "requests")}
    sizes = {name: size(row[f"{name}_bytes"]) for name in ("sent", "received")}
    return row | counts | sizes | {"operations": f"{row['operations']:.1e}"}


@packs_app.command("pack")
def pack_artifacts(
    out: opt.argument(Path, "The file to write, such as llama2-7b.tar."),
    model: opt.OfModel = None,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Put finished tables and vectors into one file."""
    check_output(out, ".tar", force=force)
    names = pack(out, model)
    tell(as_json, f"{out}: {len(names)} artefacts", {"file": out, "artefacts": names})


@packs_app.command("unpack")
def unpack_artifacts(
    source: opt.argument(Path, "A file of `artifacts pack`."), as_json: opt.Json = False
) -> None:
    """Add the tables and vectors of a pack to those of this machine, after checking them."""
    names = unpack(source)
    tell(as_json, f"{len(names)} new artefacts from {source}", {"file": source, "artefacts": names})


def main() -> None:
    """Entry point: one paragraph for an error, a traceback only with --debug or STEERKIT_DEBUG=1."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # Before torch is there, and for kernels: where other programs are busy too, threads that spin while they wait for
    # each other cost a factor of six.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = lambda message, *_, **__: typer.secho(screen.plain(str(message)), err=True)
    try:
        at_home()
        at_work()
        app(arguments, prog_name="steerkit")
    except SteerkitError as error:
        if debug():
            raise
        code = complain(str(error))
        sys.exit(STOPPED if isinstance(error.__cause__, KeyboardInterrupt) else code)
    except Exception as error:
        if debug():
            raise
        sys.exit(complain(unexpected(error)))
