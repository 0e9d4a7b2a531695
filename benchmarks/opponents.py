"""The others of `make bench`: what a good engineer writes without us, the best-known library, and the machine itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

import torch

from steerkit.model import Model
from steerkit.prompts import Example
from steerkit.vectors import Vectors

if TYPE_CHECKING:
    from transformers import DynamicCache

TOGETHER = 64  # conditions in one batch of the cached way: more copy the cache for longer than they compute
# Rows and sides of the products that are timed.
SHAPES = ((2048, 576, 1536), (2048, 576, 2048), (2048, 1536, 576))


def cached(model: Model, example: Example, vectors: Vectors, cells: Sequence[tuple]) -> torch.Tensor:
    """Propensities [cells] of a letter: the prompt once into a cache, then conditions in batches, with hooks."""
    *shared, last = example.prompt
    past = model.lm._module(
        input_ids=torch.tensor([shared]), use_cache=True, logits_to_keep=1
    ).past_key_values
    rows = torch.tensor([[last, *example.lead]])
    parts = [cells[at : at + TOGETHER] for at in range(0, len(cells), TOGETHER)]
    logits = torch.cat([_continued(model, rows, deepcopy(past), vectors, part) for part in parts])
    return logits[:, example.matching[0]] - logits[:, example.not_matching[0]]


def _continued(
    model: Model, rows: torch.Tensor, past: DynamicCache, vectors: Vectors, cells: Sequence[tuple]
) -> torch.Tensor:
    """Logits [cells, vocabulary] after the same tokens under each condition."""
    past.batch_repeat_interleave(len(cells))
    handles = []
    for layer in {layer for _, layer, _ in cells}:
        delta = torch.stack([m * vectors.at(at)[v] * (at == layer) for v, at, m in cells])

        def add(module, args, output, delta=delta):
            output += delta[:, None]
            return output

        handles.append(model.layers[layer]._module.register_forward_hook(add))
    given = {"input_ids": rows.expand(len(cells), -1), "past_key_values": past, "use_cache": True}
    logits = model.lm._module(**given, logits_to_keep=1).logits[:, -1]
    for handle in handles:
        handle.remove()
    return logits


def library(model: Model, example: Example, vectors: Vectors, cells: Sequence[tuple]) -> torch.Tensor:
    """The same by the library steering-vectors, a forward for every condition: it steers one vector at a time."""
    from steering_vectors import SteeringVector

    start, found = len(example.prompt) - 1, []
    tokens = torch.tensor([[*example.prompt, *example.lead]])
    for v, layer, m in cells:
        steered = SteeringVector({layer: vectors.at(layer)[v]}, "decoder_block")
        with steered.apply(model.lm._module, multiplier=m, min_token_index=start):
            logits = model.lm._module(input_ids=tokens, use_cache=False).logits[0, -1]
        found.append(logits[example.matching[0]] - logits[example.not_matching[0]])
    return torch.stack(found)


def product_rate(repetitions: int = 20) -> float:
    """Multiplications and additions a second of matrix products in the shapes of the model: the machine's limit."""
    best = []
    for rows, inner, columns in SHAPES:
        a, b, times = torch.randn(rows, inner), torch.randn(inner, columns), []
        for _ in range(repetitions):
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
        best.append(2 * rows * inner * columns / min(times))
    return max(best)


def operations(model: Model, work: Callable[[], object]) -> float:
    """What some work does in products with weights alone, in the blocks and in the head, counted as they are called."""
    counts, handles = [], []
    # Not hooks of the blocks, which are called for a block that is skipped, too.
    parts = [part for block in model.layers for part in block._module.modules()]

    def count(module: torch.nn.Module, given: tuple) -> None:
        counts.append(2.0 * module.weight.numel() * given[0].shape[:-1].numel())

    for part in (*parts, model.head._module):
        if (weight := getattr(part, "weight", None)) is not None and weight.dim() == 2:
            handles.append(part.register_forward_pre_hook(count))
    work()
    for handle in handles:
        handle.remove()
    return sum(counts)
