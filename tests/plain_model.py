"""The oracle of the engine and extraction tests: transformers and PyTorch hooks, nothing of steerkit.

Scores are computed again from the definitions of Tan et al. 2024 and of their two code bases, one whole string and
one forward at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from steerkit.model import Model
from steerkit.prompts import Example


def blocks(module: torch.nn.Module) -> torch.nn.ModuleList:
    """The decoder blocks: the only list of modules as long as the model is deep."""
    depth = module.config.num_hidden_layers
    (found,) = [m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
    return found


@contextmanager
def hooked(module: torch.nn.Module, hook: Any):
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def strings(example: Example) -> list[list[int]]:
    """The whole token string of the matching and of the not matching side."""
    return [
        list(example.prompt + example.lead + answer + example.closing)
        for answer in (example.matching, example.not_matching)
    ]


@torch.no_grad()
def logits(model: Model, tokens: list[int], start: int, layer: int, delta: torch.Tensor) -> torch.Tensor:
    """Logits [s, vocabulary] with `delta` added after block `layer` at positions >= `start` (float64)."""

    def add(block, inputs, output):
        steered = output.clone()
        steered[:, start:] += delta.to(output.dtype)
        return steered

    module = model.lm._module
    with hooked(blocks(module)[layer], add):
        return module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()


def score(
    model: Model, example: Example, side: int, layer: int, delta: torch.Tensor, fidelity: str = "letter"
) -> float:
    """Score of one side (0 matching, 1 not matching) of one example; for `paper` the sum over the whole string."""
    tokens = strings(example)[side]
    first = len(example.prompt) + len(example.lead)
    if example.format == "statement":
        rows = logits(model, tokens, len(example.prompt) - 1, layer, delta).log_softmax(-1)
        values = [rows[i - 1, tokens[i]] for i in range(first, len(tokens))]
        return float(sum(values)) / len(values)
    if example.format == "yes-no" or fidelity == "letter":
        rows = logits(model, tokens, len(example.prompt) - 1, layer, delta)
        return float(rows[first - 1, tokens[first]])
    if fidelity == "paper":
        rows = logits(model, tokens, len(example.prompt) - 1, layer, delta)
    else:
        rows = logits(model, tokens, len(example.prompt), layer, delta).log_softmax(-1)
    return float(sum(rows[i - 1, tokens[i]] for i in range(1, len(tokens))))


def propensities(model, examples, vectors, layers, multipliers, fidelity: str = "letter") -> torch.Tensor:
    """Propensity [p, v, l, k], one plain forward a number and side."""
    shape = (len(examples), len(vectors.names), len(layers), len(multipliers))
    found = torch.zeros(shape, dtype=torch.float64)
    for n, v, i, k in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        delta = multipliers[k] * vectors.values[v, vectors.layers.index(layers[i])].double()
        sides = [score(model, examples[n], side, layers[i], delta, fidelity) for side in (0, 1)]
        found[n, v, i, k] = sides[0] - sides[1]
    return found


@torch.no_grad()
def activations(model: Model, tokens: list[int], layers: Sequence[int]) -> torch.Tensor:
    """Block outputs [l, s, d] of one string. Hooks on the blocks: transformers' last entry of `hidden_states` is
    taken after the final norm."""
    module, kept = model.lm._module, {}
    handles = [
        block.register_forward_hook(lambda m, i, output, index=index: kept.__setitem__(index, output[0]))
        for index, block in enumerate(blocks(module))
    ]
    states = module(
        input_ids=torch.tensor([tokens]), use_cache=False, output_hidden_states=True
    ).hidden_states
    for handle in handles:
        handle.remove()
    for index in range(len(handles) - 1):
        torch.testing.assert_close(kept[index], states[index + 1][0])
    return torch.stack([kept[layer] for layer in layers])


class Counter:
    """Shapes of what a module put out, call by call."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, module, inputs, output) -> None:
        self.shapes.append(tuple(output.shape[:-1]))


class Watch(ExitStack):
    """Counters in every block and on the unembedding of a model.

    In a block it is the feed-forward part that counts: hooks of a block that nnsight skips are called all the same.
    """

    def __init__(self, model) -> None:
        super().__init__()
        module = model.lm._module
        self.blocks, self.head = [Counter() for _ in blocks(module)], Counter()
        watched = [block.mlp for block in blocks(module)] + [module.get_output_embeddings()]
        pairs = zip(watched, [*self.blocks, self.head], strict=True)
        for part, counter in pairs:
            self.enter_context(hooked(part, counter))

    @property
    def calls(self) -> list[int]:
        return [len(counter.shapes) for counter in self.blocks]
