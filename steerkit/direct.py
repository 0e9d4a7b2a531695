"""The obvious engine: one forward of the whole sequence for every branch and every cell of the grid.

Slow, and meant to be read, together with `steerkit.traces.direct`. The tree engine must agree with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steerkit import traces
from steerkit.remote import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from steerkit.model import Model
    from steerkit.propensity import Branch, Question
    from steerkit.vectors import Vectors

Cell = tuple[int, int, float]  # vector index, layer, multiplier


def evaluate_question(
    model: Model, question: Question, vectors: Vectors, cells: Sequence[Cell]
) -> torch.Tensor:
    """Scores [2 sides, 1 + cells] of one question (float64); the first column is the unsteered run."""
    unsteered = (0, cells[0][1], 0.0) if cells else (0, vectors.layers[0], 0.0)
    every = [unsteered, *cells]
    [scores] = run(model, traces.direct, question, by_layer(vectors, every), every)
    return scores.double()


def steered_logits(
    model: Model, question: Question, branch: Branch, layer: int, delta: torch.Tensor
) -> torch.Tensor:
    """Logits [branch tokens, vocabulary] with `delta` [d] added to the residual stream after block `layer`,
    at every token of the branch and at none before."""
    [logits] = run(model, traces.steered_logits, question.prefix, branch.tokens, layer, delta)
    return logits


def by_layer(vectors: Vectors, cells: Sequence[Cell]) -> dict[int, torch.Tensor]:
    """The vectors [v, d] of each layer that some cell steers: what an engine needs, and a server is sent."""
    return {layer: vectors.at(layer) for layer in sorted({cell[1] for cell in cells})}
