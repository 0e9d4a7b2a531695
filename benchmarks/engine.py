"""What the tree engine buys, as ratios measured in one run: `make bench`, or with names of cases as arguments.

The baseline is the papers' way: one prompt at a time, one full forward for each answer and each multiplier, with a
plain PyTorch hook. Both sides evaluate the same prompts of the default model, alternately, and the minimum of the
repetitions counts. Writes benchmarks/results.json.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import opponents
import torch

from companion import store
from companion.data.ask import statement_pairs
from companion.data.datasets import load_dataset
from companion.data.forms import first_label
from companion.models import load_model
from companion.profiles import load_profile
from steerkit.extraction import differences, mean_difference, resampled
from steerkit.formats import question
from steerkit.grid import cells_of, evaluate, tree
from steerkit.layout import layout, length, rows_of
from steerkit.model import Model
from steerkit.prompts import Example, Prompter
from steerkit.traces import edits_of, masked_inputs, site_of
from steerkit.trust import SEQUENCE_TOKENS
from steerkit.vectors import Vectors, concatenate

RESULTS = Path(__file__).parent / "results.json"
MULTIPLIERS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
EQUAL = 1e-3  # logits of 30 in single precision, over a layer sweep
PROMPTS = 16  # of the tree; the baseline runs the first of them


def letter_examples(model: Model, name: str, count: int) -> list[Example]:
    items = load_dataset(name).items
    asker = Prompter(model.tokenizer, model.template)
    return [asker.letter(item, first_label(item, ("A", "B"))) for item in items[:count]]


def statement_examples(model: Model, name: str, start: int, count: int) -> list[Example]:
    pairs = statement_pairs(load_dataset(name).items)[start : start + count]
    asker = Prompter(model.tokenizer, model.template)
    return [asker.statement(*pair) for pair in pairs]


def upstream_style(model: Model, example: Example, vectors: Vectors, layers: list[int]) -> None:
    """Every answer, vector, layer and multiplier by a full forward of its own (batch 1, plain hook)."""
    blocks = [envoy._module for envoy in model.layers]
    start = len(example.prompt) - 1
    for answer in (example.matching, example.not_matching):
        tokens = torch.tensor([example.prompt + example.lead + answer + example.closing])
        for v in range(len(vectors.names)):
            for layer in layers:
                for multiplier in MULTIPLIERS:
                    delta = multiplier * vectors.at(layer)[v]

                    def add(module, args, output, delta=delta):
                        output[:, start:] += delta
                        return output

                    handle = blocks[layer].register_forward_hook(add)
                    model.lm._module(input_ids=tokens, use_cache=False).logits.log_softmax(-1)
                    handle.remove()


def timed(work: Callable[[], None], repetitions: int = 1) -> float:
    """Seconds of the fastest repetition."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def against_upstream(model: Model, vectors: Vectors, layers: list[int]) -> dict[str, float]:
    examples = letter_examples(model, "narcissism", PROMPTS)
    evaluate(model, examples[:1], vectors.select(layers=layers), MULTIPLIERS)  # warm up, and the self-check
    fast = timed(lambda: evaluate(model, examples, vectors, MULTIPLIERS, layers=layers), 2) / PROMPTS
    with torch.no_grad():
        slow = timed(lambda: upstream_style(model, examples[0], vectors, layers))
    return {"upstream_seconds_per_prompt": slow, "tree_seconds_per_prompt": fast, "ratio": slow / fast}


def layer_sweep(model: Model) -> dict[str, float]:
    """Tree against the upstream way: all layers, seven multipliers, one vector (times faster)."""
    return against_upstream(model, _vectors(model, 1), list(range(len(model.layers))))


def six_vectors(model: Model) -> dict[str, float]:
    """Tree against the upstream way: six vectors at one layer (times faster)."""
    return against_upstream(model, _vectors(model, 6), [15])


def one_vector(model: Model) -> dict[str, float]:
    """Tree against the upstream way: one vector at one layer (times faster)."""
    return against_upstream(model, _vectors(model, 1), [15])


def _vectors(model: Model, count: int) -> Vectors:
    layers = list(range(len(model.layers)))
    found = differences(model, letter_examples(model, "narcissism", 12), layers)
    full = mean_difference(found, layers)
    return concatenate(full, resampled(found, layers, count - 1, 0)) if count > 1 else full


def _sweep_batch(model: Model):
    questions = [question(example) for example in letter_examples(model, "narcissism", 4)]
    vectors = _vectors(model, 1)
    cells = [(0, layer, m) for layer in vectors.layers for m in MULTIPLIERS if m]
    conditions = range(1 + len(cells))
    rows = rows_of(questions, len(conditions), SEQUENCE_TOKENS)
    batch = layout(questions, rows, conditions)
    inputs = masked_inputs(site_of(model), batch)[0] | {"use_cache": False}
    by_layer = {layer: vectors.at(layer) for layer in vectors.layers}
    edits = edits_of(batch, by_layer, [(0, 0, 0.0), *cells], model.dtype)
    return questions, vectors, cells, batch, inputs, edits


def prefix_cache(model: Model) -> dict[str, float]:
    """Tree against plain transformers with the prompt in a cache and conditions in batches (times faster)."""
    return _against(model, opponents.cached, 4)


def library(model: Model) -> dict[str, float]:
    """Tree against the library steering-vectors, three layers, seven multipliers, one vector (times faster)."""
    return _against(model, opponents.library, 1, 10)


def _against(model: Model, other: Callable, prompts: int, step: int = 1) -> dict[str, float]:
    """A layer sweep by both, alternately; the answers have to be the same."""
    examples, vectors = letter_examples(model, "narcissism", PROMPTS), _vectors(model, 1)
    vectors = vectors.select(layers=list(vectors.layers[::step]))
    cells = [(0, 0, 0.0), *cells_of(vectors.names, vectors.layers, MULTIPLIERS, {})]

    def theirs() -> torch.Tensor:
        return torch.stack([other(model, example, vectors, cells) for example in examples[:prompts]])

    found = evaluate(model, examples[:prompts], vectors, MULTIPLIERS).propensity[:, 0]
    at = [vectors.layers.index(layer) for _, layer, _ in cells], [MULTIPLIERS.index(m) for *_, m in cells]
    with torch.no_grad():
        difference = float((theirs() - found[:, *at]).abs().max())
        assert difference < EQUAL, difference
        pairs = [
            (timed(lambda: evaluate(model, examples, vectors, MULTIPLIERS)), timed(theirs)) for _ in range(2)
        ]
    fast, slow = map(min, zip(*pairs, strict=True))
    ratio = (slow / prompts) / (fast / PROMPTS)
    return {"tree_seconds": fast, "other_seconds": slow, "difference": difference, "ratio": ratio}


def product_rate(model: Model) -> dict[str, float]:
    """Products with weights that the tree does a second, unembedding included, as a share of the machine's rate."""
    examples, vectors = statement_examples(model, "narcissism", 0, PROMPTS), _vectors(model, 1)
    work = partial(evaluate, model, examples, vectors, MULTIPLIERS, layers=vectors.layers[:10])
    pairs = [(timed(work), opponents.product_rate()) for _ in range(3)]
    seconds, rate = min(pairs)[0], max(rate for _, rate in pairs)
    done = opponents.operations(model, work) / seconds
    return {"tree_per_second": done, "machine_per_second": rate, "ratio": done / rate}


def nnsight_overhead(model: Model) -> dict[str, float]:
    """Time of the tree's nnsight trace against the same forward and edits with plain hooks."""
    _, _, _, batch, inputs, edits = _sweep_batch(model)
    blocks = [envoy._module for envoy in model.layers]
    base = model.lm._module.model

    def hooked() -> None:
        handles = []
        for layer, (rows, columns, delta) in edits.items():

            def add(module, args, output, rows=rows, columns=columns, delta=delta):
                output[rows, columns] += delta
                return output

            handles.append(blocks[layer].register_forward_hook(add))
        base(**inputs)
        for handle in handles:
            handle.remove()

    def traced() -> None:
        with model.lm.trace(**inputs) as tracer:
            for index, layer in enumerate(model.layers):
                if index in edits:
                    rows, columns, delta = edits[index]
                    layer.output[rows, columns] += delta
            model.head.input.save()
            tracer.stop()

    with torch.no_grad():
        pairs = [(timed(traced), timed(hooked)) for _ in range(6)][1:]
    fast, plain = map(min, zip(*pairs, strict=True))
    seconds = {"nnsight_seconds": fast, "hooks_seconds": plain}
    return seconds | {"ratio": fast / plain, "tokens": batch.tokens.numel()}


def throughput(model: Model) -> dict[str, float]:
    """Token-passes per second of the tree against a plain batched forward, as a share."""
    questions, vectors, cells, batch, _, _ = _sweep_batch(model)
    tokens = batch.tokens.numel()
    plain_ids = torch.randint(3, 40_000, (8, tokens // 8))
    module = model.lm._module

    def ours() -> None:
        tree(model, [questions], vectors, cells, SEQUENCE_TOKENS)

    def theirs() -> None:
        module(input_ids=plain_ids, use_cache=False)

    with torch.no_grad():
        pairs = [(timed(ours), timed(theirs)) for _ in range(4)][1:]
    fast, plain = map(min, zip(*pairs, strict=True))
    done = sum(length(q, 1 + len(cells)) for q in questions)
    rates = {"tree_tokens_per_second": done / fast, "plain_tokens_per_second": plain_ids.numel() / plain}
    return rates | {"ratio": (done / fast) / (plain_ids.numel() / plain)}


def statement_sets(model: Model) -> dict[str, float]:
    """Statement format: 13 sets, 24 training and 30 test pairs each, seven multipliers, one layer."""

    def work() -> None:
        for name in load_profile("laptop").datasets:
            vector = mean_difference(differences(model, statement_examples(model, name, 0, 24), [15]), [15])
            evaluate(model, statement_examples(model, name, 30, 30), vector, MULTIPLIERS)

    return {"seconds": timed(work)}


WANTED = {
    layer_sweep: ("ratio", ">=", 60),
    six_vectors: ("ratio", ">=", 30),
    one_vector: ("ratio", ">=", 10),
    prefix_cache: ("ratio", ">=", 2.5),
    library: ("ratio", ">=", 20),
    product_rate: ("ratio", ">=", 0.7),
    nnsight_overhead: ("ratio", "<=", 1.05),
    throughput: ("ratio", ">=", 0.7),
    statement_sets: ("seconds", "<=", 300),
}
CASES = {case.__name__: case for case in WANTED}


def main(chosen: list[str]) -> None:
    model = load_model("smollm2-135m", device="cpu")
    results, cases = {}, []
    for name in chosen or CASES:
        if name == "library" and find_spec("steering_vectors") is None:
            print(f"{name:18} left out: `pip install steering-vectors` first", flush=True)
            continue
        results[name] = CASES[name](model)
        quantity, relation, wanted = WANTED[CASES[name]]
        row = {
            "case": CASES[name].__doc__.splitlines()[0],
            "measured": f"{quantity} {results[name][quantity]:.2f}",
            "wanted": f"{relation} {wanted}",
        }
        print(f"{name:18} {row['case']:112} {row['measured']:16} wanted {row['wanted']}", flush=True)
        cases.append(row)
    about = {
        "command": "make bench",
        "commit": store.commit(),
        "versions": store.versions(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "cases": cases,
        "results": results,
    }
    if not chosen:
        RESULTS.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
