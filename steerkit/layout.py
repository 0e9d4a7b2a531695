"""Many prompts and conditions in one sequence: a tree of tokens, each of which sees its ancestors and itself.

Tokens before the first steered position are the same for every vector, layer, multiplier and answer, and by
causality nothing steered reaches them. So they stand in the sequence once, and every condition is a branch. The
prompts of a data set begin alike, too (system turn, instruction; both forms of an item): where they part, so does
the tree. Tokens stand in depth-first order, so that what hangs below one is a range, and one number says who sees it::

    index        0  1  2   3  4   5  6   7  8   9 10  11 12
    tokens      p0 p1 p2 | a  ( | a  ( | q2 r | b  ( | b  (     p2 and q2: where two prompts part
    position     0  1  2   3  4   3  4   2  3   4  5   4  5
    end         13 13  7   5  5   7  7  13 13  11 11  13 13     seen by every later index below this one
    condition    -  -  -   0  0   1  1   -  -   0  0   1  1     0 is the unsteered run

These functions also run on servers without steerkit: what `steerkit.traces` says about its own holds here.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steerkit.propensity import Question

SHARED = -1  # condition of tokens that belong to all of them, and of padding


def rows_of(questions: Sequence[Question], conditions: int, most: int) -> list[list[int]]:
    """Which questions stand in one row: neighbours by their prefixes, as many as fit into `most` tokens, at least one."""
    rows, used, before = [], 0, ()
    for n in sorted(range(len(questions)), key=lambda n: questions[n].prefix):
        size = length(questions[n], conditions)
        fresh = size - common(before, questions[n].prefix)
        if rows and used + fresh <= most:
            rows[-1].append(n)
            used += fresh
        else:
            rows.append([n])
            used = size
        before = questions[n].prefix
    return rows


def layout(
    questions: Sequence[Question], rows: Sequence[Sequence[int]], conditions: Sequence[int]
) -> SimpleNamespace:
    """Lay out the same conditions for every question; `conditions` are numbers the caller gives a meaning.

    A batch padded on the right: `tokens`, `positions`, `ends`, `conditions`, `owners` (the question of a steered token)
    and `singles` (where a token stands when only one condition is laid out), [r, s]; `reads` [n, 6] of question, row,
    index, token, side and condition; `weights` [n] float64.
    """
    made = [_row(questions, row, conditions) for row in rows]
    width = max(len(tokens) for tokens, _, _ in made)
    padded = [
        tokens + [(0, 0, at + 1, SHARED, 0, 0) for at in range(len(tokens), width)] for tokens, _, _ in made
    ]
    names = ("tokens", "positions", "ends", "conditions", "owners", "singles")
    found = dict(zip(names, torch.tensor(padded).permute(2, 0, 1).contiguous(), strict=True))
    reads = [(n, r, *more) for r, (_, row, _) in enumerate(made) for n, *more in row]
    weights = torch.tensor([weight for _, _, row in made for weight in row], dtype=torch.float64)
    return SimpleNamespace(**found, reads=torch.tensor(reads), weights=weights)


def length(question: Question, conditions: int) -> int:
    """Tokens of one question laid out with so many conditions."""
    return len(question.prefix) + conditions * sum(len(branch.tokens) for branch in question.branches)


def size(row: Sequence[Question], conditions: int) -> int:
    """Tokens of some questions in one row, in this order: what two neighbours begin with stands there once."""
    prefixes = [question.prefix for question in row]
    shared = sum(common(one, other) for one, other in pairwise(prefixes))
    return sum(length(question, conditions) for question in row) - shared


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many equal tokens two sequences begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _row(
    questions: Sequence[Question], row: Sequence[int], conditions: Sequence[int]
) -> tuple[list, list, list]:
    tokens, reads, weights, single = [], [], [], 0
    path, before = [], ()  # indices of the prefix that is open, and its tokens
    for n in row:
        question = questions[n]
        start, kept = len(question.prefix), common(before, question.prefix)
        _close(tokens, path[kept:])
        path, before = path[:kept], question.prefix
        for at in range(kept, start):
            path.append(len(tokens))
            tokens.append((before[at], at, 0, SHARED, 0, single))
            single += 1
        for condition in conditions:
            at_once = single
            for branch in question.branches:
                begin, end = len(tokens), len(tokens) + len(branch.tokens)
                reads += [(n, begin + r.position, r.token, r.side, condition) for r in branch.reads]
                weights += [r.weight for r in branch.reads]
                for at, token in enumerate(branch.tokens):
                    tokens.append((token, start + at, end, condition, n, at_once))
                    at_once += 1
        single += length(question, 1) - start
    _close(tokens, path)
    return tokens, reads, weights


def _close(tokens: list, path: Sequence[int]) -> None:
    """What comes from here on does not hang below these tokens."""
    for index in path:
        token, position, _, *more = tokens[index]
        tokens[index] = (token, position, len(tokens), *more)


def mask(
    batch: SimpleNamespace, window: int | None, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Attention mask [r, 1, s, s]: a token sees those it hangs below and itself, within the window; padding sees
    itself, so that no row of the softmax is empty. Additive, because eager attention adds whatever it is given."""
    ends, index = batch.ends.to(device), torch.arange(batch.ends.shape[1], device=device)
    seen = (index[:, None] >= index[None, :]) & (index[:, None] < ends[:, None, :])
    if window is not None:
        positions = batch.positions.to(device)
        seen &= positions[:, :, None] - positions[:, None, :] < window
    additive = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
    return additive[:, None]
