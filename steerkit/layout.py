"""Many conditions in one sequence: a prefix, and branches that see the prefix and themselves.

Tokens before the first steered position are the same for every vector, layer, multiplier and answer, and by
causality nothing steered reaches them. So they stand in the sequence once, and every condition is a branch::

    tokens      p0 p1 p2 | a  (  | a  (  | a  (  ...        p prefix, a last prompt token, ( lead
    position     0  1  2 | 3  4  | 3  4  | 3  4  ...
    segment      0  0  0 | 1  1  | 2  2  | 3  3  ...        a token sees segment 0 and its own
    condition    -  -  - | 0  0  | 1  1  | 2  2  ...        0 is the unsteered run

These functions also run on servers without steerkit: what `steerkit.traces` says about its own holds here.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steerkit.propensity import Question

PAD = -1  # segment of left padding


def layout(questions: Sequence[Question], conditions: Sequence[int]) -> SimpleNamespace:
    """Lay out the same conditions for every question; `conditions` are numbers the caller gives a meaning.

    A left-padded batch: `tokens`, `positions`, `segments` and `conditions` [p, s]; `reads` [n, 6] of question,
    sequence index, token, side, condition and branch; `weights` [n] float64.
    """
    rows = [_row(question, conditions) for question in questions]
    width = max(len(tokens) for tokens, _, _ in rows)
    padded = [[(0, 0, PAD, PAD)] * (width - len(tokens)) + tokens for tokens, _, _ in rows]
    names = ("tokens", "positions", "segments", "conditions")
    made = dict(zip(names, torch.tensor(padded).permute(2, 0, 1).contiguous(), strict=True))
    reads = [(n, width - len(row[0]) + at, *more) for n, row in enumerate(rows) for at, *more in row[1]]
    weights = torch.tensor([weight for _, _, weights in rows for weight in weights], dtype=torch.float64)
    return SimpleNamespace(**made, reads=torch.tensor(reads), weights=weights)


def length(question: Question, conditions: int) -> int:
    """Tokens of one question laid out with so many conditions."""
    return len(question.prefix) + conditions * sum(len(branch.tokens) for branch in question.branches)


def _row(question: Question, conditions: Sequence[int]) -> tuple[list, list, list]:
    start = len(question.prefix)
    tokens = [(token, at, 0, PAD) for at, token in enumerate(question.prefix)]
    reads, weights, segment = [], [], 0
    for condition in conditions:
        for b, branch in enumerate(question.branches):
            segment += 1
            reads += [(len(tokens) + r.position, r.token, r.side, condition, b) for r in branch.reads]
            weights += [r.weight for r in branch.reads]
            tokens += [(token, start + at, segment, condition) for at, token in enumerate(branch.tokens)]
    return tokens, reads, weights


def mask(
    batch: SimpleNamespace, window: int | None, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Additive attention mask [p, 1, s, s]: earlier tokens of the prefix or of the own segment, within the window.

    Padding attends to itself, so that no row of the softmax is empty. Additive rather than boolean, because eager
    attention adds whatever it is given.
    """
    segments = batch.segments.to(device)
    query, key = segments[:, :, None], segments[:, None, :]
    index = torch.arange(segments.shape[1], device=device)
    seen = (index[:, None] >= index[None, :]) & ((key == 0) | (key == query)) & (query != PAD)
    if window is not None:
        positions = batch.positions.to(device)
        seen &= positions[:, :, None] - positions[:, None, :] < window
    seen |= index[:, None] == index[None, :]
    additive = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
    return additive[:, None]
