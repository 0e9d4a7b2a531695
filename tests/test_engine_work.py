"""The work contract: how often the blocks and the unembedding really run, and over how many tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import random_examples, random_vectors
from plain_model import Watch
from torch.testing import assert_close

from companion.tiny import tiny_lm
from steerkit import traces
from steerkit.formats import question
from steerkit.grid import direct, evaluate, tree
from steerkit.model import wrap


def unpadded(form: str, model, count: int) -> list:
    """One question several times, so that no padding blurs the counts."""
    first = question(random_examples(form, 1, len(model.tokenizer))[0])
    return [first] * count


def shape_of(one) -> tuple[int, ...]:
    return (len(one.prefix), *(len(branch.tokens) for branch in one.branches))


def cells_of(vectors, layers, multipliers=(-1.0, 1.0, 1.5)) -> list[tuple[int, int, float]]:
    return [(v, layer, m) for v in range(len(vectors.names)) for layer in layers for m in multipliers]


class TestTree:
    @pytest.mark.parametrize("lowest", [0, 1, 2, 3])
    def test_blocks_up_to_the_lowest_steered_one_run_once_without_branches_and_the_rest_once_with(
        self, any_model, lowest
    ):
        """Where only one block could be shared, nothing is."""
        questions, vectors = unpadded("letter", any_model, 3), random_vectors(any_model)
        cells = cells_of(vectors, range(lowest, 4))
        prefix, branch = shape_of(questions[0])
        with Watch(any_model) as watch:
            tree(any_model, [questions], vectors, cells, 10_000)
        shared = lowest + 1 if lowest > 1 else 0
        once = [(3, prefix + branch)]
        spread = [(3, prefix + branch * (1 + len(cells)))]
        assert [c.shapes for c in watch.blocks] == [once] * shared + [spread] * (4 - shared)

    def test_letters_never_call_the_unembedding(self, any_model):
        questions, vectors = unpadded("letter", any_model, 3), random_vectors(any_model)
        with Watch(any_model) as watch:
            tree(any_model, [questions], vectors, cells_of(vectors, [0, 3]), 10_000)
        assert watch.head.shapes == []

    def test_statements_unembed_the_tokens_read_and_no_others_a_few_at_a_time(self, any_model, monkeypatch):
        questions, vectors = unpadded("statement", any_model, 2), random_vectors(any_model)
        cells = cells_of(vectors, [2, 3])
        read = sum(len(branch.reads) for q in questions for branch in q.branches) * (1 + len(cells))
        at_once = tree(any_model, [questions], vectors, cells, 10_000)
        monkeypatch.setattr(traces, "HEAD_ROWS", 16)
        with Watch(any_model) as watch:
            found = tree(any_model, [questions], vectors, cells, 10_000)
        assert sum(rows for (rows,) in watch.head.shapes) == read
        assert max(rows for (rows,) in watch.head.shapes) == 16
        assert_close(found, at_once, atol=1e-5, rtol=0.0)

    def test_sequences_that_do_not_fit_cost_one_more_pair_of_runs_each(self, model):
        questions, vectors = unpadded("letter", model, 2), random_vectors(model)
        cells = cells_of(vectors, [2, 3])  # 12, so 13 conditions
        prefix, branch = shape_of(questions[0])
        with Watch(model) as watch:
            tree(model, [questions], vectors, cells, prefix + 5 * branch)
        assert watch.calls == [3, 3, 3, 3]
        assert watch.blocks[3].shapes == [(2, prefix + n * branch) for n in (5, 5, 3)]

    def test_more_cells_make_no_more_runs_and_the_self_check_is_made_once(self, tokenizer):
        fresh = wrap("llama", tiny_lm("llama", tokenizer))
        examples, vectors = random_examples("letter", 4, len(tokenizer)), random_vectors(fresh)
        calls = []
        for multipliers in ([1.0], [0.0, 1.0, -1.0, 2.0, 3.0]):
            with Watch(fresh) as watch:
                evaluate(fresh, examples, vectors, multipliers)
            calls.append(watch.calls)
        # The self-check: plain runs of the unsteered model, the first and the last layer, and one tree.
        assert calls == [[3 + 1 + 1] * 4, [1] * 4]


@pytest.mark.parametrize("batch_tokens", [120, 300, 100_000])
def test_a_batch_is_as_large_as_its_tokens_allow_and_no_larger(model, batch_tokens):
    """Questions of one length: 23 tokens shared and 13 conditions of 2, so 49 tokens a sequence."""
    one = random_examples("letter", 1, len(model.tokenizer))[0]
    examples, vectors = [replace(one, prompt=(5,) * 24, lead=(6,))] * 10, random_vectors(model)
    evaluate(model, examples[:1], vectors, [1.0])  # the self-check
    with Watch(model) as watch:
        evaluate(model, examples, vectors, [0.0, 1.0, 2.0, 3.0], layers=[0, 3], batch_tokens=batch_tokens)
    sizes = {120: [2] * 5, 300: [6, 4], 100_000: [10]}[batch_tokens]
    assert watch.blocks[0].shapes == [(size, 23 + 2 * 13) for size in sizes]


@pytest.mark.parametrize(("form", "branches"), [("letter", 1), ("statement", 2)])
def test_the_direct_engine_runs_once_a_branch_and_cell(model, form, branches):
    (one,), vectors = unpadded(form, model, 1), random_vectors(model)
    cells = cells_of(vectors, [0, 2, 3])
    with Watch(model) as watch:
        direct(model, one, vectors, cells)
    lengths = [len(one.prefix) + len(branch.tokens) for branch in one.branches]
    assert len(lengths) == branches
    assert watch.calls == [branches * (1 + len(cells))] * 4
    assert watch.blocks[0].shapes == [(1, n) for n in lengths] * (1 + len(cells))


@pytest.mark.parametrize("form", ["letter", "statement"])
def test_progress_adds_up_to_the_tokens_of_prompts_and_branches(model, form):
    examples, vectors, done = random_examples(form, 5, len(model.tokenizer)), random_vectors(model), []
    evaluate(model, examples, vectors, [-1.0, 0.0, 1.0], layers=[1, 3], progress=done.append, batch_tokens=60)
    conditions = 1 + 2 * 2 * 2
    wanted = 0
    for e in examples:
        answers = [e.lead] if form == "letter" else [e.matching[:-1], e.not_matching[:-1]]
        wanted += len(e.prompt) - 1 + conditions * sum(1 + len(answer) for answer in answers)
    assert len(done) > 1
    assert sum(done) == wanted
