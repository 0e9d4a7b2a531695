"""Memory that runs out: smaller pieces, the same numbers, and nothing of the failed attempt left behind."""

from __future__ import annotations

import weakref

import pytest
import torch
from conftest import random_examples, random_vectors
from plain_model import blocks
from torch.testing import assert_close

from companion.tiny import tiny_lm
from steerkit import grid
from steerkit.errors import SteerkitError
from steerkit.grid import evaluate
from steerkit.model import wrap
from steerkit.prompts import Example

MULTIPLIERS = [-1.5, 0.0, 1.0]
real = grid.tree


def letters(model, count: int = 3) -> list[Example]:
    return random_examples("letter", count, len(model.tokenizer))


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert_close(found, wanted, atol=1e-5, rtol=0.0)


def fail_if(condition, error: Exception):
    def batch(model, batches, vectors, cells, max_tokens):
        if condition(batches[0], cells, max_tokens):
            raise error
        return real(model, batches, vectors, cells, max_tokens)

    return batch


CUDA = torch.OutOfMemoryError("CUDA out of memory.")
CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@pytest.mark.parametrize("error", [CUDA, CPU])
@pytest.mark.parametrize("too_much", [lambda q, c, t: len(q) > 1, lambda q, c, t: t > 100 and len(c) > 2])
def test_smaller_batches_and_sequences_give_the_same_numbers(model, monkeypatch, error, too_much):
    examples, vectors = letters(model, 5), random_vectors(model)
    wanted = evaluate(model, examples, vectors, MULTIPLIERS)
    failed = []
    monkeypatch.setattr(
        grid, "tree", fail_if(lambda *a: too_much(*a) and not failed.append(a), error)
    )
    found = evaluate(model, examples, vectors, MULTIPLIERS)
    assert failed
    assert found.engine == "tree"
    close(found.scores, wanted.scores)


def test_it_may_run_out_in_the_middle_of_a_forward(model):
    """As it does in life: inside a block, inside an nnsight trace."""
    examples, vectors = letters(model, 5), random_vectors(model)
    wanted, failed = evaluate(model, examples, vectors, MULTIPLIERS), []

    def too_big(block, inputs):
        if len(inputs[0]) > 1:
            failed.append(len(inputs[0]))
            raise torch.OutOfMemoryError

    with blocks(model.lm._module)[2].register_forward_pre_hook(too_big):
        found = evaluate(model, examples, vectors, MULTIPLIERS)
    assert failed[0] == 5
    close(found.scores, wanted.scores)


def test_when_one_prompt_with_few_conditions_is_too_much_the_user_is_told(model, monkeypatch):
    monkeypatch.setattr(grid, "tree", fail_if(lambda q, cells, t: len(cells) > 2, CUDA))
    with pytest.raises(SteerkitError, match="memory for one prompt"):
        evaluate(model, letters(model), random_vectors(model), MULTIPLIERS)


def test_another_error_is_not_taken_for_a_lack_of_memory(model, monkeypatch):
    other = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    monkeypatch.setattr(grid, "tree", fail_if(lambda q, cells, t: len(q) > 1, other))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        evaluate(model, letters(model), random_vectors(model), MULTIPLIERS)


def test_it_may_run_out_in_the_self_check_already(tokenizer, monkeypatch):
    """A model fresh from the disk has proven nothing yet, so that the self-check comes first."""
    monkeypatch.setattr(grid, "tree", fail_if(lambda *given: True, CUDA))
    fresh = wrap("llama", tiny_lm("llama", tokenizer))
    with pytest.raises(SteerkitError, match="memory for one prompt"):
        evaluate(fresh, letters(fresh), random_vectors(fresh), MULTIPLIERS)


def test_the_tensors_of_the_batch_that_did_not_fit_are_gone_when_the_smaller_one_runs(model):
    examples, failed, alive = letters(model, 4), [], []

    def too_big(block, inputs):
        alive.append(sum(tensor() is not None for tensor in failed))
        if len(inputs[0]) > 1:
            failed.append(weakref.ref(inputs[0]))
            raise torch.OutOfMemoryError

    with blocks(model.lm._module)[1].register_forward_pre_hook(too_big):
        evaluate(model, examples, random_vectors(model), MULTIPLIERS)
    assert len(failed) == 3  # four, two and two
    assert max(alive) == 0
