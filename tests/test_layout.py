"""The layout of branches: positions, segments, reads and the mask, against brute force."""

from __future__ import annotations

import random

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


def test_every_branch_starts_over_at_the_position_after_the_prefix(questions):
    batch = layout(questions, CONDITIONS)
    width = max(length(q, 3) for q in questions)
    assert batch.tokens.shape == (3, width)
    for n, question in enumerate(questions):
        rows = walk(question, CONDITIONS)
        pad = width - len(rows)
        assert batch.tokens[n, pad:].tolist() == [token for token, _, _ in rows]
        assert batch.positions[n, pad:].tolist() == [position for _, position, _ in rows]
        assert batch.conditions[n, pad:].tolist() == [
            PAD if owner is None else owner[0] for _, _, owner in rows
        ]
        assert batch.segments[n, :pad].tolist() == batch.conditions[n, :pad].tolist() == [PAD] * pad


@pytest.mark.parametrize("window", [None, 1, 3, 6])
def test_the_mask_is_that_of_a_double_loop(questions, window):
    batch = layout(questions, CONDITIONS)
    found = mask(batch, window, torch.float32, torch.device("cpu"))
    width = batch.tokens.shape[1]
    assert found.shape == (3, 1, width, width)
    for n, question in enumerate(questions):
        rows = walk(question, CONDITIONS)
        pad = width - len(rows)
        for q in range(width):
            for k in range(width):
                if q < pad or k < pad:
                    seen = q == k
                else:
                    (_, here, mine), (_, there, other) = rows[q - pad], rows[k - pad]
                    seen = k <= q and (other is None or other == mine)
                    seen = seen and (window is None or here - there < window)
                assert float(found[n, 0, q, k]) == (0.0 if seen else torch.finfo(torch.float32).min)


def test_reads_point_at_the_token_they_were_asked_for(questions):
    batch = layout(questions, CONDITIONS)
    expected = [
        (n, c, b) for n, q in enumerate(questions) for c in CONDITIONS for b in range(len(q.branches))
    ]
    assert len(batch.reads) == len(batch.weights) == len(expected)
    for read, weight, (n, condition, b) in zip(
        batch.reads.tolist(), batch.weights.tolist(), expected, strict=True
    ):
        question, at, token, side, owner, branch = read
        assert (question, owner, branch) == (n, condition, b)
        assert batch.tokens[n, at] == questions[n].branches[b].tokens[-1]
        assert batch.conditions[n, at] == condition
        assert (token, side, weight) == (7 + b, b % 2, 0.5 + b)


def test_half_precision_gets_its_own_smallest_number(questions):
    found = mask(layout(questions, [0]), None, torch.float16, torch.device("cpu"))
    assert found.dtype == torch.float16
    assert found.isfinite().all()
    assert found.min() == torch.finfo(torch.float16).min
