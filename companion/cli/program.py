"""The command line. Heavy imports happen inside the commands, so that `steerkit --help` answers at once."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from companion.cli import completion, own, plan, read
from companion.cli.book import book as book_command
from companion.cli.options import JsonFlag, ProfileOption, RemoteOption, print_json
from companion.cli.read import one_of
from steerkit.errors import SteerkitError

HELP = "Steering vectors: reproduce two papers, or run their protocols on your own model and data."
STOPPED = 130  # exit code after Ctrl-C, as shells have it

app = typer.Typer(
    add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)

packs_app = typer.Typer(help="Move finished tables and vectors to another machine.", no_args_is_help=True)
app.add_typer(packs_app, name="artifacts")


@app.callback(help=HELP)
def _everywhere(
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="After an error show its traceback, in any place (or STEERKIT_DEBUG=1)."
        ),
    ] = False,
) -> None:
    """Only for the help: `main` takes the option from wherever it stands on the line."""


app.command("list")(read.list_exhibits)


@app.command()
def run(
    exhibit: Annotated[
        str, typer.Argument(help="An id of `steerkit list`.", autocompletion=completion.exhibits)
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", help="name=value, as often as needed.", autocompletion=completion.parameters),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="The same as -p profile=...", autocompletion=completion.profiles)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the executed notebook and its files.")] = None,
    remote: RemoteOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Execute one notebook with new parameters."""
    from companion import exhibits
    from companion.parameters import parse_assignments

    chosen = exhibits.exhibit(exhibit)
    given: dict[str, Any] = parse_assignments(parameter or [])
    if profile:
        given["profile"] = profile
    folder = out or Path("out") / exhibit
    outcome = _run_watched(chosen, given, folder.resolve() / f"{exhibit}.ipynb")
    if outcome.status == "failed":
        raise typer.Exit(_complain(outcome.error))
    files = sorted(folder.glob(f"{exhibit}*"))
    if as_json:
        print_json(outcome.__dict__ | {"files": files})
        return
    for path in files:
        typer.echo(path)


def _run_watched(chosen: Any, given: dict[str, Any], output: Path) -> Any:
    """Run one notebook under a spinner; Ctrl-C is an error in a paragraph."""
    from companion.cli import screen
    from companion.reproduce import run_notebook

    with screen.stoppable(), screen.waiting(screen.console(machine=True), f"{chosen.id} runs"):
        return run_notebook(chosen, given, output, force=True)


@app.command()
def reproduce(
    profile: ProfileOption = "laptop",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Ids or patterns such as 'tan-fig-*'.", autocompletion=completion.exhibits),
    ] = None,
    force: Annotated[bool, typer.Option(help="Run notebooks that are up to date as well.")] = False,
    book: Annotated[bool, typer.Option(help="Build the book afterwards.")] = True,
    remote: RemoteOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Compute all tables, execute all notebooks, build the book. Goes on where a killed run stopped."""
    from companion import exhibits, results
    from companion.cli.progress import reproduce_all
    from companion.profiles import PUBLISHED

    whole = book and not only and profile != PUBLISHED
    if whole:
        results.claim(profile)  # other profiles have folders of their own and are further tabs
    report = reproduce_all(profile, exhibits.matching(only), force, whole, as_json)
    if as_json:
        print_json(report.record())
    if report.failed:
        raise typer.Exit(_complain("\n".join(f"{one.exhibit}: {one.error}" for one in report.failed)))


@app.command()
def record(
    profile: Annotated[
        str,
        typer.Argument(
            help="The profile to run in full, such as laptop-full.", autocompletion=completion.profiles
        ),
    ],
    stage: Annotated[
        str,
        typer.Option(
            help="grid (one prompt setting) or shift (all of them).",
            autocompletion=completion.one_of("grid", "shift"),
        ),
    ] = "grid",
    answer_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="As often as needed; default: all three.", autocompletion=completion.formats
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a long profile and keep its tables under records/. Goes on where a killed run stopped."""
    from companion.cli.progress import record_all
    from companion.profiles import load_profile
    from companion.tan.experiment import check_format
    from steerkit.formats import FORMATS

    formats = answer_format or list(dict.fromkeys(("statement", *FORMATS)))
    for form in formats:
        check_format(form)
    one_of("a stage", stage, ("grid", "shift"))
    paths = record_all(load_profile(profile), stage, formats, as_json)
    if as_json:
        print_json({"profile": profile, "stage": stage, "records": paths})


@packs_app.command("pack")
def pack_artifacts(
    out: Annotated[Path, typer.Argument(help="The file to write, such as llama2-7b.tar.")],
    model: Annotated[
        str | None,
        typer.Option(help="Only tables and vectors of this model.", autocompletion=completion.models),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put finished tables and vectors into one file."""
    from companion.packs import pack

    names = pack(out, model)
    _counted(as_json, f"{out}: {len(names)} artefacts", file=out, artefacts=names)


@packs_app.command("unpack")
def unpack_artifacts(
    source: Annotated[Path, typer.Argument(help="A file of `artifacts pack`.")], as_json: JsonFlag = False
) -> None:
    """Add the tables and vectors of a pack to those of this machine, after checking them."""
    from companion.packs import unpack

    names = unpack(source)
    _counted(as_json, f"{len(names)} new artefacts from {source}", file=source, artefacts=names)


for command in (
    *(own.extract, own.sweep, own.ledger, own.decompose),
    *(read.verify, read.formats, read.audit, read.doctor),
    book_command,
    plan.plan,
):
    app.command()(command)


def _counted(as_json: bool, text: str, **values: Any) -> None:
    print_json(values) if as_json else typer.echo(text)


def _complain(message: str) -> int:
    typer.secho(message, err=True, fg=None if os.environ.get("NO_COLOR") else "red")
    return 1


def _unexpected(error: Exception) -> str:
    """A fault of the program in a paragraph: what, where, and how to see more."""
    package = str(Path(__file__).parents[2])
    ours = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(package)]
    where = f" ({Path(ours[-1].filename).name}, line {ours[-1].lineno})" if ours else ""
    what = " ".join(str(error).split())[:500].rstrip(".")
    return (
        f"A fault that steerkit does not know: {type(error).__name__}: {what}{where}. "
        "Next: give the same command with --debug and report what it prints."
    )


def main() -> None:
    """Entry point: one paragraph for an error, a traceback only with --debug or STEERKIT_DEBUG=1."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1 or os.environ.get("STEERKIT_DEBUG")
    try:
        app(arguments, prog_name="steerkit")
    except SteerkitError as error:
        if debug:
            raise
        stopped = isinstance(error.__cause__, KeyboardInterrupt)
        code = _complain(str(error))
        sys.exit(STOPPED if stopped else code)
    except Exception as error:
        if debug:
            raise
        sys.exit(_complain(_unexpected(error)))
