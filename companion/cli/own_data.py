"""The protocol on a user's own model, data and vectors: what the commands extract, sweep and ledger do."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion.data.datasets import Dataset, load_dataset
from companion.tan.experiment import check_format
from companion.tan.jobs import examples_of
from steerkit.errors import SteerkitError
from steerkit.prompts import Prompter

if TYPE_CHECKING:
    import pandas as pd

    from steerkit.model import Model
    from steerkit.vectors import Vectors


def parts(dataset: Dataset, split: str, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """Training and test indices; "all" uses every item for both, for data that comes split already."""
    from companion.data.splits import make_split

    if split == "all":
        everything = range(len(dataset.items))
        return everything, everything
    made = make_split(dataset, split, seed)
    return made.train, made.test


def _origin(model: Model, dataset: Dataset, answer_format: str, split: str, seed: int) -> dict[str, Any]:
    """What a manifest says about model, data and split."""
    return {
        "model": model.name,
        "source": model.source,
        "dataset": dataset.name,
        "data_sha256": dataset.sha256,
        "format": answer_format,
        "split": split,
        "seed": seed,
    }


def extract_vectors(
    model_name: str, data: str, answer_format: str, layers: str, split: str, source: str, seed: int
) -> Vectors:
    """The mean difference vector of a data set, with its manifest."""
    from companion import store
    from companion.models import load_model
    from steerkit.extraction import mean_vector

    start = time.perf_counter()
    check_format(answer_format)
    dataset = load_dataset(data, source=source)
    train, _ = parts(dataset, split, seed)
    model = load_model(model_name)
    chosen = parse_layers(layers, model.sites.n_layers)
    asked = Prompter(model.tokenizer, model.template)
    examples = examples_of(asked, dataset, train, answer_format, seed)
    found = mean_vector(model, examples, chosen)
    inputs = {**_origin(model, dataset, answer_format, split, seed), "layers": chosen}
    about = store.manifest("extract", inputs, time.perf_counter() - start, examples=len(examples))
    return replace(found, manifest=about)


def sweep_grid(
    model_name: str,
    data: str,
    vectors: Path,
    multipliers: Sequence[float],
    layers: str,
    answer_format: str,
    engine: str,
    fidelity: str,
    split: str,
    source: str,
    seed: int,
    out: Path,
) -> list[Path]:
    """Evaluate a grid and write it, and its slopes when there are two multipliers or more."""
    from companion import store
    from companion.models import load_model
    from steerkit.grid import evaluate
    from steerkit.steerability import slopes
    from steerkit.vectors import load_vectors

    start = time.perf_counter()
    found = load_vectors(vectors)
    check_format(answer_format)
    dataset = load_dataset(data, source=source)
    _, test = parts(dataset, split, seed)
    model = load_model(model_name)
    chosen = list(found.layers) if layers == "all" else parse_layers(layers, model.sites.n_layers)
    grid = evaluate(
        model,
        examples_of(Prompter(model.tokenizer, model.template), dataset, test, answer_format, seed),
        found,
        multipliers,
        layers=chosen,
        engine=engine,
        fidelity=fidelity,
    )
    table = grid.table(dataset.name)
    origin = _origin(model, dataset, answer_format, split, seed)
    inputs = {**origin, "fidelity": fidelity, "vectors": found.manifest}
    seconds = time.perf_counter() - start
    about = store.manifest("sweep", inputs, seconds, engine=grid.engine, reason=grid.reason)
    store.write_table(out, table, about)
    if len(multipliers) < 2:
        return [out]
    beside = out.with_name(f"{out.stem}-slopes{out.suffix}")
    store.write_table(beside, slopes(table), about)
    return [out, beside]


def ledger_of(
    model_name: str, data: str, item: int, answer_format: str, fidelity: str, source: str
) -> pd.DataFrame:
    """The token ledger of one item."""
    from companion.models import load_model
    from steerkit.formats import FORMATS, ledger

    check_format(answer_format)
    dataset = load_dataset(data, source=source)
    if not 0 <= item < len(dataset.items):
        raise SteerkitError(
            f"an item from 0 to {len(dataset.items) - 1} of {dataset.name}",
            str(item),
            next_step="choose one of them.",
        )
    model = load_model(model_name)
    pair = dataset.items[item].pair
    indices = [item] if pair is None else [i for i, other in enumerate(dataset.items) if other.pair == pair]
    pairs = not FORMATS[answer_format].biased
    if pairs and pair is None and dataset.items[item].kind == "persona":
        indices = range(len(dataset.items))
    asked = indices if pairs else [item]
    shown = examples_of(Prompter(model.tokenizer, model.template), dataset, asked, answer_format, 0)[0]
    return ledger(model.tokenizer, shown, fidelity)


def parse_layers(text: str, n_layers: int) -> list[int]:
    """ "10,13" as numbers, "all" as every block."""
    if text == "all":
        return list(range(n_layers))
    try:
        chosen = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SteerkitError(
            "layers such as 10,13 or all", json.dumps(text), next_step="write numbers separated by commas."
        ) from error
    for layer in chosen:
        if not 0 <= layer < n_layers:
            raise SteerkitError(
                f"a layer from 0 to {n_layers - 1}", str(layer), next_step="choose one of them."
            )
    return chosen
