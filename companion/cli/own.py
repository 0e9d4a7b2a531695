"""The commands for one's own model, data and vectors; `companion.cli.program` puts them on the command line."""

import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from companion import store
from companion.cli import compared
from companion.cli import options as opt
from companion.cli.outputs import check_output, ours
from companion.cli.screen import print_rows, tell
from companion.data.ask import examples_of
from companion.data.datasets import load_dataset
from companion.data.splits import group_items, make_split
from companion.models import load_model
from companion.saes import open_sae
from steerkit.errors import need, one_of, told
from steerkit.files import write_atomically, write_together
from steerkit.formats import FORMATS
from steerkit.formats import ledger as tokens_of
from steerkit.items import Item
from steerkit.model import Model
from steerkit.prompts import Example, Prompter
from steerkit.vectors import Vectors, load_vectors


def extract(
    model: opt.Model,
    data: opt.Data,
    out: opt.option(Path, "The safetensors file to write."),
    layers: opt.Layers = "all",
    answer_format: opt.Format = "statement",
    split: opt.Split = "clean",
    source: opt.Source = "bundled",
    seed: opt.Seed = 0,
    force: opt.Force = False,
    remote: opt.Remote = "",
    as_json: opt.Json = False,
) -> None:
    """Make steering vectors from contrastive data and write them with their manifest."""
    from steerkit.extraction import extract as mean_vector

    check_output(out, ".safetensors", [data], force)
    start = time.perf_counter()
    opened, examples, origin, items = _asked(model, data, answer_format, split, source, seed, "train")
    chosen = parse_layers(layers, len(opened.layers))
    pairs = min(len(examples), len({*group_items(items)}))  # a question asked in two forms is one
    compared.check_count(pairs)
    found = mean_vector(opened, examples, chosen)
    zero = [layer for layer in chosen if not found.at(layer).any()]
    step = "look at the data, half of which may contradict the other half, and at the weights, which may be zero."
    need(not zero, "a vector that is not zero", f"no difference at all at layers {zero}", step)
    inputs = origin | {"layers": chosen, "trained_on": compared.items_hash(items)}
    about = store.manifest("extract", inputs, time.perf_counter() - start, examples=len(examples))
    replace(found, manifest=about).save(out)
    text = f"{out}: 1 vector from {pairs} pair{'s' * (pairs > 1)}, layers {', '.join(map(str, found.layers))}"
    about = {"file": out, "vectors": found.names, "pairs": pairs, "layers": found.layers}
    tell(as_json, f"{text}, width {found.width}", about | {"width": found.width})


def sweep(
    model: opt.Model,
    data: opt.Data,
    vectors: opt.VectorFile,
    out: opt.option(Path, "The parquet file to write."),
    multipliers: opt.Multipliers = "-1.5,-1,-0.5,0,0.5,1,1.5",
    layers: opt.Layers = "all",
    answer_format: opt.Format = "statement",
    engine: opt.Engine = "tree",
    fidelity: opt.Fidelity = "letter",
    split: opt.Split = "clean",
    source: opt.Source = "bundled",
    seed: opt.Seed = 0,
    force: opt.Force = False,
    remote: opt.Remote = "",
    as_json: opt.Json = False,
) -> None:
    """Steer every test item with every vector, layer and multiplier; write the grid and the slopes beside it."""
    from steerkit.grid import evaluate
    from steerkit.steerability import slopes

    beside = out.with_name(f"{out.stem}-slopes{out.suffix}") if out.name else out
    for path in (out, beside):
        check_output(path, ".parquet", [data, vectors], force)
    start, numbers, found = time.perf_counter(), parse_numbers(multipliers), load_vectors(vectors)
    opened, examples, origin, items = _asked(model, data, answer_format, split, source, seed, "test")
    compared.check_model(found.manifest, origin, force)
    compared.check_items(found.manifest, origin, items, force)
    chosen = list(found.layers) if layers == "all" else parse_layers(layers, len(opened.layers))
    grid = evaluate(opened, examples, found, numbers, layers=chosen, engine=engine, fidelity=fidelity)
    inputs, seconds = origin | {"fidelity": fidelity, "vectors": found.manifest}, time.perf_counter() - start
    about = store.manifest("sweep", inputs, seconds, engine=grid.engine, reason=grid.reason)
    tables = {out: grid.table(origin["dataset"])}
    if len(numbers) > 1:  # one multiplier has no slope
        tables[beside] = slopes(tables[out])
    contents = {path: store.table_bytes(table, about) for path, table in tables.items()}
    write_together(contents, gone=[beside] if ours(beside) else [])
    tell(as_json, "\n".join(map(str, tables)), {"files": list(tables)})


MEASURED = "Measured on these pairs, where steering begins. To predict it from agreement, separation or accessibility alone "
MEASURED += "was tried on sixty sets and is not good enough: see the book, Before you steer."
DEPTH = 0.6  # of the blocks: where vectors steer most in the models of this book


def screen(
    model: opt.Model,
    data: opt.Data,
    layers: opt.option(str, "Blocks such as 10,13 or all; default: one at 0.6 of the depth.", free=True) = "",
    answer_format: opt.Format = "statement",
    source: opt.Source = "bundled",
    most: opt.option(int, "Most pairs, drawn at random.") = 80,
    seed: opt.Seed = 0,
    remote: opt.Remote = "",
    as_json: opt.Json = False,
) -> None:
    """Say what to expect of steering with a data set: every pair under the mean of the others, by one backward pass."""
    from companion.tan.screening import of_examples, screened

    opened, every, _, items = _asked(model, data, answer_format, "all", source, seed, "train")
    chosen = parse_layers(layers or str(int(DEPTH * len(opened.layers))), len(opened.layers))
    groups = dict(zip((item.id for item in items), group_items(items), strict=True))
    drawn = {groups[one.id]: one for one in random.Random(seed).sample(every, len(every))}
    examples = list(drawn.values())[: max(0, most)]  # no two forms of one question
    found = {layer: screened(each) for layer, each in of_examples(opened, examples, chosen).items()}
    if as_json:
        print_rows([{"layer": layer} | each for layer, each in found.items()], as_json, ())
        return
    named = {f"layer {layer}": measured for layer, measured in found.items()}
    rows = [{"": each} | {at: f"{named[at][each]:.4g}" for at in named} for each in found[chosen[0]]]
    print_rows(rows, as_json, ("", *named))
    tell(False, MEASURED, None)


def ledger(
    model: opt.Model,
    data: opt.Data,
    item: opt.option(int, "Which item of the data set, from 0.") = 0,
    answer_format: opt.Format = "letter",
    fidelity: opt.Fidelity = "letter",
    source: opt.Source = "bundled",
    as_json: opt.Json = False,
) -> None:
    """Show every token of one item: which is read, which is steered, which is scored."""
    from companion.outline import outline

    one_of("an answer format", answer_format, FORMATS)
    dataset, indices = load_dataset(data, source=source), [item]
    last = len(dataset.items) - 1
    need(0 <= item <= last, f"an item from 0 to {last} of {dataset.name}", str(item), "choose one of them.")
    if not FORMATS[answer_format].biased:  # its other half is another item
        own = dataset.items[item]
        if own.pair is not None:
            indices = [i for i, other in enumerate(dataset.items) if other.pair == own.pair]
        elif own.kind == "persona":
            indices = range(len(dataset.items))
    about = outline(model)  # tokens need no weights
    shown, *_ = examples_of(Prompter(about.tokenizer, about.template), dataset, indices, answer_format, 0)
    table = tokens_of(about.tokenizer, shown, fidelity)
    tell(as_json, table.to_string(index=False), table.to_dict("records"))


def generate(
    model: opt.Model,
    vectors: opt.VectorFile,
    layer: opt.option(int, "The block after which the vector is added."),
    prompt: opt.option(str, "What the user says.", free=True),
    multipliers: opt.Multipliers = "-2,0,2",
    vector: opt.option(str, "Which vector of the file.") = "full",
    max_new_tokens: opt.option(int, "Most tokens of an answer.") = 40,
    force: opt.Force = False,
    remote: opt.Remote = "",
    as_json: opt.Json = False,
) -> None:
    """Answer a prompt under a steering vector, once for each multiplier."""
    from steerkit.generation import generate as answers

    with told((UnicodeEncodeError,), "a prompt in UTF-8", "look at the bytes of --prompt."):
        prompt.encode()
    numbers, read, opened = parse_numbers(multipliers), load_vectors(vectors), load_model(model)
    one_of("a vector of this file", vector, read.names, "choose one of them.")
    compared.check_model(read.manifest, compared.origin(model, opened), force)
    how, columns = {"layer": layer, "multipliers": numbers, "name": vector}, ("multiplier", "text")
    found = answers(opened, prompt, read, **how, max_new_tokens=max_new_tokens)
    print_rows([dict(zip(columns, each, strict=True)) for each in found], as_json, columns)


def decompose(
    vector: opt.VectorFile,
    sae: opt.Sae,
    method: opt.Method = "signed-pursuit",
    features: opt.option(int, "Most decoder directions.") = 64,
    layer: opt.option(int | None, "Default: the autoencoder's.") = None,
    name: opt.option(str, "Which vector of the file; default: the first.") = "",
    norm: opt.option(float | None, "For encode-scaled: the usual norm of activations.") = None,
    data: opt.option(str, "For encode-difference: the data set of the vector's pairs.") = "",
    source: opt.Source = "bundled",
    out: opt.option(Path | None, "The CSV file to write.") = None,
    force: opt.Force = False,
    remote: opt.Remote = "",
    as_json: opt.Json = False,
) -> Any:
    """Write a steering vector as a sum of an autoencoder's decoder directions."""
    import companion.mayne.solvers  # noqa: F401 - adds methods
    from steerkit.decomposition import decompose as decomposed

    if out:
        check_output(out, ".csv", [vector, sae, data], force)
    vectors, done = load_vectors(vector), "Nothing was computed."
    opened = open_sae(sae, vectors.width, layer)
    chosen = opened.layer if layer is None else layer
    if chosen is None and len(vectors.layers) == 1:
        chosen = vectors.layers[0]
    wanted = f"a layer of {vector.name} ({', '.join(map(str, vectors.layers))})"
    silent = "none, and the autoencoder does not say which it reads"
    need(chosen is not None, wanted, silent, "give it as --layer.", done)
    opened = open_sae(sae, vectors.width, chosen)  # also without --layer: its site
    compared.check_sae(vectors.manifest, opened)
    found, which, about = vectors.at(chosen), name or vectors.names[0], {"target_norm": norm}
    one_of("a vector of this file", which, vectors.names, "choose one of them.")
    if method == "encode-difference":
        about |= _pairs(vectors, chosen, data, source, force)
    usual = "the usual norm of activations for encode-scaled"
    following = "give it as --norm; the notebook mayne-fig-1 shows it."
    need(method != "encode-scaled" or norm is not None, usual, "none", following, done)
    table = decomposed(found[vectors.names.index(which)], opened, method, features, **about)
    table.attrs |= {"layer": chosen, "vector": which, "sae": opened.source or sae}
    if out:
        write_atomically(out, table.to_csv(index=False).encode())
    if not as_json:
        explained, left = table.attrs["explained"], table.attrs["residual_norm"]
        said = f"{method}: {len(table)} features explain {explained:.4f} of the squared norm of {which!r}"
        typer.echo(f"{said} at layer {chosen}; residual norm {left:.4g}.")
    if as_json or not out:
        print_rows(table.to_dict("records"), as_json, ("rank", "feature", "coefficient"))
    return table


def _pairs(vectors: Vectors, layer: int, data: str, source: str, force: bool) -> dict[str, Any]:
    """Activations of the training pairs of a data set, read with the very model that made the vector."""
    import torch

    from companion.mayne.activations import picked
    from steerkit.extraction import answers

    about, said = vectors.manifest.get("inputs", {}), compared.said
    form, name = said(about, "format"), said(about, "given") or said(about, "model")
    wanted = "the data set of the vector's pairs for encode-difference, and a vector whose manifest names its model"
    found, given = "no such manifest" if data else "no data set", data and form and name
    following = "give it as --data, with a vector of `steerkit extract`."
    need(bool(given), wanted, found, following, "Nothing was computed.")
    compared.check_data(vectors.manifest, load_dataset(data, source=source), force)
    split, seed = said(about, "split") or "clean", about.get("seed")
    seed = seed if isinstance(seed, int) else 0
    model, examples, origin, _ = _asked(name, data, form, split, source, seed, "train")
    compared.check_model(vectors.manifest, origin, force)
    sides = zip(*answers(model, examples, layer), strict=True)
    read = [torch.cat([picked(each, form) for each in side]) for side in sides]
    return dict(zip(("positive", "negative"), read, strict=True))


def _asked(
    name: str, data: str, answer_format: str, split: str, source: str, seed: int, part: str
) -> tuple[Model, list[Example], dict[str, Any], list[Item]]:
    """The model, the examples of a part of a data set (of split "all": all of it), what a manifest says, the items."""
    one_of("an answer format", answer_format, FORMATS)
    dataset = load_dataset(data, source=source)
    everything = range(len(dataset.items))
    indices = everything if split == "all" else getattr(make_split(dataset, split, seed), part)
    items = [dataset.items[i] for i in indices]
    if part == "train":
        compared.check_labels(items, FORMATS[answer_format].labels)
    model = load_model(name)
    examples = examples_of(Prompter(model.tokenizer, model.template), dataset, indices, answer_format, seed)
    origin = compared.origin(name, model) | {"dataset": dataset.name, "data_sha256": dataset.sha256}
    return model, examples, origin | {"format": answer_format, "split": split, "seed": seed}, items


def parse_layers(text: str, n_layers: int) -> list[int]:
    """ "10,13" as numbers, "all" as every block."""
    chosen = list(range(n_layers)) if text == "all" else _numbers(text, int)
    need(bool(chosen), "layers such as 10,13 or all", json.dumps(text), "write numbers separated by commas.")
    for layer in chosen:
        need(0 <= layer < n_layers, f"a layer from 0 to {n_layers - 1}", str(layer), "choose one of them.")
    return chosen


def parse_numbers(text: str) -> list[float]:
    """ "-1.5,0,1.5" as numbers."""
    numbers = _numbers(text, float)
    fine = numbers and all(map(math.isfinite, numbers))
    need(bool(fine), "numbers separated by commas", repr(text), "write --multipliers=-1.5,0,1.5.")
    return numbers


def _numbers(text: str, kind: type) -> list:
    """The numbers in a text, none where one of them cannot be read."""
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        return []
