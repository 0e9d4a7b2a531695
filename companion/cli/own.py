"""The commands for one's own model, data and vectors; `companion.cli.program` puts them on the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from companion.cli import completion
from companion.cli.options import (
    DataOption,
    FormatOption,
    JsonFlag,
    ModelOption,
    RemoteOption,
    SourceOption,
    print_json,
    print_rows,
)
from steerkit.errors import SteerkitError

SplitOption = Annotated[
    str,
    typer.Option(
        help="clean, sweep, as-released, or all (no split: every item is used).",
        autocompletion=completion.one_of("clean", "sweep", "as-released", "all"),
    ),
]
FidelityOption = Annotated[
    str,
    typer.Option(
        help="letter, paper or bench: how letters are scored.",
        autocompletion=completion.one_of("letter", "paper", "bench"),
    ),
]


def extract(
    model: ModelOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    layers: Annotated[str, typer.Option(help="Blocks such as 10,13 or all.")] = "all",
    answer_format: FormatOption = "statement",
    split: SplitOption = "clean",
    source: SourceOption = "bundled",
    seed: int = 0,
    remote: RemoteOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Make steering vectors from contrastive data and write them with their manifest."""
    from companion.cli.own_data import extract_vectors

    found = extract_vectors(model, data, answer_format, layers, split, source, seed)
    found.save(out)
    if as_json:
        about = {"file": out, "vectors": found.names, "layers": found.layers, "width": found.width}
        print_json(about)
        return
    typer.echo(
        f"{out}: {len(found.names)} vector, layers {found.layers[0]} to {found.layers[-1]}, width {found.width}"
    )


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
    engine: Annotated[
        str,
        typer.Option(
            help="tree (fast) or direct (obvious).", autocompletion=completion.one_of("tree", "direct")
        ),
    ] = "tree",
    fidelity: FidelityOption = "letter",
    split: SplitOption = "clean",
    source: SourceOption = "bundled",
    seed: int = 0,
    remote: RemoteOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Steer every test item with every vector, layer and multiplier; write the grid and the slopes beside it."""
    from companion.cli.own_data import sweep_grid

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
    if as_json:
        print_json({"files": paths})
        return
    for path in paths:
        typer.echo(path)


def ledger(
    model: ModelOption,
    data: DataOption,
    item: int = 0,
    answer_format: FormatOption = "letter",
    fidelity: FidelityOption = "letter",
    source: SourceOption = "bundled",
    as_json: JsonFlag = False,
) -> None:
    """Show every token of one item: which is read, which is steered, which is scored."""
    from companion.cli.own_data import ledger_of

    table = ledger_of(model, data, item, answer_format, fidelity, source)
    print_json(table.to_dict("records")) if as_json else typer.echo(table.to_string(index=False))


def decompose(
    vector: Annotated[Path, typer.Option(help="Vectors of `steerkit extract`.")],
    sae: Annotated[
        str,
        typer.Option(
            help="An autoencoder by name, a params.npz or a SAELens folder.",
            autocompletion=completion.autoencoders,
        ),
    ],
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
    source: SourceOption = "bundled",
    out: Annotated[Path | None, typer.Option(help="The CSV file to write.")] = None,
    remote: RemoteOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a steering vector as a sum of an autoencoder's decoder directions."""
    from companion.cli import own_sae

    table = own_sae.decompose_vector(
        vector, sae, method, features, layer, name=name, norm=norm, data=data, source=source
    )
    if out:
        own_sae.write_table(table, out)
    if not as_json:
        typer.echo(own_sae.summary_of(table))
    if as_json or not out:
        print_rows(table.to_dict("records"), as_json, ("rank", "feature", "coefficient"))


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
