"""The slope at multiplier 0 for any vector at all: one backward pass instead of a grid.

Near zero the propensity of an example is its unsteered value plus m * (g @ v), with the multiplier m and the gradient g
of the propensity with respect to what is added at the steered tokens. One forward and one backward give g, and then
hundreds of placebos and resampled vectors cost a matrix product. This is a first-order answer (attribution patching:
Nanda 2023; Kramár et al. 2024, arXiv 2403.00745); `steerkit.grid.evaluate` gives the exact one for a few vectors, and
how far apart they are is measured wherever both are at hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from steerkit import traces, trust
from steerkit.formats import question
from steerkit.layout import length
from steerkit.model import Model
from steerkit.prompts import Example
from steerkit.propensity import Fidelity, Question
from steerkit.remote import run

TRAINING = 3  # a backward pass keeps about so many times the memory of a forward


@dataclass(frozen=True)
class Gradients:
    """Gradients of the propensity of p examples at l layers, `values` [p, l, d] float32, and their unsteered `scores`
    [p, 2], float64, matching first."""

    layers: tuple[int, ...]
    values: torch.Tensor
    scores: torch.Tensor

    def at(self, layer: int) -> torch.Tensor:
        """Those of one layer, [p, d]."""
        return self.values[:, self.layers.index(layer)]


def gradients(
    model: Model,
    examples: Sequence[Example],
    layers: Sequence[int],
    *,
    fidelity: Fidelity = "letter",
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Gradients:
    """Gradients of the propensity of each example: `gradients(...).at(layer) @ v` is the slope at zero, [p].

    Parameters
    ----------
    layers : 0-based blocks to whose output a vector would be added, at the tokens that `evaluate` steers; all of them
        take one forward, and one backward down to the lowest
    fidelity : how letters are scored, see `steerkit.propensity`
    batch_tokens : tokens of one forward, halved and retried when memory runs out
    progress : called with the token-passes just done
    """
    trust.check_examples(model, examples)
    trust.check_layers(model, layers)
    layers, questions = list(layers), [question(example, fidelity) for example in examples]
    work = traces.gradients if _branches_work(model, questions, layers) else traces.gradients_apart
    tokens = batch_tokens or trust.room(model) // TRAINING
    values = torch.zeros(len(questions), len(layers), model.width)
    scores = torch.zeros(len(questions), 2, dtype=torch.float64)

    def attempt(part: list[int], most: int) -> list[torch.Tensor]:
        return run(model, work, [questions[i] for i in part], layers, most)

    for batch in trust.batches(questions, 1, tokens):
        for part, (found, plain) in trust.halving(attempt, batch, trust.row_tokens(model)):
            values[part], scores[part] = found.float(), plain
            if progress is not None:
                progress(sum(length(questions[i], 1) for i in part))
    return Gradients(tuple(layers), values, scores)


def _branches_work(model: Model, questions: Sequence[Question], layers: list[int]) -> bool:
    """Whether all answers in one sequence give what plain sequences give, on the longest question, at the lowest layer,
    whose gradient passes through all blocks above it."""
    one, lowest = max(questions, key=trust.reach), min(layers)
    most = trust.SEQUENCE_TOKENS + length(one, 1)
    slow, fast = (
        lambda work=work, asked=asked: run(model, work, asked, [lowest], most)[0][-1:]
        for work, asked in ((traces.gradients_apart, [one]), (traces.gradients, [trust.sibling(one), one]))
    )
    instead = "a forward and backward for each answer of its own"
    return trust.branches_work(model, ("gradients", one.scale, lowest), one, slow, fast, instead)
