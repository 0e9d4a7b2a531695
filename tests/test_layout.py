"""The layout of branches: positions, segments, reads and the mask, against brute force."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch

from steerkit.layout import PAD, layout, length, mask
from steerkit.propensity import Branch, Question, Read


def random_question(rng: random.Random, prefix: int) -> Question:
    """Two or three branches of unequal length, each read at its last token; tokens tell where they come from."""
    branches = tuple(
        Branch(tuple(100 * (b + 1) + i for i in range(size)), (Read(size - 1, 7 + b, b % 2, 0.5 + b),))
        for b, size in enumerate(rng.choices(range(1, 5), k=rng.randint(2, 3)))
    )
    return Question("q", tuple(range(1, prefix + 1)), branches, "logit")


@pytest.fixture(params=range(5))
def questions(request) -> list[Question]:
    rng = random.Random(request.param)
    return [random_question(rng, prefix) for prefix in rng.sample(range(1, 12), 3)]


def walk(question: Question, conditions: list[int]):
    """(token, position, owner) of one unpadded row; `owner` is None in the prefix, else (condition, branch)."""
    start = len(question.prefix)
    rows = [(token, i, None) for i, token in enumerate(question.prefix)]
    for condition in conditions:
        for b, branch in enumerate(question.branches):
            rows += [(token, start + i, (condition, b)) for i, token in enumerate(branch.tokens)]
    return rows


CONDITIONS = [0, 4, 9]


def padded(questions: list[Question]):
    """The batch, and of each row its number, its padding and what `walk` says of it."""
    batch, width = layout(questions, CONDITIONS), max(length(q, 3) for q in questions)
    assert batch.tokens.shape == (3, width)
    walked = [walk(question, CONDITIONS) for question in questions]
    return batch, width, [(n, width - len(rows), rows) for n, rows in enumerate(walked)]


def test_every_branch_starts_over_at_the_position_after_the_prefix(questions):
    batch, _, walked = padded(questions)
    for n, pad, rows in walked:
        owners = [PAD if owner is None else owner[0] for _, _, owner in rows]
        assert batch.tokens[n, pad:].tolist() == [token for token, _, _ in rows]
        assert batch.positions[n, pad:].tolist() == [position for _, position, _ in rows]
        assert batch.conditions[n, pad:].tolist() == owners
        assert batch.segments[n, :pad].tolist() == batch.conditions[n, :pad].tolist() == [PAD] * pad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("window", [None, 1, 3, 6])
def test_the_mask_is_that_of_a_double_loop(questions, window, dtype):
    """Half precision gets its own smallest number."""
    batch, width, walked = padded(questions)
    found = mask(batch, window, dtype, torch.device("cpu"))
    assert found.shape == (3, 1, width, width) and found.dtype == dtype and found.isfinite().all()
    for n, pad, rows in walked:
        for q, k in product(range(width), repeat=2):
            if q < pad or k < pad:
                seen = q == k
            else:
                (_, here, mine), (_, there, other) = rows[q - pad], rows[k - pad]
                seen = k <= q and other in (None, mine) and (window is None or here - there < window)
            assert float(found[n, 0, q, k]) == (0.0 if seen else torch.finfo(dtype).min)


def test_reads_point_at_the_token_they_were_asked_for(questions):
    batch = layout(questions, CONDITIONS)
    wanted = [(n, c, b) for n, q in enumerate(questions) for c in CONDITIONS for b in range(len(q.branches))]
    assert len(batch.reads) == len(batch.weights) == len(wanted)
    for read, weight, each in zip(batch.reads.tolist(), batch.weights.tolist(), wanted, strict=True):
        (question, at, token, side, owner, branch), (n, condition, b) = read, each
        assert (question, owner, branch) == each
        assert batch.tokens[n, at] == questions[n].branches[b].tokens[-1]
        assert batch.conditions[n, at] == condition
        assert (token, side, weight) == (7 + b, b % 2, 0.5 + b)
