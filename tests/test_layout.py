"""The mask over branches, against brute force."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch

from steerkit.layout import layout, length, mask
from steerkit.propensity import Branch, Question, Read


def random_question(rng: random.Random, prefix: int) -> Question:
    """Two or three branches of unequal length, each read at its last token."""
    sizes = rng.choices(range(1, 5), k=rng.randint(2, 3))
    branches = tuple(Branch((1,) * size, (Read(size - 1, 7, 0, 1.0),)) for size in sizes)
    return Question("q", (1,) * prefix, branches, "logit")


@pytest.fixture(params=range(5))
def questions(request) -> list[Question]:
    rng = random.Random(request.param)
    return [random_question(rng, prefix) for prefix in rng.sample(range(1, 12), 3)]


def walk(question: Question, conditions: list[int]):
    """(position, owner) of one unpadded row; `owner` is None in the prefix, else (condition, branch)."""
    start = len(question.prefix)
    rows = [(i, None) for i in range(start)]
    for owner in product(conditions, range(len(question.branches))):
        rows += [(start + i, owner) for i in range(len(question.branches[owner[1]].tokens))]
    return rows


CONDITIONS = [0, 4, 9]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("window", [None, 1, 3, 6])
def test_the_mask_is_that_of_a_double_loop(questions, window, dtype):
    """Half precision gets its own smallest number. What tokens, positions and reads are, plain forwards tell."""
    batch, width = layout(questions, CONDITIONS), max(length(q, 3) for q in questions)
    found = mask(batch, window, dtype, torch.device("cpu"))
    assert found.shape == (3, 1, width, width) and found.dtype == dtype and found.isfinite().all()
    for n, question in enumerate(questions):
        rows = walk(question, CONDITIONS)
        pad = width - len(rows)
        for q, k in product(range(width), repeat=2):
            if q < pad or k < pad:
                seen = q == k
            else:
                (here, mine), (there, other) = rows[q - pad], rows[k - pad]
                seen = k <= q and other in (None, mine) and (window is None or here - there < window)
            assert float(found[n, 0, q, k]) == (0.0 if seen else torch.finfo(dtype).min)
