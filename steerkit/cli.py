"""The command line. Heavy imports happen inside the commands, so that `steerkit --help` answers at once."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

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

ProfileOption = Annotated[str, typer.Option(help="Which dial setting: smoke, laptop, ...")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
ModelOption = Annotated[str, typer.Option(help="A registry name, a hub id, or a folder.")]
DataOption = Annotated[
    str, typer.Option(help="A data set name, or a .jsonl/.json file in the papers' format.")
]
FormatOption = Annotated[str, typer.Option("--format", help="letter, statement or yes-no.")]


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
    _print(rows, as_json, ("id", "number", "title", "profile"))


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
    _print(rows, as_json, ("record", "dataset", "cells", "difference", "tolerance", "agrees"))
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
    _print(rows, as_json, ("measure", "expected", "found", "met"))


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


@app.command()
def extract(
    model: ModelOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    layers: Annotated[str, typer.Option(help="Blocks such as 10,13 or all.")] = "all",
    answer_format: FormatOption = "statement",
    split: Annotated[
        str, typer.Option(help="clean, sweep, as-released, or all (every item trains).")
    ] = "clean",
    source: Annotated[str, typer.Option(help="bundled or papers, for data set names.")] = "bundled",
    seed: int = 0,
) -> None:
    """Make steering vectors from contrastive data and write them with their manifest."""
    from steerkit.own_data import extract_vectors

    found = extract_vectors(model, data, answer_format, layers, split, source, seed)
    found.save(out)
    typer.echo(
        f"{out}: {len(found.names)} vector, layers {found.layers[0]} to {found.layers[-1]}, width {found.width}"
    )


@app.command()
def sweep(
    model: ModelOption,
    data: DataOption,
    vectors: Annotated[Path, typer.Option(help="Vectors of `steerkit extract`.")],
    out: Annotated[Path, typer.Option(help="The parquet file to write.")],
    multipliers: Annotated[
        str, typer.Option(help="Numbers separated by commas.")
    ] = "-1.5,-1,-0.5,0,0.5,1,1.5",
    layers: Annotated[str, typer.Option(help="Blocks such as 10,13 or all.")] = "all",
    answer_format: FormatOption = "statement",
    engine: Annotated[str, typer.Option(help="tree (fast) or direct (obvious).")] = "tree",
    fidelity: Annotated[str, typer.Option(help="letter, paper or bench: how letters are scored.")] = "letter",
    split: Annotated[
        str, typer.Option(help="clean, sweep, as-released, or all (every item tests).")
    ] = "clean",
    source: Annotated[str, typer.Option(help="bundled or papers, for data set names.")] = "bundled",
    seed: int = 0,
) -> None:
    """Steer every test item with every vector, layer and multiplier; write the grid and the slopes beside it."""
    from steerkit.own_data import sweep_grid

    paths = sweep_grid(
        model,
        data,
        vectors,
        _numbers(multipliers),
        layers,
        answer_format,
        engine,
        fidelity,
        split,
        source,
        seed,
        out,
    )
    for path in paths:
        typer.echo(path)


@app.command()
def ledger(
    model: ModelOption,
    data: DataOption,
    item: int = 0,
    answer_format: FormatOption = "letter",
    fidelity: str = "letter",
    source: str = "bundled",
) -> None:
    """Show every token of one item: which is read, which is steered, which is scored."""
    from steerkit.own_data import ledger_of

    typer.echo(ledger_of(model, data, item, answer_format, fidelity, source).to_string(index=False))


@app.command()
def decompose(
    vector: Annotated[Path, typer.Option(help="Vectors of `steerkit extract`.")],
    sae: Annotated[str, typer.Option(help="An autoencoder by name, a params.npz or a SAELens folder.")],
    method: Annotated[
        str,
        typer.Option(help="encode, encode-scaled, encode-difference, signed-pursuit, nnls or lasso."),
    ] = "signed-pursuit",
    features: Annotated[int, typer.Option(help="Most decoder directions.")] = 64,
    layer: Annotated[int | None, typer.Option(help="Default: the autoencoder's.")] = None,
    name: Annotated[str, typer.Option(help="Which vector of the file; default: the first.")] = "",
    norm: Annotated[
        float | None, typer.Option(help="For encode-scaled: the usual norm of activations.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="For encode-difference: the data set of the vector's pairs.")
    ] = "",
    source: Annotated[str, typer.Option(help="bundled or papers, for data set names.")] = "bundled",
    out: Annotated[Path | None, typer.Option(help="The CSV file to write.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a steering vector as a sum of an autoencoder's decoder directions."""
    from steerkit import own_sae

    table = own_sae.decompose_vector(
        vector, sae, method, features, layer, name=name, norm=norm, data=data, source=source
    )
    if out:
        own_sae.write_table(table, out)
    if not as_json:
        typer.echo(own_sae.summary_of(table))
    if as_json or not out:
        _print(table.to_dict("records"), as_json, ("rank", "feature", "coefficient"))


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
    _print(rows, as_json, ("statement", "answer_format", "published", "ours", "verdict"))


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Versions, devices, caches, what is reachable, what to do next."""
    from steerkit.doctor import examine

    _print(examine(), as_json, ("what", "found", "next"))


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise SteerkitError(
            "numbers separated by commas", repr(text), next_step="write --multipliers=-1.5,0,1.5."
        )
    return numbers


def _print(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, show_lines=any(len(str(row[c])) > 60 for row in rows for c in columns))
    for row in rows:
        table.add_row(*("" if row[c] is None else str(row[c]) for c in columns))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


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
