"""The oracle of the engine and extraction tests: transformers and PyTorch hooks, nothing of steerkit.

Scores are computed again from the definitions of Tan et al. 2024 and of their two code bases, one whole string and
one forward at a time.
"""

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

from steerkit import Example, Model


def blocks(module: torch.nn.Module) -> torch.nn.ModuleList:
    """The decoder blocks: the only list of modules as long as the model is deep, of the language model where there are two."""
    depth, language = module.config.get_text_config().num_hidden_layers, module
    if hasattr(module.config, "vision_config"):
        language = module.model.language_model
    (found,) = [m for m in language.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == depth]
    return found


def stream(output: Any) -> torch.Tensor:
    """The residual stream among what a block gives."""
    return output if isinstance(output, torch.Tensor) else output[0]


@contextmanager
def hooked(module: torch.nn.Module, hook: Any):
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def strings(example: Example) -> list[list[int]]:
    """The whole token string of the matching and of the not matching side."""
    answers = (example.matching, example.not_matching)
    return [list(example.prompt + example.lead + answer + example.closing) for answer in answers]


@torch.no_grad()
def logits(model: Model, tokens: list[int], start: int, layer: int, delta: torch.Tensor) -> torch.Tensor:
    """Logits [s, vocabulary] with `delta` added after block `layer` at positions >= `start` (float64)."""

    def add(block, inputs, output):
        steered = stream(output).clone()
        steered[:, start:] += delta.to(steered.dtype)
        return steered if isinstance(output, torch.Tensor) else (steered, *output[1:])

    module = model.lm._module
    with hooked(blocks(module)[layer], add):
        return module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()


def score(model: Model, example: Example, side: int, layer: int, delta: torch.Tensor, fidelity: str) -> float:
    """Score of one side (0 matching, 1 not matching) of one example; for `paper` the sum over the whole string."""
    tokens = strings(example)[side]
    first, start = len(example.prompt) + len(example.lead), len(example.prompt) - (fidelity != "bench")
    rows = logits(model, tokens, start, layer, delta)
    if example.format in ("statement", "options"):
        chosen = rows.log_softmax(-1)
        return float(sum(chosen[i - 1, tokens[i]] for i in range(first, len(tokens)))) / (len(tokens) - first)
    if example.format == "yes-no" or fidelity == "letter":
        return float(rows[first - 1, tokens[first]])
    rows = rows if fidelity == "paper" else rows.log_softmax(-1)
    return float(sum(rows[i - 1, tokens[i]] for i in range(1, len(tokens))))


def scores(model, examples, vectors, layers, multipliers, fidelity: str = "letter") -> torch.Tensor:
    """Scores [p, side, v, l, k], one plain forward a number."""
    shape = (len(examples), 2, len(vectors.names), len(layers), len(multipliers))
    found = torch.zeros(shape, dtype=torch.float64)
    for n, side, v, i, k in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        if multipliers[k] or v == i == 0:  # the unsteered one is the same for all vectors and layers
            delta = multipliers[k] * vectors.values[v, vectors.layers.index(layers[i])].double()
            found[n, side, v, i, k] = score(model, examples[n], side, layers[i], delta, fidelity)
        else:
            found[n, side, v, i, k] = found[n, side, 0, 0, k]
    return found


def propensities(*given) -> torch.Tensor:
    """Propensity [p, v, l, k]."""
    found = scores(*given)
    return found[:, 0] - found[:, 1]


@torch.no_grad()
def forward(model: Model, tokens: list[int], **more: Any) -> tuple[list[torch.Tensor], Any]:
    """What the blocks put out for one string, [s, d] each, and what the model does."""
    module, kept = model.lm._module, []
    with ExitStack() as stack:
        for block in blocks(module):
            stack.enter_context(hooked(block, lambda m, i, output: kept.append(stream(output)[0])))
        return kept, module(input_ids=torch.tensor([tokens]), use_cache=False, **more)


def outputs(model: Model, tokens: list[int], layers: Sequence[int]) -> torch.Tensor:
    """Block outputs [l, s, d] of one string."""
    kept, _ = forward(model, tokens)
    return torch.stack([kept[layer] for layer in layers])


def activations(model: Model, tokens: list[int], layers: Sequence[int]) -> torch.Tensor:
    """The same, compared with `hidden_states`, whose last entry transformers takes after the final norm."""
    kept, given = forward(model, tokens, output_hidden_states=True)
    for output, state in zip(kept[:-1], given.hidden_states[1:], strict=False):
        torch.testing.assert_close(output, state[0])
    return torch.stack([kept[layer] for layer in layers])


def answers(model: Model, example: Example, layers: Sequence[int], read=activations) -> list[torch.Tensor]:
    """Mean activation [l, d] over the tokens of the matching answer, and of the other one."""
    start, both = len(example.prompt) + len(example.lead), (example.matching, example.not_matching)
    found = ((read(model, tokens, layers)[:, start:]) for tokens in strings(example))
    return [part[:, : len(answer)].mean(1) for part, answer in zip(found, both, strict=True)]


def differences(model: Model, examples, layers: Sequence[int], read=activations) -> torch.Tensor:
    """Activation of the matching answer minus that of the other one, [p, l, d]."""
    sides = [answers(model, example, layers, read) for example in examples]
    return torch.stack([matching - other for matching, other in sides])


class Watch(ExitStack):
    """Shapes of what every block (`blocks`) and the unembedding (`head`) put out, call by call.

    In a block it is the feed-forward part that counts: hooks of a block that nnsight skips are called all the same.
    """

    def __init__(self, model) -> None:
        super().__init__()
        module = model.lm._module
        self.blocks, self.head = [[] for _ in blocks(module)], []
        watched = [block.mlp for block in blocks(module)] + [module.get_output_embeddings()]
        for part, shapes in zip(watched, [*self.blocks, self.head], strict=True):
            count = partial(lambda shapes, m, i, output: shapes.append(tuple(output.shape[:-1])), shapes)
            self.enter_context(hooked(part, count))

    @property
    def calls(self) -> list[int]:
        return [len(shapes) for shapes in self.blocks]
