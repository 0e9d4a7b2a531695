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
from pathlib import Path

import torch

from companion import store
from companion.data.ask import statement_pairs
from companion.data.datasets import load_dataset
from companion.data.forms import first_label
from companion.models import load_model
from companion.profiles import load_profile
from steerkit.extraction import differences, mean_difference, resampled
from steerkit.formats import question
from steerkit.grid import evaluate, tree
from steerkit.layout import layout, length, rows_of
from steerkit.model import Model
from steerkit.prompts import Example, Prompter
from steerkit.traces import edits_of, masked_inputs, site_of
from steerkit.trust import SEQUENCE_TOKENS
from steerkit.vectors import Vectors, concatenate

RESULTS = Path(__file__).parent / "results.json"
MULTIPLIERS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
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
    nnsight_overhead: ("ratio", "<=", 1.05),
    throughput: ("ratio", ">=", 0.7),
    statement_sets: ("seconds", "<=", 300),
}
CASES = {case.__name__: case for case in WANTED}


def main(chosen: list[str]) -> None:
    model = load_model("smollm2-135m", device="cpu")
    results, cases = {}, []
    for name in chosen or CASES:
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
