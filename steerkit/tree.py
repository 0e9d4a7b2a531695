"""The fast engine: the whole (vector, layer, multiplier) grid of a batch of prompts in one forward.

Two facts carry it. Tokens before the first steered one are shared by all conditions (`layout`), and so is the
residual stream up to the lowest steered block: those blocks run once on the unbranched sequence, and the branches
are spread out from there. Everything happens inside nnsight traces, which stand in `steerkit.traces`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steerkit import traces as blocks
from steerkit.direct import Cell, by_layer
from steerkit.remote import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from steerkit.model import Model
    from steerkit.propensity import Question
    from steerkit.vectors import Vectors


def evaluate_batch(
    model: Model, questions: Sequence[Question], vectors: Vectors, cells: Sequence[Cell], max_tokens: int
) -> torch.Tensor:
    """Scores [p, 2 sides, 1 + cells] (float64); the first column is the unsteered run.

    Conditions that do not fit in `max_tokens` a sequence go into further forwards, which repeat the prefix.
    """
    return evaluate_batches(model, [questions], vectors, cells, max_tokens)


def evaluate_batches(
    model: Model,
    batches: Sequence[Sequence[Question]],
    vectors: Vectors,
    cells: Sequence[Cell],
    max_tokens: int,
) -> torch.Tensor:
    """The same for several batches, one after the other: one job on a server."""
    [scores] = run(model, blocks.tree, batches, by_layer(vectors, cells), cells, max_tokens)
    return scores.double()
