"""The slope at multiplier 0 for any vector at all: one backward pass instead of a grid.

Near zero the propensity of an example is its unsteered value plus m * (g @ v), with the multiplier m and the gradient g
of the propensity with respect to what is added at the steered tokens. One forward and one backward give g, and then
hundreds of placebos and resampled vectors cost a matrix product. This is a first-order answer (attribution patching:
Nanda 2023; Kramár et al. 2024, arXiv 2403.00745); `steerkit.grid.evaluate` gives the exact one for a few vectors, and
how far apart they are is measured wherever both are at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from steerkit import traces, trust
from steerkit.formats import question
from steerkit.layout import length
from steerkit.model import Model
from steerkit.prompts import Example
from steerkit.propensity import Fidelity, Question
from steerkit.remote import run

TRAINING = 3  # a backward pass keeps about so many times the memory of a forward


def gradients(
    model: Model,
    examples: Sequence[Example],
    layer: int,
    *,
    fidelity: Fidelity = "letter",
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Gradient of the propensity of each example, [p, d] float32: `gradients(...) @ v` is the slope at zero.

    Parameters
    ----------
    layer : 0-based block to whose output a vector would be added, at the tokens that `evaluate` steers
    fidelity : how letters are scored, see `steerkit.propensity`
    batch_tokens : tokens of one forward, halved and retried when memory runs out
    progress : called with the token-passes just done
    """
    trust.check_examples(model, examples)
    trust.check_layers(model, [layer])
    questions = [question(example, fidelity) for example in examples]
    work = traces.gradients if _branches_work(model, questions, layer) else traces.gradients_apart
    tokens = batch_tokens or trust.room(model) // TRAINING
    found = torch.zeros(len(questions), model.width)

    def attempt(part: list[int], most: int) -> torch.Tensor:
        [values] = run(model, work, [questions[i] for i in part], layer, most)
        return values

    for batch in trust.batches(questions, 1, tokens):
        for part, values in trust.halving(attempt, batch):
            found[part] = values.float()
            if progress is not None:
                progress(sum(length(questions[i], 1) for i in part))
    return found


def _branches_work(model: Model, questions: Sequence[Question], layer: int) -> bool:
    """Whether all answers in one sequence give what plain sequences give, on the longest question."""
    one = max(questions, key=trust.reach)
    most = trust.SEQUENCE_TOKENS + length(one, 1)
    slow, fast = (
        lambda work=work, asked=asked: run(model, work, asked, layer, most)[0][-1:]
        for work, asked in ((traces.gradients_apart, [one]), (traces.gradients, [trust.sibling(one), one]))
    )
    instead = "a forward and backward for each answer of its own"
    return trust.branches_work(model, ("gradients", one.scale, layer), one, slow, fast, instead)
